"""Sheets of titled CT slices: every stage of purification, or input, result and difference.

Owns layout, titles and keys. Slices and letters come from `scene`, which draws them with Slicer's slice pipeline
and VTK; `scene.save_png` writes a sheet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from IPv2SlicerLib.scene.volume_nodes import (
    Entry,
    Overlay,
    check_limit,
    difference_colors,
    draw_text,
    nice_limit,
    render_slice,
)

from ..analysis.region_labels import Region
from ..analysis.regions import segment
from ..errors import InputError
from ..hounsfield import LUNG_LEVEL, LUNG_WINDOW
from ..io.volume import Volume, same_grid
from ..purification.stages import BACKGROUND_ENTRIES, CM1_ENTRIES, CM2_ENTRIES, DARK_ENTRIES

if TYPE_CHECKING:
    from ..purification.stages import Stages
    from ..purification.strategies import Settings

_PAPER, _INK, _FAINT_INK = (22, 24, 27), (240, 240, 240), (175, 180, 186)
_GAP, _ROW_GAP = 12, 26  # pixels between panels, and from a key to the title below
_TITLE_SIZE, _KEY_SIZE, _SMALLEST_SIZE = 22, 16, 9  # points of text at 72 dpi, so pixels
_MARGIN_MM = 8.0  # kept around the body


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of a contact sheet.

    Attributes
    ----------
    title : str
        Above the picture; set smaller where it is too wide.
    picture : ndarray of uint8, shape (rows, columns, 3)
    key : ndarray of uint8, shape (any, up to columns, 3), optional
        Below the picture: what its colours mean (`text_key`, `swatch_key`, `bar_key`).
    """

    title: str
    picture: np.ndarray
    key: np.ndarray | None = None


def stages_picture(stages: Stages, *, slice_index: int | None = None, width: int = 440) -> np.ndarray:
    """One sheet with every stage of purification that its settings made, cut to the body.

    Parameters
    ----------
    stages : stages.Stages
    slice_index : int, optional
        Default: the slice with the largest lung.
    width : int
        Pixels of one panel.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)

    Raises
    ------
    InputError
        No such slice.
    """
    if slice_index is None:
        slice_index = _largest(stages.cm2)
    here = _body(stages.ndct, slice_index)

    def picture(volume: Volume, labels: np.ndarray | None = None, entries: Sequence[Entry] = ()) -> np.ndarray:
        overlay = None if labels is None else Overlay(labels[here].astype(np.uint8), entries)
        return _panel_picture(volume.with_array(volume.array[here]), width, overlay=overlay)

    def scan(title: str, volume: Volume | None, formula: str | None = None) -> list[Panel]:
        if volume is None:
            return []
        return [Panel(title, picture(volume), text_key(formula, width) if formula else _window_key(width))]

    def mask(title: str, labels: np.ndarray, *entries: Entry) -> Panel:
        key = swatch_key([(name, color) for _, name, color in entries], width)
        return Panel(title, picture(stages.ndct, labels, entries), key)

    dark = stages.dark_uldct + 2 * stages.dark_ndct.astype(np.uint8)
    training_input, test_label = _formulas(stages.settings)
    panels = [
        *scan("Ultra-low-dose CT  L", stages.uldct),
        *scan("Normal-dose CT  N", stages.ndct),
        mask("Dark masks  D(L), D(N)", dark, *_renamed(DARK_ENTRIES, "only L", "only N", "both")),
        mask("Common mask  CM1", stages.cm1, *_renamed(CM1_ENTRIES, "dark in L or N")),
        mask("Background  B", stages.background, *_renamed(BACKGROUND_ENTRIES, "connected to the border")),
        mask("Common mask  CM2 = CM1 \\ B", stages.cm2, *_renamed(CM2_ENTRIES, "lungs and airways")),
        *scan("Add noise  S(N)", stages.simulated),
        *scan("Remove noise  W(L)", stages.weakly_denoised),
        *scan("Training input", stages.training_input, training_input),
        *scan("Test label", stages.test_label, test_label),
    ]
    return contact_sheet(panels, columns=(len(panels) + 1) // 2)


def compare_picture(
    panels: Sequence[tuple[str, Volume, Literal["ct", "difference"]]],
    *,
    slice_index: int | None = None,
    window: float = LUNG_WINDOW,
    level: float = LUNG_LEVEL,
    limit_hu: float | None = None,
    columns: int | None = None,
    width: int = 560,
) -> np.ndarray:
    """One sheet with the same axial slice of several volumes, cut to the body.

    Parameters
    ----------
    panels : sequence of (title, Volume, kind)
        On one grid. Kind "ct" is shown in grey, "difference" in blue, white (0 HU) and red.
    slice_index : int, optional
        Default: the slice of the first "ct" volume with the largest lung.
    window, level : float
        Of the CT, HU.
    limit_hu : float, optional
        End of the colour range of differences; default: a round number that holds 99 % of the values in view.
    columns : int, optional
        Panels in a row; default: all.
    width : int
        Pixels of one panel.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)

    Raises
    ------
    InputError
        No panels, an unknown kind, volumes on different grids, no such slice, an empty window or range.
    """
    if not panels:
        raise InputError("there is nothing to compare: give at least one volume")
    first = next((volume for _, volume, kind in panels if kind == "ct"), panels[0][1])
    for title, volume, kind in panels:
        if kind not in ("ct", "difference"):
            raise InputError(f"'{title}' is of unknown kind {kind!r}: use ct or difference")
        if not same_grid(volume, first):
            raise InputError(f"'{title}' lies on another grid than the other volumes: resample it first")
    if slice_index is None:
        slice_index = _lung_slice(first)
    here = _body(first, slice_index)
    cut = [(title, volume.with_array(volume.array[here]), kind) for title, volume, kind in panels]
    if limit_hu is None:
        limit_hu = nice_limit(*(volume.array for _, volume, kind in cut if kind == "difference"))
    check_limit(limit_hu)

    def panel(title: str, volume: Volume, kind: str) -> Panel:
        if kind == "ct":
            picture = _panel_picture(volume, width, window=window, level=level)
            return Panel(title, picture, _window_key(width, window, level))
        colors = difference_colors()
        picture = _panel_picture(volume, width, window=2 * limit_hu, level=0, colors=colors)
        ends = (f"−{limit_hu:g}", "0", f"+{limit_hu:g} HU")
        return Panel(title, picture, bar_key(colors, ends, width))

    return contact_sheet([panel(*each) for each in cut], columns or len(cut))


def contact_sheet(panels: Sequence[Panel], columns: int) -> np.ndarray:
    """Put panels on one dark sheet, row by row, all of one size, titles above and keys below.

    Parameters
    ----------
    panels : sequence of Panel
        Pictures smaller than the largest are centred.
    columns : int
        Panels in a row.

    Returns
    -------
    ndarray of uint8, shape (rows, columns, 3)

    Raises
    ------
    InputError
        No panels, or less than one column.
    """
    if not panels or columns < 1:
        raise InputError(f"{len(panels)} panels in {columns} columns make no sheet: give at least one of each")
    height = max(panel.picture.shape[0] for panel in panels)
    width = max(panel.picture.shape[1] for panel in panels)
    title_height = draw_text("Title", _TITLE_SIZE, _INK, _PAPER).shape[0] + 8
    key_height = max((panel.key.shape[0] + 8 for panel in panels if panel.key is not None), default=0)
    cell_height = title_height + height + key_height + _ROW_GAP
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    sheet = _blank(rows * cell_height - _ROW_GAP + 2 * _GAP, columns * (width + _GAP) + _GAP)
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        top, left = _GAP + row * cell_height, _GAP + column * (width + _GAP)
        _paste(sheet, _fitted(panel.title, _TITLE_SIZE, width), top, left)
        rows_free, columns_free = height - panel.picture.shape[0], width - panel.picture.shape[1]
        _paste(sheet, panel.picture, top + title_height + rows_free // 2, left + columns_free // 2)
        if panel.key is not None:
            _paste(sheet, panel.key, top + title_height + height + 8, left)
    return sheet


def text_key(text: str, width: int) -> np.ndarray:
    """A line of small text, at most `width` pixels wide."""
    return _fitted(text, _KEY_SIZE, width, _FAINT_INK)


def swatch_key(entries: Sequence[tuple[str, tuple[int, int, int]]], width: int) -> np.ndarray:
    """Names behind squares of their colours, in one line of at most `width` pixels.

    Parameters
    ----------
    entries : sequence of (name, (red, green, blue))
    """
    line = draw_text("Key", _KEY_SIZE, _INK, _PAPER).shape[0]
    names = [_fitted(name, _KEY_SIZE, width // len(entries) - 3 * line, _FAINT_INK) for name, _ in entries]
    key = _blank(line, width)
    left = 0
    for name, (_, color) in zip(names, entries, strict=True):
        key[2 : line - 2, left : left + line - 4] = color
        _paste(key, name, 0, left + line + 2)
        left += name.shape[1] + 3 * line
    return key


def bar_key(colors: np.ndarray, labels: Sequence[str], width: int) -> np.ndarray:
    """A colour bar from low to high of `width` pixels, labels spread evenly under it.

    Parameters
    ----------
    colors : ndarray of uint8, shape (n, 3)
    labels : sequence of at least 2 str
    """
    names = [draw_text(label, _KEY_SIZE, _FAINT_INK, _PAPER) for label in labels]
    bar = colors[np.rint(np.linspace(0, len(colors) - 1, width)).astype(int)][None].repeat(12, axis=0)
    key = _blank(12 + 4 + names[0].shape[0], width)
    _paste(key, bar, 0, 0)
    for index, name in enumerate(names):
        tick = round(index * (width - 1) / (len(names) - 1))
        _paste(key, name, 16, min(max(tick - name.shape[1] // 2, 0), width - name.shape[1]))
    return key


def _panel_picture(volume: Volume, width: int, **display) -> np.ndarray:
    """The only slice of a volume, `width` pixels wide, with the sides of the patient marked."""
    _, rows, columns = volume.array.shape
    height = max(1, round(width * rows * volume.spacing[1] / (columns * volume.spacing[0])))
    picture = render_slice(volume, slice_index=0, size=(width, height), **display)
    for letter in "RL":
        mark = np.pad(draw_text(letter, _KEY_SIZE, _INK, (0, 0, 0)), ((2, 2), (5, 4), (0, 0)))
        _paste(picture, mark, (height - mark.shape[0]) // 2, 0 if letter == "R" else width - mark.shape[1])
    return picture


def _renamed(entries: Sequence[Entry], *names: str) -> list[Entry]:
    """The same values and colours with names that suit the sheet."""
    return [(value, name, color) for (value, _, color), name in zip(entries, names, strict=True)]


def _formulas(settings: Settings) -> tuple[str, str]:
    """How training input and test label were composed."""
    mask = "CM2" if settings.remove_background else "CM1"
    scan = f"[{1 - settings.blend:g}·L + {settings.blend:g}·N]" if settings.blend else "L"
    return (
        f"{mask}·{'S(N)' if settings.add_noise else 'N'} + (1 − {mask})·{scan}",
        f"{mask}·{'W(L)' if settings.remove_noise else 'L'} + (1 − {mask})·N",
    )


def _window_key(width: int, window: float = LUNG_WINDOW, level: float = LUNG_LEVEL) -> np.ndarray:
    return text_key(f"Window {window:g} HU, level {level:g} HU".replace("-", "−"), width)


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


def _body(volume: Volume, slice_index: int) -> tuple[slice, slice, slice]:
    """The part of one slice that holds the body and a margin; the whole slice where there is no body."""
    if not 0 <= slice_index < len(volume.array):
        raise InputError(f"there is no slice {slice_index}: use 0 to {len(volume.array) - 1}")
    here = slice(slice_index, slice_index + 1)
    body = segment(volume.array[here], volume.spacing)[0] >= Region.LUNG
    if not body.any():
        return here, slice(None), slice(None)
    spans = []
    for axis, mm in ((1, volume.spacing[1]), (0, volume.spacing[0])):
        places = np.flatnonzero(body.any(axis=axis))
        margin = round(_MARGIN_MM / mm)
        spans.append(slice(max(0, int(places[0]) - margin), int(places[-1]) + margin + 1))
    return here, spans[0], spans[1]


def _blank(rows: int, columns: int) -> np.ndarray:
    return np.full((rows, columns, 3), _PAPER, np.uint8)


def _paste(sheet: np.ndarray, picture: np.ndarray, top: int, left: int) -> None:
    """Copy a picture into a sheet; what would lie outside of the sheet is cut off."""
    room = sheet[top : top + picture.shape[0], left : left + picture.shape[1]]
    room[...] = picture[: room.shape[0], : room.shape[1]]


def _fitted(text: str, size: int, width: int, ink: tuple[int, int, int] = _INK) -> np.ndarray:
    """A line of text no wider than `width` pixels: set smaller if need be, shortened if still too wide."""
    for smaller in range(size, _SMALLEST_SIZE - 1, -1):
        line = draw_text(text, smaller, ink, _PAPER)
        if line.shape[1] <= width:
            return line
    while len(text) > 1 and line.shape[1] > width:
        text = text[:-1]
        line = draw_text(text + "…", _SMALLEST_SIZE, ink, _PAPER)
    return line
