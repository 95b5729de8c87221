"""Results of denoising in a real MRML scene: complete or not at all, undone, saved and loaded, shown, re-blended."""

from pathlib import Path

import numpy as np
import pytest
from IPv2Lib.colors import nice_limit
from IPv2Lib.errors import InputError
from IPv2Lib.hounsfield import LUNG_LEVEL, LUNG_WINDOW
from IPv2Lib.inference.blending import blend, blend_and_subtract

slicer = pytest.importorskip("slicer", reason="MRML needs Slicer or its wheel: pip install slicer-core")
vtk = pytest.importorskip("vtk")

import rendering  # noqa: E402
from IPv2SlicerLib.scene import volume_nodes  # noqa: E402
from IPv2SlicerLib.scene.blending import COLUMNS, fill_region_table, set_strength, why_not_strength  # noqa: E402
from IPv2SlicerLib.scene.changes import subject_hierarchy, undoable_step  # noqa: E402
from IPv2SlicerLib.scene.denoised_nodes import add_denoised, link_windows, remove_unused_outputs, show_denoised  # noqa: E402
from IPv2SlicerLib.scene.result_nodes import nodes_of  # noqa: E402
from scene_state import PROVENANCE, STATISTICS, array, new_scene, pair, save_and_load, state, table_rows, tree_of  # noqa: E402


@pytest.fixture
def fresh():
    return new_scene()


def add(target, strength=0.5, statistics=STATISTICS, **arguments):
    volume, output = pair()
    node = volume_nodes.volume_to_node(volume, "CT", scene=target)
    volume_nodes.show_window(node, 400, 40)
    return add_denoised(node, output, strength, statistics, PROVENANCE, **arguments)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_the_result_is_the_blended_volume_and_the_difference_what_was_removed(fresh, dtype, strength):
    volume, output = pair(dtype)
    node = volume_nodes.volume_to_node(volume, "CT", scene=fresh)
    nodes = add_denoised(node, output, strength, STATISTICS, PROVENANCE)
    expected = blend(volume, output, strength).array
    assert array(nodes.denoised).dtype == array(nodes.difference).dtype == dtype
    np.testing.assert_array_equal(array(nodes.denoised), expected)
    np.testing.assert_array_equal(array(nodes.difference), volume.array - expected)
    for each in (nodes.denoised, nodes.difference):
        np.testing.assert_allclose(volume_nodes.node_to_volume(each).affine, volume.affine, atol=1e-9)
    np.testing.assert_array_equal(array(node), volume.array)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_what_another_thread_blended_is_used_if_it_is_of_this_strength(fresh, strength):
    volume, output = pair()
    node = volume_nodes.volume_to_node(volume, "CT", scene=fresh)
    blended = blend_and_subtract(volume, output, 0.3)
    nodes = add_denoised(node, output, strength, None, {}, blended=blended)
    np.testing.assert_array_equal(array(nodes.denoised), blend(volume, output, strength).array)
    np.testing.assert_array_equal(array(nodes.difference), volume.array - array(nodes.denoised))
    shares = np.shares_memory(volume_nodes.node_array(nodes.denoised), blended.denoised.array)
    assert shares == (strength == 0.3)


def test_names_window_provenance_table_and_colors(fresh):
    nodes = add(fresh, 0.5)
    names = [node.GetName() for node in (nodes.input, nodes.denoised, nodes.difference, nodes.table)]
    assert names == ["CT", "CT denoised", "CT difference", "CT regions"]
    look = nodes.denoised.GetDisplayNode()
    assert (look.GetWindow(), look.GetLevel(), look.GetAutoWindowLevel()) == (400, 40, 0)
    facts = volume_nodes.provenance(nodes.denoised)
    assert facts == {"model": "ipv2-fast", "strength": "0.5", "versions": '{"torch": "2.2"}'}
    assert nodes.table.GetTable().GetColumnName(3) == COLUMNS[3] == "σ before (HU)"
    assert table_rows(nodes.table) == [
        ["Lung and airways", "-850.0", "-848.0", "40.0", "20.0", "50.0"],
        ["Bone", "400.0", "400.5", "–", "–", "–"],
    ]
    difference = nodes.difference.GetDisplayNode()
    assert difference.GetLevel() == 0 and difference.GetWindow() / 2 == nice_limit(array(nodes.difference))
    assert fresh.GetFirstNodeByClass("vtkMRMLColorLegendDisplayNode").GetDisplayableNode() is nodes.difference


def test_no_statistics_no_table(fresh):
    nodes = add(fresh, statistics=None)
    assert nodes.table is None and nodes_of(nodes.denoised).table is None
    set_strength(nodes.denoised, 0.2)


def test_a_second_result_gets_another_name_and_the_same_colors(fresh):
    first = add(fresh)
    second = add_denoised(first.input, pair()[1], 1.0, STATISTICS, PROVENANCE)
    assert second.denoised.GetName() == "CT denoised_1"
    assert second.difference.GetDisplayNode().GetColorNode() is first.difference.GetDisplayNode().GetColorNode()


def test_the_source_need_not_have_been_shown(fresh):
    volume, output = pair()
    node = fresh.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "never shown")
    volume_nodes.fill_volume(node, volume)
    look = add_denoised(node, output, 1.0, None, {}).denoised.GetDisplayNode()
    assert (look.GetWindow(), look.GetLevel()) == (LUNG_WINDOW, LUNG_LEVEL)


def test_results_are_placed_beside_their_source(fresh):
    tree = subject_hierarchy(fresh)
    volume, output = pair()
    loose, filed = (volume_nodes.volume_to_node(volume, name, scene=fresh) for name in ("loose", "filed"))
    patient = tree.CreateSubjectItem(tree.GetSceneItemID(), "patient")
    study = tree.CreateStudyItem(patient, "study")
    tree.CreateItem(study, filed)
    for source, parent in ((loose, tree.GetSceneItemID()), (filed, study)):
        nodes = add_denoised(source, output, 1.0, STATISTICS, PROVENANCE)
        for node in (nodes.denoised, nodes.difference, nodes.table):
            assert tree.GetItemParent(tree.GetItemByDataNode(node)) == parent
    hidden = nodes.denoised.GetNodeReference("IPv2NetworkOutput")
    assert hidden.GetHideFromEditors() and tree.GetItemByDataNode(hidden) == tree.GetInvalidItemID()


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("strength", [0.0, 0.35, 1.0])
def test_another_strength_is_as_if_it_had_been_the_first(fresh, dtype, strength):
    volume, output = pair(dtype)
    node = volume_nodes.volume_to_node(volume, "CT", scene=fresh)
    nodes = add_denoised(node, output, 0.8, STATISTICS, PROVENANCE)
    limits = nodes.difference.GetDisplayNode().GetWindow()
    assert not why_not_strength(nodes.denoised)
    set_strength(nodes.denoised, strength)
    once = add_denoised(node, output, strength, STATISTICS, PROVENANCE)
    np.testing.assert_array_equal(array(nodes.denoised), array(once.denoised))
    np.testing.assert_array_equal(array(nodes.difference), array(once.difference))
    assert table_rows(nodes.table) == table_rows(once.table)
    assert volume_nodes.provenance(nodes.denoised) == volume_nodes.provenance(once.denoised)
    assert nodes.difference.GetDisplayNode().GetWindow() == limits


def test_a_new_strength_is_told_to_the_views_once_and_leaves_the_network_output_alone(fresh):
    nodes = add(fresh, 1.0)
    seen = []
    for node in (nodes.denoised, nodes.difference):
        node.AddObserver(node.ImageDataModifiedEvent, lambda *_: seen.append("image"))
        node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: seen.append("node"))
    views = show_denoised(nodes, slice_index=2)
    before = [rendering.render_view(view, (64, 48)) for view in views]
    seen.clear()
    set_strength(nodes.denoised, 0.0)
    assert 2 <= seen.count("image") <= 4 and seen.count("node") <= 4
    after = [rendering.render_view(view) for view in views]
    np.testing.assert_array_equal(after[0], before[0])
    np.testing.assert_array_equal(after[1], before[0])
    assert (before[1] != after[1]).any() and (before[2] != after[2]).any()
    set_strength(nodes.denoised, 1.0)
    np.testing.assert_array_equal(array(nodes.denoised), pair()[1].array)
    for picture, view in zip(before, views, strict=True):
        np.testing.assert_array_equal(rendering.render_view(view), picture)


def test_what_is_true_of_a_file_is_not_kept_on_a_node(fresh):
    of_a_file = {"output_sha256": "0" * 64, "output": "denoised.nrrd", "input_place": "00ff"}
    volume, output = pair()
    node = volume_nodes.volume_to_node(volume, "CT", scene=fresh)
    nodes = add_denoised(node, output, 0.5, None, {"model": "m", **of_a_file})
    assert volume_nodes.provenance(nodes.denoised).keys() == {"model", "strength"}
    nodes.denoised.SetAttribute("IPv2.output_sha256", "0" * 64)  # as in older scenes
    set_strength(nodes.denoised, 1.0)
    assert volume_nodes.provenance(nodes.denoised).keys() == {"model", "strength"}


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_an_impossible_strength_is_refused(fresh, strength):
    nodes = add(fresh)
    before = state(fresh)
    with pytest.raises(InputError, match="strength"):
        set_strength(nodes.denoised, strength)
    with pytest.raises(InputError, match="strength"):
        add_denoised(nodes.input, pair()[1], strength, None, {})
    assert state(fresh) == before


def test_why_a_strength_cannot_be_set(fresh):
    nodes = add(fresh)
    with pytest.raises(InputError, match="no result of denoising"):
        set_strength(nodes.input, 0.5)
    assert why_not_strength(None) and why_not_strength(nodes.input)
    volume_nodes.fill_volume(nodes.input, pair(shape=(3, 12, 16))[0])
    with pytest.raises(InputError, match="changed since"):
        set_strength(nodes.denoised, 0.5)
    fresh.RemoveNode(nodes.input)
    with pytest.raises(InputError, match="input of 'CT denoised' is not in the scene"):
        set_strength(nodes.denoised, 0.5)
    assert nodes_of(nodes.denoised).input is None


def test_a_result_whose_difference_or_table_was_removed_can_still_be_changed(fresh):
    nodes = add(fresh, 1.0)
    fresh.RemoveNode(nodes.difference)
    fresh.RemoveNode(nodes.table)
    set_strength(nodes.denoised, 0.0)
    np.testing.assert_array_equal(array(nodes.denoised), array(nodes.input))
    assert len(show_denoised(nodes_of(nodes.denoised))) == 2


# --- undo, failure ------------------------------------------------------------------------------------------


def test_undo_and_redo_of_a_result(fresh):
    fresh.SetUndoOn()
    node = volume_nodes.volume_to_node(pair()[0], "CT", scene=fresh)
    tree = subject_hierarchy(fresh)
    tree.CreateItem(tree.GetSceneItemID(), node)
    before = state(fresh)
    nodes = add_denoised(node, pair()[1], 0.5, STATISTICS, PROVENANCE)
    after = state(fresh)
    assert fresh.GetNumberOfUndoLevels() == 1
    fresh.Undo()
    assert state(fresh) == before
    fresh.Redo()
    back = state(fresh)
    # Slicer files nodes anew that come back, and finds the display of a legend by itself.
    for each in (back, after):
        each.pop("tree")
        each["vtkMRMLColorLegendDisplayNode1"].pop()
    assert back == after
    assert nodes_of(nodes.denoised) is not None and not why_not_strength(nodes.denoised)
    set_strength(nodes.denoised, 0.0)


def test_undo_of_a_result_in_an_existing_volume_brings_its_image_back(fresh):
    fresh.SetUndoOn()
    other = pair(shape=(2, 5, 7), seed=3)[0]
    output_node = volume_nodes.volume_to_node(other, "mine", scene=fresh, provenance={"model": "older"})
    volume_nodes.show_window(output_node, 123, 45)
    node = volume_nodes.volume_to_node(pair()[0], "CT", scene=fresh)
    before = state(fresh)
    nodes = add_denoised(node, pair()[1], 1.0, STATISTICS, PROVENANCE, output_node=output_node)
    assert nodes.denoised is output_node and output_node.GetName() == "CT denoised"
    np.testing.assert_array_equal(array(output_node), pair()[1].array)
    fresh.Undo()
    assert state(fresh) == before


def test_undo_of_a_second_result_brings_the_first_back(fresh):
    fresh.SetUndoOn()
    nodes = add(fresh, 0.7)
    before = state(fresh)
    second = pair(seed=5)[1]
    again = add_denoised(nodes.input, second, 1.0, STATISTICS, {"model": "other"}, output_node=nodes.denoised)
    assert (again.difference, again.table) == (nodes.difference, nodes.table)
    np.testing.assert_array_equal(array(nodes.difference), pair()[0].array - second.array)
    fresh.Undo()
    assert state(fresh) == before


def test_without_undo_nothing_is_kept_for_it(fresh):
    add(fresh)
    assert fresh.GetNumberOfUndoLevels() == 0


class Unprintable:
    """Fails when the provenance is written, which is after nodes were added."""

    def __str__(self):
        raise RuntimeError("in the middle")


@pytest.mark.parametrize("undo", [False, True])
@pytest.mark.parametrize("into", ["new", "existing", "earlier result"])
def test_a_failure_in_the_middle_leaves_the_scene_as_it_was(fresh, into, undo):
    if undo:
        fresh.SetUndoOn()
    earlier = add(fresh, 0.7)
    spare = volume_nodes.volume_to_node(pair(shape=(2, 5, 7))[0], "mine", scene=fresh)
    output_node = {"new": None, "existing": spare, "earlier result": earlier.denoised}[into]
    before, levels = state(fresh), fresh.GetNumberOfUndoLevels()
    with pytest.raises(RuntimeError, match="in the middle"):
        add_denoised(earlier.input, pair(seed=9)[1], 1.0, STATISTICS, {"model": Unprintable()}, output_node=output_node)
    assert state(fresh) == before
    assert (fresh.GetNumberOfUndoLevels(), fresh.GetNumberOfRedoLevels()) == (levels, 0)
    assert not why_not_strength(earlier.denoised)


def test_a_step_that_fails_takes_its_folders_back(fresh):
    tree = subject_hierarchy(fresh)
    before = tree_of(fresh)
    with pytest.raises(KeyError), undoable_step(fresh):
        tree.CreateFolderItem(tree.GetSceneItemID(), "stages")
        raise KeyError
    assert tree_of(fresh) == before


@pytest.mark.parametrize(
    ("choose", "message"),
    [
        (lambda nodes, labels: {"output_node": nodes.input}, "is the input"),
        (lambda nodes, labels: {"output_node": labels}, "choose a scalar volume"),
        (lambda nodes, labels: {"network_output": pair(shape=(4, 12, 15))[1]}, "grid of 'CT'"),
        (lambda nodes, labels: {"input_node": None}, "no volume is chosen"),
    ],
)
def test_what_cannot_be_added_is_refused_and_the_scene_stays(fresh, choose, message):
    nodes = add(fresh)
    labels = volume_nodes.adopt_labels(
        np.ones((4, 12, 16), np.uint8), pair()[0], "mask", ((1, "x", (9, 9, 9)),), scene=fresh
    )
    before = state(fresh)
    arguments = {"input_node": nodes.input, "network_output": pair()[1], **choose(nodes, labels)}
    with pytest.raises(InputError, match=message):
        add_denoised(strength=1.0, statistics=None, provenance={}, **arguments)
    assert state(fresh) == before


# --- saving -------------------------------------------------------------------------------------------------


def test_a_saved_result_is_found_with_everything_but_the_network_output(fresh, tmp_path):
    tree = subject_hierarchy(fresh)
    volume, output = pair(np.float32)
    node = volume_nodes.volume_to_node(volume, "CT", scene=fresh)
    tree.CreateItem(tree.CreateStudyItem(tree.GetSceneItemID(), "study"), node)
    nodes = add_denoised(node, output, 0.5, STATISTICS, PROVENANCE)
    show_denoised(nodes)
    opened = save_and_load(fresh, tmp_path)

    found = nodes_of(opened.GetFirstNodeByName("CT denoised"))
    assert [n.GetName() for n in (found.input, found.difference, found.table)] == ["CT", "CT difference", "CT regions"]
    np.testing.assert_array_equal(array(found.denoised), array(nodes.denoised))
    np.testing.assert_array_equal(array(found.difference), array(nodes.difference))
    assert volume_nodes.provenance(found.denoised) == volume_nodes.provenance(nodes.denoised)
    assert table_rows(found.table) == table_rows(nodes.table)
    assert found.table.GetTable().GetColumnName(5) == COLUMNS[5]
    look = found.difference.GetDisplayNode()
    assert look.GetWindow() == nodes.difference.GetDisplayNode().GetWindow() and look.GetLevel() == 0
    rgba = np.zeros(4)
    look.GetColorNode().GetColor(127, rgba)
    assert rgba.tolist() == [1, 1, 1, 1]
    assert opened.GetFirstNodeByName("IPv2 network output") is None
    tree = subject_hierarchy(opened)
    assert tree.GetItemName(tree.GetItemParent(tree.GetItemByDataNode(found.table))) == "study"
    # Volumes that are added after loading may get the ID of the hidden node.
    for number in range(6):
        volume_nodes.volume_to_node(volume, f"later {number}", scene=opened)
    assert why_not_strength(found.denoised)
    with pytest.raises(InputError, match="not saved with a scene"):
        set_strength(found.denoised, 0.3)
    assert len(show_denoised(found)) == 3
    files = {Path(path.name).suffix for path in tmp_path.rglob("*") if path.is_file()}
    assert len(list(tmp_path.rglob("*.nrrd"))) == 3, files
    # And a new result may go into the one that was loaded.
    again = add_denoised(found.input, output, 1.0, STATISTICS, {}, output_node=found.denoised)
    assert again.difference is found.difference and not why_not_strength(again.denoised)


def test_what_the_network_said_goes_with_its_result(fresh):
    first, second = add(fresh), add(fresh)

    def outputs() -> int:
        found = volume_nodes.nodes_of_class(fresh, "vtkMRMLScalarVolumeNode")
        return sum(node.GetName() == "IPv2 network output" for node in found)

    remove_unused_outputs(fresh)
    assert outputs() == 2 and not why_not_strength(first.denoised)
    fresh.RemoveNode(first.denoised)
    fresh.SetUndoOn()
    remove_unused_outputs(fresh)
    assert outputs() == 2  # Undo may need it
    fresh.SetUndoOff()
    remove_unused_outputs(fresh)
    assert outputs() == 1 and not why_not_strength(second.denoised)


def test_a_closed_scene_is_used_again(fresh):
    first = add(fresh)
    show_denoised(first)
    del first
    fresh.Clear(False)
    nodes = add(fresh, 1.0)
    views = show_denoised(nodes)
    assert [rendering.render_view(view, (40, 30)).any() for view in views] == [True] * 3
    set_strength(nodes.denoised, 0.5)


# --- showing ------------------------------------------------------------------------------------------------


def test_comparison_shows_input_denoised_and_difference_linked(fresh):
    nodes = add(fresh, 1.0)
    views = show_denoised(nodes, slice_index=1)
    composites = volume_nodes.nodes_of_class(fresh, "vtkMRMLSliceCompositeNode")
    shown = {composite.GetLayoutName(): composite for composite in composites}
    volumes = [nodes.input, nodes.denoised, nodes.difference]
    assert [shown[view.GetLayoutName()].GetBackgroundVolumeID() for view in views] == [v.GetID() for v in volumes]
    assert all(shown[view.GetLayoutName()].GetHotLinkedControl() for view in views)
    nodes.denoised.GetDisplayNode().SetWindowLevel(1000, -300)
    left = nodes.input.GetDisplayNode()
    assert (left.GetWindow(), left.GetLevel()) == (1000, -300)
    difference = nodes.difference.GetDisplayNode()
    assert difference.GetLevel() == 0


def test_showing_another_result_lets_the_first_go(fresh):
    first, second = add(fresh), add(fresh)
    show_denoised(first)
    show_denoised(second)
    first.input.GetDisplayNode().SetWindowLevel(10, 20)
    assert first.denoised.GetDisplayNode().GetWindow() == 400
    second.input.GetDisplayNode().SetWindowLevel(11, 22)
    assert second.denoised.GetDisplayNode().GetWindow() == 11


def test_linked_windows_follow_each_other_without_a_loop(fresh):
    a, b = (volume_nodes.volume_to_node(pair()[0], name, scene=fresh) for name in "ab")
    volume_nodes.show_window(a, 300, 30)
    link = link_windows(a, b)
    events = []
    for node in (a, b):
        node.GetDisplayNode().AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: events.append(1))

    def windows():
        return [(n.GetDisplayNode().GetWindow(), n.GetDisplayNode().GetLevel()) for n in (a, b)]

    assert windows() == [(300, 30)] * 2
    b.GetDisplayNode().SetWindowLevel(1234.5678, -0.1)
    assert windows() == [(1234.5678, -0.1)] * 2 and len(events) <= 4
    a.GetDisplayNode().SetWindow(77)
    assert windows() == [(77, -0.1)] * 2
    b.GetDisplayNode().SetAutoWindowLevel(True)
    assert windows()[0] == windows()[1]
    volume_nodes.show_window(a, 5, 6)  # another display node, or a new one, is followed too
    look = fresh.AddNewNodeByClass("vtkMRMLScalarVolumeDisplayNode")
    b.SetAndObserveDisplayNodeID(look.GetID())
    look.SetWindowLevel(8, 9)
    assert windows() == [(8, 9)] * 2
    link.release()
    link.release()
    a.GetDisplayNode().SetWindowLevel(1, 2)
    assert windows() == [(1, 2), (8, 9)]


def test_a_link_does_not_outlive_its_volumes(fresh):
    a, b = (volume_nodes.volume_to_node(pair()[0], name, scene=fresh) for name in "ab")
    link = link_windows(a, b)
    fresh.RemoveNode(b)
    del b
    a.GetDisplayNode().SetWindowLevel(10, 20)
    fresh.Clear(False)
    del a
    link.release()


def test_the_difference_is_white_where_nothing_was_removed(fresh):
    volume, output = pair()
    output.array[:, :6] = volume.array[:, :6]
    node = volume_nodes.volume_to_node(volume, "CT", scene=fresh)
    view = show_denoised(add_denoised(node, output, 1.0, None, {}), slice_index=2)[2]
    picture = rendering.render_view(view, (64, 48))
    shown = picture.reshape(-1, 3)
    assert (picture == 255).all(axis=2).mean() > 0.15
    redder, bluer = shown[:, 0] > shown[:, 2], shown[:, 0] < shown[:, 2]
    assert redder.sum() > 50 and bluer.sum() > 50


def test_a_table_without_rows_has_its_columns(fresh):
    node = fresh.AddNewNodeByClass("vtkMRMLTableNode", "table")
    fill_region_table(node, [])
    assert [node.GetTable().GetColumnName(n) for n in range(6)] == list(COLUMNS)
    assert node.GetLocked()
