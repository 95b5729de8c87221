"""Planes of a volume: where they lie, how a slice view shows one whole, and where its colour legend has room."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import slicer
from IPv2Lib.errors import InputError

# Viewer's right, viewer's up and the direction of slicing, in RAS; patient right is on the viewer's left.
ORIENTATIONS = {
    "axial": ((-1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "coronal": ((-1, 0, 0), (0, 0, 1), (0, 1, 0)),
    "sagittal": ((0, -1, 0), (0, 0, 1), (-1, 0, 0)),
}

# A colour legend in parts of the height of a view: its bar, and the room for it beside the picture or above it, texts
# included, which Slicer draws as large as the bar is. In smaller views it has no room at all.
_BAR, _BESIDE, _ABOVE = (0.07, 0.19), 0.21, 0.28
_SMALLEST_PIXELS = 250


@dataclass(frozen=True, eq=False)
class Plane:
    """A slice of a volume.

    Attributes
    ----------
    center : ndarray
        RAS, mm.
    axes : ndarray, shape (3, 3)
        Its columns are the directions of the viewer's right, up and depth.
    shape : tuple of 2 ints
        Voxels along right and up.
    spacing : tuple of 2 floats
        mm, likewise.
    thickness : float
        mm.
    """

    center: np.ndarray
    axes: np.ndarray
    shape: tuple[int, int]
    spacing: tuple[float, float]
    thickness: float

    @property
    def size(self) -> tuple[float, float]:
        """Of the whole slice, mm."""
        return self.shape[0] * self.spacing[0], self.shape[1] * self.spacing[1]

    def pixel_mm(self, size: tuple[float, float]) -> float:
        """mm per pixel with which the whole slice fits into a picture of this size."""
        return max(mm / pixels for mm, pixels in zip(self.size, size, strict=True))


@dataclass(frozen=True)
class Fit:
    """How a view shows a whole plane: mm per pixel, and the parts of the view that stay free for a colour legend, at
    the right or above."""

    pixel_mm: float
    right: float = 0.0
    above: float = 0.0


def own_orientation(node: slicer.vtkMRMLScalarVolumeNode) -> str:
    """The orientation that the slices of a volume have, which lie one behind the other along the last voxel axis."""
    directions = np.zeros((3, 3))
    node.GetIJKToRASDirections(directions)
    return max(ORIENTATIONS, key=lambda name: abs(directions[:, 2] @ ORIENTATIONS[name][2]))


def plane_of(node: slicer.vtkMRMLScalarVolumeNode, orientation: str | None, slice_index: int | None) -> Plane:
    """A plane of a volume; without an orientation one of its own slices, without a number the middle one.

    Raises
    ------
    InputError
        Unknown orientation, no such slice.
    """
    directions = np.zeros((3, 3))
    node.GetIJKToRASDirections(directions)
    own = orientation is None
    if orientation is None:
        orientation = own_orientation(node)
    if orientation not in ORIENTATIONS:
        raise InputError(f"unknown orientation {orientation!r}: use {', '.join(ORIENTATIONS)}")
    right, up, depth = (np.array(axis, float) for axis in ORIENTATIONS[orientation])
    count = np.array(node.GetImageData().GetDimensions())
    spacing = np.array(node.GetSpacing())

    # The voxel axis that runs most along each direction; the depth is chosen first.
    k = 2 if own else int(np.argmax(np.abs(depth @ directions)))
    i, j = (axis for axis in range(3) if axis != k)
    if abs(right @ directions[:, j]) > abs(right @ directions[:, i]):
        i, j = j, i
    if slice_index is None:
        slice_index = int(count[k]) // 2
    if not 0 <= slice_index < count[k]:
        raise InputError(f"there is no {orientation} slice {slice_index}: use 0 to {count[k] - 1}")
    voxel = (count - 1) / 2
    voxel[k] = slice_index
    center = directions @ (voxel * spacing) + node.GetOrigin()
    axes = np.stack(
        [
            directions[:, axis] * (1 if towards @ directions[:, axis] >= 0 else -1)
            for axis, towards in ((i, right), (j, up), (k, depth))
        ],
        axis=1,
    )
    return Plane(
        center,
        axes,
        (int(count[i]), int(count[j])),
        (float(spacing[i]), float(spacing[j])),
        float(spacing[k]),
    )


def fit(plane: Plane, size: tuple[int, int], legend: bool) -> Fit:
    """The largest picture of a plane in a view, with room for a colour legend where there is to be one.

    The legend is where it takes less from the picture: beside it in a wide view, above it in a high one.
    """
    columns, rows = size
    if not legend or min(size) < _SMALLEST_PIXELS:
        return Fit(plane.pixel_mm(size))
    right = _BESIDE * rows / columns
    beside = Fit(plane.pixel_mm((columns * (1 - right), rows)), right=right)
    over = Fit(plane.pixel_mm((columns, rows * (1 - _ABOVE))), above=_ABOVE)
    return over if over.pixel_mm < beside.pixel_mm else beside


def aim(view: slicer.vtkMRMLSliceNode, plane: Plane, size: tuple[int, int], fitted: Fit) -> None:
    """Let a slice view show a plane: in its middle, or as far off as the room of the legend needs."""
    view_mm = np.array(size) * fitted.pixel_mm
    margin = (view_mm - plane.size) / 2
    shift = np.maximum(0.0, np.array([fitted.right, fitted.above]) * view_mm - margin)
    # A slice node puts the corner pixel's centre on the corner of its field of view: half a pixel too far out.
    center = plane.center + plane.axes[:, :2] @ (shift + fitted.pixel_mm / 2)
    view.SetDimensions(*size, 1)
    view.SetFieldOfView(*view_mm, plane.thickness)
    matrix = view.GetSliceToRAS()
    for row in range(3):
        for column in range(3):
            matrix.SetElement(row, column, plane.axes[row, column])
        matrix.SetElement(row, 3, center[row])
    view.UpdateMatrices()


def legend_of(node: slicer.vtkMRMLScalarVolumeNode) -> slicer.vtkMRMLColorLegendDisplayNode | None:
    """The colour legend of a volume, or None."""
    return slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node)


def place_legend(legend: slicer.vtkMRMLColorLegendDisplayNode, size: tuple[int, int], fitted: Fit) -> None:
    """Put a colour legend where a view with this fit leaves room for it."""
    columns, rows = size
    width, height = _BAR
    state = legend.StartModify()
    legend.SetSize(width * rows / columns, height)
    legend.SetPosition(0.98, (0.93 - height) / (1 - height) if fitted.above else 0.5)  # the title lies over it
    legend.EndModify(state)
