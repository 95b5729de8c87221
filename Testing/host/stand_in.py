"""What the stand-ins for CTK's and Slicer's own widgets have in common.

Slicer wraps these classes for Python without their ordinary methods: a script reaches slots, `Q_INVOKABLE` methods,
signals and properties, nothing else. So a stand-in has only those as public names, and its own properties are Python
attributes as in PythonQt; what is private here is underscored.
"""

from __future__ import annotations

import itertools

from PySide6 import QtCore

from .errors import HostError

_numbers = itertools.count()


class StandIn:
    """Mixin, before the Qt class."""

    def __getattr__(self, name: str):
        raise AttributeError(f"{type(self).__name__} of Slicer gives Python no '{name}', or the stand-in lacks it")

    def _set_designer_text(self, name: str, text: str) -> None:
        """Set a property whose value a .ui file gives as names of C++ enumerators."""
        raise HostError(f"{type(self).__name__} takes no <enum> or <set> for '{name}' in a .ui file here")


class WithScene(StandIn):
    """Slot `setMRMLScene`; the widget has the signal `mrmlSceneChanged`."""

    _scene = None

    def mrmlScene(self):
        """The scene, or None."""
        return self._scene

    def setMRMLScene(self, scene) -> None:
        """Slot: use a scene."""
        if scene is not self._scene:
            self._scene = scene
            self.mrmlSceneChanged.emit(scene)


def stored_property(kind, default, *, changed: str = ""):
    """A Qt property that is only kept; method `changed` of the widget, if named, is called when it is set.

    Parameters
    ----------
    kind : type or str
        As `PySide6.QtCore.Property` takes it.
    default
        Value before the first assignment.
    changed : str
        Name of a method without arguments.
    """
    key = f"_stored_{next(_numbers)}"

    def get(self):
        return self.__dict__.get(key, default)

    def put(self, value):
        self.__dict__[key] = value
        if changed:
            getattr(self, changed)()

    return QtCore.Property(kind, get, put)
