"""What a pixel of a chest CT is: outside the field of view, room air, lung, soft tissue or bone.

Owns how regions are found. Every slice is treated by itself: in three dimensions the trachea connects the lungs to
the room. The labels themselves are in `region_labels`, what is measured in the regions is in `region_statistics`.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..hounsfield import AIR_HU
from ..parallel.threads import over_slices
from .region_labels import Region

DARK_HU = -400.0
"""Between lung or air (below) and tissue (above): halfway from -850 to +50 HU."""

BONE_HU, SURE_BONE_HU = 180.0, 350.0
"""Bone is what exceeds the first and is connected to what exceeds the second."""

ROOM_AIR_BELOW_HU = -940.0
"""A dark component that the slice border cuts is room air if a tenth of it (the rest may be table) is below
this, and lung otherwise. A quarter of the slice's σ is added: clipping at -1024 HU makes noisy air brighter."""


def outside_field_of_view(array: np.ndarray) -> np.ndarray:
    """Find the padding that a scanner writes outside its circular field of view.

    Padding is a value below -1000 HU that a corner of the slice has and that fills, exactly, a large solid
    piece of the slice at that corner, outside a convex field of view. Room air clipped at -1024 HU is full
    of scattered pixels of that value; they form no solid piece. A corner of exactly -1000 HU is air, not
    padding.

    Parameters
    ----------
    array
        (slices, rows, columns), HU.

    Returns
    -------
    Boolean array of the same shape, all False where a slice is not padded.

    Raises
    ------
    InputError
        If the array is not three-dimensional.
    """
    array = checked(array)
    outside = np.zeros(array.shape, bool)
    corners = array[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    for index in np.flatnonzero((corners < AIR_HU).any(axis=1)):
        for value in np.unique(corners[index][corners[index] < AIR_HU]):
            outside[index] |= _solid_corners(array[index] == value)
    return outside


def segment(array: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """Label every pixel of a chest CT, noisy or not, with its `Region`, slice by slice.

    A self-guided filter (He et al. 2013) whose strength follows the noise measured in the slice prepares the
    thresholds. Thin shells (table, blankets) are opened away; what the largest solid pieces enclose is the
    body. Dark pixels inside it are lung, and so are airways and gas in stomach or bowel. Vessels in the lung
    are soft tissue. Table and clothes are no tissue and count as room air. Vessels full of dense contrast
    agent can be called bone.

    Parameters
    ----------
    array
        (slices, rows, columns), HU, finite.
    spacing
        Millimetres along columns, rows and slices (only the first two are used).

    Returns
    -------
    uint8 array of the same shape with values of `Region`.

    Raises
    ------
    InputError
        If the array is not three-dimensional or not finite, or if the spacing is not positive.

    Examples
    --------
    >>> slab = np.full((1, 64, 64), -1000.0)
    >>> slab[0, 16:48, 8:56] = 40.0
    >>> slab[0, 24:40, 16:32] = -850.0
    >>> labels = segment(slab, (5.0, 5.0, 5.0))
    >>> [Region(labels[0, 32, column]).name for column in (2, 24, 44)]
    ['BACKGROUND', 'LUNG', 'SOFT_TISSUE']
    """
    array = checked(array)
    if min(spacing[:2]) <= 0:
        raise InputError(f"The pixel spacing is {spacing[0]} x {spacing[1]} mm; it must be positive.")
    pixel_mm = float(np.sqrt(spacing[0] * spacing[1]))
    outside = outside_field_of_view(array)
    labels = np.empty(array.shape, np.uint8)

    def label(index: int) -> None:
        labels[index] = _label_slice(array[index].astype(np.float32), outside[index], pixel_mm)

    over_slices(label, len(array))
    return labels


def checked(array: np.ndarray) -> np.ndarray:
    """The array, if it is a volume of finite numbers; else `InputError`."""
    array = np.asarray(array)
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"A volume needs slices, rows and columns; this one has the shape {array.shape}.")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError("The volume has pixels that are not numbers (NaN or infinite); replace them first.")
    return array


def _solid_corners(constant: np.ndarray) -> np.ndarray:
    """Pieces of a 2-D mask that are solid at a corner of it, outside the convex hull of everything else."""
    core, _ = ndimage.label(_eroded(_eroded(constant)))
    sizes = np.bincount(core.ravel())
    smallest = max(3.0, 5e-4 * constant.size)
    pieces, _ = ndimage.label(constant)
    corners = [(row, column) for row in (0, -1) for column in (0, -1)]
    solid = [pieces[at] for at in corners if core[at] and sizes[core[at]] >= smallest]
    # Fields of view are convex: a bay in the padding is room air that was clipped at the same value.
    return ~_convex_hull(~np.isin(pieces, solid))


def _convex_hull(mask: np.ndarray) -> np.ndarray:
    """Pixels of a 2-D mask and all pixels between them, exactly (a digital disc is returned unchanged)."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return mask
    first = mask[rows].argmax(axis=1)
    last = mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1)
    hull = np.zeros(mask.shape, bool)
    every = np.arange(rows[0], rows[-1] + 1)
    low = np.interp(every, *_lower_chain(rows, first)) - 1e-6
    high = -np.interp(every, *_lower_chain(rows, -last)) + 1e-6
    columns = np.arange(mask.shape[1])
    hull[every] = (columns >= low[:, None]) & (columns <= high[:, None])
    return hull


def _lower_chain(x: np.ndarray, y: np.ndarray) -> tuple[list[int], list[int]]:
    """Lower convex hull of points sorted by x (Andrew's monotone chain)."""
    chain: list[tuple[int, int]] = []
    for point in zip(x.tolist(), y.tolist(), strict=True):
        while len(chain) > 1 and (
            (chain[-1][0] - chain[-2][0]) * (point[1] - chain[-2][1])
            <= (chain[-1][1] - chain[-2][1]) * (point[0] - chain[-2][0])
        ):
            chain.pop()
        chain.append(point)
    return [point[0] for point in chain], [point[1] for point in chain]


def _eroded(mask: np.ndarray) -> np.ndarray:
    """Erosion by the 4-neighbourhood; what lies beyond the slice counts as inside."""
    result = mask.copy()
    result[1:] &= mask[:-1]
    result[:-1] &= mask[1:]
    result[:, 1:] &= mask[:, :-1]
    result[:, :-1] &= mask[:, 1:]
    return result


def _label_slice(hu: np.ndarray, outside: np.ndarray, pixel_mm: float) -> np.ndarray:
    """Labels of one slice (rows, columns)."""
    hu = np.where(outside, np.float32(AIR_HU), hu)
    sigma = _slice_noise(hu, outside)
    smooth = _guided(hu, sigma, radius=max(1, min(4, round(2.5 / pixel_mm))))
    body = _body(smooth, outside, pixel_mm, ROOM_AIR_BELOW_HU + 0.25 * sigma)
    labels = np.full(hu.shape, Region.BACKGROUND, np.uint8)
    labels[body] = Region.SOFT_TISSUE
    labels[_bone(smooth, body)] = Region.BONE
    labels[body & (smooth < DARK_HU)] = Region.LUNG
    labels[outside] = Region.OUTSIDE
    return labels


def _slice_noise(hu: np.ndarray, outside: np.ndarray) -> float:
    """Typical local SD (7x7) where the local mean is that of soft tissue, else of the whole slice."""
    mean = ndimage.uniform_filter(hu, 7)
    # Around the mean of the slice, so that float32 keeps the digits that the difference of squares needs.
    variance = ndimage.uniform_filter(np.square(hu - mean), 7)
    tissue = (mean > -200) & (mean < 200) & ~outside
    if tissue.sum() < 50:
        tissue = ~outside
    return float(np.sqrt(np.percentile(variance[tissue], 30))) if tissue.any() else 0.0


def _guided(hu: np.ndarray, sigma: float, radius: int) -> np.ndarray:
    """Self-guided filter, twice: averages where the local variance is that of noise, keeps stronger edges."""
    if sigma < 1:
        return hu
    size = 2 * radius + 1
    for strength in (2.0, 1.0):
        mean = ndimage.uniform_filter(hu, size)
        variance = np.maximum(ndimage.uniform_filter(hu * hu, size) - mean * mean, 0)
        gain = variance / (variance + np.float32((strength * sigma) ** 2))
        hu = ndimage.uniform_filter(gain, size) * hu + ndimage.uniform_filter((1 - gain) * mean, size)
    return hu


def _body(smooth: np.ndarray, outside: np.ndarray, pixel_mm: float, room_below_hu: float) -> np.ndarray:
    """Body with all that it encloses: its shape from a grid of about 1.4 mm, its border from this one."""
    step = max(1, int(1.5 / pixel_mm))
    coarse = _reduced(smooth, step)
    solid = coarse > DARK_HU
    padding = _reduced(outside.astype(np.float32), step) > 0
    radius = round(3.5 / (pixel_mm * step))
    core = _opened(solid, radius) if radius else solid
    core = _body_pieces(core, coarse, pixel_mm * step)
    core = ndimage.binary_dilation(core, iterations=radius + 1, mask=solid)
    closed = core | ~_open_to_room(core, coarse, padding, room_below_hu)
    filled = _enlarged(closed, step, smooth.shape)
    inner = ndimage.binary_erosion(filled, iterations=step, border_value=1)
    outer = ndimage.binary_dilation(filled, iterations=step)
    return (inner | (outer & (smooth > DARK_HU))) & ~outside


def _opened(mask: np.ndarray, radius: int) -> np.ndarray:
    """Opening by a disc; the slice continues beyond its border."""
    padded = np.pad(mask, radius + 1, mode="edge")
    eroded = ndimage.distance_transform_edt(padded) > radius
    opened = ndimage.distance_transform_edt(~eroded) <= radius
    return opened[radius + 1 : -radius - 1, radius + 1 : -radius - 1]


def _body_pieces(mask: np.ndarray, hu: np.ndarray, pixel_mm: float) -> np.ndarray:
    """The largest piece, and others that are as thick and as dense as an arm; a table board is not."""
    pieces, count = ndimage.label(mask)
    if not count:
        return mask
    index = np.arange(1, count + 1)
    sizes = np.bincount(pieces.ravel())[1:]
    means = ndimage.mean(hu, pieces, index)
    depth = ndimage.maximum(ndimage.distance_transform_edt(mask), pieces, index) * pixel_mm
    keep = (depth > 20) & (means > -150)
    keep[np.argmax(sizes)] = True
    return np.isin(pieces, index[keep])


def _open_to_room(core: np.ndarray, hu: np.ndarray, outside: np.ndarray, below_hu: float) -> np.ndarray:
    """What surrounds the body: components cut by the border or the field of view that have the HU of air."""
    pieces, count = ndimage.label(~core)
    border = np.zeros(core.shape, bool)
    border[[0, -1]] = border[:, [0, -1]] = True
    touching = np.unique(pieces[border | outside])
    is_room = np.zeros(count + 1, bool)
    for piece in touching[touching > 0]:
        values = hu[(pieces == piece) & ~outside]
        is_room[piece] = values.size == 0 or np.percentile(values, 10) < below_hu
    return is_room[pieces]


def _bone(smooth: np.ndarray, body: np.ndarray) -> np.ndarray:
    """Hysteresis threshold, marrow filled."""
    candidates, count = ndimage.label(body & (smooth > BONE_HU), np.ones((3, 3)))
    sure = np.zeros(count + 1, bool)
    sure[np.unique(candidates[smooth > SURE_BONE_HU])] = True
    sure[0] = False
    return ndimage.binary_fill_holes(sure[candidates]) & body


def _reduced(image: np.ndarray, step: int) -> np.ndarray:
    """Means of step x step blocks; the last block repeats the border."""
    if step == 1:
        return image
    rows, columns = (-size % step for size in image.shape)
    image = np.pad(image, ((0, rows), (0, columns)), mode="edge")
    return image.reshape(image.shape[0] // step, step, image.shape[1] // step, step).mean(axis=(1, 3))


def _enlarged(mask: np.ndarray, step: int, shape: tuple[int, int]) -> np.ndarray:
    return mask.repeat(step, axis=0).repeat(step, axis=1)[: shape[0], : shape[1]]
