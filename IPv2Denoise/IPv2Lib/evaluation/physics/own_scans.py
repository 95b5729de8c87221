"""Scans of one's own: two of a phantom, or one from which a second realisation is simulated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...analysis import noise as texture
from ...errors import InputError
from ...inference.denoisers import Denoiser
from ...io.volume import Volume, check_ct, same_grid
from ...progress import Progress
from . import noise
from .settings import PhysicsSettings

LEAST_PATCHES = 4


@dataclass(frozen=True, eq=False)
class Own:
    """Two realisations of one object.

    Attributes
    ----------
    experiment : str
        "scans" or "series".
    names : tuple of str
        Of the scans.
    pair : two of Volume
    places : ndarray, shape (patches, 3)
        Where noise is measured, see `homogeneous_places`.
    dose : float
        Of what was simulated; 0 if nothing was.
    seed : int
    """

    experiment: str
    names: tuple[str, ...]
    pair: tuple[Volume, Volume]
    places: np.ndarray
    dose: float
    seed: int

    @property
    def title(self) -> str:
        """For progress."""
        return " and ".join(self.names)

    @property
    def key(self) -> str:
        """The same for the same voxels."""
        return " ".join([self.experiment, *(each.sha256() for each in self.pair), str(self.dose)])

    @property
    def condition(self) -> dict[str, Any]:
        """As that of a `protocol.Condition`."""
        found: dict[str, Any] = {"experiment": self.experiment, "scans": list(self.names)}
        return found | ({"dose": self.dose} if self.dose else {})

    def measure(self, denoiser: Denoiser, progress: Progress) -> dict[str, Any]:
        """Noise before and after; as `noise.compared`."""
        halves = (progress.part(0.0, 0.5), progress.part(0.5, 1.0))
        results = [denoiser.denoise(each, progress=half) for each, half in zip(self.pair, halves, strict=True)]
        before, after = ([self._strip(each.array) for each in both] for both in (self.pair, results))
        size = texture.PATCH
        mask = np.ones(before[0].shape[1:], bool)
        return noise.compared(before, after, mask, self.pair[0].spacing[0], self.seed, size, size)

    def _strip(self, array: np.ndarray) -> np.ndarray:
        """The patches side by side in one slice."""
        return np.hstack(list(texture.cut(array, self.places)))[None]


def places(settings: PhysicsSettings) -> list[Path]:
    """The files and folders that are read."""
    return [Path(each) for each in (*settings.scans, *([settings.series] if settings.series else []))]


def read(settings: PhysicsSettings, progress: Progress) -> list[Own]:
    """Read what the settings name, and refuse (`InputError`) what cannot be measured."""
    from ...io import files

    found = []
    if settings.scans:
        progress.report(0.0, "reading")
        a, b = (_checked(files.read(each), each) for each in settings.scans)
        if not same_grid(a, b):
            raise InputError(
                f"{settings.scans[0]} has {_grid(a)} and {settings.scans[1]} {_grid(b)}, or they lie elsewhere: give "
                "two scans of one phantom in the same place"
            )
        if np.array_equal(a.array, b.array):
            raise InputError(f"{settings.scans[0]} and {settings.scans[1]} are the same image: give two scans")
        mean = (a.array.astype(np.float32) + b.array) / 2
        found.append(_own("scans", settings.scans, (a, b), mean, 0.0, settings.seed))
    if settings.series:
        from ...simulation.dose import simulate
        from ...simulation.matching import match_scan

        progress.report(0.3, "simulating two realisations")
        scan = _thinned(_checked(files.read(settings.series), settings.series))
        seeds = (2 * settings.seed + 1, 2 * settings.seed + 2)
        try:
            own = match_scan(scan)
        except InputError as error:
            raise InputError(f"{settings.series}: {error}") from error
        a, b = (
            simulate(
                scan, settings.series_dose, seed=seed, photons=own.photons, kernel=own.kernel,
                progress=progress.silent(),
            )
            for seed in seeds
        )  # fmt: skip
        mean = scan.array.astype(np.float32)
        found.append(_own("series", (settings.series,), (a, b), mean, settings.series_dose, settings.seed))
    return found


def _own(
    experiment: str, paths: Sequence[str], pair: tuple[Volume, Volume], mean: np.ndarray, dose: float, seed: int
) -> Own:
    corners = texture.homogeneous_places(mean)
    if len(corners) < LEAST_PATCHES:
        raise InputError(
            f"{' and '.join(paths)}: {len(corners)} uniform patches of {texture.PATCH} pixels, too few to measure "
            f"noise in: at least {LEAST_PATCHES} of soft tissue or water are needed"
        )
    return Own(experiment, tuple(Path(each).name for each in paths), pair, corners, dose, seed)


def _thinned(scan: Volume, most: int = 12) -> Volume:
    """The middle slices."""
    first = max((len(scan.array) - most) // 2, 0)
    return scan.with_array(scan.array[first : first + most])


def _checked(scan: Volume, path: str) -> Volume:
    try:
        check_ct(scan)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return scan


def _grid(volume: Volume) -> str:
    return f"{'×'.join(map(str, volume.array.shape))} voxels of {'×'.join(f'{each:g}' for each in volume.spacing)} mm"
