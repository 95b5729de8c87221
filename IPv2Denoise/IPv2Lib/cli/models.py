"""The commands `models` and `devices`: what there is to denoise with, and to compute on."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from ..inference.options import DenoiseOptions
from . import arguments
from .console import Console
from .options import LOADING, aligned, load_model

if TYPE_CHECKING:
    from ..models.bundle import Bundle


def _models_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "List the installed models, or show the card of one: what it was trained on, how it scored, its limits.\n"
        "Models are looked for in the library, in the folders of the environment variable IPV2_MODELS, and in\n"
        "the user's own folder."
    )
    command.epilog = "examples:\n  ipv2 models\n  ipv2 models my-model"
    command.add_argument("model", nargs="?", metavar="NAME", help="a model's name or folder")


def _models(options: argparse.Namespace, console: Console) -> None:
    from ..models import bundle

    if options.model:
        model = bundle.load(options.model)
        console.answer(_card_text(model), command="models", folder=str(model.folder), card=model.card.as_dict())
        return
    models, problems = bundle.scan()
    for problem in problems:
        console.note(str(problem))
    if not models:
        bundle.default_name()  # says what to do
    defaults = {kind: bundle.default_among(models, device).name for kind, device in (("CPU", "cpu"), ("GPU", "cuda"))}
    console.answer(
        "\n".join(_model_line(model, defaults) for model in models),
        command="models", default=defaults["CPU"], default_on_gpu=defaults["GPU"],
        models=[{"folder": str(model.folder), "card": model.card.as_dict()} for model in models],
    )  # fmt: skip


def _model_line(model: Bundle, defaults: dict[str, str]) -> str:
    default_on = [kind for kind, name in defaults.items() if name == model.name]
    megabytes = sum(file.stat().st_size for file in model.folder.glob("model.*")) / 1e6
    name = f"{model.name} (default on {' and '.join(default_on)})" if default_on else model.name
    card = model.card
    return f"{name}\n  {card.title}\n  {card.network.name}, {megabytes:.1f} MB, {card.created}, {model.folder}"


def _card_text(model: Bundle) -> str:
    card = model.card
    sources = [f"  {each.name} ({each.licence}). {each.citation}" for each in card.trained_on]
    metrics = json.dumps(card.metrics, indent=2, ensure_ascii=False).splitlines()
    noise = card.noise_hu
    return "\n".join(
        [
            f"{card.name}: {card.title}",
            card.description,
            "",
            f"Intended use: {card.intended_use}",
            f"Limits: {card.limits}",
            f"Network: {card.network.name} {json.dumps(card.network.arguments)}",
            f"HU range: {card.hu_range[0]:g} to {card.hu_range[1]:g}",
            *([f"Noise: {noise[0]:g} to {noise[1]:g} HU in soft tissue"] if noise else []),
            f"Created: {card.created}",
            f"SHA-256 of the weights: {model.hash}",
            f"Engines: {'onnxruntime, torch' if model.has_graph else 'torch'}",
            f"Folder: {model.folder}",
            "Trained on:",
            *sources,
            "Scores:",
            *metrics,
        ]
    )


def _devices_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "List what a model can run on here: memory, and the measured time for a slice of 512×512 pixels, by the\n"
        "default model of each device if none is named. 'auto' is what --device auto takes."
    )
    command.epilog = "examples:\n  ipv2 devices\n  ipv2 devices --model my-model"
    arguments.add(command, DenoiseOptions, only=("model", "engine"))


def _devices(options: argparse.Namespace, console: Console) -> None:
    console.progress.report(0.0, LOADING)
    from ..inference import devices

    how = arguments.chosen(options, DenoiseOptions())
    found, problems = devices.survey(
        lambda device: load_model(how.model, device), engine=how.engine, progress=console.progress
    )
    for problem in problems:
        console.note(problem)
    auto = devices.automatic()
    rows = [("", "engine", "a slice", "free", "total")]
    rows += [
        (
            f"{each.device}{' (auto)' if each.device == auto else ''}: {each.name}",
            each.engine,
            f"{each.seconds_per_slice:.3f} s",
            "–" if each.free_bytes is None else f"{each.free_bytes / 2**30:.1f} GB",
            f"{each.total_bytes / 2**30:.1f} GB",
        )
        for each in found
    ]
    console.answer(aligned(rows), command="devices", devices=[asdict(each) for each in found], auto=auto)


COMMANDS = {
    "models": ("list the installed models, or show one's card", _models_options, _models),
    "devices": ("list what a model can run on, and how fast it is", _devices_options, _devices),
}
"""Name: one line of help, function that adds the options, function that runs the command."""
