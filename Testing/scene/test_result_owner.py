"""A result belongs to its input, whatever the volume that gets it was before: patient, study, voxels, table, files."""

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="MRML needs Slicer or its wheel: pip install slicer-core")

from IPv2Lib.inference.blending import blend  # noqa: E402
from IPv2SlicerLib.scene import display, volume_nodes  # noqa: E402
from IPv2SlicerLib.scene.blending import set_strength, why_not_strength  # noqa: E402
from IPv2SlicerLib.scene.changes import subject_hierarchy  # noqa: E402
from IPv2SlicerLib.scene.denoised_nodes import add_denoised  # noqa: E402
from IPv2SlicerLib.scene.result_nodes import kind_of, newest_result, nodes_of, source_instance_uids, why_not_output  # noqa: E402
from scene_state import PROVENANCE, STATISTICS, array, new_scene, pair, save_and_load, state, table_rows  # noqa: E402

SERIES = "4: Thorax 1.0 B31f"  # as Slicer names the chest CT of every patient of one scanner
PATIENTS = {"ANNA": 1, "BERTA": 2}


@pytest.fixture
def fresh():
    return new_scene()


def load_patient(target, who: str, series: str = SERIES):
    """A volume as Slicer's DICOM module leaves it: in study and patient, with UIDs on node and item."""
    seed = PATIENTS[who]
    node = volume_nodes.volume_to_node(pair(seed=seed)[0], series, scene=target)
    tree = subject_hierarchy(target)
    patient = tree.GetItemByUID("DICOM", f"ID-{who}")
    if not patient:
        patient = tree.CreateSubjectItem(tree.GetSceneItemID(), who)
        tree.SetItemUID(patient, "DICOM", f"ID-{who}")
        tree.SetItemAttribute(patient, "DICOM.PatientName", who)
    study = tree.CreateStudyItem(patient, f"Study of {who}")
    tree.SetItemAttribute(study, "DICOM.StudyInstanceUID", f"1.2.{seed}")
    item = tree.CreateItem(study, node)
    tree.SetItemUID(item, "DICOM", f"1.2.{seed}.3")
    tree.SetItemUID(item, "DICOMInstanceUID", f"1.2.{seed}.3.1 1.2.{seed}.3.2")
    for name, value in (("SeriesNumber", "4"), ("Modality", "CT"), ("FrameOfReferenceUID", f"1.2.{seed}.9")):
        tree.SetItemAttribute(item, f"DICOM.{name}", value)
    node.SetAttribute("DICOM.instanceUIDs", f"1.2.{seed}.3.1 1.2.{seed}.3.2")
    return node


def exported_as(node) -> dict[str, str]:
    """What Slicer's own export would say: it takes the parent for the study, and that one's parent for the patient."""
    tree = subject_hierarchy(node.GetScene())
    item = tree.GetItemByDataNode(node)
    study = tree.GetItemParent(item)
    facts = {
        "patient": tree.GetItemAttribute(tree.GetItemParent(study), "DICOM.PatientName"),
        "study": tree.GetItemAttribute(study, "DICOM.StudyInstanceUID"),
    }
    for name in tree.GetItemAttributeNames(item):
        facts[name.removeprefix("DICOM.")] = tree.GetItemAttribute(item, name)
    facts |= {name: tree.GetItemUID(item, name) for name in tree.GetItemUIDNames(item)}
    return facts


def denoise(node, seed: int, output=None, **options):
    arguments = {"strength": 0.5, "statistics": STATISTICS, "provenance": PROVENANCE, **options}
    return add_denoised(node, pair(seed=seed)[1], output_node=output, **arguments)


def check_belongs(nodes, who: str) -> None:
    """Patient, study, voxels, difference, table, source and strength of a result are those of its input."""
    seed = PATIENTS[who]
    before, output = pair(seed=seed)
    np.testing.assert_array_equal(array(nodes.denoised), blend(before, output, 0.5).array)
    np.testing.assert_array_equal(array(nodes.difference), before.array - array(nodes.denoised))
    assert table_rows(nodes.table)[0][0] == "Lung and airways"
    for node in (nodes.denoised, nodes.difference):
        assert exported_as(node) == {
            "patient": who, "study": f"1.2.{seed}", "Modality": "CT", "FrameOfReferenceUID": f"1.2.{seed}.9",
            "SeriesDescription": node.GetName(),
        }  # fmt: skip
        assert node.GetAttribute("DICOM.instanceUIDs") is None
    assert exported_as(nodes.table)["patient"] == who
    assert source_instance_uids(nodes.denoised) == [f"1.2.{seed}.3.1", f"1.2.{seed}.3.2"]
    assert nodes_of(nodes.denoised).difference is nodes.difference
    assert volume_nodes.provenance(nodes.denoised).keys() == PROVENANCE.keys()
    if not why_not_strength(nodes.denoised):
        set_strength(nodes.denoised, 1.0)
        np.testing.assert_array_equal(array(nodes.denoised), output.array)
        set_strength(nodes.denoised, 0.5)


def volumes(target) -> list[str]:
    return [node.GetName() for node in volume_nodes.nodes_of_class(target, "vtkMRMLScalarVolumeNode")]


def made_by_the_user(target):
    return target.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Mine")


def a_result_of_anna(target):
    return denoise(load_patient(target, "ANNA"), 1).denoised


def a_difference_of_anna(target):
    return denoise(load_patient(target, "ANNA"), 1).difference


def the_scan_of_anna(target):
    return denoise(load_patient(target, "ANNA"), 1).input


def a_saved_volume(target):
    node = volume_nodes.volume_to_node(pair(shape=(2, 5, 7))[0], "Saved", scene=target, provenance={"model": "older"})
    node.AddDefaultStorageNode()
    node.GetStorageNode().SetFileName("/patients/anna/scan.nrrd")
    return node


def under_a_transform_with_all_kinds_of_references(target):
    node = load_patient(target, "ANNA")
    transform = target.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Breathing of Anna")
    node.SetAndObserveTransformNodeID(transform.GetID())
    node.SetNodeReferenceID("report", transform.GetID())
    node.SetAttribute("Report.Patient", "ANNA")
    node.SetDescription("Anna")
    display.show_difference(node)
    node.GetDisplayNode().SetApplyThreshold(True)
    return node


OUTPUTS = [
    made_by_the_user,
    a_result_of_anna,
    a_difference_of_anna,
    the_scan_of_anna,
    a_saved_volume,
    under_a_transform_with_all_kinds_of_references,
]


@pytest.mark.parametrize("make", OUTPUTS)
@pytest.mark.parametrize("statistics", [STATISTICS, None])
def test_a_result_is_its_inputs_whatever_the_volume_was_before(fresh, make, statistics):
    output = make(fresh)
    berta = load_patient(fresh, "BERTA", "3: CHEST 1.25mm")
    nodes = denoise(berta, 2, output, statistics=statistics)
    assert nodes.denoised is output and output.GetName() == "3: CHEST 1.25mm denoised"
    if statistics is not None:
        check_belongs(nodes, "BERTA")
    assert output.GetStorageNode() is None and output.GetTransformNodeID() is None
    assert output.GetDescription() in (None, "") and output.GetNodeReferenceID("report") is None
    assert not [name for name in output.GetAttributeNames() if name.startswith("Report")]
    look = output.GetDisplayNode()
    assert (look.GetWindow(), look.GetLevel(), look.GetApplyThreshold()) == (1500, -600, 0)
    assert output.GetNumberOfDisplayNodes() == 1
    # No other result has a part of it, and no part of a result is left that is not there any more.
    found = [nodes_of(node) for node in volume_nodes.nodes_of_class(fresh, "vtkMRMLScalarVolumeNode")]
    others = [result for result in found if result is not None and result.denoised is not output]
    assert not any(output in (result.input, result.difference) for result in others)
    kept = {result.difference for result in others} | {nodes.difference}
    assert all(
        node in kept for node in volume_nodes.nodes_of_class(fresh, "vtkMRMLScalarVolumeNode") if is_difference(node)
    )


def is_difference(node) -> bool:
    return kind_of(node) == "difference"


@pytest.mark.parametrize("make", OUTPUTS)
@pytest.mark.parametrize("fails", [False, True])
def test_undo_gives_everything_back_to_whom_it_belonged(fresh, make, fails):
    fresh.SetUndoOn()
    output = make(fresh)
    berta = load_patient(fresh, "BERTA")
    before, places = state(fresh), {node: exported_as(node) for node in (output, berta)}
    if fails:
        with pytest.raises(RuntimeError, match="in the middle"):
            denoise(berta, 2, output, provenance={"model": Unprintable()})
    else:
        denoise(berta, 2, output)
        after = exported_as(output)
        fresh.Undo()
        fresh.Redo()
        assert exported_as(output) == after and after["patient"] == "BERTA"
        fresh.Undo()
    now = state(fresh)
    # Slicer files the nodes of a step that was undone and redone in another order.
    assert sorted(map(str, now.pop("tree"))) == sorted(map(str, before.pop("tree")))
    assert {node: exported_as(node) for node in (output, berta)} == places
    legend = "vtkMRMLColorLegendDisplayNode1"
    for each in (now, before):
        each.get(legend, [None]).pop()
    assert now == before


class Unprintable:
    """Fails when the provenance is written, which is after nodes were changed."""

    def __str__(self):
        raise RuntimeError("in the middle")


@pytest.mark.parametrize("order", ["AB", "BA", "ABA", "AAB", "ABBA"])
@pytest.mark.parametrize("reload", [False, True])
def test_two_patients_in_every_order(fresh, order, reload, tmp_path):
    names = {"A": "ANNA", "B": "BERTA"}
    nodes = {who: load_patient(fresh, who) for who in PATIENTS}  # both series have one name
    for letter in order:
        who = names[letter]
        earlier = newest_result(nodes[who])
        denoise(nodes[who], PATIENTS[who], earlier and earlier.denoised)
    target = fresh
    if reload:
        target = save_and_load(fresh, tmp_path)
        nodes = {}
        for node in volume_nodes.nodes_of_class(target, "vtkMRMLScalarVolumeNode"):
            if node.GetName() == SERIES and not kind_of(node):
                nodes[exported_as(node)["patient"]] = node
    assert len(volumes(target)) == 2 * (3 if reload else 4)  # a result each, however often
    for who, node in nodes.items():
        check_belongs(newest_result(node), who)


def test_a_patient_into_the_result_of_another_after_the_scene_was_loaded(fresh, tmp_path):
    anna = denoise(load_patient(fresh, "ANNA"), 1)
    load_patient(fresh, "BERTA", "other")
    assert anna.denoised.GetAttribute("DICOM.instanceUIDs") is None
    opened = save_and_load(fresh, tmp_path)
    output = opened.GetFirstNodeByName(f"{SERIES} denoised")
    assert output.GetStorageNode().GetFileName()
    nodes = denoise(opened.GetFirstNodeByName("other"), 2, output)
    check_belongs(nodes, "BERTA")
    assert output.GetStorageNode() is None
    assert newest_result(opened.GetFirstNodeByName(SERIES)) is None
    assert opened.GetFirstNodeByName(f"{SERIES} difference") is None


def test_a_result_of_the_same_input_keeps_name_file_and_nodes(fresh):
    first = denoise(load_patient(fresh, "ANNA"), 1, strength=1.0)
    first.denoised.SetName("For the conference")
    first.denoised.AddDefaultStorageNode()
    first.denoised.GetStorageNode().SetFileName("/tmp/mine.nrrd")
    second = denoise(first.input, 1, first.denoised, provenance={"engine": "other"})
    assert (second.denoised, second.difference, second.table) == (first.denoised, first.difference, first.table)
    assert first.denoised.GetName() == "For the conference"
    assert first.denoised.GetStorageNode().GetFileName() == "/tmp/mine.nrrd"
    assert volume_nodes.provenance(first.denoised).keys() == {"engine", "strength"}  # nothing of the earlier run


def test_the_copy_of_a_result_does_not_share_its_difference(fresh):
    first = denoise(load_patient(fresh, "ANNA"), 1)
    copy = fresh.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "copy")  # as the module Data clones a node
    copy.CopyContent(first.denoised)
    copy.CopyReferences(first.denoised)
    copy.SetName("copy")
    second = denoise(first.input, 1, copy, strength=1.0)
    assert second.difference is not first.difference and second.table is not first.table
    check_belongs(first, "ANNA")


def test_the_series_is_known_from_the_result_of_a_result_and_without_its_input(fresh):
    first = denoise(load_patient(fresh, "ANNA"), 1)
    second = add_denoised(first.denoised, pair(seed=1)[1], 0.5, None, {})
    uids = ["1.2.1.3.1", "1.2.1.3.2"]
    assert source_instance_uids(second.denoised) == uids
    fresh.RemoveNode(first.input)
    fresh.RemoveNode(first.denoised)
    assert source_instance_uids(second.denoised) == uids
    loose = volume_nodes.volume_to_node(pair()[0], "from NRRD", scene=fresh)
    assert source_instance_uids(denoise(loose, 0).denoised) == source_instance_uids(None) == []


@pytest.mark.parametrize("reload", [False, True])
def test_the_newest_result_is_the_one_that_was_made_last_wherever_its_volume_is_in_the_scene(fresh, reload, tmp_path):
    mine, anna = made_by_the_user(fresh), load_patient(fresh, "ANNA")
    first = denoise(anna, 1)
    second = denoise(anna, 1, mine, strength=1.0)
    assert newest_result(anna).denoised is second.denoised is mine
    denoise(anna, 1, first.denoised)
    assert newest_result(anna).denoised is first.denoised
    denoise(anna, 1, mine)
    assert newest_result(anna).denoised is mine
    if reload:
        name, opened = mine.GetName(), save_and_load(fresh, tmp_path)
        assert newest_result(opened.GetFirstNodeByName(SERIES)).denoised.GetName() == name


def test_what_would_be_lost(fresh):
    berta = load_patient(fresh, "BERTA")
    assert why_not_output(made_by_the_user(fresh), berta) == ""
    emptied = volume_nodes.volume_to_node(pair()[0], "Emptied", scene=fresh)
    assert "in no file" in why_not_output(emptied, berta)
    emptied.SetAndObserveImageData(None)
    assert why_not_output(emptied, berta) == ""
    anna = denoise(load_patient(fresh, "ANNA"), 1)
    assert "result of '4: Thorax" in why_not_output(anna.denoised, berta)
    assert why_not_output(anna.denoised, anna.input) == ""
    assert "part of another result" in why_not_output(anna.difference, berta)
    assert "scan from DICOM" in why_not_output(anna.input, berta)  # and has a result, which is the smaller loss
    mine = denoise(volume_nodes.volume_to_node(pair()[0], "Mine", scene=fresh), 0).input
    assert "result of its own" in why_not_output(mine, berta)
    mine.AddDefaultStorageNode()
    mine.GetStorageNode().SetFileName("/patients/anna/scan.nrrd")
    assert "from a file" in why_not_output(mine, berta)
    assert "scan from DICOM" in why_not_output(load_patient(fresh, "ANNA"), berta)
    assert "file" in why_not_output(a_saved_volume(fresh), berta)
    fresh.RemoveNode(anna.input)
    assert "not in the scene any more" in why_not_output(anna.denoised, berta)
