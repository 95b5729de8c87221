"""Realisations: phantoms with noise, as often as asked for.

Owns the noise. Textures A and C are the simulator's, with the Hann kernel and with the plain ramp: photons are counted
behind the phantom. It is simulated once for every phantom and kernel and kept in a folder. Texture B is white noise
after a Gaussian of 0.7 pixels. What is measured in realisations is not asked here.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
from scipy import ndimage

from ...io import atomic
from ...io.volume import Volume
from ...progress import NO_PROGRESS, Progress
from .phantoms import Phantom, reconstructed

TEXTURES = {"A": "hann", "B": "", "C": "ramp"}
"""Kernel of the simulator's; none: white noise after a Gaussian."""

B_PIXELS = 0.7
"""σ of the Gaussian of texture B."""

CONTEXT = 2
"""Slices at both ends of a stack that are not measured: denoisers that look at neighbours lack some there."""

REFERENCE_DOSE = 0.25
"""Dose at which noise is simulated; elsewhere it is scaled by 1 / √dose."""

_FORMAT = 1


class Noise:
    """Noise of phantoms, simulated when it is first asked for.

    Parameters
    ----------
    folder : Path
        Where it is kept.
    count : int
        Slices of each phantom, where no other number is asked for.
    seed : int
    """

    def __init__(self, folder: Path, count: int, seed: int = 0, progress: Progress = NO_PROGRESS):
        self.folder, self.count, self.seed, self.progress = folder, count, seed, progress
        self._known = lru_cache(maxsize=4)(self._read_or_simulate)

    def of(self, phantom: Phantom, kernel: str, dose: float, count: int | None = None) -> np.ndarray:
        """The simulator's noise: (count, rows, columns) HU, where the phantom's truth is."""
        row, column = phantom.corner
        rows, columns = phantom.truth.shape[1:]
        whole = self._known(
            phantom.source.tobytes(), phantom.source.shape, phantom.spacing[0], kernel, count or self.count
        )
        return whole[:, row : row + rows, column : column + columns] * np.float32(np.sqrt(REFERENCE_DOSE / dose))

    def white(self, shape: tuple[int, ...], seed: int) -> np.ndarray:
        """Texture B, of σ 1."""
        rng = np.random.default_rng([self.seed, seed, 17])
        noise = ndimage.gaussian_filter(
            rng.standard_normal(shape, np.float32), (*[0] * (len(shape) - 2), B_PIXELS, B_PIXELS), mode="wrap"
        )
        return noise / noise.std()

    def _read_or_simulate(
        self, source: bytes, shape: tuple[int, int], spacing_mm: float, kernel: str, count: int
    ) -> np.ndarray:
        facts = f"{_FORMAT} {shape} {spacing_mm} {kernel} {count} {self.seed}".encode()
        path = self.folder / f"noise-{hashlib.sha256(facts + source).hexdigest()[:16]}.npy"
        try:
            found = np.load(path, allow_pickle=False)
            if found.shape == (count, *shape):
                return found.astype(np.float32)
        except (OSError, ValueError, EOFError):
            pass
        hu = np.frombuffer(source, np.float32).reshape(shape)
        noise = self._simulate(hu, spacing_mm, kernel, count).astype(np.float16)
        with atomic.new_file(path) as temporary, open(temporary, "wb") as file:
            np.save(file, noise)
        return noise.astype(np.float32)

    def _simulate(self, hu: np.ndarray, spacing_mm: float, kernel: str, count: int) -> np.ndarray:
        from ...simulation.dose import PHOTONS, physical_noise

        parts = []
        for first in range(0, count, 4):
            self.progress.check("stopped; the same command again goes on with what was measured")
            self.progress.report(first / count, f"simulating noise, slice {first + 1} of {count}")
            seeds = [1_000_003 * (self.seed + 1) + index for index in range(first, min(first + 4, count))]
            slices = np.repeat(hu[None], len(seeds), 0)
            parts.append(physical_noise(slices, spacing_mm, PHOTONS * REFERENCE_DOSE, seeds=seeds, kernel=kernel))
        return np.concatenate(parts)


def stack(phantom: Phantom, noise: np.ndarray, kernel: str = "") -> Volume:
    """The phantom with noise (slices, rows, columns), shown by a kernel if one is given."""
    return Volume((truth(phantom, kernel) + noise).astype(np.float32), phantom.spacing)


@lru_cache(maxsize=8)
def truth(phantom: Phantom, kernel: str = "") -> np.ndarray:
    """What the phantom looks like without noise."""
    return reconstructed(phantom.truth, kernel) if kernel else phantom.truth
