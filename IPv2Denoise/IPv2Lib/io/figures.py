"""Figures of matplotlib as files: without a screen, without its global state, whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .. import packages
from . import atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float, *, dpi: float = 130, layout: str = "constrained") -> Figure:
    """An empty figure, in inches, drawn by Agg.

    Raises
    ------
    MissingPackage
        matplotlib is not installed.
    """
    packages.need("matplotlib", "a picture")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, layout=layout)  # type: ignore[arg-type]  # "none" is missing there
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG; an existing file is replaced.

    Raises
    ------
    OutputError
        The file cannot be written; nothing is left behind.
    """
    with atomic.new_file(path) as temporary:
        figure.savefig(temporary, dpi="figure", format="png")
