"""Errors and times as text for people."""

import contextlib
import logging
import math
from collections.abc import Iterator

import qt
import slicer
from IPv2Lib.errors import Cancelled, IPv2Error
from slicer.i18n import tr as _


class MessageBoxes:
    """The message boxes of one module.

    Parameters
    ----------
    title : str
        Of the boxes: the module's name.
    """

    def __init__(self, title: str):
        self._title = title

    def showError(self, text: str) -> None:
        """Show a message of the library in a box."""
        slicer.util.errorDisplay(sentence(text), windowTitle=self._title)

    def confirm(self, question: str) -> bool:
        """Ask whether to do what loses something: No is proposed, and is the answer of automatic tests."""
        if slicer.app.testingEnabled():
            logging.info("%s: not asked, No: %s", self._title, question)
            return False
        buttons = qt.QMessageBox.Yes | qt.QMessageBox.No
        answer = qt.QMessageBox.question(slicer.util.mainWindow(), self._title, question, buttons, qt.QMessageBox.No)
        return answer == qt.QMessageBox.Yes

    @contextlib.contextmanager
    def errorsShown(self) -> Iterator[None]:
        """Show what goes wrong inside as a sentence in a message box; the traceback of a bug goes to the log.

        Examples
        --------
        >>> with MessageBoxes("IPv2 Denoise").errorsShown():
        ...     raise IPv2Error("no volume is chosen")  # a box says: No volume is chosen.
        """
        try:
            yield
        except Cancelled:
            pass
        except IPv2Error as error:
            self.showError(str(error))
        except Exception as error:
            logging.exception("%s: a bug", self._title)
            self.showError(
                _("this should not happen ({error}); please report it with the application's log").format(
                    error=f"{type(error).__name__}: {error}"
                )
            )


def sentence(text: str) -> str:
    """A message of the library, which begins with a small letter, as a sentence of its own.

    Examples
    --------
    >>> sentence("no volume is chosen"), sentence("scan.nrrd is empty"), sentence("uLDCT and NDCT differ")
    ('No volume is chosen.', 'scan.nrrd is empty.', 'uLDCT and NDCT differ.')
    """
    text = text.strip()
    if not text:
        return ""
    first = text.split()[0].rstrip(",;:")
    if first.isalpha() and first.islower():
        text = text[0].upper() + text[1:]
    return text if text[-1] in ".!?…" else f"{text}."


def duration(seconds: float) -> str:
    """Seconds for people: "under 1 s", "12 s", "5 min", "2 h 10 min".

    Examples
    --------
    >>> duration(0.4), duration(11.6), duration(290), duration(7800)
    ('under 1 s', '12 s', '5 min', '2 h 10 min')
    """
    if seconds < 1:
        return _("under 1 s")
    if seconds < 90:
        return _("{seconds} s").format(seconds=round(seconds))
    minutes = math.ceil(seconds / 60)
    if minutes < 90:
        return _("{minutes} min").format(minutes=minutes)
    return _("{hours} h {minutes} min").format(hours=minutes // 60, minutes=minutes % 60)


def about(seconds: float) -> str:
    """An estimated time for people.

    Examples
    --------
    >>> about(0.4), about(11.6)
    ('under 1 s', 'about 12 s')
    """
    time = duration(seconds)
    return time if seconds < 1 else _("about {time}").format(time=time)
