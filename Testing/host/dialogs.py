"""Dialogs without a user: what they said is kept in `messages`, what they return comes from `answers`.

A dialog takes the first answer that waits. Without one it is answered by its default button, or if it has none as
Slicer's testing mode does: OK or Yes to a question, Close to "Retry or close?", nothing chosen in a file dialog.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PySide6 import QtCore, QtGui, QtWidgets

from .errors import HostError

_Box = QtWidgets.QMessageBox


@dataclass(frozen=True)
class Message:
    """What a dialog said.

    Attributes
    ----------
    kind : str
        "error", "warning", "info", "question", "file", "input", "open" or "dialog".
    text, title, detail : str
        Detail is the text behind "Show details".
    """

    kind: str
    text: str
    title: str = ""
    detail: str = ""


messages: list[Message] = []
answers: deque = deque()
"""Values, or functions that take the `Message` and return one. True, False or a button for questions; a path or
list of paths for file dialogs; a text for input dialogs; 1 or 0 for a dialog of its own.
"""

_KINDS = {_Box.Critical: "error", _Box.Warning: "warning", _Box.Information: "info", _Box.Question: "question"}
_YES = (_Box.Yes, _Box.Ok, _Box.Retry, _Box.Save, _Box.Open, _Box.Apply)
_NO = (_Box.No, _Box.Cancel, _Box.Close, _Box.Discard, _Box.Ignore)


def reset() -> None:
    """Forget messages and answers."""
    messages.clear()
    answers.clear()


def say(kind: str, text: str, title: str = "", detail: str = "", default=None):
    """Record a message and give the answer to it."""
    message = Message(kind, text, title, detail)
    messages.append(message)
    answer = answers.popleft() if answers else default
    return answer(message) if isinstance(answer, Callable) else answer


def button_for(answer, buttons):
    """The button of a message box that an answer means: True is the first that agrees, False the first that does not.

    Parameters
    ----------
    answer : bool, button or None
        None: the default of Slicer's testing mode.
    buttons : flags of QMessageBox.StandardButton
    """
    if answer is None:
        answer = not (buttons & _Box.Retry and buttons & _Box.Close)
    if isinstance(answer, bool):
        wanted = _YES if answer else _NO
        return next((button for button in wanted if buttons & button), _Box.Ok)
    return answer


class QMessageBox(_Box):
    """Answered at once."""

    def exec(self):
        """Record the message and return the button that answers it."""
        buttons = self.standardButtons()
        answer = say(
            _KINDS.get(self.icon(), "dialog"),
            self.text(),
            self.windowTitle(),
            self.detailedText() or self.informativeText(),
        )
        chosen = button_for(answer, buttons)
        self.setResult(int(chosen))
        return chosen

    exec_ = exec

    @staticmethod
    def _ask(kind, parent, title, text, buttons=_Box.Ok, default=_Box.NoButton):
        return button_for(say(kind, text, title, default=None if default == _Box.NoButton else default), buttons)

    @staticmethod
    def information(parent, title, text, buttons=_Box.Ok, default=_Box.NoButton):
        return QMessageBox._ask("info", parent, title, text, buttons, default)

    @staticmethod
    def warning(parent, title, text, buttons=_Box.Ok, default=_Box.NoButton):
        return QMessageBox._ask("warning", parent, title, text, buttons, default)

    @staticmethod
    def question(parent, title, text, buttons=_Box.Yes | _Box.No, default=_Box.NoButton):
        return QMessageBox._ask("question", parent, title, text, buttons, default)


class QFileDialog(QtWidgets.QFileDialog):
    """The static functions return a path, not a pair, as in PythonQt; empty where nothing was chosen.

    A dialog that is made and executed says its proposal, folder and name; the answer to one that saves may be a pair:
    path, name filter.
    """

    _name, _answer = "", ()

    def selectFile(self, name: str) -> None:
        """What is proposed."""
        self._name = str(name)

    def exec(self) -> int:
        """Ask; a name without a suffix gets the default one only if it has no dot, as in Qt."""
        kind = "save" if self.acceptMode() == QtWidgets.QFileDialog.AcceptSave else "open"
        proposal = str(Path(self.directory().path()) / self._name) if self._name else self.directory().path()
        answer = say("file", self.windowTitle(), kind, proposal)
        path, name_filter = answer if isinstance(answer, tuple) else (answer, None)
        if name_filter is not None:
            if name_filter not in self.nameFilters():
                raise HostError(f"the dialog offers no '{name_filter}': {self.nameFilters()}")
            self.selectNameFilter(name_filter)
        self._answer = (str(path),) if path else ()
        return int(bool(path))

    exec_ = exec

    def selectedFiles(self) -> list[str]:
        """What was chosen."""
        return list(self._answer)

    @staticmethod
    def getOpenFileName(parent=None, caption="", folder="", filter="", selected=None, options=None) -> str:
        return str(say("file", caption, "open", str(folder), "") or "")

    @staticmethod
    def getOpenFileNames(parent=None, caption="", folder="", filter="", selected=None, options=None) -> list[str]:
        return [str(path) for path in say("file", caption, "open", str(folder), []) or []]

    @staticmethod
    def getSaveFileName(parent=None, caption="", folder="", filter="", selected=None, options=None) -> str:
        return str(say("file", caption, "save", str(folder), "") or "")

    @staticmethod
    def getExistingDirectory(parent=None, caption="", folder="", options=None) -> str:
        return str(say("file", caption, "folder", str(folder), "") or "")


class QInputDialog(QtWidgets.QInputDialog):
    """The static functions return a text, not a pair, as in PythonQt; empty where the dialog was closed."""

    @staticmethod
    def getText(parent, title, label, echo=None, text="") -> str:
        return str(say("input", label, title, text, text) or "")


class QDialog(QtWidgets.QDialog):
    """Recorded and answered at once instead of waiting for a user."""

    def exec(self) -> int:
        return int(bool(say("dialog", self.windowTitle(), self.windowTitle(), default=1)))

    exec_ = exec


class QDesktopServices(QtGui.QDesktopServices):
    """Says what it would open."""

    @staticmethod
    def openUrl(url: QtCore.QUrl) -> bool:
        return bool(say("open", url.toLocalFile() or url.toString(), default=True))


REPLACEMENTS = {each.__name__: each for each in (QMessageBox, QFileDialog, QInputDialog, QDialog, QDesktopServices)}
