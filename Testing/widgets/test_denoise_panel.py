"""What a radiologist does in IPv2 Denoise: open, click, compare, change the strength, save."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.analysis.region_statistics import RegionResponse, StrengthStatistics
from IPv2Lib.io import files
from IPv2Lib.models import bundle
from IPv2SlicerLib.scene import blending, result_nodes, volume_nodes
from panel import MODULE, expand, finish_job, node_names, open_panel, view_names

OPEN_WITHOUT_TORCH = """
import sys
from host import Host
with Host() as host:
    widget = host.load_module(sys.argv[1])
    assert not widget.ui.denoiseButton.isEnabled()
    print("torch" in sys.modules)
"""


def slice_views(layout_names):
    import slicer

    views = {view.GetLayoutName(): view for view in slicer.util.getNodesByClass("vtkMRMLSliceNode")}
    return [views[name] for name in layout_names]


def shown_volumes(views) -> list[str]:
    import slicer

    composites = {each.GetLayoutName(): each for each in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}
    return [
        slicer.mrmlScene.GetNodeByID(composites[view.GetLayoutName()].GetBackgroundVolumeID()).GetName()
        for view in views
    ]


def test_opening_the_module_imports_no_torch():
    folders = [str(MODULE.parent), str(Path(__file__).resolve().parents[1])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folders)}
    run = subprocess.run(
        [sys.executable, "-c", OPEN_WITHOUT_TORCH, str(MODULE)], capture_output=True, text=True, env=environment
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-1] == "False"


def test_the_volume_that_is_shown_is_chosen(host):
    import slicer

    widget, uldct, _ = open_panel(host)
    assert widget.ui.inputSelector.currentNode() is uldct
    slicer.mrmlScene.Clear()
    assert widget.ui.inputSelector.currentNode() is None


def test_from_click_to_result(host, tmp_path):
    import slicer

    widget, uldct, _ = open_panel(host)
    ui = widget.ui
    assert not ui.saveButton.isEnabled() and not ui.regionTable.isVisible()

    host.click(ui.denoiseButton)
    assert ui.denoiseButton.text() == "Cancel" and not ui.purifyButton.isEnabled()
    values = []

    def over() -> bool:
        values.append(ui.denoiseProgressBar.value())
        return not widget.logic.runner.state.active

    host.wait_until(over, 90)
    host.process_events(0.1)
    assert values == sorted(values) and len(set(values)) >= 4 and values[-1] > 900
    assert host.messages == []

    # the result, beside its source
    nodes = result_nodes.nodes_of(slicer.util.getNode("CTChest denoised"))
    before, after = slicer.util.arrayFromVolume(uldct), slicer.util.arrayFromVolume(nodes.denoised).copy()
    assert np.abs(np.diff(after)).mean() < np.abs(np.diff(before)).mean()
    rows = [[nodes.table.GetCellText(row, column) for column in (0, 5)] for row in range(3)]
    assert rows[0][0] == "Outside the body" and float(rows[0][1]) > 20  # % of the noise
    tree = slicer.mrmlScene.GetSubjectHierarchyNode()
    parents = {tree.GetItemParent(tree.GetItemByDataNode(node)) for node in (uldct, nodes.denoised, nodes.difference)}
    assert len(parents) == 1
    facts = volume_nodes.provenance(nodes.denoised)
    assert facts["model"] == "ipv2-fast" and len(facts["weights_sha256"]) == 64

    # the views
    views = slice_views(["IPv2View1", "IPv2View2", "IPv2View3"])
    assert shown_volumes(views) == ["CTChest", "CTChest denoised", "CTChest difference"]
    assert view_names() == ["IPv2View1", "IPv2View2", "IPv2View3"]
    logic = host.app.layoutManager().sliceWidget("IPv2View1").sliceLogic()
    logic.StartSliceOffsetInteraction()
    logic.SetSliceOffset(-2.5)
    logic.EndSliceOffsetInteraction()
    host.process_events()
    assert [round(view.GetSliceToRAS().GetElement(2, 3), 3) for view in views] == [-2.5] * 3
    uldct.GetDisplayNode().SetWindowLevel(400, 40)
    assert nodes.denoised.GetDisplayNode().GetWindow() == 400

    # the panel
    assert ui.denoiseButton.text() == "Denoise"
    assert not ui.denoiseProgressBar.isVisible() and ui.denoiseStatusLabel.text().startswith("Done in")
    assert ui.regionTable.isVisible() and "Lung and airways" in ui.regionTable.text()

    # the strength, at once and without the network
    table = ui.regionTable.text()
    ui.strengthSlider.setValue(50)
    host.process_events(0.2)
    np.testing.assert_allclose(slicer.util.arrayFromVolume(nodes.denoised), (before + after) / 2, atol=1e-3)
    assert ui.regionTable.text() != table and float(volume_nodes.provenance(nodes.denoised)["strength"]) == 0.5
    assert not widget.logic.runner.state.active

    # files, written by the worker
    host.answers.append(tmp_path / "out.nrrd")
    host.click(ui.saveButton)
    assert ui.denoiseButton.text() == "Cancel" and not ui.saveButton.isEnabled()
    finish_job(host, widget)
    assert ui.denoiseStatusLabel.text() == f"Written: {tmp_path / 'out.nrrd'}"
    np.testing.assert_array_equal(files.read(tmp_path / "out.nrrd").array, slicer.util.arrayFromVolume(nodes.denoised))
    assert json.loads((tmp_path / "out.nrrd.json").read_text())["strength"] == 0.5
    host.answers.extend([True, tmp_path])  # without patient: this volume is not from DICOM
    host.click(ui.exportDicomButton)
    finish_job(host, widget)
    series = files.read(tmp_path / "CTChest denoised")
    assert np.abs(series.array - slicer.util.arrayFromVolume(nodes.denoised)).max() <= 0.5
    host.answers.append(tmp_path / "out.jpg")
    host.click(ui.saveButton)
    assert [message.kind for message in host.messages if message.kind != "file"] == ["question", "error"]
    assert "no known suffix" in host.messages[-1].text


def test_another_input_shows_its_own_result(host):
    import slicer

    widget, uldct, ndct = open_panel(host)
    widget.logic.denoise(uldct, strength=0.7, keepOutsideBody=True).wait()
    widget._parameterNode.inputVolume = ndct
    host.process_events()
    assert not widget.ui.regionTable.isVisible() and not widget.ui.showButton.isEnabled()
    widget._parameterNode.strengthPercent = 100
    widget._parameterNode.inputVolume = uldct
    host.process_events(0.1)
    assert widget.ui.regionTable.isVisible()
    assert widget.ui.strengthSlider.property("value") == pytest.approx(70)
    facts = volume_nodes.provenance(slicer.util.getNode("CTChest denoised"))
    assert (float(facts["strength"]), facts["keep_outside_body"]) == (0.7, "true")


def test_a_result_that_was_removed_is_offered_no_more(host):
    import slicer

    widget, uldct, _ = open_panel(host)
    ui = widget.ui
    host.click(ui.denoiseButton)
    finish_job(host, widget)
    widget.logic.denoise(uldct, strength=0.3).wait()
    host.process_events(0.1)
    assert ui.strengthSlider.property("value") == pytest.approx(30)
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("CTChest denoised_1"))
    host.process_events(0.1)
    assert ui.strengthSlider.property("value") == 100 and ui.saveButton.isEnabled()  # the one before
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("CTChest difference"))
    host.process_events(0.1)
    host.click(ui.showButton)
    assert view_names() == ["IPv2View1", "IPv2View2"]
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("CTChest denoised"))
    host.process_events(0.1)
    assert not (ui.regionTable.isVisible() or ui.showButton.isEnabled() or ui.saveButton.isEnabled())
    assert not ui.denoiseStatusLabel.isVisible()
    assert "IPv2 network output" not in node_names(slicer.mrmlScene)


def test_undo_and_redo_of_a_run(host):
    import slicer

    widget, *_ = open_panel(host)
    ui = widget.ui
    slicer.mrmlScene.SetUndoOn()
    host.click(ui.denoiseButton)
    finish_job(host, widget)
    slicer.mrmlScene.Undo()
    host.process_events(0.1)
    assert not ui.saveButton.isEnabled()
    slicer.mrmlScene.Redo()
    host.process_events(0.1)
    assert ui.saveButton.isEnabled()
    ui.strengthSlider.setValue(60)
    host.process_events(0.2)
    assert float(volume_nodes.provenance(slicer.util.getNode("CTChest denoised"))["strength"]) == 0.6


def test_what_an_earlier_run_said_goes_with_its_input(host):
    widget, _, ndct = open_panel(host)
    host.click(widget.ui.denoiseButton)
    finish_job(host, widget)
    assert widget.ui.denoiseStatusLabel.text().startswith("Done in")
    widget._parameterNode.inputVolume = ndct
    host.process_events()
    assert not widget.ui.denoiseStatusLabel.isVisible()
    widget.exit()
    widget.enter()
    assert not widget.ui.denoiseStatusLabel.isVisible()


def test_more_noise_than_before_has_a_plus(host):
    import slicer

    open_panel(host)
    results = __import__("IPv2DenoiseLib.Results", fromlist=["x"])
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "regions")
    responses = (
        RegionResponse(Region.BACKGROUND, 1000, -900.0, -900.0, 4.0, 4.5, 5.0),
        RegionResponse(Region.LUNG, 1000, -850.0, -850.0, 40.0, 30.0, 20.0),
    )
    blending.fill_region_table(table, StrengthStatistics(responses).at(1.0))
    text = results.tableHtml(table)
    assert "+25&nbsp;%" in text and "−50&nbsp;%" in text


def test_several_volumes_and_an_output(host):
    import slicer
    from PySide6.QtCore import Qt

    widget, uldct, ndct = open_panel(host, slices=2)
    expand(host, widget.ui.advancedCollapsibleButton)
    volumes = widget.ui.furtherVolumesList
    assert [volumes.item(row).text() for row in range(volumes.count())] == ["NDCT"]
    volumes.item(0).setCheckState(Qt.Checked)
    assert list(widget._parameterNode.furtherVolumes) == [ndct]
    host.click(widget.ui.denoiseButton)
    finish_job(host, widget)
    assert host.messages == []
    assert {"CTChest denoised", "NDCT denoised", "NDCT difference"} <= set(node_names(slicer.mrmlScene))
    assert widget._parameterNode.furtherVolumes == [] and volumes.item(0).checkState() == Qt.Unchecked

    output = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Mine")
    widget._parameterNode.outputVolume = output
    widget._parameterNode.keepOutsideBody = True
    assert widget.ui.residualNoiseSpinBox.text() == "as the model says"
    widget.ui.residualNoiseSpinBox.setValue(6)
    host.click(widget.ui.testTimeAugmentationCheckBox)
    host.click(widget.ui.denoiseButton)
    finish_job(host, widget)
    assert output.GetName() == "CTChest denoised_1" and result_nodes.nodes_of(output).input is uldct
    facts = volume_nodes.provenance(output)
    assert (facts["residual_noise_hu"], facts["test_time_augmentation"]) == ("6.0", "true")
    before, after = slicer.util.arrayFromVolume(uldct), slicer.util.arrayFromVolume(output)
    assert np.array_equal(before[:, :8], after[:, :8]) and not np.array_equal(before, after)


def test_a_sequence_is_denoised_by_itself(host):
    import slicer

    widget, uldct, ndct = open_panel(host, slices=2)
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "4D")
    for value, node in (("0", uldct), ("50", ndct)):
        sequence.SetDataNodeAtValue(node, value)
    widget._parameterNode.inputVolume = sequence
    widget._parameterNode.furtherVolumes = [uldct]
    host.process_events(0.1)
    assert not widget.ui.denoiseButton.isEnabled() and "denoised by itself" in widget.ui.denoiseStatusLabel.text()


def test_advanced_shows_model_devices_and_log(host):
    widget, *_ = open_panel(host)
    ui = widget.ui
    expand(host, ui.advancedCollapsibleButton)
    assert ui.modelSelector.currentText() == "Automatic" and "Limits" in ui.modelCard.toPlainText()
    host.click(ui.measureDevicesButton)
    finish_job(host, widget)
    texts = [ui.deviceSelector.itemText(index) for index in range(ui.deviceSelector.count())]
    measured = [text for text in texts if text.startswith("CPU, ONNX Runtime, ")]
    assert texts[0] == "Automatic" and len(measured) == 1 and measured[0].endswith(" s")
    assert ui.denoiseStatusLabel.text() == f"Measured: {measured[0]}."
    ui.deviceSelector.setCurrentText(next(text for text in texts if text.startswith("CPU")))
    assert widget._parameterNode.device == "cpu"
    assert "Measure devices" in ui.logText.toPlainText()
    widget._parameterNode.inputVolume = None
    once = seconds_per_slice(ui.deviceSelector.currentText())
    host.click(ui.testTimeAugmentationCheckBox)
    assert seconds_per_slice(ui.deviceSelector.currentText()) == pytest.approx(8 * once, rel=0.1)
    assert widget._parameterNode.device == "cpu"


def seconds_per_slice(device: str) -> float:
    return float(re.fullmatch(r"CPU, ONNX Runtime, ([\d.]+) s per slice", device)[1])


def test_the_engine_is_chosen_and_said(host):
    import slicer

    widget, *_ = open_panel(host, slices=2)
    expand(host, widget.ui.advancedCollapsibleButton)
    selector = widget.ui.engineSelector
    assert [selector.itemText(index) for index in range(selector.count())] == ["Automatic", "ONNX Runtime", "PyTorch"]
    for text, engine in (("Automatic", "onnxruntime"), ("PyTorch", "torch")):
        selector.setCurrentText(text)
        host.click(widget.ui.denoiseButton)
        finish_job(host, widget)
        facts = volume_nodes.provenance(slicer.util.getNode("CTChest denoised"))
        assert facts["engine"] == engine
        shown = {"onnxruntime": "ONNX Runtime", "torch": "PyTorch"}[engine]
        said = rf"Done in .*\. ipv2-fast, CPU, {shown}, [\d.e-]+ s per slice\."
        assert re.fullmatch(said, widget.ui.denoiseStatusLabel.text())
    host.click(widget.ui.measureDevicesButton)
    finish_job(host, widget)
    assert widget.ui.denoiseStatusLabel.text().startswith("Measured: CPU, PyTorch, ")


def test_an_engine_that_cannot_run_there_is_refused_at_once(host):
    widget, *_ = open_panel(host)
    widget.ui.engineSelector.setCurrentText("ONNX Runtime")
    widget._parameterNode.device = "cuda"
    host.click(widget.ui.denoiseButton)
    assert "ONNX Runtime is for the CPU" in host.messages[-1].text
    assert not widget.logic.runner.state.active


def test_automatic_names_both_models_where_the_device_decides(host):
    onCpu, onGpu = bundle.default_name("cpu"), bundle.default_name("cuda")
    assert onCpu != onGpu
    widget, *_ = open_panel(host)
    assert f"{onCpu} on the CPU, {onGpu} on a GPU." in widget.ui.modelCard.toPlainText()
    widget.ui.modelSelector.setCurrentText(onGpu)
    assert widget._parameterNode.model == onGpu and "on the CPU" not in widget.ui.modelCard.toPlainText()
    widget.ui.modelSelector.setCurrentText("Automatic")
    assert widget._parameterNode.model == ""


def test_a_model_that_cannot_be_used_is_said_once(host, tmp_path, monkeypatch):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.json").write_text("{}")
    monkeypatch.setenv("IPV2_MODELS", str(tmp_path))
    widget, *_ = open_panel(host)
    widget.exit()
    widget.enter()
    assert widget.ui.logText.toPlainText().count(str(tmp_path / "broken")) == 1


def test_concerns_are_said_before_the_run(host):
    import slicer

    widget, uldct, _ = open_panel(host)
    host.process_events(0.2)
    assert "trained on 0.4 to 1.3 mm" in widget.ui.concernsLabel.text()
    slicer.util.arrayFromVolume(uldct)[:] = slicer.util.arrayFromVolume(uldct) / 30
    slicer.util.arrayFromVolumeModified(uldct)
    widget._parameterNode.inputVolume = slicer.util.getNode("NDCT")
    widget._parameterNode.inputVolume = uldct
    host.process_events(0.2)
    assert "may not be HU" in widget.ui.concernsLabel.text()
    assert widget.ui.denoiseButton.isEnabled()
