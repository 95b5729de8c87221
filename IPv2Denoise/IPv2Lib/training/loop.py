"""Train a denoiser: the loop, and how it pauses, stops, ends and goes on.

A run is a folder, see `run_folder`. Where batches come from is `sources`' matter, what a step does
`learner`'s, how good the network has become `validation`'s; `publishing` packs the result as a model.
Training on a purified data set needs torch, numpy and safetensors only.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..datasets.shards import PurifiedDataset
from ..errors import Cancelled, InputError, IPv2Error, OutputError
from ..inference.torch_device import choose_device
from ..io import atomic
from ..io.locks import owned
from ..progress import NO_PROGRESS, Progress
from . import distributed, run_folder
from .distributed import FirstProcessFailed, Processes
from .learner import Learner
from .run_folder import BEST_FILE, CHECKPOINT_FILE, RunWriter
from .settings import TrainingSettings, read_settings, write_settings
from .sources import OnTheFlySource, ShardSource, open_source, reopen_source
from .validation import Validation

if TYPE_CHECKING:
    import torch

    from ..io.volume import Volume

_LOG_STEPS = 10
_PROGRESS_SECONDS = 1.0
_WARM_UP_STEPS = 200  # a tenth of the steps, if that is less
_STEP_SECONDS = 5.0  # that a step may take when the run is to pause; job schedulers kill after 10 or more
_OTHERS_SECONDS = 3.0  # that the other processes leave the first one to write
_POLL_SECONDS = 0.2
_GO, _PAUSE, _STOP = 0, 1, 2


def train(
    source: PurifiedDataset | Path | str | Sequence[Volume | Path | str] | None,
    folder: Path | str,
    settings: TrainingSettings | None = None,
    *,
    targets: Sequence[Volume | Path | str] | None = None,
    resume: bool = False,
    workers: int = 1,
    device: str | None = None,
    progress: Progress = NO_PROGRESS,
    late: Callable[[str], None] | None = None,
) -> Path:
    """Train a network; return the folder of the run.

    The result is the same on the same machine however often the run was interrupted and resumed, unless its length is
    given in minutes. Under `torchrun` every process calls this with the same arguments, and makes its part of every
    batch; folders must be the same for all of them, only the first one writes.

    Parameters
    ----------
    source : PurifiedDataset or its folder, normal-dose CT or sequence of such (Volume or path), or None
        What to train on. None, to resume: what the run trained on before.
    folder : path
        The run. Must not hold a run already, unless `resume`.
    settings : TrainingSettings
        Ignored when a run is resumed: its own are read.
    targets : sequence of Volume or path, optional
        For normal-dose CT, one for each: the same scan on the same grid with less noise, to be learned in its place.
    resume : bool
        Go on from the checkpoint in `folder`; from the start if it was interrupted before the first one.
    workers : int
        Processes that make batches, or simulate blocks, while the network trains.
    device : str, optional
        In place of that of the settings, for a run that is resumed elsewhere.
    progress : Progress
        Gets a report about once a second, and is asked at every step.
    late
        Called from another thread, with a text, if a step, a validation or the first batch take too long to be waited
        for after `progress` was cancelled, which is then asked by that thread, too. The checkpoint of the last whole
        step was written, and the run may be resumed: this may end the process.

    Raises
    ------
    InputError
        Nothing to train on, or not what the settings need; a folder that holds another run, or one that somebody else
        works on; a run that cannot be resumed; a model to start from that has another network; a device that is absent,
        a batch that the processes cannot share, or too little memory on the GPU.
    Cancelled
        If `progress` was cancelled, or the run was asked to pause (`run_folder.request`); the checkpoint is written,
        and it can be resumed.
    IPv2Error
        The loss is no number any more, or something cannot be written (`OutputError`); earlier checkpoints stay.
    """
    folder = Path(folder)
    processes = distributed.of_environment()
    settings = read_settings(folder) if resume else settings or TrainingSettings()
    settings = replace(settings, device=device or settings.device)
    if settings.batch % processes.world:
        raise InputError(
            f"a batch of {settings.batch} cannot be shared by {processes.world} processes: use a multiple of that"
        )
    device = _device(settings, processes)
    with distributed.joined(processes), ExitStack() as held:

        def take() -> None:
            held.enter_context(owned(folder, "train"))
            _check_folder(folder, resume)

        def leave(text: str) -> None:
            held.close()
            if late:
                late(text)

        processes.first(take)
        # First what is soon found out; reading many scans takes long.
        learner = Learner(settings, device, processes)
        if resume and (folder / CHECKPOINT_FILE).exists():
            learner.load(folder / CHECKPOINT_FILE)
        elif settings.start_from is not None:
            learner.start_from(settings.start_from)
        if resume:
            opened = reopen_source(source, run_folder.read_data(folder), settings, targets, workers)
        else:
            opened = open_source(source if source is not None else [], settings, targets, workers)
            processes.first(lambda: _begin(folder, settings, opened))
        try:
            _Run(folder, settings, learner, opened, processes, progress, late and leave).go_on()
        finally:
            learner.release()
    return folder


class _Run:
    """A run while it goes on: when to log, validate, save and end."""

    def __init__(
        self,
        folder: Path,
        settings: TrainingSettings,
        learner: Learner,
        source: ShardSource | OnTheFlySource,
        processes: Processes,
        progress: Progress,
        late: Callable[[str], None] | None,
    ):
        self.folder, self.settings, self.learner, self.source = folder, settings, learner, source
        self.processes = processes
        self.progress = progress
        self.late, self.is_late = late, False
        self.steps = _steps(settings, source.voxels)
        self.validation = None
        self.writer: RunWriter | None = None
        if processes.leads:
            self.writer = RunWriter(folder, learner.step)
            if source.validation:
                self.validation = Validation(source.validation, learner.network.context)
        self.loss: float | None = None
        self.waited = 0.0
        self.first_step = learner.step
        self.began = self.saved = self.reported = time.monotonic()

    def go_on(self) -> None:
        """Train until the end, a pause or a stop, and say in the folder how it ended."""
        try:
            self._record(run_folder.RUNNING)
            learner = self.learner
            batches = self.source.batches(learner.network.context, learner.step, self.processes, learner.device)
            with closing(batches), self._in_time():
                wish = self._train(batches)
                if wish == _PAUSE:
                    self._save()
                else:
                    self._end(run_folder.STOPPED if wish == _STOP else run_folder.COMPLETED)
            if wish == _PAUSE:
                raise Cancelled(self._paused())
        except (Cancelled, KeyboardInterrupt) as stop:
            self._record(run_folder.PAUSED, str(stop))
            if self.processes.leads:
                raise
            raise FirstProcessFailed(str(stop)) from stop
        except Exception as error:
            explained = _in_our_words(error)
            self._record(run_folder.FAILED, " ".join(str(explained).split()) or type(error).__name__)
            if explained is error:
                raise
            raise explained from error
        finally:
            if self.writer:
                self.writer.close()

    @contextmanager
    def _in_time(self) -> Iterator[None]:
        """Save the last whole step from a thread if the present one takes too long after a wish to pause."""
        over = threading.Event()

        def watch() -> None:
            while not self.progress.cancelled():
                if over.wait(_POLL_SECONDS):
                    return
            if over.wait(_STEP_SECONDS if self.processes.leads else _STEP_SECONDS + _OTHERS_SECONDS):
                return
            with self.learner.between_steps:
                if over.is_set():
                    return
                self._save()
                self._record(run_folder.PAUSED, self._paused())
                self.is_late = True
                if self.late:
                    self.late(self._paused())

        watcher = threading.Thread(target=watch, name="in time", daemon=True)
        if self.late:
            watcher.start()
        try:
            yield
        finally:
            over.set()

    def _paused(self) -> str:
        return f"training paused at step {self.learner.step}; resume it with the same folder, {self.folder}"

    def _train(self, batches: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> int:
        """Train step by step; returns what was wished for when it ended."""
        learner, settings = self.learner, self.settings
        if learner.step % settings.validate_every == 0 and learner.step > learner.validated:
            self._validate()  # the run ended in the middle of it
        while True:
            done, wish = self._decide()
            if done >= 1.0 or wish != _GO:
                return _GO if done >= 1.0 else wish
            before = time.monotonic()
            batch = next(batches)
            self.waited += time.monotonic() - before
            rate = _learning_rate(settings, self.steps, learner.step, done)
            with learner.trained(*batch, rate):
                if learner.step % _LOG_STEPS == 0:
                    self._log(rate)
            if learner.step % settings.validate_every == 0:
                self._validate()
            if time.monotonic() - self.saved > 60 * settings.checkpoint_minutes:
                self._save()
            if time.monotonic() - self.reported > _PROGRESS_SECONDS:
                self._report()
            self._record(run_folder.RUNNING)

    def _decide(self) -> tuple[float, int]:
        """How much is done, and what is wished for, the same in every process."""
        wish = _PAUSE if self.progress.cancelled() else _GO
        if self.writer is None:  # this process does not lead
            return self._agreed(0.0, wish)
        asked = {None: _GO, "pause": _PAUSE, "stop": _STOP}[self.writer.asked()]
        return self._agreed(self._fraction(), max(wish, asked))

    def _agreed(self, done: float, wish: int) -> tuple[float, int]:
        done, highest = self.processes.highest(done, wish)
        return done, int(highest)

    def _log(self, rate: float) -> None:
        self._count_losses()
        self.learner.losses.clear()
        if self.writer:
            assert self.loss is not None  # as this is the end of a step
            self.writer.log(self.learner.step, self._seconds(), rate, self.loss, self.waited)
            self._report()
        self.waited = 0.0

    def _count_losses(self) -> None:
        """Make one number of the losses since the last line of the log, and be sure that it is one."""
        import torch

        if not self.learner.losses:
            return
        self.loss = float(torch.stack(self.learner.losses).mean())
        if not math.isfinite(self.loss):
            self.loss = None
            raise IPv2Error(
                f"the loss is not a number any more at step {self.learner.step}: begin again with a lower learning "
                "rate, or with precision float32; the last checkpoint is kept"
            )

    def _validate(self) -> None:
        if self.validation is None or self.writer is None:
            return
        learner = self.learner
        score = self.validation.score(learner.average)
        picture = self.validation.picture(learner.average)
        with learner.between_steps:
            self.writer.validation(learner.step, self._seconds(), score.rmse_hu, score.rmse_lung_hu, score.reference)
            self.writer.slice(**picture, step=learner.step)
            rmse = score.rmse_hu if math.isfinite(score.rmse_hu) else None  # of windows without a body
            if learner.best_rmse is None or (rmse is not None and rmse < learner.best_rmse):
                learner.best_step, learner.best_rmse = learner.step, rmse
                learner.write_best(self.folder / BEST_FILE)
            learner.validated = learner.step

    def _save(self) -> None:
        with self.learner.between_steps:
            self._count_losses()
            if not self.processes.leads:
                return
            if self.validation is None:
                self.learner.best_step = self.learner.step
                self.learner.write_best(self.folder / BEST_FILE)
            self.learner.save(self.folder / CHECKPOINT_FILE, self._seconds())
            self.saved = time.monotonic()

    def _end(self, state: str) -> None:
        if self.learner.step > self.learner.validated:
            self._validate()
        self._save()
        self._record(state)
        self.progress.report(1.0, f"{self.learner.step} steps done")

    def _record(self, state: str, message: str = "") -> None:
        if not self.writer or self.is_late:
            return
        if state != run_folder.RUNNING:
            run_folder.remove_request(self.folder)
        self.writer.status(
            state,
            step=self.learner.step,
            steps=self.steps,
            fraction=round(self._fraction(), 6),
            seconds_left=self._seconds_left() if state == run_folder.RUNNING else None,
            loss=self.loss,
            best_step=self.learner.best_step,
            best_rmse_hu=self.learner.best_rmse,
            message=message,
        )

    def _report(self) -> None:
        if not self.processes.leads:
            return
        self.reported = time.monotonic()
        of_all = f" of {self.steps}" if self.steps else ""
        loss = "" if self.loss is None else f", loss {self.loss:.4g}"
        left = self._seconds_left()
        rest = "" if left is None else f", {_duration(left)} left"
        self.progress.report(self._fraction(), f"step {self.learner.step}{of_all}{loss}{rest}")

    def _seconds(self) -> float:
        return self.learner.seconds + time.monotonic() - self.began

    def _fraction(self) -> float:
        if self.steps is None:
            assert self.settings.minutes is not None  # see _steps
            return min(1.0, self._seconds() / (60.0 * self.settings.minutes))
        return min(1.0, self.learner.step / self.steps)

    def _seconds_left(self) -> float | None:
        if self.steps is None:
            assert self.settings.minutes is not None
            return max(0.0, 60.0 * self.settings.minutes - self._seconds())
        done = self.learner.step - self.first_step
        return (time.monotonic() - self.began) / done * (self.steps - self.learner.step) if done else None


def _device(settings: TrainingSettings, processes: Processes) -> str:
    device = processes.device(choose_device(settings.device))
    if settings.precision == "float16" and not device.startswith("cuda"):
        raise InputError(f"precision float16 needs an NVIDIA GPU, not device {device!r}: use bfloat16 or float32")
    return device


def _check_folder(folder: Path, resume: bool) -> None:
    if not resume and run_folder.is_run(folder):
        raise InputError(f"{folder} already holds a training run: resume it, or choose another folder")
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"the run cannot be written to {folder}: it is a file")
    run_folder.remove_request(folder)  # that nobody obeyed
    atomic.sweep(folder)


def _begin(folder: Path, settings: TrainingSettings, source: ShardSource | OnTheFlySource) -> None:
    """Make the folder of a new run."""
    pairs = "simulated" if isinstance(source, OnTheFlySource) else "purified"
    run_folder.write_data(folder, source.described)
    write_settings(replace(settings, pairs=pairs), folder)


def _in_our_words(error: Exception) -> Exception:
    """What torch could not do, as an error of ours; other errors as they are."""
    import torch

    text = str(error)
    if isinstance(error, torch.cuda.OutOfMemoryError) or "can't allocate memory" in text:
        return InputError("there is too little memory: use a smaller batch, patch, pool or network, or another device")
    if "DataLoader worker" in text and "exited unexpectedly" in text:
        return IPv2Error(
            "a process that makes batches was ended from outside, perhaps for lack of (shared) memory: resume the run "
            "with 0 workers"
        )
    recording = isinstance(error, RuntimeError) and "captur" in text
    if recording or type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        reason = (text.splitlines() or ["?"])[0]
        return InputError(f"the network cannot be compiled here ({reason}): train without compiling it")
    return error


def _steps(settings: TrainingSettings, voxels: int) -> int | None:
    """Steps of a run; None if it ends by the clock."""
    if settings.minutes is not None:
        return None
    if settings.epochs is None:
        return settings.steps
    return max(1, math.ceil(settings.epochs * voxels / (settings.batch * settings.patch**2)))


def _learning_rate(settings: TrainingSettings, steps: int | None, step: int, done: float) -> float:
    warm_up = _WARM_UP_STEPS if steps is None else min(_WARM_UP_STEPS, max(1, steps // 10))
    cosine = 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * done))
    return settings.learning_rate * cosine * min(1.0, (step + 1) / warm_up)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
