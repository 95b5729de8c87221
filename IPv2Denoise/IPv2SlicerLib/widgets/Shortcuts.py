"""Keys of a module: they work wherever the focus is, while the module is open."""

from collections.abc import Callable, Mapping

import qt
import slicer


class Shortcuts:
    """Keys and what each of them does; they sleep until they are enabled.

    Fields in which somebody types get single letters and digits first. None may be a key of Slicer's own, such as those
    for markups, sequences and slice views: of two shortcuts with one key, neither is heard.

    Parameters
    ----------
    keys : mapping of str to callable
    widget : QWidget
        Of the panel: its keys are heard in Slicer without a main window.
    repeats : bool
        Whether a key that is held acts again and again.
    """

    def __init__(self, keys: Mapping[str, Callable[[], None]], widget, *, repeats: bool = True) -> None:
        self._shortcuts = []
        for key, act in keys.items():
            shortcut = qt.QShortcut(qt.QKeySequence(key), slicer.util.mainWindow() or widget)
            shortcut.setProperty("autoRepeat", repeats)
            shortcut.activated.connect(act)
            self._shortcuts.append(shortcut)
        self.setEnabled(False)

    def setEnabled(self, enabled: bool) -> None:
        """Listen, or leave the keys to other modules."""
        for shortcut in self._shortcuts:
            shortcut.setEnabled(enabled)

    def close(self) -> None:
        """The widget goes away."""
        self.setEnabled(False)
        for shortcut in self._shortcuts:
            shortcut.deleteLater()
        self._shortcuts = []
