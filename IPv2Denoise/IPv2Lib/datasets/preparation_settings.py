"""How to prepare a data set: every choice of `ipv2 prepare` that is not a case's, checked, and as a file holds it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..errors import InputError
from ..purification.strategies import IPV2, Settings
from .cases import FRACTIONS, check_fractions


@dataclass(frozen=True)
class PreparationSettings:
    """What `preparation.prepare` is told besides cases and folder.

    Attributes
    ----------
    fractions : of the patients for training, validation and test, with sum 1
    seed : of the split, and of the breath and noise of cases that bring no seed of their own
    split_projections : keep each simulated uLDCT from half of the views, too, for noise2inverse
    keep_patient_names : leave patients as a table names them; otherwise labels hide who they are
    drop_enclosed_air, low_hu, high_hu, threshold_hu, weak_strength : see `strategies.Settings`; the rest of those is
        the case's, or chosen when the data are read
    workers : processes of this machine
    scheduler : address of a Dask scheduler whose workers do it instead; None: this machine
    retries : how often a case that failed is tried again

    Raises
    ------
    InputError
        For a value out of range.
    """

    fractions: tuple[float, float, float] = FRACTIONS
    seed: int = 0
    split_projections: bool = False
    keep_patient_names: bool = False
    drop_enclosed_air: bool = IPV2.drop_enclosed_air
    low_hu: float = IPV2.low_hu
    high_hu: float = IPV2.high_hu
    threshold_hu: float | None = IPV2.threshold_hu
    weak_strength: float = IPV2.weak_strength
    workers: int = 1
    scheduler: str | None = None
    retries: int = 1

    def __post_init__(self):
        check_fractions(self.fractions)
        for name in ("seed", "workers", "retries"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}: use 0 or more")
        _ = self.purification  # is checked when it is made

    @property
    def purification(self) -> Settings:
        """How scans are purified."""
        names = ("drop_enclosed_air", "low_hu", "high_hu", "threshold_hu", "weak_strength")
        return replace(IPV2, **{name: getattr(self, name) for name in names})
