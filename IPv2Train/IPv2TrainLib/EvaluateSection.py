"""The section *Evaluate*: what is compared, on which cases, the ablation, image physics, their tables and plots."""

import html
from pathlib import Path

import qt
import slicer
from IPv2Lib.inference.filters import FILTERS
from IPv2Lib.models import bundle
from IPv2Lib.networks import registry
from IPv2SlicerLib.widgets.Folders import openFile, openFolder
from IPv2SlicerLib.widgets.Messages import sentence
from IPv2SlicerLib.widgets.Section import Section
from slicer.i18n import tr as _

from .Logic import IPv2TrainLogic, addComparison
from .Runs import Runs, checkedName, proposedName, whyNoDataset
from .Settings import ablationSettings, comparisonSettings, physicsSettings
from .TrainSection import runsFolder

INPUT = "input"
"""The scan as it is, among the methods."""

COMPARISONS_FOLDER, ABLATION_FOLDER, PHYSICS_FOLDER = "comparisons", "ablation", "physics"
"""In the folder of a data set."""

REPORT = "report.html"
"""In the folder of image physics."""


class EvaluateSection(Section):
    """Connects the widgets of the section with the logic.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : IPv2TrainLogic
    runs : Runs
        Shared with the other sections.
    """

    def __init__(self, ui, logic: IPv2TrainLogic, runs: Runs):
        super().__init__(ui, logic)
        self._runs = runs
        self._listed: list[str] = []  # methods, by row
        self._models: list[bundle.Bundle] = []
        self._output: Path | None = None  # of the present or last comparison
        self._told: Path | None = None  # folder of image physics whose sentences are shown
        self._physicsPath = self._pathField(ui.physicsPathLineEdit, self._onPhysicsPath)
        self._features = self._pathField(ui.featuresPathLineEdit, self._onFeatures)
        texts = {
            "cancelTip": _("Stop; what is done already stays, and the next time goes on with it."),
            "cancelled": _("Cancelled; what is done stays."),
        }
        parts = ui.compareButton, ui.compareProgressBar, ui.compareStatusLabel
        self._comparison = self._jobDisplay(*parts, ("compare",), self._onCompare, **texts)
        parts = ui.ablationButton, ui.ablationProgressBar, ui.ablationStatusLabel
        self._ablation = self._jobDisplay(*parts, ("ablation",), self._onAblation, **texts)
        parts = ui.physicsButton, ui.physicsProgressBar, ui.physicsStatusLabel
        self._physics = self._jobDisplay(*parts, ("physics",), self._onPhysics, **texts)
        ui.methodsList.itemChanged.connect(self._onTicked)
        self._onClick(ui.showComparisonButton, lambda: showComparison(self._comparisonFolder()))
        self._onClick(ui.openComparisonButton, lambda: openFolder(self._comparisonFolder()))
        self._onClick(ui.showAblationButton, lambda: showComparison(self._ablationFolder()))
        self._onClick(ui.openAblationButton, lambda: openFolder(self._ablationFolder()))
        self._onClick(ui.showPhysicsButton, self._onShowPhysics)
        self._onClick(ui.openReportButton, lambda: openFile(self._physicsFolder() / REPORT))

    def setParameterNode(self, parameterNode) -> None:
        """Use a parameter node, or none while the module is not shown."""
        if parameterNode:
            self._models, _problems = bundle.scan()
        super().setParameterNode(parameterNode)

    def parametersChanged(self) -> None:
        """Follow a change of any parameter."""
        if self._parameterNode:
            self._features.show(self._parameterNode.features)
            self._physicsPath.show(self._parameterNode.physicsFolder)
            self._listMethods()
            self.jobChanged()

    def jobChanged(self) -> None:
        """Show where the job is, and what there is of earlier ones."""
        super().jobChanged()
        ui = self._ui
        if not self._parameterNode:
            return
        reason = whyNoDataset(self._parameterNode.dataset)
        self._ablation.setStart(reason=sentence(reason))
        if not reason and not self._chosen():
            reason = _("nothing is ticked: choose what to compare")
        self._comparison.setStart(reason=sentence(reason))
        physics = self._physicsFolder()
        reason = "" if physics else _("no folder is chosen: choose one for the report")
        if physics and not set(self._chosen()) - {INPUT}:
            reason = _("there is nothing to measure: tick a model, a run or a filter")
        self._physics.setStart(reason=sentence(reason))
        ui.physicsText.setVisible(self._told is not None and self._told == physics)
        ui.comparisonLineEdit.setPlaceholderText(self._proposed())
        compared = ui.showComparisonButton, ui.openComparisonButton
        ablated = ui.showAblationButton, ui.openAblationButton
        measured = ui.showPhysicsButton, ui.openReportButton
        for buttons, path, reason in (
            (compared, self._comparisonFolder(), _("nothing was compared under this name yet")),
            (ablated, self._ablationFolder(), _("there is no ablation of this data set yet")),
            (measured, physics and physics / REPORT, _("nothing was measured in this folder yet")),
        ):
            for button in buttons:
                self._allow(button, "" if path and path.exists() else reason)

    def enter(self) -> None:
        """The module is opened: there may be other models and runs than before."""
        self._models, _problems = bundle.scan()
        self.parametersChanged()
        super().enter()

    def runsChanged(self) -> None:
        """A run has come, or has got weights."""
        if self._parameterNode:
            self._listMethods()

    # --- what is compared ---

    def _listMethods(self) -> None:
        entries = {INPUT: _("Input, as it is")}
        entries |= {model.name: _("Model {name}").format(name=model.name) for model in self._models}
        for run in self._runs.inFolder(runsFolder(self._parameterNode)):
            if run.has_weights:
                entries[str(run.folder)] = _("Run {name}").format(name=run.folder.name)
        for name in registry.names():
            network = registry.summary(name)
            if network.zero_shot:
                entries[name] = _("{title} (no training, slow)").format(title=network.title)
        for name, each in FILTERS.items():
            if each.installed:
                entries[name] = _("Filter {label}").format(label=each.label)
        chosen = list(self._parameterNode.methods)
        entries |= {method: _("{name} (gone)").format(name=method) for method in chosen if method not in entries}
        self._ui.methodsList.blockSignals(True)
        if list(entries) != self._listed:
            self._listed = list(entries)
            self._ui.methodsList.clear()
            for text in entries.values():
                item = qt.QListWidgetItem(text)
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsUserCheckable)
                self._ui.methodsList.addItem(item)
        for row, method in enumerate(self._listed):
            item = self._ui.methodsList.item(row)
            item.setToolTip(method)
            item.setCheckState(qt.Qt.Checked if method in chosen else qt.Qt.Unchecked)
        self._ui.methodsList.blockSignals(False)

    def _chosen(self) -> list[str]:
        return [method for method in self._parameterNode.methods if method in self._listed]

    def _onTicked(self, item) -> None:
        if self._parameterNode:
            items = [self._ui.methodsList.item(row) for row in range(len(self._listed))]
            self._parameterNode.methods = [
                method for method, item in zip(self._listed, items, strict=True) if item.checkState() == qt.Qt.Checked
            ]

    def _onFeatures(self, path: str) -> None:
        if self._parameterNode:
            self._parameterNode.features = path

    def _onPhysicsPath(self, path: str) -> None:
        if self._parameterNode:
            self._parameterNode.physicsFolder = path

    # --- folders ---

    def _proposed(self) -> str:
        parent = self._parent()
        return proposedName(parent, "comparison") if parent else "comparison-1"

    def _parent(self) -> Path | None:
        parameters = self._parameterNode
        return Path(parameters.dataset) / COMPARISONS_FOLDER if parameters and parameters.dataset else None

    def _comparisonFolder(self) -> Path | None:
        """Of the comparison that is named, or else the last one."""
        parent = self._parent()
        name = self._parameterNode.comparison.strip() if self._parameterNode else ""
        if parent is None or (not name and self._output is None):
            return None
        return parent / name if name else self._output

    def _ablationFolder(self) -> Path | None:
        parameters = self._parameterNode
        return Path(parameters.dataset) / ABLATION_FOLDER if parameters and parameters.dataset else None

    def _physicsFolder(self) -> Path | None:
        parameters = self._parameterNode
        if parameters and parameters.physicsFolder:
            return Path(parameters.physicsFolder)
        return Path(parameters.dataset) / PHYSICS_FOLDER if parameters and parameters.dataset else None

    # --- work ---

    def _onCompare(self) -> None:
        parameters = self._parameterNode
        self._features.settle()
        name = checkedName(parameters.comparison or self._proposed(), _("a comparison"), self._parent())
        output = self._parent() / name
        job = self._logic.compare(parameters.dataset, self._chosen(), output, comparisonSettings(parameters))
        self._output = output
        self._whenDone(job, showNodes)

    def _onAblation(self) -> None:
        parameters = self._parameterNode
        job = self._logic.ablation(parameters.dataset, self._ablationFolder(), ablationSettings(parameters))
        self._whenDone(job, showNodes)

    def _onPhysics(self) -> None:
        self._physicsPath.settle()
        folder = self._physicsFolder()
        job = self._logic.physics(self._chosen(), folder, physicsSettings(self._parameterNode))
        self._whenDone(job, lambda nodes: self._showPhysics(folder, nodes))

    def _onShowPhysics(self) -> None:
        folder = self._physicsFolder()
        with slicer.util.WaitCursor():
            self._showPhysics(folder, addComparison(folder))

    def _showPhysics(self, folder: Path, nodes) -> None:
        """Show table and plots in the views, and in the panel what they say in words."""
        showNodes(nodes)
        self._ui.physicsText.setHtml("".join(f"<p>{html.escape(each)}</p>" for each in nodes.sentences))
        self._told = folder
        self.jobChanged()


def showNodes(nodes) -> None:
    """Show the tables and plots of a comparison, an ablation or image physics that are in the scene."""
    from IPv2SlicerLib.scene import training_nodes

    training_nodes.show_comparison(nodes)


def showComparison(folder: Path) -> None:
    """Put a comparison or an ablation into the scene, and show it."""
    with slicer.util.WaitCursor():
        showNodes(addComparison(folder))
