"""The files of a comparison.

================ ================================================================================================
table.csv        a row per method and reference: every measure, and the limits of its 95 % interval
scores.csv       every measure of every slice
nps.csv          noise power spectra of homogeneous soft tissue
ttf.csv          task transfer functions at the borders of lung and bone
plot.png         the main measures and the curves
provenance.json  data, methods with the hashes of their weights, what the measures are
parts/           what was measured so far, by method and scan; it may be removed
================ ================================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.shards import REFERENCES
from ..io import outputs
from . import comparison_plot
from .distances import LEAST_PATCHES, RANDOM_CONV
from .measures import BORDERS, MEASURES
from .scores import LEAST_PATIENTS, Pool

FILES = {
    "table": "table.csv",
    "scores": "scores.csv",
    "noise": "nps.csv",
    "transfer": "ttf.csv",
    "plot": "plot.png",
    "provenance": outputs.PROVENANCE_FILE,
}

OWN = "reference"
"""Name of the row of the reference itself: its own noise and sharpness."""

_HIGHEST = 1.0  # 1/mm, of the curves
_FEW_PATCHES = 500


def paths(folder: Path) -> dict[str, Path]:
    """The files in a folder, by what they hold."""
    return {key: folder / name for key, name in FILES.items()}


def write(
    folder: Path, pools: Mapping[tuple[str, str], Pool], facts: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[str]]:
    """Write every file; return the rows of the table and notes for the reader.

    Parameters
    ----------
    folder : Path
    pools : dict
        By method and reference.
    facts : dict
        For the provenance.
    """
    rows = [_row(method, reference, pool) for (method, reference), pool in pools.items()]
    notes = _notes(pools, facts["features"])
    place = paths(folder)
    columns = list(rows[0])
    outputs.write_csv(place["table"], columns, ([_cell(row[name]) for name in columns] for row in rows))
    outputs.write_csv(
        place["scores"],
        ("method", "case", "patient", "slice", "reference", "measure", "unit", "value", "shard"),
        _slice_rows(pools, {(row["method"], row["reference"]): row for row in rows}),
    )
    outputs.write_csv(
        place["noise"], ("method", "reference", "frequency_per_mm", "power_hu2_mm2"),
        ((*key, _cell(f), _cell(p)) for key, pool in pools.items() for f, p in _curve(pool.spectrum())),
    )  # fmt: skip
    outputs.write_csv(
        place["transfer"], ("method", "reference", "border", "frequency_per_mm", "transfer"),
        (
            (*key, border, _cell(f), _cell(t))
            for key, pool in pools.items() for border in BORDERS for f, t in _curve(pool.transfer(border))
        ),
    )  # fmt: skip
    comparison_plot.draw(place["plot"], rows, pools)
    columns_meaning = {
        measure.name: {"title": measure.title, "unit": measure.unit, "better": measure.better} for measure in MEASURES
    }
    outputs.write_json(place["provenance"], outputs.provenance("compare", facts, measures=columns_meaning, notes=notes))
    return rows, notes


def _row(method: str, reference: str, pool: Pool) -> dict[str, Any]:
    row: dict[str, Any] = {
        "method": method,
        "reference": reference,
        "patients": pool.patients,
        "slices": pool.slices,
        "resampled": pool.resampled,
    }
    for measure in MEASURES:
        if method == OWN and not measure.own:
            row |= {f"{measure.name}{limit}": None for limit in ("", " low", " high")}
            continue
        value = pool.value(measure)
        row |= {measure.name: _known(value.value), f"{measure.name} low": _known(value.low)}
        row[f"{measure.name} high"] = _known(value.high)
    return row


def _slice_rows(
    pools: Mapping[tuple[str, str], Pool], rows: Mapping[tuple[str, str], Mapping[str, Any]]
) -> Iterator[tuple]:
    """Measures of single slices; those of the whole set, the distances, have no case and no slice."""
    for (method, reference), pool in pools.items():
        for measure in MEASURES:
            if method == OWN and not measure.own:
                continue
            if not measure.sums:
                if (whole := rows[method, reference][measure.name]) is not None:
                    yield (method, "", "", "", reference, measure.name, measure.unit, _cell(whole), "")
                continue
            values = iter(pool.by_slice(measure))
            for origin in pool.origins:
                for index in origin.slices:
                    if np.isfinite(value := next(values)):
                        yield (
                            method, origin.case, origin.patient, index, reference, measure.name, measure.unit,
                            _cell(value), origin.shard,
                        )  # fmt: skip


def _notes(pools: Mapping[tuple[str, str], Pool], features: str) -> list[str]:
    notes = []
    for reference, pool in {reference: pool for (_, reference), pool in pools.items()}.items():
        against = REFERENCES[reference]
        if pool.resampled == "slices":
            notes.append(
                f"{against}: patients are too few to resample ({pool.patients}, fewer than {LEAST_PATIENTS}); "
                "intervals come from slices and say nothing of other patients"
            )
        if pool.patches < LEAST_PATCHES:
            notes.append(f"{against}: {pool.patches} patches are too few for Fréchet and kernel distances")
        elif pool.patches < _FEW_PATCHES:
            notes.append(
                f"{against}: of only {pool.patches} patches, Fréchet distances come out too large; compare them "
                "within this table only"
            )
    if features == RANDOM_CONV:
        notes.append(f"distances use the features {RANDOM_CONV} and compare with each other only")
    return notes


def _curve(curve: tuple[np.ndarray, np.ndarray]) -> Iterator[tuple[float, float]]:
    return ((f, value) for f, value in zip(*curve, strict=True) if f <= _HIGHEST + 1e-9)


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
