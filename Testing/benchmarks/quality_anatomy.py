"""Anatomy other than a chest, drawn with known HU: head, abdomen with contrast agent, hips with a metal rod.

Owns the shapes; every organ is an ellipse of one HU with a rim about a pixel wide. They are to find out what a network
does with what it was not trained on, not to look like a patient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from IPv2Lib.io.volume import Volume
from quality_cases import Block
from scipy import ndimage

METAL_HU = 3071.0
_SLICES = 8
_SCORED = (2, 3, 4, 5)
"""All slices show the same and differ in their noise: the mean of a small organ over one would be chance."""


@dataclass(frozen=True)
class Organ:
    """An ellipse: centre and half axes (x, y in mm from the middle, y to the back), turn in degrees, HU."""

    name: str
    x: float
    y: float
    half_width: float
    half_depth: float
    hu: float
    turn: float = 0.0


@dataclass(frozen=True, eq=False)
class Drawn:
    """A block, and where each tissue lies in its scored slices, (slices, rows, columns), its rim left out."""

    block: Block
    tissues: dict[str, np.ndarray]


HEAD = (
    Organ("skin", 0, 0, 80, 98, 40),
    Organ("skull", 0, 0, 75, 93, 1100),
    Organ("CSF", 0, 0, 68, 86, 8),
    Organ("brain", 0, 0, 65, 83, 35),
    Organ("white matter", -28, 8, 18, 48, 27),
    Organ("white matter", 28, 8, 18, 48, 27),
    Organ("ventricles", -9, -12, 6, 24, 8, 12),
    Organ("ventricles", 9, -12, 6, 24, 8, -12),
)
ABDOMEN = (
    Organ("fat", 0, 0, 160, 112, -100),
    Organ("muscle", 0, 2, 148, 98, 55),
    Organ("fat", 0, -4, 138, 86, -100),
    Organ("liver", -62, -18, 70, 62, 110, 12),
    Organ("spleen", 92, 12, 30, 46, 120, -15),
    Organ("bowel", 20, -52, 44, 22, 30),
    Organ("kidneys", -62, 48, 22, 28, 180, 20),
    Organ("kidneys", 62, 48, 22, 28, 180, -20),
    Organ("bone", 0, 62, 24, 20, 620),
    Organ("marrow", 0, 62, 21, 17, 200),
    Organ("aorta", 12, 32, 11, 11, 350),
)
METAL = (
    Organ("fat", 0, 0, 165, 105, -100),
    Organ("muscle", 0, 0, 150, 90, 55),
    Organ("bone", -88, 8, 25, 25, 700),
    Organ("marrow", -88, 8, 20, 20, 120),
    Organ("bone", 88, 8, 25, 25, 700),
    Organ("marrow", 88, 8, 20, 20, 120),
    Organ("bladder", 0, -30, 38, 28, 8),
    Organ("metal", 88, 8, 7, 7, METAL_HU),
    Organ("bone", 0, 68, 28, 16, 500),
)
ANATOMY = {"head": HEAD, "abdomen": ABDOMEN, "metal": METAL}
SPACING_MM = {"head": 0.45, "abdomen": 0.75, "metal": 0.75}


def drawn(name: str, size: int = 512) -> Drawn:
    """Draw one of `ANATOMY`, the same in every slice.

    Parameters
    ----------
    name : str
    size : int
        Rows and columns; the field of view stays the same.
    """
    spacing_mm = SPACING_MM[name] * 512 / size
    image, last = _painted(ANATOMY[name], size, spacing_mm)
    volume = Volume(np.repeat(image[None], _SLICES, 0), (spacing_mm, spacing_mm, 3.0))
    tissues = {}
    for organ in dict.fromkeys(organ.name for organ in ANATOMY[name]):
        numbers = [number for number, each in enumerate(ANATOMY[name]) if each.name == organ]
        # 3 mm from any other tissue: what a blur mixes is a matter of edges.
        inner = ndimage.distance_transform_edt(np.isin(last, numbers)) * spacing_mm > 3.0
        if inner.sum() >= 100 and organ != "metal":
            tissues[organ] = np.repeat(inner[None], len(_SCORED), 0)
    return Drawn(Block(f"{name} {size}", name, volume, _SCORED), tissues)


def _painted(organs: Sequence[Organ], size: int, spacing_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """HU, and the number of the organ on top (-1 for air)."""
    along = (np.arange(size) - (size - 1) / 2) * spacing_mm
    x, y = along[None, :], along[:, None]
    image, last = np.full((size, size), -1000.0), np.full((size, size), -1)
    for number, organ in enumerate(organs):
        turn = np.deg2rad(organ.turn)
        across = (x - organ.x) * np.cos(turn) + (y - organ.y) * np.sin(turn)
        down = (y - organ.y) * np.cos(turn) - (x - organ.x) * np.sin(turn)
        u, v = across / organ.half_width, down / organ.half_depth
        level = np.sqrt(u**2 + v**2)
        slope = np.hypot(u / organ.half_width, v / organ.half_depth) / np.maximum(level, 1e-6)
        outside_mm = (level - 1) / np.maximum(slope, 1e-6)
        covered = np.clip(0.5 - outside_mm / max(spacing_mm, 1.0), 0, 1)
        image += covered * (organ.hu - image)
        last[covered >= 0.5] = number
    return image.astype(np.float32), last
