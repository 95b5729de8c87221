"""What slice views show: differences with their legends, layers, linked views side by side, layouts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import slicer
import vtk
from IPv2Lib.colors import check_limit, difference_colors
from IPv2Lib.errors import InputError

from .layout_node import layout_node, remember_layout
from .layouts import MOST_VIEWS, Layout, compare_layout, planes_layout
from .planes import ORIENTATIONS, aim, fit, legend_of, own_orientation, place_legend, plane_of
from .volume_nodes import application_logic, is_application, nodes_of_class

_TABLES = {False: "IPv2 difference, light", True: "IPv2 difference, dark"}
_OLD_TABLE = "IPv2 difference"  # of earlier versions: red and blue
_dark: set[slicer.vtkMRMLScene] = set()


def show_difference(
    node: slicer.vtkMRMLScalarVolumeNode, limit_hu: float = 200.0, title: str = "Difference (HU)"
) -> None:
    """Show a difference volume in blue (negative) and orange (positive), with a colour legend; see `follow_style`.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode
        HU differences.
    limit_hu : float
        The last blue is -limit_hu and below, the last orange +limit_hu and above.
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


def is_difference(node: slicer.vtkMRMLScalarVolumeNode) -> bool:
    """Whether a volume is shown in the colours of differences."""
    colors = node.GetDisplayNode() and node.GetDisplayNode().GetColorNode()
    return colors is not None and colors.GetName() in (*_TABLES.values(), _OLD_TABLE)


def follow_style(target: slicer.vtkMRMLScene, dark: bool) -> None:
    """Show differences in colours for a dark or a light style: those that are there, and those to come."""
    (_dark.add if dark else _dark.discard)(target)
    for node in nodes_of_class(target, "vtkMRMLScalarVolumeNode"):
        if is_difference(node):
            node.GetDisplayNode().SetAndObserveColorNodeID(_difference_table(target).GetID())


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
        composite = composite_of(view)
        state = composite.StartModify()
        composite.SetBackgroundVolumeID(background.GetID())
        composite.SetForegroundVolumeID(foreground.GetID() if foreground else None)
        composite.SetForegroundOpacity(1.0 if foreground else 0.0)
        composite.SetLabelVolumeID(labels.GetID() if labels else None)
        composite.SetLabelOpacity(opacity)
        composite.EndModify(state)
    refresh_legends(background.GetScene())


def refresh_legends(target: slicer.vtkMRMLScene, views: Sequence[slicer.vtkMRMLSliceNode] | None = None) -> None:
    """Let slice views, all unless some are given, show the colour legends of their volumes, and no others.

    To call whenever a program has changed what slice views show. A view looks for legends older than itself, and
    looks again at those it knows, only when its layers change while they are marked as being changed by a person.
    """
    every = nodes_of_class(target, "vtkMRMLSliceCompositeNode")
    for composite in every if views is None else map(composite_of, views):
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
    also: Sequence[slicer.vtkMRMLScalarVolumeNode] = (),
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
    also : sequence of vtkMRMLScalarVolumeNode
        On the same grid, to be shown in the same views: leave room for their colour legends, too.

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
    plane = plane_of(volumes[0], orientation, slice_index)
    set_layout(target, layout)
    views = [target.GetSingletonNode(name, "vtkMRMLSliceNode") for name in layout.views]
    sizes = [view.GetDimensions()[:2] for view in views]
    legends = [legend_of(volume) for volume in (*volumes, *also)]
    fitted = max((fit(plane, size, any(legends)) for size in sizes), key=lambda each: each.pixel_mm)
    for view, volume, size in zip(views, volumes, sizes, strict=True):
        _show_alone(view, volume, linked=True)
        aim(view, plane, size, fitted)
    for legend in filter(None, legends):
        legend.RemoveAllViewNodeIDs()
        place_legend(legend, sizes[0], fitted)
    refresh_legends(target)
    return views


def show_planes(
    volume: slicer.vtkMRMLScalarVolumeNode,
    *,
    slice_index: int | None = None,
    also: Sequence[slicer.vtkMRMLScalarVolumeNode] = (),
) -> list[slicer.vtkMRMLSliceNode]:
    """Show the axial, coronal and sagittal plane of a volume; a colour legend is in the axial view alone.

    Parameters
    ----------
    volume : vtkMRMLScalarVolumeNode
    slice_index : int, optional
        Of its own slices; default: the middle one, as of the other orientations.
    also : sequence of vtkMRMLScalarVolumeNode
        On the same grid, to be shown in the same views: leave room for their colour legends, too.

    Returns
    -------
    list of vtkMRMLSliceNode
        The views.
    """
    target, layout = volume.GetScene(), planes_layout()
    own = own_orientation(volume)
    planes = [plane_of(volume, name, slice_index if name == own else None) for name in ORIENTATIONS]
    set_layout(target, layout)
    views = [target.GetSingletonNode(name, "vtkMRMLSliceNode") for name in layout.views]
    legends = [legend for each in (volume, *also) if (legend := legend_of(each)) is not None]
    for number, (view, plane) in enumerate(zip(views, planes, strict=True)):
        size = view.GetDimensions()[:2]
        fitted = fit(plane, size, bool(legends) and number == 0)
        _show_alone(view, volume, linked=False)
        aim(view, plane, size, fitted)
        for legend in legends if number == 0 else ():
            legend.RemoveAllViewNodeIDs()
            legend.AddViewNodeID(view.GetID())
            place_legend(legend, size, fitted)
    refresh_legends(target)
    return views


def exchange(views: Sequence[slicer.vtkMRMLSliceNode], volume: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Let slice views show another volume in their background, and the rest of them as it is."""
    for view in views:
        composite_of(view).SetBackgroundVolumeID(volume.GetID())
    refresh_legends(volume.GetScene(), views)


def views_of(target: slicer.vtkMRMLScene, layout: Layout) -> list[slicer.vtkMRMLSliceNode]:
    """The slice views of a layout if it is the one that is shown, else none."""
    node = layout_node(target)
    if node is None or node.GetViewArrangement() != layout.number:
        return []
    views = (target.GetSingletonNode(name, "vtkMRMLSliceNode") for name in layout.views)
    return [view for view in views if view is not None]


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
    if not composite_of(view).GetBackgroundVolumeID():
        show_overlay(volume, None, views=[view])
        slice_logic(view).FitSliceToBackground()
    bounds, ras_to_slice = np.zeros(6), vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(view.GetSliceToRAS(), ras_to_slice)
    volume.GetSliceBounds(bounds, ras_to_slice)
    if not bounds[4] <= 0 <= bounds[5]:
        volume.GetRASBounds(bounds)
        view.JumpSliceByOffsetting(*(bounds[0::2] + bounds[1::2]) / 2)


def composite_of(view: slicer.vtkMRMLSliceNode) -> slicer.vtkMRMLSliceCompositeNode:
    """What a slice view shows in its layers."""
    for composite in nodes_of_class(view.GetScene(), "vtkMRMLSliceCompositeNode"):
        if composite.GetLayoutName() == view.GetLayoutName():
            return composite
    return slice_logic(view).GetSliceCompositeNode()


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


def _show_alone(view, volume, *, linked: bool) -> None:
    composite = composite_of(view)
    composite.SetBackgroundVolumeID(volume.GetID())
    composite.SetForegroundVolumeID(None)
    composite.SetLabelVolumeID(None)
    composite.SetLinkedControl(linked)
    composite.SetHotLinkedControl(linked)


def _difference_table(target):
    """The colour table of differences in the style of a scene, made where it is missing."""
    name, colors = _TABLES[target in _dark], difference_colors(target in _dark)
    for node in nodes_of_class(target, "vtkMRMLColorTableNode"):
        if node.GetName() == name and node.GetNumberOfColors() == len(colors):
            return node
    node = target.AddNewNodeByClass("vtkMRMLColorTableNode", name)
    node.SetTypeToUser()
    node.SetNumberOfColors(len(colors))
    for index, rgb in enumerate(colors):
        node.SetColor(index, str(index), *(channel / 255 for channel in rgb.tolist()), 1.0)
    return node
