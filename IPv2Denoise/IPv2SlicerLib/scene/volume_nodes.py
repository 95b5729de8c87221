"""Volumes and label maps in the MRML scene of 3D Slicer, how they are displayed, and what a slice view shows.

Owns the only contact with MRML. It runs unchanged inside Slicer and, with the `slicer-core` wheel, outside of it,
where it makes the scene and does what the application would do for a slice view. Slices are drawn by Slicer's
own slice pipeline (`vtkMRMLSliceLogic`), which computes images on the CPU: it needs neither a display nor OpenGL.
VTK's text and PNG writer are here for the same reason; `pictures` arranges all that on sheets. Nothing else in
the library imports slicer or vtk.

`Volume` has LPS coordinates, MRML has RAS: the first two axes change sign, nothing else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk
from IPv2Lib.errors import InputError
from IPv2Lib.hounsfield import LUNG_LEVEL, LUNG_WINDOW
from IPv2Lib.io import atomic
from IPv2Lib.io.volume import Volume
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .layout_node import remember_layout
from .layouts import MOST_VIEWS, Layout, compare_layout

Entry = tuple[int, str, tuple[int, int, int]]
"""Value, name and colour (red, green, blue, 0 to 255) of one label."""

_ATTRIBUTE_PREFIX = "IPv2."
_OF_FILES = frozenset({"input_place", "output", "output_sha256", "sidecar"})  # no provenance of a node
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
_NICE_LIMITS = (20, 50, 100, 200, 300, 500, 1000, 2000)
_LARGEST_LABEL = 65535
# Viewer's right, viewer's up and the direction of slicing, in RAS; patient right is on the viewer's left.
_ORIENTATIONS = {
    "axial": ((-1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "coronal": ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
    "sagittal": ((0, -1, 0), (0, 0, 1), (1, 0, 0)),
}


@dataclass(frozen=True, eq=False)
class Overlay:
    """Labels to draw over a slice.

    Attributes
    ----------
    labels : ndarray of integers or bool, shape (slices, rows, columns)
        On the grid of the volume that they are drawn over; 0 is transparent.
    entries : sequence of (value, name, (red, green, blue))
        Every value other than 0 that occurs.
    opacity : float
        0 (invisible) to 1.
    """

    labels: np.ndarray
    entries: Sequence[Entry]
    opacity: float = 0.45


def scene() -> slicer.vtkMRMLScene:
    """The scene of the application; outside of Slicer one is made on first use and set as `slicer.mrmlScene`."""
    if getattr(slicer, "mrmlScene", None) is None:
        slicer.mrmlScene = slicer.vtkMRMLScene()
        application_logic(slicer.mrmlScene)
    return slicer.mrmlScene


def volume_to_node(
    volume: Volume,
    name: str,
    *,
    scene: slicer.vtkMRMLScene | None = None,
    provenance: Mapping[str, object] | None = None,
) -> slicer.vtkMRMLScalarVolumeNode:
    """Add a volume to the scene, shown in the lung window.

    Parameters
    ----------
    volume : Volume
        Its array is copied; int16 stays int16 and float32 stays float32.
    name : str
        Name of the node.
    scene : vtkMRMLScene, optional
        Default: `scene()`.
    provenance : mapping, optional
        Where the volume came from, see `set_provenance`.
    """
    node = adopt_volume(volume.with_array(volume.array.copy()), name, scene=scene)
    set_provenance(node, provenance or {})
    return node


def adopt_volume(
    volume: Volume, name: str, *, scene: slicer.vtkMRMLScene | None = None
) -> slicer.vtkMRMLScalarVolumeNode:
    """As `volume_to_node`, but the node shares the memory of the array: the caller must not change it any more."""
    node = _scene_or_default(scene).AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    # Before the image: a display node that still chooses its window by itself would go through all voxels.
    node.CreateDefaultDisplayNodes()
    show_window(node)
    fill_volume(node, volume)
    return node


def fill_volume(node: slicer.vtkMRMLVolumeNode, volume: Volume) -> None:
    """Give an existing volume node a new image, whose memory is shared, and a geometry."""
    _fill(node, volume, volume.array)


def fill_labels(node: slicer.vtkMRMLLabelMapVolumeNode, labels: np.ndarray, volume: Volume) -> None:
    """Give an existing label map new labels (uint8 or uint16), whose memory is shared, on the grid of a volume."""
    _fill(node, volume, labels)


def node_to_volume(node: slicer.vtkMRMLScalarVolumeNode | None) -> Volume:
    """Copy a volume out of the scene.

    Values are not judged here; `volume.check_ct` does that.

    Raises
    ------
    InputError
        As `node_view`.
    """
    view = node_view(node)
    return view.with_array(view.array.copy())


def node_view(node: slicer.vtkMRMLScalarVolumeNode | None) -> Volume:
    """A volume of the scene without a copy, if it holds int16 or float32: do not write to it.

    Raises
    ------
    InputError
        No node, a node without an image, a sequence or another node that is no scalar volume, more than one
        value per voxel, or a node under a transform, which would be lost: it has to be hardened first.
    """
    if node is None:
        raise InputError("no volume is chosen: load a chest CT and choose it")
    name = f"'{node.GetName()}'"
    if not node.IsA("vtkMRMLScalarVolumeNode"):
        raise InputError(f"{name} is a {node.GetNodeTagName()} node, not one 3-D volume: choose a CT volume")
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0 or image.GetPointData().GetScalars() is None:
        raise InputError(f"volume {name} is empty: load its image first")
    components = image.GetNumberOfScalarComponents()
    if components != 1:
        raise InputError(f"volume {name} has {components} values per voxel (colour or 4-D): choose a CT volume")
    transform = node.GetParentTransformNode()
    if transform is not None:
        raise InputError(
            f"volume {name} is under the transform '{transform.GetName()}': harden it first "
            "(module Data, right-click the transform icon of the volume, Harden transform)"
        )
    directions = np.zeros((3, 3))
    node.GetIJKToRASDirections(directions)
    return Volume(
        node_array(node),
        spacing=node.GetSpacing(),
        origin=tuple(_flipped(np.array(node.GetOrigin()))),
        direction=tuple(_flipped(directions).ravel()),
    )


def node_array(node: slicer.vtkMRMLVolumeNode) -> np.ndarray:
    """The voxels of a volume or label map that has an image, (slices, rows, columns), in their own type.

    It is the memory of the node. After writing into it, tell the image: `node.GetImageData().Modified()`.
    """
    image = node.GetImageData()
    columns, rows, slices = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(slices, rows, columns)


def labels_to_node(
    labels: np.ndarray,
    volume: Volume,
    name: str,
    entries: Sequence[Entry],
    *,
    scene: slicer.vtkMRMLScene | None = None,
) -> slicer.vtkMRMLLabelMapVolumeNode:
    """Add a label map to the scene, with a colour table of its own that names its labels.

    Parameters
    ----------
    labels : ndarray of integers or bool, shape (slices, rows, columns)
        On the grid of `volume`. 0 is transparent wherever the label map is shown.
    volume : Volume
        Gives the geometry.
    name : str
        Name of the label map node; the colour table is named after it.
    entries : sequence of (value, name, (red, green, blue))
        Colours 0 to 255. Every value other than 0 that occurs in `labels`.
    scene : vtkMRMLScene, optional
        Default: `scene()`.

    Raises
    ------
    InputError
        Labels that are not whole numbers, on another grid, or without an entry.
    """
    return adopt_labels(_checked_labels(labels, volume, entries), volume, name, entries, scene=scene)


def adopt_labels(
    labels: np.ndarray,
    volume: Volume,
    name: str,
    entries: Sequence[Entry],
    *,
    scene: slicer.vtkMRMLScene | None = None,
) -> slicer.vtkMRMLLabelMapVolumeNode:
    """As `labels_to_node`, but without looking at the labels (uint8 or uint16), whose memory the node shares."""
    target = _scene_or_default(scene)
    table = target.AddNewNodeByClass("vtkMRMLColorTableNode", f"{name} colors")
    table.SetTypeToUser()
    table.SetNumberOfColors(max((value for value, _, _ in entries), default=0) + 1)
    table.SetColor(0, "Nothing", 0, 0, 0, 0)
    for value, label, rgb in entries:
        table.SetColor(value, label, *(channel / 255 for channel in rgb), 1.0 if value else 0.0)
    node = target.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", name)
    _fill(node, volume, labels)
    display = target.AddNewNodeByClass("vtkMRMLLabelMapVolumeDisplayNode")
    display.SetAndObserveColorNodeID(table.GetID())
    node.SetAndObserveDisplayNodeID(display.GetID())
    return node


def set_provenance(node: slicer.vtkMRMLNode, values: Mapping[str, object]) -> None:
    """Keep where a node came from as node attributes `IPv2.<key>`; they are saved with the scene.

    Texts are stored as they are, everything else as JSON (what JSON does not know, as text). What is true of a file
    that the node came from, and not of its voxels whatever becomes of them, is left out.
    """
    for key, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        if key not in _OF_FILES:
            node.SetAttribute(_ATTRIBUTE_PREFIX + key, text)


def provenance(node: slicer.vtkMRMLNode) -> dict[str, str]:
    """What `set_provenance` stored on a node, as texts."""
    names = (name for name in node.GetAttributeNames() if name.startswith(_ATTRIBUTE_PREFIX))
    found = {name.removeprefix(_ATTRIBUTE_PREFIX): node.GetAttribute(name) for name in names}
    return {key: text for key, text in found.items() if key not in _OF_FILES}  # in older scenes


def show_window(node: slicer.vtkMRMLScalarVolumeNode, window: float = LUNG_WINDOW, level: float = LUNG_LEVEL) -> None:
    """Show a volume in grey from level - window/2 (black) to level + window/2 (white), HU."""
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    display.AutoWindowLevelOff()
    display.SetWindowLevel(window, level)


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
    display.SetAndObserveColorNodeID(_color_table(node.GetScene(), "IPv2 difference", difference_colors()).GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevel(2 * limit_hu, 0)
    application_logic(node.GetScene())  # outside of Slicer nobody else tells the scene what a legend is
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(node)
    legend.SetTitleText(title)
    legend.SetLabelFormat("%.0f")
    legend.SetNumberOfLabels(5)


def difference_colors() -> np.ndarray:
    """256 colours from blue over white to red; the blue half is the red half with red and blue exchanged.

    VTK maps a value to an entry by cutting decimals off, so 0 in a range around 0 falls on entry 127 (127.5 cut):
    that one is white, entries 127 - n and 127 + n mirror each other, and the last two are the same.

    Returns
    -------
    ndarray of uint8, shape (256, 3)

    Examples
    --------
    >>> difference_colors()[[0, 127, 254, 255]].tolist()
    [[30, 0, 140], [255, 255, 255], [140, 0, 30], [140, 0, 30]]
    """
    stops = [[255, 255, 255], [240, 110, 80], [140, 0, 30]]
    at = np.linspace(0, 1, 128)
    red = np.stack([np.interp(at, [0, 0.5, 1], channel) for channel in zip(*stops, strict=True)], axis=1)
    red = np.rint(red).astype(np.uint8)
    return np.concatenate([red[:0:-1, ::-1], red, red[-1:]])


def nice_limit(*differences: np.ndarray) -> float:
    """The end of a colour range for HU differences: the smallest round number that holds 99 % of the values.

    Of large arrays about a million values are looked at.

    Examples
    --------
    >>> nice_limit(np.linspace(-45, 45, 1000))
    50.0
    """
    reach = max((float(np.percentile(np.abs(_some(each)), 99)) for each in differences), default=0.0)
    return float(next((limit for limit in _NICE_LIMITS if limit >= reach), _NICE_LIMITS[-1]))


def check_limit(limit_hu: float) -> None:
    """Refuse a colour range that shows nothing (`InputError`)."""
    if not 0 < limit_hu < math.inf:
        raise InputError(f"a colour range of ±{limit_hu:g} HU shows nothing: use a positive limit, e.g. 200")


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
        The views; `render_view` draws them outside of Slicer.

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
    if _is_application(target):
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
        _slice_logic(view).FitSliceToBackground()
    bounds, ras_to_slice = np.zeros(6), vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(view.GetSliceToRAS(), ras_to_slice)
    volume.GetSliceBounds(bounds, ras_to_slice)
    if not bounds[4] <= 0 <= bounds[5]:
        volume.GetRASBounds(bounds)
        view.JumpSliceByOffsetting(*(bounds[0::2] + bounds[1::2]) / 2)


def render_view(view: slicer.vtkMRMLSliceNode, size: tuple[int, int] | None = None) -> np.ndarray:
    """What a slice view of the scene shows: background, foreground and label map as Slicer blends them.

    Parameters
    ----------
    view : vtkMRMLSliceNode
    size : (columns, rows), optional
        Pixels; the field of view keeps its height, as when a window is resized. Default: the size of the view.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
        Black where there is no volume.
    """
    if size is not None:
        height = view.GetFieldOfView()[1]
        view.SetDimensions(*size, 1)
        view.SetFieldOfView(height * size[0] / size[1], height, view.GetFieldOfView()[2])
    return _rgb(_slice_logic(view))


def render_slice(
    background: Volume | slicer.vtkMRMLScalarVolumeNode,
    *,
    slice_index: int | None = None,
    orientation: str = "axial",
    window: float = LUNG_WINDOW,
    level: float = LUNG_LEVEL,
    colors: np.ndarray | None = None,
    overlay: Overlay | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """One slice as a slice view of Slicer would show it, without touching the scene.

    Patient right is on the viewer's left, anterior (axial) or superior (coronal, sagittal) at the top. The plane
    follows the axes of the volume, so an oblique scan is shown as it was acquired. Pixels are square in mm.

    Parameters
    ----------
    background : Volume or volume node
    slice_index : int, optional
        Along the array axis that the orientation cuts: slices for an axial picture of an axial scan. Default:
        the middle.
    orientation : {'axial', 'coronal', 'sagittal'}
    window, level : float
        HU: black is level - window/2, white is level + window/2.
    colors : ndarray of uint8, shape (n, 3), optional
        Colours from low to high, such as `difference_colors()`; default: grey.
    overlay : Overlay, optional
        Labels over the slice.
    size : (columns, rows), optional
        Pixels; the whole slice is fitted into them. Default: one pixel per voxel (of the smaller spacing).

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
        Black outside of the volume.

    Raises
    ------
    InputError
        Unknown orientation, no such slice, a window that is not positive, an overlay on another grid; and as
        `node_to_volume` for a node.
    """
    if not 0 < window < math.inf:
        raise InputError(f"a window of {window:g} HU shows nothing: use a positive width, e.g. {LUNG_WINDOW:g}")
    volume = background if isinstance(background, Volume) else node_to_volume(background)
    private = slicer.vtkMRMLScene()
    node = private.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "background")
    _fill(node, volume, volume.array)
    display = private.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    grey = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    display.SetAndObserveColorNodeID(_color_table(private, "colors", grey if colors is None else colors).GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevel(window, level)
    node.SetAndObserveDisplayNodeID(display.GetID())

    logic = slicer.vtkMRMLSliceLogic()
    logic.SetMRMLScene(private)
    view = logic.AddSliceNode("View")
    composite = logic.GetSliceCompositeNode()
    composite.SetBackgroundVolumeID(node.GetID())
    if overlay is not None:
        labels = labels_to_node(overlay.labels, volume, "labels", overlay.entries, scene=private)
        composite.SetLabelVolumeID(labels.GetID())
        composite.SetLabelOpacity(overlay.opacity)

    plane = _plane(node, orientation, slice_index)
    width, height = size or plane.native_size
    # A picture coarser than the voxels is drawn finer and averaged, else it would pick single noisy voxels.
    pixel = plane.pixel_mm((width, height))
    fine = max(1, math.ceil(pixel / min(plane.spacing) - 0.01))
    _aim(view, plane, (width * fine, height * fine))
    picture = _rgb(logic)
    if fine == 1:
        return picture
    blocks = picture.reshape(height, fine, width, fine, 3)
    return np.rint(blocks.mean(axis=(1, 3), dtype=np.float32)).astype(np.uint8)


def draw_text(
    text: str, size: int, ink: tuple[int, int, int] = (255, 255, 255), paper: tuple[int, int, int] = (0, 0, 0)
) -> np.ndarray:
    """One line of text in VTK's own font.

    Parameters
    ----------
    text : str
        Latin letters and common signs.
    size : int
        Of the font, in pixels.
    ink, paper : (red, green, blue)
        0 to 255.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)
    """
    if not text.strip():
        return draw_text("|", size, paper, paper)
    style = vtk.vtkTextProperty()
    style.SetFontFamilyToArial()
    style.SetFontSize(size)
    image, extent = vtk.vtkImageData(), [0, 0]
    renderer = vtk.vtkTextRenderer.GetInstance()
    # The backend is named, else "$" would start a formula.
    renderer.RenderString(style, text, image, extent, 72, vtk.vtkTextRenderer.FreeType)
    width, height, _ = image.GetDimensions()
    alpha = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, -1)[..., 3:] / 255
    # The image is as large as a texture; the text is in its lower left corner.
    alpha = alpha[: extent[1], : extent[0]][::-1]
    return np.rint(alpha * ink + (1 - alpha) * paper).astype(np.uint8)


def png(picture: np.ndarray) -> bytes:
    """The content of a PNG file.

    Parameters
    ----------
    picture : ndarray of uint8, shape (rows, columns, 3)
    """
    rows, columns, channels = picture.shape
    pixels = np.ascontiguousarray(picture[::-1]).reshape(-1, channels)
    image = vtk.vtkImageData()
    image.SetDimensions(columns, rows, 1)
    image.GetPointData().SetScalars(numpy_to_vtk(pixels))
    writer = vtk.vtkPNGWriter()
    writer.SetInputData(image)
    writer.WriteToMemoryOn()
    writer.Write()
    return vtk_to_numpy(writer.GetResult()).tobytes()


def save_png(picture: np.ndarray, path: str | Path) -> Path:
    """Write a picture as PNG, whole or not at all; an existing file is replaced.

    Parameters
    ----------
    picture : ndarray of uint8, shape (rows, columns, 3)
    path : path
        In an existing folder.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    OutputError
        The file cannot be written; nothing is left behind.
    """
    path = Path(path)
    with atomic.new_file(path) as temporary:
        temporary.write_bytes(png(picture))
    return path


def nodes_of_class(target: slicer.vtkMRMLScene, class_name: str) -> list[slicer.vtkMRMLNode]:
    """Every node of a class, subclasses included, in the order of the scene."""
    return [target.GetNthNodeByClass(n, class_name) for n in range(target.GetNumberOfNodesByClass(class_name))]


def application_logic(target: slicer.vtkMRMLScene) -> slicer.vtkMRMLApplicationLogic:
    """The application logic of a scene: Slicer's own for Slicer's scene, else one made on first use.

    What is made with it knows what a layout, a colour legend and a sequence is, and removes nodes from the subject
    hierarchy.
    """
    if _is_application(target):
        return slicer.app.applicationLogic()
    if target not in _applications:
        logic = slicer.vtkMRMLApplicationLogic()
        logic.SetMRMLScene(target)
        logic.SetSliceLogics(vtk.vtkCollection())
        logic.GetColorLogic().SetMRMLScene(target)
        target.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(target)
        layout = slicer.vtkMRMLLayoutLogic()
        layout.SetMRMLScene(target)
        sequences = slicer.vtkSlicerSequencesLogic()
        sequences.SetMRMLScene(target)
        target.AddObserver(target.NodeAboutToBeRemovedEvent, _leave_subject_hierarchy)
        _applications[target] = _Application(logic, layout, sequences)
    return _applications[target].logic


@dataclass(frozen=True, eq=False)
class _Plane:
    """A slice of a volume: its centre in RAS (mm), the directions of the viewer's right, up and depth (columns
    of a matrix), and the size of the slice (voxels) and its voxels (mm) along right and up."""

    center: np.ndarray
    axes: np.ndarray
    shape: tuple[int, int]
    spacing: tuple[float, float]
    thickness: float

    @property
    def native_size(self) -> tuple[int, int]:
        pixel = min(self.spacing)
        width, height = (max(1, round(count * mm / pixel)) for count, mm in zip(self.shape, self.spacing, strict=True))
        return width, height

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


def _aim(view, plane: _Plane, size: tuple[int, int], pixel_mm: float | None = None) -> None:
    """Let a slice view show a whole plane with square pixels, as large as possible if not of a given size."""
    pixel = pixel_mm or plane.pixel_mm(size)
    # A slice node puts the corner pixel's centre on the corner of its field of view: half a pixel too far out.
    center = plane.center + plane.axes[:, :2].sum(axis=1) * pixel / 2
    view.SetDimensions(*size, 1)
    view.SetFieldOfView(size[0] * pixel, size[1] * pixel, plane.thickness)
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


def _rgb(logic) -> np.ndarray:
    """The blended image of a slice logic, top row first."""
    connection = logic.GetImageDataConnection()
    if connection is None:
        width, height, _ = logic.GetSliceNode().GetDimensions()
        return np.zeros((height, width, 3), np.uint8)
    connection.GetProducer().Update()
    image = connection.GetProducer().GetOutputDataObject(connection.GetIndex())
    width, height, _ = image.GetDimensions()
    rgba = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 4)[::-1]
    # Outside of the volume alpha is 0 and the colour arbitrary; a slice view is black behind it.
    return (rgba[..., :3].astype(np.uint16) * rgba[..., 3:] // 255).astype(np.uint8)


def _fill(node, volume: Volume, array: np.ndarray) -> None:
    """Give a volume node its image and geometry. The node keeps the array alive and shares its memory."""
    slices, rows, columns = array.shape
    image = vtk.vtkImageData()
    image.SetDimensions(columns, rows, slices)
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(array).ravel()))
    node.SetAndObserveImageData(image)
    node.SetSpacing(volume.spacing)
    node.SetOrigin(_flipped(np.array(volume.origin)))
    node.SetIJKToRASDirections(_flipped(np.reshape(volume.direction, (3, 3))))


def _some(values: np.ndarray) -> np.ndarray:
    """About a million values; the step is odd, so that it does not pick columns of a volume."""
    return values.ravel()[:: (values.size // 1_000_000) | 1].astype(np.float32)


def _flipped(lps_or_ras: np.ndarray) -> np.ndarray:
    """LPS to RAS or back: a point, or a matrix whose columns are directions."""
    flipped = (lps_or_ras.T * _LPS_TO_RAS).T
    return flipped + 0.0  # no -0.0 in headers


def _checked_labels(labels: np.ndarray, volume: Volume, entries: Sequence[Entry]) -> np.ndarray:
    labels = np.asarray(labels)
    if labels.dtype.kind not in "biu":
        raise InputError(f"labels are {labels.dtype}: use whole numbers")
    if labels.shape != volume.array.shape:
        raise InputError(f"labels have shape {labels.shape}, the volume {volume.array.shape}: use one grid")
    known = {value for value, _, _ in entries}
    if not all(0 <= value <= _LARGEST_LABEL for value in known):
        raise InputError(f"label values {sorted(known)} are out of range: use 0 to {_LARGEST_LABEL}")
    unknown = sorted({int(value) for value in np.unique(labels)} - known - {0})
    if unknown:
        raise InputError(f"labels {unknown} have no name and colour: give an entry for each")
    return labels.astype(np.uint8 if max(known, default=0) <= 255 else np.uint16)


def _color_table(target, name: str, colors: np.ndarray):
    """The colour table of this name and these colours, made where it is missing."""
    for node in nodes_of_class(target, "vtkMRMLColorTableNode"):
        if node.GetName() == name and node.GetNumberOfColors() == len(colors):
            return node
    node = target.AddNewNodeByClass("vtkMRMLColorTableNode", name)
    node.SetTypeToUser()
    node.SetNumberOfColors(len(colors))
    for index, rgb in enumerate(colors):
        node.SetColor(index, str(index), *(channel / 255 for channel in rgb.tolist()), 1.0)
    return node


def _scene_or_default(target):
    return scene() if target is None else target


def _composite(view):
    """What a slice view shows in its layers."""
    for composite in nodes_of_class(view.GetScene(), "vtkMRMLSliceCompositeNode"):
        if composite.GetLayoutName() == view.GetLayoutName():
            return composite
    return _slice_logic(view).GetSliceCompositeNode()


def _slice_logic(view):
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


@vtk.calldata_type(vtk.VTK_OBJECT)
def _leave_subject_hierarchy(target, event, node) -> None:
    """What Slicer's subject hierarchy does by itself when a node is removed."""
    if target.IsClosing() or node.IsA("vtkMRMLSubjectHierarchyNode"):
        return
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(target)
    item = tree.GetItemByDataNode(node)
    if item != tree.GetInvalidItemID():
        tree.RemoveItem(item, False, False)


@dataclass(frozen=True, eq=False)
class _Application:
    """What Slicer has beside a scene, for a scene without Slicer. Kept alive by `_applications`."""

    logic: object
    layout: object
    sequences: object


_applications: dict[slicer.vtkMRMLScene, _Application] = {}


def _is_application(target) -> bool:
    """Whether a scene is the one that the application shows."""
    return hasattr(slicer, "app") and slicer.app.applicationLogic().GetMRMLScene() is target
