"""The log in a panel: what the jobs were, what they wanted to be known, how they ended."""

from IPv2SlicerLib.jobs.Jobs import Jobs, logFolder

from .Folders import openFolder
from .Messages import sentence
from .Section import Section


class JobLog(Section):
    """Writes down what happens to jobs.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : Jobs
        Of the module.
    *others : Jobs
        Whose jobs may run at the same time.
    """

    def __init__(self, ui, logic: Jobs, *others: Jobs):
        super().__init__(ui, logic)
        self._jobs = logic, *others
        self._seen: dict[int, tuple] = {}  # task and number of notes written, by place among the jobs
        self._onClick(ui.logFolderButton, lambda: openFolder(logFolder()))

    def jobChanged(self) -> None:
        """Something about a job has changed."""
        for number, jobs in enumerate(self._jobs):
            runner = jobs.runner
            task, count, wasActive = self._seen.get(number, (None, 0, False))
            if runner.task is not task:
                self.write(runner.task.title)
                count, wasActive = 0, True
            for note in runner.notes[count:]:
                self.write(sentence(note))
            if wasActive and not runner.state.active:
                end = runner.error or runner.message
                self.write(sentence(f"{runner.task.title}: {end}" if len(self._jobs) > 1 else end))
            self._seen[number] = runner.task, len(runner.notes), runner.state.active

    def write(self, text: str) -> None:
        """Add a line."""
        self._ui.logText.appendPlainText(text)
