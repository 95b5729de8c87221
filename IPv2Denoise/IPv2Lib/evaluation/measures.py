"""The table of measures: what each is called, its unit, which direction is better, and how it is computed.

Whatever lists measures is made from `MEASURES`: `compare` and `ablation` with their files, terminal texts and pictures,
`evaluate`, the report of the demonstration, tables in Slicer, the quality benchmark. A new measure is an entry here,
and a function of a block of slices where the sums of the others do not suffice.

A measure is a function of sums over slices (of squared errors and pixels, of spectra and patches, ...), so that the
slices of a test set are pooled, not their ratios averaged, and a bootstrap resample is a product with weights. How two
images differ belongs to `similarity`, `edges`, `distances`, `noise` and `regions`; pooling to `scores`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import numpy as np

from ..analysis.noise import NoiseTexture, homogeneous_places, noise_texture
from ..analysis.region_statistics import statistics
from ..analysis.regions import Region
from . import edges, similarity
from .distances import frechet_distance, kernel_distance
from .edges import FREQUENCIES, Border

REGIONS = (Region.LUNG, Region.SOFT_TISSUE, Region.BONE, Region.BACKGROUND)
"""Those that are measured one by one; the first three make up the body."""

BORDERS = {"lung": (Region.LUNG, Region.SOFT_TISSUE), "bone": (Region.SOFT_TISSUE, Region.BONE)}
"""Where sharpness is measured: the dark side and the bright one."""

EVALUATE, REPORT, TERMINAL, PLOT = "evaluate", "report", "terminal", "plot"
"""Places that show some of the measures only: `ipv2 evaluate` and the demonstration; of those by region the ones in the
demonstration's report; the texts of `ipv2 compare` and `ipv2 ablation`; their pictures."""


@dataclass(frozen=True)
class Measure:
    """One entry of the table.

    Attributes
    ----------
    name : str
        Of the column in files, with the unit.
    title, unit : str
        For people.
    better : str
        "higher", "lower", or "reference": the closer to the reference's own, the better.
    decimals : int
        For people.
    sums : str
        Which of `SUMS` it is made of; empty for the distances between sets of patches.
    finish : callable
        Sums (..., k) to values (...).
    between : callable
        Of a distance: features of the reference's patches and of the result's, and a seed, to the value.
    own : bool
        Whether the reference by itself has it: noise and sharpness are no comparison.
    region : Region, optional
        If it is that of one region; tables by region call it `short`.
    short, key : str
        In tables with a row for each region, and in the JSON of `ipv2 evaluate`; title and name if not given.
    shown : frozenset of str
        Of `EVALUATE`, `REPORT`, `TERMINAL`, `PLOT`. Files have all measures.
    """

    name: str
    title: str
    unit: str
    better: str
    decimals: int
    sums: str = ""
    finish: Callable[[np.ndarray], np.ndarray] | None = None
    between: Callable[[np.ndarray, np.ndarray, int], float] | None = None
    own: bool = False
    region: Region | None = None
    short: str = ""
    key: str = ""
    shown: frozenset[str] = frozenset()

    @property
    def title_with_unit(self) -> str:
        """Such as "RMSE in the lung, HU"."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def number(self, value: float | None) -> str:
        """A value for people, without its unit."""
        return number(math.nan if value is None else value, self.decimals)

    def text(self, value: float | None) -> str:
        """A value with its unit."""
        return f"{self.number(value)} {self.unit}".rstrip()

    def of(self, block: Block) -> float:
        """The value for a block of slices alone; NaN where it cannot be measured."""
        assert self.finish is not None  # which only distances lack
        with np.errstate(all="ignore"):
            return float(self.finish(block.sums(self.sums)))


@dataclass(frozen=True, eq=False)
class Block:
    """Slices of a result beside those of its reference.

    Attributes
    ----------
    reference, result : ndarray, shape (slices, rows, columns)
        HU.
    labels : ndarray of the same shape
        Values of `Region`.
    spacing_mm : float
        Between pixels.
    places : ndarray, shape (patches, 3), optional
        Where noise is measured; if not given, where the reference is homogeneous.
    borders : mapping of str to sequence of Border, optional
        By name, of each slice; if not given, those of `find_borders`.
    """

    reference: np.ndarray
    result: np.ndarray
    labels: np.ndarray
    spacing_mm: float
    places: np.ndarray | None = None
    borders: Mapping[str, Sequence[Border]] | None = None

    def sums(self, name: str) -> np.ndarray:
        """One of `SUMS` of these slices, measured once."""
        if name not in self._known:
            self._known[name] = SUMS[name](self)
        return self._known[name]

    @cached_property
    def _known(self) -> dict[str, np.ndarray]:
        return {}

    @cached_property
    def windowed(self) -> tuple[np.ndarray, np.ndarray]:
        """Reference and result, clipped to `hounsfield.SCORED_HU`."""
        return similarity.windowed(self.reference), similarity.windowed(self.result)

    @cached_property
    def texture(self) -> tuple[int, NoiseTexture] | None:
        """Number of patches and noise of the result; None where there is nowhere to measure it."""
        places = homogeneous_places(self.reference) if self.places is None else self.places
        return (len(places), noise_texture(self.result, places, self.spacing_mm)) if len(places) else None

    def spectrum(self, border: str) -> np.ndarray:
        """Summed edge spectra of the result and of the reference, as `edge_sums` of them."""
        borders = find_borders(self.reference, self.labels, self.spacing_mm) if self.borders is None else self.borders
        return edge_sums(
            *(_added(map(edges.edge_spectrum, images, borders[border])) for images in (self.result, self.reference))
        )


def find_borders(reference: np.ndarray, labels: np.ndarray, spacing_mm: float) -> dict[str, list[Border]]:
    """The borders of `BORDERS` in every slice, by name."""
    return {
        name: [edges.find_border(*pair, spacing_mm, *sides) for pair in zip(reference, labels, strict=True)]
        for name, sides in BORDERS.items()
    }


def edge_sums(result: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Two complex edge spectra as the sums that measures of sharpness are made of, see `edge_spectra`."""
    return np.concatenate([part for one in (result, reference) for part in (one.real, one.imag)])


def edge_spectra(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The complex spectra of the result and of the reference, (..., frequencies) each."""
    parts = np.split(sums, 4, axis=-1)
    return parts[0] + 1j * parts[1], parts[2] + 1j * parts[3]


# --- sums over the slices of a block ------------------------------------------------------------------------


def _counted(value: float) -> np.ndarray:
    return np.array([0.0, 0.0]) if np.isnan(value) else np.array([value, 1.0])


def _added(sums: Iterable[np.ndarray]) -> np.ndarray:
    return cast(np.ndarray, sum(sums))


def _by_slice(of: Callable[[np.ndarray, np.ndarray], float], block: Block) -> np.ndarray:
    return _added(_counted(of(*pair)) for pair in zip(*block.windowed, strict=True))


def _by_region(labels: np.ndarray, values: Iterable[np.ndarray]) -> np.ndarray:
    """Sum and number of pixels of each region, from a slice at a time."""
    total = np.zeros(2 * len(REGIONS))
    for own, hu in zip(labels, values, strict=True):
        masks = [own == region for region in REGIONS]
        total += [each for mask in masks for each in (hu[mask].sum(), mask.sum())]
    return total


def _squared_errors(block: Block) -> np.ndarray:
    pairs = zip(*block.windowed, strict=True)
    return _by_region(block.labels, (np.square(result - own, dtype=np.float64) for own, result in pairs))


def _errors(block: Block) -> np.ndarray:
    pairs = zip(block.reference, block.result, strict=True)
    return _by_region(block.labels, ((result - own).astype(np.float64) for own, result in pairs))


def _sigmas(block: Block) -> np.ndarray:
    rows = {row.region: row for row in statistics(block.labels, block.reference, block.result)}
    return np.concatenate([_counted(rows[each].sigma_after if each in rows else np.nan) for each in REGIONS])


def _noise(block: Block) -> np.ndarray:
    if block.texture is None:
        return np.zeros(4)
    weight, texture = block.texture
    total = texture.power.sum()
    return weight * np.array([texture.variance, 1.0, texture.mean_frequency * total, total])


def _noise_spectrum(block: Block) -> np.ndarray:
    if block.texture is None:
        return np.zeros(2 * len(FREQUENCIES))
    weight, texture = block.texture
    # At 0 there is nothing: every patch is measured around a plane.
    power = np.interp(FREQUENCIES, texture.frequency[1:], texture.power[1:], left=np.nan, right=np.nan)
    known = np.isfinite(power)
    return weight * np.concatenate([np.where(known, power, 0.0), known])


SUMS: dict[str, Callable[[Block], np.ndarray]] = {
    "psnr": lambda block: _counted(similarity.psnr(*block.windowed)),
    "ssim": partial(_by_slice, similarity.ssim),
    "gmsd": partial(_by_slice, similarity.gmsd),
    "squared_error": _squared_errors,
    "error": _errors,
    "sigma": _sigmas,
    "noise": _noise,
    "spectrum": _noise_spectrum,
    **{f"{border}_edge": partial(Block.spectrum, border=border) for border in BORDERS},
}
"""What is measured in a block of slices, by name: numbers of which those of several blocks may be added."""


# --- from sums to values ------------------------------------------------------------------------------------


def _mean(place: int, sums: np.ndarray) -> np.ndarray:
    return sums[..., 2 * place] / sums[..., 2 * place + 1]


def _root_mean(place: int, sums: np.ndarray) -> np.ndarray:
    return np.sqrt(_mean(place, sums))


def _body_root_mean(sums: np.ndarray) -> np.ndarray:
    return np.sqrt(sums[..., 0:6:2].sum(-1) / sums[..., 1:6:2].sum(-1))


def _half_frequency(sums: np.ndarray) -> np.ndarray:
    return edges.half_frequency(edge_spectra(sums)[0])


def _half_frequency_ratio(sums: np.ndarray) -> np.ndarray:
    result, reference = map(edges.half_frequency, edge_spectra(sums))
    return result / reference


# --- the table ----------------------------------------------------------------------------------------------

_WHERE = {
    Region.LUNG: "in the lung",
    Region.SOFT_TISSUE: "in soft tissue",
    Region.BONE: "in bone",
    Region.BACKGROUND: "outside the body",
}


def _for_each_region(
    name: str, title: str, better: str, sums: str, finish: Callable[..., np.ndarray], *, short: str,
    also: Mapping[Region, set[str]], report: bool, own: bool = False,
) -> list[Measure]:  # fmt: skip
    """A measure in HU of every region; `also` says for which of them it is shown in more than `evaluate`."""
    everywhere = {EVALUATE, REPORT} if report else {EVALUATE}
    return [
        Measure(
            f"{name}_{region.name.lower()}_hu", f"{title} {_WHERE[region]}", "HU", better, 1, sums,
            partial(finish, place), own=own, region=region, short=short, key=f"{name}_hu",
            shown=frozenset(everywhere | also.get(region, set())),
        )
        for place, region in enumerate(REGIONS)
    ]  # fmt: skip


def _for_each_border() -> list[Measure]:
    found = []
    for border in BORDERS:
        sums, shown = f"{border}_edge", frozenset({TERMINAL, PLOT} if border == "lung" else ())
        title, ratio = f"50 % transfer, {border} border", f"Relative sharpness, {border} border"
        found += [
            Measure(f"f50_{border}_per_mm", title, "1/mm", "reference", 3, sums, _half_frequency, own=True),
            Measure(
                f"f50_{border}_ratio", ratio, "", "reference", 3, sums, _half_frequency_ratio, own=True, shown=shown
            ),
        ]
    return found


_ALMOST_ALL = frozenset({EVALUATE, TERMINAL, PLOT})

MEASURES: tuple[Measure, ...] = (
    Measure(
        "rmse_body_hu", "RMSE in the body", "HU", "lower", 1, "squared_error", _body_root_mean, key="body_rmse_hu",
        shown=_ALMOST_ALL,
    ),
    Measure("psnr_db", "PSNR", "dB", "higher", 2, "psnr", partial(_mean, 0), shown=frozenset({EVALUATE, TERMINAL})),
    Measure("ssim", "SSIM", "", "higher", 3, "ssim", partial(_mean, 0), shown=_ALMOST_ALL),
    Measure("gmsd", "GMSD", "", "lower", 3, "gmsd", partial(_mean, 0), shown=frozenset({TERMINAL, PLOT})),
    *_for_each_region(
        "rmse", "RMSE", "lower", "squared_error", _root_mean, short="RMSE", report=False,
        also={Region.LUNG: {TERMINAL, PLOT}},
    ),
    *_for_each_region("bias", "Bias", "reference", "error", _mean, short="bias", report=True, also={}),
    *_for_each_region(
        "sigma", "Noise σ", "reference", "sigma", _mean, short="σ", report=True, own=True,
        also={Region.LUNG: {TERMINAL, PLOT}, Region.BACKGROUND: {TERMINAL, PLOT}},
    ),
    Measure("nps_variance_hu2", "Noise power", "HU²", "reference", 0, "noise", partial(_mean, 0), own=True),
    Measure(
        "nps_frequency_per_mm", "Mean frequency of noise", "1/mm", "reference", 3, "noise", partial(_mean, 1), own=True,
        shown=frozenset({TERMINAL}),
    ),
    *_for_each_border(),
    Measure(
        "fid", "Fréchet distance", "", "lower", 3, between=lambda own, result, seed: frechet_distance(own, result),
        shown=frozenset({TERMINAL, PLOT}),
    ),
    Measure("kid", "Kernel distance", "", "lower", 3, between=kernel_distance),
)  # fmt: skip
"""All measures, in the order of columns and texts."""

BY_NAME = {measure.name: measure for measure in MEASURES}


def shown_in(place: str) -> tuple[Measure, ...]:
    """The measures that a place shows.

    Examples
    --------
    >>> [measure.title for measure in shown_in(EVALUATE) if measure.region is None]
    ['RMSE in the body', 'PSNR', 'SSIM']
    """
    return tuple(measure for measure in MEASURES if place in measure.shown)


# --- for people ---------------------------------------------------------------------------------------------


def number(value: float, digits: int = 1) -> str:
    """Return a number for a reader: a true minus sign, ∞, and – for what could not be measured.

    >>> number(-3.14159), number(float("inf")), number(float("nan"))
    ('−3.1', '∞', '–')
    """
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{round(value, digits) + 0.0:.{digits}f}".replace("-", "−")


def spread(row: Mapping[str, Any], measure: Measure, low: str, high: str) -> str:
    """A value with its limits for people, from the columns of a table: "47.1 (45.0 to 49.3)"; – if there is none.

    Parameters
    ----------
    row : mapping
    measure : Measure
    low, high : str
        What the columns of the limits have after the measure's name; limits that are not there are left out.

    Examples
    --------
    >>> spread({"ssim": 0.9, "ssim low": 0.85, "ssim high": 0.95}, BY_NAME["ssim"], " low", " high")
    '0.900 (0.850 to 0.950)'
    """
    value, *limits = (row[f"{measure.name}{which}"] for which in ("", low, high))
    if value is None or None in limits or limits[0] == limits[1]:
        return measure.number(value)
    return f"{measure.number(value)} ({' to '.join(map(measure.number, limits))})"
