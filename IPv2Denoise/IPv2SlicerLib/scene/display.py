"""What slice views show: differences with their legends, layers, linked views side by side, layouts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from IPv2Lib.colors import check_limit, difference_colors
from IPv2Lib.errors import InputError

from .layout_node import remember_layout
from .layouts import MOST_VIEWS, Layout, compare_layout
from .volume_nodes import application_logic, is_application, nodes_of_class

# Viewer's right, viewer's up and the direction of slicing, in RAS; patient right is on the viewer's left.
_ORIENTATIONS = {
    "axial": ((-1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "coronal": ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
    "sagittal": ((0, -1, 0), (0, 0, 1), (1, 0, 0)),
}


def show_difference(
    node: slicer.vtkMRMLScalarVolumeNode, limit_hu: float = 200.0, title: str = "Difference (HU)"
) -> None:
    """Show a difference volume in blue (negative), white (0 HU) and red (positive), with a colour legend.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode
        HU differences.
    limit_hu : float
        The darkest blue is -limit_hu and below, the darkest red +limit_hu and above.
    title : str
        Of the legend.

    Raises
    ------
    InputError
        For a limit that is not positive.
    """
    check_limit(limit_hu)
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(_difference_table(node.GetScene()).GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevel(2 * limit_hu, 0)
    application_logic(node.GetScene())  # outside of Slicer nobody else tells the scene what a legend is
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(node)
    legend.SetTitleText(title)
    legend.SetLabelFormat("%.0f")
    legend.SetNumberOfLabels(5)


def show_overlay(
    background: slicer.vtkMRMLScalarVolumeNode,
    labels: slicer.vtkMRMLLabelMapVolumeNode | None,
    opacity: float = 0.45,
    views: Sequence[slicer.vtkMRMLSliceNode] | None = None,
    foreground: slicer.vtkMRMLScalarVolumeNode | None = None,
) -> None:
    """Show a label map over a volume.

    Parameters
    ----------
    background, labels : nodes of one scene
        `None` for labels shows the volume alone.
    opacity : float
        Of the labels, 0 to 1.
    views : sequence of vtkMRMLSliceNode, optional
        Where; default: every slice view of the scene.
    foreground : vtkMRMLScalarVolumeNode, optional
        Hides the background where it lies, below the label map.
    """
    if views is None:
        views = nodes_of_class(background.GetScene(), "vtkMRMLSliceNode")
    for view in views:
        composite = _composite(view)
        state = composite.StartModify()
        composite.SetBackgroundVolumeID(background.GetID())
        composite.SetForegroundVolumeID(foreground.GetID() if foreground else None)
        composite.SetForegroundOpacity(1.0 if foreground else 0.0)
        composite.SetLabelVolumeID(labels.GetID() if labels else None)
        composite.SetLabelOpacity(opacity)
        composite.EndModify(state)
    refresh_legends(background.GetScene())


def refresh_legends(target: slicer.vtkMRMLScene) -> None:
    """Let every slice view show the colour legends of its volumes, and no others.

    To call whenever a program has changed what slice views show. A view looks for legends older than itself, and
    looks again at those it knows, only when its layers change while they are marked as being changed by a person.
    """
    for composite in nodes_of_class(target, "vtkMRMLSliceCompositeNode"):
        flags = composite.GetInteractionFlags()
        composite.SetInteractionFlags(composite.BackgroundVolumeFlag)
        composite.Modified()
        composite.SetInteractionFlags(flags)
    for legend in nodes_of_class(target, "vtkMRMLColorLegendDisplayNode"):
        legend.Modified()


def show_compare(
    volumes: Sequence[slicer.vtkMRMLScalarVolumeNode],
    *,
    orientation: str | None = None,
    slice_index: int | None = None,
    layout: Layout | None = None,
) -> list[slicer.vtkMRMLSliceNode]:
    """Show volumes side by side in linked slice views: one moves, all move.

    All views show the same plane with the same zoom, that of the first volume.

    Parameters
    ----------
    volumes : sequence of 1 to 9 vtkMRMLScalarVolumeNode
        Of one scene, from left to right.
    orientation : {'axial', 'coronal', 'sagittal'}, optional
        Along the axes of the first volume; default: its own slices, as its array has them.
    slice_index : int, optional
        Slice of the first volume; default: the middle one.
    layout : Layout, optional
        One with a slice view for each volume; default: `layouts.compare_layout`.

    Returns
    -------
    list of vtkMRMLSliceNode
        The views.

    Raises
    ------
    InputError
        No or too many volumes, unknown orientation, no such slice.
    """
    count = len(volumes)
    if not 1 <= count <= MOST_VIEWS:
        raise InputError(f"{count} volumes cannot be compared side by side: choose 1 to {MOST_VIEWS}")
    target = volumes[0].GetScene()
    layout = layout or compare_layout(count)
    plane = _plane(volumes[0], orientation, slice_index)
    set_layout(target, layout)
    views = [target.GetSingletonNode(name, "vtkMRMLSliceNode") for name in layout.views]
    sizes = [view.GetDimensions()[:2] for view in views]
    pixel_mm = max(plane.pixel_mm(size) for size in sizes)
    for view, volume, size in zip(views, volumes, sizes, strict=True):
        composite = _composite(view)
        composite.SetBackgroundVolumeID(volume.GetID())
        composite.SetForegroundVolumeID(None)
        composite.SetLabelVolumeID(None)
        composite.SetLinkedControl(True)
        composite.SetHotLinkedControl(True)
        _aim(view, plane, size, pixel_mm)
        _place_legend(volume, plane, size, pixel_mm)
    refresh_legends(target)
    return views


def set_layout(target: slicer.vtkMRMLScene, layout: Layout) -> None:
    """Show the views of a layout, which Slicer lists and restores from then on.

    Raises
    ------
    InputError
        There are no views.
    """
    application_logic(target)
    node = target.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if node is None:
        raise InputError("there are no views: Slicer was started without its main window")
    remember_layout(target)
    if not node.AddLayoutDescription(layout.number, layout.description):
        node.SetLayoutDescription(layout.number, layout.description)
    node.SetViewArrangement(layout.number)
    if is_application(target):
        # New views get their size from the event loop, and keep the height of what they show, not its width.
        slicer.app.processEvents()


def view_of_name(target: slicer.vtkMRMLScene, name: str) -> slicer.vtkMRMLSliceNode:
    """A slice view by its name, such as "Red".

    Raises
    ------
    InputError
        There is no such view.
    """
    application_logic(target)
    views = {view.GetLayoutName(): view for view in nodes_of_class(target, "vtkMRMLSliceNode")}
    if name not in views:
        raise InputError(f"there is no slice view {name!r}: choose one of {', '.join(views) or 'none'}")
    return views[name]


def center_view(view: slicer.vtkMRMLSliceNode, volume: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Let a slice view meet a volume; nothing happens where it does already.

    A view that shows nothing yet gets all of the volume; one that shows another slice moves along its normal.
    """
    if not _composite(view).GetBackgroundVolumeID():
        show_overlay(volume, None, views=[view])
        slice_logic(view).FitSliceToBackground()
    bounds, ras_to_slice = np.zeros(6), vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(view.GetSliceToRAS(), ras_to_slice)
    volume.GetSliceBounds(bounds, ras_to_slice)
    if not bounds[4] <= 0 <= bounds[5]:
        volume.GetRASBounds(bounds)
        view.JumpSliceByOffsetting(*(bounds[0::2] + bounds[1::2]) / 2)


def slice_logic(view):
    """The logic behind a slice view: its widget's in Slicer, one of ours where no widget is."""
    application = application_logic(view.GetScene())
    logic = application.GetSliceLogic(view)
    if logic is None:
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(view.GetScene())
        logic.SetSliceNode(view)
        application.GetSliceLogics().AddItem(logic)
    return logic


@dataclass(frozen=True, eq=False)
class _Plane:
    """A slice of a volume: its centre in RAS (mm), the directions of the viewer's right, up and depth (columns
    of a matrix), and the size of the slice (voxels) and its voxels (mm) along right and up."""

    center: np.ndarray
    axes: np.ndarray
    shape: tuple[int, int]
    spacing: tuple[float, float]
    thickness: float

    def pixel_mm(self, size: tuple[int, int]) -> float:
        """mm per pixel with which the whole slice fits into a picture of this size."""
        return max(count * mm / pixels for count, mm, pixels in zip(self.shape, self.spacing, size, strict=True))


def _plane(node, orientation: str | None, slice_index: int | None) -> _Plane:
    """Without an orientation: that of the slices, which lie one behind the other along the last voxel axis."""
    directions = np.zeros((3, 3))
    node.GetIJKToRASDirections(directions)
    own = orientation is None
    if own:
        orientation = max(_ORIENTATIONS, key=lambda name: abs(directions[:, 2] @ _ORIENTATIONS[name][2]))
    if orientation not in _ORIENTATIONS:
        raise InputError(f"unknown orientation {orientation!r}: use {', '.join(_ORIENTATIONS)}")
    right, up, depth = (np.array(axis, float) for axis in _ORIENTATIONS[orientation])
    count = np.array(node.GetImageData().GetDimensions())
    spacing = np.array(node.GetSpacing())

    # The voxel axis that runs most along each direction; the depth is chosen first.
    k = 2 if own else int(np.argmax(np.abs(depth @ directions)))
    i, j = (axis for axis in range(3) if axis != k)
    if abs(right @ directions[:, j]) > abs(right @ directions[:, i]):
        i, j = j, i
    if slice_index is None:
        slice_index = int(count[k]) // 2
    if not 0 <= slice_index < count[k]:
        raise InputError(f"there is no {orientation} slice {slice_index}: use 0 to {count[k] - 1}")
    voxel = (count - 1) / 2
    voxel[k] = slice_index
    center = directions @ (voxel * spacing) + node.GetOrigin()
    axes = np.stack(
        [
            directions[:, axis] * (1 if towards @ directions[:, axis] >= 0 else -1)
            for axis, towards in ((i, right), (j, up), (k, depth))
        ],
        axis=1,
    )
    return _Plane(
        center,
        axes,
        (int(count[i]), int(count[j])),
        (float(spacing[i]), float(spacing[j])),
        float(spacing[k]),
    )


def _aim(view, plane: _Plane, size: tuple[int, int], pixel_mm: float) -> None:
    """Let a slice view show a plane in its middle."""
    # A slice node puts the corner pixel's centre on the corner of its field of view: half a pixel too far out.
    center = plane.center + plane.axes[:, :2].sum(axis=1) * pixel_mm / 2
    view.SetDimensions(*size, 1)
    view.SetFieldOfView(size[0] * pixel_mm, size[1] * pixel_mm, plane.thickness)
    matrix = view.GetSliceToRAS()
    for row in range(3):
        for column in range(3):
            matrix.SetElement(row, column, plane.axes[row, column])
        matrix.SetElement(row, 3, center[row])
    view.UpdateMatrices()


def _place_legend(volume, plane: _Plane, size: tuple[int, int], pixel_mm: float) -> None:
    """Put the colour legend of a volume beside its picture, where the view leaves more room."""
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(volume)
    if legend is None:
        return
    columns, rows = size
    above = (1 - plane.shape[1] * plane.spacing[1] / pixel_mm / rows) / 2  # free part of the view, over the slice
    beside = (1 - plane.shape[0] * plane.spacing[0] / pixel_mm / columns) / 2
    state = legend.StartModify()
    if above > max(beside, 0.2):
        height = min(0.3, above - 0.07)
        legend.SetSize(0.15, height)
        legend.SetPosition(0.98, (0.95 - height) / (1 - height))  # the title lies over it
    else:
        legend.SetSize(0.15, 0.5)
        legend.SetPosition(0.98, 0.5)
    legend.EndModify(state)


def _difference_table(target):
    """The colour table of differences, made where it is missing."""
    name, colors = "IPv2 difference", difference_colors()
    for node in nodes_of_class(target, "vtkMRMLColorTableNode"):
        if node.GetName() == name and node.GetNumberOfColors() == len(colors):
            return node
    node = target.AddNewNodeByClass("vtkMRMLColorTableNode", name)
    node.SetTypeToUser()
    node.SetNumberOfColors(len(colors))
    for index, rgb in enumerate(colors):
        node.SetColor(index, str(index), *(channel / 255 for channel in rgb.tolist()), 1.0)
    return node


def _composite(view):
    """What a slice view shows in its layers."""
    for composite in nodes_of_class(view.GetScene(), "vtkMRMLSliceCompositeNode"):
        if composite.GetLayoutName() == view.GetLayoutName():
            return composite
    return slice_logic(view).GetSliceCompositeNode()
