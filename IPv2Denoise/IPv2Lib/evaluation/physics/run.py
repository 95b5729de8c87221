"""Measure denoisers on phantoms, and on scans of one's own.

Owns the order of the work, and what is kept so that an interrupted run goes on. What is measured says `protocol`, the
files `report`.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ... import __version__
from ...errors import InputError
from ...inference import commands
from ...inference.denoisers import INPUT, AsItIs, Denoiser, NetworkDenoiser
from ...inference.engines import choose_engine
from ...io import atomic, outputs
from ...io.json_files import read_if_sound
from ...io.locks import exclusive
from ...progress import NO_PROGRESS, Progress
from ..methods import find_denoisers
from . import own_scans, report
from .experiments import Laboratory
from .protocol import Condition, conditions, effort
from .realisations import Noise
from .settings import PhysicsSettings

_FORMAT = 2  # of the parts; another number where anything is measured in another way
_STOPPED = "stopped; the same command again goes on with what was measured"


@dataclass(frozen=True)
class Measured:
    """What one experiment gave for one denoiser: the condition as in `protocol`, the values as in `experiments`."""

    denoiser: str
    condition: dict[str, Any]
    values: dict[str, Any]


@dataclass(frozen=True)
class Physics:
    """What was found.

    Attributes
    ----------
    folder : Path
    results : list of Measured
    sentences : list of str
        What a reader should take away.
    files : dict of str to Path
        See `report`.
    """

    folder: Path
    results: list[Measured]
    sentences: list[str]
    files: dict[str, Path]


@exclusive("physics")
def measure(
    names: Sequence[str | Path],
    folder: Path | str,
    settings: PhysicsSettings | None = None,
    *,
    progress: Progress = NO_PROGRESS,
) -> Physics:
    """Measure denoisers and write a report.

    The same call again measures only what is new: more denoisers, changed weights, what an interruption left.

    Parameters
    ----------
    names : sequence of str or path
        See `methods.find_denoisers`. The input as it is is measured in any case.
    folder : path
        Where the files go; new, empty, or that of an earlier run.
    settings : PhysicsSettings, optional
    progress : Progress
        What was measured before a stop is kept.

    Raises
    ------
    InputError
        No such denoiser or scan, or a folder that holds something else.
    IPv2Error
        A program failed, wrote nothing or changed the geometry; or as `denoise.denoise`.
    OutputError
        The folder cannot be written.
    Cancelled
        If `progress` was cancelled.
    """
    from ...inference.torch_device import choose_device

    began = time.perf_counter()
    settings = settings or PhysicsSettings()
    folder = Path(folder)
    programs = [commands.from_text(each, settings.exchange, settings.timeout) for each in settings.command]
    names = [each for each in names if each != INPUT]
    if not names and not programs:
        raise InputError("there is nothing to measure: name a model, a run or a filter, or give a program (--command)")
    device = choose_device(settings.device)
    own = own_scans.read(settings, progress.part(0.0, 0.02))
    outputs.check_folder(folder, "physics", True, *own_scans.places(settings))

    with atomic.temporary_folder() as temporary:
        found: list[Denoiser] = list(find_denoisers(names, temporary, device=device)) if names else []
        denoisers = _unique([AsItIs(), *found, *programs])
        facts = {
            "settings": asdict(settings) | {"device": device},
            "denoisers": {each.name: {"label": each.label} | _engine(each, device) | each.facts for each in denoisers},
        }
        parts = outputs.resumable_folder(folder, "physics", facts)
        results = _all(denoisers, parts, settings, progress.part(0.02, 0.9))
        results += _own(denoisers, own, parts, settings, progress.part(0.9, 0.96))
    progress.report(0.96, "figures and report")
    seconds = round(time.perf_counter() - began, 1)
    with atomic.changed_folder(folder) as changed:
        sentences = report.write(changed, [asdict(each) for each in results], facts | {"seconds": seconds})
    progress.report(1.0, "measured")
    return Physics(folder, results, sentences, report.paths(folder))


def _engine(denoiser: Denoiser, device: str) -> dict[str, str]:
    """What computes a network, and its version."""
    if not isinstance(denoiser, NetworkDenoiser):
        return {}
    engine = choose_engine(denoiser.model, "auto", device)
    return {"engine": f"{engine} {metadata.version(engine)}"}


def _all(denoisers: Sequence[Denoiser], parts: Path, settings: PhysicsSettings, progress: Progress) -> list[Measured]:
    how = effort(settings)
    noise = Noise(parts, how.noise, settings.seed, progress.silent())
    lab = Laboratory(noise, how, settings.seed)
    wanted = conditions(settings)
    results = []
    for share, condition, denoiser in _pairs(wanted, denoisers, progress):
        noise.progress = share
        results.append(_found_or_measured(lab, condition, denoiser, parts, share))
    return results


def _found_or_measured(
    lab: Laboratory, condition: Condition, denoiser: Denoiser, parts: Path, progress: Progress
) -> Measured:
    facts = {
        "format": _FORMAT, "version": __version__, "denoiser": denoiser.key, "condition": condition.as_dict(),
        "effort": asdict(lab.effort), "seed": lab.seed,
    }  # fmt: skip

    def denoise(volume, slices) -> np.ndarray:
        return denoiser.denoise(volume, slices=list(slices), progress=progress).array[list(slices)]

    values = _kept(parts, facts, lambda: lab.measure(condition, denoise))
    return Measured(denoiser.name, condition.as_dict(), values)


def _own(
    denoisers: Sequence[Denoiser], own: Sequence[own_scans.Own], parts: Path, settings: PhysicsSettings,
    progress: Progress,
) -> list[Measured]:  # fmt: skip
    results = []
    for share, scan, denoiser in _pairs(own, denoisers, progress):
        facts = {"format": _FORMAT, "denoiser": denoiser.key, "own": scan.key, "seed": settings.seed}
        values = _kept(parts, facts, lambda scan=scan, denoiser=denoiser, share=share: scan.measure(denoiser, share))
        results.append(Measured(denoiser.name, scan.condition, values))
    return results


def _kept(parts: Path, facts: dict[str, Any], measure_) -> dict[str, Any]:
    """What is in the part that belongs to the facts, or else is measured and put there."""
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]
    path = parts / f"{key}.json"
    if values := read_if_sound(path).get("values"):
        return values
    values = measure_()
    outputs.write_json(path, facts | {"values": values})
    return json.loads(json.dumps(values))  # as it will be read


def _pairs(things: Sequence[Any], denoisers: Sequence[Denoiser], progress: Progress) -> Iterator[tuple]:
    whole = len(things) * len(denoisers)
    for number, thing in enumerate(things):
        for place, denoiser in enumerate(denoisers):
            progress.check(_STOPPED)
            done = number * len(denoisers) + place
            text = f"{denoiser.name}, {thing.title}"
            progress.report(done / whole, text)
            yield progress.part(done / whole, (done + 1) / whole, text), thing, denoiser


def _unique(denoisers: Sequence[Any]) -> list[Denoiser]:
    names = outputs.unique_names([Path(each.name) for each in denoisers])
    return [
        each if each.name == name else replace(each, name=name) for each, name in zip(denoisers, names, strict=True)
    ]
