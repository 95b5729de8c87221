"""Where the voxels of an image file lie in the patient, and whether that is a place at all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .payload import Damaged

# Rounded numbers shear a grid a little; at the far corner of the volume by less than this part of a voxel.
_SHEAR_TOLERANCE = 0.3
_LONGEST_MM = 1e5


def _three(values: np.ndarray) -> tuple[float, float, float]:
    x, y, z = map(float, values)
    return x, y, z


@dataclass(frozen=True)
class Place:
    """Spacing (mm), origin (mm) and direction (columns x, y, z) in LPS, as in `Volume`."""

    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]

    @classmethod
    def from_columns(cls, columns: np.ndarray, origin: np.ndarray) -> Place:
        """From the steps to the next voxel along x, y and z, shape (3, 3), or (3, 2) for an image without depth.

        An image without depth gets slices of 1 mm. Raises `Damaged` for what is no grid.
        """
        columns, origin = np.asarray(columns, float), np.asarray(origin, float)
        with np.errstate(over="ignore", invalid="ignore"):
            spacing = np.linalg.norm(columns, axis=0)
        # Not "outside of the limits", which NaN is not.
        if (
            not ((spacing > 1 / _LONGEST_MM) & (spacing < _LONGEST_MM)).all()
            or not (np.abs(origin) < _LONGEST_MM).all()
        ):
            raise Damaged(f"its steps between voxels {_text(spacing)} mm, origin {_text(origin)} mm, are not of a CT")
        direction = columns / spacing
        if direction.shape[1] == 2:
            normal = np.cross(direction[:, 0], direction[:, 1])
            length = np.linalg.norm(normal)
            direction = np.column_stack([direction, normal / length if length > 0 else normal])
            spacing = np.array([*spacing, 1.0])
        if abs(np.linalg.det(direction)) < 1e-3:
            raise Damaged(f"its direction {_text(direction.ravel())} cannot be inverted")
        return cls(_three(spacing), _three(origin), tuple(map(float, direction.ravel())))

    @property
    def affine(self) -> np.ndarray:
        """4×4 matrix from (column, row, slice, 1) to (x, y, z, 1) in mm, LPS."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.reshape(self.direction, (3, 3)) * self.spacing
        matrix[:3, 3] = self.origin
        return matrix

    def check_straight(self, shape: tuple[int, ...]) -> None:
        """Refuse a grid of this shape (slices, rows, columns) whose axes are not at right angles."""
        left, _, right = np.linalg.svd(np.reshape(self.direction, (3, 3)))
        straight = Place(self.spacing, self.origin, tuple((left @ right).ravel()))
        # The corner against the corner of the nearest grid that is straight; a shear moves it the farthest.
        off = farthest(self.affine, straight.affine, shape)
        if off > _SHEAR_TOLERANCE * min(self.spacing):
            raise Damaged(
                f"its grid is sheared, by {off:.3g} mm at the far corner (a tilted gantry?): resample it to a straight "
                "grid first, e.g. in Slicer"
            )


def farthest(a: np.ndarray, b: np.ndarray, shape: tuple[int, ...]) -> float:
    """The largest distance in mm between two places of one voxel, by 4×4 matrices, in a volume of this shape."""
    corners = np.array([[x, y, z, 1.0] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    corners[:, :3] *= np.array(shape[::-1], float) - 1
    return float(np.linalg.norm(corners @ (a - b).T, axis=1).max())


def _text(values: np.ndarray) -> str:
    return "(" + ", ".join(f"{value:g}" for value in values) + ")"
