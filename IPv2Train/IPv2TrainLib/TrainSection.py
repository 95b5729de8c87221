"""The section *Train*: the settings of a new run, starting, pausing and resuming, and how a run stands."""

from collections.abc import Callable
from pathlib import Path

import qt
import slicer
from IPv2Lib.errors import InputError
from IPv2Lib.models import bundle
from IPv2Lib.networks import registry
from IPv2Lib.training.losses import LOSSES
from IPv2Lib.training.run_folder import RUNNING, RunState, is_run
from IPv2SlicerLib.jobs.Job import Job
from IPv2SlicerLib.widgets.Messages import sentence
from IPv2SlicerLib.widgets.Section import Section
from slicer.i18n import tr as _

from .Curves import Curves
from .Logic import IPv2TrainLogic
from .Parameters import LengthUnit, Pairs
from .Runs import RUNS_FOLDER, Runs, checkedName, longText, progressText, proposedName, shortText, whyNoDataset
from .Settings import trainingSettings

WATCH_MSEC = 1000
"""Between two looks at the run's folder."""


class TrainSection(Section):
    """Connects the widgets of the section with the logic.

    A run is shown as its folder says, whoever trains it.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : IPv2TrainLogic
    runs : Runs
        Shared with the other sections.
    runsChanged : callable
        Called without arguments when a run has come or gone, or has got other weights.
    """

    def __init__(self, ui, logic: IPv2TrainLogic, runs: Runs, runsChanged: Callable[[], None]):
        super().__init__(ui, logic)
        self._runs, self._runsChanged = runs, runsChanged
        self._run: RunState | None = None  # the one that is shown
        self._listed: list[str] = []  # names, by row
        self._announced: object = None  # with `runsChanged`, last
        self._asked: tuple[Path, str] | None = None  # the run that was asked to pause or stop, and which
        self._shownNetwork = ""
        self._curves = Curves()
        self._runsPath = self._pathField(ui.runsPathLineEdit, self._onRunsFolder)
        self._clock = qt.QTimer()
        self._clock.setInterval(WATCH_MSEC)
        self._clock.timeout.connect(self._watch)
        self._waiting.append(self._clock)
        for button, act in (
            (ui.startButton, self._onStart),
            (ui.pauseButton, lambda: self._ask("pause")),
            (ui.resumeButton, self._onResume),
            (ui.stopButton, lambda: self._ask("stop")),
            (ui.curvesButton, self._onCurves),
            (ui.openRunButton, self._onOpenRun),
        ):
            self._onClick(button, act)
        ui.runsList.currentRowChanged.connect(self._onRow)
        ui.startFromSelector.activated.connect(self._onStartFrom)
        self._models: list[str] = []

    def setParameterNode(self, parameterNode) -> None:
        """Use a parameter node, or none while the module is not shown."""
        self._parameterNode = parameterNode
        self._shownNetwork = ""
        if parameterNode:
            if self._logic.training.runner.state.active and not parameterNode.run:
                self._choose(self._logic.trainedRun)  # the scene was closed; what is trained is shown all the same
            self._describeChoices()
            self._clock.start()
        else:
            self._ui.lengthSpinBox.setDecimals(1)  # or the length of the next parameter node would be rounded
        self.parametersChanged()

    def parametersChanged(self) -> None:
        """Follow a change of any parameter."""
        parameters, ui = self._parameterNode, self._ui
        if not parameters:
            return
        self._runsPath.show(parameters.runsFolder)
        network = registry.summary(parameters.network)
        if self._shownNetwork != parameters.network:
            self._shownNetwork = parameters.network
            ui.networkInfoLabel.setText(f"{network.title} ({network.reference}).")
            self._listModels()
        ui.lossSelector.setEnabled(not network.generative)
        isSteps = parameters.lengthUnit is LengthUnit.STEPS
        ui.lengthSpinBox.setMinimum(1.0 if isSteps else 0.1)  # first: without decimals, 0.1 would become 0
        ui.lengthSpinBox.setDecimals(0 if isSteps else 1)
        for widget in (
            ui.simulatedDoseLowSpinBox,
            ui.simulatedDoseHighSpinBox,
            ui.simulatedKernelLowSpinBox,
            ui.simulatedKernelHighSpinBox,
        ):
            widget.setEnabled(parameters.pairs is Pairs.SIMULATED)
        self._watch()

    def jobChanged(self) -> None:
        """Something about the training that was started here has changed."""
        self._watch()

    def enter(self) -> None:
        """The module is opened."""
        self._clock.start()
        self._watch()

    def cleanup(self) -> None:
        """The widget goes away."""
        super().cleanup()
        self._curves.forget()

    # --- what is shown ---

    @property
    def runsFolder(self) -> Path | None:
        """Where the runs are; None without a data set."""
        return runsFolder(self._parameterNode)

    def _watch(self) -> None:
        """Look at the run's folder, and show what has changed."""
        if self._parameterNode:
            self._showRuns()
            self._showRun()
        self._curves.follow(self._runs)
        if not self._parameterNode and not self._curves.live:
            self._clock.stop()

    def _showRuns(self) -> None:
        ui, parameters = self._ui, self._parameterNode
        found = self._runs.inFolder(self.runsFolder)
        names, texts = [run.folder.name for run in found], [shortText(run) for run in found]
        runsList = ui.runsList
        runsList.blockSignals(True)
        if names != self._listed:
            self._listed = names
            runsList.clear()
            for text in texts:
                runsList.addItem(text)
        for row, text in enumerate(texts):
            runsList.item(row).setText(text)
        runsList.setCurrentRow(names.index(parameters.run) if parameters.run in names else -1)
        runsList.blockSignals(False)
        self._run = next((run for run in found if run.folder.name == parameters.run), None)
        now = [(run.folder, run.has_weights, run.state, run.best_step) for run in found]
        if now != self._announced:
            self._announced = now
            self._runsChanged()
        ui.newRunLineEdit.setPlaceholderText(proposedName(self.runsFolder, parameters.strategy.value))

    def _showRun(self) -> None:
        ui, run, runner = self._ui, self._run, self._logic.training.runner
        isStarting = runner.state.active and not (run and run.state == RUNNING)
        isRunning = run is not None and run.state == RUNNING
        if self._asked and not isRunning and not isStarting:
            self._asked = None
        reason = whyNoDataset(self._parameterNode.dataset)
        if runner.state.active:
            reason = _("wait until this is done: {title}").format(title=runner.task.title)
        self._allow(ui.startButton, reason)
        ui.resumeButton.setEnabled(run is not None and run.can_resume and not runner.state.active)
        ui.pauseButton.setEnabled(isRunning and not self._asked)
        ui.stopButton.setEnabled((isRunning or isStarting) and (not self._asked or self._asked[1] == "pause"))
        ui.curvesButton.setEnabled(run is not None)
        ui.trainProgressBar.setVisible(isRunning or isStarting)
        text = longText(run) if run else ""
        if isRunning:
            ui.trainProgressBar.setValue(round(1000 * run.fraction))
            ui.trainProgressBar.setFormat(progressText(run))
            if self._asked:
                word = _("Pausing after this step…") if self._asked[1] == "pause" else _("Stopping after this step…")
                text = f"{text} {word}"
        elif isStarting:
            ui.trainProgressBar.setValue(0)
            ui.trainProgressBar.setFormat(_("starting"))
            text = sentence(f"{self._logic.trainedRun.name}: {runner.message}")
        ui.trainStatusLabel.setText(text)
        ui.trainStatusLabel.setVisible(bool(text))

    def _describeChoices(self) -> None:
        """What the entries of selectors mean, as their tooltips."""
        for number, text in enumerate(LOSSES.values()):
            self._ui.lossSelector.setItemData(number, text, qt.Qt.ToolTipRole)
        for number in range(self._ui.networkSelector.model().rowCount()):
            network = registry.summary(self._ui.networkSelector.itemText(number))
            self._ui.networkSelector.setItemData(number, f"{network.title}. {network.reference}.", qt.Qt.ToolTipRole)

    def _listModels(self) -> None:
        """Models of the chosen network, to start from."""
        parameters, selector = self._parameterNode, self._ui.startFromSelector
        found, _problems = bundle.scan()
        self._models = ["", *(each.name for each in found if each.card.network.name == parameters.network)]
        if parameters.startFrom not in self._models:
            self._models.append(parameters.startFrom)
        selector.blockSignals(True)
        selector.clear()
        for name in self._models:
            selector.addItem(name or _("Random weights"))
        selector.setCurrentIndex(self._models.index(parameters.startFrom))
        selector.blockSignals(False)

    # --- what a user chooses ---

    def _onRunsFolder(self, path: str) -> None:
        if self._parameterNode:
            self._parameterNode.runsFolder = path

    def _onRow(self, row: int) -> None:
        if self._parameterNode and 0 <= row < len(self._listed):
            self._parameterNode.run = self._listed[row]

    def _onOpenRun(self) -> None:
        path = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("The folder of a training run"))
        if not path or not self._parameterNode:
            return
        if not is_run(path):
            raise InputError(_("{path} is no training run: choose a folder that 'ipv2 train' made").format(path=path))
        self._choose(Path(path))

    def _choose(self, run: Path) -> None:
        with slicer.util.NodeModify(self._parameterNode.parameterNode):
            if run.parent != self.runsFolder:
                self._parameterNode.runsFolder = str(run.parent)
            self._parameterNode.run = run.name

    def _onStartFrom(self, index: int = 0) -> None:
        index = self._ui.startFromSelector.property("currentIndex")
        if self._parameterNode and 0 <= index < len(self._models):
            self._parameterNode.startFrom = self._models[index]

    # --- work ---

    def _onStart(self) -> None:
        parameters = self._parameterNode
        self._runsPath.settle()
        name = parameters.newRun.strip() or proposedName(self.runsFolder, parameters.strategy.value)
        name = checkedName(name, _("a run"), self.runsFolder)
        run = (self.runsFolder or Path()) / name
        job = self._logic.train(parameters.dataset, run, trainingSettings(parameters))
        with slicer.util.NodeModify(parameters.parameterNode):
            parameters.run, parameters.newRun = name, ""
        self._follow(job, run)

    def _onResume(self) -> None:
        self._follow(self._logic.resume(self._run.folder), self._run.folder)

    def _follow(self, job: Job, run: Path) -> None:
        self._whenDone(job, lambda state: self._watch())
        self._asked = None
        self._curves.want(run)
        self._clock.start()
        self._watch()

    def _ask(self, word: str) -> None:
        isStarting = self._run is None or self._run.state != RUNNING
        run = self._logic.trainedRun if isStarting else self._run.folder
        {"pause": self._logic.pause, "stop": self._logic.stop}[word](run)
        self._asked = (run, word)
        self._watch()

    def _onCurves(self) -> None:
        self._curves.want(self._run.folder)
        self._curves.follow(self._runs)


def runsFolder(parameterNode) -> Path | None:
    """Where the runs are that a parameter node means; None without a data set."""
    if parameterNode is None:
        return None
    if parameterNode.runsFolder:
        return Path(parameterNode.runsFolder)
    return Path(parameterNode.dataset) / RUNS_FOLDER if parameterNode.dataset else None
