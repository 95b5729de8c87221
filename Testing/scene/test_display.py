"""What slice views show: known pixels from Slicer's slice pipeline."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from IPv2Lib.colors import difference_colors
from IPv2Lib.errors import InputError
from IPv2Lib.io.volume import Volume

slicer = pytest.importorskip("slicer", reason="MRML needs Slicer or its wheel: pip install slicer-core")

import rendering  # noqa: E402
from IPv2SlicerLib.scene import display, volume_nodes  # noqa: E402

ENTRIES = ((1, "Lung", (40, 120, 250)), (2, "Bone", (250, 200, 0)))


@pytest.fixture
def fresh():
    return slicer.vtkMRMLScene()


def ramp(shape=(5, 6, 8), spacing=(0.7, 0.7, 2.0), **geometry) -> Volume:
    """Every voxel has another value, 0 to 10 HU per voxel apart."""
    return Volume(np.arange(np.prod(shape), dtype=np.int16).reshape(shape) * 4 - 1000, spacing, **geometry)


def grey(hu, window=1000.0, level=-500.0) -> np.ndarray:
    """The window of DICOM PS3.3 C.11.2.1.2.1 in its exact form, with VTK's cut decimals."""
    return np.clip((np.asarray(hu, float) - (level - window / 2)) / window * 255, 0, 255).astype(np.uint8)


def draw(volume, *, limit_hu=None, labels=None, opacity=1.0, size=None, orientation="axial", slice_index=None):
    """A volume, or a difference up to a limit, in a slice view; by default a pixel is as wide as a voxel."""
    target = slicer.vtkMRMLScene()
    node = volume_nodes.volume_to_node(volume, "CT", scene=target)
    if limit_hu is None:
        volume_nodes.show_window(node, 1000, -500)
    else:
        display.show_difference(node, limit_hu)
    where = {"orientation": orientation, "slice_index": slice_index}
    (view,) = display.show_compare([node], **where)
    across, up = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[orientation]
    count, mm = volume.array.shape[::-1], volume.spacing
    view.SetDimensions(*(size or (count[across], round(count[up] * mm[up] / mm[across]))), 1)
    display.show_compare([node], **where)  # of this size now
    if labels is not None:
        mask = volume_nodes.adopt_labels(labels, volume, "mask", ENTRIES, scene=target)
        display.show_overlay(node, mask, opacity, [view])
    return rendering.render_view(view).astype(int)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("index", [0, 2, 4])
def test_an_axial_slice_is_the_array_in_the_window(index, dtype):
    volume = ramp()
    picture = draw(volume.with_array(volume.array.astype(dtype)), slice_index=index)
    assert picture.shape == (6, 8, 3)
    for channel in range(3):
        np.testing.assert_allclose(picture[..., channel], grey(volume.array[index]), atol=1)


def test_patient_right_is_left_and_anterior_is_up():
    """LPS: columns run to the left of the patient, rows to the back, slices to the head."""
    array = np.full((3, 6, 8), -1000, np.int16)
    array[1, 0, :], array[1, :, 0] = -500, 0  # anterior edge grey, right edge white
    picture = draw(Volume(array), slice_index=1)[..., 0]
    assert (picture[:, 0] == 255).all()
    assert (picture[0, 1:] == 127).all()
    assert (picture[1:, 1:] == 0).all()


def test_coronal_and_sagittal_have_the_head_up_and_square_pixels():
    array = np.full((4, 6, 8), -1000, np.int16)
    array[-1] = 0
    array[:, :, 0] = -500  # patient right
    volume = Volume(array, spacing=(1, 1, 3))
    coronal = draw(volume, orientation="coronal")[..., 0]
    assert coronal.shape == (12, 8)
    # The slices lie 3 pixels apart: at rows 1 (head), 4, 7 and 10.
    assert (coronal[1, 1:] == 255).all()
    assert (coronal[4:11, 1:] == 0).all()
    assert (coronal[1:11, 0] == 127).all()
    array[:, 0, :] = -500  # anterior
    sagittal = draw(volume, orientation="sagittal")[..., 0]
    assert sagittal.shape == (12, 6)
    assert (sagittal[1, 1:] == 255).all()
    assert (sagittal[1:11, 0] == 127).all()


@pytest.mark.parametrize("flip", [(1, 1, -1), (-1, -1, 1), (1, -1, -1)])
def test_the_same_patient_looks_the_same_however_the_array_is_stored(flip):
    volume = ramp()
    slices, rows, columns = volume.array.shape
    first = [count - 1 if sign < 0 else 0 for sign, count in zip(flip, (columns, rows, slices), strict=True)]
    stored = Volume(
        volume.array[:: flip[2], :: flip[1], :: flip[0]],
        volume.spacing,
        origin=(volume.affine @ [*first, 1])[:3],
        direction=np.diag(flip).ravel(),
    )
    index = 1 if flip[2] > 0 else slices - 2
    np.testing.assert_array_equal(draw(stored, slice_index=index), draw(volume, slice_index=1))


def test_an_oblique_scan_is_shown_along_its_own_axes():
    angle = np.radians(12)
    tilt = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    volume = ramp()
    tilted = Volume(volume.array, volume.spacing, (5, -7, 30), tuple(tilt.ravel()))
    np.testing.assert_allclose(draw(tilted, slice_index=3), draw(volume, slice_index=3), atol=1)


def test_a_single_slice_can_be_drawn():
    picture = draw(ramp((1, 6, 8)))
    np.testing.assert_allclose(picture[..., 0], grey(ramp((1, 6, 8)).array[0]), atol=1)


def test_size_fits_the_whole_slice_with_black_around():
    picture = draw(Volume(np.zeros((1, 8, 8), np.int16)), size=(32, 16))[..., 0]
    assert picture.shape == (16, 32)
    assert (picture[2:-2, 10:22] == 255).all()
    assert (picture[:, :7] == 0).all()
    assert (picture[:, -7:] == 0).all()


def test_labels_are_blended_over_the_slice():
    volume = ramp()
    labels = np.zeros(volume.array.shape, np.uint8)
    labels[2, 1:3, 2:4], labels[2, 4, 5] = 1, 2
    picture = draw(volume, slice_index=2, labels=labels, opacity=0.4)
    plain = draw(volume, slice_index=2)
    for value, _, color in ENTRIES:
        here = labels[2] == value
        np.testing.assert_allclose(picture[here], 0.6 * plain[here] + 0.4 * np.array(color), atol=2)
    np.testing.assert_array_equal(picture[labels[2] == 0], plain[labels[2] == 0])


def test_zero_difference_is_white_and_both_signs_have_their_colors():
    hu = np.array([0, 0.3, 5, 40, 99, 100, 500], np.float32)
    array = np.stack([hu, -hu])[None].repeat(2, axis=1)
    picture = draw(Volume(array), limit_hu=100)
    positive, negative = picture[0], picture[-1]
    for side, end in ((positive, difference_colors()[-1]), (negative, difference_colors()[0])):
        assert side[0].tolist() == side[1].tolist() == [255, 255, 255]
        assert side[-1].tolist() == side[-2].tolist() == end.tolist()
        assert (np.diff(side.sum(axis=1))[1:4] < 0).all()


def test_a_difference_node_has_a_symmetric_range_one_table_and_a_legend(fresh):
    first, second = (volume_nodes.volume_to_node(ramp(), name, scene=fresh) for name in "ab")
    display.show_difference(first, 150)
    display.show_difference(second, 80)
    display.show_difference(second, 90)
    look = second.GetDisplayNode()
    assert (look.GetWindow(), look.GetLevel()) == (180, 0)
    assert look.GetColorNode() is first.GetDisplayNode().GetColorNode()
    assert fresh.GetNumberOfNodesByClass("vtkMRMLColorLegendDisplayNode") == 2
    for limit in (0, -5, float("nan"), float("inf")):
        with pytest.raises(InputError, match="positive limit"):
            display.show_difference(first, limit)


def test_differences_follow_the_style_also_those_of_earlier_versions(fresh):
    node, plain = (volume_nodes.volume_to_node(ramp(), name, scene=fresh) for name in "ab")
    display.show_difference(node, 100)
    old = fresh.AddNewNodeByClass("vtkMRMLColorTableNode", "IPv2 difference")
    node.GetDisplayNode().SetAndObserveColorNodeID(old.GetID())
    for dark in (True, False):
        display.follow_style(fresh, dark)
        later = volume_nodes.volume_to_node(ramp(), "later", scene=fresh)
        display.show_difference(later, 100)
        rgba = [0.0] * 4
        for each in (node, later):
            each.GetDisplayNode().GetColorNode().GetColor(127, rgba)
            assert rgba[:3] == pytest.approx(difference_colors(dark)[127] / 255)
    assert plain.GetDisplayNode().GetColorNode() is not node.GetDisplayNode().GetColorNode()
    tables = volume_nodes.nodes_of_class(fresh, "vtkMRMLColorTableNode")
    assert sum(table.GetName().startswith("IPv2 difference, ") for table in tables) == 2


def test_compare_views_are_linked_and_show_the_same_place(fresh):
    volumes = [ramp(), ramp().with_array(ramp().array + 300), ramp().with_array(ramp().array // 2)]
    nodes = [volume_nodes.volume_to_node(volume, f"volume {n}", scene=fresh) for n, volume in enumerate(volumes)]
    for node in nodes:
        volume_nodes.show_window(node, 1000, -500)
    views = display.show_compare(nodes, slice_index=3)
    layout = fresh.GetFirstNodeByClass("vtkMRMLLayoutNode")
    assert layout.GetViewArrangement() > layout.SlicerLayoutUserView
    assert layout.GetCurrentLayoutDescription().count("vtkMRMLSliceNode") == 3
    composites = [fresh.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode") for n in range(3)]
    assert fresh.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode") == 3
    assert all(composite.GetLinkedControl() and composite.GetHotLinkedControl() for composite in composites)
    assert len({view.GetSliceOffset() for view in views}) == len({view.GetFieldOfView() for view in views}) == 1
    for view, volume in zip(views, volumes, strict=True):
        picture = rendering.render_view(view)
        height, width = picture.shape[:2]
        columns = ((np.arange(8) + 0.5) * width / 8).astype(int)
        middle = picture[height // 2 + 1, columns, 0].astype(float)
        expected = (grey(volume.array[3, 2]).astype(float) + grey(volume.array[3, 3])) / 2
        np.testing.assert_allclose(middle, expected, atol=4)


def test_compare_again_replaces_the_views_content(fresh):
    nodes = [volume_nodes.volume_to_node(ramp(), name, scene=fresh) for name in "abc"]
    display.show_compare(nodes)
    views = display.show_compare(nodes[::-1][:2], orientation="coronal")
    assert [view.GetName() for view in views] == ["IPv2View1", "IPv2View2"]
    fresh.Clear(False)
    node = volume_nodes.volume_to_node(ramp(), "after the scene was closed", scene=fresh)
    assert rendering.render_view(display.show_compare([node])[0], (40, 30)).any()


def test_volumes_are_compared_in_their_own_slices(fresh):
    coronal = ramp(direction=(1, 0, 0, 0, 0, 1, 0, -1, 0))  # slices one behind the other, rows from head to foot
    node = volume_nodes.volume_to_node(coronal, "coronal", scene=fresh)
    volume_nodes.show_window(node, 1000, -500)
    (view,) = display.show_compare([node], slice_index=4)
    picture = rendering.render_view(view, (160, 120)).astype(int)
    expected = grey(coronal.array[4])
    shown = picture[..., 0][picture.any(axis=2)]
    assert expected.min() - 4 <= shown.min() and shown.max() <= expected.max() + 4


def test_an_overlay_in_the_views_of_the_scene(fresh):
    volume = Volume(np.full((3, 8, 8), -500, np.int16))
    node = volume_nodes.volume_to_node(volume, "CT", scene=fresh)
    labels = volume_nodes.adopt_labels(np.ones((3, 8, 8), np.uint8), volume, "mask", ENTRIES[:1], scene=fresh)
    views = display.show_compare([node, node])
    display.show_overlay(node, labels, 0.5, views[:1])
    volume_nodes.show_window(node, 1000, -500)
    over, plain = (rendering.render_view(view, (32, 32))[16, 16].astype(int) for view in views)
    assert plain.tolist() == [127, 127, 127]
    np.testing.assert_allclose(over, (plain + ENTRIES[0][2]) / 2, atol=1)
    display.show_overlay(node, None)
    assert rendering.render_view(views[0])[16, 16].tolist() == [127, 127, 127]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"orientation": "oblique"}, "unknown orientation 'oblique'"),
        ({"slice_index": 5}, "no axial slice 5: use 0 to 4"),
        ({"slice_index": -1}, "no axial slice -1"),
    ],
)
def test_what_cannot_be_shown_is_refused(fresh, arguments, message):
    node = volume_nodes.volume_to_node(ramp(), "CT", scene=fresh)
    with pytest.raises(InputError, match=message):
        display.show_compare([node], **{"orientation": "axial", **arguments})


@pytest.mark.parametrize("count", [0, 10])
def test_too_few_or_too_many_volumes_cannot_be_compared(fresh, count):
    node = volume_nodes.volume_to_node(ramp(), "CT", scene=fresh)
    with pytest.raises(InputError, match="1 to 9"):
        display.show_compare([node] * count)


def test_without_display_drawing_says_nothing_and_needs_neither_opengl_nor_torch():
    code = (
        "import sys, numpy as np\n"
        "from IPv2Lib.io.volume import Volume\n"
        "import rendering\n"
        "from IPv2SlicerLib.scene import display, volume_nodes\n"
        "volume = Volume(np.zeros((2, 8, 8), np.int16))\n"
        "node = volume_nodes.volume_to_node(volume, 'CT')\n"
        "display.show_difference(node)\n"
        "entries = ((1, 'all', (255, 0, 0)),)\n"
        "labels = volume_nodes.adopt_labels(np.ones((2, 8, 8), np.uint8), volume, 'mask', entries)\n"
        "views = display.show_compare([node, node])\n"
        "display.show_overlay(node, labels, views=views)\n"
        "rendering.render_view(views[1])\n"
        "assert 'torch' not in sys.modules\n"
        "if sys.platform == 'linux':\n"
        "    loaded = open('/proc/self/maps').read()\n"
        "    assert not any(name in loaded for name in ('libEGL', 'libGL.', 'libX11'))\n"
    )
    places = (Path(volume_nodes.__file__).parents[2], Path(__file__).parents[1])
    environment = {"PYTHONPATH": os.pathsep.join(map(str, places)), "PATH": ""}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
