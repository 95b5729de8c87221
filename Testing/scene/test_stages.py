"""Stages of a purification in a real MRML scene: nodes, folder, display, undo, saving."""

import zipfile
from dataclasses import replace

import numpy as np
import pytest
from IPv2Lib.colors import nice_limit
from IPv2Lib.errors import InputError, OutputError
from IPv2Lib.purification.purify import needed_for_slice, purify
from IPv2Lib.purification.settings import IPV1, Settings
from IPv2Lib.purification.stage_files import read_stages
from IPv2Lib.purification.stages import CM2_ENTRIES, DARK_ENTRIES
from IPv2Lib.simulation import phantom

slicer = pytest.importorskip("slicer", reason="MRML needs Slicer or its wheel: pip install slicer-core")
vtk = pytest.importorskip("vtk")

import rendering  # noqa: E402
from IPv2SlicerLib.scene import display, volume_nodes  # noqa: E402
from IPv2SlicerLib.scene.changes import subject_hierarchy  # noqa: E402
from IPv2SlicerLib.scene.stage_nodes import (  # noqa: E402
    STAGES,
    add_stages,
    export_stages,
    find_stages,
    show_stage,
    show_stages_side_by_side,
    stage_list,
    stages_of,
)


@pytest.fixture
def fresh():
    target = slicer.vtkMRMLScene()
    volume_nodes.application_logic(target)
    subject_hierarchy(target)
    return target


@pytest.fixture(scope="module")
def pair():
    return phantom.pair(seed=2, size=96, slices=4)


@pytest.fixture(scope="module")
def stages(pair):
    return purify(pair.uldct, pair.ndct)


@pytest.fixture
def uldct_node(fresh, pair):
    node = volume_nodes.volume_to_node(pair.uldct, "scan", scene=fresh)
    tree = subject_hierarchy(fresh)
    tree.CreateItem(tree.CreateStudyItem(tree.GetSceneItemID(), "study"), node)
    volume_nodes.show_window(node, 1000, -500)
    return node


def node_ids(target) -> list[str]:
    return [node.GetID() for node in volume_nodes.nodes_of_class(target, "vtkMRMLNode")]


def tree_of(target) -> list[tuple[str, str]]:
    tree, items = subject_hierarchy(target), vtk.vtkIdList()
    tree.GetItemChildren(tree.GetSceneItemID(), items, True)
    ids = [items.GetId(n) for n in range(items.GetNumberOfIds())]
    return [(tree.GetItemName(item), tree.GetItemName(tree.GetItemParent(item))) for item in ids]


def same_stages(a, b) -> None:
    assert a.settings == b.settings
    for (name, _, image), (other, _, found) in zip(a.steps(), b.steps(), strict=True):
        assert name == other
        arrays = [getattr(each, "array", each) for each in (image, found)]
        np.testing.assert_array_equal(*arrays, err_msg=name)
        assert arrays[0].dtype == arrays[1].dtype


def test_every_stage_is_a_node_in_a_folder_beside_the_source(fresh, uldct_node, stages):
    nodes = add_stages(stages, uldct_node)
    assert [stage.key for stage in nodes.stages] == [stage.key for stage in STAGES]
    assert nodes.nodes["uldct"] is uldct_node
    assert ("scan purification", "study") in tree_of(fresh)
    filed = [name for name, parent in tree_of(fresh) if parent == "scan purification"]
    assert filed == [f"scan purification: {stage.title}" for stage in STAGES[1:]]
    for stage in STAGES:
        node = nodes.nodes[stage.key]
        kind = "vtkMRMLLabelMapVolumeNode" if stage.entries else "vtkMRMLScalarVolumeNode"
        assert node.GetClassName() == kind
        np.testing.assert_allclose(volume_nodes.node_to_volume(node).affine, stages.uldct.affine, atol=1e-9)
    table = nodes.nodes["dark"].GetDisplayNode().GetColorNode()
    assert [table.GetColorName(value) for value in (1, 2, 3)] == [name for _, name, _ in DARK_ENTRIES]
    look = nodes.nodes["training_input"].GetDisplayNode()
    assert (look.GetWindow(), look.GetLevel()) == (1000, -500)
    assert volume_nodes.provenance(nodes.nodes["cm2"])["settings"].startswith('{"remove_background": true')


def test_stages_come_back_out_of_the_scene(uldct_node, stages, tmp_path):
    nodes = add_stages(stages, uldct_node)
    same_stages(stages_of(nodes), stages)
    same_stages(read_stages(export_stages(nodes, tmp_path / "item", compress=False)), stages)
    with pytest.raises(InputError, match=r"not empty|earlier result"):
        export_stages(nodes, tmp_path / "item")
    (tmp_path / "file").write_text("")
    with pytest.raises((InputError, OutputError)):
        export_stages(nodes, tmp_path / "file" / "below")


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        (IPV1, {"simulated", "weakly_denoised", "training_input_difference", "test_label_difference"}),
        (Settings(add_noise=False), {"simulated"}),
        (Settings(remove_noise=False), {"weakly_denoised"}),
    ],
)
def test_stages_that_were_not_made_are_not_listed(uldct_node, pair, settings, missing):
    stages = purify(pair.uldct, pair.ndct, settings)
    keys = [stage.key for stage in stage_list(stages)]
    assert keys == [stage.key for stage in STAGES if stage.key not in missing]
    nodes = add_stages(stages, uldct_node)
    assert [stage.key for stage in nodes.stages] == keys
    same_stages(stages_of(nodes), stages)
    with pytest.raises(InputError, match=r"no stage '.*' in the scene: choose one of uldct, ndct"):
        show_stage(nodes, missing.pop())


def test_one_undo_takes_all_stages_away(fresh, uldct_node, stages):
    fresh.SetUndoOn()
    before, tree = node_ids(fresh), tree_of(fresh)
    add_stages(stages, uldct_node)
    assert len(node_ids(fresh)) > len(before) + 24
    fresh.Undo()
    assert node_ids(fresh) == before
    left = [entry for entry in tree_of(fresh) if entry not in tree]
    assert left in ([], [("scan purification", "study")])  # Slicer does not undo folders
    fresh.Redo()
    (found,) = find_stages(fresh)
    same_stages(stages_of(found), stages)


def test_a_failure_in_the_middle_leaves_the_scene_as_it_was(fresh, uldct_node, stages):
    before, tree = node_ids(fresh), tree_of(fresh)
    damaged = replace(stages, labels=np.zeros((4, 4), np.uint8))  # the last of them is no volume
    with pytest.raises(ValueError, match="unpack"):
        add_stages(damaged, uldct_node)
    assert (node_ids(fresh), tree_of(fresh)) == (before, tree)


def test_the_same_name_again_replaces_the_stages(fresh, uldct_node, pair, stages):
    first = add_stages(stages, uldct_node)
    count, tree = len(node_ids(fresh)), sorted(tree_of(fresh))
    again = purify(pair.uldct, pair.ndct, Settings(seed=5))
    second = add_stages(again, uldct_node)
    assert (len(node_ids(fresh)), sorted(tree_of(fresh))) == (count, tree)
    assert second.nodes == first.nodes
    same_stages(stages_of(second), again)
    fewer = purify(pair.uldct, pair.ndct, Settings(add_noise=False))
    second = add_stages(fewer, uldct_node)
    assert first.stages == [STAGES[0]]
    same_stages(stages_of(second), fewer)
    add_stages(stages, uldct_node, name="other")
    assert [found.name for found in find_stages(fresh)] == ["scan purification", "other"]


def test_undo_brings_the_images_of_the_stages_before_back(fresh, uldct_node, pair, stages):
    fresh.SetUndoOn()
    nodes = add_stages(stages, uldct_node)
    again = purify(pair.uldct, pair.ndct, Settings(seed=5, weak_strength=2.0))
    add_stages(again, uldct_node)
    same_stages(stages_of(nodes), again)
    fresh.Undo()
    (found,) = find_stages(fresh)
    same_stages(stages_of(found), stages)


def test_saved_stages_are_found_and_shown(fresh, uldct_node, stages, tmp_path):
    nodes = add_stages(stages, uldct_node)
    show_stage(nodes, "cm2")
    picture = rendering.render_view(display.view_of_name(fresh, "Red"), (80, 60))
    assert fresh.WriteToMRB(str(tmp_path / "case.mrb"), None)
    opened = slicer.vtkMRMLScene()
    volume_nodes.application_logic(opened)
    with zipfile.ZipFile(tmp_path / "case.mrb") as archive:
        archive.extractall(tmp_path)
    opened.SetURL(str(next(tmp_path.glob("*/*.mrml"))))
    assert opened.Connect()
    (found,) = find_stages(opened)
    assert (found.name, found.source.GetName()) == ("scan purification", "scan")
    assert [stage.key for stage in found.stages] == [stage.key for stage in STAGES]
    same_stages(stages_of(found), stages)
    show_stage(found, "cm2")
    again = rendering.render_view(display.view_of_name(opened, "Red"), (80, 60))
    # geometry is saved as decimal text, so a pixel between two voxels may show the other one
    assert np.mean(np.abs(again.astype(int) - picture) > 1) < 1e-3
    assert ("scan purification", "study") in tree_of(opened)


# --- showing ------------------------------------------------------------------------------------------------


def colors_of(picture: np.ndarray, plain: np.ndarray, opacity: float) -> np.ndarray:
    """The colours that were blended over a picture, where there are any."""
    there = (picture != plain).any(axis=2)
    return ((picture[there] - (1 - opacity) * plain[there].astype(float)) / opacity).round()


def test_a_mask_lies_over_its_image_in_its_colors_at_its_place(fresh, uldct_node, stages):
    nodes = add_stages(stages, uldct_node)
    red = display.view_of_name(fresh, "Red")
    show_stage(nodes, "uldct")
    size = stages.uldct.array.shape[2] * 2, stages.uldct.array.shape[1] * 2
    plain = rendering.render_view(red, size)
    show_stage(nodes, "cm2", opacity=0.5)
    picture = rendering.render_view(red)
    seen = colors_of(picture, plain, 0.5)
    np.testing.assert_allclose(seen.mean(axis=0), CM2_ENTRIES[0][2], atol=3)
    # A view that showed nothing shows the middle, anterior up and right on the left: as the array lies.
    there = (picture != plain).any(axis=2)
    masks = [stages.cm2[index].repeat(2, axis=0).repeat(2, axis=1) for index in (1, 2)]
    assert max((there & mask).sum() / (there | mask).sum() for mask in masks) > 0.9
    show_stage(nodes, "cm2", opacity=0)
    np.testing.assert_array_equal(rendering.render_view(red), plain)


def test_dark_masks_lie_over_the_ndct(fresh, uldct_node, stages):
    nodes = add_stages(stages, uldct_node)
    red = display.view_of_name(fresh, "Red")
    show_stage(nodes, "ndct")
    plain = rendering.render_view(red, (192, 192))
    show_stage(nodes, "dark", opacity=0.5)
    seen = colors_of(rendering.render_view(red), plain, 0.5)
    named = {name: np.abs(seen - color).max(axis=1) < 6 for _, name, color in DARK_ENTRIES}
    assert all(where.sum() > 20 for where in named.values())
    assert sum(named.values()).mean() > 0.95


def test_differences_are_centred_on_white_and_have_a_legend(fresh, uldct_node, stages):
    nodes = add_stages(stages, uldct_node)
    for key in ("training_input_difference", "test_label_difference"):
        show_stage(nodes, key)
        picture = rendering.render_view(display.view_of_name(fresh, "Red"), (192, 192))
        inside = picture.reshape(-1, 3)
        assert (inside == 255).all(axis=1).mean() > 0.2  # outside of the masks nothing differs
        assert (inside[:, 0] > inside[:, 2] + 20).any() and (inside[:, 2] > inside[:, 0] + 20).any()
        look = nodes.nodes[key].GetDisplayNode()
        assert look.GetLevel() == 0 and look.GetWindow() == 2 * nice_limit(getattr(stages, key).array)
        legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(nodes.nodes[key])
        assert legend.GetTitleText() == "Difference (HU)"
    show_stage(nodes, "uldct")  # and no colours are left over
    picture = rendering.render_view(display.view_of_name(fresh, "Red")).astype(int)
    assert (picture[..., 0] == picture[..., 2]).all()


def test_stepping_through_stages_keeps_slice_and_zoom(fresh, uldct_node, stages):
    nodes = add_stages(stages, uldct_node)
    red = display.view_of_name(fresh, "Red")
    show_stage(nodes, "uldct")
    red.SetSliceOffset(red.GetSliceOffset() + stages.uldct.spacing[2])
    red.SetFieldOfView(50, 40, 1)
    before = red.GetSliceOffset(), red.GetFieldOfView()
    for stage in nodes.stages:
        show_stage(nodes, stage.key)
        assert (red.GetSliceOffset(), red.GetFieldOfView()) == before


def test_one_slice_is_shown_where_it_is(fresh, uldct_node, pair):
    one, near, first_slice = needed_for_slice(pair.uldct, pair.ndct, 0)
    add = purify(one, near, first_slice=first_slice)
    nodes = add_stages(add, uldct_node, name="preview")
    assert nodes.nodes["uldct"] is not uldct_node
    red = display.view_of_name(fresh, "Red")
    for start in (None, uldct_node):
        if start is not None:
            display.show_overlay(uldct_node, None, views=[red])
            red.SetSliceOffset(pair.uldct.origin[2] + 3 * pair.uldct.spacing[2])
        show_stage(nodes, "training_input")
        assert rendering.render_view(red, (96, 96)).any()
        assert red.GetSliceOffset() == pytest.approx(pair.uldct.origin[2], abs=pair.uldct.spacing[2] / 2)
    # Slicer scrolls only as far as a view's volumes reach: elsewhere the uLDCT is seen, and another slice is chosen.
    one = rendering.render_view(red)
    red.SetSliceOffset(pair.uldct.origin[2] + 3 * pair.uldct.spacing[2])
    elsewhere = rendering.render_view(red)
    display.show_overlay(uldct_node, None, views=[red])
    np.testing.assert_array_equal(elsewhere, rendering.render_view(red))
    assert not np.array_equal(one, elsewhere)


def test_two_stages_side_by_side_are_linked(fresh, uldct_node, stages):
    nodes = add_stages(stages, uldct_node)
    views = show_stages_side_by_side(nodes, "cm1", "training_input_difference", slice_index=1)
    composites = {c.GetLayoutName(): c for c in volume_nodes.nodes_of_class(fresh, "vtkMRMLSliceCompositeNode")}
    left, right = (composites[view.GetLayoutName()] for view in views)
    assert left.GetBackgroundVolumeID() == uldct_node.GetID()
    assert left.GetLabelVolumeID() == nodes.nodes["cm1"].GetID()
    assert right.GetBackgroundVolumeID() == nodes.nodes["training_input_difference"].GetID()
    assert right.GetLabelVolumeID() is None
    assert left.GetHotLinkedControl() and right.GetHotLinkedControl()
    pictures = [rendering.render_view(view, (96, 96)) for view in views]
    assert all(picture.any() for picture in pictures)
    assert views[0].GetSliceOffset() == views[1].GetSliceOffset()


def test_stages_or_views_that_are_not_there_are_named(fresh, uldct_node, stages):
    nodes = add_stages(stages, uldct_node)
    with pytest.raises(InputError, match="no stage 'nonsense'"):
        show_stage(nodes, "nonsense")
    with pytest.raises(InputError, match=r"no slice view 'Blue': choose one of .*Red"):
        show_stage(nodes, "cm1", "Blue")
    fresh.RemoveNode(nodes.nodes["ndct"])
    with pytest.raises(InputError, match="image under 'Dark masks'"):
        show_stage(nodes, "dark")
    with pytest.raises(InputError, match="NDCT on the grid of the uLDCT is not in the scene"):
        stages_of(nodes)
    fresh.RemoveNode(uldct_node)
    (found,) = find_stages(fresh)
    assert found.source is None and "uldct" not in found.nodes
