"""How `ipv2-fast`, `ipv2-quality` and the networks that they are compared with are trained.

    python Testing/benchmarks/train_bundled.py NAME FOLDER [--minutes M]

NAME is one of fast, quality, redcnn, dncnn. Trains stage after stage in FOLDER/NAME-1, FOLDER/NAME-2, ... or goes on
there, and packs the result as FOLDER/ipv2-NAME. Simulated blocks are kept in FOLDER/blocks: all four learn from the
same. Needs the training volumes in the folder that IPV2_DATA names, or ../shared/data. What was tried, and in which
steps the bundled weights came from this, is in models.md.
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from IPv2Lib import bundle, ct, phantom
from IPv2Lib.publishing import publish
from IPv2Lib.training import train
from IPv2Lib.training_learner import load_weights
from IPv2Lib.training_settings import Ranges, TrainingSettings
from quality_cases import TRAINED_UP_TO, TRAINING, folder

HERE = Path(__file__).resolve().parent
CHESTS = range(101, 105)  # seeds of synthetic chests; without noise of their own: they teach to remove all of it

FIRST = TrainingSettings(
    network="ipv2net",
    minutes=158,
    batch=4,
    learning_rate=2e-3,
    strategy="direct",
    pairs="drawn",
    ranges=Ranges(dose=(0.01, 0.5), zoom=(0.8, 1.8), thickness=(1, 3)),
    blocks=600,
    pool=120,
    steps_per_case=3,
    small_error=0.3,
    precision="bfloat16",
    seed=7,
)
LAST = replace(FIRST, learning_rate=1e-4, average=0.998, bias_weight=2.0, variance_weight=2.5, batch=5, minutes=14)
"""Holds back noise that comes through: after the rest, since its steps take twice as long."""

FAST = {"channels": [48, 80, 128, 192], "blocks": [1, 2, 2, 2]}
QUALITY = {"channels": [80, 128, 208, 256], "blocks": [1, 2, 3, 3], "context": 5}
STAGES = {
    "fast": [replace(FIRST, arguments=FAST), replace(LAST, arguments=FAST)],
    "quality": [
        replace(FIRST, arguments=QUALITY, learning_rate=1.2e-3, minutes=222),
        replace(LAST, arguments=QUALITY, minutes=16),
    ],
    "redcnn": [replace(FIRST, network="redcnn", learning_rate=1e-4, patch=64, minutes=172)],
    "dncnn": [replace(FIRST, network="dncnn", learning_rate=1e-3, patch=64, minutes=172)],
}
LAST_SHARE = {"quality": 0.35}
"""How far from the weights of the stage before to those of the last one a model is: in between, it holds noise back
nearly as well and errs less."""


def volumes() -> list[ct.Volume]:
    """What is trained on."""
    scans = {name: ct.read(folder() / f"{name}.nrrd") for name in TRAINING}
    whole = scans["fda_phantom"]
    scans["fda_phantom"] = ct.Volume(whole.array[:TRAINED_UP_TO], whole.spacing)
    return [*scans.values()] + [phantom.chest(seed=seed, size=512, slices=16) for seed in CHESTS]


def mix(model: bundle.Bundle, before: Path, last: Path, share: float) -> bundle.Bundle:
    """Give a model the weights between those of two runs."""
    (first, _), (second, _) = load_weights(before), load_weights(last)
    weights = {name: tensor.lerp(second[name], share) for name, tensor in first.items()}
    training = {**model.card["training"], "last_share": share}
    network = model.card["network"]
    return bundle.save(
        model.folder, network["name"], network["arguments"], weights, model.card | {"training": training}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("name", choices=tuple(STAGES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, help="of the first stage, in place of the usual ones")
    options = parser.parse_args()
    scans, cards = volumes(), json.loads((HERE / "train_bundled.json").read_text())
    model = options.folder / f"ipv2-{options.name}"
    for number, settings in enumerate(STAGES[options.name], 1):
        run = options.folder / f"{options.name}-{number}"
        if number > 1:
            settings = replace(settings, start_from=str(model))
        elif options.minutes:
            settings = replace(settings, minutes=options.minutes)
        settings = replace(settings, keep_blocks=str(options.folder / "blocks"))
        train(scans, run, settings, resume=(run / "checkpoint.pt").exists(), workers=0, progress=print)
        published = publish(run, model, cards["all"] | cards[options.name])
    if share := LAST_SHARE.get(options.name):
        mix(published, options.folder / f"{options.name}-1", run, share)


if __name__ == "__main__":
    main()
