"""Volumes and label maps to MRML nodes and back, on real MRML."""

import zipfile

import numpy as np
import pytest
from IPv2Lib.errors import InputError
from IPv2Lib.io.volume import Volume

slicer = pytest.importorskip("slicer", reason="MRML needs Slicer or its wheel: pip install slicer-core")
vtk = pytest.importorskip("vtk")

from IPv2SlicerLib.scene import display, volume_nodes  # noqa: E402

ENTRIES = ((0, "Outside", (0, 0, 0)), (1, "Air", (10, 20, 30)), (3, "Lung", (90, 180, 230)))


def rotation(axis: tuple[float, float, float], degrees: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = np.array(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def some_volume(dtype=np.int16, shape=(3, 4, 5), direction=None) -> Volume:
    array = np.random.default_rng(0).normal(-500, 300, shape).astype(dtype)
    direction = np.eye(3) if direction is None else direction
    return Volume(array, spacing=(0.7, 0.8, 2.5), origin=(-12.25, 40.5, -300.1), direction=tuple(direction.ravel()))


DIRECTIONS = {
    "identity": np.eye(3),
    "feet first": np.diag([1.0, -1.0, -1.0]),
    "left-handed": np.diag([1.0, 1.0, -1.0]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
    "oblique": rotation((1, 2, 3), 17.3),
}


@pytest.fixture
def fresh():
    return slicer.vtkMRMLScene()


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_a_volume_comes_back_exactly(fresh, dtype, direction):
    volume = some_volume(dtype, direction=direction)
    back = volume_nodes.node_to_volume(volume_nodes.volume_to_node(volume, "CT", scene=fresh))
    assert back.array.dtype == dtype
    np.testing.assert_array_equal(back.array, volume.array)
    assert (back.spacing, back.origin, back.direction) == (volume.spacing, volume.origin, volume.direction)


@pytest.mark.parametrize("shape", [(1, 4, 5), (1, 2, 2), (3, 1, 5)])
def test_one_slice_comes_back_exactly(fresh, shape):
    volume = some_volume(shape=shape)
    back = volume_nodes.node_to_volume(volume_nodes.volume_to_node(volume, "CT", scene=fresh))
    np.testing.assert_array_equal(back.array, volume.array)


@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_every_voxel_is_where_it_was(fresh, direction):
    volume = some_volume(direction=direction)
    matrix = vtk.vtkMatrix4x4()
    volume_nodes.volume_to_node(volume, "CT", scene=fresh).GetIJKToRASMatrix(matrix)
    voxel = (4, 3, 2, 1)
    x, y, z, _ = volume.affine @ voxel
    np.testing.assert_allclose(matrix.MultiplyPoint(voxel), (-x, -y, z, 1), rtol=0, atol=1e-10)


def test_nodes_and_volumes_do_not_share_memory(fresh):
    volume = some_volume()
    node = volume_nodes.volume_to_node(volume, "CT", scene=fresh)
    value = volume.array[0, 0, 0]
    volume.array[0, 0, 0] = value + 1
    back = volume_nodes.node_to_volume(node)
    assert back.array[0, 0, 0] == value
    fresh.RemoveNode(node)
    del node
    assert back.array[0, 0, 0] == value


def test_read_only_and_strided_arrays_are_taken(fresh):
    array = np.arange(2 * 4 * 6, dtype=np.int16).reshape(2, 4, 6)[:, ::-1, ::2]
    array.flags.writeable = False
    back = volume_nodes.node_to_volume(volume_nodes.volume_to_node(Volume(array), "CT", scene=fresh))
    np.testing.assert_array_equal(back.array, array)


def test_outside_of_slicer_the_scene_is_made_once_and_is_the_default():
    assert volume_nodes.scene() is volume_nodes.scene() is slicer.mrmlScene
    node = volume_nodes.volume_to_node(some_volume(), "default scene")
    assert node.GetScene() is slicer.mrmlScene
    slicer.mrmlScene.RemoveNode(node)


def test_a_new_volume_is_shown_in_the_lung_window(fresh):
    look = volume_nodes.volume_to_node(some_volume(), "CT", scene=fresh).GetDisplayNode()
    assert (look.GetWindow(), look.GetLevel(), look.GetAutoWindowLevel()) == (1500, -600, 0)


def test_provenance_is_kept_as_attributes(fresh):
    values = {"model": "unet", "strength": 0.5, "versions": {"torch": "2.2"}}
    node = volume_nodes.volume_to_node(some_volume(), "CT", scene=fresh, provenance=values)
    assert node.GetAttribute("IPv2.model") == "unet"
    node.SetAttribute("Other.key", "not ours")
    assert volume_nodes.provenance(node) == {"model": "unet", "strength": "0.5", "versions": '{"torch": "2.2"}'}


def add_vector_volume(target):
    node = target.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colour")
    image = vtk.vtkImageData()
    image.SetDimensions(4, 4, 2)
    image.AllocateScalars(vtk.VTK_UNSIGNED_CHAR, 3)
    node.SetAndObserveImageData(image)
    return node


def add_transformed_volume(target):
    node = volume_nodes.volume_to_node(some_volume(), "moved", scene=target)
    transform = target.AddNewNodeByClass("vtkMRMLLinearTransformNode", "registration")
    node.SetAndObserveTransformNodeID(transform.GetID())
    return node


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda target: None, "no volume is chosen"),
        (lambda target: target.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "new"), "'new' is empty"),
        (add_vector_volume, "'colour' has 3 values per voxel"),
        (lambda target: target.AddNewNodeByClass("vtkMRMLSequenceNode", "4-D"), "'4-D' is a Sequence node"),
        (lambda target: target.AddNewNodeByClass("vtkMRMLModelNode", "mesh"), "'mesh' is a Model node"),
        (add_transformed_volume, "'moved' is under the transform 'registration': harden"),
    ],
)
def test_what_is_no_volume_is_refused(fresh, make, message):
    node = make(fresh)
    with pytest.raises(InputError, match=message):
        volume_nodes.node_to_volume(node)


def test_a_label_map_names_its_labels_and_keeps_its_place(fresh):
    volume = some_volume(direction=DIRECTIONS["oblique"])
    labels = np.zeros(volume.array.shape, np.uint8)
    labels[1, 2] = 3
    node = volume_nodes.adopt_labels(labels, volume, "regions", ENTRIES, scene=fresh)
    table = node.GetDisplayNode().GetColorNode()
    assert [table.GetColorName(value) for value in (1, 3)] == ["Air", "Lung"]
    rgba = np.zeros(4)
    table.GetColor(3, rgba)
    np.testing.assert_allclose(rgba * 255, (90, 180, 230, 255), atol=0.5)
    table.GetColor(0, rgba)
    assert rgba[3] == 0
    back = volume_nodes.node_to_volume(node)
    np.testing.assert_array_equal(back.array, labels)
    assert (back.spacing, back.origin, back.direction) == (volume.spacing, volume.origin, volume.direction)


def test_two_label_maps_have_two_tables(fresh):
    volume = some_volume()
    labels = np.ones(volume.array.shape, np.uint8)
    first, second = (
        volume_nodes.adopt_labels(labels, volume, "mask", ((1, name, (255, 0, 0)),), scene=fresh) for name in ("a", "b")
    )
    names = [node.GetDisplayNode().GetColorNode().GetColorName(1) for node in (first, second)]
    assert names == ["a", "b"]


def test_a_saved_scene_opens_with_everything_in_it(fresh, tmp_path):
    volume = some_volume(np.float32, direction=DIRECTIONS["oblique"])
    labels = np.zeros(volume.array.shape, np.uint8)
    labels[0] = 1
    volume_nodes.volume_to_node(volume, "result", scene=fresh, provenance={"model": "unet"})
    volume_nodes.adopt_labels(labels, volume, "regions", ENTRIES, scene=fresh)
    difference = volume_nodes.volume_to_node(volume, "difference", scene=fresh)
    display.show_difference(difference, 150)
    display.show_compare([fresh.GetFirstNodeByName("result"), difference])
    assert fresh.WriteToMRB(str(tmp_path / "case.mrb"), None)

    opened = slicer.vtkMRMLScene()
    display.show_compare([volume_nodes.volume_to_node(volume, "in the way", scene=opened)])  # as in a scene in use
    with zipfile.ZipFile(tmp_path / "case.mrb") as archive:
        archive.extractall(tmp_path)
    opened.SetURL(str(next(tmp_path.glob("*/*.mrml"))))
    assert opened.Connect()
    assert opened.GetFirstNodeByName("in the way") is None
    back = volume_nodes.node_to_volume(opened.GetFirstNodeByName("result"))
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_allclose(back.affine, volume.affine, rtol=0, atol=1e-9)
    assert volume_nodes.provenance(opened.GetFirstNodeByName("result")) == {"model": "unet"}
    table = opened.GetFirstNodeByName("regions").GetDisplayNode().GetColorNode()
    assert table.GetColorName(3) == "Lung"
    look = opened.GetFirstNodeByName("difference").GetDisplayNode()
    assert (look.GetWindow(), look.GetLevel()) == (300, 0)
    assert look.GetColorNode().GetNumberOfColors() == 256
    assert opened.GetFirstNodeByClass("vtkMRMLColorLegendDisplayNode").GetTitleText() == "Difference (HU)"
    composite = opened.GetFirstNodeByClass("vtkMRMLSliceCompositeNode")
    assert composite.GetLinkedControl()
