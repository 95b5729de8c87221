"""What purification is to do: the published strategies, IPv1 and IPv2, and what can be set about them.

Owns `Settings`, its limits, and the rows of the ablation.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..errors import InputError
from ..simulation.projection import kernel as reconstruction_kernel

MATCHED = "matched"
"""`Settings.kernel` that measures kernel and photon number from the NDCT (`dose.match_scan`)."""


@dataclass(frozen=True)
class Settings:
    """What purification does. The constants `IPV1` and `IPV2` are the published strategies.

    Parameters
    ----------
    remove_background : bool
        *Remove Background*: the common mask M is CM2 (lungs and airways) instead of CM1 (with the room).
    add_noise : bool
        *Add noise*: inside M the training input is the NDCT with simulated noise instead of the NDCT.
    remove_noise : bool
        *Remove noise*: inside M the test label is the weakly denoised uLDCT instead of the uLDCT.
    blend : float
        T, 0 to 1: part of the NDCT in the training input outside M. 0.1 to 0.4 were published for IPv1.
    low_hu, high_hu : float
        Window of the 8-bit image that Otsu's threshold is found in.
    threshold_hu : float or None
        None: Otsu's threshold of each slice; else pixels at or below this are dark.
    drop_enclosed_air : bool
        Room air that table, cushions or clothes cut off from the slice border is background too. It is no part of
        the publication: False gives the published CM2 exactly, in which such air counts as lung.
    dose : float
        Dose fraction to simulate, in (0, 1].
    method, kernel, seed
        See `dose.simulate`; the kernel "matched" measures kernel and photon number from the NDCT.
    weak_strength : float
        See `weak_denoiser.weak_denoise`.

    Raises
    ------
    InputError
        For a value out of range.
    """

    remove_background: bool = True
    add_noise: bool = True
    remove_noise: bool = True
    blend: float = 0.0
    low_hu: float = -1000.0
    high_hu: float = 400.0
    threshold_hu: float | None = None
    drop_enclosed_air: bool = True
    dose: float = 0.02
    method: str = "physical"
    kernel: str | float = "hann"
    seed: int = 0
    weak_strength: float = 1.0

    def __post_init__(self):
        if not 0 <= self.blend <= 1:
            raise InputError(f"blend T is {self.blend:g}; use 0 (only uLDCT outside the mask) to 1 (only NDCT)")
        if not -math.inf < self.low_hu < self.high_hu < math.inf:
            raise InputError(f"a window from {self.low_hu:g} to {self.high_hu:g} HU is empty: lower value first")
        if self.threshold_hu is not None and not math.isfinite(self.threshold_hu):
            raise InputError(f"the threshold is {self.threshold_hu:g} HU; use e.g. -500, or None for Otsu's")
        if not 0 < self.dose <= 1:
            raise InputError(f"dose fraction {self.dose:g} is out of range: above 0, up to 1 (0.02 is 2 %)")
        if self.method not in ("physical", "published"):
            raise InputError(f"unknown simulation method {self.method!r}: use physical or published")
        if self.kernel != MATCHED:
            reconstruction_kernel(self.kernel)
        if self.seed < 0:
            raise InputError(f"seed {self.seed} is negative: use 0 or more")
        if not 0 <= self.weak_strength < math.inf:
            raise InputError(f"weak strength {self.weak_strength:g} is out of range: use 0 (off) or 1 (usual)")

    @property
    def has_modules(self) -> bool:
        """Whether any of the three modules is on; without, this is IPv1."""
        return self.remove_background or self.add_noise or self.remove_noise


IPV1 = Settings(remove_background=False, add_noise=False, remove_noise=False, blend=0.1)
IPV2 = Settings()

_PLAIN = replace(IPV1, blend=0.0)
ABLATION = {
    "ipv1": _PLAIN,
    "ipv1+remove-background": replace(_PLAIN, remove_background=True),
    "ipv1+add-noise": replace(_PLAIN, add_noise=True),
    "ipv2": IPV2,
}
"""The rows of the ablation. T is 0 in all of them (IPv1 in its plain form), so that only the modules differ."""
