"""What `ipv2 simulate` and `ipv2 phantom` make: every choice, checked. Needs the standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import check, option

METHODS = ("physical", "published")
"""How the noise of a lower dose is made, see `dose.simulate`."""

LARGEST_MOTION_MM = 30.0


@dataclass(frozen=True)
class SimulationSettings:
    """Options of `ipv2 simulate`, checked (`InputError`)."""

    dose: float = option(
        0.02, "dose fraction; 0.02 is 2 %", unit="", above=0, high=1, label="dose fraction", required=True
    )
    method: str = option(
        "physical", "simulator; physical: photons counted behind the patient, published: the authors' constants",
        choices=METHODS, label="simulation method",
    )  # fmt: skip
    kernel: str | float = option(
        "hann", "look of the noise: soft, hann, ramp, sharp, or a number from -1 to 2", exclusive="look"
    )
    match: bool = option(False, "measure look and strength of the noise from the scan itself", exclusive="look")
    seed: int = option(0, "same seed, same noise", unit="", low=0)

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class PhantomSettings:
    """Options of `ipv2 phantom`, checked (`InputError`); see `phantom.pair`."""

    size: int = option(256, "rows and columns", unit="", low=2)
    slices: int = option(24, "slices, from the middle of the lungs", unit="", low=1)
    dose: float = option(0.02, "dose fraction of the uLDCT", unit="", above=0, high=1, label="dose fraction")
    motion: float = option(
        8.0, "respiratory motion between the scans", unit="mm", low=-LARGEST_MOTION_MM, high=LARGEST_MOTION_MM,
        metavar="MM",
    )  # fmt: skip
    seed: int = option(0, "another number, another chest", unit="", low=0)

    def __post_init__(self):
        check(self)
