"""Observers of VTK objects that end with the Qt object they belong to."""

from __future__ import annotations

from collections.abc import Callable

import shiboken6
import vtk
from PySide6 import QtCore

# Held here, for VTK's Python objects hide from Python that VTK still calls what only they refer to.
_live: set[Observation] = set()


def end_all() -> None:
    """Stop every observer."""
    for each in list(_live):
        each.end()


class Observation:
    """One observer.

    Parameters
    ----------
    owner : QObject
        Its callbacks stop when Qt deletes it.
    target : vtkObject
    event : int or str
    callback : function
        Without arguments, or with the node that the event is about where `with_node` is set.
    """

    def __init__(self, owner: QtCore.QObject, target, event, callback: Callable, *, with_node: bool = False):
        def call(_caller, _event, *data):
            if shiboken6.isValid(owner):
                callback(*data)

        if with_node:

            @vtk.calldata_type(vtk.VTK_OBJECT)
            def observer(caller, event, node):
                call(caller, event, node)

        else:

            def observer(caller, event):
                call(caller, event)

        self._target = target
        self._tag = target.AddObserver(event, observer)
        _live.add(self)
        owner.destroyed.connect(self.end)

    def end(self, *_) -> None:
        """Stop observing."""
        if self in _live:
            _live.remove(self)
            self._target.RemoveObserver(self._tag)
