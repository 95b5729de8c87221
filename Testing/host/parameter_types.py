"""Annotations of parameters, and how a value of each type is kept as texts in a vtkMRMLScriptedModuleNode."""

from __future__ import annotations

import collections.abc
import enum
import pathlib
import types
import typing

import slicer
import slicer.util

from .errors import HostError

PATHS = (pathlib.Path, pathlib.PurePath, pathlib.PosixPath, pathlib.PurePosixPath)


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


def first_of(annotations, kind):
    return next((each for each in annotations if isinstance(each, kind)), None)


class _Text:
    """Serializer of a type that a text holds."""

    def __init__(self, to_text, from_text, default, *validators):
        self.to_text, self.from_text, self.default, self.validators = to_text, from_text, default, list(validators)

    def contains(self, node, name: str) -> bool:
        return node.HasParameter(name)

    def write(self, node, name: str, value) -> None:
        node.SetParameter(name, self.to_text(value))

    def read(self, node, name: str):
        return self.from_text(node.GetParameter(name))

    def remove(self, node, name: str) -> None:
        node.UnsetParameter(name)


class _Node(_Text):
    """Serializer of a node: a reference, which survives saving, and an empty text that says it was set."""

    def __init__(self, kind):
        self.default, self.validators = None, [IsInstance(kind)]

    def write(self, node, name: str, value) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node, name: str):
        return node.GetNodeReference(name)

    def remove(self, node, name: str) -> None:
        super().remove(node, name)
        node.RemoveNodeReferenceIDs(name)


class _IsNone(Validator):
    def validate(self, value) -> None:
        if value is not None:
            raise ValueError("Value must be None")


class _Union:
    """Serializer of `A | B`: the first member that takes the value, each under a name of its own."""

    def __init__(self, members):
        self.members = [serializer_of(member) for member in members]
        self.validators = []
        optional = len(members) == 2 and members[1] is type(None)
        self.default = None if optional else self.members[0].default

    def contains(self, node, name: str) -> bool:
        return any(each.contains(node, f"{name}.{index}") for index, each in enumerate(self.members))

    def write(self, node, name: str, value) -> None:
        for index, each in enumerate(self.members):
            try:
                for validator in each.validators:
                    validator.validate(value)
            except (TypeError, ValueError):
                continue
            self.remove(node, name)
            each.write(node, f"{name}.{index}", value)
            return
        raise TypeError(f"Unable to write value '{value}' of type '{type(value)}'")

    def read(self, node, name: str):
        for index, each in enumerate(self.members):
            if each.contains(node, f"{name}.{index}"):
                return each.read(node, f"{name}.{index}")
        raise KeyError(f"Unable to find value for name: {name}")

    def remove(self, node, name: str) -> None:
        for index, each in enumerate(self.members):
            each.remove(node, f"{name}.{index}")


class _List:
    """Serializer of `list[A]`: its length, and each element under a name of its own."""

    def __init__(self, element):
        self.element = serializer_of(element)
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


def is_node(kind) -> bool:
    return isinstance(kind, type) and issubclass(kind, slicer.vtkMRMLNode)


def serializer_of(annotated):
    kind, annotations = splitAnnotations(annotated)
    validators = [each for each in annotations if isinstance(each, Validator)]
    found = _plain_serializer(kind)
    found.validators = [*found.validators, *validators]
    return found


def _plain_serializer(kind):
    if kind in (bool, int, float, str, *PATHS):
        from_text, default = {bool: ("True".__eq__, False), float: (float, 0)}.get(kind, (kind, kind()))
        return _Text(str, from_text, default, NotNone(), IsInstance((int, float) if kind is float else kind))
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _Text(lambda value: value.name, kind.__getitem__, next(iter(kind)), NotNone(), IsInstance(kind))
    if is_node(kind):
        return _Node(kind)
    if kind is type(None):
        return _Text(lambda value: "True", lambda text: None, None, _IsNone())
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return _Union(typing.get_args(kind))
    if typing.get_origin(kind) is list:
        return _List(*typing.get_args(kind))
    raise HostError(f"the stand-in does not know how to keep a parameter of type {kind}")
