"""How denoisers are measured on phantoms: every choice, checked, and as a file holds it."""

from __future__ import annotations

from dataclasses import dataclass

from ...errors import InputError
from ...inference.commands import EXCHANGES
from ...options import check, like, option
from ..settings import ComparisonSettings

EXPERIMENTS = ("response", "noise", "rods", "disks", "chest", "lung", "faint", "invented")
"""What is measured on simulated phantoms, see `protocol`."""

_OWN = "scans of one's own"
_PROGRAM = "other programs"


@dataclass(frozen=True)
class PhysicsSettings:
    """Options of `run.measure`.

    Raises
    ------
    InputError
        For a value that is unknown or out of range.
    """

    quick: bool = option(
        False, "fewer doses, kernels and slices: a first look, with wider intervals", panel="physicsQuick"
    )
    doses: tuple[float, ...] = option(
        (0.02, 0.05, 0.1, 0.25, 0.5, 1.0), "doses in per cent of the usual one", unit="", above=0, high=1,
        label="dose", flag_percent=True, metavar="PERCENT",
    )  # fmt: skip
    kernels: tuple[str, ...] = option(
        ("soft", "hann", "sharp"), "reconstruction kernels", choices=("soft", "hann", "ramp", "sharp"), label="kernel"
    )
    only: tuple[str, ...] = option(EXPERIMENTS, "what is measured on simulated phantoms", choices=EXPERIMENTS)
    scans: tuple[str, ...] = option(
        (), "two scans of one phantom in the same place; noise is measured in their difference", metavar="SCAN",
        group=_OWN, default="none",
    )  # fmt: skip
    series: str | None = option(
        None, "a scan; two realisations of a lower dose are simulated from it", metavar="SCAN", group=_OWN, none="none"
    )
    series_dose: float = option(
        0.25, "dose of these, in per cent of the scan's own", unit="", above=0, below=1, flag_percent=True,
        metavar="PERCENT", group=_OWN,
    )  # fmt: skip
    command: tuple[str, ...] = option(
        (), "programs that denoise: {in} and {out} stand for the files, or with DICOM for the folders, that they read "
        "and write; {in_folder} and {out_folder} for the folders in any case; NAME=PROGRAM gives it a name",
        metavar="PROGRAM", group=_PROGRAM, default="none",
    )  # fmt: skip
    exchange: str = option("nrrd", "what these read and write", choices=EXCHANGES, group=_PROGRAM)
    timeout: float = option(600.0, "longest run of such a program", unit="s", above=0, group=_PROGRAM, decides=False)
    seed: int = option(0, "seed of noise and resamples", unit="", low=0)
    device: str = like(ComparisonSettings, "device")

    def __post_init__(self):
        check(self)
        if self.scans and len(self.scans) != 2:
            raise InputError(f"{len(self.scans)} scans of a phantom: give two, taken one after the other")
        for name in ("doses", "kernels", "only"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise InputError(f"{name} {', '.join(map(str, values))}: give each once")
