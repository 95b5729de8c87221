"""What computes a network: ONNX Runtime on the CPU, which is small and fast there, or PyTorch, on every device.

Owns the choice between them, and what of a network one must know to feed it: how many slices it sees, and how slices
may be cut. Arrays go in and come out; memory that runs out is a `MemoryError`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Protocol, cast

import numpy as np

from .. import packages
from ..errors import BundleError, InputError
from ..models import graph
from ..models.bundle import Bundle
from ..models.card import CardGraph
from ..parallel.threads import cores
from .options import ENGINES

_, ONNX, TORCH = ENGINES

MOST_PARALLEL = 2
"""Runs of ONNX Runtime at once: each takes 0.1 to 0.3 GB for a slice of 512×512 pixels."""


class Engine(Protocol):
    """A network that is ready to run.

    Attributes
    ----------
    name : str
        One of `ENGINES`.
    version : str
        Of the package behind it.
    device : str
        As `choose_device` returns it.
    context, multiple, halo : int
        See `networks.registry`.
    parallel : int
        How many calls of `run` may go on at once.
    """

    name: str
    version: str
    device: str
    context: int
    multiple: int
    halo: int
    parallel: int

    def run(self, slices: np.ndarray) -> np.ndarray:
        """What the network makes of (batch, context, rows, columns), HU / 1000: (batch, rows, columns), float32.

        Raises
        ------
        MemoryError
            The memory of the device does not suffice.
        """
        ...


def choose_engine(bundle: Bundle, name: str = "auto", device: str = "cpu") -> str:
    """The engine that is to run a model on a device, and is installed: see `suitable_engine`, and `packages.need`."""
    engine = suitable_engine(bundle, name, device)
    purpose = f"engine {engine!r}"
    if name == "auto" and engine == ONNX:
        purpose = "denoising on the CPU"
    elif name == "auto":
        without = f"model {bundle.name!r}, which has no graph for ONNX Runtime,"
        purpose = without if device == "cpu" else f"device {device!r}"
    packages.need(engine, purpose)
    return engine


def suitable_engine(bundle: Bundle, name: str = "auto", device: str = "cpu") -> str:
    """The engine that fits a model and a device, whether or not it is installed.

    Parameters
    ----------
    bundle : Bundle
    name : str
        One of `ENGINES`; "auto" is ONNX Runtime on the CPU, where the model has a graph, unless only PyTorch is
        installed; or else PyTorch.
    device : str
        As `choose_device` returns it.

    Raises
    ------
    InputError
        An unknown engine, or one that cannot run this model there.
    """
    if name not in ENGINES:
        raise InputError(f"unknown engine {name!r}: choose one of {', '.join(ENGINES)}")
    if name == ONNX:
        if device != "cpu":
            raise InputError(f"ONNX Runtime is for the CPU, not for {device!r}: choose device 'cpu' or engine 'torch'")
        if not bundle.has_graph:
            raise InputError(f"model {bundle.name!r} has no graph for ONNX Runtime: choose engine 'torch'")
    if name != "auto":
        return name
    only_torch = packages.is_here(TORCH) and not packages.is_here(ONNX)
    return ONNX if device == "cpu" and bundle.has_graph and not only_torch else TORCH


def open_engine(bundle: Bundle, name: str = "auto", device: str = "cpu", calls: int = 1) -> Engine:
    """A model ready to run, so many times; else as `choose_engine`, and `BundleError` if the model is damaged."""
    return OnnxEngine(bundle, calls) if choose_engine(bundle, name, device) == ONNX else TorchEngine(bundle, device)


class OnnxEngine:
    """See `Engine`.

    Two runs side by side, each on half of the cores, take up to 7 % less time than one after the other on all of them,
    and more on a busy machine: where one waits for its threads, the other works.
    """

    name: str = ONNX
    device: str = "cpu"

    def __init__(self, bundle: Bundle, calls: int = 1):
        self.version: str = graph.runtime().__version__
        self.parallel = min(calls, MOST_PARALLEL, cores())
        self._session = bundle.session(threads=cores() // self.parallel)
        self._folder = bundle.folder
        facts = cast(CardGraph, bundle.card.graph)
        self.context, self.multiple, self.halo = facts.context, facts.multiple, facts.halo

    def run(self, slices: np.ndarray) -> np.ndarray:
        """See `Engine.run`."""
        try:
            (answer,) = self._session.run([graph.OUTPUT], {graph.INPUT: np.ascontiguousarray(slices)})
        except Exception as error:  # ONNX Runtime's own classes have no common root
            if _is_out_of_memory(error):
                raise MemoryError(str(error)) from error
            raise self._error(f"fails on slices of {slices.shape} ({graph.reason(error)})") from error
        if answer.shape != (len(slices), 1, *slices.shape[2:]):
            raise self._error(f"makes {answer.shape} of slices of {slices.shape}")
        return answer[:, 0]

    def _error(self, what: str) -> BundleError:
        return BundleError(f"{self._folder / graph.GRAPH_FILE} {what}: copy the model again, or use --engine torch")


class TorchEngine:
    """See `Engine`."""

    name: str = TORCH
    parallel: int = 1

    def __init__(self, bundle: Bundle, device: str):
        import torch

        self.version: str = torch.__version__
        self.device: str = device
        self._network = bundle.network()
        facts = graph.facts(self._network)
        self.context, self.multiple, self.halo = facts["context"], facts["multiple"], facts["halo"]
        with _memory_errors():
            self._network = self._network.to(device)
            if device != "mps":
                self._network = self._network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in the stub

    def run(self, slices: np.ndarray) -> np.ndarray:
        """See `Engine.run`."""
        import torch

        with torch.inference_mode(), _repeatable(self.device), _memory_errors():
            x = torch.from_numpy(np.ascontiguousarray(slices)).to(self.device)
            if self.device != "mps":
                x = x.contiguous(memory_format=torch.channels_last)
            return self._network(x)[:, 0].float().cpu().numpy()


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    """Raise what PyTorch says of memory as a `MemoryError`, which holds no tensors."""
    try:
        yield
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        text = str(error)
    else:
        return
    raise MemoryError(text)  # outside of `except`: the error's traceback keeps the tensors of the failed batch alive


def _repeatable(device: str) -> contextlib.AbstractContextManager:
    """On an NVIDIA GPU: algorithms that give the same bytes each time, in true float32."""
    import torch

    if not device.startswith("cuda"):
        return contextlib.nullcontext()
    return torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False)


def _is_out_of_memory(error: Exception) -> bool:
    # MPS, the CPU allocator and ONNX Runtime raise plain errors.
    texts = ("out of memory", "can't allocate memory", "not enough memory", "failed to allocate", "bad allocation")
    return isinstance(error, MemoryError) or any(text in str(error).lower() for text in texts)
