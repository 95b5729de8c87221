"""Settings as one JSON file: every field of a dataclass written, and read again by its annotation.

Owns what such a file may hold, so that a job gets its settings without anybody copying them, and a typing error is
refused by its name. What a value may be beyond its type is the dataclass's own matter.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..errors import InputError, reason
from . import outputs

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


def write(settings: Any, path: str | Path) -> None:
    """Write what `read` reads, all of it or nothing.

    Parameters
    ----------
    settings : dataclass instance
        Its class needs defaults for all fields.
    path : path

    Raises
    ------
    InputError
        A field holds what its annotation does not say, or what JSON cannot hold; it is named.
    OutputError
        The file cannot be written.

    Examples
    --------
    ::

        write(TrainingSettings(minutes=60), "settings.json")
        read("settings.json", TrainingSettings()).minutes  # 60
    """
    outputs.write_json(Path(path), as_dict(settings))


def read(path: str | Path, defaults: T) -> T:
    """Read settings.

    Parameters
    ----------
    path : path
    defaults : dataclass instance
        Its values are those of the keys that the file leaves out.

    Raises
    ------
    InputError
        The file cannot be read or is no JSON object; a key is unknown or given twice; a value is of the wrong type or
        out of range.
    """
    path = Path(path)
    try:
        values = json.loads(
            path.read_text(encoding="utf-8-sig"), object_pairs_hook=_without_repetition, parse_constant=_refused
        )
    except OSError as error:
        raise InputError(f"the settings {path} cannot be read ({reason(error)}): give a JSON file") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the settings {path} are no JSON ({error}): write e.g. {_EXAMPLE}") from error
    try:
        return from_dict(values, defaults)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def as_dict(settings: Any) -> dict[str, Any]:
    """Every field as JSON holds it; what `write` writes, and what it refuses."""
    values = {}
    for name, value in dataclasses.asdict(settings).items():
        try:
            text = json.dumps(value, default=_plain, allow_nan=False, ensure_ascii=False)
            values[name] = json.loads(text.encode())  # a path that is not UTF-8 fails here
        except (TypeError, ValueError) as error:
            raise InputError(f"{name} is {value!r}, which a file of settings cannot hold ({error})") from error
    from_dict(values, type(settings)())
    return values


def from_dict(values: Any, defaults: T) -> T:
    """Settings with the values of a JSON object, see `read`."""
    return _merged(values, defaults, "")


_EXAMPLE = '{"seed": 1}'


def _merged(values: Any, defaults: T, prefix: str) -> T:
    if not isinstance(values, dict):
        what = f"{prefix[:-1]} is" if prefix else "the settings are"
        raise InputError(f"{what} {_short(values)}, not a JSON object: write e.g. {_EXAMPLE}")
    kinds = typing.get_type_hints(type(defaults))
    known = [each.name for each in dataclasses.fields(defaults)]
    if unknown := sorted(values.keys() - set(known)):
        raise InputError(f"unknown setting {prefix}{unknown[0]}: use {', '.join(known)}")
    given = {}
    for name, value in values.items():
        if dataclasses.is_dataclass(kinds[name]):
            given[name] = _merged(value, getattr(defaults, name), f"{prefix}{name}.")
            continue
        if isinstance(value, list) and (kind := _item_of(kinds[name])):
            given[name] = tuple(_merged(each, kind(), f"{prefix}{name}[{index}].") for index, each in enumerate(value))
            continue
        try:
            given[name] = _parsed(value, kinds[name])
        except ValueError:
            raise InputError(f"{prefix}{name} is {_short(value)}: give {_words(kinds[name])}") from None
    return dataclasses.replace(defaults, **given)


def _item_of(kind: Any) -> Any:
    """The dataclass of which an annotation is a tuple of any number."""
    first = next(iter(typing.get_args(kind)), None)
    return first if typing.get_origin(kind) is tuple and dataclasses.is_dataclass(first) else None


def _parsed(value: Any, kind: Any) -> Any:
    """A value of JSON as one of an annotation; `ValueError` if it is none."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        for each in arguments:
            try:
                return _parsed(value, each)
            except ValueError:
                pass
        raise ValueError
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError
        parts = arguments[:1] * len(value) if arguments[1:] == (...,) else arguments
        return tuple(_parsed(each, part) for each, part in zip(value, parts, strict=True))
    if kind is types.NoneType and value is None:
        return None
    if kind is float and type(value) in (int, float) and math.isfinite(number := _as_float(value)):
        return number
    if kind is int and (type(value) is int or (type(value) is float and value.is_integer())):
        return int(value)
    if kind in (bool, str) and type(value) is kind:
        return value
    if kind is dict and isinstance(value, dict):
        return value
    if kind not in _WORDS:
        raise TypeError(f"settings of the type {kind} cannot be in a file")
    raise ValueError


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits
        return math.inf


_WORDS = {
    float: "a number", int: "a whole number", bool: "true or false", str: "a text in quotes", dict: "an object",
    types.NoneType: "null",
}  # fmt: skip


def _words(kind: Any) -> str:
    """What a value has to be, for people."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(_words, arguments))
    if origin is tuple:
        if arguments[1:] == (...,):
            return f"a list, each of it {_words(arguments[0])}"
        return f"[{', '.join(map(_words, arguments))}]"
    return _WORDS[kind]


def _plain(value: Any) -> Any:
    """What JSON does not know, as what it knows."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # NumPy's numbers and arrays
        return value.tolist()
    raise TypeError(f"it is of the type {type(value).__name__}")


def _without_repetition(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return found


def _refused(text: str) -> None:
    raise ValueError(f"{text} is no number")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."
