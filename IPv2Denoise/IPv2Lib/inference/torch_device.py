"""What torch computes on: the device that a name means, if it is there.

Which devices there are and how fast they are is `devices`' matter. Needs nothing but torch, since training from
prepared data runs where no image library is installed.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from pathlib import Path

from .. import packages
from ..errors import InputError


def choose_device(name: str = "auto", engine: str = "auto") -> str:
    """The torch device for a name, checked to be present.

    `auto` is an NVIDIA or ROCm GPU if torch is installed and sees one, unless the engine is ONNX Runtime, else the CPU;
    `mps` (Apple) is used when asked for.

    Raises
    ------
    InputError
        For another name, or a device that is absent.

    Examples
    --------
    >>> choose_device("cpu")
    'cpu'
    """
    if name == "cpu" or (name == "auto" and (engine == "onnxruntime" or not _may_use_gpu())):
        return "cpu"
    packages.need("torch", f"device {name!r}")
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise InputError("device 'mps' is absent: it needs an Apple GPU; choose 'auto' or 'cpu'")
        return name
    kind, _, number = name.partition(":")
    if kind != "cuda" or name == "cuda:" or not (number.isdecimal() or name == "cuda"):
        raise InputError(f"unknown device {name!r}: choose 'auto', 'cpu', 'cuda', 'cuda:0' or 'mps'")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        raise InputError(f"device {name!r} is absent: torch sees {count} CUDA devices; choose 'auto' or 'cpu'")
    return name


def has_idle_gpu() -> bool:
    """Whether there seems to be a GPU, and no PyTorch to use it."""
    return not packages.is_here("torch") and _has_driver()


def _may_use_gpu() -> bool:
    """Whether PyTorch is there and may see an NVIDIA or ROCm GPU; asking PyTorch itself takes a second or more."""
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return False
    return not version.endswith("+cpu") and (sys.platform == "win32" or _has_driver())


def _has_driver() -> bool:
    if sys.platform == "win32":
        return Path(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "nvcuda.dll").exists()
    return any(Path(place).exists() for place in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))
