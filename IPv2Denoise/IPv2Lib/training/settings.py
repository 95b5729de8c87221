"""How to train: every choice that makes a run, checked, and as it lies in the run's folder.

Owns the names, defaults and limits. What they do is in `training`, `training_sources`, `training_data` and `losses`.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..datasets.shards import check_strategy
from ..errors import InputError
from ..io import settings_file
from ..networks import registry as networks
from . import run_folder
from .losses import LOSSES

PAIRS = ("purified", "drawn")
PRECISIONS = ("float32", "bfloat16", "float16")
_MOST = {"batch": 65_536, "patch": 4096, "pool": 4096}  # more is no machine's, and would be found out late


@dataclass(frozen=True)
class Ranges:
    """What is drawn at random for each block of slices of drawn pairs; every pair is (lowest, highest).

    Attributes
    ----------
    dose : dose fraction, drawn with equal weight on each octave
    photons : N₀ per ray at dose 1, likewise
    sharpness : reconstruction kernel of the noise, see `projection.kernel`
    zoom : pixels of the scan per pixel of the block; above 1 makes structures finer and the scan's noise less
    breath_mm : largest displacement of the lungs between the two scans
    thickness : neighbouring slices, whole numbers, that are averaged into one, as thicker slices would show them; their
        own noise falls
    band : of every other block: octaves by which the kernel raises or lowers a band of frequencies, at a random place;
        a vendor's kernel is seldom just soft or sharp
    evenness : of every other block: how far photons lost to thick and dense parts are made up for by sending more of
        them there, as filters and modulated tube currents do. 0, not at all: most noise comes from rays through bone.
        1, wholly: noise is the same everywhere, as in the published simulation
    """

    dose: tuple[float, float] = (0.01, 0.25)
    photons: tuple[float, float] = (0.7e5, 3.0e5)
    sharpness: tuple[float, float] = (-1.0, 2.0)
    zoom: tuple[float, float] = (0.9, 1.8)
    breath_mm: tuple[float, float] = (2.0, 10.0)
    thickness: tuple[int, int] = (1, 1)
    band: tuple[float, float] = (0.0, 0.0)
    evenness: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self):
        limits = {
            "dose": (1e-4, 1.0), "photons": (1.0, 1e9), "sharpness": (-1.0, 2.0), "zoom": (0.25, 4.0),
            "breath_mm": (0.0, 50.0), "thickness": (1, 8), "band": (0.0, 3.0), "evenness": (0.0, 1.0),
        }  # fmt: skip
        for name, (least, most) in limits.items():
            low, high = getattr(self, name)
            if not least <= low <= high <= most:
                raise InputError(
                    f"range of {name} is {low:g} to {high:g}: give the lower one first, both within "
                    f"{least:g} to {most:g}"
                )
        if any(count != int(count) for count in self.thickness):
            raise InputError(f"range of thickness is {self.thickness}: give whole numbers of slices")


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes
    ----------
    network, arguments : name in the registry and keyword arguments of its class
    start_from : name or folder of a model of this network whose weights to start from; None: random weights
    strategy : one of `shards.STRATEGIES`
    blend : T of the training input outside the common mask; None: the strategy's own
    pairs : "purified": the pairs of a data set as they are. "drawn": of its NDCTs, breath, dose and kernel drawn anew
        for every block of slices. Volumes that are no data set are always drawn from
    ranges : what is drawn at random for drawn pairs
    steps : optimisation steps
    epochs : as many pixels as the slices to train on have, so many times, instead of `steps`
    minutes : train for so long instead of `steps`
    batch, patch : patches per step, over all processes, and their side in pixels
    learning_rate : at the start; it falls to 1 % along a cosine
    average : weight of the past in the exponential moving average of the weights, which is what is published
    loss : one of `losses.LOSSES`; networks that flow from the noisy to the clean slice have one of their own
    small_error : of "relative", in units of the noise of a patch: errors below this count by their square, larger ones
        as they are. Small values teach the median of what could be there, large ones the mean
    bias_weight : of the loss on means, over 8 by 8 pixels and over each tissue, which keeps HU right; of "relative"
    variance_weight : weight of the noise that comes through, on top of its part in the error. Of noise that looks
        like the texture of the lung, the smallest error keeps most; this removes more of it, and some texture
        with it. It counts for noise below about 40 HU, where an image is not made unreadable by its noise.
        Doubles the time of a step. Of drawn pairs and "relative"
    blocks : so many different blocks of drawn pairs, then the same again; None: ever new ones
    keep_blocks : folder in which drawn blocks are kept, for runs that draw the same ones; None: kept nowhere
    pool, steps_per_case : blocks in the memory of the device that trains, and steps until the oldest is replaced by a
        new one, of drawn pairs
    seed : of everything random
    device : "auto", "cpu", "cuda" (each process of `torchrun` its own), "cuda:1", ..., "mps"
    precision : "float32", "bfloat16" (about twice as fast on processors that have it) or "float16" (NVIDIA GPUs)
    compile : let `torch.compile` translate the network: a minute or so at the beginning, faster steps after it. On one
        NVIDIA GPU whole steps are recorded, too, which makes small networks several times as fast; not in float16, and
        not of networks that flow
    validate_every : steps between validations
    checkpoint_minutes : time between checkpoints

    Raises
    ------
    InputError
        A value that is unknown, out of range, or does not go with another one.
    """

    network: str = "unet"
    arguments: dict = field(default_factory=dict)
    start_from: str | None = None
    strategy: str = "ipv2"
    blend: float | None = None
    pairs: str = "purified"
    ranges: Ranges = field(default_factory=Ranges)
    steps: int = 2000
    epochs: float | None = None
    minutes: float | None = None
    batch: int = 8
    patch: int = 128
    learning_rate: float = 1e-3
    average: float = 0.999
    loss: str = "relative"
    small_error: float = 0.1
    bias_weight: float = 1.0
    variance_weight: float = 0.0
    blocks: int | None = None
    keep_blocks: str | None = None
    pool: int = 16
    steps_per_case: int = 20
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    compile: bool = False
    validate_every: int = 200
    checkpoint_minutes: float = 2.0

    def __post_init__(self):
        network = networks.summary(self.network)
        if network.zero_shot:
            raise InputError(
                f"network {self.network!r} is fitted to each slice that it denoises: there is nothing to train; score "
                "it with 'ipv2 compare'"
            )
        check_strategy(self.strategy, self.blend)
        for name, known in (("pairs", PAIRS), ("precision", PRECISIONS), ("loss", tuple(LOSSES))):
            if getattr(self, name) not in known:
                raise InputError(f"unknown {name} {getattr(self, name)!r}: choose one of {', '.join(known)}")
        for name in (
            "steps", "batch", "patch", "learning_rate", "pool", "steps_per_case", "validate_every", "epochs",
            "minutes", "checkpoint_minutes", "blocks", "small_error",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise InputError(f"{name} is {value}: it must be above 0")
        for name, most in _MOST.items():
            if getattr(self, name) > most:
                raise InputError(f"{name} is {getattr(self, name)}: use {most} at most")
        for name in ("bias_weight", "variance_weight"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        if not 0 <= self.average < 1:
            raise InputError(f"average is {self.average}: use 0 (the weights as they are) to below 1")
        if self.seed < 0:
            raise InputError(f"seed {self.seed} is negative: use 0 or more")
        if self.epochs is not None and self.minutes is not None:
            raise InputError(f"{self.epochs:g} epochs and {self.minutes:g} minutes: give one of them")
        if self.variance_weight and self.loss != "relative":
            raise InputError(f"the variance weight belongs to the loss 'relative': leave it out with {self.loss!r}")
        if network.generative and (self.loss != "relative" or self.variance_weight):
            raise InputError(f"network {self.network!r} has a loss of its own: leave loss and variance weight out")


def read_settings(run: Path | str) -> TrainingSettings:
    """Settings of a run on disk.

    Raises
    ------
    InputError
        If the folder holds no run, or one whose settings cannot be read.
    """
    path = Path(run) / run_folder.SETTINGS_FILE
    if not path.is_file():
        raise InputError(f"{run} is not a training run: it has no {path.name}")
    try:
        return settings_file.read(path, TrainingSettings())
    except InputError as error:
        raise InputError(f"{error}: start a new run in another folder") from error


def without_places(settings: TrainingSettings) -> dict[str, Any]:
    """Settings as others may see them: without folders of the machine."""
    told = asdict(settings)
    del told["keep_blocks"]
    if settings.start_from is not None:
        told["start_from"] = Path(settings.start_from).name
    return told


def check_same(run: Path | str, settings: TrainingSettings) -> None:
    """Refuse (`InputError`) to go on with a run that was begun with other settings; the device may be another."""
    begun = replace(read_settings(run), device=settings.device)
    other = [each.name for each in fields(settings) if getattr(begun, each.name) != getattr(settings, each.name)]
    if other:
        raise InputError(f"{run} was begun with another {', '.join(other)}: give another folder, or remove it")


def write_settings(settings: TrainingSettings, run: Path) -> None:
    """Write what `read_settings` reads, which makes the folder a run."""
    run_folder.write_json(run / run_folder.SETTINGS_FILE, settings_file.as_dict(settings))
