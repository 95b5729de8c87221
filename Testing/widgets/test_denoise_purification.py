"""What a researcher does in IPv2 Denoise: load a pair, preview, step through the stages, purify, export."""

import numpy as np
import pytest
from IPv2Lib.errors import InputError
from IPv2Lib.io import files
from IPv2Lib.purification import purify as purification
from IPv2Lib.purification import stage_files
from IPv2Lib.purification.settings import MATCHED, Settings
from IPv2SlicerLib.scene import stage_nodes, volume_nodes
from panel import MODULE, expand, finish_job, open_panel, small_pair, view_names
from patients import write_patient


@pytest.fixture
def opened(host):
    widget, uldct, ndct = open_panel(host)
    expand(host, widget.ui.purificationCollapsibleButton)
    widget._parameterNode.uldctVolume, widget._parameterNode.ndctVolume = uldct, ndct
    host.process_events()
    return host, widget


def preview(host, widget) -> None:
    """Click *Preview slice* and wait for its stages."""
    host.click(widget.ui.previewButton)
    finish_job(host, widget)


def titles(widget) -> list[str]:
    stages = widget.ui.stagesList
    return [stages.item(row).text() for row in range(stages.count())]


def red():
    import slicer

    composites = {each.GetLayoutName(): each for each in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")}
    composite = composites["Red"]
    image = composite.GetForegroundVolumeID() or composite.GetBackgroundVolumeID()
    shown = (image, composite.GetLabelVolumeID())
    names = [slicer.mrmlScene.GetNodeByID(each).GetName() if each else None for each in shown]
    return [name and name.rpartition(": ")[2] for name in names], composite.GetLabelOpacity()


def test_a_preview_shows_every_stage_of_the_slice_in_the_red_view(opened):
    import slicer

    host, widget = opened
    host.app.layoutManager().sliceWidget("Red").sliceLogic().SetSliceOffset(
        slicer.util.getNode("CTChest").GetOrigin()[2] + 5.0
    )
    preview(host, widget)
    assert host.messages == [] and "slice 2" in widget.ui.purificationStatusLabel.text()
    assert [title.partition(". ")[2] for title in titles(widget)] == [stage.title for stage in stage_nodes.STAGES]
    assert red()[0] == ["Training input", None]

    pair = small_pair()
    whole = purification.purify(pair.uldct, pair.ndct)
    (found,) = stage_nodes.find_stages(slicer.mrmlScene)
    shown = volume_nodes.node_to_volume(found.nodes["training_input"])
    np.testing.assert_allclose(shown.array[0], whole.training_input.array[1], atol=1e-3)

    preview(host, widget)  # replaces the first
    assert len(stage_nodes.find_stages(slicer.mrmlScene)) == 1


def test_stages_are_stepped_through_by_keys_and_by_the_list(opened):
    host, widget = opened
    preview(host, widget)
    host.press("Ctrl+Shift+N")
    assert widget._parameterNode.stage == "test_label" and red()[0] == ["Test label", None]
    for _ in range(20):
        host.press("Ctrl+Shift+P")
    assert widget.ui.stagesList.currentRow() == 0
    widget.ui.stagesList.setCurrentRow(5)
    host.process_events()
    assert red() == (["uLDCT", "Common mask of IPv2"], pytest.approx(0.45))
    assert "Lungs&nbsp;and&nbsp;airways" in widget.ui.stageLegend.text() and widget.ui.stageLegend.isVisible()
    widget.ui.opacitySlider.setValue(80)
    host.process_events()
    assert red()[1] == pytest.approx(0.8)
    host.press("Ctrl+Shift+M")
    assert red()[1] == 0 and not widget.ui.showOverlayCheckBox.isChecked()
    widget.ui.secondStageSelector.setCurrentText("Dark masks")
    host.process_events()
    assert view_names() == ["IPv2View1", "IPv2View2"]
    assert "Dark&nbsp;in&nbsp;both" in widget.ui.stageLegend.text()
    widget.ui.secondStageSelector.setCurrentIndex(0)
    host.process_events()
    assert sorted(view_names()) == ["Green", "Red", "Yellow"], "as before"


def test_a_preview_has_the_values_that_the_slice_has_in_the_whole(host):
    widget, uldct, ndct = open_panel(host)
    pair = small_pair()
    settings = Settings(dose=0.1, seed=3)
    whole = purification.purify(pair.uldct, pair.ndct, settings)
    heard = []
    job = widget.logic.previewSlice(uldct, ndct, settings, sliceIndex=2)
    found = job.onProgress(lambda fraction, message: heard.append(fraction)).wait()
    one = stage_nodes.stages_of(found)
    np.testing.assert_allclose(one.training_input.array[0], whole.training_input.array[2], atol=1e-3)
    np.testing.assert_allclose(one.test_label.array[0], whole.test_label.array[2], atol=1e-3)
    np.testing.assert_array_equal(one.cm2[0], whole.cm2[2])
    assert one.uldct.origin == pytest.approx((*pair.uldct.origin[:2], pair.uldct.origin[2] + 2 * pair.uldct.spacing[2]))
    assert heard == sorted(heard) and len(heard) > 2


def test_a_preview_is_computed_elsewhere_and_can_be_cancelled(opened, monkeypatch):
    import slicer

    def not_here(*_arguments, **_options):
        raise AssertionError("computed in Slicer's own process")

    host, widget = opened
    monkeypatch.setattr(purification, "_purify", not_here)
    before = slicer.mrmlScene.GetNumberOfNodes()
    host.click(widget.ui.previewButton)
    assert not widget.ui.previewButton.isEnabled() and widget.ui.purifyButton.text() == "Cancel"
    host.click(widget.ui.purifyButton)
    finish_job(host, widget)
    assert widget.logic.runner.state.value == "cancelled" and slicer.mrmlScene.GetNumberOfNodes() == before
    preview(host, widget)
    assert host.messages == [] and len(stage_nodes.find_stages(slicer.mrmlScene)) == 1


def test_the_inputs_of_a_preview_are_a_few_slices():
    pair = small_pair(slices=12)
    uldct, ndct, first = purification.needed_for_slice(pair.uldct, pair.ndct, 7)
    assert (len(uldct.array), first) == (1, 7) and len(ndct.array) <= 4
    matched = Settings(kernel=MATCHED)
    assert purification.needed_for_slice(pair.uldct, pair.ndct, 7, matched)[1] is pair.ndct


@pytest.mark.parametrize(("index", "says"), [(4, "no slice 4"), (-1, "no slice -1")])
def test_a_preview_refuses_what_there_is_not(host, index, says):
    widget, uldct, ndct = open_panel(host)
    with pytest.raises(InputError, match=says):
        widget.logic.previewSlice(uldct, ndct, sliceIndex=index)
    with pytest.raises(InputError, match="no NDCT"):
        widget.logic.previewSlice(uldct, None)
    assert not widget.logic.runner.state.active


def test_no_key_is_slicers_own_and_the_tooltips_say_them(host):
    from host.main_window import SLICER_KEYS
    from IPv2DenoiseLib.Stages import SHORTCUTS

    widget, *_ = open_panel(host)
    tips = widget.ui.stagesList.toolTip() + widget.ui.showOverlayCheckBox.toolTip()
    for keys, _method in SHORTCUTS:
        assert keys not in SLICER_KEYS and keys in tips


def test_the_strategy_sets_the_modules_only_when_a_person_chooses_it(opened):
    host, widget = opened
    parameters = widget._parameterNode
    widget.ui.strategySelector.setCurrentText("IPv1")
    widget.ui.strategySelector.activated.emit(0)
    host.process_events()
    assert not (parameters.removeBackground or parameters.addNoise or parameters.removeNoise)
    assert parameters.blendPercent == pytest.approx(10)
    assert not widget.ui.doseSpinBox.isEnabled() and not widget.ui.weakStrengthSpinBox.isEnabled()
    preview(host, widget)
    assert "Training input − that of IPv1" not in " ".join(titles(widget))
    parameters.addNoise = True
    parameters.strategy = type(parameters.strategy).IPV2
    host.process_events()
    assert not parameters.removeBackground and widget.ui.doseSpinBox.isEnabled()


def test_purify_the_volume_and_export(opened, tmp_path):
    import slicer

    host, widget = opened
    widget._parameterNode.thresholdMethod = type(widget._parameterNode.thresholdMethod).FIXED
    widget._parameterNode.thresholdHu = -300.0
    widget._parameterNode.dosePercent = 10.0
    host.process_events()
    host.click(widget.ui.purifyButton)
    assert widget.ui.purifyButton.text() == "Cancel" and not widget.ui.denoiseButton.isEnabled()
    assert not widget.ui.previewButton.isEnabled() and widget.ui.purificationProgressBar.isVisible()
    finish_job(host, widget)
    assert host.messages == [] and widget.ui.purifyButton.text() == "Purify volume"
    pair = small_pair()
    settings = Settings(threshold_hu=-300.0, dose=0.1)
    expected = purification.purify(pair.uldct, pair.ndct, settings)
    (found,) = stage_nodes.find_stages(slicer.mrmlScene)
    assert stage_nodes.stages_of(found).settings == settings
    np.testing.assert_array_equal(volume_nodes.node_to_volume(found.nodes["cm2"]).array != 0, expected.cm2)
    np.testing.assert_allclose(
        volume_nodes.node_to_volume(found.nodes["training_input"]).array, expected.training_input.array, atol=1e-3
    )

    host.answers.append(tmp_path)
    host.click(widget.ui.exportStagesButton)
    (folder,) = tmp_path.iterdir()
    stages = stage_files.read_stages(folder)
    np.testing.assert_array_equal(stages.cm2, expected.cm2)


def test_load_a_file_a_dicom_folder_and_the_sample_pair(opened, tmp_path):
    host, widget = opened
    pair = small_pair()
    files.write(pair.uldct, tmp_path / "low.nrrd")
    files.write(pair.ndct, tmp_path / "series")
    host.answers.extend([tmp_path / "low.nrrd", tmp_path / "series"])
    host.click(widget.ui.uldctFileButton)
    host.click(widget.ui.ndctDicomButton)
    parameters = widget._parameterNode
    assert (parameters.uldctVolume.GetName(), parameters.ndctVolume.GetName()) == ("low", "1: IPv2")
    (tmp_path / "no.nrrd").write_text("no image")
    host.answers.append(tmp_path / "no.nrrd")
    host.click(widget.ui.ndctFileButton)
    assert "could not be loaded" in host.messages[-1].text and parameters.ndctVolume.GetName() == "1: IPv2"
    uldct, ndct = widget.logic.makeSamplePair(size=64, slices=2).wait()
    assert (uldct.GetName(), ndct.GetName()) == ("Phantom uLDCT", "Phantom NDCT")


# --- whose the pair is, and whether it is still the same ----------------------------------------------------------


def test_a_pair_of_two_patients_is_refused_by_name(host, tmp_path):
    widget = host.load_module(MODULE)
    ui, parameters, logic = widget.ui, widget._parameterNode, widget.logic
    expand(host, ui.purificationCollapsibleButton)
    uldct, ndct = (host.import_dicom(write_patient(tmp_path, who))[0] for who in ("ANNA", "BERTA-MARIA"))
    parameters.uldctVolume, parameters.ndctVolume = uldct, ndct
    host.process_events(0.1)
    assert not ui.purifyButton.isEnabled() and not ui.previewButton.isEnabled()
    said = ui.purificationStatusLabel.text()
    assert "'ANNA^TEST" in said and "'BERTA-MARIA^TEST" in said and "P-" not in said
    assert ui.previewButton.toolTip() == ui.purifyButton.toolTip() == said
    for start in (logic.purify, logic.previewSlice):
        with pytest.raises(InputError, match="two patients"):
            start(uldct, ndct)
    silent = volume_nodes.volume_to_node(small_pair().ndct, "from a file")
    parameters.ndctVolume = silent
    host.process_events(0.1)
    assert ui.purifyButton.isEnabled() and ui.previewButton.isEnabled(), "a file says nothing"


def test_a_preview_needs_what_purify_needs(opened):
    host, widget = opened
    ui, parameters = widget.ui, widget._parameterNode
    tip = ui.previewButton.toolTip()
    for uldct, ndct, says in (
        (None, parameters.ndctVolume, "No uLDCT"),
        (parameters.uldctVolume, None, "No NDCT"),
        (parameters.uldctVolume, parameters.uldctVolume, "both 'CTChest'"),
    ):
        parameters.uldctVolume, parameters.ndctVolume = uldct, ndct
        host.process_events(0.1)
        assert not ui.purifyButton.isEnabled() and not ui.previewButton.isEnabled()
        assert says in ui.previewButton.toolTip() and ui.previewButton.toolTip() == ui.purifyButton.toolTip()
        parameters.uldctVolume, parameters.ndctVolume = _node("CTChest"), _node("NDCT")
        host.process_events(0.1)
        assert ui.previewButton.isEnabled() and ui.previewButton.toolTip() == tip


def _node(name: str):
    import slicer

    return slicer.util.getNode(name)


def _other_voxels(node):
    import slicer

    slicer.util.arrayFromVolume(node)[:] += 500
    slicer.util.arrayFromVolumeModified(node)


def _other_spacing(node):
    node.SetSpacing(1.0, 1.0, 9.0)


def _other_place(node):
    node.SetOrigin(10, 20, 30)


def _other_transform(node):
    import slicer

    node.SetAndObserveTransformNodeID(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode").GetID())


def _removed(node):
    import slicer

    slicer.mrmlScene.RemoveNode(node)


@pytest.mark.parametrize(
    ("change", "start", "name"),
    [
        (_other_voxels, "purify", "CTChest"),
        (_other_voxels, "previewSlice", "NDCT"),
        (_other_spacing, "purify", "NDCT"),
        (_other_place, "purify", "CTChest"),
        (_other_transform, "previewSlice", "CTChest"),
        (_removed, "purify", "NDCT"),
    ],
)
def test_no_stages_of_a_pair_that_is_changed_meanwhile(host, start, name, change):
    import slicer

    widget, uldct, ndct = open_panel(host, size=48, slices=2)
    getattr(widget.logic, start)(uldct, ndct, Settings(add_noise=False, remove_noise=False))
    change(_node(name))
    finish_job(host, widget)
    runner = widget.logic.runner
    assert runner.state.value == "failed" and f"'{name}' was " in str(runner.error)
    assert stage_nodes.find_stages(slicer.mrmlScene) == []
