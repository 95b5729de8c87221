"""What names stand for when results are compared: any denoiser of `inference.denoisers`, and training runs.

Owns how a training run becomes a denoiser, and that no two of a comparison have one name. Runs on disk are
`training.run_folder`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..inference import denoisers
from ..inference.denoisers import INPUT, Denoiser, NetworkDenoiser
from ..io import outputs
from ..networks import registry
from ..training.run_folder import is_run


def find_denoisers(
    names: Sequence[str | Path], temporary: Path, flow_steps: int | None = None, device: str = "auto"
) -> list[Denoiser]:
    """What each name stands for.

    Parameters
    ----------
    names : sequence of str or path
        The folder of a training run, whose best weights count, or what `denoisers.find` takes.
    temporary : Path
        An existing folder for models that are made of runs; needed as long as the denoisers are.
    flow_steps : int, optional
        For networks that go from the noisy slice to the clean one in steps; the others do not heed it.
    device : str
        As for `torch_device.choose_device`.

    Raises
    ------
    InputError
        No names, one that is nothing of all that, a run without weights, or steps that a network does not take.
    """
    if not names:
        raise InputError("there is nothing to compare: name models, runs, filters, zero-shot networks, or 'input'")
    found = [_find(name, temporary / str(number), device) for number, name in enumerate(names)]
    unique = outputs.unique_names([Path(each.name) for each in found])
    return [_with_steps(_renamed(each, name), flow_steps) for each, name in zip(found, unique, strict=True)]


def _renamed(denoiser: Any, name: str) -> Denoiser:
    return replace(denoiser, name=name)


def _find(name: str | Path, temporary: Path, device: str) -> Denoiser:
    if name != INPUT and is_run(name):
        return _from_run(Path(name).resolve(), temporary, device)
    return denoisers.find(name, temporary, device=device)


def _from_run(folder: Path, temporary: Path, device: str) -> NetworkDenoiser:
    """The best weights of a run, as they would be published."""
    from ..training.learner import load_weights
    from ..training.settings import read_settings, without_places

    settings = read_settings(folder)
    weights, step = load_weights(folder)
    model = denoisers.packed(temporary / "run", settings.network, settings.arguments, weights)
    facts = {"folder": folder.name, "sha256": model.hash, "step": step, **without_places(settings)}
    return NetworkDenoiser(folder.name, f"run {folder.name}", model, facts, device)


def _with_steps(denoiser: Denoiser, steps: int | None) -> Denoiser:
    if steps is None or not isinstance(denoiser, NetworkDenoiser):
        return denoiser
    card = denoiser.model.card
    if not registry.summary(card.network.name).generative:
        return denoiser
    network = replace(card.network, arguments=card.network.arguments | {"steps": steps})
    registry.build(network.name, **network.arguments)  # refuses steps out of range before long work
    model = replace(denoiser.model, card=replace(card, network=network))
    return replace(denoiser, model=model, origin=denoiser.origin | {"flow_steps": steps})
