"""A section of a panel: what the sections of both modules have in common."""

from collections.abc import Callable
from typing import Any

import slicer
from slicer.i18n import tr as _

from IPv2SlicerLib.jobs.Job import Job
from IPv2SlicerLib.jobs.Jobs import Jobs

from .Clicks import onClick
from .JobDisplay import JobDisplay
from .Messages import MessageBoxes, sentence
from .PathField import PathField
from .Timers import singleShot


class Section:
    """Connects some widgets of a panel with the logic; `PanelWidget` hands parameter nodes and events on.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : Jobs
        Of the module.
    """

    def __init__(self, ui, logic: Jobs) -> None:
        self._ui, self._logic = ui, logic
        self._boxes = MessageBoxes(logic.title)
        self._parameterNode = None
        self._displays: list[JobDisplay] = []
        self._waiting: list[Any] = []  # timers and fields, which must not act any more once the widget goes away
        self._sceneTags: list[int] = []
        self._tips: dict[Any, str] = {}  # of buttons that can be used

    # --- what the panel calls ---

    def setParameterNode(self, parameterNode) -> None:
        """Use a parameter node, or none while the module is not shown."""
        self._parameterNode = parameterNode
        if not parameterNode:
            for display in self._displays:
                display.forget()
        self.parametersChanged()

    def parametersChanged(self) -> None:
        """Follow a change of any parameter."""

    def jobChanged(self) -> None:
        """Show where the job is."""
        for display in self._displays:
            display.update(self._logic.runner, self._logic.jobKind)

    def layoutChanged(self) -> None:
        """Follow a change of the views that are shown."""

    def enter(self) -> None:
        """The module is opened."""
        self.jobChanged()

    def exit(self) -> None:
        """Another module is opened; a running job goes on."""

    def cleanup(self) -> None:
        """The widget goes away."""
        for each in self._waiting:
            each.stop()
        for tag in self._sceneTags:
            slicer.mrmlScene.RemoveObserver(tag)
        self._sceneTags = []

    # --- for subclasses ---

    def _onClick(self, button, act: Callable[[], None]) -> None:
        """Do something when a button is clicked, see `onClick`, and show what goes wrong in it."""

        def clicked() -> None:
            with self._boxes.errorsShown():
                act()

        onClick(button, clicked)

    def _allow(self, button, reason: str = "") -> None:
        """Let a button be used, or say as its tooltip why it cannot be."""
        tip = self._tips.setdefault(button, button.property("toolTip"))
        button.setEnabled(not reason)
        button.setToolTip(sentence(reason) or tip)

    def _whyWait(self) -> str:
        """Why no job can be started; empty if one can."""
        runner = self._logic.runner
        return _("Wait until this is done: {title}").format(title=runner.task.title) if runner.state.active else ""

    def _jobDisplay(self, button, progressBar, statusLabel, kinds: tuple[str, ...], start, **texts) -> JobDisplay:
        """A display of the logic's jobs, see there."""
        parts = button, progressBar, statusLabel
        display = JobDisplay(*parts, kinds, start, self._logic.cancel, self._boxes, **texts)
        self._displays.append(display)
        return display

    def _whenDone(self, job: Job, use: Callable[[Any], None]) -> None:
        """Use the result of a job that succeeds; show why one has failed."""

        def finished(result: Any) -> None:
            with self._boxes.errorsShown():
                use(job.wait())

        job.onFinished(finished)

    def _timer(self, msec: int, function: Callable[[], None]):
        """A `singleShot` as long as the widget is there."""
        self._waiting.append(singleShot(msec, function))
        return self._waiting[-1]

    def _pathField(self, widget, chosen: Callable[[str], None]) -> PathField:
        """A `PathField` as long as the widget is there."""
        self._waiting.append(PathField(widget, chosen))
        return self._waiting[-1]

    def _watchScene(self, follow: Callable[[], None]):
        """Call a function soon after nodes have come or gone; returns the timer that waits for more of them."""
        timer = self._timer(0, follow)
        self._sceneTags = [
            slicer.mrmlScene.AddObserver(event, lambda caller, event: timer.start())
            for event in (slicer.vtkMRMLScene.NodeAddedEvent, slicer.vtkMRMLScene.NodeRemovedEvent)
        ]
        return timer
