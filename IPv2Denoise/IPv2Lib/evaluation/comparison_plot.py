"""The picture of a comparison: main measures with their intervals, noise power spectra, task transfer.

Owns layout and colours. One row of dots per method; the reference's own value is a line to come close to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..colors import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY_BLUE, VERMILION
from ..datasets.shards import REFERENCES
from ..io.figures import new_figure, save
from .measures import BORDERS, PLOT, Measure, shown_in
from .scores import Pool

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PALETTE = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY_BLUE, BLACK)
COLORS = tuple("#{:02x}{:02x}{:02x}".format(*color) for color in _PALETTE)
"""Of methods; then again with other line styles."""

STYLES = ("-", "--", ":", "-.")

GREY = "#808080"

ACROSS = 4
"""Panels side by side."""

_MOST_CURVES = 14


def draw(path: Path, rows: Sequence[Mapping[str, Any]], pools: Mapping[tuple[str, str], Pool]) -> None:
    """Draw what a comparison found into a PNG.

    Parameters
    ----------
    path : Path
    rows : sequence of mapping
        Of the table; those of the ground truth where there are such, else those of the label.
    pools : mapping
        By method and reference, for the curves.
    """
    reference = rows[0]["reference"]
    rows = [row for row in rows if row["reference"] == reference]
    own, methods = rows[0], rows[1:]
    measures = shown_in(PLOT)
    figure, axes, curves = _figure(len(methods), len(measures), 1 + len(BORDERS))
    for place, measure in enumerate(measures):
        _dots(axes[place], methods, own, measure, labelled=place % ACROSS == 0)
    keys = [(row["method"], reference) for row in (own, *methods[:_MOST_CURVES])]
    _curves(curves[0], {key[0]: pools[key].spectrum() for key in keys}, "Noise power spectrum, HU² mm²", log=True)
    for axis, border in zip(curves[1:], BORDERS, strict=True):
        _curves(axis, {key[0]: pools[key].transfer(border) for key in keys}, f"Task transfer, {border} border")
        axis.axhline(0.5, color=GREY, linewidth=0.6)
        axis.set_ylim(0, 1.3)
    curves[-1].legend(fontsize=7, frameon=False, loc="upper right")
    of = f"{counted(own['patients'], 'patient')}, {counted(own['slices'], 'slice')}"
    bars = f"; bars: 95 % intervals over {own['resampled']}" if own["resampled"] else ""
    against = REFERENCES[reference]
    title = f"Against the {against}: {of}{bars}; grey: the {against} itself"
    figure.suptitle(title, fontsize=10, x=0.01, ha="left")
    save(figure, path)


def clean(axis: Axes) -> None:
    """No frame but the axes, few and small numbers."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=7)
    axis.locator_params(axis="x", nbins=5)


def style(place: int) -> dict[str, str]:
    """Colour and line of the method at a place."""
    return {"color": COLORS[place % len(COLORS)], "linestyle": STYLES[place // len(COLORS) % len(STYLES)]}


def counted(count: int, name: str) -> str:
    """Such as "1 patient" and "2 patients"."""
    return f"{count} {name}" if count == 1 else f"{count} {name}s"


def heading(measure: Measure) -> str:
    """Title and unit, and the direction in which it is better."""
    return measure.title_with_unit + {"higher": " ↑", "lower": " ↓"}.get(measure.better, "")


def rows_of(panels: int) -> int:
    """How many rows so many panels need."""
    return math.ceil(panels / ACROSS)


def _figure(methods: int, panels: int, curves: int) -> tuple[Any, list[Axes], list[Axes]]:
    """The figure, its panels and, below them, its curves."""
    height, rows = 0.9 + 0.24 * methods, rows_of(panels)
    figure = new_figure(12, rows * height + 3.4)
    grid = figure.add_gridspec(rows + 1, ACROSS * curves, height_ratios=(*[height] * rows, 3))
    above = [
        figure.add_subplot(grid[place // ACROSS, curves * (place % ACROSS) : curves * (place % ACROSS + 1)])
        for place in range(panels)
    ]
    below = [figure.add_subplot(grid[rows, ACROSS * place : ACROSS * (place + 1)]) for place in range(curves)]
    for axis in (*above, *below):
        clean(axis)
    return figure, above, below


def _dots(
    axis: Axes, methods: Sequence[Mapping[str, Any]], own: Mapping[str, Any], measure: Measure, labelled: bool
) -> None:
    for place, row in enumerate(methods):
        value, low, high = (row[f"{measure.name}{limit}"] for limit in ("", " low", " high"))
        color = style(place)["color"]
        if value is None:
            axis.text(0.5, place, "–", transform=axis.get_yaxis_transform(), va="center", ha="center", color=color)
            continue
        if low is not None and high is not None:
            axis.plot([low, high], [place, place], color=color, linewidth=1.5)
        axis.plot(value, place, "o", color=color, markersize=5)
    if own[measure.name] is not None:
        axis.axvline(own[measure.name], color=GREY, linewidth=0.8)
    axis.set_ylim(len(methods) - 0.5, -0.5)
    axis.set_yticks(range(len(methods)), [row["method"] for row in methods] if labelled else [""] * len(methods))
    axis.set_title(heading(measure), fontsize=8, loc="left")


def _curves(axis: Axes, curves: Mapping[str, Any], title: str, log: bool = False) -> None:
    axis.set_title(title, fontsize=8, loc="left")
    axis.set_xlabel("1/mm", fontsize=8)
    axis.set_xlim(0, 1)
    for place, (name, (frequency, values)) in enumerate(curves.items()):
        how: dict[str, Any] = (
            {"color": GREY, "linestyle": "-", "linewidth": 3, "alpha": 0.6} if not place else style(place - 1)
        )
        axis.plot(frequency, values, label=name, **({"linewidth": 1.2} | how))
    if not any(len(values) for _, values in curves.values()):
        axis.text(0.5, 0.5, "nothing to measure it in", transform=axis.transAxes, ha="center", color=GREY, fontsize=8)
        axis.set_yticks([])
    elif log:
        axis.set_yscale("log")
