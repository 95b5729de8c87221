"""What purification does: every choice, checked. Needs nothing but the standard library, so that panels open at
once."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ..errors import InputError
from ..options import check, option
from ..simulation.settings import METHODS

MATCHED = "matched"
"""`Settings.kernel` that measures kernel and photon number from the NDCT (`matching.match_scan`)."""

KERNELS = ("soft", "hann", "ramp", "sharp", MATCHED)
"""Reconstruction kernels that have a name."""

_MODULES, _DETAILS = "modules, each on or off by itself", "details"
_BY_STRATEGY = "on for ipv2, off for ipv1"


@dataclass(frozen=True)
class Settings:
    """What purification does. The constants `IPV1` and `IPV2` are the published strategies.

    Raises
    ------
    InputError
        For a value out of range.
    """

    remove_background: bool = option(
        True, "leave the room around the body to the uLDCT; the common mask M is then lung and airways only, CM2 "
        "instead of CM1", default=_BY_STRATEGY, group=_MODULES, panel=True,
    )  # fmt: skip
    add_noise: bool = option(
        True, "train on the NDCT with simulated noise inside the common mask", default=_BY_STRATEGY, group=_MODULES,
        panel=True,
    )  # fmt: skip
    remove_noise: bool = option(
        True, "score against the weakly denoised uLDCT inside the common mask", default=_BY_STRATEGY, group=_MODULES,
        panel=True,
    )  # fmt: skip
    blend: float = option(
        0.0, "part of the NDCT in the training input outside the common mask; 10 to 40 % were published for IPv1",
        unit="", low=0, high=1, percent=True, label="blend T", default="0.1 for ipv1, 0 for ipv2", metavar="T",
        group=_DETAILS, panel=True,
    )  # fmt: skip
    low_hu: float = option(
        -1000.0, "lower end of the window of the masks", unit="HU", flag="--window", metavar="LOW HIGH", group=_DETAILS
    )
    high_hu: float = option(400.0, "upper end", unit="HU", flag="--window", group=_DETAILS)
    threshold_hu: float | None = option(
        None, "highest value that counts as dark", unit="HU", none="Otsu's threshold of each slice", metavar="HU",
        group=_DETAILS, panel=True, usual=(-1024, 400),
    )  # fmt: skip
    drop_enclosed_air: bool = option(
        True, "count room air that the table or clothes enclose as background; off: the masks exactly as published, in "
        "which it is lung", group=_MODULES, panel=True,
    )  # fmt: skip
    dose: float = option(
        0.02, "dose fraction of the added noise", unit="", above=0, high=1, percent=True, label="dose fraction",
        group=_DETAILS, panel=True, usual=(0.001, 1.0),
    )  # fmt: skip
    method: str = option(
        "physical", "simulator of the added noise; physical: photons counted behind the patient, published: the "
        "authors' constants", choices=METHODS, label="simulation method", group=_DETAILS,
        panel="simulator",
    )  # fmt: skip
    kernel: str | float = option(
        "hann", "reconstruction kernel that the noise looks like: soft, hann, ramp, sharp, a sharpness from -1 to "
        "2, or matched, measured from the NDCT", group=_DETAILS, panel=True, usual=KERNELS,
    )  # fmt: skip
    seed: int = option(
        0, "seed of the added noise: the same seed gives the same noise", unit="", low=0, group=_DETAILS, panel=True,
        usual=(0, 999_999),
    )  # fmt: skip
    weak_strength: float = option(
        1.0, "strength of the weak denoiser; 0 is off, 1 is usual", unit="", low=0, label="weak strength", metavar="S",
        group=_DETAILS, panel=True, usual=(0.0, 5.0),
    )  # fmt: skip

    def __post_init__(self):
        if not -math.inf < self.low_hu < self.high_hu < math.inf:
            raise InputError(f"a window from {self.low_hu:g} to {self.high_hu:g} HU is empty: lower value first")
        if self.threshold_hu is not None and not math.isfinite(self.threshold_hu):
            raise InputError(f"the threshold is {self.threshold_hu:g} HU; use e.g. -500, or None for Otsu's")
        check(self)
        if self.kernel not in KERNELS:
            from ..simulation.projection import kernel

            kernel(self.kernel)

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
