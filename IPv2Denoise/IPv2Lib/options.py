"""Options: each is declared once, as a field of a dataclass, with everything that anybody has to know of it.

Owns what a declaration says, the check of its limits, and its words for people. Command lines (`cli.arguments`), panels
(`IPv2SlicerLib.widgets.Options`), files of settings (`io.settings_file`) and tables of reference are made from it.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any

from .errors import InputError


@dataclass(frozen=True)
class Option:
    """What is declared of a field; see `option`.

    Attributes
    ----------
    help : str
        What it is, a short phrase without a full stop. Limits and default come before its first semicolon.
    unit : str or None
        "HU", "mm", ...; "": a plain number. Only of numbers.
    low, high : float or None
        Smallest and largest value.
    above, below : float or None
        Likewise, but the value itself is refused.
    choices : tuple of str
        Every value that there is.
    usual : tuple
        What a panel offers, where that is less: lowest and highest value, or choices.
    interval : bool
        The value is two numbers, lowest and highest.
    percent : bool
        A fraction that panels show in per cent.
    label : str
        What errors call it; empty: the name of the field.
    none : str
        What None means, in words.
    default : str
        The default in words, where it depends on something.
    flag : str
        On the command line, with other spellings after spaces; empty: "--" and the name of the field; "-": none. Fields
        that have one in common are given together.
    metavar : str
        Its value in the help of the command.
    group : str
        Heading in the help of the command.
    exclusive : str
        Only one of the options that have this in common can be given.
    required : bool
        The command line must give it.
    flag_percent : bool
        The command line takes it in per cent.
    none_value : float or None
        Number that stands for None in a panel.
    none_flag : bool
        And on the command line.
    panel : bool or str
        Whether a panel shows it, or under which name: see `parameter`.
    decides : bool
        Whether a result depends on it.
    """

    help: str
    unit: str | None = None
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    usual: tuple = ()
    interval: bool = False
    percent: bool = False
    label: str = ""
    none: str = ""
    default: str = ""
    flag: str = ""
    metavar: str = ""
    group: str = ""
    exclusive: str = ""
    required: bool = False
    flag_percent: bool = False
    none_value: float | None = None
    none_flag: bool = False
    panel: bool | str = False
    decides: bool = True


@dataclass(frozen=True)
class Kind:
    """What a field can hold: values of `of`, None if `optional`, and `count` of them: 0 for one, -1 for any number."""

    of: Any
    optional: bool = False
    count: int = 0


def option(value: Any, help: str, **declared: Any) -> Any:
    """A field of a dataclass that is an option.

    Parameters
    ----------
    value : object
        The default; a class stands for an empty one of it.
    help, declared
        See `Option`.

    Examples
    --------
    >>> @dataclass
    ... class Example:
    ...     strength: float = option(1.0, "part of the noise that is removed", unit="", low=0, high=1)
    >>> check(Example(2.0))
    Traceback (most recent call last):
    IPv2Lib.errors.InputError: strength is 2.0: it must be from 0 to 1
    """
    declaration = {"option": Option(help, **declared)}
    if isinstance(value, type):
        return dataclasses.field(default_factory=value, metadata=declaration)
    return dataclasses.field(default=value, metadata=declaration)


def like(kind: type, name: str, value: Any = MISSING, **changes: Any) -> Any:
    """A field that is declared as one of another dataclass, but for a default and some `changes`; in no panel."""
    default = _default(kind, name) if value is MISSING else value
    declared = vars(declarations(kind)[name]) | {"panel": False} | changes
    return option(type(default) if isinstance(default, dict) else default, **declared)


def declarations(kind: type) -> dict[str, Option]:
    """The options among the fields of a dataclass, by name."""
    return {each.name: each.metadata["option"] for each in dataclasses.fields(kind) if "option" in each.metadata}


def decides(field: dataclasses.Field) -> bool:
    """Whether a result depends on a field: it does, unless that is declared otherwise."""
    return "option" not in field.metadata or field.metadata["option"].decides


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def kind_of(kind: type, name: str) -> Kind:
    """What a field of a dataclass can hold."""
    hint, optional, count = _hints(kind)[name], False, 0
    if typing.get_origin(hint) in (typing.Union, types.UnionType) and type(None) in typing.get_args(hint):
        (hint, *others), optional = (each for each in typing.get_args(hint) if each is not type(None)), True
        hint = typing.Union[tuple([hint, *others])] if others else hint  # noqa: UP007
    if typing.get_origin(hint) is tuple:
        first, *others = typing.get_args(hint)
        hint, count = first, -1 if others == [...] else 1 + len(others)
    return Kind(hint, optional, count)


# --- values ---


def check(settings: Any) -> None:
    """Refuse an option that is out of its limits (`InputError`), with its name, its value and what is possible."""
    for name in declarations(type(settings)):
        check_value(type(settings), name, getattr(settings, name))


def check_value(kind: type, name: str, value: Any) -> None:
    """`check` of one option, before there is a whole of which it is a part."""
    declared, form = declarations(kind)[name], kind_of(kind, name)
    label = declared.label or name
    if value is None and form.optional:
        return
    if declared.interval:
        low, high = value
        if not (low <= high and _within(low, declared) and _within(high, declared)):
            raise InputError(
                f"range of {label} is {low:g} to {high:g}: give the lower one first, both within {limits(declared)}"
            )
        if form.of is int and any(each != int(each) for each in value):
            raise InputError(f"range of {label} is {value}: give whole numbers")
        return
    for each in value if form.count else (value,):
        if isinstance(each, str) and form.of in (int, float):
            raise InputError(f"{label} is {each!r}: give a number")
        if declared.choices and each not in declared.choices:
            raise InputError(f"unknown {label} {each!r}: use {', '.join(declared.choices)}")
        if declared.unit is not None and not _within(each, declared):
            unit = f" {declared.unit}" if declared.unit else ""
            spoken = limits(declared)
            must = f"from {spoken}" if " to " in spoken and not spoken.startswith("above") else spoken
            raise InputError(f"{label} is {each}{unit}: it must be {must}")


def _within(value: float, declared: Option) -> bool:
    if isinstance(value, str):  # a name instead of a number is the dataclass's own matter
        return True
    low = -math.inf if declared.low is None else declared.low
    high = math.inf if declared.high is None else declared.high
    above = -math.inf if declared.above is None else declared.above
    below = math.inf if declared.below is None else declared.below
    return low <= value <= high and above < value < below


# --- words ---


def limits(declared: Option, scale: float = 1.0) -> str:
    """The limits of a number in words, without its unit; empty if there are none.

    Examples
    --------
    >>> limits(Option("", low=0, high=1)), limits(Option("", above=0)), limits(Option("", low=0, below=1))
    ('0 to 1', 'above 0', '0 to below 1')
    """
    low = declared.low if declared.above is None else declared.above
    high = declared.high if declared.below is None else declared.below
    least = "" if low is None else f"{'above ' if declared.above is not None else ''}{_number(low * scale)}"
    most = "" if high is None else f"{'below ' if declared.below is not None else ''}{_number(high * scale)}"
    if least and most:
        return f"{least} to {most}"
    if most:
        return f"{most} or less" if declared.below is None else most
    return f"{least} or more" if least and declared.above is None else least


def default_words(kind: type, name: str, scale: float = 1.0) -> str:
    """The default of an option in words; empty if there is nothing to say."""
    declared, value = declarations(kind)[name], _default(kind, name)
    if declared.default or declared.required:
        return declared.default
    if value is None:
        return declared.none
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict) or dataclasses.is_dataclass(value):
        return ""
    values = value if isinstance(value, tuple) else (value,)
    return " ".join(each if isinstance(each, str) else _number(each * scale) for each in values)


def words(kind: type, name: str, percent: bool = False) -> str:
    """What an option is, its choices or limits with the unit, and its default: in a line.

    Parameters
    ----------
    kind : type
        Dataclass.
    name : str
        Of its field.
    percent : bool
        Numbers are in per cent.

    Examples
    --------
    >>> @dataclass
    ... class Example:
    ...     strength: float = option(1.0, "noise to remove; all of it: 1", unit="", low=0, high=1)
    >>> words(Example, "strength"), words(Example, "strength", percent=True)
    ('noise to remove, 0 to 1 (default: 1); all of it: 1', 'noise to remove, 0 to 100 % (default: 100 %); all of it: 1')
    """
    declared, scale = declarations(kind)[name], 100.0 if percent else 1.0
    unit = "%" if percent else declared.unit or ""
    text, more, explanation = declared.help.partition("; ")
    spoken = limits(declared, scale)
    if declared.choices:
        text += f": {', '.join(declared.choices)}"
    elif spoken and unit:
        number, or_more, rest = spoken.partition(" or ")
        text += f", {number} {unit}{or_more}{rest}"
    elif spoken or unit:
        text += f", {spoken or unit}"
    default = default_words(kind, name, scale)
    is_number = isinstance(_default(kind, name), (int, float, tuple)) and not isinstance(_default(kind, name), bool)
    if default and unit and is_number and not declared.default:
        default += f" {unit}"
    return (f"{text} (default: {default})" if default else text) + more + explanation


def reference(kind: type) -> list[tuple[str, str, str]]:
    """Name in a file of settings, flag and words of every option of a dataclass: a table of reference."""
    rows = []
    for name, declared in declarations(kind).items():
        of, written = kind_of(kind, name).of, flags(name, declared)
        if isinstance(of, type) and dataclasses.is_dataclass(of):
            rows += [(f"{name}.{inner}", flag, text) for inner, flag, text in reference(of)]
        else:
            rows.append((name, written[0] if written else "", words(kind, name, declared.flag_percent)))
    return rows


def flags(name: str, declared: Option) -> tuple[str, ...]:
    """How an option is written on the command line; empty if it is not there."""
    if declared.flag == "-":
        return ()
    return tuple(declared.flag.split()) or (f"--{name.replace('_', '-')}",)


def _default(kind: type, name: str) -> Any:
    field = next(each for each in dataclasses.fields(kind) if each.name == name)
    return field.default if field.default_factory is MISSING else field.default_factory()


def _number(value: float) -> str:
    return f"{value:.10g}"


# --- panels ---


def parameter(name: str, declared: Option) -> str:
    """What a panel calls an option, in its parameters; of an interval, what comes before "Low" and "High".

    Examples
    --------
    >>> parameter("weak_strength", Option("", panel=True)), parameter("dose", Option("", panel=True, percent=True))
    ('weakStrength', 'dosePercent')
    """
    if isinstance(declared.panel, str):
        return declared.panel
    first, *others = name.split("_")
    return first + "".join(map(str.title, others)) + ("Percent" if declared.percent and not declared.interval else "")


def parameters(kind: type) -> dict[str, tuple[str, int | None]]:
    """Names of the parameters of a panel: of each the field, and which number of an interval it is."""
    found: dict[str, tuple[str, int | None]] = {}
    for name, declared in declarations(kind).items():
        if not declared.panel:
            continue
        called = parameter(name, declared)
        if declared.interval:
            end = "Percent" if declared.percent else ""
            found |= {f"{called}Low{end}": (name, 0), f"{called}High{end}": (name, 1)}
        else:
            found[called] = (name, None)
    return found


def panel_limits(declared: Option) -> tuple[float | None, float | None]:
    """Lowest and highest number that a panel takes, in its unit."""
    scale = 100.0 if declared.percent else 1.0
    low, high = declared.usual if declared.usual and not isinstance(declared.usual[0], str) else (None, None)
    low = declared.low if low is None else low
    high = declared.high if high is None else high
    if declared.none_value is not None:
        low = declared.none_value
    low, high = (None if each is None else float(_number(each * scale)) for each in (low, high))
    return low, high


def panel_unit(declared: Option) -> str:
    """The unit that a panel shows."""
    return "%" if declared.percent else declared.unit or ""


def panel_value(kind: type, name: str, value: Any) -> Any:
    """A value as a panel has it."""
    declared, form = declarations(kind)[name], kind_of(kind, name)
    if value is None:
        return declared.none_value if form.of in (int, float) else ""
    if declared.percent:
        scaled = [float(_number(100 * each)) for each in (value if declared.interval else (value,))]
        return tuple(scaled) if declared.interval else scaled[0]
    return value


def from_panel(kind: type, name: str, value: Any) -> Any:
    """What a panel's value means."""
    declared, form = declarations(kind)[name], kind_of(kind, name)
    if form.optional and (value == "" if form.of is str else value == declared.none_value):
        return None
    if declared.percent:
        return tuple(each / 100 for each in value) if declared.interval else value / 100
    return value


def default_in_panel(kind: type, name: str) -> Any:
    """The default of an option as a panel has it."""
    return panel_value(kind, name, _default(kind, name))


def panel_words(kind: type, name: str) -> str:
    """The tooltip of an option: a sentence."""
    text = words(kind, name, declarations(kind)[name].percent)
    return f"{text[:1].upper()}{text[1:]}."


def values_by_field(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a dataclass that a panel's parameters of the names of `parameters` mean."""
    found: dict[str, Any] = {}
    pairs: dict[str, list[Any]] = {}
    for called, (name, part) in parameters(kind).items():
        if part is None:
            found[name] = from_panel(kind, name, values[called])
        else:
            pairs.setdefault(name, []).append(values[called])
    return found | {name: from_panel(kind, name, tuple(both)) for name, both in pairs.items()}


def names_of(kinds: Sequence[type]) -> dict[str, tuple[type, str, int | None]]:
    """Of each parameter of a panel its dataclass, its field, and which number of an interval; the first one counts."""
    found: dict[str, tuple[type, str, int | None]] = {}
    for kind in kinds:
        for called, (name, part) in parameters(kind).items():
            found.setdefault(called, (kind, name, part))
    return found
