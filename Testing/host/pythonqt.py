"""Modules `qt` and the rules of PythonQt, on PySide6.

PythonQt turns every Qt property into an attribute (`label.text` is a text), PySide6 leaves it a method
(`label.text()`); assigning to such a name sets the property in PythonQt and does nothing in PySide6. Who asks
decides what a property is here:

- code of a loaded module: an error that names the form which means the same in both;
- Slicer's own `slicer.util`, written for PythonQt: what PythonQt does;
- everybody else (this package, tests): what PySide6 does.
"""

from __future__ import annotations

import enum
import re
import sys
from pathlib import Path
from types import ModuleType

import slicer.util
from PySide6 import QtCore, QtGui, QtWidgets

from .errors import HostError

# C++ calls these through Python, so their names have to stay what they are.
_VIRTUAL = {"sizeHint", "minimumSizeHint", "duration"}
# Of PySide6 only; PythonQt has nothing of that name.
_PYSIDE_ONLY = {"Signal", "SignalInstance", "Slot", "Property", "ClassInfo", "QEnum", "QFlag", "SIGNAL", "SLOT"}
_SLICER_UTIL = slicer.util.__file__
_FOUR_NAMES = re.compile(r"\bqt\.(\w+)\.(\w+)\.\w+")

_module_folders: set[str] = set()
_patched = False


def watch(folder: Path) -> None:
    """Hold code below a folder to the forms that mean the same in PythonQt and PySide6."""
    _module_folders.add(f"{folder.resolve()}/")


def unwatch_all() -> None:
    """Forget every folder given to `watch`."""
    _module_folders.clear()


def asker(depth: int = 2) -> str:
    """Whose code accesses an attribute: "module", "slicer" or "other". Called by the hook that is asked."""
    path = sys._getframe(depth).f_code.co_filename
    if path == _SLICER_UTIL:
        return "slicer"
    return "module" if any(path.startswith(folder) for folder in _module_folders) else "other"


class _Property:
    """A Qt property as an attribute of a class."""

    def __init__(self, owner: str, name: str, method=None, property_name: str | None = None):
        self.owner, self.name, self.method = owner, name, method
        self.property_name = property_name or name

    def __get__(self, instance, owner=None):
        who = asker()
        if instance is not None and who == "module":
            raise HostError(
                f"{self.owner}.{self.name} is a property in PythonQt and a method in PySide6: "
                f'use .property("{self.property_name}"), a getter of another name (isChecked(), isVisible()) or the '
                "parameter node"
            )
        if instance is not None and who == "slicer":
            return instance.property(self.property_name)
        if self.method is None:
            raise AttributeError(f"{self.owner} has no attribute '{self.name}'")
        return self.method if instance is None else self.method.__get__(instance, owner)

    def __set__(self, instance, value):
        setter = f"set{self.property_name[0].upper()}{self.property_name[1:]}"
        if asker() == "slicer":
            if not instance.setProperty(self.property_name, value):
                raise HostError(f"slicer.util sets {self.owner}.{self.name}, which is read-only here")
            return
        raise HostError(f"{self.owner}.{self.name} is assigned to, which only PythonQt understands: use {setter}()")


def _own_properties(cls) -> list[str]:
    meta = cls.staticMetaObject
    return [meta.property(index).name() for index in range(meta.propertyOffset(), meta.propertyCount())]


def guard_properties(cls: type) -> type:
    """Make the properties that a class adds to its base follow the rule above."""
    for name in _own_properties(cls):
        method = cls.__dict__.get(name) or getattr(cls, name, None)
        if name in _VIRTUAL or isinstance(method, (QtCore.Signal, _Property)):
            continue
        setattr(cls, name, _Property(cls.__name__, name, method))
    return cls


def _classes():
    for module in (QtCore, QtGui, QtWidgets):
        for name in dir(module):
            value = getattr(module, name)
            if isinstance(value, type) and issubclass(value, QtCore.QObject) and value.__module__ == module.__name__:
                yield value


def _patch() -> None:
    global _patched
    if _patched:
        return
    _patched = True
    for cls in sorted(set(_classes()), key=lambda each: len(each.__mro__)):
        guard_properties(cls)
    QtCore.QObject.name = _Property("QObject", "name", None, "objectName")


def make_module(replacements: dict[str, object]) -> ModuleType:
    """Module `qt`: QtCore, QtGui and QtWidgets in one, as in Slicer.

    Parameters
    ----------
    replacements : dict
        Name to object, in place of PySide6's (dialogs that are answered, settings in memory).
    """
    _patch()
    module = ModuleType("qt", "Qt as Slicer's Python sees it.")
    for source in (QtCore, QtGui, QtWidgets):
        for name in dir(source):
            if not name.startswith("_") and name not in _PYSIDE_ONLY:
                setattr(module, name, getattr(source, name))
    for name, value in {"QEventLoop": QEventLoop, **replacements}.items():
        setattr(module, name, value)
    return module


class QEventLoop(QtCore.QEventLoop):
    """With PythonQt's name of `exec`."""

    exec_ = QtCore.QEventLoop.exec


def check_enums(path: Path) -> None:
    """Refuse `qt.Qt.AlignmentFlag.AlignLeft` in a source file: PythonQt has `qt.Qt.AlignLeft` only.

    Raises
    ------
    HostError
        With file and line.
    """
    text = path.read_text(encoding="utf-8")
    for match in _FOUR_NAMES.finditer(text):
        owner = getattr(sys.modules["qt"], match[1], None)
        if isinstance(getattr(owner, match[2], None), enum.EnumMeta):
            line = text.count("\n", 0, match.start()) + 1
            raise HostError(f"{path}:{line}: {match[0]} is of PySide6 only: leave out {match[2]}")
