"""The command `train`: options, checks before long work, and what is said at the end. The loop is `training`."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import outputs
from .cli_options import INPUT, LOADING, load_model, read, whole_number
from .console import Console
from .errors import InputError

if TYPE_CHECKING:
    from .training import TrainingSettings


def _train_options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Train a denoiser from normal-dose chest CT. Low dose, breath and reconstruction kernel are simulated at\n"
        "random, the pairs purified. Ctrl-C stops after the present step and keeps a checkpoint; --resume goes on.\n"
        "--model-out packs the result as a model for 'ipv2 denoise --model'."
    )
    command.epilog = (
        "examples:\n"
        "  ipv2 train a.nrrd b.nrrd --out run --minutes 120 --model-out my-model\n"
        "  ipv2 train a.nrrd b.nrrd --out run --resume --model-out my-model\n"
        "  ipv2 denoise scan.nrrd denoised.nrrd --model my-model"
    )
    command.add_argument("volumes", type=Path, nargs="+", metavar="NDCT", help=INPUT)
    command.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    command.add_argument("--resume", action="store_true", help="go on with RUN, with its own settings")
    command.add_argument("--model-out", type=Path, metavar="FOLDER", help="pack the trained model into FOLDER")
    command.add_argument(
        "--card", type=Path, metavar="FILE", help="JSON with title, description, training data, limits of the model"
    )
    settings = command.add_argument_group("settings of a new run")
    length = settings.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="optimisation steps (default: 2000)")
    length.add_argument("--minutes", type=float, help="train for so long instead")
    settings.add_argument(
        "--strategy", choices=("none", "ipv1", "ipv2"), help="how pairs are purified, none: not at all (default: ipv2)"
    )
    settings.add_argument("--network", metavar="NAME", help="unet or redcnn (default: unet)")
    settings.add_argument(
        "--dose", type=float, nargs=2, metavar=("LOW", "HIGH"),
        help="range of the random dose fraction (default: 0.01 0.25)",
    )  # fmt: skip
    settings.add_argument("--batch", type=int, help="patches per step (default: 8)")
    settings.add_argument("--patch", type=int, help="side of a patch in pixels (default: 128)")
    settings.add_argument("--lr", type=float, dest="learning_rate", help="learning rate at the start (default: 0.001)")
    settings.add_argument(
        "--variance-weight", type=float, metavar="W",
        help="hold back noise that looks like texture at moderate dose; 2.5 made the bundled model (default: 0)",
    )  # fmt: skip
    settings.add_argument("--start-from", metavar="NAME|FOLDER", help="a model of the same network to go on from")
    settings.add_argument("--seed", type=whole_number, help="of everything random (default: 0)")


def _train(options: argparse.Namespace, console: Console) -> None:
    console.progress(0.0, LOADING)
    from . import training

    settings = _training_settings(options)
    card = _card(options.card, options.volumes)
    if not options.resume and not (options.out / "settings.json").exists():
        outputs.check_folder(options.out, "train", False, *options.volumes)
    if options.model_out:
        _check_model_out(options.model_out, card)
    if settings.start_from is not None:
        load_model(settings.start_from)
    console.progress(0.0, "reading")
    volumes = [read(path) for path in options.volumes]
    run = training.train(
        volumes, options.out, settings, resume=options.resume,
        progress=console.progress, cancelled=console.cancelled,
    )  # fmt: skip
    text, facts = f"{run}: trained, see log.csv", {"run": str(run)}
    if options.model_out:
        model = training.publish(run, options.model_out, card)
        text += f"\n{model.folder}: model {model.name}, SHA-256 {model.hash[:12]}…"
        facts |= {"model": str(model.folder), "sha256": model.hash}
    console.result(text, command="train", **facts)


def _training_settings(options: argparse.Namespace) -> TrainingSettings:
    from .training import TrainingSettings
    from .training_data import Ranges

    names = (
        "steps", "minutes", "strategy", "network", "batch", "patch", "learning_rate", "variance_weight", "start_from",
        "seed",
    )  # fmt: skip
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    if options.dose:
        low, high = options.dose
        if not 0 < low <= high <= 1:
            raise InputError(f"dose range {low:g} to {high:g}: give the lower first, both above 0 and up to 1")
        given["ranges"] = Ranges(dose=(low, high))
    return TrainingSettings(**given)


def _check_model_out(folder: Path, card: dict[str, Any]) -> None:
    """Refuse a card or a folder that could not hold the model, before hours of training and not after."""
    from . import bundle, networks

    if not (folder / bundle.CARD_FILE).exists():
        outputs.check_folder(folder, "train", False)
    with tempfile.TemporaryDirectory() as temporary:
        untrained = networks.build("unet", channels=[4], blocks=[1])
        bundle.save(
            Path(temporary) / folder.name, "unet", {"channels": [4], "blocks": [1]}, untrained.state_dict(), card
        )


def _card(path: Path | None, volumes: Sequence[Path]) -> dict[str, Any]:
    """What the person who trains says about the model, over what can be said without them."""
    unknown = "not stated"
    sources = [{"name": volume.name, "licence": unknown, "citation": unknown} for volume in volumes]
    card = {
        "title": f"Chest CT denoiser trained on {len(volumes)} volume{'s' if len(volumes) > 1 else ''}",
        "description": "Trained with 'ipv2 train'.",
        "intended_use": f"Denoising of low-dose chest CT. {outputs.RESEARCH}",
        "limits": "Not evaluated.",
        "hu_range": [-1024, 3071],
        "training": {"data": sources, "settings": {}, "seed": 0},
        "metrics": {},
    }
    if path is None:
        return card
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"the card {path} cannot be read ({error}): give a JSON file") from error
    if not isinstance(given, dict):
        raise InputError(f'the card {path} is no JSON object: write {{"title": "...", ...}}')
    return card | given


COMMANDS = {"train": ("train a denoiser from normal-dose CT", _train_options, _train)}
"""Name: one line of help, function that adds the options, function that runs the command."""
