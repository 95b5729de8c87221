"""Volumes and label maps as nodes of the MRML scene of 3D Slicer, and back, with where they came from.

Owns the scene that is used by default, and what the application does for a scene: it runs unchanged inside Slicer and,
with the `slicer-core` wheel, outside of it.

`Volume` has LPS coordinates, MRML has RAS: the first two axes change sign, nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import slicer
import vtk
from IPv2Lib.colors import Entry
from IPv2Lib.errors import InputError
from IPv2Lib.hounsfield import LUNG_LEVEL, LUNG_WINDOW
from IPv2Lib.io.volume import Volume
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

_ATTRIBUTE_PREFIX = "IPv2."
_OF_FILES = frozenset({"input_place", "output", "output_sha256", "sidecar"})  # no provenance of a node
_LPS_TO_RAS = np.array([-1.0, -1.0, 1.0])


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


def adopt_labels(
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
    labels : ndarray of uint8 or uint16, shape (slices, rows, columns)
        On the grid of `volume`; the node shares its memory. 0 is transparent wherever the label map is shown.
    volume : Volume
        Gives the geometry.
    name : str
        Name of the label map node; the colour table is named after it.
    entries : sequence of (value, name, (red, green, blue))
        Colours 0 to 255, of every value other than 0 that occurs in `labels`.
    scene : vtkMRMLScene, optional
        Default: `scene()`.
    """
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


def show_window(node: slicer.vtkMRMLScalarVolumeNode, window: float = LUNG_WINDOW, level: float = LUNG_LEVEL) -> None:
    """Show a volume in grey from level - window/2 (black) to level + window/2 (white), HU."""
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID("vtkMRMLColorTableNodeGrey")
    set_window(display, window, level)


def set_window(display: slicer.vtkMRMLScalarVolumeDisplayNode, window: float, level: float) -> None:
    """Give what shows a volume another window and level, and let it choose none by itself."""
    state = display.StartModify()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(window, level)
    display.EndModify(state)


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


def nodes_of_class(target: slicer.vtkMRMLScene, class_name: str) -> list[slicer.vtkMRMLNode]:
    """Every node of a class, subclasses included, in the order of the scene."""
    return [target.GetNthNodeByClass(n, class_name) for n in range(target.GetNumberOfNodesByClass(class_name))]


def application_logic(target: slicer.vtkMRMLScene) -> slicer.vtkMRMLApplicationLogic:
    """The application logic of a scene: Slicer's own for Slicer's scene, else one made on first use.

    What is made with it knows what a layout, a colour legend and a sequence is, and removes nodes from the subject
    hierarchy.
    """
    if is_application(target):
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


def is_application(target) -> bool:
    """Whether a scene is the one that the application shows."""
    return hasattr(slicer, "app") and slicer.app.applicationLogic().GetMRMLScene() is target


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


def _scene_or_default(target):
    return scene() if target is None else target


@dataclass(frozen=True, eq=False)
class _Application:
    """What Slicer has beside a scene, for a scene without Slicer. Kept alive by `_applications`."""

    logic: object
    layout: object
    sequences: object


@vtk.calldata_type(vtk.VTK_OBJECT)
def _leave_subject_hierarchy(target, event, node) -> None:
    """What Slicer's subject hierarchy does by itself when a node is removed."""
    if target.IsClosing() or node.IsA("vtkMRMLSubjectHierarchyNode"):
        return
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(target)
    item = tree.GetItemByDataNode(node)
    if item != tree.GetInvalidItemID():
        tree.RemoveItem(item, False, False)


_applications: dict[slicer.vtkMRMLScene, _Application] = {}
