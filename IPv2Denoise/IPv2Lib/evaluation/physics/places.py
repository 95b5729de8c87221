"""Something at a known place of a phantom."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Something at a known place: row and column of its centre, slice in a volume, diameter, HU."""

    row: float
    column: float
    diameter_mm: float
    hu: float
    name: str = ""
    slice: float = 0.0
