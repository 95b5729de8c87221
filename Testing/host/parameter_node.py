"""Module `slicer.parameterNodeWrapper`: typed parameters that are kept as texts in a vtkMRMLScriptedModuleNode.

Which type may be connected to which widget follows Slicer exactly; parameter packs and dictionaries are left out and
refused. A widget class is matched exactly, not its descendants, as in Slicer.
"""

from __future__ import annotations

import collections.abc
import enum
import pathlib
import types
import typing
import weakref
from types import ModuleType

import slicer
import slicer.util
import vtk
from PySide6 import QtWidgets

from . import ctk_widgets, mrml_widgets
from .errors import HostError

SlicerParameterNamePropertyName = "SlicerParameterName"

_PATHS = (pathlib.Path, pathlib.PurePath, pathlib.PosixPath, pathlib.PurePosixPath)
_NAMES_TAKEN = (
    "allParameters", "default", "isCached", "dataType", "getValue", "setValue", "connectGui", "connectParametersToGui",
    "disconnectGui", "StartModify", "EndModify", "AddObserver", "RemoveObserver", "Modified",
)  # fmt: skip


class Default:
    """Annotation: the value of a parameter that was never set."""

    def __init__(self, value=None, *, generator=None):
        self._value, self._generator = value, generator

    @property
    def value(self):
        return self._generator() if self._generator else self._value


class Decimals:
    """Annotation: decimals that a spin box or slider shows."""

    def __init__(self, value: int):
        self.value = value


class SingleStep:
    """Annotation: step of a spin box or slider."""

    def __init__(self, value: float):
        self.value = value


class Validator:
    """Annotation that refuses values."""

    def validate(self, value) -> None:
        raise NotImplementedError


class NotNone(Validator):
    def validate(self, value) -> None:
        if value is None:
            raise ValueError("Value must not be None")


class IsInstance(Validator):
    def __init__(self, classtype):
        self.classtype = classtype

    def validate(self, value) -> None:
        if value is not None and not isinstance(value, self.classtype):
            raise TypeError(f"Value must be of type '{self.classtype}', is {type(value)} '{value}'")


class WithinRange(Validator):
    def __init__(self, minimum, maximum):
        self.minimum, self.maximum = minimum, maximum

    def validate(self, value) -> None:
        if not self.minimum <= value <= self.maximum:
            raise ValueError(f"Value must be within [{self.minimum}, {self.maximum}], is {value}")


class Minimum(Validator):
    def __init__(self, minimum):
        self.minimum = minimum

    def validate(self, value) -> None:
        if value < self.minimum:
            raise ValueError(f"Value must be at least {self.minimum}, is {value}")


class Maximum(Validator):
    def __init__(self, maximum):
        self.maximum = maximum

    def validate(self, value) -> None:
        if value > self.maximum:
            raise ValueError(f"Value must be at most {self.maximum}, is {value}")


class Choice(Validator):
    def __init__(self, choices):
        self.choices = choices

    def validate(self, value) -> None:
        if value not in self.choices:
            raise ValueError(f"Value is {value}, but must be one of {self.choices}")


class Exclude(Validator):
    def __init__(self, excludedValues):
        self.excludedValues = excludedValues

    def validate(self, value) -> None:
        if value in self.excludedValues:
            raise ValueError(f"Value is {value}, which is excluded")


def splitAnnotations(annotated) -> tuple[object, tuple]:
    """A type without its annotations, and those."""
    arguments = typing.get_args(typing.Annotated[annotated, None])
    return arguments[0], arguments[1:-1]


def _first(annotations, kind):
    return next((each for each in annotations if isinstance(each, kind)), None)


# --- How a value is kept as text --------------------------------------------------------------------------------


class _Text:
    """Serializer of a type that a text holds."""

    def __init__(self, kind, to_text, from_text, default, allowed=None):
        self.to_text, self.from_text, self.default = to_text, from_text, default
        self.validators = [NotNone(), IsInstance(allowed or kind)]

    def contains(self, node, name: str) -> bool:
        return node.HasParameter(name)

    def write(self, node, name: str, value) -> None:
        node.SetParameter(name, self.to_text(value))

    def read(self, node, name: str):
        return self.from_text(node.GetParameter(name))

    def remove(self, node, name: str) -> None:
        node.UnsetParameter(name)


class _Node:
    """Serializer of a node: a reference, which survives saving, and an empty text that says it was set."""

    default = None

    def __init__(self, kind):
        self.validators = [IsInstance(kind)]

    def contains(self, node, name: str) -> bool:
        return node.HasParameter(name)

    def write(self, node, name: str, value) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node, name: str):
        return node.GetNodeReference(name)

    def remove(self, node, name: str) -> None:
        node.UnsetParameter(name)
        node.RemoveNodeReferenceIDs(name)


class _NoneOnly:
    """Serializer of None in a union."""

    default = None

    def __init__(self):
        self.validators = [_IsNone()]

    def contains(self, node, name: str) -> bool:
        return node.HasParameter(name)

    def write(self, node, name: str, value) -> None:
        node.SetParameter(name, "True")

    def read(self, node, name: str):
        return None

    def remove(self, node, name: str) -> None:
        node.UnsetParameter(name)


class _IsNone(Validator):
    def validate(self, value) -> None:
        if value is not None:
            raise ValueError("Value must be None")


class _Union:
    """Serializer of `A | B`: the first member that takes the value, each under a name of its own."""

    def __init__(self, members):
        self.members = [_serializer(member) for member in members]
        self.validators = []
        optional = len(members) == 2 and members[1] is type(None)
        self.default = None if optional else self.members[0].default

    def _name(self, name: str, index: int) -> str:
        return f"{name}.{index}"

    def contains(self, node, name: str) -> bool:
        return any(each.contains(node, self._name(name, index)) for index, each in enumerate(self.members))

    def write(self, node, name: str, value) -> None:
        for index, each in enumerate(self.members):
            try:
                for validator in each.validators:
                    validator.validate(value)
            except (TypeError, ValueError):
                continue
            self.remove(node, name)
            each.write(node, self._name(name, index), value)
            return
        raise TypeError(f"Unable to write value '{value}' of type '{type(value)}'")

    def read(self, node, name: str):
        for index, each in enumerate(self.members):
            if each.contains(node, self._name(name, index)):
                return each.read(node, self._name(name, index))
        raise KeyError(f"Unable to find value for name: {name}")

    def remove(self, node, name: str) -> None:
        for index, each in enumerate(self.members):
            each.remove(node, self._name(name, index))


class _List:
    """Serializer of `list[A]`: its length, and each element under a name of its own."""

    def __init__(self, element):
        self.element = _serializer(element)
        self.validators = []

    @property
    def default(self) -> list:
        return []

    def contains(self, node, name: str) -> bool:
        return node.HasParameter(f"{name}.len")

    def write(self, node, name: str, values) -> None:
        values = list(values)
        for value in values:
            for validator in self.element.validators:
                validator.validate(value)
        with slicer.util.NodeModify(node):
            self.remove(node, name)
            for index, value in enumerate(values):
                self.element.write(node, f"{name}.{index}", value)
            node.SetParameter(f"{name}.len", str(len(values)))

    def read(self, node, name: str) -> _ObservedList:
        count = int(node.GetParameter(f"{name}.len"))
        values = [self.element.read(node, f"{name}.{index}") for index in range(count)]
        return _ObservedList(values, lambda changed: self.write(node, name, changed))

    def remove(self, node, name: str) -> None:
        if self.contains(node, name):
            for index in range(int(node.GetParameter(f"{name}.len"))):
                self.element.remove(node, f"{name}.{index}")
            node.UnsetParameter(f"{name}.len")


class _ObservedList(collections.abc.MutableSequence):
    """A list that is written to the parameter node whenever it is changed in place."""

    def __init__(self, values: list, save):
        self._values, self._save = values, save

    def __getitem__(self, index):
        return self._values[index]

    def __setitem__(self, index, value):
        self._values[index] = value
        self._save(self._values)

    def __delitem__(self, index):
        del self._values[index]
        self._save(self._values)

    def insert(self, index, value):
        self._values.insert(index, value)
        self._save(self._values)

    def __len__(self):
        return len(self._values)

    def __eq__(self, other):
        return self._values == list(other)

    __hash__ = None

    def __repr__(self):
        return repr(self._values)


def _is_node(kind) -> bool:
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


def _serializer(annotated):
    kind, annotations = splitAnnotations(annotated)
    validators = [each for each in annotations if isinstance(each, Validator)]
    found = _plain_serializer(kind)
    found.validators = [*found.validators, *validators]
    return found


def _plain_serializer(kind):
    if kind is bool:
        return _Text(bool, str, "True".__eq__, False)
    if kind is int:
        return _Text(int, str, int, 0)
    if kind is float:
        return _Text(float, str, float, 0, (int, float))
    if kind is str:
        return _Text(str, str, str, "")
    if kind in _PATHS:
        return _Text(kind, str, kind, kind())
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _Text(kind, lambda value: value.name, kind.__getitem__, next(iter(kind)))
    if _is_node(kind):
        return _Node(kind)
    if kind is type(None):
        return _NoneOnly()
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return _Union(typing.get_args(kind))
    if typing.get_origin(kind) is list:
        return _List(*typing.get_args(kind))
    raise HostError(f"the stand-in does not know how to keep a parameter of type {kind}")


# --- Which widget shows a value ---------------------------------------------------------------------------------


class _Connector:
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


def _connector(widget, annotated) -> _Connector:
    kind, annotations = splitAnnotations(annotated)
    cls = type(widget)
    for matches, make in _CONNECTORS:
        if matches(cls, kind):
            return make(widget, kind, annotations)
    raise RuntimeError(f"Unable to create GUI connector from datatype '{annotated}' to widget type '{cls}'.")


def _by_property(widget, name: str, signal: str) -> _Connector:
    return _Connector(widget, signal, lambda: widget.property(name), lambda value: widget.setProperty(name, value))


def _push_button(widget, kind, annotations) -> _Connector:
    widget.setCheckable(True)
    return _by_property(widget, "checked", "toggled")


def _bounds(annotations):
    within, low, high = (_first(annotations, each) for each in (WithinRange, Minimum, Maximum))
    if within:
        return within.minimum, within.maximum
    return (low.minimum if low else None), (high.maximum if high else None)


def _integer(widget, kind, annotations) -> _Connector:
    minimum, maximum = _bounds(annotations)
    if isinstance(widget, QtWidgets.QSlider) and None in (minimum, maximum):
        raise RuntimeError("Cannot have a connection to QSlider where the int type is unbounded.")
    step = _first(annotations, SingleStep)
    if step:
        widget.setSingleStep(step.value)
    widget.setRange(-(2**31) if minimum is None else minimum, 2**31 - 1 if maximum is None else maximum)
    return _by_property(widget, "value", "valueChanged")


def _number(widget, kind, annotations) -> _Connector:
    minimum, maximum = _bounds(annotations)
    if isinstance(widget, ctk_widgets.ctkSliderWidget) and None in (minimum, maximum):
        raise RuntimeError("Cannot have a connection to ctkSliderWidget where the float types is unbounded.")
    decimals, step = _first(annotations, Decimals), _first(annotations, SingleStep)
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


def _choice(widget, kind, annotations) -> _Connector:
    choice = _first(annotations, Choice)
    if choice is None:
        raise RuntimeError("ComboBoxToStringableConnector requires the Choice annotation to be used.")
    return _combo_box(widget, list(choice.choices), [str(each) for each in choice.choices])


def _enumeration(widget, kind, annotations) -> _Connector:
    label = getattr(kind, "label", lambda value: value.name)
    return _combo_box(widget, list(kind), [label(value) for value in kind])


def _combo_box(widget, values: list, texts: list[str]) -> _Connector:
    widget.clear()
    for text in texts:
        widget.addItem(text)

    def write(value):
        if value not in values:
            raise ValueError(f"Unable to find value {value} in choices {values}")
        widget.setCurrentIndex(values.index(value))

    return _Connector(widget, "currentIndexChanged", lambda: values[widget.currentIndex()], write)


def _line_edit(widget, kind, annotations) -> _Connector:
    def write(value):
        if value != widget.text():
            widget.setText(value)

    return _Connector(widget, "textChanged", widget.text, write)


def _label(widget, kind, annotations) -> _Connector:
    return _Connector(widget, "", widget.text, widget.setText)


def _text_edit(widget, kind, annotations) -> _Connector:
    return _Connector(widget, "textChanged", widget.toPlainText, widget.setPlainText)


def _path(property_name: str, signal: str):
    def make(widget, kind, annotations):
        return _Connector(
            widget,
            signal,
            lambda: kind(widget.property(property_name)),
            lambda value: widget.setProperty(property_name, str(value)),
        )

    return make


def _node_selector(widget, kind, annotations) -> _Connector:
    members = typing.get_args(kind) or (kind,)
    classes = [splitAnnotations(each)[0] for each in members]
    widget.setProperty("nodeTypes", [each.__name__ for each in classes if each is not type(None)])
    return _Connector(widget, "currentNodeChanged", widget.currentNode, widget.setCurrentNode)


def _is_node_or_union(kind) -> bool:
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        members = [splitAnnotations(each)[0] for each in typing.get_args(kind)]
        return all(each is type(None) or _is_node(each) for each in members)
    return _is_node(kind)


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
    (_is((ctk_widgets.ctkPathLineEdit,), *_PATHS), _path("currentPath", "currentPathChanged")),
    (_is((ctk_widgets.ctkDirectoryButton,), *_PATHS), _path("directory", "directoryChanged")),
    (lambda cls, kind: cls is mrml_widgets.qMRMLNodeComboBox and _is_node_or_union(kind), _node_selector),
)


# --- The decorator ----------------------------------------------------------------------------------------------


class _Parameter:
    """Name, type, default and serializer of one member."""

    def __init__(self, name: str, annotated, default):
        self.name, self.annotated = name, annotated
        self.serializer = _serializer(annotated)
        _, annotations = splitAnnotations(annotated)
        given = _first(annotations, Default)
        self.default = default if default is not None else given or Default(self.serializer.default)

    def write(self, node, value) -> None:
        for validator in self.serializer.validators:
            validator.validate(value)
        self.serializer.write(node, self.name, value)

    def read(self, node):
        if not self.serializer.contains(node, self.name):
            self.serializer.write(node, self.name, self.default.value)
        return self.serializer.read(node, self.name)


def parameterNodeWrapper(cls=None):
    """Class decorator: annotated members become parameters of the node that the constructor takes."""
    return _wrap if cls is None else _wrap(cls)


def _wrap(cls):
    for name in _NAMES_TAKEN:
        if hasattr(cls, name):
            raise ValueError(f"Cannot use reserved name '{name}' in a parameterNodeWrapper")
    hints = typing.get_type_hints(cls, include_extras=True)
    cls.allParameters = {
        name: _Parameter(name, annotated, Default(getattr(cls, name)) if hasattr(cls, name) else None)
        for name, annotated in hints.items()
    }
    for name in hints:
        setattr(cls, name, property(lambda self, n=name: self.getValue(n), lambda self, v, n=name: self.setValue(n, v)))
    for name, method in vars(_Wrapper).items():
        if not name.startswith("__") or name in ("__init__", "__del__"):
            setattr(cls, name, method)
    cls._is_parameter_node_wrapper = True
    return cls


class _Wrapper:
    """The methods that the decorator gives to a class."""

    def __init__(self, parameterNode, prefix: str | None = None):
        if prefix:
            raise HostError("the stand-in knows no prefix of parameters")
        self.parameterNode = parameterNode
        self._guis: dict[int, dict[str, _Connector]] = {}
        self._next_gui = 0
        self._updating_gui = False
        for parameter in self.allParameters.values():
            if not parameter.serializer.contains(parameterNode, parameter.name):
                parameter.write(parameterNode, parameter.default.value)
        # As in Slicer values are those of the node's last ModifiedEvent, e.g. still a node that left the scene.
        self._cache = {name: parameter.read(parameterNode) for name, parameter in self.allParameters.items()}
        self._writing = ""
        me = weakref.ref(self)
        changed = vtk.vtkCommand.ModifiedEvent
        self._cache_tag = parameterNode.AddObserver(changed, lambda *_: me() and me()._node_changed())

    def __del__(self):
        if hasattr(self, "_cache_tag"):
            self.parameterNode.RemoveObserver(self._cache_tag)

    def _node_changed(self):
        # In this order, in one observer: VTK may call a later one first, once an earlier one has been removed.
        for name, parameter in self.allParameters.items():
            if name != self._writing:
                self._cache[name] = parameter.read(self.parameterNode)
        self._update_gui()

    def _parameter(self, name: str) -> _Parameter:
        if name not in self.allParameters:
            raise ValueError(f"Cannot find a param with the given name: {name}; there are {list(self.allParameters)}")
        return self.allParameters[name]

    def getValue(self, name):
        self._parameter(name)
        return self._cache[name]

    def setValue(self, name, value):
        parameter = self._parameter(name)
        self._writing = name
        try:
            with slicer.util.NodeModify(self.parameterNode):
                parameter.write(self.parameterNode, value)
                # Observers that are called at the end of this block see the new value.
                self._cache[name] = parameter.read(self.parameterNode)
        finally:
            self._writing = ""

    def default(self, name):
        return self._parameter(name).default

    def dataType(self, name):
        return self._parameter(name).annotated

    def isCached(self, name):
        self._parameter(name)
        return True

    def connectGui(self, gui):
        """Connect every widget that names a parameter in its property SlicerParameterName; returns a tag."""
        if isinstance(gui, QtWidgets.QWidget):
            widgets = gui.findChildren(QtWidgets.QWidget)
        else:
            widgets = list(vars(gui).values())
        named = {widget.property(SlicerParameterNamePropertyName): widget for widget in widgets}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping):
        """Connect parameters to widgets by name; returns a tag for `disconnectGui`."""
        for name in mapping:
            self._parameter(name)
        connectors = {name: _connector(widget, self.dataType(name)) for name, widget in mapping.items()}
        tag, self._next_gui = self._next_gui, self._next_gui + 1
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.connect(lambda name=name, connector=connector: self._gui_changed(name, connector))
        self._guis[tag] = connectors
        return tag

    def disconnectGui(self, tag):
        if tag in self._guis:
            for connector in self._guis.pop(tag).values():
                connector.disconnect()

    def _gui_changed(self, name, connector):
        if not self._updating_gui:
            self.setValue(name, connector.read())

    def _update_gui(self):
        if self._updating_gui:
            return
        self._updating_gui = True
        try:
            with slicer.util.NodeModify(self.parameterNode):
                for connectors in self._guis.values():
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._updating_gui = False

    def StartModify(self):
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified):
        return self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event, callback, priority=0.0):
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag):
        return self.parameterNode.RemoveObserver(tag)

    def Modified(self):
        return self.parameterNode.Modified()


def findChildWidgetForParameter(widget, parameter):
    """The child of a widget that names a parameter, or None."""
    children = widget.findChildren(QtWidgets.QWidget)
    return next((each for each in children if each.property(SlicerParameterNamePropertyName) == parameter), None)


def isParameterNodeWrapper(value) -> bool:
    return getattr(value, "_is_parameter_node_wrapper", False)


_EXPORTED = (
    Choice, Decimals, Default, Exclude, IsInstance, Maximum, Minimum, NotNone, SingleStep, Validator, WithinRange,
    findChildWidgetForParameter, isParameterNodeWrapper, parameterNodeWrapper, splitAnnotations,
)  # fmt: skip


def make_module() -> ModuleType:
    """Module `slicer.parameterNodeWrapper`."""
    module = ModuleType("slicer.parameterNodeWrapper", "Typed parameters of a scripted module.")
    for each in _EXPORTED:
        setattr(module, each.__name__, each)
    module.SlicerParameterNamePropertyName = SlicerParameterNamePropertyName
    return module
