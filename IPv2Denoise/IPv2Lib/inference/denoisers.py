"""Denoisers by name: the scan as it is, models, networks that need no training, classical filters.

Owns what they have in common, so that whatever compares or measures them takes any of them, and what a name stands for.
Training runs are found by `evaluation.methods`, which knows of training. How a network is run is `denoise`'s, filters
and their strengths `filters`'.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import BundleError, InputError
from ..hounsfield import AIR_HU
from ..io import outputs
from ..io.volume import Volume, check_ct
from ..models import bundle
from ..models.bundle import Bundle
from ..networks import registry
from ..parallel.threads import cores
from ..progress import NO_PROGRESS, Progress
from .filters import FILTERS, LEAST_SIGMA_HU, Filter

INPUT = "input"
"""Name of the scan as it is."""


class Denoiser(Protocol):
    """Something that makes a volume with less noise of a volume.

    Implementations are frozen dataclasses, so that `dataclasses.replace` gives the same one another name.
    """

    @property
    def name(self) -> str:
        """In tables and files."""

    @property
    def label(self) -> str:
        """For people."""

    @property
    def key(self) -> str:
        """The same for what gives the same results only, wherever it runs."""

    @property
    def facts(self) -> dict[str, Any]:
        """Where it came from, expressible in JSON; for the provenance."""

    def denoise(
        self,
        volume: Volume,
        *,
        slices: Sequence[int] | None = None,
        progress: Progress = NO_PROGRESS,
    ) -> Volume:
        """The volume with less noise: HU, geometry and type of the input, its padding unchanged.

        Parameters
        ----------
        volume : Volume
        slices : sequence of int, optional
            Only these are denoised, as they would be in the whole volume; the others come back as they are.
        progress : Progress

        Raises
        ------
        InputError
            The volume is no CT in HU, or lacks such slices.
        Cancelled
            When `progress` is cancelled.
        """


@dataclass(frozen=True, eq=False)
class AsItIs:
    """The scan as it is."""

    name: str = INPUT
    label: str = "input, as it is"
    key: str = field(default=INPUT, init=False)
    facts: dict[str, Any] = field(default_factory=dict, init=False)

    def denoise(self, volume, *, slices=None, progress=NO_PROGRESS) -> Volume:
        """See `Denoiser.denoise`."""
        return volume


@dataclass(frozen=True, eq=False)
class NetworkDenoiser:
    """A model, of whatever origin: a bundle, a training run, a network that needs no training.

    Attributes
    ----------
    name, label : str
    model : Bundle
    origin : dict
        Where it came from.
    device, residual_noise_hu, test_time_augmentation
        As for `denoise.denoise`.
    """

    name: str
    label: str
    model: Bundle
    origin: dict[str, Any]
    device: str = "auto"
    residual_noise_hu: float | None = None
    test_time_augmentation: bool = False

    @property
    def key(self) -> str:
        """That of the model, where it runs as its card says."""
        options = self._options
        return f"{self.model.key} {json.dumps(options, sort_keys=True)}" if options else self.model.key

    @property
    def facts(self) -> dict[str, Any]:
        """Origin, and options that are not the model's own."""
        return self.origin | self._options

    @property
    def _options(self) -> dict[str, Any]:
        chosen = {} if self.residual_noise_hu is None else {"residual_noise_hu": self.residual_noise_hu}
        return chosen | ({"test_time_augmentation": True} if self.test_time_augmentation else {})

    def denoise(self, volume, *, slices=None, progress=NO_PROGRESS) -> Volume:
        """See `Denoiser.denoise`."""
        from .denoise import denoise

        return denoise(volume, self.model, device=self.device, slices=slices, progress=progress, **self._options).volume


@dataclass(frozen=True)
class FilterDenoiser:
    """A classical filter, slice by slice, as strong as the noise of each slice asks for.

    Attributes
    ----------
    name : str
    filter : Filter
    multiple : float
        Of the usual strength, see `filters`.
    """

    name: str
    filter: Filter
    multiple: float = 1.0

    def __post_init__(self):
        if not (math.isfinite(self.multiple) and self.multiple > 0):
            raise InputError(
                f"the strength of {self.filter.name} is {self.multiple:g}: give a number above 0, usually 1"
            )
        self.filter.check_installed()

    @property
    def label(self) -> str:
        """Such as "total variation" and "total variation × 0.8"."""
        return self.filter.label if self.multiple == 1 else f"{self.filter.label} × {self.multiple:g}"

    @property
    def key(self) -> str:
        """SHA-256 of filter, rule and multiple."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()

    @property
    def facts(self) -> dict[str, Any]:
        """Filter, its version, and the rule for its strength."""
        rule = {"usual": self.filter.usual, "power": self.filter.power, "unit": self.filter.unit}
        return {"filter": self.filter.name, "version": self.filter.version, "multiple": self.multiple, **rule}

    def denoise(self, volume, *, slices=None, progress=NO_PROGRESS) -> Volume:
        """See `Denoiser.denoise`."""
        check_ct(volume)
        chosen = range(len(volume.array)) if slices is None else sorted(set(map(int, slices)))
        if not chosen or chosen[0] < 0 or chosen[-1] >= len(volume.array):
            raise InputError(
                f"slices {list(chosen)} of a volume that has {len(volume.array)}: give some from 0 to "
                f"{len(volume.array) - 1}"
            )
        result = volume.array.copy()

        def work(index: int) -> None:
            _store(result[index], self._slice(volume.array[index]))

        threads = ThreadPoolExecutor(1 if self.filter.serial else cores())
        try:
            for done, _ in enumerate(threads.map(work, chosen), start=1):
                progress.check("denoising was cancelled")
                progress.report(done / len(chosen), f"{self.label}: {done} of {len(chosen)} slices")
        finally:
            threads.shutdown(cancel_futures=True)
        return volume.with_array(result)

    def _slice(self, hu: np.ndarray) -> np.ndarray:
        from ..analysis.noise import tissue_sigma  # SciPy: publishing knows the names of denoisers without it
        from ..analysis.regions import outside_field_of_view

        outside = outside_field_of_view(hu[None])[0]
        image = np.where(outside, np.float32(AIR_HU), hu.astype(np.float32))
        sigma_hu = tissue_sigma(image, ~outside)
        if sigma_hu < LEAST_SIGMA_HU:
            return hu
        return np.where(outside, hu, self.filter(image, self.filter.strength(sigma_hu, self.multiple)))


def find(name: str | Path, temporary: Path, *, device: str = "auto") -> Denoiser:
    """What a name stands for.

    Parameters
    ----------
    name : str or Path
        "input"; a filter of `filters.FILTERS`, alone or as NAME:MULTIPLE, such as "tv:0.8"; the name of a network that
        needs no training; the name of an installed model, or a model's folder. A Path is always a folder.
    temporary : Path
        An existing folder for a model that is made of a network; needed as long as the denoiser is.
    device : str
        As for `torch_device.choose_device`; filters run on the CPU.

    Raises
    ------
    InputError
        It is nothing of all that, a filter's package is missing, or its strength is no positive number.
    """
    if name == INPUT:
        return AsItIs()
    if isinstance(name, str) and (found := _filter(name)):
        return found
    if str(name) in registry.names() and registry.summary(str(name)).zero_shot:
        return _zero_shot(str(name), temporary, device)
    try:
        model = bundle.load(name)
    except BundleError as error:
        if str(name) in registry.names():
            raise InputError(f"{name} is a network without weights: train it, and give its run") from error
        if isinstance(name, str) and not os.path.exists(name):
            raise BundleError(f"{error}; or {choices()}") from error
        raise
    facts = {"folder": model.folder.resolve().name, "sha256": model.hash}
    return NetworkDenoiser(model.name, model.card.title, model, facts, device)


def choices() -> str:
    """What can be given besides models and runs, for a message."""
    without = [name for name in registry.names() if registry.summary(name).zero_shot]
    return f"{INPUT}, a filter ({', '.join(FILTERS)}) or a network without training ({', '.join(without)})"


def is_taken(name: str) -> bool:
    """Whether a name stands for something that is no model, so that no model should have it."""
    return name == INPUT or name in FILTERS or (name in registry.names() and registry.summary(name).zero_shot)


def packed(folder: Path, network: str, arguments: dict[str, Any], weights: dict[str, Any]) -> Bundle:
    """A bundle that is made to be run only."""
    card = {
        "title": network,
        "description": "Made to be compared.",
        "intended_use": outputs.RESEARCH,
        "limits": "Not evaluated.",
        "hu_range": bundle.HU_RANGE,
        "training": {"data": [], "settings": {}, "seed": 0},
        "metrics": {},
    }
    return bundle.save(folder, network, arguments, weights, card)


def _filter(name: str) -> FilterDenoiser | None:
    known, colon, text = name.partition(":")
    if known not in FILTERS:
        return None
    try:
        multiple = float(text) if colon else 1.0
    except ValueError:
        raise InputError(
            f"{name!r}: {text!r} is no number; give a multiple of the usual strength, {known}:0.8"
        ) from None
    return FilterDenoiser(known if multiple == 1 else f"{known} {multiple:g}", FILTERS[known], multiple)


def _zero_shot(name: str, temporary: Path, device: str) -> NetworkDenoiser:
    model = packed(temporary / name, name, {}, registry.build(name).state_dict())
    return NetworkDenoiser(name, registry.summary(name).title, model, {"network": name}, device)


def _store(target: np.ndarray, values: np.ndarray) -> None:
    """Copy HU into a slice of any type, rounded and within its range if that is an integer type."""
    if np.issubdtype(target.dtype, np.integer):
        limits = np.iinfo(target.dtype)
        values = np.clip(np.rint(values), limits.min, limits.max)
    target[...] = values
