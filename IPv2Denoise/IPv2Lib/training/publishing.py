"""From a training run to a model: its weights, packed with a card that says what they were trained on and how well.

Owns what the card says of a run, which is nothing of any single case: a model is given away. The format of a
model on disk is `bundle`'s, the run `run_folder`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..io import outputs
from ..models import bundle
from ..networks import registry
from . import run_folder
from .learner import load_weights
from .settings import read_settings, without_places

_NOT_STATED = "not stated"


def publish(
    run: Path | str, destination: Path | str, card: Mapping[str, Any] | None = None, *, last: bool = False
) -> bundle.Bundle:
    """Pack the averaged weights of a run as a model, while it is being trained or at any time after.

    Parameters
    ----------
    run : path
        Folder of the run.
    destination : path
        Folder of the model; its name is the model's name. A model that is there already is replaced.
    card : mapping, optional
        What only people know: title, description, intended use, limits, data with licences, other metrics. It comes
        before what `card_of` says, but settings, seed and steps are those of the run.
    last : bool
        The weights of the last checkpoint instead of those with the lowest validation error.

    Raises
    ------
    InputError
        If `run` is no run or holds no weights yet.
    BundleError
        If the card is not valid.
    OutputError
        If the model cannot be written, or something else is there.
    """
    run = Path(run)
    settings = read_settings(run)
    weights, step = load_weights(run, last=last)
    facts = card_of(run, step)
    full = facts | dict(card or {})
    full["training"] = {**facts["training"], **full["training"]}
    full["training"] |= {name: facts["training"][name] for name in ("settings", "seed")}
    return bundle.save(Path(destination), settings.network, settings.arguments, weights, full, with_graph=True)


def card_of(run: Path | str, step: int | None = None) -> dict[str, Any]:
    """What a run says of itself, for the card of its model.

    Parameters
    ----------
    run : path
    step : int, optional
        The step that the weights are of. Default: that of the best ones.

    Raises
    ------
    InputError
        If `run` is no run.
    """
    state = run_folder.read_run(run)
    settings = read_settings(run)
    step = state.best_step if step is None else step
    network = registry.summary(settings.network)
    many = run_folder.trained_on(state.data)
    metrics = _metrics(state, step)
    noise = state.data.get("noise_hu")
    scored = "" if metrics else " Not evaluated."
    return {
        "title": f"{network.title}, {settings.strategy}, trained on {many}",
        "description": f"{network.title} ({network.reference}), trained by 'ipv2 train'.",
        "intended_use": f"Denoising of low-dose chest CT. {outputs.RESEARCH}",
        "limits": f"Trained on {many}; on other scanners, doses and reconstruction kernels it may do worse.{scored}",
        "hu_range": bundle.HU_RANGE,
        **({} if noise is None else {"noise_hu": noise}),
        "training": {
            "data": [{"name": many, "licence": _NOT_STATED, "citation": _NOT_STATED}],
            "settings": without_places(settings) | {"steps": step},
            "seed": settings.seed,
        },
        "metrics": metrics,
    }


def _metrics(state: run_folder.RunState, step: int | None) -> dict[str, Any]:
    """The validation at a step."""
    table = state.validation
    for row, of_step in enumerate(table["step"]):
        if of_step == step:
            lung = float(table["rmse_lung_hu"][row])
            cases = len({entry["case"] for entry in state.data.get("validation", [])})
            return {
                "validation": {
                    "step": int(of_step),
                    "reference": str(table["reference"][row]),
                    "rmse_hu": round(float(table["rmse_hu"][row]), 2),
                    "rmse_lung_hu": None if math.isnan(lung) else round(lung, 2),
                    "cases": cases,
                }
            }
    return {}
