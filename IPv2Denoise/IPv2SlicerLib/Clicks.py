"""Clicks on buttons: the second half of a double click does nothing."""

import time
from collections.abc import Callable

import slicer


def onClick(button, act: Callable[[], None]) -> None:
    """Do something whenever a button is clicked, but only once for a double click.

    The second click may have waited until the first had been dealt with, so that time counts from then.

    Examples
    --------
    >>> onClick(ui.removeButton, self.remove)
    """
    ended = float("-inf")

    def clicked(checked: bool = False) -> None:
        nonlocal ended
        if time.monotonic() - ended < slicer.app.property("doubleClickInterval") / 1000:
            return
        try:
            act()
        finally:
            ended = time.monotonic()

    button.clicked.connect(clicked)
