"""The log at the bottom of the panel: what the jobs were, what they wanted to be known, how they ended."""

from IPv2SlicerLib.jobs.Jobs import Jobs, logFolder
from IPv2SlicerLib.widgets.Clicks import onClick
from IPv2SlicerLib.widgets.Folders import openFolder
from IPv2SlicerLib.widgets.Messages import sentence

from .Messages import errorsShown


class JobLog:
    """Writes down what happens to the jobs of a runner.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    jobs : sequence of Jobs
    """

    def __init__(self, ui, *jobs: Jobs):
        self._ui, self._jobs = ui, jobs
        self._seen: dict[int, tuple] = {}  # task and number of notes written, by place among the jobs
        onClick(ui.logFolderButton, self._onFolder)

    def jobChanged(self) -> None:
        """Something about a job has changed."""
        for number, jobs in enumerate(self._jobs):
            runner = jobs.runner
            task, count, wasActive = self._seen.get(number, (None, 0, False))
            if runner.task is not task:
                self._write(runner.task.title)
                count, wasActive = 0, True
            for note in runner.notes[count:]:
                self._write(sentence(note))
            if wasActive and not runner.state.active:
                self._write(sentence(f"{runner.task.title}: {runner.error or runner.message}"))
            self._seen[number] = runner.task, len(runner.notes), runner.state.active

    def _write(self, text: str) -> None:
        self._ui.logText.appendPlainText(text)

    def _onFolder(self) -> None:
        with errorsShown():
            openFolder(logFolder())
