"""What a researcher does in sections Evaluate and Publish of IPv2 Train, and the module's self-test."""

import csv
from dataclasses import replace

import pytest
from IPv2Lib.errors import InputError
from IPv2Lib.models import bundle
from IPv2SlicerLib.scene.layouts import comparison_layout
from panel import expand
from PySide6.QtCore import Qt
from train_panel import errors, finish, make_tiny, open_panel, train_briefly


def tick(widget, *texts: str) -> None:
    methods = widget.ui.methodsList
    for row in range(methods.count()):
        if methods.item(row).text() in texts:
            methods.item(row).setCheckState(Qt.Checked)


KINDS = ("vtkMRMLTableNode", "vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode")


def counts(*kinds: str) -> list[int]:
    """Nodes of each class in the scene."""
    import slicer

    return [len(slicer.util.getNodesByClass(kind)) for kind in kinds]


def test_a_comparison_with_its_table_and_files(host, dataset, tmp_path):
    import slicer

    widget = open_panel(host, dataset)
    ui = widget.ui
    expand(host, ui.evaluateCollapsibleButton)
    assert not ui.compareButton.isEnabled() and not ui.showComparisonButton.isEnabled()
    assert ui.compareButton.toolTip() == ui.compareStatusLabel.text() == "Nothing is ticked: choose what to compare."
    tick(widget, "Input, as it is", "Run finished", "Filter total variation")
    assert sorted(widget._parameterNode.methods) == sorted(["input", str(dataset / "runs" / "finished"), "tv"])
    widget._parameterNode.slicesPerCase = 1
    host.click(ui.compareButton)
    finish(host, widget.logic)
    assert errors(host) == []
    folder = dataset / "comparisons" / "comparison-1"
    with open(folder / "table.csv", newline="", encoding="utf-8") as file:
        methods = [row["method"] for row in csv.DictReader(file)]
    node = slicer.util.getNode("comparison-1")
    assert [node.GetCellText(row, 0) for row in range(node.GetNumberOfRows())] == methods
    assert {"input", "finished", "tv"} <= set(methods)
    assert host.app.layoutManager().tableWidget(0).mrmlTableViewNode().GetTableNode() is node
    layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    assert layout.GetViewArrangement() == comparison_layout().number
    nodes = sorted(each.GetID() for each in slicer.util.getNodesByClass("vtkMRMLNode"))
    host.click(ui.showComparisonButton)
    widget._parameterNode.comparison = "comparison-1"
    host.click(ui.showComparisonButton)
    assert sorted(each.GetID() for each in slicer.util.getNodesByClass("vtkMRMLNode")) == nodes
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    host.process_events()
    nodes = counts(*KINDS)
    host.click(ui.showComparisonButton)
    assert slicer.util.getNode("comparison-1").GetNumberOfRows() == len(methods)
    assert counts(*KINDS) == nodes
    host.click(ui.openComparisonButton)
    assert host.messages[-1].kind == "open" and host.messages[-1].text == str(folder)

    slicer.mrmlScene.Clear()
    host.process_events()
    widget._parameterNode.comparison = "comparison-1"
    host.click(ui.showComparisonButton)
    assert slicer.util.getNode("comparison-1").GetNumberOfRows() == len(methods)


def test_an_ablation_is_one_button(host, dataset):
    import slicer

    widget = open_panel(host, dataset)
    ui = widget.ui
    expand(host, ui.evaluateCollapsibleButton, ui.ablationCollapsibleButton)
    make_tiny(widget)
    widget._parameterNode.ablationSeeds, widget._parameterNode.ablationSteps = 1, 1
    widget._parameterNode.slicesPerCase = 1
    host.click(ui.ablationButton)
    finish(host, widget.logic, 240)
    assert errors(host) == []
    table = slicer.util.getNode("ablation")
    assert {"ipv1", "ipv2"} <= {table.GetCellText(row, 1) for row in range(table.GetNumberOfRows())}
    assert (dataset / "ablation" / "ablation.csv").exists() and ui.showAblationButton.isEnabled()


def test_image_physics_of_what_is_ticked(host, dataset, tmp_path, monkeypatch):
    import slicer

    widget = open_panel(host, dataset)
    ui, parameters = widget.ui, widget._parameterNode
    section = __import__("IPv2TrainLib.EvaluateSection", fromlist=["x"])
    meant, asked = section.physicsSettings, []

    def small(parameterNode):
        asked.append(meant(parameterNode))
        return replace(asked[-1], doses=(0.25,), kernels=("hann",), only=("noise",))

    monkeypatch.setattr(section, "physicsSettings", small)
    expand(host, ui.evaluateCollapsibleButton, ui.physicsCollapsibleButton)
    tick(widget, "Input, as it is")
    assert not ui.physicsButton.isEnabled() and not ui.openReportButton.isEnabled()
    reason = "There is nothing to measure: tick a model, a run or a filter."
    assert ui.physicsButton.toolTip() == ui.physicsStatusLabel.text() == reason
    assert ui.showPhysicsButton.toolTip() == "Nothing was measured in this folder yet."
    tick(widget, "Run finished")
    host.click(ui.physicsQuickCheckBox)
    folder = tmp_path / "physics"
    ui.physicsPathLineEdit.setCurrentPath(str(folder))
    host.click(ui.physicsButton)  # before the path has settled
    assert parameters.physicsFolder == str(folder) and asked[0].quick and asked[0].device == parameters.device
    assert ui.physicsButton.text() == "Cancel" and not ui.compareButton.isEnabled()
    host.process_events(0.2)  # else it would be the second half of a double click
    host.click(ui.physicsButton)
    finish(host, widget.logic)
    assert ui.physicsStatusLabel.text() == "Cancelled; what is done stays." and not ui.physicsText.isVisible()
    host.click(ui.physicsButton)
    finish(host, widget.logic)
    assert errors(host) == [] and ui.physicsText.isVisible()
    assert "finished takes" in ui.physicsText.toPlainText()
    nodes = counts(*KINDS)
    table = slicer.util.getNode("physics")
    assert table.GetCellText(0, 0) == "finished" and "25 % dose" in table.GetCellText(0, 1)
    assert host.app.layoutManager().tableWidget(0).mrmlTableViewNode().GetTableNode() is table
    host.click(ui.showPhysicsButton)
    assert counts(*KINDS) == nodes
    host.click(ui.openReportButton)
    assert host.messages[-1].kind == "open" and host.messages[-1].text == str(folder / "report.html")
    parameters.physicsFolder = ""
    assert not ui.physicsText.isVisible() and not ui.openReportButton.isEnabled()


def test_a_model_is_published_and_listed_by_the_other_module(host, dataset):
    import slicer

    widget = open_panel(host, dataset)
    ui, parameters = widget.ui, widget._parameterNode
    expand(host, ui.publishCollapsibleButton)
    assert ui.publishedRunSelector.currentText() == "finished"
    assert "2 cases of 2 patients" in ui.cardText.toPlainText() and "step 4 of 4" in ui.cardText.toPlainText()
    parameters.modelName = "no/name"
    host.click(ui.publishButton)
    assert "is no name of a model" in errors(host)[0]
    assert ui.publishStatusLabel.text() == ""
    parameters.modelName, parameters.modelTitle, parameters.modelLimits = "mine", "For our scanner", "Phantoms only."
    host.click(ui.publishButton)
    finish(host, widget.logic)
    assert errors(host) == [] and "mine" in ui.publishStatusLabel.text()
    model = bundle.load("mine")
    assert model.folder.parent == bundle.user_folder()
    assert (model.card.title, model.card.limits) == ("For our scanner", "Phantoms only.")
    slicer.util.selectModule("IPv2Denoise")
    denoise = slicer.modules.ipv2denoise.widgetRepresentation().self()
    names = [denoise.ui.modelSelector.itemText(row) for row in range(denoise.ui.modelSelector.count())]
    assert "mine" in names

    # a second time it asks first
    slicer.util.selectModule("IPv2Train")
    before = model.hash
    host.answers.append(False)
    host.click(ui.publishButton)
    assert [message.kind for message in host.messages] == ["question"] and not widget.logic.runner.state.active
    assert ui.publishStatusLabel.text() == "Nothing was published: there is a model mine already."
    with pytest.raises(InputError, match="there is a model mine already"):
        widget.logic.publish(dataset / "runs" / "finished", "mine")
    train_briefly(dataset, dataset / "runs" / "other", steps=6)
    host.wait_until(lambda: ui.publishedRunSelector.count() == 2)
    parameters.publishedRun = "other"
    host.answers.append(True)
    host.click(ui.publishButton)
    finish(host, widget.logic)
    assert bundle.load("mine").hash != before


def test_where_nobody_can_be_asked_a_model_is_not_replaced_and_that_is_said(make_host, dataset, caplog):
    """With --testing, Slicer's question returns False at once, whatever its documentation says."""
    host = make_host(testing=True)
    widget = open_panel(host, dataset)
    ui, parameters = widget.ui, widget._parameterNode
    expand(host, ui.publishCollapsibleButton)
    parameters.modelName = "mine"
    host.click(ui.publishButton)
    finish(host, widget.logic)
    before = bundle.load("mine").hash
    train_briefly(dataset, dataset / "runs" / "other", steps=6)
    host.wait_until(lambda: ui.publishedRunSelector.count() == 2)
    parameters.publishedRun = "other"
    host.process_events(1.0)  # else it would be the second half of a double click
    with caplog.at_level("INFO"):
        host.click(ui.publishButton)
    said = "Nothing was published: there is a model mine already."
    assert ui.publishStatusLabel.text() == said and said in caplog.text and bundle.load("mine").hash == before
    widget.logic.publish(dataset / "runs" / "other", "mine", overwrite=True).wait()
    assert bundle.load("mine").hash != before


def test_what_is_typed_about_a_model_comes_out_as_typed(host, dataset):
    from PySide6 import QtTest

    widget = open_panel(host, dataset)
    ui, parameters = widget.ui, widget._parameterNode
    expand(host, ui.publishCollapsibleButton)
    parameters.modelLimits = "None"
    assert ui.modelLimitsText.toPlainText() == "None"
    QtTest.QTest.keyClicks(ui.modelDescriptionText, "for children")
    assert parameters.modelDescription == ui.modelDescriptionText.toPlainText() == "for children"
    assert parameters.modelLimits == "None"
    widget.setParameterNode(None)
    widget.setParameterNode(widget.logic.getParameterNode())
    assert ui.modelDescriptionText.toPlainText() == "for children"


def test_packages_that_only_training_needs_are_asked_for_and_may_be_declined(host, dataset, tmp_path, monkeypatch):
    widget = open_panel(host, dataset)
    packages = __import__("IPv2SlicerLib.jobs.Packages", fromlist=["x"])
    known = packages.requirementsPath
    more = tmp_path / "requirements.txt"
    more.write_text("ipv2-package-that-is-not-there>=1\n")
    monkeypatch.setattr(
        packages, "requirementsPath", lambda name: more if name == packages.TRAINING_REQUIREMENTS else known(name)
    )
    host.answers.append(False)
    host.click(widget.ui.purifyButton)
    assert [message.kind for message in host.messages] == ["question"]
    assert "ipv2-package-that-is-not-there" in host.messages[0].text
    assert not widget.logic.runner.state.active and host.installed_packages == []


def test_the_self_test(host):
    open_panel(host)
    host.run_self_test("IPv2Train")
