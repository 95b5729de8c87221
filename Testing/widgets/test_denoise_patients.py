"""Two patients through Denoise, Save and Export in every order: patient, study, voxels, table, difference are right."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from host.dicom import export_tags
from IPv2Lib.errors import InputError, IPv2Error
from IPv2Lib.io import files
from IPv2SlicerLib.scene import volume_nodes
from IPv2SlicerLib.scene.result_nodes import kind_of, newest_result, nodes_of
from panel import MODULE, expand, finish_job, node_names
from patients import SERIES, chest, headers, write_patient


@pytest.fixture
def two(make_host, tmp_path):
    """A host with the module and a function that loads a patient."""
    host = make_host()
    return host, host.load_module(MODULE), lambda who, **options: load(host, tmp_path / "archive", who, **options)


def load(host, folder: Path, who: str, parts: int = 1):
    (node,) = host.import_dicom(write_patient(folder, who, parts))
    return node


def denoise(host, widget, node) -> None:
    widget._parameterNode.inputVolume = node
    host.process_events(0.1)
    host.click(widget.ui.denoiseButton)
    finish_job(host, widget)


def check(nodes, who: str) -> None:
    """A result is that of a patient: voxels, difference, table, and what Slicer's own export would say."""
    before = volume_nodes.node_to_volume(nodes.input).array
    np.testing.assert_array_equal(before, chest(who))
    denoised, difference = (volume_nodes.node_to_volume(node).array for node in (nodes.denoised, nodes.difference))
    np.testing.assert_allclose(denoised + difference, before, atol=1e-3)
    assert 0 < np.abs(difference).mean() < 100
    assert nodes.table.GetCellText(0, 0) == "Outside the body"
    for node in (nodes.denoised, nodes.difference):
        tags = export_tags(node)
        assert (tags["PatientName"], tags["PatientID"]) == (f"{who}^TEST", f"ID-{who}")
        assert tags["StudyDescription"] == f"Study of {who}"
        assert tags["FrameOfReferenceUID"] == export_tags(nodes.input)["FrameOfReferenceUID"]
        assert tags["SeriesDescription"] == node.GetName() and tags["Modality"] == "CT"


def export(host, widget, folder: Path) -> Path:
    folder.mkdir()
    host.answers.append(folder)
    host.click(widget.ui.exportDicomButton)
    finish_job(host, widget)
    return next(path for path in folder.iterdir() if path.is_dir())


@pytest.mark.parametrize("order", ["AB", "ABA", "BAB"])
def test_every_order(two, order, tmp_path):
    import slicer

    host, widget, load_patient = two
    names = {"A": "ANNA", "B": "BERTA-MARIA"}
    nodes = {who: load_patient(who) for who in names.values()}
    for letter in order:
        denoise(host, widget, nodes[names[letter]])
    assert host.messages == []
    for number, (who, node) in enumerate(nodes.items()):
        widget._parameterNode.inputVolume = node
        host.process_events(0.1)
        check(newest_result(node), who)
        series = export(host, widget, tmp_path / f"export {number}")
        written = headers(series)
        assert {(str(each.PatientName), each.PatientID) for each in written} == {(f"{who}^TEST", f"ID-{who}")}
        assert {each.StudyInstanceUID for each in written} == {export_tags(node)["StudyInstanceUID"]}
        assert len(written) == 4 and ":" not in series.name
        result = volume_nodes.node_to_volume(newest_result(node).denoised)
        assert np.abs(files.read(series).array - result.array).max() <= 0.5
        host.answers.append(tmp_path / f"{number}.nii.gz")
        host.click(widget.ui.saveButton)
        finish_job(host, widget)
        np.testing.assert_array_equal(files.read(tmp_path / f"{number}.nii.gz").array, result.array)
    # each run replaces the earlier result of its input
    kinds = [kind_of(node) for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    assert sorted(kinds) == ["", "", *["denoised"] * 2, *["difference"] * 2, *["network output"] * 2]
    assert [message.kind for message in host.messages] == ["file"] * 4


@pytest.mark.parametrize("agreed", [True, False, None])
def test_into_the_result_of_another_patient_only_after_a_question(make_host, tmp_path, agreed):
    host = make_host(testing=agreed is None)
    widget = host.load_module(MODULE)
    anna, berta = (load(host, tmp_path, who) for who in ("ANNA", "BERTA-MARIA"))
    denoise(host, widget, anna)
    first = newest_result(anna)
    kept = volume_nodes.node_to_volume(first.denoised).array
    widget._parameterNode.inputVolume = berta
    widget._parameterNode.outputVolume = first.denoised
    if agreed is not None:
        host.answers.append(agreed)
    host.click(widget.ui.denoiseButton)
    finish_job(host, widget)
    questions = [message.text for message in host.messages if message.kind == "question"]
    assert len(questions) == (agreed is not None) and all(f"result of '{SERIES}'" in text for text in questions)
    check(newest_result(berta), "BERTA-MARIA")
    assert widget._parameterNode.outputVolume is None
    if agreed:
        assert newest_result(berta).denoised is first.denoised and newest_result(anna) is None
        assert len(node_names(anna.GetScene())) == 2 + 3 + 1  # two scans, a result with its table, what is hidden
    else:
        check(newest_result(anna), "ANNA")
        np.testing.assert_array_equal(volume_nodes.node_to_volume(first.denoised).array, kept)


def test_a_script_is_told_what_would_be_lost(two):
    _, widget, load_patient = two
    anna, berta = load_patient("ANNA"), load_patient("BERTA-MARIA")
    first = widget.logic.denoise(anna).wait()
    for output in (first.denoised, first.difference, anna):
        with pytest.raises(InputError, match="replaceOutput=True"):
            widget.logic.denoise(berta, output)
    with pytest.raises(InputError, match="one output for several"):
        widget.logic.denoiseVolumes([anna, berta], outputNodes=[first.denoised, first.denoised])
    nodes = widget.logic.denoise(berta, first.denoised, replaceOutput=True).wait()
    check(nodes, "BERTA-MARIA")
    second = widget.logic.denoise(anna).wait()
    assert second.denoised is not nodes.denoised
    check(second, "ANNA")


def test_a_volume_that_the_user_made_gets_the_patient_and_both_results_stay(two):
    host, widget, load_patient = two
    anna, berta = load_patient("ANNA"), load_patient("BERTA-MARIA")
    denoise(host, widget, anna)
    expand(host, widget.ui.advancedCollapsibleButton)
    output = widget.ui.outputSelector.addNode()  # "Create new Volume"
    host.click(widget.ui.denoiseButton)
    finish_job(host, widget)
    check(nodes_of(output), "ANNA")
    assert newest_result(anna).denoised is output and widget.ui.outputSelector.currentNode() is None
    names = [node.GetName() for node in map(widget.ui.outputSelector.nodeFromIndex, range(5)) if node]
    assert names == [SERIES, f"{SERIES}_1", f"{SERIES} denoised", f"{SERIES} denoised_1"]
    widget.ui.outputSelector.setCurrentNode(output)
    widget._parameterNode.inputVolume = berta
    assert widget._parameterNode.outputVolume is None  # it was chosen for Anna


def test_what_was_made_here_is_not_offered_as_an_input(two):
    host, widget, load_patient = two
    anna, berta = load_patient("ANNA"), load_patient("BERTA-MARIA")
    denoise(host, widget, anna)
    parameters = widget._parameterNode
    other = volume_nodes.volume_to_node(volume_nodes.node_to_volume(anna), "Other")  # of no patient
    parameters.uldctVolume, parameters.ndctVolume = anna, other
    expand(host, widget.ui.purificationCollapsibleButton)
    host.click(widget.ui.previewButton)
    finish_job(host, widget)
    for selector in (widget.ui.inputSelector, widget.ui.uldctSelector, widget.ui.ndctSelector):
        offered = [selector.nodeFromIndex(index) for index in range(selector.nodeCount())]
        assert offered == [anna, berta, other]
    further = widget.ui.furtherVolumesList
    assert [further.item(row).text() for row in range(further.count())] == [berta.GetName(), "Other"]
    result = newest_result(anna).denoised
    parameters.inputVolume = result  # a script may
    host.process_events(0.1)
    assert widget.ui.inputSelector.currentNode() is result
    denoise(host, widget, result)
    assert newest_result(result).input is result and newest_result(anna).denoised is result


def test_further_volumes_are_named_at_the_button_and_done_once(two):
    from PySide6.QtCore import Qt

    host, widget, load_patient = two
    anna, berta = load_patient("ANNA"), load_patient("BERTA-MARIA")
    widget._parameterNode.inputVolume = anna
    host.process_events(0.1)
    ui = widget.ui
    assert ui.denoiseButton.text() == "Denoise"
    ui.furtherVolumesList.item(0).setCheckState(Qt.Checked)
    host.process_events(0.1)
    assert ui.denoiseButton.text() == "Denoise 2 volumes" and f"{SERIES}_1" in ui.concernsLabel.text()
    host.click(ui.denoiseButton)
    finish_job(host, widget)
    assert ui.denoiseButton.text() == "Denoise" and widget._parameterNode.furtherVolumes == []
    check(newest_result(anna), "ANNA")
    check(newest_result(berta), "BERTA-MARIA")
    before = node_names(anna.GetScene())
    host.click(ui.denoiseButton)
    finish_job(host, widget)
    assert node_names(anna.GetScene()) == before


def test_leaving_the_module_during_a_run(two):
    host, widget, load_patient = two
    anna, berta = load_patient("ANNA"), load_patient("BERTA-MARIA")
    widget._parameterNode.inputVolume = anna
    widget._parameterNode.furtherVolumes = [berta]
    widget._parameterNode.outputVolume = anna.GetScene().AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Mine")
    host.process_events(0.1)
    host.click(widget.ui.denoiseButton)
    widget.exit()
    finish_job(host, widget)
    parameters = widget.logic.getParameterNode()
    assert parameters.outputVolume is None and list(parameters.furtherVolumes) == []
    check(newest_result(anna), "ANNA")


def test_an_output_that_is_removed_during_the_run_costs_nothing(two):
    host, widget, load_patient = two
    anna = load_patient("ANNA")
    denoise(host, widget, anna)
    host.click(widget.ui.denoiseButton)
    anna.GetScene().RemoveNode(newest_result(anna).denoised)
    finish_job(host, widget)
    assert host.messages == []
    check(newest_result(anna), "ANNA")


# --- after the scene was saved and loaded ---------------------------------------------------------------------


def test_scene_saved_closed_and_loaded_in_between(two, tmp_path):
    import slicer

    host, widget, load_patient = two
    denoise(host, widget, load_patient("ANNA"))
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    host.process_events(0.1)
    anna, berta = slicer.util.getNode(SERIES), load_patient("BERTA-MARIA")
    denoise(host, widget, berta)
    check(newest_result(berta), "BERTA-MARIA")
    check(newest_result(anna), "ANNA")
    widget._parameterNode.inputVolume = anna
    host.process_events(0.1)
    assert {str(each.PatientName) for each in headers(export(host, widget, tmp_path / "out"))} == {"ANNA^TEST"}


# --- where the series is ----------------------------------------------------------------------------------------


def test_a_series_in_several_folders(two, tmp_path):
    host, widget, load_patient = two
    anna = load_patient("ANNA", parts=2)
    denoise(host, widget, anna)
    written = headers(export(host, widget, tmp_path / "out"))
    assert len(written) == 4 and {str(each.PatientName) for each in written} == {"ANNA^TEST"}


def test_the_result_of_a_result_and_one_whose_input_is_gone(two, tmp_path):
    _, widget, load_patient = two
    first = widget.logic.denoise(load_patient("ANNA")).wait()
    second = widget.logic.denoise(first.denoised).wait()
    for node in (first.input, first.denoised):
        node.GetScene().RemoveNode(node)
    folder = widget.logic.exportDicom(second.denoised, tmp_path).wait()
    assert {str(each.PatientName) for each in headers(folder)} == {"ANNA^TEST"}


def lose_one(folder: Path) -> None:
    (folder / "IM002.dcm").unlink()


@pytest.mark.parametrize("agreed", [True, False, None])
@pytest.mark.parametrize(
    ("lose", "says"),
    [
        (lose_one, "1 of the 4 DICOM files"),
        (shutil.rmtree, "4 of the 4 DICOM files"),
        (None, "does not come from a DICOM series"),
    ],
)
def test_without_its_series_nothing_is_exported_without_a_question(make_host, tmp_path, lose, says, agreed):
    host = make_host(testing=agreed is None)
    widget = host.load_module(MODULE)
    node = load(host, tmp_path, "ANNA")
    widget.logic.denoise(node).wait()
    if lose:
        lose(tmp_path / "ANNA")
    else:
        node.RemoveAttribute("DICOM.instanceUIDs")
        newest_result(node).denoised.RemoveAttribute("IPv2SourceInstanceUIDs")
    (tmp_path / "out").mkdir()
    if agreed is not None:
        host.answers.append(agreed)
    host.answers.extend([tmp_path / "out"] if agreed else [])
    host.process_events(0.1)
    host.click(widget.ui.exportDicomButton)
    finish_job(host, widget)
    questions = [message.text for message in host.messages if message.kind == "question"]
    assert len(questions) == (agreed is not None) and all(
        says in text and "without patient" in text for text in questions
    )
    if agreed:
        (folder,) = (path for path in (tmp_path / "out").iterdir() if path.is_dir())
        assert len(headers(folder)) == 4
    else:
        assert list((tmp_path / "out").iterdir()) == []
        assert "Not exported" in widget.ui.denoiseStatusLabel.text() and says in widget.ui.denoiseStatusLabel.text()
    with pytest.raises(InputError, match=says):
        widget.logic.exportDicom(newest_result(node).denoised, tmp_path / "out")


def test_a_file_that_was_replaced_by_another_patients(two, tmp_path):
    host, widget, load_patient = two
    anna = load_patient("ANNA")
    denoise(host, widget, anna)
    other = write_patient(tmp_path / "other", "BERTA-MARIA")
    shutil.copy(other / "IM001.dcm", tmp_path / "archive" / "ANNA" / "IM001.dcm")
    (tmp_path / "out").mkdir()
    host.answers.append(tmp_path / "out")
    host.click(widget.ui.exportDicomButton)
    finish_job(host, widget)
    assert "IM001.dcm is not the file any more" in host.messages[-1].text
    assert list((tmp_path / "out").iterdir()) == []


def test_a_volume_that_was_moved_since_it_was_loaded(two, tmp_path):
    host, widget, load_patient = two
    anna = load_patient("ANNA")
    anna.SetOrigin(10, 20, 30)
    denoise(host, widget, anna)
    (tmp_path / "out").mkdir()
    host.answers.append(tmp_path / "out")
    host.click(widget.ui.exportDicomButton)
    finish_job(host, widget)
    assert "moved, cropped or resampled" in host.messages[-1].text
    assert list((tmp_path / "out").iterdir()) == []


# --- files ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "name_filter", "written"),
    [
        ("out", None, "out.nrrd"),
        ("Thorax 1.0", "NIfTI (*.nii.gz *.nii)", "Thorax 1.0.nii.gz"),
        ("Thorax 1.0 B31f", "MetaImage (*.mha *.mhd)", "Thorax 1.0 B31f.mha"),
        ("out.nii", "NRRD (*.nrrd)", "out.nii"),
    ],
)
def test_the_file_has_the_suffix_of_the_filter_where_none_was_typed(two, tmp_path, typed, name_filter, written):
    host, widget, load_patient = two
    denoise(host, widget, load_patient("ANNA"))
    host.answers.append((tmp_path / typed, name_filter) if name_filter else tmp_path / typed)
    host.click(widget.ui.saveButton)
    finish_job(host, widget)
    assert {path.name for path in tmp_path.iterdir()} == {"archive", written, f"{written}.json"}
    assert json.loads((tmp_path / f"{written}.json").read_text())["strength"] == 1.0


def test_save_proposes_a_name_that_every_system_takes_in_the_folder_of_the_last_time(two, tmp_path):
    host, widget, load_patient = two
    anna = load_patient("ANNA")
    denoise(host, widget, anna)
    host.answers.append(tmp_path / "a.nrrd")
    host.click(widget.ui.saveButton)
    finish_job(host, widget)
    host.click(widget.ui.saveButton)
    proposed = host.messages[-1].detail
    assert proposed == str(tmp_path / "4_ Thorax 1.0 B31f denoised.nrrd")
    host.click(widget.ui.exportDicomButton)
    assert host.messages[-1].detail == str(tmp_path)
    # a file that the dialog has not asked about
    (tmp_path / "b.nrrd").write_text("precious")
    host.answers.extend([tmp_path / "b", False])
    host.click(widget.ui.saveButton)
    assert "exists already" in host.messages[-1].text and (tmp_path / "b.nrrd").read_text() == "precious"
    with pytest.raises(IPv2Error, match="no earlier output"):  # nobody was asked
        widget.logic.save(newest_result(anna).denoised, tmp_path / "b.nrrd").wait()
    assert (tmp_path / "b.nrrd").read_text() == "precious"


def test_saving_is_cancelled_without_a_trace(two, tmp_path):
    host, widget, load_patient = two
    denoise(host, widget, load_patient("ANNA"))
    before = sorted(tmp_path.iterdir())
    host.answers.append(tmp_path / "a.nrrd")
    host.click(widget.ui.saveButton)
    host.click(widget.ui.denoiseButton)
    finish_job(host, widget)
    assert sorted(tmp_path.iterdir()) == before and "Cancelled" in widget.ui.denoiseStatusLabel.text()
    assert widget.ui.saveButton.isEnabled() and host.messages[-1].kind == "file"


# --- clicks -----------------------------------------------------------------------------------------------------


def test_a_double_click_starts_a_run_and_does_not_cancel_it(two):
    host, widget, load_patient = two
    anna = load_patient("ANNA")
    host.process_events(0.1)
    host.double_click(widget.ui.denoiseButton)
    finish_job(host, widget)
    assert widget.ui.denoiseStatusLabel.text().startswith("Done in")
    check(newest_result(anna), "ANNA")


def test_a_double_click_on_cancel_does_not_start_again(two):
    host, widget, load_patient = two
    load_patient("ANNA")
    host.process_events(0.1)
    widget._parameterNode.testTimeAugmentation = True  # so that it is still at work
    host.click(widget.ui.denoiseButton)
    host.process_events(0.1)
    host.double_click(widget.ui.denoiseButton)
    finish_job(host, widget)
    assert widget.ui.denoiseStatusLabel.text().startswith("Cancelled")


def test_a_double_click_on_purify(two):
    host, widget, load_patient = two
    parameters = widget._parameterNode
    anna = load_patient("ANNA")
    parameters.uldctVolume, parameters.ndctVolume = (
        anna,
        volume_nodes.volume_to_node(volume_nodes.node_to_volume(anna), "NDCT"),
    )
    expand(host, widget.ui.purificationCollapsibleButton)
    host.double_click(widget.ui.purifyButton)
    assert widget.logic.runner.state.active or widget.logic.runner.state.value == "completed"
    finish_job(host, widget)
    assert widget.logic.runner.state.value == "completed"


# --- Purification loads through Slicer --------------------------------------------------------------------------


@pytest.mark.parametrize("one_file", [False, True])
def test_purification_loads_dicom_with_its_patient(two, tmp_path, one_file):
    host, widget, _ = two
    expand(host, widget.ui.purificationCollapsibleButton)
    for who, role in (("ANNA", "uldct"), ("BERTA-MARIA", "ndct")):
        folder = write_patient(tmp_path, who)
        host.answers.append(folder / "IM001.dcm" if one_file else folder)
        host.click(getattr(widget.ui, f"{role}{'File' if one_file else 'Dicom'}Button"))
        node = getattr(widget._parameterNode, f"{role}Volume")
        assert export_tags(node)["PatientName"] == f"{who}^TEST"
        assert len(node.GetAttribute("DICOM.instanceUIDs").split()) == 4
        np.testing.assert_array_equal(volume_nodes.node_to_volume(node).array, chest(who))
    assert [message.kind for message in host.messages] == ["file", "file"]


def test_purification_says_in_one_line_what_cannot_be_loaded(two, tmp_path):
    import slicer

    host, widget, _ = two
    expand(host, widget.ui.purificationCollapsibleButton)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.nrrd").write_bytes(b"NRRD0004\nnonsense")
    both = tmp_path / "both"
    both.mkdir()
    for who in ("ANNA", "BERTA-MARIA"):
        for path in write_patient(tmp_path, who).iterdir():
            shutil.copy(path, both / f"{who}-{path.name}")
    for button, path, says in (
        ("Dicom", tmp_path / "empty", "no DICOM image of CT"),
        ("Dicom", both, "2 CT series"),
        ("File", tmp_path / "bad.nrrd", "could not be loaded"),
    ):
        host.answers.append(path)
        host.click(getattr(widget.ui, f"uldct{button}Button"))
        assert host.messages[-1].kind == "error" and says in host.messages[-1].text
        assert "\n" not in host.messages[-1].text
    slicer.dicomDatabase.setProperty("isOpen", False)
    host.answers.append(tmp_path / "ANNA")
    host.click(widget.ui.uldctDicomButton)
    assert "database is not open" in host.messages[-1].text
    assert widget._parameterNode.uldctVolume is None
