"""The table of the quality benchmark: one row per number, with its bar and whether it is met.

Owns the rows, how they are printed and written as CSV; measures nothing.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

MET, MISSED = "met", "MISSED"


@dataclass(frozen=True)
class Bar:
    """What a value has to be: from `low` to `high`, both included.

    Examples
    --------
    >>> print(Bar(low=0.9), Bar(high=5.0, unit="HU"), Bar(-2.0, 2.0, "HU"))
    ≥ 0.9 ≤ 5 HU -2 to 2 HU
    """

    low: float = -math.inf
    high: float = math.inf
    unit: str = ""

    def verdict(self, value: float) -> str:
        """`MET` or `MISSED`; a number that could not be measured misses."""
        return MET if self.low <= value <= self.high else MISSED

    def __str__(self) -> str:
        if math.isinf(self.high):
            text = f"≥ {_short(self.low, self.unit)}"
        elif math.isinf(self.low):
            text = f"≤ {_short(self.high, self.unit)}"
        else:
            text = f"{_short(self.low, self.unit)} to {_short(self.high, self.unit)}"
        return f"{text} {self.unit}" if self.unit not in ("", "%") else text


@dataclass(frozen=True)
class Row:
    """One number.

    Attributes
    ----------
    part : int
        1 to 8.
    method : str
        The model or filter.
    what, case : str
        The quantity, and of which scans.
    value : float or None
        None where there was nothing to measure; `note` says why.
    unit : str
        "HU", "×", "%" (of a fraction), "" for a ratio.
    bar : Bar, optional
    note : str
    detail : bool
        For the CSV only: one of many that a row above sums up.
    """

    part: int
    method: str
    what: str
    case: str = ""
    value: float | None = None
    unit: str = ""
    bar: Bar | None = None
    note: str = ""
    detail: bool = False

    @property
    def verdict(self) -> str:
        """`MET`, `MISSED` or nothing."""
        return "" if self.bar is None or self.value is None else self.bar.verdict(self.value)


def table(rows: Iterable[Row]) -> str:
    """Rows as aligned text, without those that are a detail."""
    lines = [("part", "method", "what", "case", "value", "bar", "", "note")]
    for row in rows:
        if not row.detail:
            value = "-" if row.value is None else f"{_short(row.value, row.unit)} {row.unit}".replace(" %", "").strip()
            bar = str(row.bar) if row.bar else ""
            lines.append((str(row.part), row.method, row.what, row.case, value, bar, row.verdict, row.note))
    widths = [max(len(line[place]) for line in lines) for place in range(7)]
    return "\n".join(
        "  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[7]]).rstrip()
        for line in lines
    )


def summary(rows: Sequence[Row]) -> str:
    """How many bars are met."""
    verdicts = [row.verdict for row in rows if row.verdict and not row.detail]
    return f"{verdicts.count(MET)} of {len(verdicts)} bars met"


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Every row, details included; fractions as they are."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow([*(field.name for field in fields(Row)), "verdict"])
        for row in rows:
            values = ["" if value is None else value for value in (getattr(row, field.name) for field in fields(Row))]
            writer.writerow([*(str(value) for value in values), row.verdict])


def worst(values: Iterable[tuple[float, str]], target: float = 0.0) -> tuple[float, str]:
    """The value farthest from `target` and its case; NaN counts as infinitely far."""
    return max(values, key=lambda pair: math.inf if math.isnan(pair[0]) else abs(pair[0] - target))


def _short(value: float, unit: str) -> str:
    if math.isnan(value):
        return "NaN"
    if unit == "%":
        return f"{value:.1%}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"
