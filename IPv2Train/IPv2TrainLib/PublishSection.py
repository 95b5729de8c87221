"""The section *Publish*: the best weights of a run become a model that IPv2 Denoise lists."""

import logging
import re

import slicer
from IPv2Lib.training.run_folder import RunState
from IPv2SlicerLib.widgets.Messages import sentence
from IPv2SlicerLib.widgets.Section import Section
from slicer.i18n import tr as _

from .Logic import TITLE, IPv2TrainLogic, modelFolder
from .Runs import Runs, factsHtml
from .TrainSection import runsFolder

_NO_RUN = _("no run has weights yet: train one in section 2")


class PublishSection(Section):
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
        self._listed: list[RunState] = []
        self._facts = ""
        parts = ui.publishButton, ui.publishProgressBar, ui.publishStatusLabel
        self._display = self._jobDisplay(*parts, ("publish",), self._onPublish)
        ui.publishedRunSelector.activated.connect(self._onRun)
        # Slicer would write what is typed back into a QTextEdit, which puts the cursor at its start with every letter.
        self._texts = {"modelDescription": ui.modelDescriptionText, "modelLimits": ui.modelLimitsText}
        for name, widget in self._texts.items():
            widget.textChanged.connect(lambda name=name: self._onText(name))

    def parametersChanged(self) -> None:
        """Follow a change of any parameter."""
        if self._parameterNode:
            self._listRuns()
            self.jobChanged()
            for name, widget in self._texts.items():
                if widget.toPlainText() != getattr(self._parameterNode, name):
                    widget.setPlainText(getattr(self._parameterNode, name))

    def runsChanged(self) -> None:
        """A run has come, or has got weights."""
        self.parametersChanged()

    def jobChanged(self) -> None:
        """Show where the job is."""
        super().jobChanged()
        if self._parameterNode:
            self._display.setStart(reason="" if self._run() else sentence(_NO_RUN))

    def enter(self) -> None:
        """The module is opened."""
        self.parametersChanged()
        super().enter()

    # --- what is shown ---

    def _listRuns(self) -> None:
        """The runs that have weights; the one of section 2, unless another one was chosen."""
        selector = self._ui.publishedRunSelector
        found = [run for run in self._runs.inFolder(runsFolder(self._parameterNode)) if run.has_weights]
        names = [run.folder.name for run in found]
        selector.blockSignals(True)
        if names != [run.folder.name for run in self._listed]:
            selector.clear()
            for name in names:
                selector.addItem(name)
        self._listed = found
        chosen = self._run()
        selector.setCurrentIndex(found.index(chosen) if chosen else -1)
        selector.blockSignals(False)
        text = factsHtml(chosen) if chosen else sentence(_NO_RUN)
        if text != self._facts:  # else it would scroll back to its top
            self._facts = text
            self._ui.cardText.setHtml(text)
        self._ui.modelNameLineEdit.setPlaceholderText(_proposedName(chosen))

    def _run(self) -> RunState | None:
        wanted = (self._parameterNode.publishedRun, self._parameterNode.run)
        for name in wanted:
            for run in self._listed:
                if run.folder.name == name:
                    return run
        return self._listed[-1] if self._listed else None

    def _onRun(self, index: int = 0) -> None:
        index = self._ui.publishedRunSelector.property("currentIndex")
        if self._parameterNode and 0 <= index < len(self._listed):
            self._parameterNode.publishedRun = self._listed[index].folder.name

    def _onText(self, name: str) -> None:
        if self._parameterNode:
            setattr(self._parameterNode, name, self._texts[name].toPlainText())

    # --- work ---

    def _onPublish(self) -> None:
        parameters, run = self._parameterNode, self._run()
        name = parameters.modelName.strip() or _proposedName(run)
        overwrite = modelFolder(name).exists()
        # With --testing Slicer asks nobody, and says no.
        if overwrite and not slicer.util.confirmYesNoDisplay(
            _("There is a model {name} already. Replace it?").format(name=name), windowTitle=TITLE
        ):
            text = _("Nothing was published: there is a model {name} already.").format(name=name)
            logging.info("%s: %s", TITLE, text)
            self._display.say(text)
            return
        job = self._logic.publish(
            run.folder,
            name,
            title=parameters.modelTitle,
            description=parameters.modelDescription,
            limits=parameters.modelLimits,
            overwrite=overwrite,
        )
        self._whenDone(job, self._onPublished)

    def _onPublished(self, model) -> None:
        self._display.say(_("IPv2 Denoise lists the model {name} now.").format(name=model["name"]))


def _proposedName(run: RunState | None) -> str:
    """A model's name made of a run's."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", run.folder.name).strip("-._") if run else ""
