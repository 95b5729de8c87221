"""What a name stands for when results are compared: the scan as it is, a model, a training run, or a zero-shot network.

Owns how a name becomes something that denoises, and the key by which its results are known again. Models on disk are
`bundle`'s, runs `training_run`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import BundleError, InputError
from ..io import outputs
from ..models import bundle
from ..models.bundle import Bundle
from ..networks import registry
from ..progress import NO_PROGRESS, Progress
from ..training.run_folder import is_run

if TYPE_CHECKING:
    from ..datasets.shards import Shard

INPUT = "input"
"""The scan as it is."""

_HU_RANGE = (-3000, 4000)  # beyond what noise makes of a chest


@dataclass(frozen=True, eq=False)
class Method:
    """One way to denoise.

    Attributes
    ----------
    name : str
        In tables.
    kind : str
        "input", "model", "run" or "zero-shot".
    model : Bundle or None
        None for the input.
    facts : dict
        Where it came from, expressible in JSON.
    """

    name: str
    kind: str
    model: Bundle | None
    facts: dict[str, Any]

    @property
    def key(self) -> str:
        """The same for what gives the same results only."""
        return INPUT if self.model is None else self.model.key

    def denoise(
        self,
        shard: Shard,
        slices: Sequence[int],
        *,
        device: str = "auto",
        progress: Progress = NO_PROGRESS,
    ) -> np.ndarray:
        """The result for some slices of a shard's scan, float32 HU (slices, rows, columns).

        Raises
        ------
        InputError, Cancelled, IPv2Error
            As `denoise.denoise`.
        """
        if self.model is None:
            return shard.scan(list(slices))
        from ..inference.denoise import denoise
        from ..io.volume import Volume

        scan = Volume(shard.scan(np.s_[:]), shard.spacing)
        result = denoise(scan, self.model, device=device, slices=slices, progress=progress)
        return result.network_output.array[list(slices)]


def find_methods(names: Sequence[str | Path], temporary: Path, flow_steps: int | None = None) -> list[Method]:
    """What each name stands for.

    Parameters
    ----------
    names : sequence of str or path
        "input"; the folder of a training run, whose best weights count; the name of an installed model or a model's
        folder; or the name of a zero-shot network.
    temporary : Path
        An existing folder for models that are made of runs; needed as long as the methods are.
    flow_steps : int, optional
        For networks that go from the noisy slice to the clean one in steps; the others do not heed it.

    Raises
    ------
    InputError
        No names, one that is nothing of all that, a run without weights, or steps that a network does not take.
    """
    if not names:
        raise InputError("there is nothing to compare: name models, runs, zero-shot networks, or 'input'")
    found = [_find(name, temporary / str(number)) for number, name in enumerate(names)]
    unique = outputs.unique_names([Path(method.name) for method in found])
    return [_with_steps(replace(method, name=name), flow_steps) for method, name in zip(found, unique, strict=True)]


def _find(name: str | Path, temporary: Path) -> Method:
    if str(name) == INPUT:
        return Method(INPUT, INPUT, None, {})
    if is_run(name):
        return _from_run(Path(name).resolve(), temporary)
    if str(name) in registry.names() and registry.summary(str(name)).zero_shot:
        return _zero_shot(str(name), temporary)
    try:
        model = bundle.load(name)
    except BundleError as error:
        if str(name) in registry.names():
            raise InputError(f"{name} is a network without weights: train it, and give its run") from error
        raise
    return Method(model.name, "model", model, {"folder": model.folder.resolve().name, "sha256": model.hash})


def _from_run(folder: Path, temporary: Path) -> Method:
    """The best weights of a run, as they would be published."""
    from ..training.learner import load_weights
    from ..training.settings import read_settings, without_places

    settings = read_settings(folder)
    weights, step = load_weights(folder)
    model = _packed(temporary / "run", settings.network, settings.arguments, weights)
    facts = {"folder": folder.name, "sha256": model.hash, "step": step, **without_places(settings)}
    return Method(folder.name, "run", model, facts)


def _zero_shot(name: str, temporary: Path) -> Method:
    model = _packed(temporary / name, name, {}, registry.build(name).state_dict())
    return Method(name, "zero-shot", model, {"network": name})


def _packed(folder: Path, network: str, arguments: dict[str, Any], weights: dict[str, Any]) -> Bundle:
    card = {
        "title": network,
        "description": "Made to be compared.",
        "intended_use": outputs.RESEARCH,
        "limits": "Not evaluated.",
        "hu_range": list(_HU_RANGE),
        "training": {"data": [], "settings": {}, "seed": 0},
        "metrics": {},
    }
    return bundle.save(folder, network, arguments, weights, card)


def _with_steps(method: Method, steps: int | None) -> Method:
    if steps is None or method.model is None:
        return method
    card = method.model.card
    network = card["network"]
    if not registry.summary(network["name"]).generative:
        return method
    network = network | {"arguments": network["arguments"] | {"steps": steps}}
    registry.build(network["name"], **network["arguments"])  # refuses steps out of range before long work
    model = replace(method.model, card=card | {"network": network})
    return replace(method, model=model, facts=method.facts | {"flow_steps": steps})
