"""What learns: a network, the average of its weights, and the optimiser; one step, checkpoints, and weights on disk.

Owns `checkpoint.pt` and `best.safetensors`. When to step, save and validate is decided in `training`, what is minimised
is in `losses`.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError, OutputError, reason
from ..io.atomic import new_file
from ..models import bundle
from ..networks import registry
from .distributed import Processes
from .losses import mean_square, training_loss
from .run_folder import BEST_FILE, CHECKPOINT_FILE
from .settings import TrainingSettings

if TYPE_CHECKING:
    import torch

    from ..networks.registry import Network

_EAGER_STEPS = 10  # before a step is recorded: the first ones find out how to compute


class Learner:
    """A network that is being trained.

    Attributes
    ----------
    network, average : torch.nn.Module
        As it is, and with the moving average of its weights, in evaluation mode.
    step, seconds : int, float
        Steps done, and the time that they took until the checkpoint that was loaded.
    losses : list of Tensor
        Of the steps since the last line of the log.
    validated : int
        The step of the last validation.
    best_step, best_rmse : int or None, float or None
        Of the weights in `best.safetensors`.
    between_steps : threading.RLock
        Who holds it finds the state of a whole step, which `save` writes, and keeps it from changing. That is so during
        nearly all of a step.

    Parameters
    ----------
    settings : TrainingSettings
    device : str
    processes : Processes
        Those that train together.

    Raises
    ------
    InputError
        The network cannot be built with its arguments.
    """

    def __init__(self, settings: TrainingSettings, device: str, processes: Processes):
        import torch

        self.settings, self.device, self.processes = settings, device, processes
        self.kind = torch.device(device).type
        torch.manual_seed(settings.seed)
        self.network = registry.build(settings.network, **settings.arguments)
        self.average = registry.build(settings.network, **settings.arguments).eval().requires_grad_(False)
        self.average.load_state_dict(self.network.state_dict())
        if processes.world > 1 and self.kind == "cuda":
            self.network = torch.nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        for network in (self.network, self.average):
            network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in PyTorch's stub
        self._records = is_recorded(settings, self.kind, processes.world)
        # A rate that is recorded is one that can be changed where it lies.
        rate = torch.tensor(settings.learning_rate, device=device) if self._records else settings.learning_rate
        self._options: dict[str, Any] = {"lr": rate, "fused": self.kind == "cuda" or None, "capturable": False}
        self.optimizer = torch.optim.AdamW(self.network.parameters(), weight_decay=1e-4, **self._options)
        # PyTorch 2.2 has it in another place.
        make_scaler = torch.amp.GradScaler if hasattr(torch.amp, "GradScaler") else torch.cuda.amp.GradScaler
        self.scaler = make_scaler(enabled=settings.precision == "float16")
        self.has_own_error = hasattr(self.network, "training_error")
        self.step, self.seconds = 0, 0.0
        self.losses: list[torch.Tensor] = []
        self.validated = 0
        self.best_step: int | None = None
        self.best_rmse: float | None = None
        self.between_steps = threading.RLock()
        self._kept_buffers: dict[str, torch.Tensor] = {}
        self._answer: Callable[..., torch.Tensor] | None = None
        self._recorded: Recorded | None = None
        self._steps_here = 0

    def release(self) -> None:
        """Let go of what shares gradients, as its threads must end before the connection that they use; and of the
        memory of a recorded step."""
        self._answer = self._recorded = None

    def start_from(self, name: str) -> None:
        """Take the weights of a model.

        Raises
        ------
        InputError
            There is no such model, or it has another network.
        """
        model = bundle.load(name)
        weights = model.network().state_dict()
        for network in (self.network, self.average):
            try:
                network.load_state_dict(weights)
            except RuntimeError as error:
                of_model = model.card.network
                raise InputError(
                    f"model {model.name} is a {of_model.name} with {of_model.arguments}, the run trains a "
                    f"{self.settings.network} with {self.settings.arguments}: start from a model of the same network"
                ) from error

    @contextmanager
    def trained(self, x: torch.Tensor, target: torch.Tensor, rate: float) -> Iterator[None]:
        """One step with this process's part of a batch; adds the loss of the whole batch to `losses`.

        What is done in the `with` belongs to the step: nobody sees the one without the other.
        """
        import torch

        for group in self.optimizer.param_groups:
            if self._records:
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        x = x.to(self.device, memory_format=torch.channels_last)
        target = target.to(self.device)
        if self._records and self._steps_here == _EAGER_STEPS:
            for group in self.optimizer.param_groups:
                group["capturable"] = True  # said only now, as the steps until here were slow with it: so PyTorch warns
            self._recorded = Recorded(self._learn, x, target)
        loss = None
        if self._recorded is None:
            with self.between_steps:
                self._kept_buffers = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
            loss = self._find_gradients(x, target)
        with self.between_steps:
            if self._recorded:
                loss = self._recorded(x, target)
            else:
                self._change_weights()
            self.step += 1
            self._steps_here += 1
            self._update_average(min(self.settings.average, self.step / (self.step + 9)))
            assert loss is not None  # of one of the two ways to learn
            self.losses.append(loss)
            self._kept_buffers = {}
            yield

    def _learn(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Change the weights; the loss that they had. What is recorded may not wait for the device that trains."""
        loss = self._find_gradients(x, target)
        self._change_weights()
        return loss

    def _find_gradients(self, x: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Nearly all of a step. Of what `save` writes it changes buffers only, which are kept as they were."""
        import torch

        settings, total = self.settings, self.processes.total
        if self._answer is None:
            self._answer = self._wrapped()
        self.optimizer.zero_grad(set_to_none=True)
        precision = getattr(torch, settings.precision)
        half = precision != torch.float32
        # A recorded step may not use what an earlier one has kept.
        with torch.autocast(self.kind, precision if half else None, half, cache_enabled=not self._records):
            answer = self._answer(x, target, self._uniform() if self.has_own_error else None)
        if self.has_own_error:
            loss = mean_square(answer.float(), total)
        else:
            loss = training_loss(
                answer.float(), target, x[:, self.network.context // 2, None], loss=settings.loss,
                small_error=settings.small_error, bias_weight=settings.bias_weight, bias_pixels=settings.bias_pixels,
                variance_weight=settings.variance_weight, total=total,
            )  # fmt: skip
        self.scaler.scale(loss).backward()
        return loss.detach()

    def _change_weights(self) -> None:
        import torch

        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def save(self, path: Path, seconds: float) -> None:
        """Write the checkpoint, all of it or none: the last step that is whole. Hold `between_steps`."""
        import torch

        network = self.network.state_dict()
        state = {
            "network": network | {name: buffer for name, buffer in self._kept_buffers.items() if name in network},
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "step": self.step,
            "seconds": seconds,
            "losses": self.losses,
            "validated": self.validated,
            "best_step": self.best_step,
            "best_rmse": self.best_rmse,
        }
        try:
            with new_file(path) as temporary, open(temporary, "wb") as file:
                torch.save(state, file)
        except RuntimeError as error:  # what PyTorch makes of a full disk
            cause = error.__context__
            why = reason(cause) if isinstance(cause, OSError) else error
            raise OutputError(f"{path} cannot be written ({why}): make room and resume the run") from error

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises
        ------
        InputError
            It cannot be read.
        """
        import torch

        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            for group in state["optimizer"]["param_groups"]:
                group.update(self._options)  # another device may have saved it
            for name in ("network", "average", "optimizer"):
                getattr(self, name).load_state_dict(state[name])
            if state.get("scaler"):
                self.scaler.load_state_dict(state["scaler"])
            self.step, self.seconds = state["step"], state["seconds"]
            self.losses = list(state.get("losses", []))
            self.validated = state.get("validated", self.step)
            self.best_step, self.best_rmse = state.get("best_step"), state.get("best_rmse")
        except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError) as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path} cannot be read ({reason}): remove it to begin the run again") from error

    def write_best(self, path: Path) -> None:
        """Write the averaged weights, with the step that they are of."""
        from safetensors.torch import save

        weights = {name: tensor.cpu().contiguous() for name, tensor in self.average.state_dict().items()}
        data = save(weights, {"step": str(self.step)})
        with new_file(path) as temporary:
            temporary.write_bytes(data)

    def _wrapped(self) -> Callable[..., torch.Tensor]:
        """What is called with a batch: shared between the processes and compiled, if so."""
        import torch

        class Answer(torch.nn.Module):
            """Result of a network, or its own idea of its error: what DistributedDataParallel has to see."""

            def __init__(self, network: Network, has_own_error: bool):
                super().__init__()
                self.network, self.has_own_error = network, has_own_error

            def forward(self, x: torch.Tensor, target: torch.Tensor, uniform: torch.Tensor | None) -> torch.Tensor:
                return self.network.training_error(x, target, uniform) if self.has_own_error else self.network(x)

        self.network.train()
        answer: Any = Answer(self.network, self.has_own_error)
        if self.settings.compile:
            answer = torch.compile(answer)
        if self.processes.world > 1:
            devices = [self.device] if self.kind == "cuda" else None
            answer = torch.nn.parallel.DistributedDataParallel(answer, devices)
        return answer

    def _uniform(self) -> torch.Tensor:
        """For each patch of this process a number from 0 to 1."""
        import torch

        settings, processes = self.settings, self.processes
        uniform = np.random.default_rng([settings.seed, 2, self.step]).random(settings.batch, np.float32)
        return torch.from_numpy(uniform[processes.rank :: processes.world]).to(self.device)

    def _update_average(self, keep: float) -> None:
        import torch

        average = torch.optim.swa_utils.get_ema_multi_avg_fn(keep)
        average(list(self.average.parameters()), list(self.network.parameters()), None)
        with torch.no_grad():
            for slow, fast in zip(self.average.buffers(), self.network.buffers(), strict=True):
                slow.copy_(fast)


def is_recorded(settings: TrainingSettings, kind: str, world: int) -> bool:
    """Whether steps are recorded: if the network is compiled, for one NVIDIA GPU.

    A GPU does a step of a small network sooner than the processor can ask for its thousands of parts one by one.
    Networks that flow draw numbers at every step, and float16 decides at every step whether to use it.
    """
    generative = registry.summary(settings.network).generative
    return settings.compile and kind == "cuda" and world == 1 and settings.precision != "float16" and not generative


class Recorded:
    """A step as one CUDA graph, recorded for batches of this shape: call it with a batch, and it gives the loss."""

    def __init__(self, learn: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], x: torch.Tensor, y: torch.Tensor):
        import torch

        self.x, self.y, self.graph = x.clone(), y.clone(), torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = learn(self.x, self.y)

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.x.copy_(x)
        self.y.copy_(y)
        self.graph.replay()
        return self.loss.clone()


def load_weights(run: Path | str, *, last: bool = False) -> tuple[dict[str, torch.Tensor], int]:
    """The averaged weights of a run, the best ones or those of the last checkpoint, and the step that they are of.

    Raises
    ------
    InputError
        If there are none yet, or they cannot be read.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    path = Path(run) / (CHECKPOINT_FILE if last else BEST_FILE)
    if not path.exists():
        other = "" if last else ", or take the last ones"
        raise InputError(f"{run} holds no {'checkpoint' if last else 'best weights'} yet: train for longer{other}")
    try:
        if last:
            state = torch.load(path, map_location="cpu", weights_only=True)
            return state["average"], state["step"]
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, int(file.metadata()["step"])  # noqa: SIM118
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise InputError(f"{path} cannot be read ({error}): resume the run, which writes it again") from error
