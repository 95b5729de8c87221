"""Clicks on buttons: the second half of a double click does nothing."""

import time
from collections.abc import Callable

import slicer


def onClick(button, act: Callable[[], None]) -> None:
    """Do something whenever a button is clicked, but only once for a double click.

    The second click may come while the first is being dealt with, or have waited until then: time counts from the end.

    Examples
    --------
    >>> onClick(ui.removeButton, self.remove)
    """
    ended = float("-inf")

    def clicked(checked: bool = False) -> None:
        nonlocal ended
        if time.monotonic() - ended < slicer.app.property("doubleClickInterval") / 1000:
            return
        ended = float("inf")  # a wait cursor, or an error's box, lets the second click in
        try:
            act()
        finally:
            ended = time.monotonic()

    button.clicked.connect(clicked)
