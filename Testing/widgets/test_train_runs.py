"""What a researcher does in section Train of IPv2 Train: start, watch, pause, resume, stop; and what goes wrong."""

import os
import signal

import psutil
import pytest
from IPv2Lib.training import run_folder
from IPv2Lib.training.run_folder import read_run
from IPv2SlicerLib.scene.layouts import training_layout
from panel import expand, node_names
from train_panel import choose_dataset, errors, finish, make_tiny, open_panel


@pytest.fixture
def panel(host, dataset):
    """The widget with section Train unfolded and a tiny network that would train for hours."""
    widget = open_panel(host, dataset)
    make_tiny(widget, steps=1000000)
    expand(host, widget.ui.trainCollapsibleButton)
    return widget


def begin(host, widget, name: str = ""):
    """Click Start; returns the run's folder once its network is being trained."""
    widget._parameterNode.newRun = name
    host.click(widget.ui.startButton)
    run = widget.logic.trainedRun
    wait_for_step(host, run, 1)
    host.wait_until(widget.ui.pauseButton.isEnabled)
    return run


def wait_for_step(host, run, step: int) -> None:
    host.wait_until(lambda: run_folder.is_run(run) and read_run(run).step >= step, 120)


def listed(widget) -> list[str]:
    runs = widget.ui.runsList
    return [runs.item(row).text() for row in range(runs.count())]


def buttons(widget) -> set[str]:
    """Names of the buttons that can be clicked."""
    ui = widget.ui
    found = {"start": ui.startButton, "pause": ui.pauseButton, "resume": ui.resumeButton, "stop": ui.stopButton}
    return {name for name, button in found.items() if button.isEnabled()}


def layout_number() -> int:
    import slicer

    return slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode").GetViewArrangement()


def test_a_run_watched_paused_resumed_and_stopped(host, panel, dataset):
    import slicer

    ui = panel.ui
    assert buttons(panel) == {"start"} and listed(panel)[0].startswith("finished: completed, step 4 of 4")
    run = begin(host, panel)
    assert run == dataset / "runs" / "ipv2-1" and buttons(panel) == {"pause", "stop"}
    assert ui.trainProgressBar.isVisible()
    host.wait_until(lambda: "left" in ui.trainProgressBar.format())
    host.wait_until(lambda: len(read_run(run).validation["step"]) >= 2, 60)
    host.wait_until(lambda: "best validation" in ui.trainStatusLabel.text())

    # curves and slice follow in the views
    assert layout_number() == training_layout().number
    log = slicer.util.getNode("ipv2-1 log").GetTable()
    rows = log.GetNumberOfRows()
    host.wait_until(lambda: slicer.util.getNode("ipv2-1 log").GetTable().GetNumberOfRows() > rows)
    plots = [host.app.layoutManager().plotWidget(number).mrmlPlotViewNode().GetPlotChartNode() for number in (0, 1)]
    assert {chart.GetName() for chart in plots} == {"ipv2-1 loss", "ipv2-1 error"}
    host.wait_until(lambda: "ipv2-1 label" in node_names(slicer.mrmlScene))
    nodes = set(node_names(slicer.mrmlScene))

    host.click(ui.pauseButton)
    finish(host, panel.logic.training)
    paused = read_run(run)
    assert paused.state == "paused" and buttons(panel) == {"start", "resume"} and host.messages == []
    assert "paused" in ui.trainStatusLabel.text() and not ui.trainProgressBar.isVisible()

    host.click(ui.resumeButton)
    wait_for_step(host, run, paused.step + 1)
    host.wait_until(ui.stopButton.isEnabled)
    host.click(ui.stopButton)
    finish(host, panel.logic.training)
    stopped = read_run(run)
    assert stopped.state == "stopped" and stopped.step > paused.step and stopped.has_weights and host.messages == []
    assert set(node_names(slicer.mrmlScene)) == nodes  # the same ones, filled again
    host.process_events(0.1)
    last = slicer.util.getNode("ipv2-1 log").GetTable()
    assert last.GetValue(last.GetNumberOfRows() - 1, 0).ToInt() == read_run(run).log["step"][-1]


def test_training_outlives_scene_and_module_and_pauses_when_slicer_ends(host, panel):
    import slicer

    ui = panel.ui
    run = begin(host, panel, "long")
    slicer.mrmlScene.Clear()
    host.process_events(0.2)
    assert panel._parameterNode.run == "long" and buttons(panel) == {"pause", "stop"}
    assert node_names(slicer.mrmlScene) == []
    host.click(ui.curvesButton)
    assert "long log" in node_names(slicer.mrmlScene)

    slicer.util.selectModule("IPv2Denoise")
    step = read_run(run).step
    rows = slicer.util.getNode("long log").GetTable().GetNumberOfRows()
    wait_for_step(host, run, step + 20)
    host.wait_until(lambda: slicer.util.getNode("long log").GetTable().GetNumberOfRows() > rows)
    slicer.util.selectModule("IPv2Train")
    host.process_events()
    assert buttons(panel) == {"pause", "stop"} and "long: training" in ui.trainStatusLabel.text()
    host.quit()
    ended = read_run(run)
    assert ended.state == "paused" and (run / "checkpoint.pt").exists() and ended.message != ""
    assert not panel.logic.training.runner.state.active


def test_a_run_of_elsewhere_is_shown(host, dataset, tmp_path):
    import slicer

    widget = open_panel(host)
    expand(host, widget.ui.trainCollapsibleButton)
    host.answers.append(tmp_path)
    host.click(widget.ui.openRunButton)
    assert "is no training run" in errors(host)[0]
    host.answers.append(dataset / "runs" / "finished")
    host.click(widget.ui.openRunButton)
    host.process_events()
    assert "finished: completed. Step 4 of 4" in widget.ui.trainStatusLabel.text()
    assert widget.ui.runsList.currentRow() == 0 and buttons(widget) == set()
    assert "data set" in widget.ui.startButton.toolTip()
    host.click(widget.ui.curvesButton)
    found = set(node_names(slicer.mrmlScene))
    assert {"finished log", "finished validation", "finished input", "finished output", "finished label"} == found


def test_a_worker_that_is_killed_is_told_about_and_can_be_resumed(host, panel):
    run = begin(host, panel)
    os.kill(read_run(run).pid, signal.SIGKILL)
    finish(host, panel.logic.training)
    assert "killed by signal 9" in errors(host)[0]
    host.wait_until(panel.ui.resumeButton.isEnabled)
    assert "without a word" in panel.ui.trainStatusLabel.text()
    host.click(panel.ui.resumeButton)
    host.wait_until(lambda: read_run(run).state == "running", 60)
    panel.logic.stop()
    finish(host, panel.logic.training)
    assert read_run(run).state == "stopped" and host.messages == []


def test_a_run_of_another_process_is_paused_through_its_folder(host, dataset, monkeypatch):
    """Whoever trains it; here somebody who only says so."""
    run = dataset / "runs" / "finished"
    status = run_folder.read_json(run / "status.json")
    process = psutil.Process()
    status |= {"state": "running", "pid": process.pid, "began": process.create_time()}
    run_folder.write_json(run / "status.json", status)
    widget = open_panel(host, dataset)
    expand(host, widget.ui.trainCollapsibleButton)
    widget.ui.runsList.setCurrentRow(0)
    host.wait_until(lambda: buttons(widget) == {"start", "pause", "stop"})
    host.click(widget.ui.pauseButton)
    assert (run / "request").read_text().strip() == "pause"
    run_folder.write_json(run / "status.json", status | {"state": "paused"})
    host.wait_until(lambda: buttons(widget) == {"start", "resume"})


def test_what_cannot_be_trained_is_said(host, dataset, tmp_path):
    widget = open_panel(host)
    expand(host, widget.ui.trainCollapsibleButton)
    start, parameters = widget.ui.startButton, widget._parameterNode
    assert not start.isEnabled() and start.toolTip().startswith("No data set is chosen")
    choose_dataset(host, widget, tmp_path)
    assert not start.isEnabled() and start.toolTip() == (
        "The folder of section 1 holds no data set yet: purify the cases first."
    )
    choose_dataset(host, widget, dataset)
    assert start.isEnabled() and "section 1" not in start.toolTip()
    for name, value, says in (
        ("networkArguments", "[1]", "no JSON object"),
        ("networkArguments", "{", "no JSON"),
        ("newRun", "finished", "is a run already"),
        ("newRun", "a/b", "cannot be called 'a/b'"),
        ("newRun", "4: Thorax", "call it '4_ Thorax'"),
        ("newRun", "con", "cannot be called 'con'"),
        ("newRun", "NUL.2", "cannot be called 'NUL.2'"),
        ("newRun", "end.", "call it 'end'"),
        ("newRun", "n" * 300, "cannot be called"),
        ("newRun", "Finished", "There is 'finished' already"),
    ):
        before = parameters.getValue(name)
        parameters.setValue(name, value)
        host.click(start)
        assert says in errors(host)[0], name
        parameters.setValue(name, before)
    assert [each.name for each in (dataset / "runs").iterdir()] == ["finished"]
    make_tiny(widget)
    parameters.strategy = type(parameters.strategy).NOISE2INVERSE
    host.click(start)
    assert "split" in errors(host)[0] and buttons(widget) == {"start"}


def test_what_a_choice_means_is_said_and_what_has_no_effect_is_grey(host, dataset):
    widget = open_panel(host, dataset)
    ui, parameters = widget.ui, widget._parameterNode
    assert not ui.simulatedDoseLowSpinBox.isEnabled() and ui.lossSelector.isEnabled()
    parameters.pairs = type(parameters.pairs).SIMULATED
    parameters.network = "ffm"
    assert ui.simulatedDoseLowSpinBox.isEnabled() and not ui.lossSelector.isEnabled()
    assert "FFM" in ui.networkInfoLabel.text()
    assert [ui.startFromSelector.itemText(row) for row in range(ui.startFromSelector.count())] == ["Random weights"]
    parameters.network = "ipv2net"
    assert ui.startFromSelector.itemText(1) == "ipv2-fast"


def test_a_length_in_steps_is_whole_and_another_one_is_not_rounded(host, dataset):
    widget = open_panel(host, dataset)
    spinBox, parameters = widget.ui.lengthSpinBox, widget._parameterNode
    units = type(parameters.lengthUnit)
    parameters.lengthUnit, parameters.length = units.MINUTES, 0.4
    assert spinBox.value() == 0.4
    parameters.lengthUnit = units.STEPS
    assert (spinBox.value(), spinBox.minimum(), parameters.length) == (1, 1, 1)
    widget.setParameterNode(None)  # as before a scene with other parameters is shown
    node = widget.logic.getParameterNode()
    node.lengthUnit, node.length = units.MINUTES, 2.4
    widget.setParameterNode(node)
    assert (spinBox.value(), node.length) == (2.4, 2.4)


def test_the_history_of_a_path_is_not_taken_for_a_choice(host):
    import ctk
    from IPv2SlicerLib.widgets.PathField import PathField

    edit, chosen = ctk.ctkPathLineEdit(), []
    edit.setCurrentPath("/of/another/module")  # as with a history in the application's settings
    field = PathField(edit, chosen.append)
    field.show("")
    field.settle()
    assert edit.property("currentPath") == "" and chosen == []


def test_a_folder_of_runs_that_is_cleared_is_the_one_of_the_data_set_again(host, dataset, tmp_path):
    widget = open_panel(host, dataset)
    edit, parameters = widget.ui.runsPathLineEdit, widget._parameterNode
    for path in (str(tmp_path), ""):
        edit.setCurrentPath(path)
        host.wait_until(lambda path=path: parameters.runsFolder == path)
