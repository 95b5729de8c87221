"""How to prepare a data set: every choice of `ipv2 prepare` that is not a case's, checked, and as a file holds it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from ..options import check, like, option
from ..parallel.options import Workers
from ..purification.settings import IPV2, Settings
from .cases import FRACTIONS, SIMULATED, check_fractions

PURIFICATION = ("drop_enclosed_air", "low_hu", "high_hu", "threshold_hu", "weak_strength")
"""What is chosen of `purification.Settings`; the rest is the case's, or chosen when the data are read."""


def _purified(name: str) -> Any:
    return like(Settings, name, group="purification")


@dataclass(frozen=True)
class PreparationSettings:
    """Options of `preparation.prepare`.

    Raises
    ------
    InputError
        For a value out of range.
    """

    fractions: tuple[float, float, float] = option(
        FRACTIONS, "patients for training, validation and test; together all of them", unit="", low=0, high=1,
        flag="--split", flag_percent=True, metavar="TRAIN VALIDATION TEST",
    )  # fmt: skip
    seed: int = option(
        0, "seed of the split, and of the respiratory motion and the noise of new cases", unit="", low=0,
        panel="splitSeed", usual=(0, 999_999),
    )  # fmt: skip
    split_projections: bool = option(
        False, "keep each simulated uLDCT from half of the views, too, for the strategy noise2inverse",
        group=SIMULATED, panel=True,
    )  # fmt: skip
    keep_patient_names: bool = option(
        False, "leave patients as the table names them; otherwise labels hide who they are"
    )
    drop_enclosed_air: bool = _purified("drop_enclosed_air")
    low_hu: float = _purified("low_hu")
    high_hu: float = _purified("high_hu")
    threshold_hu: float | None = _purified("threshold_hu")
    weak_strength: float = _purified("weak_strength")
    workers: int = like(Workers, "workers", panel=True)
    scheduler: str | None = like(Workers, "scheduler")
    retries: int = like(Workers, "retries")

    def __post_init__(self):
        check_fractions(self.fractions)
        check(self)
        _ = self.purification  # is checked when it is made

    @property
    def purification(self) -> Settings:
        """How scans are purified."""
        return replace(IPV2, **{name: getattr(self, name) for name in PURIFICATION})
