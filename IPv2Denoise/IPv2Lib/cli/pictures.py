"""Sheets of titled CT slices: every stage of purification, or input, result and difference.

Owns layout, titles and keys; matplotlib draws. `figures.save` writes a sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from ..analysis.regions import Region, segment
from ..colors import Color, Entry, check_limit, difference_colors, nice_limit
from ..errors import InputError
from ..hounsfield import LUNG_LEVEL, LUNG_WINDOW, window_8bit
from ..io.figures import new_figure
from ..io.volume import Volume, same_grid
from ..purification.stages import BACKGROUND_ENTRIES, CM1_ENTRIES, CM2_ENTRIES, DARK_ENTRIES

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ..purification.purify import Settings, Stages

_PAPER, _INK, _FAINT_INK = "#16181b", "#f0f0f0", "#afb4ba"
_DPI = 128  # a power of two, so that pixels become inches and pixels again without a rest
_SMALLEST_SIZE = 9  # of text, pixels
_GAP, _HAIR = 12, 1e-3  # pixels
_OPACITY = 0.45  # of labels
_MARGIN_MM = 8.0  # kept around the body


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a contact sheet.

    Attributes
    ----------
    title : str
        Above the picture; set smaller where it is too wide.
    picture : ndarray of uint8, shape (rows, columns, 3)
        One pixel per voxel.
    caption : str
        Below the picture.
    swatches : sequence of (name, (red, green, blue))
        Below the picture: what its colours mean.
    limit_hu : float, optional
        Below the picture: the colours of a difference, from -limit_hu to +limit_hu.
    """

    title: str
    picture: np.ndarray
    caption: str = ""
    swatches: Sequence[tuple[str, Color]] = ()
    limit_hu: float | None = None


def stages_picture(stages: Stages, *, slice_index: int | None = None, width: int = 440) -> Figure:
    """One sheet with every stage of purification that its settings made, cut to the body.

    Parameters
    ----------
    stages : stages.Stages
    slice_index : int, optional
        Default: the slice with the largest lung.
    width : int
        Pixels of one panel.

    Raises
    ------
    InputError
        No such slice.
    ImportError
        matplotlib is not installed.
    """
    view = _View(stages.ndct, _largest(stages.cm2) if slice_index is None else slice_index)

    def scan(title: str, volume: Volume | None, caption: str = "") -> list[Panel]:
        return [] if volume is None else [Panel(title, _grey(view.of(volume.array)), caption or _window_caption())]

    def mask(title: str, labels: np.ndarray, entries: Sequence[Entry], *names: str) -> Panel:
        picture = _with_labels(_grey(view.of(stages.ndct.array)), view.of(labels), entries)
        swatches = [(name, color) for name, (_, _, color) in zip(names, entries, strict=True)]
        return Panel(title, picture, swatches=swatches)

    dark = stages.dark_uldct + 2 * stages.dark_ndct.astype(np.uint8)
    training_input, test_label = _formulas(stages.settings)
    panels = [
        *scan("Ultra-low-dose CT  L", stages.uldct),
        *scan("Normal-dose CT  N", stages.ndct),
        mask("Dark masks  D(L), D(N)", dark, DARK_ENTRIES, "only L", "only N", "both"),
        mask("Common mask  CM1", stages.cm1, CM1_ENTRIES, "dark in L or N"),
        mask("Background  B", stages.background, BACKGROUND_ENTRIES, "connected to the border"),
        mask("Common mask  CM2 = CM1 \\ B", stages.cm2, CM2_ENTRIES, "lungs and airways"),
        *scan("Add noise  S(N)", stages.simulated),
        *scan("Remove noise  W(L)", stages.weakly_denoised),
        *scan("Training input", stages.training_input, training_input),
        *scan("Test label", stages.test_label, test_label),
    ]
    return contact_sheet(panels, (len(panels) + 1) // 2, view.size(width))


def compare_picture(
    panels: Sequence[tuple[str, Volume, Literal["ct", "difference"]]],
    *,
    slice_index: int | None = None,
    limit_hu: float | None = None,
    columns: int | None = None,
    width: int = 560,
) -> Figure:
    """One sheet with the same axial slice of several volumes, cut to the body.

    Parameters
    ----------
    panels : sequence of (title, Volume, kind)
        On one grid. Kind "ct" is shown in grey, "difference" in blue, white (0 HU) and orange.
    slice_index : int, optional
        Default: the slice of the first "ct" volume with the largest lung.
    limit_hu : float, optional
        End of the colour range of differences; default: a round number that holds 99 % of the values in view.
    columns : int, optional
        Panels in a row; default: all.
    width : int
        Pixels of one panel.

    Raises
    ------
    InputError
        No panels, an unknown kind, volumes on different grids, no such slice, an empty range.
    ImportError
        matplotlib is not installed.
    """
    if not panels:
        raise InputError("there is nothing to compare: give at least one volume")
    first = next((volume for _, volume, kind in panels if kind == "ct"), panels[0][1])
    for title, volume, kind in panels:
        if kind not in ("ct", "difference"):
            raise InputError(f"'{title}' is of unknown kind {kind!r}: use ct or difference")
        if not same_grid(volume, first):
            raise InputError(f"'{title}' lies on another grid than the other volumes: resample it first")
    view = _View(first, _lung_slice(first) if slice_index is None else slice_index)
    if limit_hu is None:
        limit_hu = nice_limit(*(view.of(volume.array) for _, volume, kind in panels if kind == "difference"))
    check_limit(limit_hu)

    def panel(title: str, volume: Volume, kind: str) -> Panel:
        hu = view.of(volume.array)
        if kind == "ct":
            return Panel(title, _grey(hu), _window_caption())
        return Panel(title, _colored(hu, limit_hu), limit_hu=limit_hu)

    return contact_sheet([panel(*each) for each in panels], columns or len(panels), view.size(width))


def contact_sheet(panels: Sequence[Panel], columns: int, size: tuple[int, int]) -> Figure:
    """Put panels on one dark sheet, row by row, titles above and keys below.

    Parameters
    ----------
    panels : sequence of Panel
    columns : int
        Panels in a row.
    size : (width, height)
        Pixels that of each picture; the letters grow with the width.

    Raises
    ------
    InputError
        No panels, or less than one column.
    """
    if not panels or columns < 1:
        raise InputError(f"{len(panels)} panels in {columns} columns make no sheet: give at least one of each")
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    width, height = size
    letters = _title_size(width), _key_size(width)
    above, below = round(1.5 * letters[0]), round(2.6 * letters[1])
    sheet = _Sheet(columns * (width + _GAP) + _GAP, rows * (above + height + below + _GAP) + _GAP)
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        left, top = _GAP + column * (width + _GAP), _GAP + row * (above + height + below + _GAP)
        sheet.text(panel.title, left, top, letters[0], width)
        sheet.picture(panel.picture, left, top + above, size, marked=True)
        _draw_key(sheet, panel, left, top + above + height + 8, width)
    return sheet.figure


def _draw_key(sheet: _Sheet, panel: Panel, left: int, top: int, width: int) -> None:
    size = _key_size(width)
    sheet.text(panel.caption, left, top, size, width, _FAINT_INK)
    at = left
    for name, color in panel.swatches:
        sheet.picture(np.array([[color]], np.uint8), at, top, (size, size))
        at += round(1.4 * size)
        at += round(sheet.text(name, at, top, size, left + width - at, _FAINT_INK) + 1.5 * size)
    if panel.limit_hu is not None:
        bar = difference_colors()[np.rint(np.linspace(0, 255, width)).astype(int)][None]
        sheet.picture(bar, left, top, (width, round(0.75 * size)))
        ends = ((f"−{panel.limit_hu:g}", "left"), ("0", "center"), (f"+{panel.limit_hu:g} HU", "right"))
        for place, (name, side) in enumerate(ends):
            sheet.text(name, left + place * width / 2, top + size, size, width / 3, _FAINT_INK, side)


class _Sheet:
    """A figure to draw on in pixels from its upper left corner."""

    def __init__(self, width: int, height: int):
        self._size = width, height
        self.figure = new_figure(width / _DPI, height / _DPI, dpi=_DPI, layout="none")
        self.figure.set_facecolor(_PAPER)

    def picture(self, pixels: np.ndarray, left: int, top: int, size: tuple[int, int], marked: bool = False) -> None:
        """Draw an image of a size; the sides of the patient can be marked.

        Enlarged voxels stay sharp, and where there are more of them than pixels they are averaged: that is
        matplotlib's default.
        """
        (width, height), (columns, rows) = self._size, size
        # A hair smaller than the pixels, because matplotlib rounds sizes up.
        place = ((left + _HAIR) / width, 1 - (top + rows - _HAIR) / height)
        axes = self.figure.add_axes((*place, (columns - 2 * _HAIR) / width, (rows - 2 * _HAIR) / height))
        axes.imshow(pixels, aspect="auto")
        axes.set_axis_off()
        high = _key_size(columns)
        box = {"facecolor": "black", "edgecolor": "none", "pad": _points(high / 4)}
        for letter, x in (("R", high / 4), ("L", columns - high / 4)) if marked else ():
            axes.text(
                x / columns, 0.5, letter, transform=axes.transAxes, fontsize=_points(high), color=_INK,
                ha="left" if letter == "R" else "right", va="center", bbox=box,
            )  # fmt: skip

    def text(
        self, text: str, x: float, top: int, size: int, width: float, ink: str = _INK, side: str = "left"
    ) -> float:
        """Write a line no wider than `width`: set smaller if need be, shortened if still too wide. Its width."""
        across, down = self._size
        line = self.figure.text(
            x / across, 1 - top / down, text, color=ink, fontsize=_points(size), ha=side, va="top", parse_math=False
        )

        canvas = cast("FigureCanvasAgg", self.figure.canvas)

        def wide() -> float:
            return line.get_window_extent(canvas.get_renderer()).width

        if wide() > width:
            line.set_fontsize(_points(max(_SMALLEST_SIZE, int(0.98 * size * width / wide()))))
        while len(text) > 1 and wide() > width:
            text = text[: min(len(text) - 1, round(len(text) * width / wide()))]
            line.set_text(text + "…")
        return wide()


class _View:
    """One axial slice of volumes on one grid, cut to the body, patient right on the viewer's left, front at the top.

    Parameters
    ----------
    volume : Volume
        Has the grid, and shows where the body is.
    slice_index : int

    Raises
    ------
    InputError
        No such slice.
    """

    def __init__(self, volume: Volume, slice_index: int):
        self._slice = slice_index
        self._rows, self._columns = _body(volume, slice_index)
        x_y = np.reshape(volume.direction, (3, 3))[:2, :2]  # columns: where array columns and rows run
        self._turned = abs(x_y[0, 1]) > abs(x_y[0, 0])
        if self._turned:
            x_y = x_y[:, ::-1]
        self._flips = np.s_[:: 1 if x_y[1, 1] >= 0 else -1, :: 1 if x_y[0, 0] >= 0 else -1]
        self._spacing = volume.spacing
        self._shape = volume.array[slice_index, self._rows, self._columns].shape

    def of(self, array: np.ndarray) -> np.ndarray:
        """The slice of an array on the grid of the volume, two-dimensional."""
        image = array[self._slice, self._rows, self._columns]
        return (image.T if self._turned else image)[self._flips]

    def size(self, width: int) -> tuple[int, int]:
        """Width and height in pixels that are square in mm."""
        across, down = self._shape[1] * self._spacing[0], self._shape[0] * self._spacing[1]
        if self._turned:
            across, down = down, across
        return width, max(1, round(width * down / across))


def _grey(hu: np.ndarray) -> np.ndarray:
    half = LUNG_WINDOW / 2
    return window_8bit(hu, LUNG_LEVEL - half, LUNG_LEVEL + half)[..., None].repeat(3, axis=2)


def _colored(hu: np.ndarray, limit_hu: float) -> np.ndarray:
    """A difference in colours; 0 HU is white."""
    return difference_colors()[np.clip((hu / limit_hu + 1) * 127.5, 0, 255).astype(np.uint8)]


def _with_labels(picture: np.ndarray, labels: np.ndarray, entries: Sequence[Entry]) -> np.ndarray:
    for value, _, color in entries:
        here = labels == value
        picture[here] = np.rint((1 - _OPACITY) * picture[here] + _OPACITY * np.array(color))
    return picture


def _title_size(width: int) -> int:
    return max(_SMALLEST_SIZE, round(width / 20))


def _key_size(width: int) -> int:
    return max(_SMALLEST_SIZE, round(width / 27))


def _points(pixels: float) -> float:
    return pixels * 72 / _DPI


def _formulas(settings: Settings) -> tuple[str, str]:
    """How training input and test label were composed."""
    mask = "CM2" if settings.remove_background else "CM1"
    scan = f"[{1 - settings.blend:g}·L + {settings.blend:g}·N]" if settings.blend else "L"
    return (
        f"{mask}·{'S(N)' if settings.add_noise else 'N'} + (1 − {mask})·{scan}",
        f"{mask}·{'W(L)' if settings.remove_noise else 'L'} + (1 − {mask})·N",
    )


def _window_caption() -> str:
    return f"Window {LUNG_WINDOW:g} HU, level {LUNG_LEVEL:g} HU".replace("-", "−")


def _lung_slice(volume: Volume) -> int:
    """The slice with the largest lung: 24 slices spread over the volume, at 256 pixels, are enough to find it."""
    step = max(1, len(volume.array) // 24)
    coarse = max(1, min(volume.array.shape[1:]) // 256)
    x, y, z = volume.spacing
    some = volume.array[step // 2 :: step, ::coarse, ::coarse]
    labels = segment(some, (coarse * x, coarse * y, step * z))
    return step // 2 + step * _largest(labels == Region.LUNG)


def _largest(masks: np.ndarray) -> int:
    """The slice with most pixels, the middle one where there is none at all."""
    areas = masks.sum(axis=(1, 2))
    return int(areas.argmax()) if areas.any() else len(masks) // 2


def _body(volume: Volume, slice_index: int) -> tuple[slice, slice]:
    """Rows and columns of one slice that hold the body and a margin; all of them where there is no body."""
    if not 0 <= slice_index < len(volume.array):
        raise InputError(f"there is no slice {slice_index}: use 0 to {len(volume.array) - 1}")
    body = segment(volume.array[slice_index : slice_index + 1], volume.spacing)[0] >= Region.LUNG
    if not body.any():
        return slice(None), slice(None)
    spans = []
    for axis, mm in ((1, volume.spacing[1]), (0, volume.spacing[0])):
        places = np.flatnonzero(body.any(axis=axis))
        margin = round(_MARGIN_MM / mm)
        spans.append(slice(max(0, int(places[0]) - margin), int(places[-1]) + margin + 1))
    return spans[0], spans[1]
