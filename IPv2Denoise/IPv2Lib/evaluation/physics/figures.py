"""The figures of the report: curves of everything that was measured."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ...inference.denoisers import INPUT
from ...io.figures import new_figure
from ..comparison_plot import GREY, clean, style
from ..edges import FREQUENCIES
from .results import Results

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDE = 10.5
_PUBLISHED = (("ClariCT.AI", 39, 49, -17, -15), ("AiCE", 4, 48, 5, 45))
"""Noise taken from and to, change of the mean frequency from and to, per cent; see `published`."""


def all_of(results: Results) -> dict[str, bytes]:
    """PNG by name of what was measured."""
    found = {}
    for name, draw in _FIGURES.items():
        if (figure := draw(results)) is not None:
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", dpi="figure")
            found[name] = buffer.getvalue()
    return found


def _panels(count: int, height: float = 3.2) -> tuple[Figure, list[Axes]]:
    rows, across = -(-count // 3), min(count, 3)
    figure = new_figure(_WIDE if across > 1 else 5.5, height * rows)
    axes = [figure.add_subplot(rows, across, place + 1) for place in range(count)]
    for axis in axes:
        clean(axis)
    return figure, axes


def _how(results: Results, name: str) -> dict[str, Any]:
    if name == INPUT:
        return {"color": GREY, "linewidth": 2.5, "alpha": 0.7}
    return {"linewidth": 1.4, **style(results.denoisers.index(name))}


def _known(values: list[float | None]) -> np.ndarray:
    return np.array([np.nan if each is None else each for each in values])


def _titles(axis: Axes, title: str, x: str) -> None:
    axis.set_title(title, fontsize=9, loc="left")
    axis.set_xlabel(x, fontsize=8)


def _response(results: Results) -> Figure | None:
    keys = sorted(
        {(its["size_cm"], its["texture"]) for its, _ in results.of("response")}, key=lambda k: (k[0] != 22, k)
    )
    if not keys:
        return None
    figure, axes = _panels(len(keys))
    for axis, (size, texture) in zip(axes, keys, strict=True):
        for name in results.denoisers:
            rows = sorted(
                ((its["sigma_hu"], 100 * v["taken"], *(100 * each for each in v["taken_interval"]))
                 for its, v in results.of("response", name, size_cm=size, texture=texture)),
            )  # fmt: skip
            if not rows:
                continue
            x, y, low, high = np.array(rows).T
            axis.plot(x, y, marker="o", markersize=3, label=name, **_how(results, name))
            axis.fill_between(x, low, high, color=_how(results, name)["color"], alpha=0.15, linewidth=0)
        axis.set_ylim(-5, 105)
        _titles(axis, f"Noise taken, %: {size:g} cm, texture {texture}", "σ that comes in, HU")
    axes[0].legend(fontsize=7, frameon=False)
    return figure


def _texture(results: Results) -> Figure | None:
    dose, kernel = results.usual_dose("noise"), results.kernel()
    if dose is None:
        return None
    figure, (spectrum, profile, shift) = _panels(3)
    for name in [INPUT, *results.denoisers]:
        values = results.one("noise", name, dose=dose, kernel=kernel)
        if values is None:
            continue
        f, power = np.array(values["frequency"]), np.array(values["power_out"])
        spectrum.plot(f, power / power.sum() / (f[1] - f[0]), label=name, **_how(results, name))
        profile.plot(f, _known(values["profile_db"]), label=name, **_how(results, name))
        if name != INPUT:
            rows = sorted(
                (
                    100 * its["dose"],
                    100 * (v["mean_out"] / v["mean_in"] - 1),
                    *(100 * (e - 1) for e in v["mean_interval"]),
                )
                for its, v in results.of("noise", name, kernel=kernel)
            )
            x, y, low, high = np.array(rows).T
            shift.plot(x, y, marker="o", markersize=3, **_how(results, name))
            shift.fill_between(x, low, high, color=_how(results, name)["color"], alpha=0.15, linewidth=0)
    _titles(spectrum, f"Spectra over their areas, {100 * dose:g} % dose", "1/mm")
    _titles(profile, f"Noise reduction profile, dB, {100 * dose:g} %", "1/mm")
    _titles(shift, "Mean frequency, change in %", "dose, %")
    _doses(shift, [its["dose"] for its, _ in results.of("noise", INPUT, kernel=kernel)])
    shift.axhline(0, color=GREY, linewidth=0.8)
    for axis in (spectrum, profile):
        axis.set_xlim(0, 0.67)
    spectrum.legend(fontsize=7, frameon=False)
    return figure


def _tradeoff(results: Results) -> Figure | None:
    dose, kernel = results.usual_dose("noise"), results.kernel()
    if dose is None:
        return None
    figure, (axis,) = _panels(1, 3.6)
    for name in results.denoisers:
        values = results.one("noise", name, dose=dose, kernel=kernel)
        if values is None:
            continue
        _, taken, ratio, _ = np.array(values["tradeoff"]).T
        axis.plot(100 * taken, 100 * (ratio - 1), marker="o", markersize=3, label=name, **_how(results, name))
    for label, left, right, bottom, top in _PUBLISHED:
        axis.fill_between([left, right], bottom, top, color=GREY, alpha=0.25, linewidth=0)
        axis.annotate(label, (left + 1, top + 1), fontsize=7, color="#555555")
    axis.axhline(0, color=GREY, linewidth=0.8)
    _titles(axis, f"Strengths 0 to 1 at {100 * dose:g} % dose: mean frequency, change in %", "noise taken, %")
    axis.legend(fontsize=7, frameon=False)
    return figure


def _sharpness(results: Results) -> Figure | None:
    dose, kernel = results.usual_dose("rods"), results.kernel("rods")
    first = results.one("rods", INPUT, dose=dose, kernel=kernel)
    if first is None or dose is None:
        return None
    figure, axes = _panels(len(first["rods"]) + 1)
    for axis, (rod, one) in zip(axes, first["rods"].items(), strict=False):
        f = FREQUENCIES[: len(one["truth"]["transfer"])]
        axis.plot(f, one["truth"]["transfer"], color="black", linewidth=1, linestyle=":", label="without noise")
        for name in [INPUT, *results.denoisers]:
            values = results.one("rods", name, dose=dose, kernel=kernel)
            if values is not None:
                axis.plot(f, values["rods"][rod]["transfer"], label=name, **_how(results, name))
        axis.axhline(0.5, color=GREY, linewidth=0.5)
        axis.axhline(0.1, color=GREY, linewidth=0.5)
        axis.set_ylim(-0.1, 1.4)
        axis.set_xlim(0, 0.67)
        _titles(axis, f"TTF of {rod}, {one['hu']:+g} HU, {100 * dose:g} % dose".replace("-", "−"), "1/mm")
    axes[0].legend(fontsize=7, frameon=False)
    last = axes[-1]
    rods = list(first["rods"])
    for place, name in enumerate(results.denoisers):
        for at, rod in enumerate(rods):
            if found := results.sharpness(name, rod, dose=dose, kernel=kernel):
                value, (low, high) = found
                x = at + 0.12 * (place - (len(results.denoisers) - 1) / 2)
                how = {"color": _how(results, name)["color"]}
                last.plot([x, x], [low, high], **how)
                last.plot(x, value, "o", markersize=4, **how)
    last.axhline(1, color=GREY, linewidth=0.8)
    last.set_xticks(range(len(rods)), rods, fontsize=7)
    last.set_xlim(-0.5, len(rods) - 0.5)
    _titles(last, f"TTF50 over that without noise, {100 * dose:g} %", "")
    return figure


def _detectability(results: Results, experiment: str) -> Figure | None:
    first = next(iter(results.of(experiment)), None)
    if first is None:
        return None
    kinds = list(first[1]["disks"])
    figure = new_figure(_WIDE, 3.2)
    axes = [figure.add_subplot(1, len(kinds), place + 1) for place in range(len(kinds))]
    names = [INPUT, *results.denoisers]
    for axis, kind in zip(axes, kinds, strict=True):
        clean(axis)
        for place, name in enumerate(names):
            rows = sorted(
                (100 * its["dose"], v["disks"][kind]["d"], *v["disks"][kind]["d_interval"])
                for its, v in results.of(experiment, name)
            )
            x, y, low, high = np.array(rows).T
            x = x * 1.05 ** (place - (len(names) - 1) / 2)
            how = _how(results, name) | {"linewidth": 1.2, "marker": "o", "markersize": 3, "label": name}
            axis.errorbar(x, y, [np.maximum(y - low, 0), np.maximum(high - y, 0)], **how)
        axis.set_ylim(bottom=0)
        _doses(axis, results.values("dose", experiment))
        _titles(axis, f"d′: {kind} mm, {first[1]['disks'][kind]['contrast']:g} HU", "dose, %")
    axes[0].legend(fontsize=7, frameon=False)
    return figure


def _doses(axis: Axes, doses: list[float]) -> None:
    axis.set_xscale("log")
    axis.set_xticks([100 * dose for dose in doses], [f"{100 * dose:g}" for dose in doses])
    axis.minorticks_off()


def _patient(results: Results) -> Figure | None:
    if not results.values("dose", "chest") and not results.values("dose", "lung"):
        return None
    regions = {"parenchyma": "lung parenchyma", "soft": "soft tissue", "bone": "bone"}
    figure, axes = _panels(len(regions))
    for axis, (region, title) in zip(axes, regions.items(), strict=True):
        for name in results.denoisers:
            for experiment, look in (("lung", {"marker": "o"}), ("chest", {"marker": "s", "linestyle": ""})):
                rows = [v["regions"][region] for _, v in results.of(experiment, name)]
                points = sorted((row["sigma_in"], 100 * row["taken"]) for row in rows)
                if points:
                    label = name if experiment == "lung" else f"{name}, whole chest"
                    axis.plot(*np.array(points).T, markersize=3.5, label=label, **(_how(results, name) | look))
        axis.set_ylim(-5, 105)
        _titles(axis, f"Noise taken, %: {title}", "σ that comes in, HU")
    axes[-1].legend(fontsize=7, frameon=False)
    return figure


def _nodules(results: Results) -> Figure | None:
    if (dose := results.usual_dose("lung", 0.05)) is None:
        return None
    names = [INPUT, *results.denoisers]
    rows = {name: results.one("lung", name, dose=dose) for name in names}
    kinds = sorted({(n["hu"], n["diameter_mm"]) for v in rows.values() if v for n in v["nodules"].values()})
    figure, (contrast, size) = _panels(2)
    for place, name in enumerate(names):
        values = rows[name]
        if values is None:
            continue
        for one in values["nodules"].values():
            x = kinds.index((one["hu"], one["diameter_mm"])) + 0.15 * (place - (len(names) - 1) / 2)
            color = _how(results, name)["color"]
            contrast.plot(x, 100 * one["contrast"] / one["contrast_true"], "o", markersize=3.5, color=color)
            for each in one["diameters"]:
                if each is not None:
                    size.plot(x, 100 * (each / one["diameter_true"] - 1), "o", markersize=3, color=color)
        contrast.plot([], [], "o", color=_how(results, name)["color"], label=name)
    for axis, title in ((contrast, "contrast kept, %"), (size, "diameter error, %")):
        axis.axhline(100 if axis is contrast else 0, color=GREY, linewidth=0.8)
        axis.set_xticks(
            range(len(kinds)), [f"{d:g} mm, {hu:g}".replace("-", "−") for hu, d in kinds], rotation=90, fontsize=7
        )
        _titles(axis, f"Nodules at {100 * dose:g} % dose: {title}", "")
    contrast.legend(fontsize=7, frameon=False)
    return figure


def _own(results: Results) -> Figure | None:
    rows = [(its, experiment) for experiment in ("scans", "series") for its, _ in results.of(experiment, INPUT)]
    if not rows:
        return None
    figure, axes = _panels(2 * len(rows))
    for place, (its, experiment) in enumerate(rows):
        spectrum, profile = axes[2 * place : 2 * place + 2]
        for name in [INPUT, *results.denoisers]:
            values = results.one(experiment, name)
            if values is None:
                continue
            f, power = np.array(values["frequency"]), np.array(values["power_out"])
            spectrum.plot(f, power / power.sum() / (f[1] - f[0]), label=name, **_how(results, name))
            profile.plot(f, _known(values["profile_db"]), **_how(results, name))
        _titles(spectrum, f"Spectra over their areas: {' and '.join(its['scans'])}"[:60], "1/mm")
        _titles(profile, "Noise reduction profile, dB", "1/mm")
        spectrum.legend(fontsize=7, frameon=False)
    return figure


_FIGURES: dict[str, Callable[[Results], Figure | None]] = {
    "response": _response,
    "texture": _texture,
    "tradeoff": _tradeoff,
    "sharpness": _sharpness,
    "disks": partial(_detectability, experiment="disks"),
    "patient": _patient,
    "nodules": _nodules,
    "faint": partial(_detectability, experiment="faint"),
    "own": _own,
}
