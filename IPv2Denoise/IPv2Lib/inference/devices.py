"""What there is to compute on: names, memory, and how long a slice takes, measured.

Owns the survey that `ipv2 devices` prints. Which device a name means is decided in `denoise`.
"""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import Cancelled, IPv2Error
from ..io.volume import Volume
from ..models.bundle import Bundle
from ..progress import NO_PROGRESS, Progress
from .denoise import denoise
from .engines import ONNX, choose_engine
from .torch_device import choose_device, has_idle_gpu

SLICE = 512
"""Rows and columns of the slice that is measured."""


@dataclass(frozen=True)
class Device:
    """A device that was found to work.

    Attributes
    ----------
    device : str
        What `denoise.choose_device` takes.
    name : str
        For people.
    free_bytes : int or None
        Memory that nobody uses now; None where it cannot be known.
    total_bytes : int
    seconds_per_slice : float
        For 512×512 pixels, by the model that was chosen for it.
    engine : str
        What computed it, one of `engines.ENGINES`.
    """

    device: str
    name: str
    free_bytes: int | None
    total_bytes: int
    seconds_per_slice: float
    engine: str


def survey(
    choose: Callable[[str], Bundle],
    *,
    engine: str = "auto",
    progress: Progress = NO_PROGRESS,
) -> tuple[list[Device], list[str]]:
    """Try every device: one slice to warm up, then one that counts.

    Parameters
    ----------
    choose : callable
        Gives the model for a device.
    engine : str
        One of `engines.ENGINES`; ONNX Runtime is measured on the CPU only.
    progress : Progress
        Asked now and then.

    Returns
    -------
    devices : list of Device
        GPUs first, the CPU last.
    problems : list of str
        A sentence for each device that is there and does not work, or has no PyTorch.

    Raises
    ------
    BundleError
        If a model is damaged.
    Cancelled
        When `progress` is cancelled.
    """
    devices, problems = [], []
    if has_idle_gpu():
        problems.append("there seems to be a GPU, and PyTorch is not installed, which uses it: choose device 'cuda'")
    names = ["cpu"] if engine == ONNX else _present()
    for index, device in enumerate(names):
        progress.report(index / len(names), f"measuring {device}")
        name, free, total = _describe(device)
        model = choose(device)
        try:
            seconds = seconds_per_slice(device, model, progress.silent(), engine)
        except Cancelled:
            raise
        except (RuntimeError, IPv2Error) as error:  # RuntimeError: a driver or GPU that torch cannot use
            if device == "cpu":
                raise
            problems.append(f"{device} ({name}) does not work: {(str(error).splitlines() or ['?'])[0]}")
        else:
            devices.append(Device(device, name, free, total, seconds, choose_engine(model, engine, device)))
    progress.report(1.0, "measured")
    return devices, problems


def automatic() -> str:
    """The device that "auto" stands for, as `Device.device` has it."""
    device = choose_device("auto")
    return "cuda:0" if device == "cuda" else device


def _present() -> list[str]:
    try:
        import torch
    except ImportError:
        return ["cpu"]
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    apple = ["mps"] if torch.backends.mps.is_available() else []
    return [*(f"cuda:{number}" for number in range(count)), *apple, "cpu"]


def _describe(device: str) -> tuple[str, int | None, int]:
    """Name, free and total bytes."""
    import psutil

    memory = psutil.virtual_memory()
    if device == "cpu":
        return _processor(), memory.available, memory.total
    if device == "mps":
        return "Apple GPU", None, memory.total  # one memory for both
    import torch

    name = torch.cuda.get_device_name(device)
    try:
        return name, *torch.cuda.mem_get_info(device)
    except RuntimeError:
        return name, None, torch.cuda.get_device_properties(device).total_memory


def _processor() -> str:
    """Model of the processor; only Linux does not tell Python."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def seconds_per_slice(device: str, bundle: Bundle, progress: Progress = NO_PROGRESS, engine: str = "auto") -> float:
    """Time of the network for a slice of `SLICE`² on a device, after another one to warm up.

    Raises
    ------
    Cancelled
        When `progress` is cancelled.
    IPv2Error
        If the memory of the device does not suffice.
    """
    noise = np.random.default_rng(0).normal(-500.0, 100.0, (1, SLICE, SLICE))
    for _ in range(2):
        result = denoise(Volume(noise), bundle, device=device, engine=engine, progress=progress)
        if result.provenance["device"] != device:
            raise IPv2Error("its memory does not suffice; close other programs that use it")
    return result.provenance["network_seconds"]
