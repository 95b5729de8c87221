"""Several processes that train one network together, as `torchrun` starts them.

Owns which of them this one is, and what they exchange. Without `torchrun` there is one, and nothing is exchanged. How a
batch is shared is `sources`' matter.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InputError, IPv2Error

if TYPE_CHECKING:
    import torch


_LET_GO_SECONDS = 0.2


class FirstProcessFailed(IPv2Error):
    """The first process failed and says why; this one has nothing to add."""


@dataclass(frozen=True)
class Processes:
    """The processes that train together, seen from one of them.

    Attributes
    ----------
    rank, world : int
        Number of this process, and how many there are.
    local, beside : int
        Its number on its machine, and how many there are on it.
    """

    rank: int = 0
    world: int = 1
    local: int = 0
    beside: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device of this process for what `torch_device.choose_device` gave.

        Raises
        ------
        InputError
            If there are not enough GPUs.
        """
        import torch

        if self.world == 1 or not name.startswith("cuda"):
            return name
        if name != "cuda":
            raise InputError(f"{self.world} processes cannot share device {name!r}: use 'cuda', for one GPU each")
        if self.beside > torch.cuda.device_count():
            raise InputError(
                f"{self.beside} processes on this machine and {torch.cuda.device_count()} GPUs: start one for each GPU"
            )
        return f"cuda:{self.local}"

    def highest(self, *values: float) -> list[float]:
        """The highest of each of these numbers over all processes."""
        if self.world == 1:
            return list(values)
        import torch
        import torch.distributed

        every = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(every, torch.distributed.ReduceOp.MAX)
        return every.tolist()

    def total(self, part: torch.Tensor) -> torch.Tensor:
        """Sum over all processes, through which gradients flow.

        Every process makes the same loss of the same sums. Its gradient by a sum goes to this process's part times the
        number of processes, because DistributedDataParallel takes the mean over the processes of what they find: the
        result is the gradient that a single process would find.
        """
        if self.world == 1:
            return part
        import torch.distributed

        whole = part.detach().clone()
        torch.distributed.all_reduce(whole)
        scaled = self.world * part
        return whole + (scaled - scaled.detach())

    def first(self, work: Callable[[], None]) -> None:
        """Let the first process do something while the others wait; if it fails, all do.

        Raises
        ------
        IPv2Error
            What `work` raised; in the other processes `FirstProcessFailed`.
        """
        failed = None
        if self.leads:
            try:
                work()
            except IPv2Error as error:
                failed = error
        if any(self.highest(failed is not None)):
            raise failed or FirstProcessFailed("the first process failed")


def of_environment() -> Processes:
    """What `torchrun` says in the environment; one process without it."""
    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
    if not all(name in os.environ for name in (*names, "MASTER_ADDR")):
        return Processes()
    return Processes(*(int(os.environ[name]) for name in names))


@contextmanager
def joined(processes: Processes) -> Iterator[None]:
    """Be connected to the others: small things through the CPU (gloo), gradients on GPUs through NCCL."""
    if processes.world == 1:
        yield
        return
    import torch
    import torch.distributed

    nccl = torch.cuda.is_available() and torch.distributed.is_nccl_available()
    torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if nccl else "gloo")
    try:
        yield
        processes.highest(0)  # nobody leaves while another one still talks
    finally:
        # The threads of gloo let go of a tensor a little after it was exchanged, and live as long as the process once
        # gradients were shared. One that does so while Python shuts down aborts the process.
        time.sleep(_LET_GO_SECONDS)
        torch.distributed.destroy_process_group()
