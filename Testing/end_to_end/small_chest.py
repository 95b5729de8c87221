"""A chest CT of a few kilobytes, for tests of files and commands rather than of images."""

import numpy as np
from IPv2Lib.io.volume import Volume


def small_chest(size: int = 64, slices: int = 3, sigma: float = 60.0, seed: int = 0) -> Volume:
    """Two lungs and a spine in an ellipse, with noise: int16 HU on an oblique grid."""
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    image = np.full((size, size), -1000.0)
    image[(x / 0.9) ** 2 + (y / 0.7) ** 2 < 1] = 40
    for side in (-0.42, 0.42):
        image[((x - side) / 0.3) ** 2 + (y / 0.48) ** 2 < 1] = -850
    image[(x / 0.1) ** 2 + ((y - 0.45) / 0.1) ** 2 < 1] = 500
    noise = np.random.default_rng(seed).normal(0, sigma, (slices, size, size))
    cos, sin = np.cos(0.1), np.sin(0.1)
    return Volume(
        np.clip(np.rint(image + noise), -1024, 3071).astype(np.int16),
        spacing=(350 / size, 350 / size, 2.5),
        origin=(-170.0, -165.5, 40.25),
        direction=(cos, -sin, 0.0, sin, cos, 0.0, 0.0, 0.0, 1.0),
    )


def without_notes(err: str) -> str:
    """What a command said on stderr but notes: this chest is coarser than those that models are made for."""
    return "".join(line for line in err.splitlines(keepends=True) if not line.startswith("ipv2: note: "))
