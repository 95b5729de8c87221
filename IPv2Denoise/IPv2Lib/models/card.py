"""The card of a model, `model.json`: what its weights compute, what they were trained on, and how well they do.

Owns the keys: what each may hold, which may be left out, and which decide a result. Where a card lies is `bundle`'s.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BundleError, reason
from ..io.json_files import read_object
from ..networks import registry

FORMAT_VERSIONS = (1, 2)
"""Of the cards that can be read; with 2, weights can be in 8 bits."""
CARD_FILE = "model.json"
_MOST_BYTES = 1 << 20
_VERSIONS = " or ".join(map(str, FORMAT_VERSIONS))


@dataclass(frozen=True)
class CardNetwork:
    """What a model's weights are of: name and arguments as for `registry.build`."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class TrainingData:
    """Data that a model was trained on: what it is, its licence, and what to cite."""

    name: str
    licence: str
    citation: str


@dataclass(frozen=True)
class CardGraph:
    """What its ONNX graph is, see `graph`, and what one must know of the network to run it.

    Attributes
    ----------
    sha256 : str
        Of the file of the graph.
    context, multiple, halo : int
        See `networks.registry`.
    """

    sha256: str
    context: int
    multiple: int
    halo: int


_SOURCE = [each.name for each in dataclasses.fields(TrainingData)]
_TRAINING = '{"data": [{"name", "licence", "citation"}, ...], "settings": {...}, "seed": integer}'


def is_name(value: Any) -> bool:
    """Whether the card of a model can give it this name."""
    return isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", value) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_range(value: Any) -> bool:
    if not (isinstance(value, list) and len(value) == 2):
        return False
    return all(type(number) in (int, float) and abs(number) <= 1e5 for number in value) and value[0] < value[1]


def _is_network(value: Any) -> bool:
    kinds = {"name": str, "arguments": dict}
    return isinstance(value, dict) and {key: type(each) for key, each in value.items()} == kinds


def _is_graph(value: Any) -> bool:
    if not isinstance(value, dict) or set(value) != {each.name for each in dataclasses.fields(CardGraph)}:
        return False
    numbers = [number for key, number in value.items() if key != "sha256"]
    return _is_hash(value["sha256"]) and all(type(number) is int and 1 <= number <= 4096 for number in numbers)


def _is_training(value: Any) -> bool:
    if not isinstance(value, dict) or type(value.get("seed")) is not int or not isinstance(value.get("settings"), dict):
        return False
    data = value.get("data")
    return isinstance(data, list) and all(
        isinstance(source, dict) and all(_is_text(source.get(key)) for key in _SOURCE) for source in data
    )


def _matches(pattern: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and re.fullmatch(pattern, value) is not None


_is_hash = _matches("[0-9a-f]{64}")


def _must(be: str, meet: Callable[[Any], bool], decides: bool = False) -> dict[str, Any]:
    """Of a key: what it must be in words, the check, and whether it decides what a model makes of a scan."""
    return {"be": be, "meet": meet, "decides": decides}


_TEXT = _must("a text", _is_text)
_NOISE = _must(
    "a number from 0 to 1000", lambda value: type(value) in (int, float) and 0 <= value <= 1000, decides=True
)


@dataclass(frozen=True)
class ModelCard:
    """The card of a model. Keys without a default must be there, others than these are refused.

    Attributes
    ----------
    format_version : int
        One of `FORMAT_VERSIONS`.
    name : str
        By which the model is found.
    title, description, intended_use, limits : str
        For people.
    network : CardNetwork
    hu_range : pair of numbers
        Lowest and highest HU that the network was trained on.
    training : dict
        "data", see `trained_on`, "settings" and "seed" of the run, and what else is to be known of it.
    metrics : dict
        How well it does.
    sha256 : str
        Of the file of the weights.
    created : str
        Date, YYYY-MM-DD.
    versions : dict
        Of the software that trained it.
    default : bool or str
        Whether it is used if nobody chooses: always, or only on the "cpu" or a "gpu".
    residual_noise_hu : float
        Noise that results keep unless asked otherwise, 0 to 1000 HU, see `denoise.denoise`.
    noise_hu : pair of numbers, optional
        Lowest and highest σ of the noise in soft tissue that it was trained on, in HU.
    graph : CardGraph, optional
        With it, the model runs without PyTorch.
    """

    format_version: int = field(metadata=_must(_VERSIONS, lambda value: True))
    name: str = field(metadata=_must("a text of letters, digits, '.', '_' and '-'", is_name))
    title: str = field(metadata=_TEXT)
    description: str = field(metadata=_TEXT)
    intended_use: str = field(metadata=_TEXT)
    limits: str = field(metadata=_TEXT)
    network: CardNetwork = field(metadata=_must('{"name": text, "arguments": {...}}', _is_network, decides=True))
    hu_range: tuple[float, float] = field(metadata=_must("[lowest, highest] HU", _is_range, decides=True))
    training: dict[str, Any] = field(metadata=_must(_TRAINING, _is_training))
    metrics: dict[str, Any] = field(metadata=_must("an object", lambda value: isinstance(value, dict)))
    sha256: str = field(metadata=_must("64 hexadecimal digits", _is_hash, decides=True))
    created: str = field(metadata=_must("a date, YYYY-MM-DD", _matches(r"\d{4}-\d{2}-\d{2}")))
    versions: dict[str, str] = field(
        metadata=_must(
            "an object of texts",
            lambda value: isinstance(value, dict) and all(isinstance(each, str) for each in value.values()),
        )
    )
    default: bool | str = field(
        default=False,
        metadata=_must("true, false, 'cpu' or 'gpu'", lambda value: type(value) is bool or value in ("cpu", "gpu")),
    )
    residual_noise_hu: float = field(default=0.0, metadata=_NOISE)
    noise_hu: tuple[float, float] | None = field(
        default=None,
        metadata=_must("[lowest, highest] σ in HU, both 0 or more", lambda value: _is_range(value) and value[0] >= 0),
    )
    graph: CardGraph | None = field(
        default=None, metadata=_must('{"sha256", "context", "multiple", "halo"}, each from 1 to 4096', _is_graph)
    )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelCard:
        """The card of which JSON holds these values.

        Raises
        ------
        BundleError
            Names the first key that is missing, unknown or wrong.
        """
        if "format_version" not in values:
            raise BundleError("key 'format_version' is missing; this is not the card of a model of this program")
        version = values["format_version"]
        if type(version) is not int or version not in FORMAT_VERSIONS:
            raise BundleError(f"key 'format_version' is {version!r}, not {_VERSIONS}; update this program")
        keys = {each.name: each for each in dataclasses.fields(cls)}
        for key, declared in keys.items():
            if key not in values and declared.default is MISSING:
                raise BundleError(f"key {key!r} is missing; it must be {declared.metadata['be']}")
            if key in values and not declared.metadata["meet"](values[key]):
                raise BundleError(f"key {key!r} is {_short(values[key])}; it must be {declared.metadata['be']}")
        if unknown := sorted(set(values) - set(keys)):
            raise BundleError(f"key {unknown[0]!r} is unknown; remove it or update this program")
        if (network := values["network"]["name"]) not in registry.names():
            known = ", ".join(registry.names())
            raise BundleError(f"key 'network': unknown network {_short(network)} (known: {known}); update this program")
        plain: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in values.items()
        }
        parts: dict[str, Any] = {"network": CardNetwork(**values["network"])}
        if "graph" in values:
            parts["graph"] = CardGraph(**values["graph"])
        return cls(**plain | parts)

    def as_dict(self, deciding_only: bool = False) -> dict[str, Any]:
        """What JSON holds of it: all that is not the default, or what of this decides a result."""
        return {
            each.name: _plain(getattr(self, each.name))
            for each in dataclasses.fields(self)
            if getattr(self, each.name) != each.default and (each.metadata["decides"] or not deciding_only)
        }

    @property
    def trained_on(self) -> list[TrainingData]:
        """The data that it was trained on."""
        return [TrainingData(**{key: source[key] for key in _SOURCE}) for source in self.training["data"]]


def read(path: Path) -> ModelCard:
    """Read a card that may come from anywhere.

    Raises
    ------
    BundleError
        It cannot be read, is larger than 1 MiB, is no JSON object, or `ModelCard.from_dict` refuses it.
    """
    try:
        return ModelCard.from_dict(read_object(path, _MOST_BYTES))
    except BundleError as error:
        raise BundleError(f"{path}: {error}") from error
    except ValueError as error:
        raise BundleError(f"{path} is not JSON ({error}): copy the model again") from error
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {reason(error)}") from error


def _plain(value: Any) -> Any:
    return (
        list(value)
        if isinstance(value, tuple)
        else vars(value)
        if isinstance(value, (CardNetwork, CardGraph))
        else value
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
