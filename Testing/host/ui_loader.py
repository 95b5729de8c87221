"""Loads .ui files the way Slicer does, and refuses what Slicer's Qt Designer plugins would not know."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from PySide6 import QtCore, QtUiTools, QtWidgets

from . import ctk_widgets, mrml_widgets
from .errors import HostError
from .stand_in import StandIn

# Dynamic properties that Slicer reads, and those that Qt Designer's own layouts leave behind.
_DYNAMIC = {"SlicerParameterName", "SlicerPackParameterName"}


def stand_ins() -> dict[str, type]:
    """Every class of CTK and Slicer that a .ui file may use here."""
    return {**ctk_widgets.WIDGETS, **mrml_widgets.WIDGETS}


class QUiLoader(QtUiTools.QUiLoader):
    """Knows the stand-ins; also what `slicer.util.loadUI` uses."""

    def load(self, device, parent=None):
        """The widget of a .ui file.

        Raises
        ------
        HostError
            Unknown class, property, signal or slot, named with the widget that has it.
        """
        tree = ElementTree.fromstring(bytes(device.readAll()))
        name = Path(device.fileName()).name if isinstance(device, QtCore.QFile) else "the .ui file"
        later = _checked_properties(tree, name)
        connections = _cut_connections(tree)
        _prefix_custom_widgets(tree)
        buffer = QtCore.QBuffer()
        buffer.setData(ElementTree.tostring(tree))
        buffer.open(QtCore.QIODevice.ReadOnly)
        widget = super().load(buffer, parent)
        if widget is None:
            raise HostError(f"{name} cannot be loaded: {self.errorString()}")
        for object_name, property_name, text in later:
            _named(widget, object_name, name)._set_designer_text(property_name, text)
        for sender, signal, receiver, slot in connections:
            _connect(widget, sender, signal, receiver, slot, name)
        return widget

    def createWidget(self, class_name, parent=None, name=""):
        if class_name in stand_ins():
            widget = stand_ins()[class_name](parent)
            widget.setObjectName(name)
            return widget
        return super().createWidget(class_name, parent, name)


def _checked_properties(tree, file: str) -> list[tuple[str, str, str]]:
    """Check classes and properties; cut out and return those that a stand-in has to be given as texts."""
    later = []
    for element in tree.iter("widget"):
        class_name, object_name = element.get("class"), element.get("name")
        cls = stand_ins().get(class_name) or getattr(QtWidgets, class_name, None)
        if cls is None:
            raise HostError(
                f"{file}: widget '{object_name}' is of class {class_name}, which the stand-in does not know"
            )
        for item in element.findall("property"):
            name = item.get("name")
            if name in _DYNAMIC or item.get("stdset") == "0":
                continue
            by_text = [child for child in item if child.tag in ("enum", "set")]
            if by_text and issubclass(cls, StandIn) and not _is_qt_property(cls, name):
                later.append((object_name, name, by_text[0].text))
                element.remove(item)
            elif cls.staticMetaObject.indexOfProperty(name) < 0 and class_name != "Line":
                raise HostError(f"{file}: {class_name} '{object_name}' has no property '{name}'")
    return later


def _is_qt_property(cls, name: str) -> bool:
    base = next(each for each in cls.__mro__ if each.__module__.startswith("PySide6"))
    return base.staticMetaObject.indexOfProperty(name) >= 0


def _cut_connections(tree) -> list[tuple[str, ...]]:
    section = tree.find("connections")
    if section is None:
        return []
    tree.remove(section)
    return [
        tuple(each.find(tag).text for tag in ("sender", "signal", "receiver", "slot"))
        for each in section.findall("connection")
    ]


def _prefix_custom_widgets(tree) -> None:
    """Qt falls back on a custom widget's base class where it knows no such class; here every class is known."""
    section = tree.find("customwidgets")
    for each in section if section is not None else ():
        if each.findtext("class") not in stand_ins():
            raise HostError(f"custom widget {each.findtext('class')} is not known to the stand-in")


def _named(widget, name: str, file: str):
    if widget.objectName() == name:
        return widget
    found = widget.findChild(QtCore.QObject, name)
    if found is None:
        raise HostError(f"{file}: there is no object '{name}'")
    return found


def _connect(widget, sender: str, signal: str, receiver: str, slot: str, file: str) -> None:
    source, target = _named(widget, sender, file), _named(widget, receiver, file)
    names = [re.match(r"\w+", each).group() for each in (signal, slot)]
    for owner, name in zip((source, target), names, strict=True):
        if not hasattr(owner, name):
            raise HostError(f"{file}: {type(owner).__name__} '{owner.objectName()}' has no {name}")
    getattr(source, names[0]).connect(getattr(target, names[1]))
