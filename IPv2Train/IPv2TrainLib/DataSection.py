"""The section *Data*: the table of cases, where they come from, how they are split, and making the data set."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import qt
import slicer
from IPv2Lib.datasets.cases import (
    Case,
    check_cases,
    check_fractions,
    identified,
    is_named_after_files,
    named,
    neutral,
    split_by_patient,
)
from IPv2Lib.datasets.patients import hidden
from IPv2Lib.datasets.shards import SCANS_FOLDER, SPLITS, is_dataset
from IPv2Lib.errors import InputError
from IPv2SlicerLib.widgets.Messages import sentence
from IPv2SlicerLib.widgets.Options import valuesOf
from IPv2SlicerLib.widgets.Section import Section
from slicer.i18n import tr as _

from . import CaseSources
from .CasePreview import CasePreview
from .Cases import (
    PURIFIED,
    CaseState,
    casesFromText,
    casesOfDataset,
    caseStates,
    casesToText,
    countsOfSplits,
    joined,
    withSplit,
)
from .CaseTable import NAME, CaseTable
from .Logic import IPv2TrainLogic
from .Settings import fractions, preparationSettings

MOST_FAILURES_SHOWN = 5

LAST_DATASET = "IPv2Train/dataset"
"""Key in the application's settings: what a new scene, or Slicer after a restart, offers."""


class DataSection(Section):
    """Connects the widgets of the section with the logic.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : IPv2TrainLogic
    """

    def __init__(self, ui, logic: IPv2TrainLogic):
        super().__init__(ui, logic)
        self._cases: list[Case] = []
        self._states: dict[str, CaseState] = {}
        self._shown: tuple = ()
        self._heard: object = None  # of the job, last
        self._dataset = self._pathField(ui.datasetPathLineEdit, self._onDataset)
        self._table = CaseTable(ui.casesTable, self._onEdited, self._onSelected)
        self._preview = CasePreview(ui, logic)
        self._display = self._jobDisplay(
            ui.purifyButton,
            ui.purifyProgressBar,
            ui.purifyStatusLabel,
            ("prepare",),
            self._onPurify,
            cancelTip=_("Stop; finished cases stay."),
            cancelled=_("Cancelled; finished cases stay."),
        )
        for button, ask in (
            (ui.addFilesButton, CaseSources.askForFiles),
            (ui.addPairButton, CaseSources.askForPair),
            (ui.addDicomButton, lambda: CaseSources.askForFolder(_("A folder with DICOM series"))),
            (ui.addStagesButton, lambda: CaseSources.askForFolder(_("A folder of stages, or of such folders"))),
            (ui.openTableButton, CaseSources.askForTable),
        ):
            self._onClick(button, lambda ask=ask: self._onAdd(ask, ask is CaseSources.askForTable))
        self._onClick(ui.addFromSceneButton, self._onAddFromScene)
        self._onClick(ui.removeButton, self._onRemove)
        self._onClick(ui.drawAgainButton, self._onDrawAgain)
        for text in ("", _("random"), *SPLITS):
            ui.splitSelector.addItem(text)
        ui.splitSelector.activated.connect(self._onSplitChosen)

    def setParameterNode(self, parameterNode) -> None:
        """Use a parameter node, or none while the module is not shown."""
        self._shown = ()
        if parameterNode and not parameterNode.dataset:
            offerLastDataset(parameterNode)
        super().setParameterNode(parameterNode)

    def parametersChanged(self) -> None:
        """Follow a change of any parameter."""
        parameters = self._parameterNode
        if not parameters:
            return
        self._dataset.show(parameters.dataset)
        wanted = (
            parameters.dataset,
            parameters.cases,
            parameters.trainPercent,
            parameters.validationPercent,
            parameters.splitSeed,
        )
        if wanted != self._shown:
            self._shown = wanted
            self._cases = casesFromText(parameters.cases)
            self._showCases()
        self._ui.kernelSelector.setEnabled(parameters.simulator.value == "physical")
        self._showButtons()

    def jobChanged(self) -> None:
        """Show where the job is, and which cases are done."""
        runner = self._logic.runner
        self._showButtons()
        if self._logic.jobKind == "prepare" and self._parameterNode:
            heard = runner.state, runner.message
            if heard != self._heard:
                self._heard = heard
                self._showCases()

    def enter(self) -> None:
        """The module is opened: the data set may have been changed meanwhile."""
        if self._parameterNode:
            self._showCases()
        super().enter()

    # --- what is shown ---

    @property
    def _folder(self) -> Path | None:
        return Path(self._parameterNode.dataset) if self._parameterNode and self._parameterNode.dataset else None

    @property
    def _fractions(self) -> tuple[float, float, float]:
        return fractions(self._parameterNode)

    def _assigned(self) -> list[Case]:
        return split_by_patient(self._cases, self._fractions, self._parameterNode.splitSeed)

    def _showCases(self) -> None:
        self._states = caseStates(self._cases, self._folder)
        try:
            assigned, problem = self._assigned(), ""
        except InputError as error:
            assigned, problem = self._cases, sentence(str(error))
        self._table.show(self._cases, assigned, self._states)
        self._ui.splitPreviewLabel.setText(problem or splitText(assigned))
        self._onSelected()
        self._showButtons()

    def _showButtons(self) -> None:
        """Enable what can work, and say of the rest why it cannot."""
        super().jobChanged()
        parameters = self._parameterNode
        if not parameters:
            return
        self._display.setStart(reason=sentence(self._whyNotPurify()))
        reason = CaseSources.whyNot(parameters.ndctVolume, parameters.uldctVolume)
        if not parameters.dataset:
            reason = _("the folder of the data set is missing: choose one, the scans are written into it")
        self._allow(self._ui.addFromSceneButton, reason)

    def _whyNotPurify(self) -> str:
        if not self._parameterNode.dataset:
            return _("no data set is chosen: choose a folder for it")
        if not self._cases:
            return _("there is no case yet: add some")
        try:
            check_fractions(self._fractions)
        except InputError as error:
            return str(error)
        return ""

    def _onSelected(self) -> None:
        names = self._table.selectedNames()
        for widget in (self._ui.removeButton, self._ui.splitSelector):
            widget.setEnabled(bool(names) and not self._isPurifying)
        splits = {case.split for case in self._cases if case.name in names}
        one = next(iter(splits)) if len(splits) == 1 else None
        self._ui.splitSelector.setCurrentIndex(0 if one is None else 2 + SPLITS.index(one) if one else 1)
        chosen = next((case for case in self._cases if names and case.name == names[-1]), None)
        self._preview.show(self._folder, chosen, self._states.get(chosen.name) if chosen else None)

    @property
    def _isPurifying(self) -> bool:
        return self._logic.runner.state.active and self._logic.jobKind == "prepare"

    # --- the data set and its cases ---

    def _onDataset(self, path: str) -> None:
        if not self._parameterNode:
            return
        with self._boxes.errorsShown():
            cases = self._cases
            if path and is_dataset(path):
                waiting = [
                    case for case in cases if case.name not in self._states or self._states[case.name].state != PURIFIED
                ]
                cases = joined(casesOfDataset(Path(path)), waiting)
                qt.QSettings().setValue(LAST_DATASET, path)
            with slicer.util.NodeModify(self._parameterNode.parameterNode):
                self._parameterNode.dataset = path
                self._parameterNode.cases = casesToText(cases)

    def _onAdd(self, ask, isTable: bool) -> None:
        found = ask()
        self._add(found if isTable else [replace(case, **self._settings()) for case in found])

    def _onAddFromScene(self) -> None:
        parameters = self._parameterNode
        self._dataset.settle()
        with slicer.util.WaitCursor():
            case = CaseSources.fromScene(parameters.ndctVolume, parameters.uldctVolume, self._folder / SCANS_FOLDER)
        self._add([replace(case, **self._settings())])
        parameters.ndctVolume = parameters.uldctVolume = None

    def _settings(self) -> dict:
        """Of new cases."""
        return valuesOf(self._parameterNode, Case) | {"seed": self._parameterNode.splitSeed}

    def _add(self, found: Sequence[Case]) -> None:
        if not found or not self._parameterNode:
            return
        found = [replace(case, patient=case.patient and hidden(case.patient)) for case in named(found)]
        if self._parameterNode.neutralNames:
            found = neutral(found, self._cases)
        cases = identified(joined(self._cases, found))
        check_cases(cases)
        added = len(cases) - len(self._cases)
        self._keep(cases)
        known = len(found) - added
        text = _("{count} added.").format(count=added)
        if known:
            text += " " + _("{count} known already.").format(count=known)
        if any(map(is_named_after_files, cases[len(cases) - added :])):
            text += " " + _("Names are those of files: change them where they say who a patient is.")
        self._display.say(text)

    def _keep(self, cases: Sequence[Case]) -> None:
        if self._isPurifying:
            raise InputError(_("the cases are being purified: wait until that is done, or cancel it"))
        self._parameterNode.cases = casesToText(cases)

    def _onRemove(self) -> None:
        names = self._table.selectedNames()
        self._keep([case for case in self._cases if case.name not in names])

    def _onEdited(self, name: str, column: int, text: str) -> None:
        field = "name" if column == NAME else "patient"
        with self._boxes.errorsShown():
            try:
                if not text:
                    raise InputError(_("a case needs a name and a patient: the old one stays"))
                text = text if column == NAME else hidden(text)
                cases = [replace(case, **{field: text}) if case.name == name else case for case in self._cases]
                check_cases(cases)
                self._keep(cases)
            finally:
                self._table.forget()
                self._showCases()

    # --- split ---

    def _onSplitChosen(self, index: int = 0) -> None:
        index = self._ui.splitSelector.property("currentIndex")
        if index < 1 or not self._parameterNode:
            return
        with self._boxes.errorsShown():
            names = self._table.selectedNames()
            patients = {case.patient for case in self._cases if case.name in names}
            self._keep(withSplit(self._cases, patients, "" if index == 1 else SPLITS[index - 2]))

    def _onDrawAgain(self) -> None:
        check_fractions(self._fractions)
        self._keep([replace(case, split="") for case in self._cases])

    # --- work ---

    def _onPurify(self) -> None:
        parameters = self._parameterNode
        self._dataset.settle()
        check_cases(self._cases)
        job = self._logic.prepare(self._assigned(), parameters.dataset, preparationSettings(parameters))
        self._whenDone(job, self._onPurified)

    def _onPurified(self, rows) -> None:
        if not self._parameterNode:
            return
        self._parameterNode.cases = casesToText(casesOfDataset(self._folder))
        qt.QSettings().setValue(LAST_DATASET, str(self._folder))
        self._showCases()
        failed = [row for row in rows if row["status"] == "failed"]
        done = len(rows) - len(failed)
        self._display.say(_("{done} of {all} cases are purified.").format(done=done, all=len(rows)))
        if failed:
            self._boxes.showError(failureText(failed, len(rows)))


def offerLastDataset(parameterNode) -> None:
    """Choose the data set that was used last, if it is still there."""
    path = qt.QSettings().value(LAST_DATASET, "")
    if path and is_dataset(path):
        with contextlib.suppress(InputError):  # damaged: it is said when somebody chooses it
            cases = casesToText(casesOfDataset(Path(path)))
            parameterNode.dataset, parameterNode.cases = path, cases


def splitText(cases: Sequence[Case]) -> str:
    """What each split consists of, in a line."""
    if not cases:
        return _("No case yet: add some.")
    names = {"train": _("Training"), "validation": _("validation"), "test": _("test")}
    parts = [f"{names[split]} {count}/{patients}" for split, (count, patients) in countsOfSplits(cases).items()]
    return _("{splits} (cases/patients)").format(splits=" · ".join(parts))


def failureText(failed: Sequence[dict], count: int) -> str:
    """Which cases could not be purified, and why."""
    lines = [f"• {row['name']}: {row['message']}" for row in failed[:MOST_FAILURES_SHOWN]]
    if len(failed) > MOST_FAILURES_SHOWN:
        lines.append(_("… and {count} more").format(count=len(failed) - MOST_FAILURES_SHOWN))
    head = _("{failed} of {count} cases could not be purified:").format(failed=len(failed), count=count)
    return "\n".join([head, *lines])
