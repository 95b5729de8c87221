"""The denoising networks by name; one file per network, imported only when it is built.

A network is a `torch.nn.Module` that maps `(batch, context, rows, columns)` to `(batch, 1, rows, columns)`: the
denoised centre slice of `context` neighbouring ones. Both are HU / 1000, any size from 2×2 up. Attributes:

- `context`: slices that it reads, odd;
- `multiple` (1 if absent): side of the blocks in which it sees pixels, so where a tile may start;
- `halo`: pixels around a tile that matter for it (96 if absent). `ffm` and `denomamba` see the whole slice: tiles of
  them are valid results, but not the same.

A generative one also has `steps`, and `training_error(x, target, uniform)`: an error image whose mean square training
minimises, given numbers from 0 to 1 that the caller draws. A zero-shot one has no weights.

Weights on disk belong to `bundle`, inference to `denoise`.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError

if TYPE_CHECKING:
    import torch

    class Network(torch.nn.Module):
        """What every network has; `training_error` only some."""

        context: int

        def training_error(
            self, x: torch.Tensor, target: torch.Tensor, uniform: torch.Tensor | None
        ) -> torch.Tensor: ...


HU_PER_UNIT = 1000.0
"""HU per unit of what a network reads and returns."""

HALO = 96
"""Pixels that surround a tile, for a network that does not say how far it sees."""


@dataclass(frozen=True)
class NetworkInfo:
    """What one can know of a network without building it.

    Attributes
    ----------
    name : str
        As for `build`.
    title, reference : str
        For people: what it is called, and where it was published.
    zero_shot : bool
        It is fitted to each slice that it denoises: it has no weights, and there is nothing to train.
    generative : bool
        It goes from the noisy slice to the clean one in steps; its attribute `steps` says how many.
    no_graph : str
        Why it runs on PyTorch only, see `models.graph`; empty if it does not.
    """

    name: str
    title: str
    reference: str
    zero_shot: bool = False
    generative: bool = False
    no_graph: str = ""


@dataclass(frozen=True)
class _Entry:
    module: str
    network_class: str
    title: str
    reference: str
    zero_shot: bool = False
    generative: bool = False
    arguments: str | None = None  # name of a dict in the module: what differs from the defaults
    no_graph: str = ""  # why it cannot be written as ONNX


_SCANS = "it goes through the pixels one after the other, in a graph of its own for each size of slice"
_FOURIER = "it computes Fourier transforms, which are no operators of ONNX"
_NETWORKS = {
    "denomamba": _Entry(
        "denomamba", "DenoMamba", "DenoMamba", "Öztürk et al., IEEE J. Biomed. Health Inform. 2025", no_graph=_SCANS
    ),
    "dncnn": _Entry("dncnn", "DnCNN", "DnCNN", "Zhang et al., IEEE Trans. Image Process. 26(7), 2017"),
    "ffm": _Entry("ffm", "FFM", "FFM, compact", "Gong et al., arXiv 2510.07492", generative=True, no_graph=_FOURIER),
    "ffm-published": _Entry(
        "ffm",
        "FFM",
        "FFM, published size",
        "Gong et al., arXiv 2510.07492",
        generative=True,
        arguments="PUBLISHED",
        no_graph=_FOURIER,
    ),
    "implicit": _Entry(
        "implicit",
        "Implicit",
        "Implicit representation of one slice",
        "Sitzmann et al., NeurIPS 2020; Kim et al., arXiv 2204.02405",
        zero_shot=True,
        no_graph="it is fitted to each slice",
    ),
    "ipv2net": _Entry(
        "ipv2net", "IPv2Net", "U-Net on noise at its own scale", "blocks of Liu et al., CVPR 2022 (ConvNeXt)"
    ),
    "redcnn": _Entry("redcnn", "REDCNN", "RED-CNN", "Chen et al., IEEE Trans. Med. Imaging 36(12), 2017"),
    "scunet": _Entry("scunet", "SCUNet", "SCUNet", "Zhang et al., Machine Intelligence Research 20(6), 2023"),
    "structkpn": _Entry("structkpn", "StructKPN", "StructKPN", "Xu et al., IEEE ICIP 2021"),
    "unet": _Entry("unet", "UNet", "Compact residual U-Net", "blocks of Zhang et al., IEEE TPAMI 44(10), 2022"),
}


def names() -> tuple[str, ...]:
    """Names that `build` knows, sorted.

    Examples
    --------
    >>> names()
    ('denomamba', 'dncnn', 'ffm', 'ffm-published', 'implicit', 'ipv2net', 'redcnn', 'scunet', 'structkpn', 'unet')
    """
    return tuple(sorted(_NETWORKS))


def summary(name: str) -> NetworkInfo:
    """What is known of a network without building it, and without importing torch.

    Raises
    ------
    InputError
        For an unknown name.

    Examples
    --------
    >>> summary("redcnn").title
    'RED-CNN'
    """
    entry = _entry(name)
    return NetworkInfo(name, entry.title, entry.reference, entry.zero_shot, entry.generative, entry.no_graph)


def build(name: str, *, most_weights: int | None = None, **arguments) -> Network:
    """A network with freshly initialised weights.

    Parameters
    ----------
    name : str
        One of `names()`.
    most_weights : int, optional
        Build none with more weights. Default: `limits.MOST_WEIGHTS`.
    **arguments
        Keyword arguments of the network's class.

    Raises
    ------
    InputError
        For an unknown name, or arguments that the network does not take or that make it larger than `limits` says;
        before it takes memory.
    """
    from . import limits

    entry = _entry(name)
    module = importlib.import_module(f".{entry.module}", __package__)
    if entry.arguments:
        arguments = getattr(module, entry.arguments) | arguments
    most_weights = limits.MOST_WEIGHTS if most_weights is None else min(most_weights, limits.MOST_WEIGHTS)

    def make() -> Network:
        return getattr(module, entry.network_class)(**arguments)

    try:
        limits.check_arguments(arguments)
        limits.check_size(make, most_weights)
        return make()
    except (TypeError, ValueError, RuntimeError, OverflowError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"network {name!r} cannot be built with {_short(arguments)}: {reason}") from error


def _short(arguments: dict[str, Any]) -> str:
    text = repr(arguments)
    return text if len(text) <= 200 else text[:197] + "..."


def _entry(name: str) -> _Entry:
    if name not in _NETWORKS:
        raise InputError(f"unknown network {name!r}: choose one of {', '.join(names())}")
    return _NETWORKS[name]
