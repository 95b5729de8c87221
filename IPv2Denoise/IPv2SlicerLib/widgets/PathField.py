"""A path in a panel, as text: empty where nothing is chosen."""

from collections.abc import Callable

from .Timers import singleShot

SETTLE_MSEC = 300
"""Somebody types a path letter by letter; it counts when the keys have been still for so long."""


class PathField:
    """Connects a ctkPathLineEdit with a text of a parameter node.

    Slicer connects such widgets with parameters of type Path only, of which none is empty.

    Parameters
    ----------
    widget : ctkPathLineEdit
    chosen : callable
        Gets the path, without spaces at its ends, when the user has typed or chosen another one.
    """

    def __init__(self, widget, chosen: Callable[[str], None]):
        self._widget, self._chosen = widget, chosen
        self._shown = ""
        self._timer = singleShot(SETTLE_MSEC, self._settled)
        widget.setCurrentPath("")  # a new one may show the latest path of the history, which nobody chose here
        widget.currentPathChanged.connect(self._onChanged)
        widget.validInputChanged.connect(self._onChanged)  # all that it says when it is cleared

    def show(self, path: str) -> None:
        """Show a path, unless something else is just being typed."""
        if path != self._shown:
            self._timer.stop()
            self._shown = path
            self._widget.setCurrentPath(path)

    def settle(self) -> None:
        """Do not wait for more keys: somebody is about to use what was typed."""
        self._timer.stop()
        self._settled()

    def stop(self) -> None:
        """Wait for no more keys, whatever was typed."""
        self._timer.stop()

    def _onChanged(self, news: str | bool = "") -> None:
        if self._text() != self._shown:
            self._timer.start()

    def _settled(self) -> None:
        text = self._text()
        if text != self._shown:
            self._shown = text
            self._chosen(text)

    def _text(self) -> str:
        return str(self._widget.property("currentPath") or "").strip()
