"""Distances between two sets of images: Fréchet (FID) and kernel (KID) distance of the features of patches.

Owns the patches, the feature networks, and how torchmetrics is asked. The default features, `random-conv`, come from a
small convolutional network with fixed random weights: it needs no download, and its distances compare with each other
only, never with numbers from elsewhere. A network of the user's own, such as the image encoder of CLIP for a CLIP-FID,
comes as a TorchScript file.

Both distances depend on the number of patches: FID is too large for few of them. Compare methods on the same patches.
"""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import InputError
from ..hounsfield import SCORED_HU, SCORED_RANGE_HU

if TYPE_CHECKING:
    import torch

PATCH = 32
"""Pixels per side of a patch."""

LEAST_PATCHES = 32
"""With fewer there are no distances."""

RANDOM_CONV = "random-conv"
"""Name of the default features."""

USER_SIDE = 224
"""Pixels per side of what a user's network is given: (N, 3, 224, 224), 0 to 1 over `hounsfield.SCORED_HU`, grey."""

_RANDOM_FEATURES = 16  # per layer; few, so that some hundred patches suffice for a covariance
_WEAKEST = 5 / SCORED_RANGE_HU  # activation by noise that is hardly there
_KERNEL_SUBSETS = 50
_AT_ONCE = 64  # patches


@dataclass(frozen=True, eq=False)
class Features:
    """A network that turns patches into features.

    Attributes
    ----------
    name : str
        "random-conv", or the name of the user's file.
    key : str
        The same for the same network only.
    """

    name: str
    key: str
    _network: torch.nn.Module
    _side: int

    def of(self, patches: np.ndarray) -> np.ndarray:
        """Features of patches (n, rows, columns) in HU, (n, features), float32.

        Raises
        ------
        InputError
            The user's network fails, or returns something else than one row of numbers per patch.
        """
        import torch
        from torch.nn import functional

        grey = (np.clip(patches, *SCORED_HU) - SCORED_HU[0]) / SCORED_RANGE_HU
        found = []
        with torch.inference_mode():
            for start in range(0, len(grey), _AT_ONCE):
                x = torch.from_numpy(grey[start : start + _AT_ONCE, None].astype(np.float32)).expand(-1, 3, -1, -1)
                if self._side != x.shape[-1]:
                    x = functional.interpolate(x, (self._side, self._side), mode="bilinear", align_corners=False)
                found.append(self._rows(x))
        return np.concatenate(found) if found else np.zeros((0, 0), np.float32)

    def _rows(self, x: torch.Tensor) -> np.ndarray:
        import torch

        try:
            rows = self._network(x)
        except (RuntimeError, TypeError) as error:
            reason = " ".join(str(error).split())[-200:]
            raise InputError(
                f"the feature network {self.name} cannot take an input of shape {tuple(x.shape)} ({reason}): give one "
                f"for (N, 3, {USER_SIDE}, {USER_SIDE}), values 0 to 1"
            ) from error
        if not isinstance(rows, torch.Tensor) or rows.ndim != 2 or len(rows) != len(x) or not rows.isfinite().all():
            shape = tuple(rows.shape) if isinstance(rows, torch.Tensor) else type(rows).__name__
            raise InputError(
                f"the feature network {self.name} returned {shape} for {len(x)} patches: it must return finite "
                "(N, features)"
            )
        return rows.float().numpy()


def load_features(file: str | Path | None = None) -> Features:
    """The default features, or those of a TorchScript file.

    Only give files whose origin you trust: TorchScript is a program.

    Raises
    ------
    InputError
        The file cannot be read.
    """
    import torch

    if file is None:
        return Features(RANDOM_CONV, RANDOM_CONV, _random_conv(), PATCH)
    file = Path(file)
    try:
        content = file.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of the format, which is the one that CLIP comes in
            network = torch.jit.load(str(file), map_location="cpu").eval()
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"the feature network {file} cannot be read ({reason}): give a file that torch.jit.save wrote"
        ) from error
    return Features(file.name, hashlib.sha256(content).hexdigest(), network, USER_SIDE)


def patch_places(inside: np.ndarray) -> np.ndarray:
    """First row and column, (n, 2), of the patches of a grid that lie in a region by half or more.

    Parameters
    ----------
    inside : ndarray of bool, shape (rows, columns)
        The body.
    """
    rows, columns = (length // PATCH for length in inside.shape)
    if not rows or not columns:
        return np.zeros((0, 2), int)
    blocks = inside[: rows * PATCH, : columns * PATCH].reshape(rows, PATCH, columns, PATCH)
    return np.argwhere(blocks.mean((1, 3)) >= 0.5) * PATCH


def cut_patches(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Patches (n, 32, 32) of a slice."""
    patches = [image[row : row + PATCH, column : column + PATCH] for row, column in places]
    return np.asarray(patches, np.float32).reshape(-1, PATCH, PATCH)


def frechet_distance(reference: np.ndarray, result: np.ndarray) -> float:
    """Fréchet distance (torchmetrics) of two sets of features; NaN for fewer than 32 patches.

    Parameters
    ----------
    reference, result : ndarray, shape (patches, features)

    References
    ----------
    Heusel et al., NeurIPS 2017.
    """
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance

    if min(len(reference), len(result)) < LEAST_PATCHES:
        return float("nan")
    metric = FrechetInceptionDistance(feature=_as_they_are(reference.shape[1]))
    for features, real in ((reference, True), (result, False)):
        metric.update(torch.from_numpy(np.asarray(features, np.float64)), real=real)
    return float(metric.compute())


def kernel_distance(reference: np.ndarray, result: np.ndarray, seed: int = 0) -> float:
    """Kernel distance (torchmetrics, cubic polynomial) of two sets of features; NaN for fewer than 32 patches.

    The mean over 50 random subsets of half of the patches, 1,000 at most. Unbiased for independent sets, so it can be
    below 0; patches of the same anatomy are more alike than that, and good results are a little below 0.

    Parameters
    ----------
    reference, result : ndarray, shape (patches, features)
    seed : int
        Of the subsets.

    References
    ----------
    Bińkowski et al., ICLR 2018.
    """
    import torch
    from torchmetrics.image.kid import KernelInceptionDistance

    least = min(len(reference), len(result))
    if least < LEAST_PATCHES:
        return float("nan")
    with torch.random.fork_rng([]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the memory for features, of which there are few
        torch.manual_seed(seed)
        metric = KernelInceptionDistance(
            feature=_as_they_are(reference.shape[1]), subsets=_KERNEL_SUBSETS, subset_size=min(1000, least // 2)
        )
        for features, real in ((reference, True), (result, False)):
            metric.update(torch.from_numpy(np.asarray(features, np.float64)), real=real)
        return float(metric.compute()[0])


def _as_they_are(features: int) -> torch.nn.Module:
    """A feature network for torchmetrics that is given features."""
    import torch

    identity: Any = torch.nn.Identity()
    identity.num_features = features
    return identity


def _random_conv() -> torch.nn.Module:
    """Three layers with fixed random weights; the features are the mean activations of the last two, as logarithms."""
    import torch
    from torch import nn

    class RandomConv(nn.Module):
        def __init__(self):
            super().__init__()
            generator = torch.Generator().manual_seed(0)
            sizes = ((1, 16, 5, 1), (16, _RANDOM_FEATURES, 3, 2), (_RANDOM_FEATURES, _RANDOM_FEATURES, 3, 2))
            self.layers = nn.ModuleList(nn.Conv2d(i, o, k, stride=s, bias=False) for i, o, k, s in sizes)
            for layer in self.layers:
                weight = torch.randn(layer.weight.shape, generator=generator)
                if layer is self.layers[0]:
                    weight = weight - weight.mean((2, 3), keepdim=True)  # edges and texture, not brightness
                layer.weight.data = weight / weight.flatten(1).norm(dim=1)[:, None, None, None] * 2**0.5

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x[:, :1]
            found = []
            for layer in self.layers:
                x = torch.relu(layer(x))
                found.append(x.mean((2, 3)))
            # Of the logarithm, so that the weak texture of soft tissue counts beside the edges of bone.
            return torch.log1p(torch.cat(found[1:], 1) / _WEAKEST)

    return RandomConv().eval()
