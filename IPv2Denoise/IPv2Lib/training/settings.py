"""How to train: every choice that makes a run, checked, and as it lies in the run's folder.

Owns the names, defaults and limits. What they do is in `loop`, `sources`, `batches`, `on_the_fly` and `losses`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from ..datasets.strategies import BY_NAME, STRATEGIES, check_strategy
from ..errors import InputError
from ..io import settings_file
from ..networks import registry as networks
from ..options import check, option
from . import run_folder
from .losses import LOSSES

PAIRS = ("purified", "simulated")
PRECISIONS = ("float32", "bfloat16", "float16")
TRAINABLE = tuple(name for name in networks.names() if not networks.summary(name).zero_shot)
"""Networks that there is something to train of."""


_WHAT, _HOW = "what is learned (of a new run, as all that follows)", "how it is learned"
_FLY, _MACHINE = "pairs simulated on the fly", "machine"


def _range(value: tuple, help: str, **declared: Any) -> Any:
    return option(value, help, interval=True, group=_FLY, **declared)


@dataclass(frozen=True)
class Ranges:
    """What is random about each block of slices of pairs that are simulated on the fly; lowest and highest value.

    Raises
    ------
    InputError
        A range that is out of its limits, or that ends below its start.
    """

    dose: tuple[float, float] = _range(
        (0.01, 0.25), "dose fraction of the simulated low dose; every octave has the same "
        "weight", unit="", low=1e-4, high=1.0, percent=True,
        panel="simulatedDose", usual=(1e-3, 1.0),
    )  # fmt: skip
    photons: tuple[float, float] = _range(
        (0.7e5, 3.0e5), "photons per ray at full dose, N₀; every octave has the same weight", unit="", low=1.0,
        high=1e9, flag="-",
    )  # fmt: skip
    sharpness: tuple[float, float] = _range(
        (-1.0, 2.0), "reconstruction kernel of the noise; -1 is soft, 0 Hann, 1 the ramp, 2 very "
        "sharp", unit="", low=-1.0,
        high=2.0, panel="simulatedKernel",
    )  # fmt: skip
    zoom: tuple[float, float] = _range(
        (0.9, 1.8), "pixels of the scan per pixel of a patch; above 1 structures become finer, and the noise of the "
        "scan falls", unit="", low=0.25, high=4.0,
    )  # fmt: skip
    motion_mm: tuple[float, float] = _range(
        (2.0, 10.0), "largest respiratory motion of the lungs between the two scans", unit="mm", low=0.0, high=50.0,
        flag="--motion",
    )  # fmt: skip
    thickness: tuple[int, int] = _range(
        (1, 1), "neighbouring slices that are averaged into a thicker one", unit="", low=1, high=8
    )
    band: tuple[float, float] = _range(
        (0.0, 0.0), "octaves by which the kernel of every other block raises or lowers a band of frequencies", unit="",
        low=0.0, high=3.0,
    )  # fmt: skip
    modulation: tuple[float, float] = _range(
        (0.0, 0.0), "uniformity of the noise of every other block; at 0 most of it is behind bone, at 1 it is the "
        "same everywhere, "
        "as in the published simulation", unit="", low=0.0, high=1.0,
    )  # fmt: skip

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class TrainingSettings:
    """How to train: a run is made of these.

    Raises
    ------
    InputError
        A value that is unknown, out of range, or does not go with another one.
    """

    network: str = option(
        "unet", "name of the network", choices=TRAINABLE, group=_WHAT, panel=True,
    )  # fmt: skip
    arguments: dict = option(
        dict, "argument of the network, as JSON, such as channels=[16,32]; may be given several times",
        flag="--argument", metavar="NAME=VALUE", group=_WHAT,
    )  # fmt: skip
    start_from: str | None = option(
        None, "name or folder of a model of this network whose weights to start from", none="random weights",
        metavar="NAME|FOLDER", group=_WHAT, panel=True,
    )  # fmt: skip
    strategy: str = option(
        "ipv2", "how scans become pairs; between ipv1 and ipv2 one module alone is on; "
        + ", ".join(f"{name} {each.help}" for name, each in BY_NAME.items() if each.help),
        choices=STRATEGIES, group=_WHAT, panel=True,
    )  # fmt: skip
    blend: float | None = option(
        None, "part of the NDCT in the training input outside the common mask", unit="", low=0.0, high=1.0,
        label="blend T", default="0.1 for ipv1, else 0", metavar="T", group=_WHAT,
    )  # fmt: skip
    pairs: str = option(
        "purified", "pairs of a data set; purified: as they are, simulated: on the fly from its NDCTs",
        choices=PAIRS, metavar="KIND", group=_WHAT, panel=True,
    )  # fmt: skip
    ranges: Ranges = option(Ranges, "what is random about pairs that are simulated on the fly")
    steps: int = option(2000, "optimisation steps", unit="", low=1, exclusive="length", group=_HOW)
    epochs: float | None = option(
        None, "passes over as many pixels as the training slices have, instead of steps", unit="", above=0,
        exclusive="length", group=_HOW,
    )  # fmt: skip
    minutes: float | None = option(
        None, "training time, instead of steps", unit="min", above=0, exclusive="length", group=_HOW
    )
    batch: int = option(
        8, "patches per step, over all processes", unit="", low=1, high=65_536, group=_HOW, panel=True,
        usual=(1, 1024),
    )  # fmt: skip
    patch: int = option(128, "side of a patch", unit="px", low=1, high=4096, group=_HOW, panel=True, usual=(8, 512))
    learning_rate: float = option(
        1e-3, "learning rate at the start; it falls to 1 % along a cosine", unit="", above=0, flag="--lr",
        group=_HOW, panel=True, usual=(1e-6, 1.0),
    )  # fmt: skip
    average: float = option(
        0.999, "weight of the past in the moving average of the weights, which is what is published", unit="", low=0,
        below=1, group=_HOW, flag="-",
    )  # fmt: skip
    loss: str = option(
        "relative", "what is minimised; relative weighs every dose alike", choices=tuple(LOSSES), group=_HOW, panel=True
    )
    small_error: float = option(
        0.1, "part of a patch's noise below which errors count by their square; small values teach the median, large "
        "ones the mean; of the relative loss", unit="", above=0, group=_HOW, flag="-",
    )  # fmt: skip
    bias_weight: float = option(
        1.0, "weight of errors of the mean, which keeps HU right; over blocks of pixels and each tissue, in the "
        "relative loss", unit="", low=0, group=_HOW, flag="-",
    )  # fmt: skip
    bias_pixels: int = option(
        8, "side of those blocks; 1 makes thin bone brighter", unit="px", low=1, high=64, group=_HOW, flag="-"
    )
    variance_weight: float = option(
        0.0, "weight of residual noise in the loss; holds back noise that looks like lung texture, "
        "takes some texture with it, and doubles the time of a step; 2.5 made the bundled model; of the relative loss "
        "and pairs simulated on the fly", unit="", low=0, metavar="W", group=_FLY,
    )  # fmt: skip
    blocks: int | None = option(
        None, "different blocks of slices, after which they come again", unit="", low=1, none="ever new ones",
        group=_FLY,
    )  # fmt: skip
    keep_blocks: str | None = option(
        None, "folder in which simulated blocks are kept, for runs that use the same ones",
        none="they are simulated again", metavar="FOLDER", group=_FLY,
    )  # fmt: skip
    pool: int = option(16, "blocks in the memory of the device", unit="", low=1, high=4096, group=_FLY, flag="-")
    steps_per_case: int = option(
        20, "steps until the oldest block is replaced by a new one", unit="", low=1, group=_FLY, flag="-"
    )
    seed: int = option(
        0, "seed of everything random: the same seed gives the same network", unit="", low=0, group=_HOW, panel=True,
        usual=(0, 999_999),
    )  # fmt: skip
    device: str = option(
        "auto", "auto, cpu, cuda (or cuda:1, ...) or mps; auto takes a GPU if there is one; a resumed run may have "
        "another one", metavar="DEVICE", group=_MACHINE, panel=True, usual=("auto", "cpu", "cuda", "mps"),
    )  # fmt: skip
    precision: str = option(
        "float32", "number format of the network; bfloat16 is about twice as fast on processors that have it, "
        "float16 on NVIDIA "
        "GPUs", choices=PRECISIONS, group=_MACHINE, panel=True,
    )  # fmt: skip
    compile: bool = option(
        False, "let torch.compile translate the network: a minute at the beginning, faster steps after it; on one "
        "NVIDIA GPU whole steps are recorded, and small networks are several times as fast; not in float16, not of "
        "networks that flow", group=_MACHINE, panel="compileNetwork",
    )  # fmt: skip
    validate_every: int = option(
        200, "steps between validations", unit="", low=1, metavar="STEPS", group=_HOW, panel=True,
        usual=(1, 1_000_000),
    )  # fmt: skip
    checkpoint_minutes: float = option(2.0, "time between checkpoints", unit="min", above=0, metavar="M", group=_HOW)

    def __post_init__(self):
        network = networks.summary(self.network)
        if network.zero_shot:
            raise InputError(
                f"network {self.network!r} is fitted to each slice that it denoises: there is nothing to train; score "
                "it with 'ipv2 compare'"
            )
        check_strategy(self.strategy, self.blend)
        check(self)
        if self.epochs is not None and self.minutes is not None:
            raise InputError(f"{self.epochs:g} epochs and {self.minutes:g} minutes: give one of them")
        if self.variance_weight and self.loss != "relative":
            raise InputError(f"the variance weight belongs to the loss 'relative': leave it out with {self.loss!r}")
        if network.generative and (self.loss != "relative" or self.variance_weight):
            raise InputError(f"network {self.network!r} has a loss of its own: leave loss and variance weight out")


def _on_card(what: str) -> Any:
    return option(None, f"{what} on the card", none="that of the run", metavar="TEXT")


@dataclass(frozen=True)
class PublishSettings:
    """Options of `publishing.publish`; all but `last` are keys of the card."""

    last: bool = option(False, "the weights of the last checkpoint, not the best ones")
    title: str | None = _on_card("title")
    description: str | None = _on_card("description")
    intended_use: str | None = _on_card("intended use")
    limits: str | None = _on_card("limits")


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
    described = asdict(settings)
    del described["keep_blocks"]
    if settings.start_from is not None:
        described["start_from"] = Path(settings.start_from).name
    return described


def check_same(run: Path | str, settings: TrainingSettings) -> None:
    """Refuse (`InputError`) to go on with a run that was begun with other settings; the device may be another."""
    begun = replace(read_settings(run), device=settings.device)
    other = [each.name for each in fields(settings) if getattr(begun, each.name) != getattr(settings, each.name)]
    if other:
        raise InputError(f"{run} was begun with another {', '.join(other)}: give another folder, or remove it")


def write_settings(settings: TrainingSettings, run: Path) -> None:
    """Write what `read_settings` reads, which makes the folder a run."""
    run_folder.write_json(run / run_folder.SETTINGS_FILE, settings_file.as_dict(settings))
