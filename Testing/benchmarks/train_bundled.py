"""How `ipv2-fast`, `ipv2-quality` and the networks that they are compared with are trained.

    python Testing/benchmarks/train_bundled.py NAME FOLDER [--workers N]

NAME is one of fast, quality, redcnn, dncnn. Trains stage after stage in FOLDER/NAME-1, FOLDER/NAME-2, ... or goes on
there, and packs the result as FOLDER/ipv2-NAME. Simulated blocks are kept in FOLDER/blocks, 25 GB in all: stages with
the same seed learn from the same. FIRST, EVEN, BAND and CLEAN are for one core of a CPU; LONG, LONGER and LAST are
meant for an NVIDIA GPU, beside workers that simulate ten blocks in the time of a hundred steps. CLEAN goes on from the
result, with FOLDER/ipv2-quality as its teacher, so quality comes first; it packs FOLDER/clean/ipv2-NAME. Needs the
training volumes in the folder that IPV2_DATA names, or ../shared/data. What was tried, and how many steps the bundled
weights had in each stage, is in models.md.
"""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
from clean_blocks import POOR_HU, CleanBlocks, without_noise
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume
from IPv2Lib.models import bundle
from IPv2Lib.progress import Progress
from IPv2Lib.simulation import phantom
from IPv2Lib.training.batches import hold, on_the_fly_batch
from IPv2Lib.training.distributed import Processes
from IPv2Lib.training.learner import Learner, load_weights
from IPv2Lib.training.loop import train
from IPv2Lib.training.publishing import publish
from IPv2Lib.training.settings import Ranges, TrainingSettings, check_same
from IPv2Lib.training.sources import open_source
from quality_cases import TRAINED_UP_TO, TRAINING, folder

HERE = Path(__file__).resolve().parent
MORE = (
    "cmb_crc_01068", "cptac_C3L00189", "kits_00072", "lidc_0002", "lidc_0003", "lungfcp_0001", "rider_0117",
    "tcga_BCA10X",
)  # fmt: skip
MOST_SLICES = 44
CHESTS = range(101, 105)  # seeds of synthetic chests; without noise of their own: they teach to remove all of it

FIRST = TrainingSettings(
    network="ipv2net",
    minutes=158,
    batch=4,
    learning_rate=2e-3,
    strategy="direct",
    pairs="simulated",
    ranges=Ranges(dose=(0.01, 0.5), zoom=(0.8, 1.8), thickness=(1, 3)),
    blocks=600,
    pool=120,
    steps_per_case=3,
    small_error=0.3,
    precision="bfloat16",
    seed=7,
)
EVEN = replace(FIRST, seed=8, blocks=300, ranges=replace(FIRST.ranges, modulation=(0.0, 1.0)))
"""Noise that is modulated out, as in real scanners."""
BAND = replace(EVEN, seed=9, blocks=240, ranges=replace(EVEN.ranges, band=(0.0, 1.5)))
"""Kernels that are not just soft or sharp."""
LONG = replace(BAND, seed=11, blocks=None, pool=300, steps_per_case=10, minutes=None, steps=6000)
"""On a GPU: ever new blocks, in large batches."""
LONGER = replace(LONG, seed=12, pool=200, steps_per_case=12, compile=True)
"""On a GPU that replays recorded steps."""
LAST = replace(LONGER, steps=2250, learning_rate=2e-4, average=0.998, bias_weight=2.0, variance_weight=2.5)
"""Holds back noise that comes through: after the rest, since it costs some sharpness. From LONGER's first patches."""

LEVEL = replace(
    LAST, seed=21, pool=260, steps_per_case=300, batch=12, steps=300, learning_rate=3e-4, average=0.98, bias_weight=4.0,
    compile=False,
)  # fmt: skip
"""The means of tissues made right, by the last layer and its norm alone, so that nothing is forgotten; on one core."""

FAST = {"channels": [48, 80, 128, 192], "blocks": [1, 2, 2, 2]}
QUALITY = {"channels": [80, 128, 208, 256], "blocks": [1, 2, 3, 3], "context": 5}
STAGES = {
    "fast": [
        replace(FIRST, arguments=FAST),
        replace(EVEN, arguments=FAST, learning_rate=5e-4, minutes=30),
        replace(BAND, arguments=FAST, learning_rate=3e-4, minutes=16),
        replace(LONG, arguments=FAST, learning_rate=1e-3, batch=32),
        replace(LONGER, arguments=FAST, learning_rate=1.2e-3, batch=64, steps=14100),
        replace(LAST, arguments=FAST, batch=32),
    ],
    "quality": [
        replace(FIRST, arguments=QUALITY, learning_rate=1.2e-3, minutes=222),
        replace(EVEN, arguments=QUALITY, learning_rate=3e-4, minutes=44),
        replace(BAND, arguments=QUALITY, learning_rate=2e-4, minutes=27),
        replace(LONG, arguments=QUALITY, learning_rate=8e-4, batch=16),
        replace(LONGER, arguments=QUALITY, learning_rate=1e-3, batch=32, steps=17700),
        replace(LAST, arguments=QUALITY, batch=16),
    ],
    "redcnn": [
        replace(FIRST, network="redcnn", learning_rate=1e-4, patch=64, minutes=172),
        replace(LONG, network="redcnn", learning_rate=2e-4, patch=64, batch=16, steps=18500, steps_per_case=30),
        replace(LONGER, network="redcnn", learning_rate=2e-4, patch=64, batch=16, steps=48900, steps_per_case=27),
    ],
    "dncnn": [replace(BAND, network="dncnn", loss="mse", learning_rate=1e-3, patch=64, minutes=45)],
}
CLEAN = {
    "fast": replace(FIRST, seed=41, blocks=520, minutes=None, steps=4450, learning_rate=5e-4, average=0.998,
                    bias_weight=2.0, precision="float32"),
    "quality": replace(FIRST, seed=41, blocks=520, minutes=None, steps=2700, learning_rate=4e-4, average=0.998,
                       bias_weight=2.0, precision="float32"),
}  # fmt: skip
"""Targets without noise, of more scans, so that little noise is taken as well as much; on one core each."""

CLEAN_SHARE = {"fast": 0.5, "quality": 0.65}
"""How far from the weights before CLEAN to those after it a model is: in between, it errs less than either at 2 %."""

CLEAN_LEVEL = replace(
    LEVEL, seed=43, blocks=120, pool=120, steps=150, learning_rate=5e-4, bias_weight=3.0, bias_pixels=1,
    variance_weight=0.0, precision="float32",
    ranges=replace(BAND.ranges, dose=(0.012, 0.4), photons=(1e5, 2.2e5), sharpness=(-1.0, 1.5), zoom=(0.85, 1.4),
                   thickness=(1, 1), band=(0.0, 1.0)),
)  # fmt: skip
"""The means again, of pixels: thin bone comes out too low."""
LAST_SHARE = {"fast": 0.9, "quality": 0.7}
"""How far from the weights of the stage before to those of the last one a model is: in between, it holds noise back
nearly as well and errs less."""


def volumes() -> list[Volume]:
    """What is trained on."""
    return [_scan(name) for name in TRAINING] + chests(slices=16)


def more_scans() -> tuple[list[Volume], int]:
    """What is trained on in CLEAN: at most 44 slices of each volume, and single slices; how many are volumes."""
    whole = [_scan(name) for name in sorted((*TRAINING, *MORE))]
    middles = [max(0, (len(scan.array) - MOST_SLICES) // 2) for scan in whole]
    parts = [Volume(scan.array[k : k + MOST_SLICES], scan.spacing) for scan, k in zip(whole, middles, strict=True)]
    return parts + [files.read(path) for path in sorted((folder() / "tcga_slices").glob("*.nrrd"))], len(parts)


def chests(slices: int) -> list[Volume]:
    """Synthetic ones."""
    return [phantom.chest(seed=seed, size=512, slices=slices) for seed in CHESTS]


def _scan(name: str) -> Volume:
    scan = files.read(folder() / f"{name}.nrrd")
    return Volume(scan.array[:TRAINED_UP_TO], scan.spacing) if name == "fda_phantom" else scan


def learn(learner: Learner, batches: Iterator, rates: np.ndarray) -> None:
    """A step for each learning rate."""
    for rate, batch in zip(rates, batches, strict=False):
        with learner.trained(*batch, float(rate)):
            pass


def between(learner: Learner, first: dict, second: dict, share: float) -> None:
    """Take weights that lie between two."""
    for network in (learner.network, learner.average):
        network.load_state_dict({name: tensor.lerp(second[name], share) for name, tensor in first.items()})


def level(learner: Learner, scans: list[Volume], targets: list[Volume] | None, workers: int) -> None:
    """Make the means right, by the last layer and its norm."""
    learner.network.requires_grad_(False)
    for layer in (learner.network.normalise, learner.network.tail):
        layer.requires_grad_(True)
    settings = learner.settings
    source = open_source(scans, settings, targets, workers)
    with closing(source.batches(learner.network.context, 0, learner.processes)) as batches:
        learn(learner, batches, settings.learning_rate * np.linspace(1, 0, settings.steps, endpoint=False))


def finish(before: Path, last: Path, name: str, scans: list[Volume], settings: TrainingSettings, workers: int) -> dict:
    """Weights between those of two runs, with the means made right."""
    learner = Learner(settings, "cpu", Processes())
    between(learner, load_weights(before)[0], load_weights(last)[0], LAST_SHARE[name])
    level(learner, scans, None, workers)
    return learner.average.state_dict()


def clean(model: bundle.Bundle, teacher: bundle.Bundle, name: str, workers: int) -> dict:
    """Weights that take all noise, however little it is, with the means made right."""
    settings = replace(CLEAN[name], arguments=model.card.network.arguments)
    learner = Learner(settings, "cpu", Processes())
    learner.start_from(str(model.folder))
    scans, volumes = more_scans()
    targets = [without_noise(scan, teacher, seed) for seed, scan in enumerate(scans)]
    blocks = CleanBlocks(scans, targets, volumes, chests(slices=12), settings.seed)
    pool = [hold(blocks[index], "cpu", antithetic=False) for index in range(settings.blocks)]
    context = learner.network.context
    batches = (on_the_fly_batch(pool, context, settings, step, learner.processes) for step in count())
    steps = np.arange(settings.steps)
    falling = (1 + np.cos(np.pi * steps / settings.steps)) / 2
    learn(learner, batches, settings.learning_rate * np.minimum(1, (steps + 1) / 200) * falling)
    last = Learner(replace(CLEAN_LEVEL, arguments=settings.arguments), "cpu", Processes())
    between(last, model.network().state_dict(), learner.average.state_dict(), CLEAN_SHARE[name])
    clear = [target for target, noise in targets[:volumes] if noise < POOR_HU]
    level(last, [*scans[:volumes], *clear], [*(target for target, _ in targets[:volumes]), *clear], workers)
    return last.average.state_dict()


def pack(folder: Path, model: bundle.Bundle, weights: dict, done: dict[str, float]) -> bundle.Bundle:
    """The model with other weights; in 8 bits, half the file."""
    network, card = model.card.network, model.card.as_dict() | {"training": {**model.card.training, **done}}
    return bundle.save(folder, network.name, network.arguments, weights, card, bits=8, with_graph=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("name", choices=tuple(STAGES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, default=0, help="processes that simulate blocks meanwhile (none)")
    options = parser.parse_args()
    scans, cards = volumes(), json.loads((HERE / "train_bundled.json").read_text())
    model = options.folder / f"ipv2-{options.name}"
    for number, settings in enumerate(STAGES[options.name], 1):
        run = options.folder / f"{options.name}-{number}"
        if number > 1:
            settings = replace(settings, start_from=str(model))
        settings = replace(settings, keep_blocks=str(options.folder / "blocks"))
        if resume := (run / "checkpoint.pt").exists():
            check_same(run, replace(settings, pairs="simulated"))
        train(scans, run, settings, resume=resume, workers=options.workers, progress=Progress(print))
        published = publish(run, model, cards["all"] | cards[options.name])
    if options.name in LAST_SHARE:
        settings = replace(LEVEL, arguments=settings.arguments, keep_blocks=settings.keep_blocks)
        before = options.folder / f"{options.name}-{number - 1}"
        weights = finish(before, run, options.name, scans, settings, options.workers)
        done = {"last_share": LAST_SHARE[options.name], "level_steps": LEVEL.steps}
        leveled = pack(model, published, weights, done)
        weights = clean(leveled, bundle.load(options.folder / "ipv2-quality"), options.name, options.workers)
        done = {"clean_share": CLEAN_SHARE[options.name], "clean_steps": CLEAN[options.name].steps}
        pack(options.folder / "clean" / model.name, leveled, weights, done)


if __name__ == "__main__":
    main()
