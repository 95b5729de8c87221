"""Showing a folder or a file to the user."""

from pathlib import Path

import qt
from IPv2Lib.errors import OutputError, reason
from slicer.i18n import tr as _


def openFolder(folder: Path) -> None:
    """Open a folder in the system's file manager; it is made if it does not exist.

    Raises
    ------
    OutputError
        It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            _("{folder} cannot be made ({reason})").format(folder=folder, reason=reason(error))
        ) from error
    openFile(folder)


def openFile(path: Path) -> None:
    """Open a file in the program that the system has for it."""
    qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(path)))
