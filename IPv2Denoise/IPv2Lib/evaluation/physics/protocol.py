"""What is measured, and at which doses, kernels and sizes; quick and in full.

A `Condition` is one experiment at one dose and kernel; with one denoiser it is what is measured, or found again, as a
whole. How each is measured says `experiments`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from .phantoms import WATER_CM
from .realisations import TEXTURES
from .settings import PhysicsSettings

SIGMAS_HU = (6.0, 10.0, 15.0, 20.0, 30.0, 60.0)
"""Noise that comes in, of the σ response."""


@dataclass(frozen=True)
class Effort:
    """How much of everything.

    Attributes
    ----------
    noise : int
        Slices of noise that are simulated for each phantom.
    pairs : int
        Slices of each of two realisations in which noise is measured.
    slices : int
        Realisations of rods and disks.
    lung : int
        Slices of the lung.
    lungs : int
        Realisations of it.
    """

    noise: int
    pairs: int
    slices: int
    lung: int
    lungs: int


QUICK = Effort(noise=10, pairs=1, slices=6, lung=12, lungs=2)
FULL = Effort(noise=20, pairs=3, slices=16, lung=12, lungs=3)


@dataclass(frozen=True)
class Condition:
    """One experiment under one condition; what does not apply is empty or 0.

    Attributes
    ----------
    experiment : str
        One of `settings.EXPERIMENTS`.
    dose : float
    kernel : str
    size_cm : float
        Of the water.
    sigma_hu : float
        Noise that comes in.
    texture : str
        One of `realisations.TEXTURES`.
    """

    experiment: str
    dose: float = 0.0
    kernel: str = ""
    size_cm: float = 0.0
    sigma_hu: float = 0.0
    texture: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For JSON, without what does not apply."""
        return {name: value for name, value in asdict(self).items() if value}

    @property
    def title(self) -> str:
        """For progress."""
        parts = [self.experiment]
        parts += [f"{self.size_cm:g} cm"] if self.size_cm else []
        parts += [f"{self.sigma_hu:g} HU"] if self.sigma_hu else []
        parts += [f"texture {self.texture}"] if self.texture else []
        parts += [f"{100 * self.dose:g} %"] if self.dose else []
        parts += [self.kernel] if self.kernel else []
        return ", ".join(parts)


def effort(settings: PhysicsSettings) -> Effort:
    """Quick or in full."""
    return QUICK if settings.quick else FULL


def conditions(settings: PhysicsSettings) -> list[Condition]:
    """Everything that is measured of each denoiser, in an order in which noise is simulated once."""
    doses, kernels = sorted(settings.doses), list(settings.kernels)
    usual = "hann" if "hann" in kernels else kernels[0]
    quick = settings.quick
    few = _chosen(doses, (0.05, 0.25)) if quick else doses
    found: dict[str, list[Condition]] = {
        "response": [
            Condition("response", size_cm=size, sigma_hu=sigma, texture=texture)
            for size in ((22,) if quick else (22, 16, 32))
            for texture in TEXTURES
            if texture != "C" or size == 22
            for sigma in SIGMAS_HU
        ],
        "noise": [Condition("noise", dose, kernel) for kernel in kernels for dose in doses
                  if kernel == usual or not quick or dose == _middle(doses)],
        "rods": [Condition("rods", dose, kernel) for kernel in kernels for dose in few
                 if kernel == usual or (not quick and dose in _chosen(doses, (0.1, 0.25, 1.0)))],
        "disks": [Condition("disks", dose, usual) for dose in (_chosen(doses, (0.25, 1.0)) if quick else doses)],
        "chest": [Condition("chest", dose, usual) for dose in _chosen(doses, (0.25,) if quick else (0.05, 0.25))],
        "lung": [Condition("lung", dose, usual) for dose in (_chosen(doses, (0.05,)) if quick else doses)],
        "faint": [Condition("faint", dose, usual) for dose in (_chosen(doses, (0.05, 0.25)) if quick else doses)],
        "invented": [Condition("invented", dose, usual) for dose in
                     (_chosen(doses, (0.05,)) if quick else _chosen(doses, (0.02, 0.05, 0.25)))],
    }  # fmt: skip
    assert set(WATER_CM) == {16, 22, 32}
    return [each for name in settings.only for each in found[name]]


def _chosen(doses: list[float], wanted: tuple[float, ...]) -> list[float]:
    """Those of the wanted doses that were asked for, or the one nearest to the first."""
    return [dose for dose in doses if dose in wanted] or [min(doses, key=lambda dose: abs(dose - wanted[0]))]


def _middle(doses: list[float]) -> float:
    return min(doses, key=lambda dose: abs(dose - 0.25))
