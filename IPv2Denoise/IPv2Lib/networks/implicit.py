"""A zero-shot implicit representation: small networks from coordinates to HU, fitted to the slice that they denoise.

Random Fourier features of the coordinates (Tancik et al., NeurIPS 2020), a layer of sines (Sitzmann et al., NeurIPS
2020) and a linear one. Such a network follows structure before noise, so fitting ends early (Kim et al., arXiv
2204.02405). One network for a whole slice either blurs bone or learns the noise, and needs minutes: here each patch
has its own (as in Reiser et al., ICCV 2021), all fitted at once, and patches overlap and fade into each other.
Because the noise of CT is smooth itself, an early end alone removes little of it; the total variation of what is
represented (Rudin et al., 1992) is therefore held back, in proportion to the noise of the patch.

There is nothing to train and nothing is random: the networks start from a fixed seed.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from .blocks import check_counts

PATCH, OVERLAP = 24, 4
"""Pixels per side of a patch, and those that neighbours share."""

MOST_STEPS, MOST_WIDTH = 10_000, 512
FREQUENCY = 3.0
"""Spread of the Fourier features' frequencies, in periods per two patches."""

HU_SCALE = 0.2
"""HU / 1000 that the networks see as 1."""

LEARNING_RATE = 2e-2


class Implicit(nn.Module):
    """Fits a slice by small networks and returns the fit; has no weights of its own.

    Parameters
    ----------
    steps : int
        Steps of the fit; more follow finer detail, and take longer.
    width : int
        Sines per network, and Fourier features.
    smoothness : float
        Weight of the total variation, 0 or more; more removes more noise and more fine structure.

    Notes
    -----
    `forward` takes (batch, 1, rows, columns) and returns the same shape, both HU / 1000; no gradient passes through
    it. It takes half a minute for 512×512 pixels on two cores. Patches do not know of each other, but rounding
    depends on how many there are: tiles and whole slices differ by up to about 1 HU.

    Examples
    --------
    >>> Implicit(steps=2, width=4)(torch.zeros(2, 1, 7, 30)).shape
    torch.Size([2, 1, 7, 30])
    """

    context = 1
    multiple = PATCH - OVERLAP
    halo = OVERLAP

    def __init__(self, steps: int = 150, width: int = 32, smoothness: float = 1.5):
        super().__init__()
        check_counts(steps=steps, width=width)
        if steps > MOST_STEPS or width > MOST_WIDTH:
            raise ValueError(f"steps is {steps} and width {width}; at most {MOST_STEPS} and {MOST_WIDTH}")
        if not smoothness >= 0:
            raise ValueError(f"smoothness is {smoothness}; it must be 0 or more")
        self.steps = steps
        self.width = width
        self.smoothness = smoothness

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Inference runs without gradients, and tensors that it made cannot have any: the fit needs its own.
        with torch.inference_mode(False), torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
            noisy = x.detach().clone().float()
            fits = [self._denoise(slice_[None]) for slice_ in noisy]
        return torch.cat(fits).to(x.dtype)

    def _denoise(self, x: torch.Tensor) -> torch.Tensor:
        rows, columns = x.shape[-2:]
        stride = PATCH - OVERLAP
        more = [max(1, -(-(length - OVERLAP) // stride)) * stride + OVERLAP - length for length in (columns, rows)]
        x = functional.pad(x, (0, more[0], 0, more[1]), mode="replicate")
        patches = functional.unfold(x, PATCH, stride=stride)[0].T
        weight = _fading(x.device)
        fit = (self._fit(patches) * weight).T[None]
        weights = weight.expand_as(patches).T[None]
        size = x.shape[-2:]
        total, share = (functional.fold(part, size, PATCH, stride=stride) for part in (fit, weights))
        return (total / share)[..., :rows, :columns]

    def _fit(self, patches: torch.Tensor) -> torch.Tensor:
        """What the networks represent of `(patches, pixels)`, after fitting."""
        mean = patches.mean(1, keepdim=True)
        wanted = (patches - mean) / HU_SCALE
        restraint = self.smoothness * _noise(wanted)
        features, weights = self._start(len(patches), patches.device)
        optimizer = torch.optim.Adam(weights, LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.steps)
        for _ in range(self.steps):
            fit = _represented(features, weights)
            # A sum over patches: each is fitted as if it were alone.
            loss = (fit - wanted).square().mean(1).sum() + (restraint * _variation(fit)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            return _represented(features, weights) * HU_SCALE + mean

    def _start(self, patches: int, device: torch.device) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Fourier features (pixels, 2·width), and the same first weights for every patch."""
        generator = torch.Generator().manual_seed(0)
        place = (torch.arange(PATCH) + 0.5) / PATCH * 2 - 1
        places = torch.cartesian_prod(place, place)
        angles = math.pi * places @ (FREQUENCY * torch.randn(2, self.width, generator=generator))
        hidden = torch.randn(2 * self.width, self.width, generator=generator) / (2 * self.width) ** 0.5
        last = 0.1 * torch.randn(self.width, 1, generator=generator) / self.width**0.5
        first = [hidden, torch.zeros(1, self.width), last, torch.zeros(1, 1)]
        weights = [w.to(device).repeat(patches, 1, 1).requires_grad_() for w in first]
        return torch.cat([angles.sin(), angles.cos()], 1).to(device), weights


def _represented(features: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    """(patches, pixels)."""
    hidden, hidden_bias, last, last_bias = weights
    return (torch.sin(features @ hidden + hidden_bias) @ last + last_bias)[..., 0]


def _variation(patches: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of neighbours, (patches,)."""
    image = patches.unflatten(1, (PATCH, PATCH))
    return image.diff(dim=1).abs().mean((1, 2)) + image.diff(dim=2).abs().mean((1, 2))


def _noise(patches: torch.Tensor) -> torch.Tensor:
    """Robust standard deviation of the noise of each patch, (patches,), from mixed second differences.

    Of pixels two apart, because neighbours share noise in CT.
    """
    image = patches.unflatten(1, (PATCH, PATCH))
    along = image[:, 2:] - image[:, :-2]
    mixed = along[:, :, 2:] - along[:, :, :-2]
    return mixed.flatten(1).abs().median(1).values / (0.6745 * 2)


def _fading(device: torch.device) -> torch.Tensor:
    """(pixels,): how much a pixel of a patch counts where patches overlap."""
    inwards = torch.arange(1, PATCH + 1, device=device)
    ramp = torch.minimum(inwards, inwards.flip(0)).clamp(max=OVERLAP + 1).float()
    return (ramp[:, None] * ramp).flatten()
