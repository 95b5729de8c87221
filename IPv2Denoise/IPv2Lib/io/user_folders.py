"""Where a user's own files belong on this system; nothing is made here."""

from __future__ import annotations

import os
import sys
from pathlib import Path

_MAC = "Library/Application Support"


def settings() -> Path:
    """For settings and keys; raises `RuntimeError` where there is no home folder."""
    return _place("APPDATA", "AppData/Roaming", _MAC, "XDG_CONFIG_HOME", ".config") / "IPv2"


def data() -> Path:
    """For what a user makes or installs; raises `RuntimeError` where there is no home folder."""
    return _place("LOCALAPPDATA", "AppData/Local", _MAC, "XDG_DATA_HOME", ".local/share") / "IPv2"


def cache() -> Path:
    """For what can be made again; raises `RuntimeError` where there is no home folder."""
    return _place("LOCALAPPDATA", "AppData/Local", "Library/Caches", "XDG_CACHE_HOME", ".cache") / "IPv2" / "Cache"


def _place(windows_variable: str, windows: str, mac: str, linux_variable: str, linux: str) -> Path:
    if sys.platform == "darwin":
        return Path.home() / mac
    variable, usual = (windows_variable, windows) if sys.platform == "win32" else (linux_variable, linux)
    given = os.environ.get(variable)
    return Path(given) if given else Path.home() / usual
