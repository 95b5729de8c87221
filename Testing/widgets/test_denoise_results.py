"""Whose result the panel shows, which strength the slider says, and what may be lost to an output."""

import pytest
from IPv2Lib.errors import InputError
from IPv2SlicerLib.scene import volume_nodes
from IPv2SlicerLib.scene.denoised_nodes import add_denoised
from IPv2SlicerLib.scene.result_nodes import newest_result
from panel import finish_job, open_panel


def test_a_run_is_that_of_its_own_input_also_when_another_is_chosen_meanwhile(host):
    widget, uldct, ndct = open_panel(host, slices=2)
    ui = widget.ui
    host.click(ui.denoiseButton)
    host.process_events(0.1)
    assert "CTChest" not in ui.denoiseStatusLabel.text()
    widget._parameterNode.inputVolume = ndct
    other = add_denoised(ndct, volume_nodes.node_to_volume(uldct), 0.5, None, {})
    host.process_events(0.1)
    assert ui.denoiseStatusLabel.text().startswith("Denoise CTChest: ")
    finish_job(host, widget)
    assert ui.denoiseStatusLabel.text().startswith("Denoise CTChest: Done")
    shown = {
        node.GetBackgroundVolumeID()
        for node in volume_nodes.nodes_of_class(ndct.GetScene(), "vtkMRMLSliceCompositeNode")
    }
    assert not shown & {other.denoised.GetID(), other.difference.GetID()} and ui.strengthSlider.property("value") == 50
    made = newest_result(uldct)
    facts = volume_nodes.provenance(made.denoised)
    assert facts["input"] == "CTChest" and "input_place" not in facts
    log = ui.logText.toPlainText()
    assert ".nrrd" not in log and "'CTChest': " in log
    widget._parameterNode.inputVolume = uldct
    assert "Done" not in ui.denoiseStatusLabel.text()  # it was said


def test_a_strength_that_is_refused_does_not_stay_on_the_slider_and_a_reason_is_not_hidden(host):
    import slicer

    widget, uldct, ndct = open_panel(host, slices=2)
    ui = widget.ui
    add_denoised(uldct, volume_nodes.node_to_volume(ndct), 0.8, None, {})
    host.process_events(0.3)
    assert ui.strengthSlider.property("value") == 80
    slicer.util.arrayFromVolume(uldct)[0, 0, 0] = 5
    slicer.util.arrayFromVolumeModified(uldct)
    ui.strengthSlider.setValue(30)
    host.process_events(0.3)
    assert ui.strengthSlider.property("value") == widget._parameterNode.strengthPercent == 80
    assert "was changed since" in ui.denoiseStatusLabel.text()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Shift")
    uldct.SetAndObserveTransformNodeID(transform.GetID())
    host.process_events(0.4)
    reason, said = ui.denoiseStatusLabel.text().split("\n")
    assert reason == ui.denoiseButton.property("toolTip") and "harden" in reason and "was changed since" in said


@pytest.mark.parametrize("agreed", [True, False])
def test_an_image_that_is_in_no_file_is_asked_about(make_host, agreed):
    from IPv2DenoiseLib.DenoiseSection import chosenOutput

    host = make_host(testing=False)
    widget, uldct, mine = open_panel(host, slices=2)
    host.answers.append(agreed)
    assert chosenOutput(mine, uldct) is (mine if agreed else None)
    assert "'NDCT' holds an image that is in no file" in host.messages[-1].text
    empty = uldct.GetScene().AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Volume")
    assert chosenOutput(empty, uldct) is empty and len(host.messages) == 1
    with pytest.raises(InputError, match="replaceOutput=True"):
        widget.logic.denoise(uldct, mine)
