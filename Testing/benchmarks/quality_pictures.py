"""Curves and pictures of the quality benchmark.

Every function draws one PNG from what the `Bench` knows or keeps; what is measured is in the other files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from IPv2Lib.evaluation import edges
from quality_cases import BORDERS, Case, present
from quality_limits import real_scan_case
from quality_methods import CHECKED_DOSE, INPUT, REFERENCE, Bench, Method, say
from quality_nodules import Placed, compared, nodule_case
from scipy import ndimage

LUNG_WINDOW_HU, TISSUE_WINDOW_HU = (-1100.0, 100.0), (-160.0, 240.0)
DIFFERENCE_HU = 150.0
CROP_MM = 24.0
_COLOURS = {"NDCT": "black", "input": "0.6", "best filter": "tab:orange"}
_MODEL_COLOURS = ("tab:blue", "tab:red", "tab:green", "tab:purple", "tab:brown", "tab:pink")


def draw_all(bench: Bench, out: Path, parts: Sequence[int]) -> list[Path]:
    """Draw what belongs to these parts into a folder; the files."""
    pictures: list[tuple[int, str, Callable[[Bench, Path], None], bool]] = [
        (1, "rmse_by_dose.png", rmse_by_dose, len(bench.doses) > 1),
        (1, "slices.png", slices, True),
        (3, "edges.png", edge_curves, True),
        (3, "nodules.png", nodules, True),
        (7, "real.png", real, present("nlst_101287")),
    ]
    drawn = []
    for part, name, draw, possible in pictures:
        if part in parts and possible:
            say(f"drawing {name}")
            draw(bench, out / name)
            drawn.append(out / name)
    return drawn


def rmse_by_dose(bench: Bench, path: Path) -> None:
    """Body RMSE of every method by dose: a column a scan, a row a simulator."""
    shape = (len(bench.simulators), len(bench.scans))
    figure, axes = _panels(*shape, 3.6, 3.2)
    names = ["input", *bench.filters, *(method.name for method in [*bench.rivals, *bench.models])]
    for row, simulator in enumerate(bench.simulators):
        for column, scan in enumerate(bench.scans):
            axis = axes[row, column]
            for name in names:
                doses, values = _curve(bench, name, scan, simulator)
                axis.plot(100 * doses, values, label=name, **_looks(bench, name))
            axis.set(xscale="log", yscale="log", title=f"{scan}, {simulator}", xlabel="dose, %", ylabel="body RMSE, HU")
            axis.set_xticks([100 * dose for dose in bench.doses], [f"{100 * dose:g}" for dose in bench.doses])
            axis.minorticks_off()
            ticks = [
                value for value in (5, 10, 20, 50, 100, 200, 500) if axis.get_ylim()[0] < value < axis.get_ylim()[1]
            ]
            axis.set_yticks(ticks, [str(value) for value in ticks])
            axis.grid(alpha=0.3)
    _legend_below(figure, axes)
    _save(figure, path)


def _looks(bench: Bench, name: str) -> dict[str, Any]:
    """Line of a method: models bold, filters broken, each in a colour; the input and rivals in none."""
    if any(name == model.name for model in bench.models):
        return {"lw": 2.2, "marker": ".", "color": _colour(bench, name)}
    if name in bench.filters:
        return {"lw": 1.2, "ls": "--", "color": f"C{bench.filters.index(name) + 1}"}
    return {"lw": 1.4, "ls": ":", "color": _COLOURS["input"]} if name == "input" else {"lw": 1.4, "color": "black"}


def _curve(bench: Bench, name: str, scan: str, simulator: str) -> tuple[np.ndarray, np.ndarray]:
    """Doses and RMSE of one method, without what was not run."""
    doses, values = [], []
    for dose in bench.doses:
        case = bench.case(scan, dose, simulator)
        methods = {method.name: method for method in bench.methods(case)}
        if name in methods:
            doses.append(dose)
            values.append(bench.scores(methods[name], case).rmse_hu)
    return np.array(doses), np.array(values)


def edge_curves(bench: Bench, path: Path) -> None:
    """Task transfer functions of lung border and bone, one row a dose."""
    scan = bench.scans[0]
    doses = [dose for dose in (0.02, 0.1) if dose in bench.doses]
    figure, axes = _panels(len(doses), len(BORDERS), 4.6, 3.2)
    for row, dose in enumerate(doses):
        for column, border in enumerate(BORDERS):
            axis, case = axes[row, column], bench.case(scan, dose)
            for label, method in _named(bench, case):
                spectrum = bench.scores(method, case).spectrum(border)
                if spectrum.any():
                    transfer = edges.transfer(spectrum)
                    axis.plot(edges.FREQUENCIES, transfer, color=_colour(bench, label), label=label, lw=1.8)
            axis.axhline(0.5, color="0.7", lw=0.8)
            axis.set(title=f"{scan}, {border}, {dose:.0%}", xlabel="frequency, 1/mm", ylabel="TTF")
            axis.set_ylim(bottom=0)
            axis.set_xlim(0, 0.5 / bench.block(scan).spacing_mm)
            axis.legend(fontsize=7)
            axis.grid(alpha=0.3)
    _save(figure, path)


def nodules(bench: Bench, path: Path) -> None:
    """The same nodules by every method: a row a method, a column a nodule, and their numbers."""
    case, placed = nodule_case(bench)
    shown = _one_of_each(placed)
    rows = [("ground truth", REFERENCE), *compared(bench, case)]
    figure, axes = _panels(len(rows), len(shown), 1.15, 1.15)
    half = round(CROP_MM / 2 / case.block.spacing_mm)
    for row, (label, method) in enumerate(rows):
        images = method.run(case)
        for column, nodule in enumerate(shown):
            axis, padded = axes[row, column], np.pad(images[nodule.slice], half, mode="edge")
            middle = (int(nodule.row), int(nodule.column))
            crop = padded[middle[0] : middle[0] + 2 * half, middle[1] : middle[1] + 2 * half]
            _show(axis, crop, LUNG_WINDOW_HU)
            if row == 0:
                axis.set_title(f"{nodule.diameter_mm:g} mm\n{nodule.hu:g} HU", fontsize=7)
        axes[row, 0].set_ylabel(label, fontsize=7)
    _save(figure, path)


def _one_of_each(placed: Sequence[Placed]) -> list[Placed]:
    kinds = {(nodule.diameter_mm, nodule.hu): nodule for nodule in placed}
    return [kinds[kind] for kind in sorted(kinds)]


def slices(bench: Bench, path: Path) -> None:
    """A slice at 2 % dose by every method, its lung and the difference from the NDCT."""
    case = bench.case(bench.scans[0], CHECKED_DOSE)
    redcnn = [m for m in bench.rivals if m.model and m.model.card.network.name == "redcnn"]
    best = bench.best_filter(case)
    named = [("input", INPUT), (f"best filter: {best.name}", best), *((m.name, m) for m in [*redcnn, *bench.models])]
    named.append(("NDCT", REFERENCE))
    middle = len(case.block.scored) // 2
    ground_truth, box = case.block.ground_truth[middle], _box(case.block.body[middle])
    figure, axes = _panels(3, len(named), 3, 3 * (box[0].stop - box[0].start) / (box[1].stop - box[1].start))
    for column, (label, method) in enumerate(named):
        image = method.run(case)[middle]
        _show(axes[0, column], image[box], LUNG_WINDOW_HU)
        _show(axes[1, column], image[box], TISSUE_WINDOW_HU)
        _show(axes[2, column], (image - ground_truth)[box], (-DIFFERENCE_HU, DIFFERENCE_HU))
        axes[0, column].set_title(label, fontsize=9)
    for row, text in enumerate(("lung window", "soft-tissue window", f"less NDCT, ±{DIFFERENCE_HU:g} HU")):
        axes[row, 0].set_ylabel(text, fontsize=9)
    _save(figure, path)


def real(bench: Bench, path: Path) -> None:
    """A slice of the real low-dose scan: input, result and difference, a pair of rows a model."""
    case = real_scan_case(1 if bench.quick else 6)
    middle = len(case.block.scored) // 2
    before, box = case.images[middle], _box(case.block.body[middle])
    height = 3 * (box[0].stop - box[0].start) / (box[1].stop - box[1].start)
    figure, axes = _panels(2 * len(bench.models), 3, 3, height)
    for number, model in enumerate(bench.models):
        after = model.run(case)[middle]
        for offset, window in enumerate((LUNG_WINDOW_HU, TISSUE_WINDOW_HU)):
            row = axes[2 * number + offset]
            for axis, image in zip(row, (before, after), strict=False):
                _show(axis, image[box], window)
            _show(row[2], (after - before)[box], (-DIFFERENCE_HU, DIFFERENCE_HU))
            row[0].set_ylabel("lung window" if offset == 0 else "soft-tissue window", fontsize=9)
        titles = ("nlst_101287 as it is", model.name, f"difference, ±{DIFFERENCE_HU:g} HU")
        for axis, title in zip(axes[2 * number], titles, strict=True):
            axis.set_title(title, fontsize=9)
    _save(figure, path)


def _named(bench: Bench, case: Case) -> list[tuple[str, Method]]:
    """NDCT, input, models and best filter, by label."""
    models = [(model.name, model) for model in bench.models]
    return [("NDCT", REFERENCE), ("input", INPUT), *models, ("best filter", bench.best_filter(case))]


def _colour(bench: Bench, label: str) -> str:
    if label in _COLOURS:
        return _COLOURS[label]
    names = [model.name for model in bench.models]
    return _MODEL_COLOURS[names.index(label) % len(_MODEL_COLOURS)]


def _box(body: np.ndarray) -> tuple[slice, slice]:
    """The smallest box around the largest piece of a mask."""
    pieces, count = ndimage.label(body)
    if count == 0:
        return slice(0, body.shape[0]), slice(0, body.shape[1])
    return ndimage.find_objects(pieces)[int(np.argmax(np.bincount(pieces.ravel())[1:]))]


def _show(axis: Any, image: np.ndarray, window_hu: tuple[float, float]) -> None:
    axis.imshow(image, cmap="gray", vmin=window_hu[0], vmax=window_hu[1], interpolation="nearest")


def _panels(rows: int, columns: int, width: float, height: float) -> tuple[Any, np.ndarray]:
    figure, axes = plt.subplots(
        rows, columns, figsize=(width * columns + 0.5, height * rows + 0.5), squeeze=False, layout="constrained"
    )
    return figure, axes


def _legend_below(figure: Any, axes: np.ndarray) -> None:
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8)


def _save(figure: Any, path: Path) -> None:
    for axis in figure.axes:
        if axis.images:
            axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=110)
    plt.close(figure)
