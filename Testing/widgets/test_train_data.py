"""What a researcher does in section Data of IPv2 Train: add cases, split them, purify, look; and what goes wrong."""

from pathlib import Path

import numpy as np
import pytest
from IPv2Lib.datasets import cases
from IPv2Lib.datasets.cases import Case
from IPv2Lib.datasets.shards import PurifiedDataset
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume, same_grid
from IPv2Lib.purification.purify import purify
from IPv2Lib.purification.stage_files import export_stages
from IPv2Lib.simulation import phantom
from IPv2SlicerLib.scene import volume_nodes
from panel import expand, view_names
from train_panel import choose_dataset, errors, finish, open_panel, write_scans


def rows(widget) -> list[list[str]]:
    """The table as it is seen."""
    table = widget.ui.casesTable
    return [
        [table.item(row, column).text() for column in range(table.columnCount())] for row in range(table.rowCount())
    ]


def column(widget, number: int) -> dict[str, str]:
    return {row[0]: row[number] for row in rows(widget)}


def states(widget) -> dict[str, str]:
    return column(widget, 1)


def splits(widget) -> dict[str, str]:
    return column(widget, 2)


def purify_all(host, widget, timeout: float = 90.0) -> None:
    host.click(widget.ui.purifyButton)
    finish(host, widget.logic, timeout)


def test_from_scans_to_a_data_set(host, tmp_path):
    import slicer

    found = write_scans(tmp_path / "scans", 3, size=48, slices=2)
    widget = open_panel(host)
    ui = widget.ui
    assert ui.splitPreviewLabel.text().startswith("No case yet")
    choose_dataset(host, widget, tmp_path / "data")
    widget._parameterNode.dosePercent = 5.0
    host.answers.append([str(case.ndct) for case in found[1:]])
    host.click(ui.addFilesButton)
    host.answers.extend([found[0].uldct, found[0].ndct])
    host.click(ui.addPairButton)
    assert [row[4:] for row in rows(widget)] == [["simulated", "5 %", "6 mm"]] * 2 + [["scan", "5 %", ""]]
    assert set(states(widget).values()) == {"to do"}
    assert ui.purifyStatusLabel.text().startswith("1 added. Names are those of")
    assert ui.splitPreviewLabel.text().count("1/1") == 3
    host.answers.append([str(found[1].ndct)])
    host.click(ui.addFilesButton)
    assert len(rows(widget)) == 3 and "1 known already" in ui.purifyStatusLabel.text()

    before = splits(widget)
    host.click(ui.purifyButton)
    assert ui.purifyButton.text() == "Cancel" and ui.purifyProgressBar.isVisible()
    finish(host, widget.logic)
    assert errors(host) == [] and ui.purifyStatusLabel.text() == "3 of 3 cases are purified."
    assert set(states(widget).values()) == {"purified"} and splits(widget) == before
    data = PurifiedDataset.read(tmp_path / "data")
    assert {shard.case: shard.split for shard in data.shards} == before
    assert all(shard.dose == 0.05 for shard in data.shards if shard.has("ground_truth"))

    # a look at a case, in the panel and in the views
    host.click_cell(ui.casesTable, 1, 0)
    host.process_events()
    assert ui.casePreview.isVisible() and ui.caseLabel.text() == rows(widget)[1][0]
    assert [label.pixmap().width() for label in (ui.uldctPicture, ui.testLabelPicture)] == [136, 136]
    host.click(ui.showCaseButton)
    shard = next(each for each in data.shards if each.case == rows(widget)[1][0])
    shown = slicer.util.arrayFromVolume(slicer.util.getNode(f"{shard.case} training input"))
    np.testing.assert_array_equal(shown, shard.pair(np.s_[:], "ipv2")[0])
    assert len(view_names()) == 4

    # other names and patients: what is purified anew, and what is not
    name = rows(widget)[0][0]
    ui.casesTable.item(0, 3).setText("Somebody")
    assert states(widget)[name] == "purified"
    ui.casesTable.item(0, 0).setText("renamed")
    assert states(widget)["renamed"] == "to do"
    ui.casesTable.item(0, 0).setText(rows(widget)[1][0])
    assert "are called" in errors(host)[0] and rows(widget)[0][0] == "renamed"


def test_folders_of_dicom_series_and_of_stages(host, tmp_path):
    pair = phantom.pair(size=48, slices=2)
    series = files.write(pair.ndct, tmp_path / "series")
    export_stages(purify(pair.uldct, pair.ndct), tmp_path / "stages")
    widget = open_panel(host)
    host.answers.append(series)
    host.click(widget.ui.addDicomButton)
    host.answers.append(tmp_path / "stages")
    host.click(widget.ui.addStagesButton)
    assert column(widget, 4) == {"series": "simulated", "stages": "scan"} and errors(host) == []
    (tmp_path / "empty").mkdir()
    host.answers.append(tmp_path / "empty")
    host.click(widget.ui.addDicomButton)
    assert "holds no CT" in errors(host)[0] and len(rows(widget)) == 2


def test_volumes_of_the_scene_become_files_of_the_data_set(host, tmp_path):
    pair = phantom.pair(size=48, slices=2)
    uldct, ndct = volume_nodes.volume_to_node(pair.uldct, "My uLDCT"), volume_nodes.volume_to_node(pair.ndct, "My NDCT")
    widget = open_panel(host)
    expand(host, widget.ui.sceneCollapsibleButton)
    add, parameters = widget.ui.addFromSceneButton, widget._parameterNode
    assert not add.isEnabled() and "folder of the data set is missing" in add.toolTip()
    choose_dataset(host, widget, tmp_path / "data")
    assert not add.isEnabled() and add.toolTip() == "No NDCT is chosen: choose the normal-dose CT of the case."
    parameters.ndctVolume = parameters.uldctVolume = ndct
    assert not add.isEnabled() and "are both 'My NDCT'" in add.toolTip()
    parameters.uldctVolume = uldct
    host.click(add)
    parameters.ndctVolume = ndct
    host.click(add)
    assert column(widget, 4) == {"My NDCT": "scan", "My NDCT-2": "simulated"}
    assert len(set(column(widget, 3).values())) == 1, "one scan is of one patient"
    scans = list((tmp_path / "data" / "scans").iterdir())
    assert all(file.name.startswith("scan-") for file in scans), "no name of a node"
    (written,) = (each for each in map(files.read, scans) if np.array_equal(each.array, pair.ndct.array))
    assert same_grid(written, pair.ndct)
    purify_all(host, widget)
    assert set(states(widget).values()) == {"purified"}


def write_small(folder: Path, *names: str) -> list[Path]:
    """Files for tests that look at nothing but their names."""
    volume = Volume(np.zeros((1, 2, 2), np.int16))
    return [files.write(volume, folder / f"{name}.nrrd") for name in names]


def test_a_patient_moves_as_a_whole_and_the_seed_decides(host, tmp_path):
    found = write_small(tmp_path, *(f"patient{number}" for number in range(4)))
    table = tmp_path / "cases.csv"
    cases.write_table([Case(path.stem, ndct=path, patient=f"P{n // 2}") for n, path in enumerate(found)], table)
    widget = open_panel(host)
    ui, parameters = widget.ui, widget._parameterNode
    host.answers.append(table)
    host.click(ui.openTableButton)
    assigned = splits(widget)
    assert assigned["patient0"] == assigned["patient1"] and assigned["patient2"] == assigned["patient3"]
    assert set(assigned.values()) == {"train", "test"}

    assert not ui.splitSelector.isEnabled()
    host.click_cell(ui.casesTable, 0, 0)
    ui.splitSelector.setCurrentText("validation")
    ui.splitSelector.activated.emit(ui.splitSelector.currentIndex())
    assert splits(widget)["patient0"] == splits(widget)["patient1"] == "validation"
    host.click(ui.drawAgainButton)
    assert splits(widget) == assigned

    for seed in range(1, 30):
        parameters.splitSeed = seed
        if splits(widget) != assigned:
            break
    else:
        pytest.fail("no seed draws another split")
    parameters.splitSeed = 0
    assert splits(widget) == assigned
    parameters.trainPercent, parameters.validationPercent = 80, 40
    assert "80, 40" in ui.splitPreviewLabel.text().replace("0.", "").replace("8, 4", "80, 40")
    host.click(ui.drawAgainButton)
    assert "sum 1" in errors(host)[0]
    host.click_cell(ui.casesTable, 0, 0)
    host.click(ui.removeButton)
    assert list(splits(widget)) == ["patient1", "patient2", "patient3"]


def write_bad_tables(folder: Path) -> dict[str, tuple[Path, str]]:
    """Tables that cannot be used, and what is said about each."""
    a, b = write_small(folder, "a", "b")
    texts = {
        "unpaired": (f"name,uldct,ndct\nhalf,{a},\n", "case 'half'"),
        "mixed": (f"name,ndct,patient,split\none,{a},P,train\ntwo,{b},P,test\n", "in train (case 'one') and in test"),
        "missing": ("name,ndct\nghost,nowhere.nrrd\n", "case 'ghost'"),
        "dose": (f"name,ndct,dose\nloud,{a},7\n", "case 'loud'"),
        "columns": ("a,b\n1,2\n", "unknown column"),
    }
    found = {}
    for name, (text, says) in texts.items():
        path = folder / f"{name}.csv"
        path.write_text(text)
        found[name] = path, says
    return found


def test_bad_tables_are_refused_and_named(host, tmp_path):
    widget = open_panel(host)
    assert not widget.ui.purifyButton.isEnabled()
    for name, (path, says) in write_bad_tables(tmp_path).items():
        host.answers.append(path)
        host.click(widget.ui.openTableButton)
        found = errors(host)
        assert len(found) == 1 and says.lower() in found[0].lower(), (name, found)
        assert rows(widget) == [], name


def test_bad_scans_are_named_and_the_others_are_purified(host, tmp_path):
    good, single, no_lung = write_scans(tmp_path / "scans", 3, size=48, slices=2, paired=())
    one = files.read(single.ndct)
    files.write(one.with_array(one.array[:1]), single.ndct)
    flat = files.read(no_lung.ndct)
    is_lung = (flat.array > -960) & (flat.array < -200)
    files.write(flat.with_array(np.where(is_lung, np.int16(40), flat.array)), no_lung.ndct)
    grey = tmp_path / "scans" / "photograph.nrrd"
    files.write(flat.with_array((np.arange(flat.array.size, dtype=np.int16) % 256).reshape(flat.array.shape)), grey)
    apart = tmp_path / "scans" / "elsewhere.nrrd"
    shifted = files.read(good.ndct)
    files.write(Volume(shifted.array, shifted.spacing, (5000.0, 0.0, 0.0), shifted.direction), apart)

    widget = open_panel(host)
    choose_dataset(host, widget, tmp_path / "data")
    host.answers.append([str(path) for path in (good.ndct, single.ndct, no_lung.ndct, grey)])
    host.click(widget.ui.addFilesButton)
    host.answers.extend([apart, good.ndct])
    host.click(widget.ui.addPairButton)
    purify_all(host, widget)
    (said,) = errors(host)
    found = states(widget)
    pair_name = next(name for name, kind in column(widget, 4).items() if kind == "scan")
    bad = {no_lung.ndct.stem: "lung", "photograph": "HU", pair_name: "covers 0 %"}
    assert {name for name, state in found.items() if state == "failed"} == set(bad), said
    assert {state for name, state in found.items() if name not in bad} == {"purified"}
    for name, reason in bad.items():
        line = next(line for line in said.splitlines() if name in line)
        row = [each[0] for each in rows(widget)].index(name)
        assert reason in line
        assert widget.ui.casesTable.item(row, 1).toolTip() in line
    assert widget.ui.purifyStatusLabel.text() == "2 of 5 cases are purified."
    assert "one slice" in widget.ui.logText.toPlainText()


def test_cancelled_and_gone_on_with(host, tmp_path):
    found = write_scans(tmp_path / "scans", 2, size=128, slices=4, paired=())
    widget = open_panel(host)
    choose_dataset(host, widget, tmp_path / "data")
    host.answers.append([str(case.ndct) for case in found])
    host.click(widget.ui.addFilesButton)
    host.click(widget.ui.purifyButton)
    host.wait_until(lambda: widget.logic.runner.fraction > 0.05, 60)
    host.click_cell(widget.ui.casesTable, 0, 0)
    assert not widget.ui.removeButton.isEnabled()
    host.click(widget.ui.purifyButton)
    finish(host, widget.logic)
    assert widget.ui.purifyStatusLabel.text() == "Cancelled; finished cases stay." and errors(host) == []
    purify_all(host, widget)
    assert set(states(widget).values()) == {"purified"}


def test_a_data_set_on_disk_is_shown_also_after_the_scene_was_closed(host, dataset, tmp_path):
    import slicer

    widget = open_panel(host, dataset)
    before = rows(widget)
    assert len(before) == 4 and {row[1] for row in before} == {"purified"}
    slicer.mrmlScene.Clear()
    host.process_events()
    assert rows(widget) == before and widget._parameterNode.dataset == str(dataset)
    (dataset / "shards" / PurifiedDataset.read(dataset).shards[0].key / "ndct.npy").unlink()
    slicer.mrmlScene.Clear()
    host.process_events()
    assert rows(widget) == [] and host.messages == []
    widget.ui.datasetPathLineEdit.setCurrentPath(str(dataset))
    host.process_events(0.5)
    assert "prepare again" in errors(host)[0] and rows(widget) == []


def test_parameters_and_cases_are_saved_with_the_scene(host, dataset, tmp_path):
    import slicer

    widget = open_panel(host, dataset)
    before = rows(widget)
    widget._parameterNode.learningRate = 0.002
    widget._parameterNode.methods = ["input", "ipv2-fast"]
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(path)
    host.process_events()
    assert rows(widget) == before and widget._parameterNode.learningRate == 0.002
    assert list(widget._parameterNode.methods) == ["input", "ipv2-fast"]
