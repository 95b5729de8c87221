"""IPv2 Denoise when something is wrong: a sentence in a box, an unchanged scene, and the next run works."""

import os
import re
import signal
import tempfile
from pathlib import Path

import numpy as np
import psutil
import pytest
from children import children
from IPv2Lib.errors import InputError
from IPv2Lib.io.volume import Volume
from IPv2SlicerLib.jobs.job_runner import JobState
from IPv2SlicerLib.scene import volume_nodes
from panel import expand, finish_job, node_names, open_panel


def jobs_folders() -> list[Path]:
    import slicer

    return list(Path(slicer.app.temporaryPath).glob("ipv2-job-*"))


def worker_processes() -> list[psutil.Process]:
    return children("IPv2Lib")


def wait_for_worker(host) -> psutil.Process:
    host.wait_until(worker_processes, 30)
    return worker_processes()[0]


def bad_inputs():
    """Name, what makes the node, what the message says."""
    import slicer

    rng = np.random.default_rng(0)
    chest = rng.normal(-500, 300, (2, 16, 16)).astype(np.float32)

    def volume(array, **geometry):
        return volume_nodes.volume_to_node(Volume(array, **geometry), "Bad")

    def colour():
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "Bad")
        slicer.util.updateVolumeFromArray(node, np.zeros((2, 8, 8, 3), np.uint8))
        return node

    def transformed():
        node = volume(chest)
        transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Shift")
        node.SetAndObserveTransformNodeID(transform.GetID())
        return node

    def flat():
        node = volume(chest)
        node.SetIJKToRASDirections([[1, 0, 0], [0, 1, 0], [0, 0, 0]])
        return node

    with_nan = chest.copy()
    with_nan[0, 3, 3] = np.nan
    return {
        "nothing": (lambda: None, "No volume is chosen"),
        "empty": (lambda: slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Bad"), "is empty"),
        "colour": (colour, "values per voxel"),
        "NaN": (lambda: volume(with_nan), "NaN"),
        "8 bit": (lambda: volume(np.arange(512).reshape(2, 16, 16) % 256), "not a CT in HU"),
        "one row": (lambda: volume(chest[:, :1]), "2×2"),
        "constant": (lambda: volume(np.full((2, 8, 8), -1000)), "every voxel is -1000"),
        "under a transform": (transformed, "harden"),
        "direction that cannot be inverted": (flat, "cannot be inverted"),
        "empty sequence": (lambda: slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "Bad"), "is empty"),
    }


def test_what_cannot_be_denoised_disables_the_button_which_says_why(host):
    import slicer

    widget, *_ = open_panel(host)
    ui = widget.ui
    for name, (make, says) in bad_inputs().items():
        node = make()
        if name == "nothing":
            slicer.mrmlScene.Clear()
            widget.enter()
        else:
            widget._parameterNode.inputVolume = node
        host.process_events(0.1)
        assert not ui.denoiseButton.isEnabled(), name
        assert says in ui.denoiseStatusLabel.text() and ui.denoiseStatusLabel.text().endswith((".", ")")), name
        assert ui.denoiseButton.property("toolTip") == ui.denoiseStatusLabel.text(), name
        before = node_names(slicer.mrmlScene)
        with pytest.raises(InputError, match=re.escape(says[1:])):  # a script gets the same
            widget.logic.denoise(node)
        assert not widget.logic.runner.state.active, name
        assert node_names(slicer.mrmlScene) == before, name
    assert host.messages == []


def test_an_input_that_is_mended_can_be_denoised(host):
    import slicer

    widget, uldct, _ = open_panel(host)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Shift")
    uldct.SetAndObserveTransformNodeID(transform.GetID())
    host.process_events(0.4)
    assert not widget.ui.denoiseButton.isEnabled() and "harden" in widget.ui.denoiseStatusLabel.text()
    uldct.HardenTransform()
    host.process_events(0.4)
    assert widget.ui.denoiseButton.isEnabled() and not widget.ui.denoiseStatusLabel.isVisible()
    slicer.util.arrayFromVolume(uldct)[:] = 7
    slicer.util.arrayFromVolumeModified(uldct)
    host.process_events(0.4)
    assert "every voxel is 7" in widget.ui.denoiseStatusLabel.text()


def test_an_output_that_is_the_input_is_refused(host):
    widget, uldct, _ = open_panel(host)
    widget._parameterNode.outputVolume = uldct
    host.process_events(0.1)
    assert not widget.ui.denoiseButton.isEnabled() and "is the input" in widget.ui.denoiseStatusLabel.text()


def test_a_model_that_is_not_there(host):
    widget, *_ = open_panel(host)
    widget._parameterNode.model = "gone"
    host.process_events()
    assert "not installed" in widget.ui.modelCard.toPlainText()
    host.click(widget.ui.denoiseButton)
    finish_job(host, widget)
    assert "'gone'" in host.messages[-1].text and "ipv2-fast" in host.messages[-1].text
    assert widget.ui.denoiseButton.text() == "Denoise"
    host.messages.clear()
    expand(host, widget.ui.advancedCollapsibleButton)
    host.click(widget.ui.measureDevicesButton)
    finish_job(host, widget)
    assert [message.kind for message in host.messages] == ["error"] and "'gone'" in host.messages[0].text


def test_cancel_ends_the_process_within_a_second_and_changes_nothing(host):
    import slicer

    widget, _, ndct = open_panel(host)
    before = node_names(slicer.mrmlScene)
    host.click(widget.ui.denoiseButton)
    worker = wait_for_worker(host)
    with pytest.raises(Exception, match="still running"):
        widget.logic.denoise(ndct)
    host.click(widget.ui.denoiseButton)
    host.wait_until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE, 30)
    finish_job(host, widget)
    assert widget.ui.denoiseStatusLabel.text().startswith("Cancelled")
    assert (host.messages, node_names(slicer.mrmlScene), jobs_folders()) == ([], before, [])


def test_a_worker_that_is_killed_is_told_about_and_the_next_run_works(host):
    import slicer

    widget, *_ = open_panel(host)
    before = node_names(slicer.mrmlScene)
    host.click(widget.ui.denoiseButton)
    os.kill(wait_for_worker(host).pid, signal.SIGKILL)
    finish_job(host, widget, 5)
    assert "killed by signal 9" in host.messages[-1].text
    assert str(widget.logic.runner.log_path) in host.messages[-1].text
    assert (node_names(slicer.mrmlScene), jobs_folders()) == (before, [])
    host.messages.clear()
    host.click(widget.ui.denoiseButton)
    finish_job(host, widget)
    assert host.messages == [] and "CTChest denoised" in node_names(slicer.mrmlScene)


def test_closing_the_scene_while_running(host):
    import slicer

    widget, *_ = open_panel(host)
    host.click(widget.ui.denoiseButton)
    worker = wait_for_worker(host)
    slicer.mrmlScene.Clear()
    host.process_events(0.3)
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE
    assert (host.messages, node_names(slicer.mrmlScene), jobs_folders()) == ([], [], [])
    assert widget.ui.denoiseButton.text() == "Denoise"


def test_an_input_that_is_removed_while_running(host):
    import slicer

    widget, uldct, _ = open_panel(host)
    host.click(widget.ui.denoiseButton)
    slicer.mrmlScene.RemoveNode(uldct)
    before = node_names(slicer.mrmlScene)
    host.process_events(0.1)
    assert widget.logic.runner.state is not JobState.RUNNING  # it is cancelled at once
    finish_job(host, widget, 5)
    assert widget.logic.runner.state is JobState.CANCELLED and host.messages == []
    assert "'CTChest' was removed from the scene" in widget.ui.denoiseStatusLabel.text()
    assert node_names(slicer.mrmlScene) == before


def test_reload_and_quit_while_running(make_host):
    import slicer

    host = make_host()
    widget, *_ = open_panel(host)
    host.click(widget.ui.denoiseButton)
    first = wait_for_worker(host)
    slicer.util.reloadScriptedModule("IPv2Denoise")
    assert not first.is_running() or first.status() == psutil.STATUS_ZOMBIE
    widget = slicer.modules.ipv2denoise.widgetRepresentation().self()
    widget.enter()
    host.process_events()
    host.click(widget.ui.denoiseButton)
    second = wait_for_worker(host)
    host.quit()
    assert not second.is_running() or second.status() == psutil.STATUS_ZOMBIE
    assert jobs_folders() == []


def test_packages_that_are_declined(host, monkeypatch):
    widget, *_ = open_panel(host)
    packages = __import__("IPv2SlicerLib.jobs.Packages", fromlist=["x"])
    requirements = Path(tempfile.mkdtemp()) / "requirements.txt"
    requirements.write_text("ipv2-package-that-is-not-there>=1\n")
    monkeypatch.setattr(packages, "requirementsPath", lambda name: requirements)
    host.answers.append(False)
    host.click(widget.ui.denoiseButton)
    assert [message.kind for message in host.messages] == ["question"]
    assert not widget.logic.runner.state.active and host.installed_packages == []


def test_purification_of_one_volume_twice_or_of_none(host):
    widget, uldct, _ = open_panel(host)
    expand(host, widget.ui.purificationCollapsibleButton)
    assert not widget.ui.previewButton.isEnabled()
    assert not widget.ui.purifyButton.isEnabled() and "No uLDCT" in widget.ui.purificationStatusLabel.text()
    widget._parameterNode.uldctVolume = widget._parameterNode.ndctVolume = uldct
    host.process_events()
    assert not widget.ui.purifyButton.isEnabled()
    assert "are both 'CTChest'" in widget.ui.purifyButton.property("toolTip")


def test_scans_that_do_not_overlap(host):
    widget, uldct, ndct = open_panel(host)
    expand(host, widget.ui.purificationCollapsibleButton)
    widget._parameterNode.uldctVolume, widget._parameterNode.ndctVolume = uldct, ndct
    ndct.SetOrigin(5000, 0, 0)
    host.click(widget.ui.previewButton)
    assert "covers 0 %" in host.messages[-1].text
    host.click(widget.ui.purifyButton)
    finish_job(host, widget)
    assert "covers 0 %" in host.messages[-1].text
