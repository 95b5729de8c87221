"""IPv2: image purification, simulation and denoising for ultra-low-dose lung CT, without the Slicer application.

Examples
--------
>>> import IPv2Lib as ipv2
>>> scan = ipv2.read("scan.nrrd")  # doctest: +SKIP
>>> result = ipv2.denoise(scan, ipv2.load_model(), strength=0.9)  # doctest: +SKIP
>>> ipv2.write(result.volume, "denoised.nrrd")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .evaluation.comparison import compare
    from .inference.blending import blend
    from .inference.denoise import denoise
    from .io.files import read, write
    from .io.volume import Volume
    from .models.bundle import load as load_model
    from .purification.purify import purify
    from .simulation.dose import simulate
    from .training.loop import train

__version__ = "0.1.0"

_ROOMS = {
    "Volume": "io.volume",
    "blend": "inference.blending",
    "compare": "evaluation.comparison",
    "denoise": "inference.denoise",
    "load_model": "models.bundle",
    "purify": "purification.purify",
    "read": "io.files",
    "simulate": "simulation.dose",
    "train": "training.loop",
    "write": "io.files",
}
"""Where the public functions are; each room is entered when it is needed, since some of them take seconds to import."""

_ELSEWHERE = {"load_model": "load"}
"""What is called otherwise there."""

__all__ = [
    "Volume", "blend", "compare", "denoise", "load_model", "purify", "read", "simulate", "train", "write",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_ROOMS[name]}", __name__), _ELSEWHERE.get(name, name))


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
