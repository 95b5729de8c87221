"""A start button that is Cancel while its job runs, with a progress bar and a status line."""

from collections.abc import Callable

from slicer.i18n import tr as _

from IPv2SlicerLib.jobs.job_runner import JobRunner, JobState

from .Clicks import onClick
from .Messages import MessageBoxes, about, sentence


class JobDisplay:
    """Shows the jobs of some kinds; one of the kinds is what the button starts.

    Parameters
    ----------
    button, progressBar, statusLabel : QPushButton, QProgressBar (0 to 1000), QLabel
    kinds : tuple of str
        Jobs that are shown here, see `Jobs.jobKind`.
    start, cancel : callable
        What a click does, without and with a job of these kinds.
    boxes : MessageBoxes
        Say what went wrong in them.
    cancelTip, cancelled : str
        Tooltip of Cancel, and what is said afterwards; default: that nothing is changed.

    Examples
    --------
    >>> display = JobDisplay(ui.denoiseButton, ui.denoiseProgressBar, ui.denoiseStatusLabel, ("denoise",),
    ...                      self.onDenoise, self.logic.cancel, boxes)
    >>> display.update(logic.runner, logic.jobKind)
    """

    def __init__(
        self,
        button,
        progressBar,
        statusLabel,
        kinds: tuple[str, ...],
        start: Callable[[], None],
        cancel: Callable[[], None],
        boxes: MessageBoxes,
        cancelTip: str = "",
        cancelled: str = "",
    ):
        self._button, self._progressBar, self._statusLabel = button, progressBar, statusLabel
        self._kinds = kinds
        self._start, self._cancel, self._boxes = start, cancel, boxes
        self._startText, self._startTip = button.property("text"), button.property("toolTip")
        self._text = self._startText
        self._cancelTip, self._cancelled = cancelTip or _("Stop; nothing is changed."), cancelled
        self._running = self._cancelling = False
        self._otherTitle = ""  # of a job that is shown elsewhere
        self._heard = ("", "")  # of the job, last, and whose it was
        self._said = self._reason = ""
        self.say("")
        onClick(button, self._onClicked)  # the second half of a double click must not undo the first

    def say(self, text: str) -> None:
        """Show a sentence below the button, after the reason why it cannot be used, if there is one."""
        self._said = text
        self._showLine()

    def setStart(self, text: str | None = None, reason: str = "") -> None:
        """What the button is while no job runs.

        Parameters
        ----------
        text : str, optional
            On it; default: as the .ui file has it.
        reason : str
            Why it cannot be used at present, a sentence; empty if it can.
        """
        self._text, self._reason = text or self._startText, reason
        self._showButton()
        self._showLine()

    def forget(self) -> None:
        """Show no more what an earlier job said; a running one goes on to speak."""
        if not self._running:
            self.say("")

    def update(self, runner: JobRunner, kind: str, whose: str = "") -> None:
        """Show where a job is; a job of another kind only locks the button.

        Parameters
        ----------
        runner : JobRunner
        kind : str
            See `Jobs.jobKind`.
        whose : str
            What the job is about, where a person would take it for that of something else.
        """
        active, own = runner.state.active, kind in self._kinds
        self._running = active and own
        self._cancelling = runner.state is JobState.CANCELLING
        self._otherTitle = runner.task.title if active and not own else ""
        self._progressBar.setVisible(self._running)
        self._showButton()
        if self._running:
            self._progressBar.setValue(round(1000 * runner.fraction))
            self._progressBar.setFormat(progressText(runner))
        text = self._statusText(runner)
        heard = (text, whose if active else "")
        if own and heard != self._heard:  # once: what was forgotten stays so
            self._heard = heard
            self.say(f"{whose}: {text}" if whose and text else text)

    def _showButton(self) -> None:
        self._button.setText(_("Cancel") if self._running else self._text)
        if self._running:
            self._button.setEnabled(not self._cancelling)
            self._button.setToolTip(self._cancelTip)
        elif self._otherTitle:
            self._button.setEnabled(False)
            self._button.setToolTip(_("Wait until this is done: {title}").format(title=self._otherTitle))
        else:
            self._button.setEnabled(not self._reason)
            self._button.setToolTip(self._reason or self._startTip)

    def _showLine(self) -> None:
        reason = "" if self._running else self._reason  # it holds, whatever was said before
        text = "\n".join(dict.fromkeys(each for each in (reason, self._said) if each))
        self._statusLabel.setText(text)
        self._statusLabel.setVisible(bool(text))

    def _statusText(self, runner: JobRunner) -> str:
        if runner.state is JobState.FAILED:
            return _("Not done: an error stopped it, nothing was changed.")
        if runner.state is JobState.CANCELLED and self._cancelled:
            return self._cancelled
        return sentence(runner.message)

    def _onClicked(self) -> None:
        with self._boxes.errorsShown():
            if self._running:
                self._cancel()
            else:
                self.say("")  # what an earlier job said is not said of a start that is refused
                self._start()


def progressText(runner: JobRunner) -> str:
    """Percentage and remaining time, e.g. "42 %, about 12 s left"."""
    percentage = _("{percentage} %").format(percentage=round(100 * runner.fraction))
    if runner.remaining_seconds is None:
        return percentage
    return _("{percentage}, {time} left").format(percentage=percentage, time=about(runner.remaining_seconds))
