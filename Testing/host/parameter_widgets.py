"""Which widget shows a parameter of which type, as Slicer has it: its class is matched exactly, not its descendants."""

from __future__ import annotations

import enum
import types
import typing

from PySide6 import QtWidgets

from . import ctk_widgets, mrml_widgets
from .parameter_types import (
    PATHS,
    Choice,
    Decimals,
    Maximum,
    Minimum,
    SingleStep,
    WithinRange,
    first_of,
    is_node,
    splitAnnotations,
)


class Connector:
    """Reads and writes the value of one widget."""

    def __init__(self, widget, signal: str, read, write):
        self.widget, self.read, self.write = widget, read, write
        self._signal = getattr(widget, signal) if signal else None

    def connect(self, callback) -> None:
        self._callback = lambda *_: callback()
        if self._signal is not None:
            self._signal.connect(self._callback)

    def disconnect(self) -> None:
        if self._signal is not None:
            self._signal.disconnect(self._callback)


def connector_of(widget, annotated) -> Connector:
    kind, annotations = splitAnnotations(annotated)
    cls = type(widget)
    for matches, make in _CONNECTORS:
        if matches(cls, kind):
            return make(widget, kind, annotations)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{annotated}' to widget type '{cls}'.")


def _by_property(widget, name: str, signal: str) -> Connector:
    return Connector(widget, signal, lambda: widget.property(name), lambda value: widget.setProperty(name, value))


def _push_button(widget, kind, annotations) -> Connector:
    widget.setCheckable(True)
    return _by_property(widget, "checked", "toggled")


def _bounds(annotations):
    within, low, high = (first_of(annotations, each) for each in (WithinRange, Minimum, Maximum))
    if within:
        return within.minimum, within.maximum
    return (low.minimum if low else None), (high.maximum if high else None)


def _integer(widget, kind, annotations) -> Connector:
    minimum, maximum = _bounds(annotations)
    if isinstance(widget, QtWidgets.QSlider) and None in (minimum, maximum):
        raise RuntimeError("Cannot have a connection to QSlider where the int type is unbounded.")
    step = first_of(annotations, SingleStep)
    if step:
        widget.setSingleStep(step.value)
    widget.setRange(-(2**31) if minimum is None else minimum, 2**31 - 1 if maximum is None else maximum)
    return _by_property(widget, "value", "valueChanged")


def _number(widget, kind, annotations) -> Connector:
    minimum, maximum = _bounds(annotations)
    if isinstance(widget, ctk_widgets.ctkSliderWidget) and None in (minimum, maximum):
        raise RuntimeError("Cannot have a connection to ctkSliderWidget where the float types is unbounded.")
    decimals, step = first_of(annotations, Decimals), first_of(annotations, SingleStep)
    if not isinstance(widget, ctk_widgets.ctkDoubleSlider):
        if kind is int:
            widget.setProperty("decimals", 0)
        elif decimals:
            widget.setProperty("decimals", decimals.value)
    if step:
        widget.setProperty("singleStep", step.value)
    widget.setProperty("minimum", -float("inf") if minimum is None else minimum)
    widget.setProperty("maximum", float("inf") if maximum is None else maximum)
    connector = _by_property(widget, "value", "valueChanged")
    if kind is int:
        connector.read = lambda: int(widget.property("value"))
    return connector


def _choice(widget, kind, annotations) -> Connector:
    choice = first_of(annotations, Choice)
    if choice is None:
        raise RuntimeError("ComboBoxToStringableConnector requires the Choice annotation to be used.")
    return _combo_box(widget, list(choice.choices), [str(each) for each in choice.choices])


def _enumeration(widget, kind, annotations) -> Connector:
    label = getattr(kind, "label", lambda value: value.name)
    return _combo_box(widget, list(kind), [label(value) for value in kind])


def _combo_box(widget, values: list, texts: list[str]) -> Connector:
    widget.clear()
    for text in texts:
        widget.addItem(text)

    def write(value):
        if value not in values:
            raise ValueError(f"Unable to find value {value} in choices {values}")
        widget.setCurrentIndex(values.index(value))

    return Connector(widget, "currentIndexChanged", lambda: values[widget.currentIndex()], write)


def _line_edit(widget, kind, annotations) -> Connector:
    def write(value):
        if value != widget.text():
            widget.setText(value)

    return Connector(widget, "textChanged", widget.text, write)


def _label(widget, kind, annotations) -> Connector:
    return Connector(widget, "", widget.text, widget.setText)


def _text_edit(widget, kind, annotations) -> Connector:
    return Connector(widget, "textChanged", widget.toPlainText, widget.setPlainText)


def _path(property_name: str, signal: str):
    def make(widget, kind, annotations):
        return Connector(
            widget,
            signal,
            lambda: kind(widget.property(property_name)),
            lambda value: widget.setProperty(property_name, str(value)),
        )

    return make


def _node_selector(widget, kind, annotations) -> Connector:
    members = typing.get_args(kind) or (kind,)
    classes = [splitAnnotations(each)[0] for each in members]
    widget.setProperty("nodeTypes", [each.__name__ for each in classes if each is not type(None)])
    return Connector(widget, "currentNodeChanged", widget.currentNode, widget.setCurrentNode)


def _is_node_or_union(kind) -> bool:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        members = [splitAnnotations(each)[0] for each in typing.get_args(kind)]
        return all(each is type(None) or is_node(each) for each in members)
    return is_node(kind)


def _is(classes, *kinds):
    return lambda cls, kind: cls in classes and kind in kinds


def _is_enum(cls, kind) -> bool:
    return (
        cls in (QtWidgets.QComboBox, ctk_widgets.ctkComboBox) and isinstance(kind, type) and issubclass(kind, enum.Enum)
    )


# In Slicer's order, of which the first match counts.
_CONNECTORS = (
    (_is((QtWidgets.QCheckBox, ctk_widgets.ctkCheckBox), bool), lambda w, *_: _by_property(w, "checked", "toggled")),
    (_is((QtWidgets.QPushButton,), bool), _push_button),
    (_is((QtWidgets.QSlider, QtWidgets.QSpinBox), int), _integer),
    (
        _is(
            (
                QtWidgets.QDoubleSpinBox,
                ctk_widgets.ctkSliderWidget,
                ctk_widgets.ctkDoubleSlider,
                ctk_widgets.ctkDoubleSpinBox,
            ),
            float,
            int,
        ),
        _number,
    ),
    (_is((QtWidgets.QComboBox, ctk_widgets.ctkComboBox), int, float, str, bool), _choice),
    (_is_enum, _enumeration),
    (_is((QtWidgets.QLineEdit,), str), _line_edit),
    (_is((QtWidgets.QLabel,), str), _label),
    (_is((QtWidgets.QTextEdit,), str), _text_edit),
    (_is((ctk_widgets.ctkPathLineEdit,), *PATHS), _path("currentPath", "currentPathChanged")),
    (_is((ctk_widgets.ctkDirectoryButton,), *PATHS), _path("directory", "directoryChanged")),
    (lambda cls, kind: cls is mrml_widgets.qMRMLNodeComboBox and _is_node_or_union(kind), _node_selector),
)
