"""Module `slicer.parameterNodeWrapper`: typed parameters that are kept as texts in a vtkMRMLScriptedModuleNode.

Parameter packs and dictionaries are left out and refused.
"""

from __future__ import annotations

import typing
import weakref
from types import ModuleType

import slicer.util
import vtk
from PySide6 import QtWidgets

from .errors import HostError
from .parameter_types import (
    Choice,
    Decimals,
    Default,
    Exclude,
    IsInstance,
    Maximum,
    Minimum,
    NotNone,
    SingleStep,
    Validator,
    WithinRange,
    first_of,
    serializer_of,
    splitAnnotations,
)
from .parameter_widgets import Connector, connector_of

SlicerParameterNamePropertyName = "SlicerParameterName"

_NAMES_TAKEN = (
    "allParameters", "default", "isCached", "dataType", "getValue", "setValue", "connectGui", "connectParametersToGui",
    "disconnectGui", "StartModify", "EndModify", "AddObserver", "RemoveObserver", "Modified",
)  # fmt: skip


class _Parameter:
    """Name, type, default and serializer of one member."""

    def __init__(self, name: str, annotated, default):
        self.name, self.annotated = name, annotated
        self.serializer = serializer_of(annotated)
        _, annotations = splitAnnotations(annotated)
        given = first_of(annotations, Default)
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
        self._guis: dict[int, dict[str, Connector]] = {}
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
        connectors = {name: connector_of(widget, self.dataType(name)) for name, widget in mapping.items()}
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
