"""Showing a folder to the user."""

from pathlib import Path

import qt


def openFolder(folder: Path) -> None:
    """Open a folder in the system's file manager; it is made if it does not exist."""
    folder.mkdir(parents=True, exist_ok=True)
    qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(folder)))
