"""What a reader should take away, in plain sentences, and the first table."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...inference.denoisers import INPUT
from ..measures import number
from .results import Results

DISK = "5"
"""Diameter in mm of the disk that stands for all."""

NOISE_TAKEN = (0.5, 0.75)
"""Parts of the noise at which textures are compared."""

_EVEN, _JUMP, _FINER = 0.15, 0.3, 0.1
"""Parts of the noise taken that differ by less over all levels are alike, by more between two levels a switch; and a
change of the mean frequency that is worth a word."""


def percent(value: float | None, digits: int = 0) -> str:
    """Such as "12 %"."""
    return "–" if value is None else f"{number(100 * value, digits)} %"


def signed(value: float, digits: int = 0) -> str:
    """Per cent with its sign, such as "+12 %"."""
    text = percent(value, digits)
    return text if text.startswith("−") or float(round(100 * value, digits)) == 0 else f"+{text}"


def by_denoiser(results: Results) -> dict[str, list[str]]:
    """Sentences about every denoiser."""
    topics = (_noise, _response, _sharpness, _bias, _detectability, _lung, _invented, _own)
    return {name: [each for about in topics for each in about(results, name)] for name in results.denoisers}


def _noise(results: Results, name: str) -> list[str]:
    dose, kernel = results.usual_dose("noise"), results.kernel()
    values = results.one("noise", name, dose=dose, kernel=kernel)
    if values is None:
        return []
    low, high = values["taken_interval"]
    change = values["mean_out"] / values["mean_in"] - 1
    texture = "coarser" if change < 0 else "finer"
    return [
        f"At {percent(dose)} dose ({number(values['sigma_in'])} HU in 22 cm of water), {name} takes "
        f"{percent(values['taken'])} of the noise (95 % interval {percent(low)} to {percent(high)}). What is left is "
        f"{percent(abs(change))} {texture}: its mean frequency is {number(values['mean_out'], 3)} instead of "
        f"{number(values['mean_in'], 3)} per mm, its nNPS RMSD {number(values['rmsd'], 2)}."
    ]


def _response(results: Results, name: str) -> list[str]:
    found = []
    for texture, what in (
        ("A", "the simulator's noise (Hann kernel)"),
        ("B", "white noise, hardly blurred"),
        ("C", "the simulator's noise with the plain ramp, the finest"),
    ):
        curve = sorted(
            (its["sigma_hu"], values["taken"], values["mean_out"] / values["mean_in"] - 1)
            for its, values in results.of("response", name, texture=texture, size_cm=22)
        )
        if len(curve) < 2:
            continue
        sigmas, taken, shifts = zip(*curve, strict=True)
        jumps = np.diff(taken)
        at = int(np.abs(jumps).argmax())
        if abs(jumps[at]) > _JUMP:
            says = f"between {sigmas[at]:g} and {sigmas[at + 1]:g} HU it switches"
        elif max(taken) - min(taken) < _EVEN:
            says = "the part that it takes hardly depends on how much there is"
        else:
            says = (
                "it takes a larger part where there is more"
                if taken[-1] > taken[0]
                else "it takes a smaller part where there is more"
            )
        found.append(
            f"Of {what}, {name} takes {percent(taken[0])} where it has {sigmas[0]:g} HU and {percent(taken[-1])} where "
            f"it has {sigmas[-1]:g} HU: {says}."
            + (
                f" What is left is up to {percent(max(shifts))} finer than what came in."
                if max(shifts) > _FINER
                else ""
            )
        )
    return found


def _sharpness(results: Results, name: str) -> list[str]:
    dose, kernel = results.usual_dose("rods"), results.kernel("rods")
    values = results.one("rods", name, dose=dose, kernel=kernel)
    if values is None:
        return []
    kept = {rod: results.sharpness(name, rod, dose=dose, kernel=kernel) for rod in values["rods"]}
    known = {rod: each[0] for rod, each in kept.items() if each}
    unknown = [rod for rod, each in kept.items() if not each]
    if not known:
        return [f"At {percent(dose)} dose, noise leaves the sharpness of {name} unknown."]
    worst = min(known, key=lambda rod: known[rod])
    text = (
        f"At {percent(dose)} dose, rods keep at least {percent(known[worst])} of their sharpness (TTF50) with {name}; "
        f"the least sharp is {worst} ({values['rods'][worst]['hu']:+g} HU).".replace("(-", "(−")
    )
    return [text + (f" Of {' and '.join(unknown)}, noise leaves it unknown." if unknown else "")]


def _bias(results: Results, name: str) -> list[str]:
    found = []
    for its, values in results.of("rods", name):
        before = results.one("rods", INPUT, dose=its["dose"], kernel=its["kernel"])
        if before is None:
            continue
        for rod, one in values["rods"].items():
            shift = one["bias"] - before["rods"][rod]["bias"]
            found.append((abs(shift), shift, rod, its["dose"], its["kernel"]))
    if not found:
        return []
    _, shift, rod, dose, kernel = max(found)
    return [
        f"{name} moves the HU of inserts by at most {number(abs(shift))} HU ({number(shift)} HU in {rod}, "
        f"{percent(dose)} dose, kernel {kernel})."
    ]


def _detectability(results: Results, name: str) -> list[str]:
    found = []
    for experiment, near, what in (("disks", 0.25, "a disk in water"), ("faint", 0.05, "a nodule in lung")):
        dose = results.usual_dose(experiment, near)
        own, before = (results.one(experiment, each, dose=dose) for each in (name, INPUT))
        if dose is None or own is None or before is None:
            continue
        a, b = own["disks"][DISK], before["disks"][DISK]
        equal = results.equivalent(name, DISK, dose, experiment)
        apart = a["d_interval"][0] > b["d_interval"][1] or a["d_interval"][1] < b["d_interval"][0]
        with_, without = (
            f"{number(each['d'], 2)} ({number(each['d_interval'][0], 2)} to {number(each['d_interval'][1], 2)})"
            for each in (a, b)
        )
        found.append(
            f"At {percent(dose)} dose, {what} of {DISK} mm and {a['contrast']:g} HU has a detectability of {with_} "
            f"with {name} and {without} without: the intervals {'lie apart' if apart else 'overlap'}."
            + (f" The input alone would reach that at {percent(equal)} dose." if equal else "")
        )
    return found


def nodule_summary(values: Any) -> dict[str, float]:
    """Contrast kept (least and mean), errors of diameter and volume, and how many could not be outlined."""
    kept, errors, lost = [], [], 0
    for one in values["nodules"].values():
        kept.append(one["contrast"] / one["contrast_true"])
        for each in one["diameters"]:
            if each is None:
                lost += 1
            else:
                errors.append((each - one["diameter_true"]) / one["diameter_true"])
    return {
        "least": float(min(kept)),
        "mean": float(np.mean(kept)),
        "error": float(np.mean(errors)) if errors else float("nan"),
        "absolute": float(np.mean(np.abs(errors))) if errors else float("nan"),
        "volume": float(np.mean([abs((1 + each) ** 3 - 1) for each in errors])) if errors else float("nan"),
        "lost": lost,
    }


def _lung(results: Results, name: str) -> list[str]:
    dose = results.usual_dose("lung", 0.05)
    own, before = (results.one("lung", each, dose=dose) for each in (name, INPUT))
    if own is None or before is None or not own["nodules"]:
        return []
    a, b = nodule_summary(own), nodule_summary(before)
    emphysema = own["emphysema"]
    return [
        f"In a lung at {percent(dose)} dose, nodules of 3 to 8 mm keep {percent(a['mean'])} of their contrast with "
        f"{name} (the least: {percent(a['least'])}), and their diameters are off by {percent(a['absolute'])} on "
        f"average (input: {percent(b['absolute'])}).",
        f"{percent(emphysema['share'], 1)} of that lung lies below −950 HU with {name}, "
        f"{percent(before['emphysema']['share'], 1)} in the input, {percent(emphysema['true'], 1)} in truth.",
        f"What {name} removes there correlates with the borders of the anatomy by "
        f"{number(own['structure']['correlation'], 2)}; the noise itself by {number(own['structure']['noise'], 2)}.",
    ]


def invented_interval(values: Any) -> tuple[float, float]:
    """Exact 95 % interval of the part of patches in which something was invented."""
    from scipy.stats import binomtest

    low, high = binomtest(values["invented"], values["patches"]).proportion_ci()
    return float(low), float(high)


def _invented(results: Results, name: str) -> list[str]:
    dose = min(results.values("dose", "invented"), default=None)
    values = results.one("invented", name, dose=dose)
    if values is None:
        return []
    return [
        f"In {values['patches']} patches of lung with nothing in it, at {percent(dose)} dose, {name} shows "
        f"{values['invented']} that look like a nodule: with 95 % confidence, fewer than "
        f"{1000 * invented_interval(values)[1]:.0f} in 1,000 (above {values['limit']:.0f} HU; the largest has "
        f"{values['largest']:.0f} HU)."
    ]


def _own(results: Results, name: str) -> list[str]:
    found = []
    for experiment, what in (("scans", "In {}"), ("series", "In two simulated realisations of {}")):
        for its, values in results.of(experiment, name):
            change = values["mean_out"] / values["mean_in"] - 1
            found.append(
                f"{what.format(' and '.join(its['scans']))}, {name} takes {percent(values['taken'])} of the noise of "
                f"{number(values['sigma_in'])} HU; its mean frequency changes by {signed(change)}."
            )
    return found
