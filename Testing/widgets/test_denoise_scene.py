"""IPv2 Denoise and scenes: saved, cleared, loaded; sample data; the self-test."""

from IPv2SlicerLib.scene import denoised_nodes, result_nodes, stage_nodes
from panel import MODULE, expand, finish_job, open_panel, view_names

CHANGED = {
    "strengthPercent": 40.0, "model": "mine", "device": "cpu", "keepOutsideBody": True, "residualNoiseHu": 6.0,
    "testTimeAugmentation": True,
    "removeBackground": False, "addNoise": False, "removeNoise": False, "dropEnclosedAir": False,
    "thresholdHu": -350.0, "blendPercent": 20.0, "dosePercent": 5.0, "kernel": "sharp", "seed": 7, "weakStrength": 0.5,
    "secondStage": "cm1", "stage": "cm2", "showOverlay": False, "overlayOpacityPercent": 80.0,
    "sphereDiameterMm": 9.5,
}  # fmt: skip


def parameters_in_ui_file() -> set[str]:
    import re

    from panel import MODULE

    text = (MODULE.parent / "Resources" / "UI" / "IPv2Denoise.ui").read_text(encoding="utf-8")
    return set(re.findall(r'name="SlicerParameterName".*?<string notr="true">(\w+)</string>', text, re.DOTALL))


def test_every_parameter_comes_back_with_the_scene(host, tmp_path):
    import slicer

    widget, uldct, ndct = open_panel(host)
    parameters = widget._parameterNode
    enums = {"engine": "PYTORCH", "strategy": "IPV1", "thresholdMethod": "FIXED", "simulator": "PUBLISHED"}
    for name, value in CHANGED.items():
        assert getattr(parameters, name) != value, name
        setattr(parameters, name, value)
    for name, value in enums.items():
        setattr(parameters, name, type(getattr(parameters, name))[value])
    parameters.inputVolume, parameters.outputVolume, parameters.furtherVolumes = ndct, uldct, [uldct]
    parameters.uldctVolume, parameters.ndctVolume = ndct, uldct
    nodes = {"inputVolume": "NDCT", "outputVolume": "CTChest", "uldctVolume": "NDCT", "ndctVolume": "CTChest"}
    assert {*CHANGED, *enums, *nodes, "furtherVolumes"} == set(type(parameters).allParameters)
    # only those whose choices are known when the file is written can be connected in it
    assert set(type(parameters).allParameters) - parameters_in_ui_file() == {
        "model", "device", "furtherVolumes", "stage", "secondStage"
    }  # fmt: skip

    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    host.process_events()
    assert widget._parameterNode.dosePercent == 2.0
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    host.process_events()

    parameters = widget._parameterNode
    assert {name: getattr(parameters, name) for name in CHANGED} == CHANGED
    assert {name: getattr(parameters, name).name for name in enums} == enums
    assert {name: getattr(parameters, name).GetName() for name in nodes} == nodes
    assert [node.GetName() for node in parameters.furtherVolumes] == ["CTChest"]
    ui = widget.ui
    assert ui.doseSpinBox.value() == 5 and ui.strengthSlider.property("value") == 40
    assert ui.strategySelector.currentText() == "IPv1" and ui.kernelSelector.currentText() == "sharp"
    assert ui.inputSelector.currentNode().GetName() == "NDCT"


def test_results_and_stages_come_back_with_the_scene(host, tmp_path):
    import slicer

    widget, uldct, ndct = open_panel(host)
    widget.logic.denoise(uldct, strength=0.6).wait()
    widget._parameterNode.uldctVolume, widget._parameterNode.ndctVolume = uldct, ndct
    expand(host, widget.ui.purificationCollapsibleButton)
    host.click(widget.ui.previewButton)
    finish_job(host, widget)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    host.process_events(0.2)

    assert host.messages == []
    assert widget.ui.regionTable.isVisible() and widget.ui.showButton.isEnabled()
    assert widget.ui.stagesList.count() == len(stage_nodes.STAGES)
    host.click(widget.ui.showButton)
    assert result_nodes.nodes_of(slicer.util.getNode("CTChest denoised")).input.GetName() == "CTChest"
    widget.ui.strengthSlider.setValue(20)
    host.wait_until(lambda: "denoise" in widget.ui.denoiseStatusLabel.text())
    assert host.messages == []


def test_a_scene_with_a_comparison_opens_with_its_views(make_host, tmp_path):
    import slicer

    first = make_host()
    widget, uldct, _ = open_panel(first)
    denoised_nodes.show_denoised(widget.logic.denoise(uldct).wait())
    first.process_events()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    first.close()

    second = make_host()
    second.load_module(MODULE)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    second.process_events()
    assert view_names() == ["IPv2View1", "IPv2View2", "IPv2View3"]


def test_leaving_and_entering_the_module(host):
    import slicer

    widget, *_ = open_panel(host)
    widget.exit()
    host.process_events()
    widget.logic.getParameterNode().strengthPercent = 30.0
    assert widget.ui.strengthSlider.property("value") == 100
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Later")
    widget.enter()
    assert widget.ui.strengthSlider.property("value") == 30
    volumes = widget.ui.furtherVolumesList
    assert [volumes.item(row).text() for row in range(volumes.count())] == ["NDCT", "Later"]


def test_the_self_test_passes(host):
    open_panel(host)
    host.run_self_test("IPv2Denoise")
    assert [message for message in host.messages if message.kind == "error"] == []


def test_a_right_click_on_a_volume_opens_the_module_with_it(host):
    import slicer

    widget, uldct, ndct = open_panel(host)
    assert widget.ui.inputSelector.currentNode() is uldct
    host.choose_from_context_menu(ndct, "Denoise with IPv2…")
    host.process_events()
    assert slicer.util.selectedModule() == "IPv2Denoise"
    assert widget.ui.inputSelector.currentNode() is ndct
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Table")
    assert "Denoise with IPv2…" not in host.context_menu(table)


def test_after_a_reload_of_the_scene_another_strength_needs_no_network(host, tmp_path, monkeypatch):
    import slicer
    from IPv2SlicerLib.scene.volume_nodes import provenance

    monkeypatch.setenv("IPV2_CACHE", str(tmp_path / "cache"))
    widget, uldct, _ = open_panel(host)
    first = widget.logic.denoise(uldct).wait()
    assert "from_cache" not in provenance(first.denoised)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    again = widget.logic.denoise(slicer.util.getNode(uldct.GetName()), strength=0.5).wait()
    assert provenance(again.denoised)["from_cache"] == "true"
    assert provenance(again.denoised)["strength"] == "0.5"
