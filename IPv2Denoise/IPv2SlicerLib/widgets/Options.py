"""Options of the library in a panel: its parameters, what widgets say of them, and what they mean.

A dataclass of options (`IPv2Lib.options`) is all that a panel needs to know: `withOptions` gives its parameter node the
parameters, `connectOptions` gives the widgets tooltips, limits and units, and `optionsOf` makes the dataclass again.
"""

import enum
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from IPv2Lib import options
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange


class Simulator(enum.Enum):
    """How the noise of a lower dose is made; the values are those of the option `method`."""

    PHYSICAL = "physical"
    PUBLISHED = "published"

    def label(self) -> str:
        """Text in the selector."""
        return _("Physical") if self is Simulator.PHYSICAL else _("As published")


def withOptions(*kinds: type) -> Callable[[type], type]:
    """Decorator below `parameterNodeWrapper`: parameters for the options that a panel shows.

    A parameter that the class annotates by itself has that type; an `enum.Enum` has the values of the option. Otherwise
    it is what `IPv2Lib.options.parameters` calls it, with the default and the limits of the option. Where several
    dataclasses have a parameter in common, the first one counts.

    Examples
    --------
    ::

        @parameterNodeWrapper
        @withOptions(TrainingSettings)
        class ParameterNode:
            strategy: Strategy  # choices with texts of their own
            dataset: str = ""  # what is no option
    """

    def decorate(cls: type) -> type:
        annotations = cls.__annotations__
        for called, (kind, name, part) in options.names_of(kinds).items():
            annotations.setdefault(called, _parameterType(kind, name))
            if called not in cls.__dict__:
                default = options.default_in_panel(kind, name)
                default = default if part is None else default[part]
                ownType = annotations[called]
                isEnum = isinstance(ownType, type) and issubclass(ownType, enum.Enum)
                setattr(cls, called, ownType(default) if isEnum else default)
        return cls

    return decorate


def connectOptions(ui, *kinds: type) -> None:
    """Let every widget whose `SlicerParameterName` is that of an option say what it is, see `connectOption`.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    kinds : type
        Dataclasses, as for `withOptions`.
    """
    known = options.names_of(kinds)
    for widget in vars(ui).values():
        found = known.get(widget.property("SlicerParameterName"))
        if found:
            connectOption(widget, found[0], found[1])


def connectOption(widget, kind: type, name: str) -> None:
    """Give a widget the tooltip of an option, and a number its limits and its unit.

    Parameters
    ----------
    widget
        Any widget; spin boxes and sliders are those that have limits and a unit.
    kind : type
        Dataclass of options.
    name : str
        Of its field.
    """
    declared = options.declarations(kind)[name]
    widget.setToolTip(_(options.panel_words(kind, name)))
    if options.kind_of(kind, name).of not in (int, float) or not hasattr(widget, "setSuffix"):
        return
    low, high = options.panel_limits(declared)
    whole = int if isinstance(widget.property("value"), int) else float
    if low is not None:
        widget.setMinimum(whole(low))
    if high is not None:
        widget.setMaximum(whole(high))
    unit = options.panel_unit(declared)
    if unit:
        widget.setSuffix(f" {unit}")


def optionsOf(parameterNode, kind: type, **others: Any):
    """The dataclass of options that a parameter node means.

    Parameters
    ----------
    parameterNode
        Its class was made by `withOptions`.
    kind : type
    others
        Fields that it has in another way, or not at all.

    Raises
    ------
    IPv2Lib.errors.InputError
        For values that are out of range or do not go together.
    """
    return kind(**valuesOf(parameterNode, kind) | others)


def valuesOf(parameterNode, kind: type) -> dict[str, Any]:
    """The fields of a dataclass of options that a panel shows, as a parameter node means them."""
    values = {called: _plain(getattr(parameterNode, called)) for called in options.parameters(kind)}
    return options.values_by_field(kind, values)


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, enum.Enum) else value


def _parameterType(kind: type, name: str) -> Any:
    """Annotations of the parameter of an option, for a parameter node."""
    declared = options.declarations(kind)[name]
    of = options.kind_of(kind, name).of
    choices: Sequence[Any] = declared.usual if declared.usual and isinstance(declared.usual[0], str) else ()
    choices = choices or declared.choices
    if choices:
        return Annotated[str, Choice(list(choices))]
    if of not in (int, float):
        return of
    low, high = options.panel_limits(declared)
    if low is None or high is None:
        return of
    return Annotated[of, WithinRange(low, high) if of is float else WithinRange(int(low), int(high))]
