"""Who the cases of IPv2 Train are of, what can be one, and what a double click does."""

from pathlib import Path

import pytest
from IPv2Lib.datasets.patients import hidden, patient_label
from IPv2Lib.io import files
from IPv2Lib.simulation import phantom
from IPv2Lib.training.run_folder import read_run
from IPv2SlicerLib.scene import volume_nodes
from panel import expand
from patients import write_patient
from test_train_results import tick
from train_panel import choose_dataset, errors, finish, make_tiny, open_panel, write_scans


def column(widget, number: int) -> dict[str, str]:
    table = widget.ui.casesTable
    return {table.item(row, 0).text(): table.item(row, number).text() for row in range(table.rowCount())}


def patients(widget) -> dict[str, str]:
    return column(widget, 3)


def labels(**patients: str) -> dict[str, str]:
    """The label of each case's patient."""
    return {name: hidden(patient) for name, patient in patients.items()}


@pytest.fixture
def panel(host, tmp_path):
    """The widget with a folder for a data set, and the scene's volumes unfolded."""
    widget = open_panel(host)
    choose_dataset(host, widget, tmp_path / "data")
    expand(host, widget.ui.sceneCollapsibleButton)
    return widget


def add(host, widget, ndct, uldct=None) -> None:
    widget._parameterNode.ndctVolume, widget._parameterNode.uldctVolume = ndct, uldct
    host.click(widget.ui.addFromSceneButton)


def new_volume(name: str, seed: int):
    return volume_nodes.volume_to_node(phantom.chest(seed=seed, size=48, slices=2), name)


def in_hierarchy(node, study: str, **patient: str) -> None:
    """Put a volume under a patient and a study, as Slicer does when it loads DICOM."""
    import slicer

    tree = slicer.mrmlScene.GetSubjectHierarchyNode()
    key = patient.get("PatientID") or f"Patient-{study}"
    item = tree.GetItemByUID("DICOM", key)
    if not item:
        item = tree.CreateSubjectItem(tree.GetSceneItemID(), patient.get("PatientName", "No name"))
        tree.SetItemUID(item, "DICOM", key)
        for name, value in {"PatientName": "No name", **patient, "PatientID": key}.items():
            tree.SetItemAttribute(item, f"DICOM.{name}", value)
    of_study = tree.GetItemByUID("DICOM", study)
    if not of_study:
        of_study = tree.CreateStudyItem(item, "study")
        tree.SetItemUID(of_study, "DICOM", study)
    tree.SetItemParent(tree.GetItemByDataNode(node), of_study)


def test_scans_of_one_patient_are_of_one_whatever_their_names_and_studies(host, panel):
    facts = [
        ("a", "1.1", {"PatientID": "17", "PatientName": "DOE^JANE"}),
        ("b", "1.2", {"PatientID": "17", "PatientName": "DOE^JANE^MARY"}),
        ("c", "1.3", {"PatientID": "18", "PatientName": "DOE^JANE"}),  # of the same name
        ("d", "1.4", {"PatientName": "ROE^RICHARD", "PatientBirthDate": "19500101"}),
        ("e", "1.5", {"PatientName": "ROE^RICHARD", "PatientBirthDate": "19500101"}),
        ("f", "1.6", {"PatientName": "ROE^RICHARD", "PatientBirthDate": "19600101"}),
        ("g", "1.7", {"PatientName": "ROE^RICHARD"}),
        ("h", "1.7", {"PatientName": "ROE^RICHARD"}),
        ("i", "1.8", {"PatientName": "ROE^RICHARD"}),
    ]
    for seed, (name, study, patient) in enumerate(facts):
        node = new_volume(name, seed)
        in_hierarchy(node, study, **patient)
        add(host, panel, node)
    found = patients(panel)
    assert found == labels(
        a="17", b="17", c="18", d="ROE^RICHARD 19500101", e="ROE^RICHARD 19500101",
        f="ROE^RICHARD 19600101", g="Patient-1.7", h="Patient-1.7", i="Patient-1.8",
    )  # fmt: skip
    splits = column(panel, 2)
    for one, other in ("ab", "de", "gh"):
        assert splits[one] == splits[other]


def test_a_patient_is_the_same_from_the_scene_and_from_files(host, panel, tmp_path):
    nodes = {who: host.import_dicom(write_patient(tmp_path / "archive", who))[0] for who in ("ANNA", "BERTA-MARIA")}
    for node in nodes.values():
        add(host, panel, node)
    host.answers.append(tmp_path / "archive" / "ANNA")
    host.click(panel.ui.addDicomButton)
    expected = [hidden(patient) for patient in ("ID-ANNA", "ID-ANNA", "ID-BERTA-MARIA")]
    assert sorted(patients(panel).values()) == sorted(expected)
    assert errors(host) == []


def test_patients_made_by_hand_count_by_name_and_by_order(host, panel):
    import slicer

    tree = slicer.mrmlScene.GetSubjectHierarchyNode()
    for seed, (name, patient) in enumerate({"a": "One", "b": "One", "c": "Other"}.items()):
        node = new_volume(name, seed)
        tree.SetItemParent(tree.GetItemByDataNode(node), tree.CreateSubjectItem(tree.GetSceneItemID(), patient))
        add(host, panel, node)
    assert patients(panel) == labels(a="One", b="One (2)", c="Other")


def test_two_scans_of_one_name_are_of_two_patients(host, panel, tmp_path):
    paths = []
    for seed in range(2):
        (tmp_path / str(seed)).mkdir()
        chest = phantom.chest(seed=seed, size=48, slices=2)
        paths.append(Path(files.write(chest, tmp_path / str(seed) / "ndct.nrrd")))
        add(host, panel, new_volume("CT", 10 + seed))
    for path in paths:
        host.answers.append([str(path)])
        host.click(panel.ui.addFilesButton)
    assert patients(panel) == {name: hidden(name) for name in ("CT", "CT-2", "ndct", "ndct-2")}


def test_one_scan_twice_is_of_one_patient_and_one_file(host, panel, tmp_path):
    first, again = new_volume("One", 0), new_volume("The same", 0)
    for node in (first, again, first):
        add(host, panel, node)
    assert patients(panel) == labels(One="One") and "known already" in panel.ui.purifyStatusLabel.text()
    assert len(list((tmp_path / "data" / "scans").iterdir())) == 1


def test_a_pair_of_two_patients_is_refused(host, panel, tmp_path):
    ndct, uldct = (host.import_dicom(write_patient(tmp_path / "archive", who))[0] for who in ("ANNA", "BERTA-MARIA"))
    panel._parameterNode.ndctVolume, panel._parameterNode.uldctVolume = ndct, uldct
    button = panel.ui.addFromSceneButton
    assert not button.isEnabled()
    assert "two patients, 'ANNA^TEST" in button.toolTip() and "'BERTA-MARIA^TEST" in button.toolTip()
    anna, berta = hidden("ID-ANNA"), hidden("ID-BERTA-MARIA")
    table = tmp_path / "cases.csv"
    table.write_text(f"name,ndct,uldct\npair,{tmp_path}/archive/ANNA,{tmp_path}/archive/BERTA-MARIA\n")
    host.answers.append(table)
    host.click(panel.ui.openTableButton)
    (said,) = errors(host)
    assert anna in said and berta in said and "ID-" not in said and patients(panel) == {}
    table.write_text(f"name,patient,ndct,uldct\npair,P,{tmp_path}/archive/ANNA,{tmp_path}/archive/BERTA-MARIA\n")
    host.answers.append(table)
    host.click(panel.ui.openTableButton)
    assert errors(host) == [] and patients(panel) == labels(pair="P")


def test_neutral_names_are_an_option_and_names_of_files_are_warned_of(host, panel, tmp_path):
    for seed in range(2):
        files.write(phantom.chest(seed=seed, size=48, slices=2), tmp_path / f"SMITH-{seed}.nrrd")
        host.answers.append([str(tmp_path / f"SMITH-{seed}.nrrd")])
        host.click(panel.ui.addFilesButton)
        assert ("Names are those of files" in panel.ui.purifyStatusLabel.text()) == (seed == 0)
        panel._parameterNode.neutralNames = True
    assert list(patients(panel)) == ["SMITH-0", "case-001"]
    assert "SMITH" not in "".join(patients(panel).values())


def test_a_patient_that_is_typed_is_hidden_at_once(host, panel):
    add(host, panel, new_volume("a", 0))
    panel.ui.casesTable.item(0, 3).setText("SMITH")
    host.process_events(0.1)
    assert patients(panel) == labels(a="SMITH") and errors(host) == []


def test_results_and_images_of_runs_are_not_offered_and_not_taken(host, panel):
    scan, made = new_volume("scan", 0), []
    for name in ("IPv2Denoised", "IPv2Difference", "IPv2NetworkOutput", "IPv2Stage", "IPv2.training"):
        made.append(new_volume(name, 1))
        made[-1].SetAttribute(name, "1")
    host.process_events(0.1)
    for selector in (panel.ui.ndctSelector, panel.ui.uldctSelector):
        assert [selector.nodeFromIndex(index) for index in range(selector.nodeCount())] == [scan]
    for node in made:  # as a script may
        panel._parameterNode.ndctVolume = node
        assert not panel.ui.addFromSceneButton.isEnabled()
        assert f"'{node.GetName()}' was made by IPv2" in panel.ui.addFromSceneButton.toolTip()


@pytest.mark.parametrize("name", ["4: Thorax 1.0 B31f", "CON", "a/b\\c", "x" * 300, "end.", "line\nbreak", " "])
def test_a_volume_of_any_name_becomes_a_file_of_a_name_that_every_system_takes(host, panel, tmp_path, name):
    from IPv2Lib.datasets.cases import read_table, write_table
    from IPv2Lib.io.outputs import file_name
    from IPv2TrainLib.Cases import casesFromText

    add(host, panel, new_volume(name, 0))
    assert errors(host) == []
    (path,) = (tmp_path / "data" / "scans").iterdir()
    assert file_name(path.name) == path.name[:200] and len(path.name) < 256
    cases = casesFromText(panel._parameterNode.cases)
    write_table(cases, tmp_path / "cases.csv")
    assert read_table(tmp_path / "cases.csv") == cases


def test_labels():
    assert patient_label(" 17 ") == "17"
    assert patient_label("Patient-1.2", "DOE^JANE", "19500101", "1.2") == "DOE^JANE 19500101"
    assert patient_label("Patient-1.2", "No name") == "Patient-1.2"
    assert patient_label("Patient-A") == "Patient-A"  # somebody's own
    assert patient_label("", "DOE^JANE") == ""  # a name is no identity


# --- double clicks ----------------------------------------------------------------------------------------------


def test_a_double_click_on_add_and_remove_does_each_once(host, panel, tmp_path):
    panel._parameterNode.ndctVolume = new_volume("One", 0)
    host.double_click(panel.ui.addFromSceneButton)
    host.process_events(0.1)
    assert patients(panel) == labels(One="One") and host.messages == []
    scans = write_scans(tmp_path / "scans", 1, size=48, slices=2, paired=())
    host.answers.append([str(scans[0].ndct)])  # a second dialog would have no answer
    host.double_click(panel.ui.addFilesButton)
    host.process_events(0.1)
    assert len(patients(panel)) == 2 and host.messages[1:] == []
    host.click_cell(panel.ui.casesTable, 0, 0)
    host.double_click(panel.ui.removeButton)
    host.process_events(0.1)
    assert len(patients(panel)) == 1 and errors(host) == []


def test_a_double_click_on_purify_purifies(host, panel, tmp_path):
    host.answers.append([str(write_scans(tmp_path / "scans", 1, size=48, slices=2, paired=())[0].ndct)])
    host.click(panel.ui.addFilesButton)
    host.double_click(panel.ui.purifyButton)
    finish(host, panel.logic)
    assert set(column(panel, 1).values()) == {"purified"} and errors(host) == []


def test_a_double_click_on_start_begins_one_run(host, dataset):
    widget = open_panel(host, dataset)
    expand(host, widget.ui.trainCollapsibleButton)
    make_tiny(widget, steps=3)
    host.double_click(widget.ui.startButton)
    finish(host, widget.logic.training)
    assert sorted(path.name for path in (dataset / "runs").iterdir()) == ["finished", "ipv2-1"]
    assert read_run(dataset / "runs" / "ipv2-1").state == "completed" and errors(host) == []


def test_a_double_click_on_compare_ablation_and_publish_does_each_once(host, dataset):
    widget = open_panel(host, dataset)
    ui, parameters = widget.ui, widget._parameterNode
    expand(host, ui.evaluateCollapsibleButton, ui.ablationCollapsibleButton, ui.publishCollapsibleButton)
    make_tiny(widget)
    tick(widget, "Input, as it is")
    parameters.slicesPerCase = parameters.ablationSeeds = parameters.ablationSteps = 1
    parameters.modelName = "mine"
    for button, made in (
        (ui.compareButton, dataset / "comparisons" / "comparison-1" / "table.csv"),
        (ui.ablationButton, dataset / "ablation" / "ablation.csv"),
    ):
        host.double_click(button)
        finish(host, widget.logic, 240)
        assert made.is_file() and errors(host) == []
    assert len(list((dataset / "comparisons").iterdir())) == 1
    host.double_click(ui.publishButton)
    finish(host, widget.logic)
    assert "mine" in ui.publishStatusLabel.text() and host.messages == []
