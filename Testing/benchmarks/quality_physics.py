"""Part 4 of the quality benchmark: noise and its texture, by the measures of `ipv2 physics` and without anatomy.

Owns the bars. What is measured, in which phantoms and how, is `IPv2Lib.evaluation.physics`'.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise

import numpy as np
from IPv2Lib.evaluation.physics.experiments import Laboratory
from IPv2Lib.evaluation.physics.protocol import conditions, effort
from IPv2Lib.evaluation.physics.realisations import Noise
from IPv2Lib.evaluation.physics.results import Results
from IPv2Lib.evaluation.physics.settings import PhysicsSettings
from quality_methods import Bench, Method, say
from quality_rows import Bar, Row, worst

TEXTURES = ("A", "B")
"""That are judged; C, the finest, is in the report of `ipv2 physics`."""

TAKEN = ((15.0, 0.75), (6.0, 0.6))
"""From a σ in HU on, the least part of the noise that is taken."""

STEP, FINER = 0.15, 0.15
"""Largest change of that part from a σ to twice that; how much finer what is left may be than what came in."""

AT_HALF, AT_QUARTER, RMSD = 0.05, 0.2, 0.05
"""Largest change of the mean frequency where half of the noise is left, and a quarter; nNPS RMSD where half is."""

HALF_DOSE, QUARTER_DOSES = 0.25, (0.05, 0.1, 0.25)


def noise_and_texture(bench: Bench) -> list[Row]:
    """Part 4: how much noise is taken of how much, and how what is left looks."""
    return [row for model in bench.models for row in judged(model.name, _measured(bench, model))]


def _measured(bench: Bench, model: Method) -> Results:
    """In water of every size and in a chest, what was measured before from the cache."""
    settings = PhysicsSettings(quick=bench.quick, only=("response", "noise", "chest"), kernels=("hann",))
    how = effort(settings)
    lab = Laboratory(Noise(bench.cache.folder, how.noise), how)

    def denoise(volume, slices: Sequence[int]) -> np.ndarray:
        return model.denoiser.denoise(volume, slices=list(slices)).array[list(slices)]

    rows = []
    for condition in conditions(settings):
        if condition.texture in ("", *TEXTURES):
            say(f"{model.name}, {condition.title}")
            key = ("physics", *model.key, asdict(how), condition.as_dict())
            values = bench.cache.get(key, lambda condition=condition: lab.measure(condition, denoise))
            rows.append({"denoiser": model.name, "condition": condition.as_dict(), "values": values})
    return Results(rows)


def judged(name: str, results: Results) -> list[Row]:
    """What was measured of a model against the bars."""
    return [*_response(name, results), *_chest(name, results), *_textures(name, results)]


def _response(name: str, results: Results) -> list[Row]:
    """In water: of every σ the least that is taken, the largest step, and the finest that is left."""
    rows, steps, finer = [], [], []
    curves: dict[str, dict[float, float]] = {}
    for its, values in results.of("response", name):
        place, sigma = f"{its['size_cm']:g} cm, {its['texture']}", its["sigma_hu"]
        curves.setdefault(place, {})[sigma] = values["taken"]
        finer.append((values["mean_out"] / values["mean_in"] - 1, f"{sigma:g} HU, {place}"))
        rows.append(Row(4, name, "noise taken", f"σ {sigma:g} HU, {place}", values["taken"], "%", detail=True))
    for sigma in results.values("sigma_hu", "response"):
        value, place = min((curve[sigma], place) for place, curve in curves.items())
        rows.append(Row(4, name, "noise taken", f"σ {sigma:g} HU, least: {place}", value, "%", _least(sigma)))
    for place, curve in curves.items():
        for a, b in pairwise(sorted(curve)):
            steps.append((abs(curve[b] - curve[a]) / np.log2(b / a), f"{a:g} to {b:g} HU, {place}"))
    for what, found, high in (
        ("step of that, per doubling of σ", steps, STEP),
        ("mean frequency of what is left", finer, FINER),
    ):
        value, case = max(found)
        rows.append(Row(4, name, what, f"most: {case}", value, "%", Bar(high=high, unit="%")))
    return rows


def _chest(name: str, results: Results) -> list[Row]:
    """Behind anatomy."""
    rows = []
    for its, values in results.of("chest", name):
        for region in ("parenchyma", "soft"):
            one = values["regions"][region]
            case = f"chest, {its['dose']:.0%}, {region}, σ {one['sigma_in']:.0f} HU"
            rows.append(Row(4, name, "noise taken", case, one["taken"], "%", _least(one["sigma_in"])))
    return rows


def _least(sigma_hu: float) -> Bar | None:
    """Below the least σ of `TAKEN` nothing is asked."""
    return next((Bar(low=low, unit="%") for since, low in TAKEN if sigma_hu >= since), None)


def _textures(name: str, results: Results) -> list[Row]:
    """At the strength that takes so much of the noise."""

    def at(taken: float, dose: float) -> tuple[float, float]:
        ratio, rmsd = results.tradeoff(name, taken, dose=dose) or (np.nan, np.nan)
        return ratio - 1, rmsd

    shift, rmsd = at(0.5, HALF_DOSE)
    most, case = worst((at(0.75, dose)[0], f"{dose:.0%}") for dose in QUARTER_DOSES)
    return [
        Row(4, name, what, case, value, unit, bar, "no strength takes so much" if np.isnan(value) else "")
        for what, case, value, unit, bar in (
            ("mean frequency at −50 % noise", f"{HALF_DOSE:.0%}", shift, "%", Bar(-AT_HALF, AT_HALF, "%")),
            ("nNPS RMSD at −50 % noise", f"{HALF_DOSE:.0%}", rmsd, "", Bar(high=RMSD)),
            ("mean frequency at −75 % noise", f"worst: {case}", most, "%", Bar(-AT_QUARTER, AT_QUARTER, "%")),
        )
    ]
