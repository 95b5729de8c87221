"""Volumes and slice views of the scene: which there are, and what is shown now."""

import slicer


def currentSliceIndex(node) -> int | None:
    """The slice of a volume that the Red view, or the first view of ours, goes through; None if it is elsewhere.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode
    """
    import vtk

    image = node.GetImageData()
    views = {view.GetLayoutName(): view for view in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
    names = sorted(("IPv2View1", "IPv2Axial", "Red"), key=isInLayout, reverse=True)
    shown = [views[name] for name in names if name in views]
    if image is None or not shown:
        return None
    worldToVoxel = vtk.vtkMatrix4x4()
    node.GetRASToIJKMatrix(worldToVoxel)
    plane = shown[0].GetSliceToRAS()
    center = [plane.GetElement(row, 3) for row in range(3)]
    index = round(worldToVoxel.MultiplyPoint([*center, 1.0])[2])
    return index if 0 <= index < image.GetDimensions()[2] else None


def inputVolumes() -> list:
    """The grey-value volumes of the scene that somebody may want to denoise.

    No label maps, nothing made here, and nothing that shows a frame of a sequence and will show another one.
    """
    from IPv2SlicerLib.scene.result_nodes import kind_of
    from IPv2SlicerLib.scene.sequences import sequence_of

    return [
        node
        for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
        if node.GetClassName() == "vtkMRMLScalarVolumeNode"
        and not node.GetHideFromEditors()
        and not kind_of(node)
        and sequence_of(node) is None
    ]


def hideInSelector(selector, nodes) -> None:
    """Do not offer nodes in a qMRMLNodeComboBox, in addition to what its properties say."""
    if not hasattr(selector, "sortFilterProxyModel"):  # then it offers more than it should, which is no reason to fail
        return
    hidden = [node.GetID() for node in nodes]
    model = selector.sortFilterProxyModel()
    if list(model.property("hiddenNodeIDs") or []) != hidden:
        model.setProperty("hiddenNodeIDs", hidden)


def firstVolume():
    """The volume, or the sequence of the frame, that is shown, else the first of `inputVolumes`, or None."""
    from IPv2SlicerLib.scene.result_nodes import kind_of
    from IPv2SlicerLib.scene.sequences import sequence_of

    shown = slicer.mrmlScene.GetNodeByID(slicer.app.applicationLogic().GetSelectionNode().GetActiveVolumeID() or "")
    sequence = shown and sequence_of(shown)
    if sequence is not None and not kind_of(sequence):
        return sequence
    return min(inputVolumes(), key=lambda node: node is not shown, default=None)


def showInSliceViews(node) -> None:
    """Show a volume in every slice view, whole."""
    from IPv2SlicerLib.scene.display import refresh_legends

    slicer.util.setSliceViewerLayers(background=node, foreground=None, label=None, fit=True)
    refresh_legends(slicer.mrmlScene)


def showRedView() -> None:
    """Make sure that the Red view is there: in the layout from before ours, or alone."""
    from IPv2SlicerLib.scene import display, layout_node, layouts

    if not isInLayout("Red"):
        layout_node.restore_layout(slicer.mrmlScene)
    if not isInLayout("Red"):
        display.set_layout(slicer.mrmlScene, layouts.red_layout())


def isInLayout(name: str) -> bool:
    """Whether a view is part of the present layout."""
    layout = _layoutNode()
    return layout is not None and f'"{name}"' in (layout.GetCurrentLayoutDescription() or "")


def _layoutNode():
    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
