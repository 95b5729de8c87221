"""The methods that the quality benchmark compares, and the one place that runs them: filters, models, rivals.

Owns tuning, caching and parallel work; what is measured is in `quality_measures`, on what in `quality_cases`.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from itertools import repeat
from multiprocessing import get_context
from typing import Any

import numpy as np
from IPv2Lib.evaluation.similarity import rmse
from IPv2Lib.inference import filters
from IPv2Lib.inference.denoisers import AsItIs, Denoiser, NetworkDenoiser
from IPv2Lib.models import bundle
from quality_cache import Cache
from quality_cases import (
    DOSES,
    SIMULATORS,
    VALIDATION,
    Block,
    Case,
    block,
    present,
    tuning_contents,
    tuning_crops,
)
from quality_filters import FILTERS, STRENGTHS, Tuned, filtered, tune
from quality_measures import Scores, scores

CHECKED_DOSE = 0.02
"""The dose that the bars of part 1 are about."""


@dataclass(frozen=True, eq=False)
class Method:
    """Something that denoises the scored slices of a case.

    Attributes
    ----------
    name : str
    role : str
        "reference" (the ground truth), "input", "filter", "fast", "quality", "model" (another bundled one) or "rival".
    key : tuple
        What its results depend on, for the cache.
    run : callable
        From a case to (scored slices, rows, columns) HU.
    model : bundle.Bundle, optional
    denoiser : Denoiser, optional
        What runs.
    """

    name: str
    role: str
    key: tuple[Any, ...]
    run: Callable[[Case], np.ndarray]
    model: bundle.Bundle | None = None
    denoiser: Denoiser | None = None


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


REFERENCE = Method("NDCT", "reference", ("reference",), lambda case: case.block.ground_truth)


def from_bundle(
    model: bundle.Bundle,
    *,
    rival: bool = False,
    residual_noise_hu: float | None = None,
    test_time_augmentation: bool = False,
) -> Method:
    """A trained model as a method; its name decides whether it is the fast or the quality one."""
    part = "fast" if "fast" in model.name else "quality" if "quality" in model.name else "model"
    denoiser = NetworkDenoiser(model.name, model.name, model, {}, "cpu", residual_noise_hu, test_time_augmentation)
    return from_denoiser(denoiser, "rival" if rival else part, model)


def from_denoiser(denoiser: Denoiser, role: str, model: bundle.Bundle | None = None) -> Method:
    """Anything that denoises as a method."""

    def run(case: Case) -> np.ndarray:
        scored = list(case.block.scored)
        return denoiser.denoise(case.noisy, slices=scored).array[scored]

    return Method(denoiser.name, role, (role, denoiser.key), run, model, denoiser)


INPUT = from_denoiser(AsItIs(), "input")


class Bench:
    """Models, filters and scans of one run of the benchmark.

    Parameters
    ----------
    models, rivals : list of Method
    slices : int
        Scored of each scan.
    scans : sequence of str
        Names in `TRAINING` or `VALIDATION`; those that are there are taken.
    quick : bool
        One slice, 2 % only, the physical simulator, a small synthetic chest.
    filters : sequence of str
        Keys of `FILTERS`.
    kept : Cache
        Of what took long.
    jobs : int
        Processes for filters.
    """

    def __init__(
        self,
        models: list[Method],
        rivals: list[Method],
        *,
        slices: int,
        quick: bool,
        filters: tuple[str, ...],
        kept: Cache,
        scans: Sequence[str] = VALIDATION,
        jobs: int = 1,
    ):
        self.models, self.rivals, self.cache, self.quick = models, rivals, kept, quick
        self.slices = 1 if quick else slices
        self.doses = (CHECKED_DOSE,) if quick else DOSES
        self.simulators = SIMULATORS[:1] if quick else SIMULATORS
        self.scans = tuple(scan for scan in scans if present(scan))
        self.filters = tuple(name for name in filters if FILTERS[name].installed)
        self.missing = tuple(name for name in filters if not FILTERS[name].installed)
        self.tuned: dict[str, dict[str, Any]] = {}
        # Not by forking: torch's threads do not survive that.
        self._pool = ProcessPoolExecutor(jobs, get_context("spawn")) if jobs > 1 else None
        self._scores: dict[tuple[Any, ...], Scores] = {}

    def close(self) -> None:
        """End the processes for filters."""
        if self._pool:
            self._pool.shutdown()

    @cache  # noqa: B019
    def block(self, scan: str, slices: int | None = None) -> Block:
        """Slices of a validation scan."""
        return block(scan, slices or self.slices, 256 if self.quick else 512)

    @cache  # noqa: B019
    def case(self, scan: str, dose: float, simulator: str = "physical") -> Case:
        """A validation scan at a dose; half of the slices for the published simulator."""
        count = self.slices if simulator == "physical" else max(1, self.slices // 2)
        return Case(self.block(scan, count), dose, simulator)

    def filtered(self, images: np.ndarray, name: str, strength: float, body: np.ndarray) -> np.ndarray:
        """Slices through a filter, in parallel."""
        work = self._pool.map if self._pool else map
        return np.stack(list(work(filtered, images, repeat(name), repeat(strength), body)))

    @cache  # noqa: B019
    def tuning(self, name: str, dose: float, simulator: str) -> Tuned:
        """The strength of a filter for a dose and simulator, from the training scans."""

        def compute() -> dict[str, Any]:
            say(f"tuning {name} at {dose:g}, {simulator}")
            noisy, ground_truth, body = (np.stack(arrays) for arrays in zip(*_crops(dose, simulator), strict=True))
            everywhere = np.ones_like(body)

            def error(strength: float) -> float:
                result = self.filtered(noisy, name, strength, everywhere)
                return float(np.mean([rmse(*three) for three in zip(ground_truth, result, body, strict=True)]))

            return asdict(tune(STRENGTHS[name], error, self._start(name, dose, simulator)))

        tuned = Tuned(**self.cache.get(("tuned", name, dose, simulator, *tuning_contents()), compute))
        self.tuned[f"{name}, {dose:g}, {simulator}"] = asdict(tuned)
        return tuned

    def _start(self, name: str, dose: float, simulator: str) -> int | None:
        """Where to start tuning: at the strength of the next higher dose, if that is known."""
        higher = [known for known in self.doses if known > dose and f"{name}, {known:g}, {simulator}" in self.tuned]
        if not higher:
            return None
        return STRENGTHS[name].index(self.tuned[f"{name}, {min(higher):g}, {simulator}"]["strength"])

    def _start_for(self, name: str, case: Case) -> int:
        """Where to start tuning on a case: at the strength for the dose whose noise is most like it."""

        def unlike(dose: float) -> float:
            usual = self.scores(INPUT, self.case(self.scans[0], dose)).rmse_hu
            return abs(math.log(self.scores(INPUT, case).rmse_hu / usual))

        dose = min(self.doses, key=unlike)
        return STRENGTHS[name].index(self.tuning(name, dose, SIMULATORS[0]).strength)

    def filter(self, name: str, strength: float) -> Method:
        """A filter with a strength as a method."""

        def run(case: Case) -> np.ndarray:
            return self.filtered(case.images, name, strength, case.block.body)

        return Method(name, "filter", ("filter", name, strength), run)

    def tuned_filters(self, dose: float, simulator: str = "physical") -> list[Method]:
        """Every filter, tuned on the training scans."""
        return [self.filter(name, self.tuning(name, dose, simulator).strength) for name in self.filters]

    def methods(self, case: Case) -> list[Method]:
        """Everything that is compared on a case. Rivals take long: by the published simulator only where it counts."""
        rivals = self.rivals if case.simulator == "physical" or case.dose == CHECKED_DOSE else []
        return [INPUT, *self.tuned_filters(case.dose, case.simulator), *rivals, *self.models]

    def best_filter(self, case: Case) -> Method:
        """Of the tuned filters the one with the least body RMSE on this very case."""
        return min(self.tuned_filters(case.dose, case.simulator), key=lambda method: self.scores(method, case).rmse_hu)

    def usual_filter(self, dose: float) -> Method:
        """The filter with the least error on the training scans at a dose: what one would choose beforehand."""
        name = min(self.filters, key=lambda each: self.tuning(each, dose, SIMULATORS[0]).error_hu)
        return self.filter(name, self.tuning(name, dose, SIMULATORS[0]).strength)

    def oracle(self, case: Case, *, matched: bool = False) -> tuple[str, Tuned]:
        """The best filter with the strength that is best on this very case, and its error.

        With `matched` the error is that of `matched_rmse`.
        """
        found = ((name, self._oracle(name, case, matched)) for name in self.filters)
        return min(found, key=lambda pair: pair[1].error_hu)

    def _oracle(self, name: str, case: Case, matched: bool) -> Tuned:
        measure = matched_rmse if matched else rmse

        def compute() -> dict[str, Any]:
            say(f"tuning {name} on {case.block.name} itself")
            ground_truth, body = case.block.ground_truth, case.block.body

            def error(strength: float) -> float:
                return measure(ground_truth, self.filtered(case.images, name, strength, body), body)

            return asdict(tune(STRENGTHS[name], error, self._start_for(name, case)))

        return Tuned(**self.cache.get(("oracle", name, matched, *case.key), compute))

    def scores(self, method: Method, case: Case) -> Scores:
        """Everything measured on a result, from the cache if it was before."""
        key = (*method.key, *case.key)
        if key not in self._scores:

            def compute() -> dict[str, Any]:
                say(f"{method.name} on {case.block.scan} at {case.dose:g}, {case.simulator}")
                return scores(method.run(case), case.block).as_dict()

            self._scores[key] = Scores(**self.cache.get(("scores", *key), compute))
        return self._scores[key]


def matched_rmse(ground_truth: np.ndarray, result: np.ndarray, body: np.ndarray) -> float:
    """RMSE in HU after the Gaussian blur that makes it least: against a scan of lower resolution."""
    blur = filters.FILTERS["gaussian"]

    def error(sigma_pixels: float) -> float:
        return rmse(ground_truth, np.stack([blur(image, sigma_pixels) for image in result]), body)

    return min(rmse(ground_truth, result, body), tune(STRENGTHS[blur.label], error).error_hu)


@lru_cache(maxsize=1)
def _crops(dose: float, simulator: str) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    return tuning_crops(dose, simulator)
