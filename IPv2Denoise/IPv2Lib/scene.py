"""Volumes and label maps in the MRML scene of 3D Slicer, how they are displayed, and what a slice view shows.

Owns the only contact with MRML. It runs unchanged inside Slicer and, with the `slicer-core` wheel, outside of it,
where it makes the scene and does what the application would do for a slice view. Slices are drawn by Slicer's
own slice pipeline (`vtkMRMLSliceLogic`), which computes images on the CPU: it needs neither a display nor OpenGL.
VTK's text and PNG writer are here for the same reason; `pictures` arranges all that on sheets. Nothing else in
the library imports slicer or vtk.

`Volume` has LPS coordinates, MRML has RAS: the first two axes change sign, nothing else.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

from .ct import Volume
from .errors import InputError, OutputError

LUNG_WINDOW, LUNG_LEVEL = 1500.0, -600.0
"""Width and centre of the usual lung window, HU."""

Entry = tuple[int, str, tuple[int, int, int]]
"""Value, name and colour (red, green, blue, 0 to 255) of one label."""

_ATTRIBUTE_PREFIX = "IPv2."
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])
# Ids above vtkMRMLLayoutNode.SlicerLayoutUserView belong to extensions; n views take the n-th.
_COMPARE_LAYOUT = 26020
_MOST_VIEWS = 9
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
        _application_logic(slicer.mrmlScene)
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
    node = _scene_or_default(scene).AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    _fill(node, volume, volume.array.copy())
    node.CreateDefaultDisplayNodes()
    show_window(node)
    set_provenance(node, provenance or {})
    return node


def node_to_volume(node: slicer.vtkMRMLScalarVolumeNode | None) -> Volume:
    """Copy a volume out of the scene.

    Values are not judged here; `ct.check_ct` does that.

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
    columns, rows, slices = image.GetDimensions()
    directions = np.zeros((3, 3))
    node.GetIJKToRASDirections(directions)
    return Volume(
        vtk_to_numpy(image.GetPointData().GetScalars()).reshape(slices, rows, columns).copy(),
        spacing=node.GetSpacing(),
        origin=tuple(_flipped(np.array(node.GetOrigin()))),
        direction=tuple(_flipped(directions).ravel()),
    )


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
    labels = _checked_labels(labels, volume, entries)
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

    Texts are stored as they are, everything else as JSON (what JSON does not know, as text).
    """
    for key, value in values.items():
        node.SetAttribute(_ATTRIBUTE_PREFIX + key, value if isinstance(value, str) else json.dumps(value, default=str))


def provenance(node: slicer.vtkMRMLNode) -> dict[str, str]:
    """What `set_provenance` stored on a node, as texts."""
    names = (name for name in node.GetAttributeNames() if name.startswith(_ATTRIBUTE_PREFIX))
    return {name.removeprefix(_ATTRIBUTE_PREFIX): node.GetAttribute(name) for name in names}


def show_window(node: slicer.vtkMRMLScalarVolumeNode, window: float = LUNG_WINDOW, level: float = LUNG_LEVEL) -> None:
    """Show a volume in grey from level - window/2 (black) to level + window/2 (white), HU."""
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    display.AutoWindowLevelOff()
    display.SetWindowLevel(window, level)


def show_difference(node: slicer.vtkMRMLScalarVolumeNode, limit_hu: float = 200.0) -> None:
    """Show a difference volume in blue (negative), white (0 HU) and red (positive), with a colour legend.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode
        HU differences.
    limit_hu : float
        The darkest blue is -limit_hu and below, the darkest red +limit_hu and above.

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
    _application_logic(node.GetScene())  # outside of Slicer nobody else tells the scene what a legend is
    legend = slicer.vtkSlicerColorLogic.AddDefaultColorLegendDisplayNode(node)
    legend.SetTitleText("Difference (HU)")
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


def check_limit(limit_hu: float) -> None:
    """Refuse a colour range that shows nothing (`InputError`)."""
    if not 0 < limit_hu < math.inf:
        raise InputError(f"a colour range of ±{limit_hu:g} HU shows nothing: use a positive limit, e.g. 200")


def show_overlay(
    background: slicer.vtkMRMLScalarVolumeNode,
    labels: slicer.vtkMRMLLabelMapVolumeNode | None,
    opacity: float = 0.45,
    views: Sequence[slicer.vtkMRMLSliceNode] | None = None,
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
    """
    if views is None:
        views = _nodes(background.GetScene(), "vtkMRMLSliceNode")
    for view in views:
        composite = _composite(view)
        composite.SetBackgroundVolumeID(background.GetID())
        composite.SetLabelVolumeID(labels.GetID() if labels else None)
        composite.SetLabelOpacity(opacity)


def show_compare(
    volumes: Sequence[slicer.vtkMRMLScalarVolumeNode],
    *,
    orientation: str = "axial",
    slice_index: int | None = None,
) -> list[slicer.vtkMRMLSliceNode]:
    """Show volumes side by side in linked slice views: one moves, all move.

    The layout is registered with the layout node, so that Slicer lists and restores it; all views show the same
    plane with the same zoom, that of the first volume.

    Parameters
    ----------
    volumes : sequence of 1 to 9 vtkMRMLScalarVolumeNode
        Of one scene, from left to right.
    orientation : {'axial', 'coronal', 'sagittal'}
        Along the axes of the first volume.
    slice_index : int, optional
        Slice of the first volume; default: the middle one.

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
    if not 1 <= count <= _MOST_VIEWS:
        raise InputError(f"{count} volumes cannot be compared side by side: choose 1 to {_MOST_VIEWS}")
    target = volumes[0].GetScene()
    names = [f"IPv2View{number}" for number in range(1, count + 1)]
    _set_layout(target, _COMPARE_LAYOUT + count, names)
    views = [target.GetSingletonNode(name, "vtkMRMLSliceNode") for name in names]
    for view, volume in zip(views, volumes, strict=True):
        composite = _composite(view)
        composite.SetBackgroundVolumeID(volume.GetID())
        composite.SetLabelVolumeID(None)
        composite.SetLinkedControl(True)
        composite.SetHotLinkedControl(True)
        width, height, _ = view.GetDimensions()
        _aim(view, _plane(volumes[0], orientation, slice_index), (width, height))
    return views


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(png(picture))
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write '{path}' ({error.strerror}): choose another folder or name") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return path


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


def _plane(node, orientation: str, slice_index: int | None) -> _Plane:
    if orientation not in _ORIENTATIONS:
        raise InputError(f"unknown orientation {orientation!r}: use {', '.join(_ORIENTATIONS)}")
    right, up, depth = (np.array(axis, float) for axis in _ORIENTATIONS[orientation])
    directions = np.zeros((3, 3))
    node.GetIJKToRASDirections(directions)
    count = np.array(node.GetImageData().GetDimensions())
    spacing = np.array(node.GetSpacing())

    # The voxel axis that runs most along each direction; the depth is chosen first.
    k = int(np.argmax(np.abs(depth @ directions)))
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


def _aim(view, plane: _Plane, size: tuple[int, int]) -> None:
    """Let a slice view show a whole plane with square pixels."""
    pixel = plane.pixel_mm(size)
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
    for node in _nodes(target, "vtkMRMLColorTableNode"):
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


def _nodes(target, class_name: str) -> list:
    return [target.GetNthNodeByClass(n, class_name) for n in range(target.GetNumberOfNodesByClass(class_name))]


def _set_layout(target, layout_id: int, view_names: Sequence[str]) -> None:
    _application_logic(target)
    views = "".join(
        f'<item><view class="vtkMRMLSliceNode" singletontag="{name}">'
        '<property name="orientation" action="default">Axial</property>'
        f'<property name="viewlabel" action="default">{number}</property>'
        '<property name="viewcolor" action="default">#5A8FBF</property></view></item>'
        for number, name in enumerate(view_names, 1)
    )
    description = f'<layout type="horizontal" split="true">{views}</layout>'
    layout = target.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if layout.IsLayoutDescription(layout_id):
        layout.SetLayoutDescription(layout_id, description)
    else:
        layout.AddLayoutDescription(layout_id, description)
    layout.SetViewArrangement(layout_id)


def _composite(view):
    """What a slice view shows in its layers."""
    for composite in _nodes(view.GetScene(), "vtkMRMLSliceCompositeNode"):
        if composite.GetLayoutName() == view.GetLayoutName():
            return composite
    return _slice_logic(view).GetSliceCompositeNode()


def _slice_logic(view):
    """The logic behind a slice view: its widget's in Slicer, one of ours where no widget is."""
    application = _application_logic(view.GetScene())
    logic = application.GetSliceLogic(view)
    if logic is None:
        logic = slicer.vtkMRMLSliceLogic()
        logic.SetMRMLApplicationLogic(application)
        logic.SetMRMLScene(view.GetScene())
        logic.SetSliceNode(view)
        application.GetSliceLogics().AddItem(logic)
    return logic


@dataclass(frozen=True, eq=False)
class _Application:
    """What Slicer has beside a scene, for a scene without Slicer. Kept alive by `_applications`."""

    logic: object
    layout: object


_applications: dict[slicer.vtkMRMLScene, _Application] = {}


def _application_logic(target):
    """The application logic of a scene: Slicer's own for Slicer's scene, else one made on first use."""
    if hasattr(slicer, "app"):
        logic = slicer.app.applicationLogic()
        if logic.GetMRMLScene() is target:
            return logic
    if target not in _applications:
        logic = slicer.vtkMRMLApplicationLogic()
        logic.SetMRMLScene(target)
        logic.SetSliceLogics(vtk.vtkCollection())
        logic.GetColorLogic().SetMRMLScene(target)
        target.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(target)
        layout = slicer.vtkMRMLLayoutLogic()
        layout.SetMRMLScene(target)
        _applications[target] = _Application(logic, layout)
    return _applications[target].logic
