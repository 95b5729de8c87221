"""Which shards a table of cases asks for: what decides about the content of each, and its key.

A shard with the same key has the same content, so that it need not be made again.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..progress import Progress
from ..purification.settings import Settings
from .cases import Case
from .contents import digest, sources_of

RECIPE = 1
"""Of the content of a shard. Another number makes every shard anew."""

_DIGITS = 12  # of a key


@dataclass(frozen=True)
class Order:
    """A shard to be made; can be sent to another process."""

    key: str
    case: Case
    realisation: int
    folder: Path  # where shards are
    settings: Settings  # with the case's dose, kernel, method and a seed of its own
    split_projections: bool
    uldct_seed: int
    motion_seed: int
    inputs: dict[str, str]  # SHA-256 by role

    def __str__(self) -> str:
        of_several = not self.case.paired and self.case.realisations > 1
        return f"{self.case.name}, realisation {self.realisation + 1}" if of_several else self.case.name


def orders_of(
    cases: Sequence[Case], folder: Path, settings: Settings, split_projections: bool, progress: Progress
) -> dict[str, list[Order]]:
    """The shards of every case, by its name. Hashes every file, and reads none."""
    orders = {}
    digests: dict[Path, str] = {}
    for index, case in enumerate(cases):
        progress.report(index / len(cases), f"looking at the files of {case.name}")
        for path in sources_of(case).values():
            if path not in digests:
                digests[path] = ""
                with suppress(InputError):  # which the case says when its turn comes
                    digests[path] = digest(path)
        inputs = {role: digests[path] for role, path in sources_of(case).items()}
        count = 1 if case.paired else case.realisations
        orders[case.name] = [
            _order(case, number, folder, settings, split_projections, inputs) for number in range(count)
        ]
    return orders


def _order(
    case: Case, realisation: int, folder: Path, settings: Settings, split_projections: bool, inputs: dict[str, str]
) -> Order:
    name = int.from_bytes(hashlib.sha256(case.name.encode()).digest()[:8], "big")
    rng = np.random.default_rng([case.seed, realisation, name])  # other cases, other noise
    motion_seed, uldct_seed, noise_seed = (int(value) for value in rng.integers(2**31, size=3))
    fraction = case.dose
    if not case.paired and case.dose_high is not None:
        fraction = float(np.exp(rng.uniform(np.log(case.dose), np.log(case.dose_high))))
    settings = replace(
        settings,
        remove_background=True,
        add_noise=True,
        remove_noise=True,
        blend=0.0,
        dose=fraction,
        method=case.method,
        kernel=case.kernel,
        seed=noise_seed,
    )
    split_projections = split_projections and not case.paired
    decisive = [RECIPE, case.name, inputs, asdict(settings), split_projections]
    if not case.paired:
        decisive += [motion_seed, uldct_seed, case.motion_mm]
    digest = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    slug = re.sub(r"[^a-z0-9]+", "-", case.name.lower()).strip("-")[:40] or "case"
    key = f"{slug}-{realisation}-{digest[:_DIGITS]}"
    return Order(key, case, realisation, folder, settings, split_projections, uldct_seed, motion_seed, inputs)
