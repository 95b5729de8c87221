"""Blocks to train on whose targets have hardly any noise, for the stage CLEAN of `train_bundled`.

A scan of normal dose has noise of 6 to 20 HU. A network that is asked for it leaves whatever looks like it, and takes
noise of 10 HU by a quarter, of 30 HU by four fifths. So targets here are what a teacher makes of a scan with more
noise, with everything that it took beside noise given back; such scans made 2 to 3 times coarser; and phantoms. Inputs
are scans as they are, with the noise of their scanners, or targets; with simulated noise, or random Gaussian noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from IPv2Lib.inference.denoise import denoise
from IPv2Lib.io.volume import Volume
from IPv2Lib.models.bundle import Bundle
from IPv2Lib.training.on_the_fly import Block, make_block
from IPv2Lib.training.settings import Ranges
from scipy import ndimage

VOLUMES_FIRST, LOW_DOSE_FROM = 200, 420
"""The first blocks are of volumes alone, not of single slices; the last ones of low dose."""

POOR_HU = 30.0
"""A scan with more noise than this is seldom asked for."""

_TEACHERS_NOISE_HU, _REPEATS = 28.0, 3
_COARSE, _WINDOW, _EDGE = 4.0, 2.5, 0.7  # pixels, standard deviations
_KINDS = {"scan": 0.48, "coarse scan": 0.22, "chest": 0.10, "objects": 0.20}
_ZOOM = {"scan": (0.8, 1.5), "coarse scan": (1.8, 3.0), "chest": (0.9, 1.8), "objects": (0.9, 1.4)}


def without_noise(scan: Volume, teacher: Bundle, seed: int) -> tuple[Volume, float]:
    """A scan without its noise, as far as that can be had, and the standard deviation of that noise in HU."""
    hu = scan.array.astype(np.float32)
    taught = np.zeros_like(hu)
    for number in range(_REPEATS):
        noisy = hu + _TEACHERS_NOISE_HU * _like_a_scanners(np.random.default_rng([seed, number]), hu.shape)
        noisy[hu <= -1020] = hu[hu <= -1020]
        turned = (slice(None), slice(None, None, (-1) ** number), slice(None, None, (-1) ** (number // 2)))
        answer = denoise(Volume(np.ascontiguousarray(noisy[turned]), scan.spacing), teacher, residual_noise_hu=0.0)
        taught += answer.volume.array[turned] / _REPEATS
    removed = hu - taught
    kept = _smoothed(removed, _COARSE)  # HU over some pixels are right in the scan
    removed -= kept
    power = _smoothed(removed**2, _WINDOW)
    soft = ndimage.binary_erosion((taught > -120) & (taught < 180), np.ones((1, 7, 7)))
    noise = float(np.sqrt(np.percentile(power[soft], 40))) if soft.sum() >= 500 else 15.0
    edge = np.hypot(*np.gradient(_smoothed(taught, _EDGE), axis=(1, 2)))  # HU per pixel
    here = noise * np.where(_smoothed(taught, 3.0) < -500, 0.7, 1.0)
    share = np.clip((edge - 2.5 * noise) / (2.5 * noise + 40.0), 0.0, 1.0)
    share = np.maximum(share, np.clip((power / here**2 - 1.7) / 1.8, 0.0, 1.0))  # where more was taken than noise
    return Volume((taught + kept + _smoothed(share, _EDGE) * removed).astype(np.float32), scan.spacing), noise


class CleanBlocks:
    """Block after block.

    Parameters
    ----------
    scans : sequence of Volume
    targets : sequence of (Volume, float)
        Of each what `without_noise` returned.
    volumes : int
        How many of the first are more than single slices.
    chests : sequence of Volume
        Phantoms without noise.
    seed : int
    """

    def __init__(
        self,
        scans: Sequence[Volume],
        targets: Sequence[tuple[Volume, float]],
        volumes: int,
        chests: Sequence[Volume],
        seed: int,
    ):
        self.scans, self.volumes, self.chests, self.seed = scans, volumes, chests, seed
        self.targets, self.noise = zip(*targets, strict=True)

    def __getitem__(self, index: int) -> Block:
        rng = np.random.default_rng([self.seed, 5, index])
        kind = rng.choice(list(_KINDS), p=list(_KINDS.values()))
        simulated = rng.random() < (0.6 if kind == "objects" else 0.7)
        low_dose, as_it_is = index >= LOW_DOSE_FROM, False
        if low_dose:
            kind, simulated = "scan", True
        if kind.endswith("scan"):
            as_it_is = rng.random() < (0.75 if kind == "scan" else 0.5)
            chosen = [
                number
                for number, noise in enumerate(self.noise)
                if (noise < POOR_HU or rng.random() < 0.35) and (index >= VOLUMES_FIRST or number < self.volumes)
            ]
            targets = [self.targets[number] for number in chosen]
            volumes = [self.scans[number] for number in chosen] if as_it_is else targets
        else:
            volumes = targets = self.chests if kind == "chest" else [_objects(int(rng.integers(1 << 30)))]
        dose, photons = ((0.008, 0.06 if low_dose else 1.0), (0.7e5, 3e5)) if simulated else ((1.0, 1.0), (1e9, 1e9))
        ranges = Ranges(
            dose=dose, photons=photons, zoom=_ZOOM[kind], thickness=(1, 1) if kind == "objects" else (1, 3),
            modulation=(0.0, 1.0), band=(0.0, 1.5),
        )  # fmt: skip
        block = make_block(volumes, index, self.seed, "direct", slices=5, ranges=ranges, targets=targets)
        if simulated:
            return block
        rng = np.random.default_rng([self.seed, 6, index])
        more = 0.0 if as_it_is and rng.random() < 0.35 else _gaussian_noise(rng, block.target)
        low = -1024.0 if rng.random() < 0.5 else -np.inf
        return replace(block, input=np.clip(block.input + more, low, 3071.0))


def _smoothed(image: np.ndarray, pixels: float) -> np.ndarray:
    return ndimage.gaussian_filter(image, (0.0, pixels, pixels))


def _frequencies(shape: tuple[int, ...]) -> np.ndarray:
    return np.hypot(np.fft.fftfreq(shape[1])[:, None], np.fft.rfftfreq(shape[2])[None]) / 0.5


def _of_spectrum(rng: np.random.Generator, shape: tuple[int, ...], gain: np.ndarray) -> np.ndarray:
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * gain, shape[1:])
    return noise / noise.std()


def _like_a_scanners(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    u = _frequencies(shape)
    return _of_spectrum(rng, shape, np.where(u < 1, np.sqrt(u) * np.cos(np.pi * u / 2), 0.0)).astype(np.float32)


def _gaussian_noise(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Noise of 2.5 to 100 HU with a random spectrum, stronger within the body, and nowhere quite the same."""
    shape, u = image.shape, _frequencies(image.shape)
    cut, rise, fall = rng.uniform(0.45, 1.45), rng.choice([0.0, 0.5, rng.uniform(0, 0.8)]), rng.uniform(0.7, 4)
    noise = _of_spectrum(rng, shape, (u + 0.02) ** rise * np.exp(-((u / (0.75 * cut)) ** (2 * fall))))
    noise *= np.exp(rng.uniform(np.log(2.5), np.log(100)))
    body = _smoothed((image > -300).astype(np.float32), 12.0)
    level = (0.35 + 0.65 * body) ** rng.uniform(0, 1.2)
    slow = ndimage.zoom(rng.standard_normal((1, 5, 5)), (1, shape[1] / 5, shape[2] / 5), order=3)
    return noise * level * np.exp(0.25 * rng.uniform(0, 1) * slow[:, : shape[1], : shape[2]])


def _objects(seed: int, size: int = 384) -> Volume:
    """A body of 15 to 40 cm, with objects of 1 to 25 mm in three of four: faint, airy or dense."""
    rng = np.random.default_rng([77, seed])
    mm = rng.uniform(0.45, 0.95) if rng.random() < 0.7 else rng.uniform(0.9, 1.3)
    width = min(rng.uniform(150, 400), 0.96 * size * mm)
    a, b = width / 2, width / 2 * rng.uniform(0.6, 1.0)
    y, x = (np.indices((size, size)) - size / 2 + 0.5) * mm

    def oval(row: float, column: float, down: float, across: float, angle: float) -> np.ndarray:
        u = (x - column) * np.cos(angle) + (y - row) * np.sin(angle)
        v = (y - row) * np.cos(angle) - (x - column) * np.sin(angle)
        return np.clip(0.5 - (np.hypot(u / across, v / down) - 1) * min(down, across) / mm, 0, 1)

    hu = np.full((size, size), -1000.0)
    hu += oval(0, 0, b, a, 0) * (rng.choice([0.0, rng.uniform(-120, 80)]) + 1000)
    for _ in range(rng.integers(3, 60) if rng.random() < 0.75 else 0):
        radius = np.exp(rng.uniform(np.log(1.0), np.log(25)))
        away, angle, kind = 0.92 * np.sqrt(rng.random()), rng.uniform(0, 2 * np.pi), rng.random()
        if kind < 0.55:
            value = rng.choice([-1, 1]) * np.exp(rng.uniform(np.log(3), np.log(40)))
        else:
            value = rng.uniform(-900, -300) if kind < 0.75 else rng.uniform(40, 1000)
        row, column = away * b * np.sin(angle), away * a * np.cos(angle)
        covered = oval(row, column, radius, radius * rng.uniform(0.5, 1.0), rng.uniform(0, 3.2))
        covered *= np.hypot(x / a, y / b) < 0.97
        hu += covered * (value if kind < 0.55 else value - hu)
    if rng.random() < 0.3:
        hu += ndimage.gaussian_filter(rng.standard_normal(hu.shape), 12) * rng.uniform(50, 300) * (hu > -900)
    hu = ndimage.gaussian_filter(hu, rng.uniform(0.3, 1.0))
    return Volume(np.repeat(hu[None], 5, 0).astype(np.float32), (mm, mm, 1.5))
