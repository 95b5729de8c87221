"""Options of a dataclass as arguments of a command, and back: what is given counts more than a file of settings."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from .. import options as declared_options
from ..errors import InputError
from ..io import settings_file
from ..options import Option, declarations, flags, kind_of, words

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def add(
    command: argparse.ArgumentParser, kind: type, *, only: Collection[str] | None = None, skip: Collection[str] = ()
) -> None:
    """Give a command the options of a dataclass, and of dataclasses in its fields.

    Parameters
    ----------
    command : ArgumentParser
    kind : type
    only, skip : collection of str
        Fields that are taken, by default all, and that are left out.
    """
    headings: dict[str | None, Any] = {each.title: each for each in command._action_groups}
    exclusive: dict[str, Any] = {}
    inner: list[type] = []
    for names, declared in _arguments(kind):
        if names[0] in skip or (only is not None and names[0] not in only):
            continue
        form = kind_of(kind, names[0])
        if isinstance(form.of, type) and dataclasses.is_dataclass(form.of):
            inner.append(form.of)
            continue
        place: Any = command
        if declared.group:
            if declared.group not in headings:
                headings[declared.group] = command.add_argument_group(declared.group)
            place = headings[declared.group]
        if declared.exclusive:
            if declared.exclusive not in exclusive:
                exclusive[declared.exclusive] = place.add_mutually_exclusive_group()
            place = exclusive[declared.exclusive]
        place.add_argument(*flags(names[0], declared), **_arguments_of(kind, names, declared))
    for each in inner:
        add(command, each, skip=skip)


def given(options: argparse.Namespace, kind: type) -> dict[str, Any]:
    """The fields that arguments were given for; of a dataclass in a field a dict of the same kind."""
    found: dict[str, Any] = {}
    for names, declared in _arguments(kind):
        form = kind_of(kind, names[0])
        if isinstance(form.of, type) and dataclasses.is_dataclass(form.of):
            if inner := given(options, form.of):
                found[names[0]] = inner
            continue
        value = getattr(options, _destination(kind, names[0]), None)
        if value is None:
            continue
        if form.of is dict:
            found[names[0]] = dict(value)
        elif len(names) > 1:
            found |= zip(names, value, strict=True)
        elif declared.none_flag and value == declared.none_value:
            found[names[0]] = None
        else:
            found[names[0]] = tuple(value) if isinstance(value, list) else value
    return found


def chosen(options: argparse.Namespace, defaults: T) -> T:
    """Settings: what arguments say, else the file of `add_settings`, else the defaults.

    Raises
    ------
    InputError
        A value is out of range, or the file cannot be used.
    """
    if (path := getattr(options, "settings", None)) is not None:
        defaults = settings_file.read(path, defaults)
    return _replaced(defaults, given(options, type(defaults)))


def add_settings(command: argparse.ArgumentParser) -> None:
    """Give a command the file of settings that `chosen` reads."""
    command.add_argument(
        "--settings", type=Path, metavar="FILE",
        help="JSON object with settings by name; options given besides count more",
    )  # fmt: skip


def _replaced(settings: T, values: dict[str, Any]) -> T:
    declared = declarations(type(settings))
    for name in list(values):
        before: Any = getattr(settings, name)
        if dataclasses.is_dataclass(before) and not isinstance(before, type):
            values[name] = _replaced(before, values[name])
        elif isinstance(before, dict):
            values[name] = before | values[name]
        elif together := declared[name].exclusive:  # it counts instead of another one in the file
            for other, its in declared.items():
                if its.exclusive == together and kind_of(type(settings), other).optional:
                    values.setdefault(other, None)
    return dataclasses.replace(settings, **values)


def _arguments(kind: type) -> list[tuple[list[str], Option]]:
    """Fields that are one argument, and what the first of them declares."""
    found: dict[str, tuple[list[str], Option]] = {}
    for name, declared in declarations(kind).items():
        if written := flags(name, declared):
            found.setdefault(written[0], ([], declared))[0].append(name)
    return list(found.values())


def _destination(kind: type, name: str) -> str:
    return f"{kind.__name__}.{name}"


def _arguments_of(kind: type, names: list[str], declared: Option) -> dict[str, Any]:
    """Keyword arguments of `add_argument`."""
    form, several = kind_of(kind, names[0]), len(names) > 1
    text = words(kind, names[0], declared.flag_percent)
    if several:
        parts = [declarations(kind)[name].help for name in names]
        defaults = " ".join(declared_options.default_words(kind, name) for name in names)
        text = f"{' and '.join(parts)}{declared.unit and f', {declared.unit}'} (default: {defaults})"
    arguments: dict[str, Any] = {
        "dest": _destination(kind, names[0]), "default": None, "help": text.replace("%", "%%"),
        "required": declared.required,
    }  # fmt: skip
    if form.of is bool:
        return arguments | {"action": argparse.BooleanOptionalAction}
    if form.of is dict:
        return arguments | {"action": "append", "type": _named_value, "metavar": declared.metavar or "NAME=VALUE"}
    arguments["type"] = _parser(form.of, declared)
    metavar: Any = declared.metavar or {int: "N", float: "X"}.get(form.of, "NAME")
    count = len(names) if several else form.count
    if count:
        arguments["nargs"] = "+" if count < 0 else count
        if count > 0:
            metavar = tuple(declared.metavar.split()) or ("LOW", "HIGH")
    return arguments | {"metavar": metavar}


def _parser(of: Any, declared: Option) -> Any:
    if of is float:
        return _percent if declared.flag_percent else float
    if of is int:
        return _whole
    return str if of is str else _number_or_name


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number") from None


def _percent(text: str) -> float:
    return float(text) / 100


_percent.__name__ = "number"  # in argparse's errors


def _number_or_name(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _named_value(text: str) -> tuple[str, Any]:
    """An argument of a network, such as channels=[16,32]."""
    name, equals, value = text.partition("=")
    try:
        if not (equals and name.isidentifier()):
            raise ValueError("no NAME=VALUE")
        return name, json.loads(value)
    except ValueError as error:
        raise InputError(f"--argument {text!r} cannot be read ({error}): write e.g. channels=[16,32]") from error
