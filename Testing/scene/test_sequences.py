"""Results of sequences (4-D CT): every frame as the result of a volume, browsed together, undone, saved, re-blended."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPv2Lib.analysis.region_statistics import StrengthStatistics
from IPv2Lib.colors import nice_limit
from IPv2Lib.errors import InputError
from IPv2Lib.inference.blending import blend
from IPv2Lib.io.volume import Volume

slicer = pytest.importorskip("slicer", reason="MRML needs Slicer or its wheel: pip install slicer-core")

import rendering  # noqa: E402
from IPv2SlicerLib.scene import volume_nodes  # noqa: E402
from IPv2SlicerLib.scene.blending import set_strength, strength_steps, why_not_strength  # noqa: E402
from IPv2SlicerLib.scene.changes import subject_hierarchy  # noqa: E402
from IPv2SlicerLib.scene.denoised_nodes import add_denoised_sequence, remove_unused_outputs, show_denoised  # noqa: E402
from IPv2SlicerLib.scene.result_nodes import (  # noqa: E402
    hidden_output,
    kind_of,
    newest_result,
    nodes_of,
    source_instance_uids,
)
from IPv2SlicerLib.scene.sequences import (  # noqa: E402
    browser_of,
    content_stamp,
    data_nodes,
    frame_on_display,
    frames,
    is_sequence,
    sequence_of,
    shown,
)
from scene_state import PROVENANCE, STATISTICS, array, new_scene, pair, save_and_load, state, table_rows, tree_of  # noqa: E402

SHAPES = ((4, 12, 16), (3, 10, 14), (5, 12, 16))  # of frames on grids of their own


@pytest.fixture
def fresh():
    return new_scene()


def add_sequence(target, count=3, *, browser=True, shapes=None, save_changes=False, dtype=np.int16):
    """A 4-D CT as Slicer's importer of DICOM leaves it: frames with UIDs, the proxy in its patient's study."""
    sequence = target.AddNewNodeByClass("vtkMRMLSequenceNode", "4D")
    sequence.SetIndexName("phase")
    sequence.SetIndexUnit("%")
    for number in range(count):
        frame = slicer.vtkMRMLScalarVolumeNode()
        volume_nodes.fill_volume(frame, before(number, shapes, dtype))
        frame.SetAttribute("DICOM.instanceUIDs", f"1.2.{number}.1 1.2.{number}.2")
        sequence.SetDataNodeAtValue(frame, str(10 * number))
    if browser:
        node = target.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "4D browser")
        node.SetAndObserveMasterSequenceNodeID(sequence.GetID())
        node.SetSaveChanges(sequence, save_changes)
        tree = subject_hierarchy(target)
        study = tree.CreateStudyItem(tree.GetSceneItemID(), "study")
        item = tree.CreateItem(study, node.GetProxyNode(sequence))
        tree.SetItemAttribute(item, "DICOM.Modality", "CT")
    return sequence


def before(number: int, shapes=None, dtype=np.int16) -> Volume:
    return pair(dtype, shape=shapes[number] if shapes else SHAPES[0], seed=number)[0]


def outputs(count=3, shapes=None, dtype=np.int16) -> list[Volume]:
    return [pair(dtype, shape=shapes[n] if shapes else SHAPES[0], seed=n)[1] for n in range(count)]


def statistics(number: int):
    """Another number of voxels for each frame, and so another table."""
    lung, bone = STATISTICS.regions
    return StrengthStatistics((replace(lung, mean_before=lung.mean_before + number), bone))


def add(target, strength=0.4, count=3, sequence=None, **options):
    shapes, dtype = options.pop("shapes", None), options.pop("dtype", np.int16)
    output_node = options.pop("output_node", None)
    sequence = sequence or add_sequence(target, count, shapes=shapes, dtype=dtype, **options)
    facts = [{**PROVENANCE, "input_sha256": f"hash {number}"} for number in range(count)]
    tables = [statistics(number) for number in range(count)]
    return add_denoised_sequence(
        sequence, outputs(count, shapes, dtype), strength, tables, facts, output_node=output_node
    )


def check(nodes, strength, count=3, shapes=None, dtype=np.int16):
    """Every frame, and what is shown of the selected one, is as if it had been denoised with this strength."""
    for number in range(count):
        volume = before(number, shapes, dtype)
        expected = blend(volume, outputs(count, shapes, dtype)[number], strength).array
        browser_of(nodes.input).SetSelectedItemNumber(number)
        for node, wanted in (
            (nodes.input, volume.array),
            (nodes.denoised, expected),
            (nodes.difference, volume.array - expected),
        ):
            for place in (data_nodes(node)[number], shown(node)):
                np.testing.assert_array_equal(array(place), wanted)
                np.testing.assert_allclose(volume_nodes.node_to_volume(place).affine, volume.affine, atol=1e-9)
        mean = -850.0 + number
        assert table_rows(shown(nodes.table))[0][1] == f"{mean:.1f}"
        assert table_rows(data_nodes(nodes.table)[number]) == table_rows(shown(nodes.table))
        assert volume_nodes.provenance(frames(nodes.denoised)[number])["strength"] == str(float(strength))
        assert volume_nodes.provenance(frames(nodes.denoised)[number])["input_sha256"] == f"hash {number}"
    facts = volume_nodes.provenance(nodes.denoised)
    assert facts == {**facts, "model": "ipv2-fast", "strength": str(float(strength))}
    assert ("input_sha256" in facts) == (count == 1)


@pytest.mark.parametrize("browser", [True, False])
@pytest.mark.parametrize("save_changes", [True, False])
@pytest.mark.parametrize(("count", "shapes"), [(3, None), (1, None), (3, SHAPES)])
def test_every_frame_is_a_result_and_one_browser_shows_all_parts_of_it(fresh, browser, save_changes, count, shapes):
    nodes = add(fresh, count=count, browser=browser, save_changes=save_changes, shapes=shapes)
    assert [node.GetName() for node in vars(nodes).values()] == ["4D", "4D denoised", "4D difference", "4D regions"]
    for node in vars(nodes).values():
        assert (node.GetIndexName(), node.GetIndexUnit()) == ("phase", "%")
        assert [node.GetNthIndexValue(n) for n in range(count)] == [str(10 * n) for n in range(count)]
        assert sequence_of(shown(node)) is node
    assert fresh.GetNumberOfNodesByClass("vtkMRMLSequenceBrowserNode") == 1
    check(nodes, 0.4, count, shapes)


def test_colors_have_one_limit_for_all_frames(fresh):
    sequence = add_sequence(fresh)
    results = outputs()
    results[2].array[:] -= 400  # much more is removed from one of them
    nodes = add_denoised_sequence(sequence, results, 1.0, None, [PROVENANCE] * 3)
    assert nodes.table is None
    removed = [array(node) for node in frames(nodes.difference)]
    limit = nice_limit(*removed)
    assert limit > nice_limit(removed[0])
    for number in range(3):
        browser_of(sequence).SetSelectedItemNumber(number)
        look = shown(nodes.difference).GetDisplayNode()
        assert (look.GetWindow(), look.GetLevel()) == (2 * limit, 0)
    legend = fresh.GetFirstNodeByClass("vtkMRMLColorLegendDisplayNode")
    assert legend.GetDisplayableNode() is shown(nodes.difference)


def test_the_result_lies_beside_its_source_and_says_where_each_frame_came_from(fresh):
    nodes = add(fresh)
    tree = subject_hierarchy(fresh)
    parents = {
        name: {tree.GetItemName(tree.GetItemParent(tree.GetItemByDataNode(each))) for each in nodes_there}
        for name, nodes_there in {
            "proxies": [shown(node) for node in vars(nodes).values()],
            "sequences": [node for node in vars(nodes).values() if tree.GetItemByDataNode(node)],
        }.items()
    }
    assert parents["proxies"] == {"study"} and parents["sequences"] <= {"Scene"}
    for node in (nodes.denoised, nodes.difference):
        for number, frame in enumerate(frames(node)):
            assert source_instance_uids(frame) == [f"1.2.{number}.1", f"1.2.{number}.2"]
            browser_of(node).SetSelectedItemNumber(number)
            assert source_instance_uids(shown(node)) == source_instance_uids(frame)
            assert shown(node).GetAttribute("DICOM.instanceUIDs") is None
        assert tree.GetItemAttribute(tree.GetItemByDataNode(shown(node)), "DICOM.Modality") == "CT"


def test_kinds(fresh):
    nodes = add(fresh)
    kinds = {"input": "", "denoised": "denoised", "difference": "difference", "table": "regions"}
    for field, kind in kinds.items():
        assert kind_of(getattr(nodes, field)) == kind_of(shown(getattr(nodes, field))) == kind
    assert kind_of(hidden_output(nodes.denoised)) == "network output"
    assert hidden_output(nodes.denoised).GetHideFromEditors()


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("shapes", [None, SHAPES])
@settings(max_examples=8, deadline=None)
@given(st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=3), st.integers(0, 2))
def test_another_strength_is_as_if_it_had_been_the_first(dtype, shapes, strengths, selected):
    fresh = new_scene()
    nodes = add(fresh, 0.8, dtype=dtype, shapes=shapes)
    browser_of(nodes.input).SetSelectedItemNumber(selected)
    limit = shown(nodes.difference).GetDisplayNode().GetWindow()
    for strength in strengths:
        set_strength(nodes.denoised, strength)
    check(nodes, strengths[-1], dtype=dtype, shapes=shapes)
    assert shown(nodes.difference).GetDisplayNode().GetWindow() == limit


def test_the_frame_on_display_is_blended_first_also_when_another_is_chosen_on_the_way(fresh):
    nodes = add(fresh, 1.0, count=4)
    browser = browser_of(nodes.input)
    browser.SetSelectedItemNumber(2)
    steps = strength_steps(nodes.denoised, 0.0)
    done = []

    def blended() -> list[int]:
        return [n for n, node in enumerate(frames(nodes.denoised)) if (array(node) == before(n).array).all()]

    for choose in (None, 3, None, None):
        if choose is not None:
            browser.SetSelectedItemNumber(choose)
        next(steps)
        done.append(blended())
        at = frame_on_display(nodes.denoised)
        np.testing.assert_array_equal(array(shown(nodes.denoised)), before(at).array)
        assert not array(shown(nodes.difference)).any()
    assert done == [[2], [2, 3], [0, 2, 3], [0, 1, 2, 3]]
    assert next(steps, "end") == "end"
    check(nodes, 0.0, 4)


def test_a_new_strength_does_not_hold_a_user_up(fresh):
    """Not more than 0.3 s in one piece for frames of 60 slices of 512×512, on a machine that does nothing else."""
    sequence = fresh.AddNewNodeByClass("vtkMRMLSequenceNode", "4D")
    noise = np.random.default_rng(0).integers(-900, 900, (60, 512, 512), dtype=np.int16)
    volume = Volume(noise, (0.7, 0.7, 1.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    for number in range(3):
        frame = slicer.vtkMRMLScalarVolumeNode()
        volume_nodes.fill_volume(frame, volume)
        sequence.SetDataNodeAtValue(frame, str(number))
    results = [volume.with_array(noise // 2) for _ in range(3)]
    nodes = add_denoised_sequence(sequence, results, 1.0, [STATISTICS] * 3, [PROVENANCE] * 3)
    pieces = []
    for strength in (0.3, 0.7, 0.5):
        steps = strength_steps(nodes.denoised, strength)
        while True:
            began = time.thread_time()  # of this thread: others may be busy
            if next(steps, "end") == "end":
                break
            pieces.append(time.thread_time() - began)
    assert len(pieces) == 9 and min(pieces[::3]) < 0.3 and min(pieces[1::3]) < 0.3


def test_why_a_strength_cannot_be_set(fresh):
    nodes = add(fresh)
    for wrong in (-0.1, float("nan")):
        with pytest.raises(InputError, match="strength"):
            set_strength(nodes.denoised, wrong)
    frame = frames(nodes.input)[1]
    volume_nodes.node_array(frame)[:] = 0
    frame.GetImageData().GetPointData().GetScalars().Modified()
    with pytest.raises(InputError, match="changed since"):
        set_strength(nodes.denoised, 0.1)
    nodes = add(fresh, sequence=nodes.input, output_node=nodes.denoised)
    nodes.input.RemoveDataNodeAtValue("20")
    with pytest.raises(InputError, match="changed since"):
        set_strength(nodes.denoised, 0.1)
    fresh.RemoveNode(nodes.input)
    with pytest.raises(InputError, match="input of '4D denoised' is not in the scene"):
        set_strength(nodes.denoised, 0.1)


def test_a_volume_whose_voxels_were_changed_is_not_blended_with_what_it_was(fresh):
    from IPv2SlicerLib.scene.denoised_nodes import add_denoised

    node = volume_nodes.volume_to_node(pair()[0], "CT", scene=fresh)
    nodes = add_denoised(node, pair()[1], 0.5, None, {})
    stamp = content_stamp(node)
    volume_nodes.node_array(node)[:] = 7
    node.GetImageData().GetPointData().GetScalars().Modified()
    assert content_stamp(node) != stamp
    with pytest.raises(InputError, match="changed since"):
        set_strength(nodes.denoised, 0.2)


@pytest.mark.parametrize("undo", [False, True])
def test_a_second_result_replaces_the_first_and_undo_brings_it_back(fresh, undo):
    first = add(fresh, 0.4)
    remove_unused_outputs(fresh)
    names = sorted(node.GetName() for node in volume_nodes.nodes_of_class(fresh, "vtkMRMLStorableNode"))
    tree = sorted(tree_of(fresh))
    if undo:
        fresh.SetUndoOn()
    second = add(fresh, 0.9, sequence=first.input, output_node=first.denoised)
    remove_unused_outputs(fresh)
    assert sorted(node.GetName() for node in volume_nodes.nodes_of_class(fresh, "vtkMRMLStorableNode")) == names
    assert sorted(tree_of(fresh)) == tree
    assert newest_result(first.input).denoised is second.denoised
    check(second, 0.9)
    if not undo:
        return
    for strength in (0.4, 0.9, 0.4):
        fresh.Undo() if strength == 0.4 else fresh.Redo()
        found = newest_result(first.input)
        check(found, strength)
        assert sorted(tree_of(fresh)) == tree
        assert len(volume_nodes.nodes_of_class(fresh, "vtkMRMLScalarVolumeNode")) == 3
        set_strength(found.denoised, 0.2)
        check(found, 0.2)
        set_strength(found.denoised, strength)


def test_undo_of_the_first_result_leaves_the_source(fresh):
    fresh.SetUndoOn()
    sequence = add_sequence(fresh)
    ids = set(state(fresh))
    add(fresh, sequence=sequence)
    fresh.Undo()
    assert set(state(fresh)) == ids
    assert newest_result(sequence) is None and len(frames(sequence)) == 3
    fresh.Redo()
    check(newest_result(sequence), 0.4)
    show_denoised(newest_result(sequence))


class Unprintable:
    """Fails when the provenance is written, which is after nodes were added."""

    def __str__(self):
        raise RuntimeError("in the middle")


@pytest.mark.parametrize("undo", [False, True])
@pytest.mark.parametrize("into", ["new", "earlier result"])
@pytest.mark.parametrize("browser", [True, False])
def test_what_cannot_be_added_is_refused_and_the_scene_stays(fresh, undo, into, browser):
    sequence = add_sequence(fresh, browser=browser)
    earlier = add(fresh, sequence=sequence) if into == "earlier result" else None
    if undo:
        fresh.SetUndoOn()
    output_node = earlier and earlier.denoised
    found = state(fresh)

    def refused(error, message, results=None, facts=PROVENANCE, strength=1.0):
        results = outputs() if results is None else results
        with pytest.raises(error, match=message):
            add_denoised_sequence(sequence, results, strength, None, [facts] * 3, output_node=output_node)
        assert state(fresh) == found

    refused(InputError, "3 frames, 2 were denoised", outputs()[:2])
    refused(InputError, r"'4D', frame 3 \(phase 20 %\) was changed", [*outputs()[:2], pair(shape=(1, 4, 4))[1]])
    refused(InputError, "strength", strength=2.0)
    refused(RuntimeError, "in the middle", facts={"model": Unprintable()})
    if earlier:
        check(earlier, 0.4)


def test_only_an_earlier_result_of_the_same_sequence_is_replaced(fresh):
    first = add(fresh)
    other = add_sequence(fresh)
    for wrong in (first.denoised, first.difference, first.input, other):
        with pytest.raises(InputError, match="is no result of '4D'"):
            add(fresh, sequence=other, output_node=wrong)


def test_sequences_that_are_none_of_volumes(fresh):
    sequence = add_sequence(fresh, browser=False)
    empty = fresh.AddNewNodeByClass("vtkMRMLSequenceNode", "none")
    for wrong, message in ((empty, "'none' is empty"), (None, "no sequence"), (volume_nodes.volume_to_node(
        pair()[0], "CT", scene=fresh), "no sequence")):  # fmt: skip
        with pytest.raises(InputError, match=message):
            frames(wrong)
    frames(sequence)[1].SetAndObserveImageData(None)
    with pytest.raises(InputError, match=r"'4D', frame 2 \(phase 10 %\): .* is empty"):
        frames(sequence)
    tables = fresh.AddNewNodeByClass("vtkMRMLSequenceNode", "tables")
    tables.SetDataNodeAtValue(slicer.vtkMRMLTableNode(), "0")
    with pytest.raises(InputError, match=r"'tables', frame 1 \(time 0 s\): .*Table"):
        frames(tables)


def test_comparison_follows_the_browser(fresh):
    nodes = add(fresh, 0.4)
    browser_of(nodes.input).SetSelectedItemNumber(1)
    views = show_denoised(nodes, slice_index=2)
    assert len(views) == 3
    pictures = [rendering.render_view(view, (64, 48)) for view in views]
    browser_of(nodes.input).SetSelectedItemNumber(2)
    for picture, view in zip(pictures, views, strict=True):
        assert (rendering.render_view(view) != picture).any()
    shown(nodes.denoised).GetDisplayNode().SetWindowLevel(1000, -300)
    assert shown(nodes.input).GetDisplayNode().GetLevel() == -300
    browser_of(nodes.input).SetSelectedItemNumber(1)
    assert shown(nodes.denoised).GetDisplayNode().GetWindow() == 1000


def test_a_saved_result_is_found_with_everything_but_the_network_output(fresh, tmp_path):
    nodes = add(fresh, 0.4)
    show_denoised(nodes)
    opened = save_and_load(fresh, tmp_path)
    assert opened.GetFirstNodeByName("IPv2 network output") is None
    found = newest_result(opened.GetFirstNodeByName("4D"))
    assert [node.GetName() for node in vars(found).values()] == ["4D", "4D denoised", "4D difference", "4D regions"]
    check(found, 0.4)
    assert source_instance_uids(frames(found.denoised)[2]) == ["1.2.2.1", "1.2.2.2"]
    assert why_not_strength(found.denoised)
    with pytest.raises(InputError, match="not saved with a scene"):
        set_strength(found.denoised, 0.3)
    assert kind_of(shown(found.difference)) == "difference"
    assert len(show_denoised(found)) == 3
    again = add(opened, 1.0, sequence=found.input, output_node=found.denoised)
    assert not why_not_strength(again.denoised)
    check(again, 1.0)


def test_what_the_network_said_goes_with_its_result(fresh):
    nodes = add(fresh)
    hidden = hidden_output(nodes.denoised)
    remove_unused_outputs(fresh)
    assert hidden.GetScene() is fresh
    fresh.RemoveNode(nodes.denoised)
    remove_unused_outputs(fresh)
    assert hidden.GetScene() is None
    assert nodes_of(nodes.denoised) is None or newest_result(nodes.input) is None


@pytest.mark.parametrize("what", ["sequence", "proxy"])
@pytest.mark.parametrize(("alone", "place"), [(True, 0), *((False, place) for place in range(4))])
def test_panels_may_ask_while_a_node_is_removed(fresh, what, alone, place):
    sequences = [add_sequence(fresh)] if alone else list(vars(add(fresh)).values())
    browser_of(sequences[0]).SetSelectedItemNumber(2)
    proxies = {each: shown(each) for each in sequences}
    chosen = sequences[place]
    leaves = chosen if what == "sequence" else proxies[chosen]
    stay = [each for each in sequences if each is not chosen]
    answers = []

    def ask(*_):
        present = [each for each in (*proxies, *proxies.values()) if each.GetScene() is fresh]
        for each in present:
            sequence_of(each), shown(each), frame_on_display(each), is_sequence(each) and browser_of(each)
        answers.append([(sequence_of(proxies[each]), shown(each)) for each in stay])

    panel = fresh.AddNewNodeByClass("vtkMRMLScriptedModuleNode")  # its references are taken before the browser's
    panel.SetNodeReferenceID("chosen", leaves.GetID())
    panel.AddObserver("ModifiedEvent", ask)
    for event in (fresh.NodeAboutToBeRemovedEvent, fresh.NodeRemovedEvent):
        fresh.AddObserver(event, ask)
    fresh.RemoveNode(leaves)
    ask()
    assert len(answers) >= 4 and all(answer == [(each, proxies[each]) for each in stay] for answer in answers)
    if what == "sequence":
        assert sequence_of(proxies[chosen]) is None and shown(chosen) is None
    else:  # Slicer makes another one
        assert shown(chosen) not in (None, leaves) and sequence_of(shown(chosen)) is chosen
    assert all(frame_on_display(each) == 2 for each in stay)
