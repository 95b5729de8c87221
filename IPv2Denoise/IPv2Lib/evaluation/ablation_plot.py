"""The picture of an ablation: a panel per measure; in it a row per network and strategy, dots for seeds, their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..datasets.shards import REFERENCES
from ..datasets.strategies import BY_NAME
from ..io.figures import new_figure, save
from .comparison_plot import ACROSS, GREY, clean, heading, rows_of, style
from .measures import PLOT, shown_in


def draw(
    path: Path,
    rows: Sequence[Mapping[str, Any]],
    runs: Mapping[tuple[str, str, int], Mapping[str, Any]],
    first: Sequence[str] = (),
) -> None:
    """Draw an ablation into a PNG.

    Parameters
    ----------
    path : Path
    rows : sequence of mapping
        Of the table; those of the first reference are plotted.
    runs : mapping
        Rows of single runs against that reference, by network, strategy and seed.
    first : sequence of str
        Names of measures that have the first panels.
    """
    reference = rows[0]["reference"]
    shown = [row for row in rows if row["reference"] == reference and row["network"]]
    scan = next(row for row in rows if row["reference"] == reference and not row["network"])
    several = len({row["network"] for row in shown}) > 1
    colors = {strategy: style(place)["color"] for place, strategy in enumerate(BY_NAME)}
    measures = sorted(shown_in(PLOT), key=lambda each: first.index(each.name) if each.name in first else len(first))
    height = 0.9 + 0.26 * len(shown)
    across = rows_of(len(measures))
    figure = new_figure(12, across * height + 0.3)
    axes = figure.subplots(across, ACROSS, sharey=True, squeeze=False).ravel()
    for axis in axes[len(measures) :]:
        axis.set_visible(False)
    for axis, measure in zip(axes, measures, strict=False):
        name = measure.name
        clean(axis)
        axis.set_title(heading(measure), fontsize=8, loc="left")
        for line, row in enumerate(shown):
            color = colors.get(row["strategy"], GREY)
            if row[name] is None:
                continue
            axis.plot([row[name]] * 2, [line - 0.3, line + 0.3], color=color, linewidth=2)
            values = [run[name] for key, run in runs.items() if key[:2] == (row["network"], row["strategy"])]
            dots = [value for value in values if value is not None]
            axis.plot(dots, [line] * len(dots), "o", color=color, markersize=4, alpha=0.7)
        if scan[name] is not None and measure.sums == "sigma":
            axis.set_xlabel(f"before denoising: {measure.number(scan[name])}", fontsize=7, color=GREY)
        titles = [_title(row, several) for row in shown]
        axis.set_yticks(range(len(shown)), titles)
        axis.set_ylim(len(shown) - 0.5, -0.5)
    seeds = max(row["seeds"] for row in shown)
    figure.suptitle(
        f"Against the {REFERENCES[reference]}; dots: {seeds} seeds, bars: their mean", fontsize=10, x=0.01, ha="left"
    )
    save(figure, path)


def _title(row: Mapping[str, Any], several: bool) -> str:
    title = BY_NAME[row["strategy"]].title if row["strategy"] in BY_NAME else row["strategy"]
    return f"{row['network']}: {title}" if several else title
