"""The section *Evaluate*: what is compared, on which cases, the ablation, and their tables and plots."""

from pathlib import Path

import qt
import slicer
from IPv2Lib.inference.filters import FILTERS
from IPv2Lib.models import bundle
from IPv2Lib.networks import registry
from IPv2SlicerLib.widgets.Folders import openFolder
from IPv2SlicerLib.widgets.Messages import sentence
from IPv2SlicerLib.widgets.Section import Section
from slicer.i18n import tr as _

from .Logic import IPv2TrainLogic, addComparison
from .Runs import Runs, checkedName, proposedName, whyNoDataset
from .Settings import ablationSettings, comparisonSettings
from .TrainSection import runsFolder

INPUT = "input"
"""The scan as it is, among the methods."""

COMPARISONS_FOLDER, ABLATION_FOLDER = "comparisons", "ablation"
"""In the folder of a data set."""


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
        self._features = self._pathField(ui.featuresPathLineEdit, self._onFeatures)
        texts = {
            "cancelTip": _("Stop; what is done already stays, and the next time goes on with it."),
            "cancelled": _("Cancelled; what is done stays."),
        }
        parts = ui.compareButton, ui.compareProgressBar, ui.compareStatusLabel
        self._comparison = self._jobDisplay(*parts, ("compare",), self._onCompare, **texts)
        parts = ui.ablationButton, ui.ablationProgressBar, ui.ablationStatusLabel
        self._ablation = self._jobDisplay(*parts, ("ablation",), self._onAblation, **texts)
        ui.methodsList.itemChanged.connect(self._onTicked)
        self._onClick(ui.showComparisonButton, lambda: showComparison(self._comparisonFolder()))
        self._onClick(ui.openComparisonButton, lambda: openFolder(self._comparisonFolder()))
        self._onClick(ui.showAblationButton, lambda: showComparison(self._ablationFolder()))
        self._onClick(ui.openAblationButton, lambda: openFolder(self._ablationFolder()))

    def setParameterNode(self, parameterNode) -> None:
        """Use a parameter node, or none while the module is not shown."""
        if parameterNode:
            self._models, _problems = bundle.scan()
        super().setParameterNode(parameterNode)

    def parametersChanged(self) -> None:
        """Follow a change of any parameter."""
        if self._parameterNode:
            self._features.show(self._parameterNode.features)
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
        ui.comparisonLineEdit.setPlaceholderText(self._proposed())
        for buttons, folder in (
            ((ui.showComparisonButton, ui.openComparisonButton), self._comparisonFolder()),
            ((ui.showAblationButton, ui.openAblationButton), self._ablationFolder()),
        ):
            for button in buttons:
                button.setEnabled(folder is not None and folder.is_dir())

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


def showNodes(nodes) -> None:
    """Show the tables and plots of a comparison or an ablation that are in the scene."""
    from IPv2SlicerLib.scene import training_nodes

    training_nodes.show_comparison(nodes)


def showComparison(folder: Path) -> None:
    """Put a comparison or an ablation into the scene, and show it."""
    with slicer.util.WaitCursor():
        showNodes(addComparison(folder))
