"""The commands `train` and `publish`: options, checks before long work, and what is said at the end.

The loop is `training`, packing a model `publishing`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, IPv2Error
from ..io import atomic, outputs
from ..io.locks import owned
from ..networks import registry
from ..training.distributed import FirstProcessFailed, of_environment
from . import arguments
from .console import Console
from .options import INPUT, LOADING, whole_number

if TYPE_CHECKING:
    from ..models.bundle import Bundle
    from ..training.run_folder import RunState
    from ..training.settings import TrainingSettings

# --- train --------------------------------------------------------------------------------------------------


def _train_options(command: argparse.ArgumentParser) -> None:
    from ..training.settings import TrainingSettings

    command.description = (
        "Train a denoiser on a purified data set (see 'ipv2 prepare'), or on normal-dose chest CT, of which low dose,\n"
        "respiratory motion and reconstruction kernel are simulated at random, the pairs purified.\n"
        "RUN is a folder with settings, log, validation and checkpoints. Ctrl-C, SIGTERM and a hang-up stop after the\n"
        "present step, or after 5 seconds without it, and keep a checkpoint; --resume goes on from there.\n"
        "'ipv2 publish' packs the result as a model for 'ipv2 denoise --model'.\n"
        "On several GPUs or machines: torchrun --nproc-per-node N -m IPv2Lib train ..."
    )
    command.epilog = (
        "examples:\n"
        "  ipv2 train dataset --out run --epochs 20\n"
        "  ipv2 train dataset --out run-redcnn --strategy ipv1 --network redcnn --minutes 60\n"
        "  ipv2 train dataset --out run-2 --settings run/settings.json --seed 2\n"
        "  ipv2 train a.nrrd b.nrrd --out run --minutes 120 --model-out my-model\n"
        "  ipv2 train --out run --resume"
    )
    command.add_argument(
        "source", type=Path, nargs="*", metavar="DATASET|NDCT",
        help=f"the folder of a purified data set; or normal-dose CTs: {INPUT}",
    )  # fmt: skip
    command.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run")
    command.add_argument(
        "--resume", action="store_true", help="go on with RUN, with its own settings and on its own data"
    )
    command.add_argument(
        "--workers", type=whole_number, default=1, metavar="N",
        help="processes that make batches meanwhile (default: %(default)s)",
    )  # fmt: skip
    command.add_argument("--model-out", type=Path, metavar="FOLDER", help="pack the trained model into FOLDER")
    arguments.add_settings(command)
    _add_card(command)
    arguments.add(command, TrainingSettings)


def _train(options: argparse.Namespace, console: Console) -> None:
    with _first_speaks():
        processes = of_environment()
        progress = console.progress if processes.leads else console.progress.silent()
        progress.report(0.0, LOADING)
        settings = _training_settings(options)
        source = _source(options)
        card = _card(options)
        if processes.leads:
            _check_places(options, card)
        from ..training import loop as training

        progress.report(0.0, "reading")
        run = training.train(
            source, options.out, settings, resume=options.resume, workers=options.workers,
            device=_device(options), progress=progress, late=console.leave,
        )  # fmt: skip
        if processes.leads:
            _say_trained(run, options.model_out, card, console)


@contextlib.contextmanager
def _first_speaks() -> Iterator[None]:
    """Of several processes let the first one speak; of those that fail before they meet, the first of each machine."""
    processes = of_environment()
    silent = contextlib.ExitStack()
    if not processes.leads:
        silent.enter_context(contextlib.redirect_stdout(open(os.devnull, "w")))  # noqa: SIM115
    try:
        with silent:
            yield
    except IPv2Error as error:
        if isinstance(error, FirstProcessFailed) or processes.local:
            sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115
        raise


def _training_settings(options: argparse.Namespace) -> TrainingSettings:
    from ..training.settings import TrainingSettings

    if options.resume and (arguments.given(options, TrainingSettings).keys() - {"device"} or options.settings):
        raise InputError("a run that is resumed keeps its settings: leave the others out, or start a new run")
    return arguments.chosen(options, TrainingSettings())


def _device(options: argparse.Namespace) -> str | None:
    """The one that was asked for, which a run that is resumed may have another one of."""
    from ..training.settings import TrainingSettings

    return arguments.given(options, TrainingSettings).get("device")


def _source(options: argparse.Namespace) -> Path | list[Path] | None:
    from ..datasets.shards import is_dataset

    datasets = [path for path in options.source if is_dataset(path)]
    if datasets and len(options.source) > 1:
        raise InputError(f"{datasets[0]} is a data set: give it alone; 'ipv2 prepare' adds cases to it")
    if datasets:
        return datasets[0]
    if not options.source and not options.resume:
        raise InputError("nothing to train on: give the folder of a data set, or normal-dose CTs")
    return options.source or None


def _check_places(options: argparse.Namespace, card: dict[str, Any]) -> None:
    """Refuse what cannot be written at the end, before hours of training and not after."""
    from ..datasets.shards import SHARDS_FOLDER, is_dataset
    from ..training import run_folder

    if not options.resume and not run_folder.is_run(options.out) and not run_folder.has_begun(options.out):
        # Beside its shards a data set may hold runs.
        sources = [path / SHARDS_FOLDER if is_dataset(path) else path for path in options.source]
        outputs.check_folder(options.out, "train", False, *sources)
    if options.model_out:
        _check_model_out(options.model_out, card)


def _check_model_out(folder: Path, card: dict[str, Any]) -> None:
    from ..models import bundle

    if not (folder / bundle.CARD_FILE).exists():
        outputs.check_folder(folder, "train", False)
    blank = {"title": "-", "description": "-", "intended_use": "-", "limits": "-", "hu_range": [-1, 1], "metrics": {}}
    blank["training"] = {"data": [], "settings": {}, "seed": 0}
    small: dict[str, Any] = {"channels": [4], "blocks": [1]}
    card = {**card, "training": blank["training"] | card.get("training", {})}
    with atomic.temporary_folder() as temporary:
        untrained = registry.build("unet", **small)
        bundle.save(temporary / folder.name, "unet", small, untrained.state_dict(), blank | card)


def _card(options: argparse.Namespace) -> dict[str, Any]:
    """What the person who trains or publishes says about the model."""
    from ..training.settings import PublishSettings

    card: dict[str, Any] = {}
    if options.card is not None:
        try:
            card = json.loads(options.card.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"the card {options.card} cannot be read ({error}): give a JSON file") from error
        if not isinstance(card, dict) or not isinstance(card.get("training", {}), dict):
            raise InputError(f'the card {options.card} is no JSON object: write {{"title": "...", ...}}')
    said = arguments.given(options, PublishSettings)
    return card | {name: value for name, value in said.items() if name != "last"}


def _add_card(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--card", type=Path, metavar="FILE", help="JSON with title, description, training data, limits of the model"
    )


def _say_trained(run: Path, model_out: Path | None, card: dict[str, Any], console: Console) -> None:
    from ..training.run_folder import read_run

    state = read_run(run)
    facts: dict[str, Any] = {
        "run": str(run), "state": state.state, "step": state.step, "best_step": state.best_step,
        "best_rmse_hu": state.best_rmse_hu,
    }  # fmt: skip
    text = f"{run}: {state.state} after {state.step} steps{_best(state)}"
    if model_out:
        from ..training.publishing import publish

        model = publish(run, model_out, card)
        text += f"\n{_model_line(model)}"
        facts |= {"model": str(model.folder), "sha256": model.hash}
    console.result(text, command="train", **facts)


def _best(state: RunState) -> str:
    if state.best_rmse_hu is None:
        return ""
    from ..datasets.shards import REFERENCES

    to = REFERENCES[str(state.validation["reference"][-1])]
    return f"; best at step {state.best_step}, {state.best_rmse_hu:.1f} HU from the {to}"


def _model_line(model: Bundle) -> str:
    return f"{model.folder}: model {model.name}, SHA-256 {model.hash[:12]}…"


# --- publish ------------------------------------------------------------------------------------------------


def _publish_options(command: argparse.ArgumentParser) -> None:
    from ..training.settings import PublishSettings

    command.description = (
        "Pack the best weights of a training run as a model, which 'ipv2 models' and IPv2 Denoise then list. Its card\n"
        "is filled in from the run: data, settings, seed, step, validation. It may be done while the run goes on."
    )
    command.epilog = (
        "examples:\n"
        "  ipv2 publish run --name my-model --title 'For our scanner'\n"
        "  ipv2 publish run --out models/my-model --card card.json"
    )
    command.add_argument("run_folder", type=Path, metavar="RUN", help="folder of the run")
    place = command.add_mutually_exclusive_group()
    place.add_argument("--out", type=Path, metavar="FOLDER", help="folder of the model; its name is the model's")
    place.add_argument(
        "--name", metavar="NAME", help="of the model, in the folder of your own models (default: that of RUN)"
    )
    command.add_argument("--overwrite", action="store_true", help="replace a model that is there already")
    _add_card(command)
    arguments.add(command, PublishSettings)


def _publish(options: argparse.Namespace, console: Console) -> None:
    console.progress.report(0.0, LOADING)
    from ..models import bundle
    from ..training.publishing import publish
    from ..training.settings import PublishSettings

    if options.name is not None and (not options.name or Path(options.name).name != options.name):
        raise InputError(f"{options.name!r} is no name of a model: use letters, digits, '.', '_' and '-'")
    folder = options.out or bundle.user_folder() / (options.name or options.run_folder.resolve().name)
    last = arguments.chosen(options, PublishSettings()).last
    with owned(folder, "publish"):
        atomic.sweep(folder.parent)
        if (folder / bundle.CARD_FILE).exists() and not options.overwrite:
            raise InputError(f"{folder} is a model already: give another name, or replace it with --overwrite")
        _check_name(folder)
        model = publish(options.run_folder, folder, _card(options), last=last)
    console.result(_model_line(model), command="publish", model=str(model.folder), name=model.name, sha256=model.hash)


def _check_name(folder: Path) -> None:
    """Refuse a name in the folder of the user's own models that already stands for something else."""
    from ..inference.denoisers import is_taken
    from ..models import bundle

    name, folder = folder.name, folder.resolve()
    if folder.parent != bundle.user_folder().resolve():
        return
    if is_taken(name):
        raise InputError(f"{name!r} means something else in 'ipv2 compare': give another name")
    for model in bundle.available():
        if model.name == name and model.folder.resolve() != folder:
            raise InputError(f"{name!r} is the name of the model {model.folder} already: give another name")


COMMANDS = {
    "train": ("train a denoiser on purified data, or on normal-dose CT", _train_options, _train),
    "publish": ("pack a training run as a model", _publish_options, _publish),
}
"""Name: one line of help, function that adds the options, function that runs the command."""
