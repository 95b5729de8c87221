"""What was measured, by denoiser and experiment: finding it, and the few numbers that say most of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...inference.denoisers import INPUT

Row = Mapping[str, Any]
"""As `run.Measured`: denoiser, condition, values."""


@dataclass(frozen=True)
class Results:
    """All rows of a run."""

    rows: Sequence[Row]

    @property
    def denoisers(self) -> list[str]:
        """Names in their order, without the input."""
        return [name for name in dict.fromkeys(row["denoiser"] for row in self.rows) if name != INPUT]

    def of(self, experiment: str, denoiser: str = "", **condition: Any) -> Iterator[tuple[Row, Row]]:
        """Condition and values of what was measured."""
        for row in self.rows:
            its = row["condition"]
            if its["experiment"] != experiment or (denoiser and row["denoiser"] != denoiser):
                continue
            if all(its.get(name) == value for name, value in condition.items()):
                yield its, row["values"]

    def one(self, experiment: str, denoiser: str, **condition: Any) -> Row | None:
        """Values of the first that fits."""
        return next((values for _, values in self.of(experiment, denoiser, **condition)), None)

    def values(self, name: str, experiment: str) -> list[Any]:
        """Every value of a condition of an experiment, sorted."""
        return sorted({its[name] for its, _ in self.of(experiment) if name in its})

    def kernel(self, experiment: str = "noise") -> str:
        """The Hann kernel, or the first one."""
        kernels = [its["kernel"] for its, _ in self.of(experiment)]
        return "hann" if "hann" in kernels else next(iter(kernels), "")

    def usual_dose(self, experiment: str, near: float = 0.25) -> float | None:
        """The dose that is nearest to 25 %, or to another one."""
        doses = self.values("dose", experiment)
        return min(doses, key=lambda dose: abs(np.log(dose / near))) if doses else None

    def equivalent(self, denoiser: str, diameter: str, dose: float, experiment: str = "disks") -> float | None:
        """The dose at which the input alone would be as detectable."""
        from .observer import equivalent_dose  # scipy.stats takes a while

        curve = sorted((its["dose"], values["disks"][diameter]["d"]) for its, values in self.of(experiment, INPUT))
        values = self.one(experiment, denoiser, dose=dose)
        if values is None or not curve:
            return None
        doses, known = ([each[place] for each in curve] for place in (0, 1))
        found = equivalent_dose(doses, known, values["disks"][diameter]["d"])
        return found if np.isfinite(found) else None

    def tradeoff(self, denoiser: str, taken: float, **condition: Any) -> tuple[float, float] | None:
        """Mean frequency over that of the input, and nNPS RMSD, at the strength that takes this part of the noise.

        None where it was not measured, or where no strength takes so much.
        """
        values = self.one("noise", denoiser, **condition)
        if values is None:
            return None
        _, parts, *both = np.array(values["tradeoff"]).T
        last = int(parts.argmax()) + 1  # from there on, more strength takes less
        if parts[last - 1] < taken:
            return None
        ratio, rmsd = (float(np.interp(taken, parts[:last], each[:last])) for each in both)
        return ratio, rmsd

    def sharpness(
        self, denoiser: str, rod: str, which: str = "f50", **condition: Any
    ) -> tuple[float, list[float]] | None:
        """TTF50 or TTF10 over that of the phantom without noise, with its interval; None where it is unknown."""
        values = self.one("rods", denoiser, **condition)
        if values is None:
            return None
        own = values["rods"][rod]
        if own[which] is None or not own["truth"][which]:
            return None
        true = own["truth"][which]
        return own[which] / true, [each / true for each in own[f"{which}_interval"]]
