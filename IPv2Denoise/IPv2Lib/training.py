"""Train a denoiser from normal-dose CT: the loop, its log and its checkpoints.

A run is a folder: `settings.json`, `log.csv` and `checkpoint.pt`. What a training case is made of is in
`training_data`; packing the result as a model that the other commands list is `publish`.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from . import bundle, ct, networks
from .errors import Cancelled, InputError, OutputError
from .networks import HU_PER_UNIT
from .training_data import STRATEGIES, Case, Ranges, make_case

if TYPE_CHECKING:
    import torch

_HU_RANGE = (-3000.0, 4000.0)  # nearly all that noise makes of the training cases
_LOG_EVERY = 50  # steps
_FLOOR_HU = 8.0  # noise below this is not worth more of the loss
_TISSUE_HU = (-950.0, -300.0, 150.0, 400.0)  # between room air, lung, soft tissue, thin and dense bone
_TISSUE_WEIGHT = 2.0  # of the bias per tissue, within that of bias
_SMALL_ERROR = 0.1  # of the noise; below this the penalty is quadratic
_MODERATE_HU = 40.0  # noise up to about this is held back by the variance weight
_SURE_PIXELS = 2000
_COARSE = 8  # pixels; the scale at which the loss looks for bias


@dataclass(frozen=True)
class TrainingSettings:
    """How to train.

    Attributes
    ----------
    network, arguments : name in the registry and keyword arguments of its class
    start_from : name or folder of a model of this network whose weights to start from; None: random weights
    strategy : "none", "ipv1" or "ipv2"
    steps : optimisation steps
    minutes : train for so long instead of `steps`
    batch, patch : patches per step and their side in pixels
    learning_rate : at the start; it falls to 1 % along a cosine
    average : weight of the past in the exponential moving average of the weights, which is what is published
    pool, steps_per_case : cases in memory, and steps until the oldest is replaced by a new one
    bias_weight : weight of the loss on means, over 8 by 8 pixels and over each tissue, which keeps HU right
    variance_weight : weight of the noise that comes through, on top of its part in the error. Of noise that looks
        like the texture of the lung, the smallest error keeps most; this removes more of it, and some texture
        with it. It counts for noise below about 40 HU, where an image is not made unreadable by its noise.
        Doubles the time of a step
    ranges : what is drawn at random for each case
    seed : of everything random
    precision : "float32" or "bfloat16" (about twice as fast on processors that have it)
    checkpoint_minutes : time between checkpoints
    """

    network: str = "unet"
    arguments: dict = field(default_factory=dict)
    start_from: str | None = None
    strategy: str = "ipv2"
    steps: int = 2000
    minutes: float | None = None
    batch: int = 8
    patch: int = 128
    learning_rate: float = 1e-3
    average: float = 0.999
    pool: int = 16
    steps_per_case: int = 20
    bias_weight: float = 1.0
    variance_weight: float = 0.0
    ranges: Ranges = field(default_factory=Ranges)
    seed: int = 0
    precision: str = "float32"
    checkpoint_minutes: float = 2.0

    def __post_init__(self):
        if self.network not in networks.names():
            raise InputError(f"unknown network {self.network!r}: choose one of {', '.join(networks.names())}")
        if self.strategy not in STRATEGIES:
            raise InputError(f"unknown strategy {self.strategy!r}: choose one of {', '.join(STRATEGIES)}")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"unknown precision {self.precision!r}: use float32 or bfloat16")
        for name in (
            "steps",
            "batch",
            "patch",
            "learning_rate",
            "pool",
            "steps_per_case",
            "checkpoint_minutes",
        ):
            if not getattr(self, name) > 0:
                raise InputError(f"{name} is {getattr(self, name)}: it must be above 0")
        for name in ("bias_weight", "variance_weight"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        if self.seed < 0:
            raise InputError(f"seed {self.seed} is negative: use 0 or more")
        if self.minutes is not None and not self.minutes > 0:
            raise InputError(f"minutes is {self.minutes}: it must be above 0")


def train(
    volumes: Sequence[ct.Volume | Path | str],
    folder: Path | str,
    settings: TrainingSettings | None = None,
    *,
    targets: Sequence[ct.Volume | Path | str] | None = None,
    resume: bool = False,
    workers: int = 1,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Path:
    """Train a network; return the folder of the run.

    With `settings.steps` the result is the same on the same machine however often the run was interrupted and
    resumed; with `settings.minutes` it depends on the machine's speed.

    Parameters
    ----------
    volumes : sequence of Volume or path
        Normal-dose CT, HU, axial.
    folder : path
        The run. Must not hold a run already, unless `resume`.
    settings : TrainingSettings
        Ignored when a run is resumed: its own are read.
    targets : sequence of Volume or path, optional
        One for each of `volumes`: the same scan on the same grid with less noise, to be learned in its place.
    resume : bool
        Go on from the checkpoint in `folder`; from the start if it was stopped before the first one.
    workers : int
        Processes that make cases while the network trains.
    progress, cancelled
        Called with (fraction, text), and polled, at every step. A cancelled run can be resumed.

    Raises
    ------
    InputError
        Without volumes, for targets on other grids, a folder that holds another run, a run that cannot be
        resumed, or a model to start from that has another network.
    Cancelled
        If `cancelled` returned True; the checkpoint is written.
    """
    import torch

    folder = Path(folder)
    settings = _open_run(folder, settings or TrainingSettings(), resume)
    volumes = _read(volumes)
    if not volumes:
        raise InputError("no volumes to train on: give at least one normal-dose CT")
    targets = volumes if targets is None else _read(targets)
    _check_targets(volumes, targets)

    torch.manual_seed(settings.seed)
    network = networks.build(settings.network, **settings.arguments).to(memory_format=torch.channels_last)
    average = networks.build(settings.network, **settings.arguments)
    optimizer = torch.optim.AdamW(network.parameters(), settings.learning_rate, weight_decay=1e-4)
    step, seconds = 0, 0.0
    if resume and (folder / "checkpoint.pt").exists():
        state = torch.load(folder / "checkpoint.pt", weights_only=True)
        network.load_state_dict(state["network"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, seconds = state["step"], state["seconds"]
    else:
        if settings.start_from is not None:
            _start(network, settings)
        average.load_state_dict(network.state_dict())

    _cut_log(folder / "log.csv", step)
    cases = _Cases(volumes, targets, settings, step, workers)
    losses: list[float] = []
    started = saved = time.monotonic()
    waited = 0.0
    with cases, open(folder / "log.csv", "a", newline="") as log_file:
        log = csv.writer(log_file)
        if log_file.tell() == 0:
            log.writerow(["step", "seconds", "learning_rate", "loss", "waiting"])
        while (done := _fraction(settings, step, seconds + time.monotonic() - started)) < 1.0:
            if cancelled and cancelled():
                _save(folder, network, average, optimizer, step, seconds + time.monotonic() - started)
                raise Cancelled(f"training stopped at step {step}; resume it with the same folder, {folder}")
            before = time.monotonic()
            pool = cases.at(step)
            waited += time.monotonic() - before
            rate = settings.learning_rate * (0.01 + 0.99 * 0.5 * (1.0 + np.cos(np.pi * done)))
            rate = float(rate * min(1.0, (step + 1) / 200))
            for group in optimizer.param_groups:
                group["lr"] = rate
            x, target = _batch(pool, network.context, settings, step)
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bfloat16"):
                output = network(x)
            loss = _loss(output.float(), target, x[:, network.context // 2, None], settings)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            _update_average(average, network, min(settings.average, (step + 1) / (step + 10)))
            losses.append(float(loss.detach()))
            step += 1
            now = time.monotonic()
            if step % _LOG_EVERY == 0:
                total = seconds + now - started
                log.writerow([step, f"{total:.1f}", f"{rate:.2e}", f"{np.mean(losses):.5f}", f"{waited:.2f}"])
                log_file.flush()
                if progress:
                    progress(done, f"step {step}, loss {np.mean(losses):.4f}")
                losses.clear()
                waited = 0.0
            if now - saved > 60 * settings.checkpoint_minutes:
                _save(folder, network, average, optimizer, step, seconds + now - started)
                saved = now
        _save(folder, network, average, optimizer, step, seconds + time.monotonic() - started)
    if progress:
        progress(1.0, f"{step} steps done")
    return folder


def publish(run: Path | str, destination: Path | str, card: dict) -> bundle.Bundle:
    """Pack the averaged weights of a run as a bundle.

    Parameters
    ----------
    run : path
        Folder of the run.
    destination : path
        Folder of the bundle; its name is the model's name.
    card : dict
        What only people know: title, description, data with licences, metrics, intended use, limits. The
        network, the settings, the seed and the number of steps are filled in.

    Raises
    ------
    InputError
        If `run` holds no checkpoint.
    """
    import torch

    run = Path(run)
    settings = read_settings(run)
    try:
        state = torch.load(run / "checkpoint.pt", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{run} holds no checkpoint yet: train for longer") from None
    training = dict(card.get("training", {}))
    training |= {"settings": asdict(settings) | {"steps": state["step"]}, "seed": settings.seed}
    return bundle.save(
        Path(destination),
        settings.network,
        settings.arguments,
        state["average"],
        {"hu_range": list(_HU_RANGE)} | card | {"training": training},
    )


def read_settings(run: Path | str) -> TrainingSettings:
    """Settings of a run on disk.

    Raises
    ------
    InputError
        If the folder holds no run.
    """
    path = Path(run) / "settings.json"
    try:
        values = json.loads(path.read_text())
        ranges = Ranges(**{name: tuple(limits) for name, limits in values.pop("ranges").items()})
        return TrainingSettings(**values, ranges=ranges)
    except FileNotFoundError:
        raise InputError(f"{run} is not a training run: it has no settings.json") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} cannot be read ({error}): start a new run in another folder") from error


def _read(volumes: Sequence[ct.Volume | Path | str]) -> list[ct.Volume]:
    volumes = [v if isinstance(v, ct.Volume) else ct.read(v) for v in volumes]
    for volume in volumes:
        ct.check_ct(volume)
    return volumes


def _check_targets(volumes: Sequence[ct.Volume], targets: Sequence[ct.Volume]) -> None:
    if len(targets) != len(volumes):
        raise InputError(f"there are {len(volumes)} volumes and {len(targets)} targets: give one target for each")
    for number, (volume, target) in enumerate(zip(volumes, targets, strict=True), 1):
        if not ct.same_grid(volume, target):
            raise InputError(f"target {number} does not lie on the grid of its volume: resample it first")


def _start(network: torch.nn.Module, settings: TrainingSettings) -> None:
    """Give a network the weights of the model that its run starts from."""
    model = bundle.load(settings.start_from)
    try:
        network.load_state_dict(model.network().state_dict())
    except RuntimeError as error:
        raise InputError(
            f"model {model.name} is a {model.card['network']['name']} with {model.card['network']['arguments']}, the "
            f"run trains a {settings.network} with {settings.arguments}: start from a model of the same network"
        ) from error


class _Cases:
    """The pool of cases at any step: case number i enters at step (i - pool + 1) · steps_per_case."""

    def __init__(
        self,
        volumes: list[ct.Volume],
        targets: list[ct.Volume],
        settings: TrainingSettings,
        step: int,
        workers: int,
    ):
        import torch

        newest = step // settings.steps_per_case + settings.pool - 1
        self._next = newest - settings.pool + 1
        self._settings = settings
        self._pool: deque[Case] = deque(maxlen=settings.pool)
        self._loader = torch.utils.data.DataLoader(
            _CaseDataset(volumes, targets, settings),
            batch_size=None,
            sampler=_From(self._next),
            num_workers=workers,
            prefetch_factor=8 if workers else None,
            worker_init_fn=_one_thread,
            multiprocessing_context="fork" if workers and os.name == "posix" else None,
        )

    def __enter__(self):
        self._stream = iter(self._loader)
        return self

    def __exit__(self, *_):
        del self._stream

    def at(self, step: int) -> deque[Case]:
        while self._next <= step // self._settings.steps_per_case + self._settings.pool - 1:
            self._pool.append(next(self._stream))
            self._next += 1
        return self._pool


@dataclass(frozen=True)
class _CaseDataset:
    volumes: list[ct.Volume]
    targets: list[ct.Volume]
    settings: TrainingSettings

    def __getitem__(self, index: int) -> Case:
        settings = self.settings
        return make_case(
            self.volumes, index, settings.seed, settings.strategy, ranges=settings.ranges, targets=self.targets
        )


@dataclass(frozen=True)
class _From:
    """Sampler: every whole number from `first` on."""

    first: int

    def __iter__(self):
        index = self.first
        while True:
            yield index
            index += 1


def _one_thread(_worker: int) -> None:
    import torch

    torch.set_num_threads(1)


def _batch(
    pool: Sequence[Case], context: int, settings: TrainingSettings, step: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random patches, turned and mirrored at random; in HU / 1000. With a variance weight the second half of the
    batch is the first with the negative of its noise."""
    import torch

    rng = np.random.default_rng([settings.seed, 1, step])
    inputs, mirrored, targets = [], [], []
    while len(inputs) < settings.batch:
        case = pool[rng.integers(len(pool))]
        count, rows, columns = case.input.shape
        size = min(settings.patch, rows, columns)
        k = rng.integers(count)
        i, j = rng.integers(rows - size + 1), rng.integers(columns - size + 1)
        window = (slice(i, i + size), slice(j, j + size))
        target = case.target[(k, *window)]
        if np.mean(target > -950.0) < 0.1 and rng.random() < 0.8:
            continue  # mostly room air: a few are enough
        neighbours = np.clip(np.arange(k - context // 2, k + context // 2 + 1), 0, count - 1)
        if rng.random() < 0.5:
            neighbours = neighbours[::-1]
        every = np.concatenate([case.input[(neighbours, *window)], case.mirrored[(neighbours, *window)], target[None]])
        every = np.rot90(every, rng.integers(4), axes=(1, 2))
        if rng.random() < 0.5:
            every = every[:, :, ::-1]
        inputs.append(every[:context])
        mirrored.append(every[context:-1])
        targets.append(every[-1:])
    if settings.variance_weight:
        inputs, targets = inputs + mirrored, targets + targets
    x, target = (torch.from_numpy(np.stack(a)).float() / HU_PER_UNIT for a in (inputs, targets))
    return x.contiguous(memory_format=torch.channels_last), target


def _loss(output, target, noisy, settings: TrainingSettings) -> torch.Tensor:
    """Error relative to the noise of each patch, so that every dose counts alike.

    A Charbonnier penalty; the squared error of means over blocks of pixels; the squared mean error of each tissue
    in the batch, without which what is blurred, such as thin bone, comes out too low; and the noise that comes
    through, half of the difference between two results whose noise is each other's negative.
    """
    import torch

    scale = ((noisy - target) ** 2).mean((1, 2, 3), keepdim=True).sqrt() + _FLOOR_HU / HU_PER_UNIT
    mirrored = None
    if settings.variance_weight:
        # The negative of the noise has the negative of its mean, too, which no scan has: nothing else is learned of it.
        half = len(output) // 2
        output, mirrored = output[:half], output[half:]
        target, scale = target[:half], scale[:half]
    error = (output - target) / scale
    fine = ((error**2 + _SMALL_ERROR**2).sqrt() - _SMALL_ERROR).mean()
    coarse = (torch.nn.functional.avg_pool2d(error, _COARSE) ** 2).mean()
    tissue = torch.bucketize(target.contiguous(), torch.tensor(_TISSUE_HU) / HU_PER_UNIT)
    biases = []
    for index in tissue.unique():
        here = error[tissue == index]
        # The mean of a few pixels is mostly noise: it counts for little.
        biases.append(here.mean().square() * (len(here) / (len(here) + _SURE_PIXELS)))
    loss = fine + settings.bias_weight * (coarse + _TISSUE_WEIGHT * torch.stack(biases).sum())
    if mirrored is not None:
        passed = ((output - mirrored) / (2 * scale)).square().mean((1, 2, 3))
        moderate = torch.exp(-((scale.flatten() * HU_PER_UNIT / _MODERATE_HU) ** 2))
        loss = loss + settings.variance_weight * (moderate * passed).mean()
    return loss


def _update_average(average: torch.nn.Module, network: torch.nn.Module, keep: float) -> None:
    import torch

    with torch.no_grad():
        for slow, fast in zip(average.parameters(), network.parameters(), strict=True):
            slow.lerp_(fast, 1.0 - keep)


def _fraction(settings: TrainingSettings, step: int, seconds: float) -> float:
    return step / settings.steps if settings.minutes is None else seconds / (60.0 * settings.minutes)


def _open_run(folder: Path, settings: TrainingSettings, resume: bool) -> TrainingSettings:
    path = folder / "settings.json"
    if resume:
        return read_settings(folder)
    if path.exists():
        raise InputError(f"{folder} already holds a training run: resume it, or choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(settings), indent=2) + "\n")
    except OSError as error:
        raise OutputError(f"the run cannot be written to {folder}: {error.strerror or error}") from error
    return settings


def _save(folder, network, average, optimizer, step, seconds) -> None:
    import torch

    state = {
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
        "seconds": seconds,
    }
    temporary = folder / "checkpoint.pt.part"
    torch.save(state, temporary)
    os.replace(temporary, folder / "checkpoint.pt")


def _cut_log(path: Path, step: int) -> None:
    """Drop what was logged after the checkpoint: those steps are done again."""
    if path.exists():
        head, *lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([head, *(line for line in lines if int(line.split(",")[0]) <= step)]))
