"""Image purification: from a uLDCT/NDCT pair of one patient, images whose anatomy agrees.

Owns the masks and the intermediate images of IPv1 and IPv2 (Gong & Yu, arXiv 2510.07492 and 2602.19314), each of
the three modules switchable by itself. Simulating dose is `dose`'s, weak denoising `weak_denoiser`'s work. Every
slice is treated by itself: in three dimensions the trachea would connect the lungs to the room.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from ..analysis.regions import Region, outside_field_of_view, segment
from ..errors import InputError
from ..io.ct import Volume, check_ct, overlap_fraction, resample_onto, same_grid, window_8bit
from ..simulation import dose as dose_simulation
from .mixing import mix_test_label, mix_training_input
from .settings import ABLATION as ABLATION  # where others look for it
from .settings import IPV1 as IPV1
from .settings import IPV2, MATCHED, Settings
from .weak_denoiser import weak_denoise

OUTSIDE, BACKGROUND, LUNG, BODY = 0, 1, 2, 3
LABELS = (
    (OUTSIDE, "Outside the field of view", Region.OUTSIDE.color),
    (BACKGROUND, "Background", Region.BACKGROUND.color),
    (LUNG, "Lung and airways", Region.LUNG.color),
    (BODY, "Body", Region.SOFT_TISSUE.color),
)
"""Value, name and colour (red, green, blue, 0 to 255) of each label of `Stages.labels`."""

# Okabe and Ito's colours, which also colour-blind people tell apart.
_BLUE, _ORANGE, _GREEN, _PURPLE = (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167)
DARK_ENTRIES = (
    (1, "Dark in the uLDCT only", _BLUE),
    (2, "Dark in the NDCT only", _ORANGE),
    (3, "Dark in both", _GREEN),
)
CM1_ENTRIES = ((1, "Dark in uLDCT or NDCT", _GREEN),)
BACKGROUND_ENTRIES = ((1, "Background", _PURPLE),)
CM2_ENTRIES = ((1, "Lungs and airways", _BLUE),)
"""Value, name and colour of the labels of the masks; the dark masks are D(L) + 2 · D(N)."""

SMALLEST_OVERLAP = 0.1
"""Part of the uLDCT that the NDCT must cover."""

COARSE_MM = 1.6
"""Pixels of about this size show well enough where the body is."""


@dataclass(frozen=True, eq=False)
class Stages:
    """Every image that purification makes, on the grid of the uLDCT; masks are boolean, images HU.

    Attributes
    ----------
    uldct, ndct : Volume
        L, and N on the grid of L (float32 if it had to be resampled).
    dark_uldct, dark_ndct, cm1, background, cm2 : ndarray of bool
        D(L), D(N), CM1, B and CM2.
    simulated : Volume or None
        S(N), None where *Add noise* is off.
    weakly_denoised : Volume or None
        W(L), None where *Remove noise* is off.
    training_input, test_label : Volume
        float32. The target of the training input, and the input that goes with the test label, are `ndct` and
        `uldct`.
    labels : ndarray of uint8
        `LABELS`. Where it is `OUTSIDE`, one of the scans has no data, and there is no pair to train on.
    settings : Settings
    """

    uldct: Volume
    ndct: Volume
    dark_uldct: np.ndarray
    dark_ndct: np.ndarray
    cm1: np.ndarray
    background: np.ndarray
    cm2: np.ndarray
    simulated: Volume | None
    weakly_denoised: Volume | None
    training_input: Volume
    test_label: Volume
    labels: np.ndarray
    settings: Settings

    def steps(self) -> Iterator[tuple[str, str, Volume | np.ndarray]]:
        """Attribute name, title and image of every stage that was made, in the order of the method."""
        for name, title in _TITLES.items():
            image = getattr(self, name)
            if image is not None:
                yield name, title, image

    @cached_property
    def training_input_difference(self) -> Volume | None:
        """Training input minus that of IPv1, HU: what the modules changed; None if all of them are off.

        IPv1 here has the same masks and the same T.
        """
        if not self.settings.has_modules:
            return None
        low, normal = (np.asarray(volume.array, np.float32) for volume in (self.uldct, self.ndct))
        plain = mix_training_input(low, normal, normal, self.cm1, self.settings.blend)
        return self.uldct.with_array(self.training_input.array - plain)

    @cached_property
    def test_label_difference(self) -> Volume | None:
        """Test label minus that of IPv1, HU; None if all modules are off."""
        if not self.settings.has_modules:
            return None
        plain = mix_test_label(self.uldct.array, self.ndct.array, self.cm1)
        return self.uldct.with_array(self.test_label.array - plain)


_TITLES = {
    "uldct": "uLDCT",
    "ndct": "NDCT",
    "dark_uldct": "Dark mask of the uLDCT",
    "dark_ndct": "Dark mask of the NDCT",
    "cm1": "Common mask of IPv1",
    "background": "Background",
    "cm2": "Common mask of IPv2",
    "simulated": "NDCT with simulated noise",
    "weakly_denoised": "uLDCT weakly denoised",
    "training_input": "Training input",
    "test_label": "Test label",
    "labels": "Regions",
}


def purify(
    uldct: Volume,
    ndct: Volume,
    settings: Settings = IPV2,
    *,
    first_slice: int = 0,
    progress: Callable[[float, str], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Stages:
    """Construct the intermediate images of a uLDCT/NDCT pair.

    With M = CM2 (*Remove Background*) or CM1::

        training input = M · (S(N) or N) + (1 - M) · ((1 - T) · L + T · N)
        test label     = M · (W(L) or L) + (1 - M) · N

    Parameters
    ----------
    uldct, ndct : Volume
        The two scans of one patient, HU. An NDCT on another grid is resampled onto that of the uLDCT.
    settings : Settings
    first_slice : int
        Number, in its scan, of the first slice of a uLDCT that is a part of one: each slice has its own noise.
    progress
        Called with (fraction, text).
    cancelled
        Polled; while it returns True, the work stops.

    Returns
    -------
    Stages

    Raises
    ------
    InputError
        If a volume is not CT, or the two overlap by less than 10 % of the uLDCT.
    Cancelled
        If `cancelled` returned True.
    """
    check_pair(uldct, ndct)
    return _purify(uldct, ndct, settings, ndct, first_slice, progress, cancelled)


def purify_slices(
    uldct: Volume,
    ndct: Volume,
    start: int,
    stop: int,
    settings: Settings = IPV2,
    *,
    cancelled: Callable[[], bool] | None = None,
) -> Stages:
    """`purify` of the slices `start` to `stop` - 1 of the uLDCT: the same values that they have in the whole.

    So a long scan can be purified piece by piece, in little memory. That the two are CT and overlap is not checked
    again for every piece: `check_pair` does it.

    Parameters
    ----------
    uldct, ndct : Volume
        All of both scans.
    start, stop : int
        Within the slices of the uLDCT.
    settings : Settings
    cancelled
        Polled.

    Raises
    ------
    Cancelled
        If `cancelled` returned True.
    """
    block = _slab(uldct, start, stop)
    return _purify(block, _around(ndct, block), settings, ndct, start, None, cancelled)


def check_pair(uldct: Volume, ndct: Volume) -> None:
    """Refuse (`InputError`) what cannot be purified: not CT, or an overlap below 10 % of the uLDCT."""
    check_ct(uldct)
    check_ct(ndct)
    overlap = overlap_fraction(uldct, ndct)
    if overlap < SMALLEST_OVERLAP:
        raise InputError(
            f"the NDCT covers {100 * overlap:.0f} % of the uLDCT, at least {100 * SMALLEST_OVERLAP:.0f} % is needed: "
            "check that both are of one patient and one examination, or align the two scans first"
        )


def purify_slice(uldct: Volume, ndct: Volume, slice_index: int | None = None, settings: Settings = IPV2) -> Stages:
    """`purify` of one slice of the uLDCT: the same values that it has in the whole, at once.

    Parameters, returns, raises
        As `needed_for_slice`.
    """
    one, near, first_slice = needed_for_slice(uldct, ndct, slice_index, settings)
    return purify(one, near, settings, first_slice=first_slice)


def needed_for_slice(
    uldct: Volume, ndct: Volume, slice_index: int | None = None, settings: Settings = IPV2
) -> tuple[Volume, Volume, int]:
    """What `purify` needs to know of a pair to give one slice the values that it has in the whole.

    Parameters
    ----------
    uldct, ndct : Volume
    slice_index : int, optional
        Default: the middle slice.
    settings : Settings

    Returns
    -------
    uldct : Volume
        The slice alone, copied.
    ndct : Volume
        The slices around it, copied; all of them, shared, where the noise is matched to the scan.
    first_slice : int
        For `purify`.

    Raises
    ------
    InputError
        As `purify`, or if there is no such slice.
    """
    count = len(uldct.array)
    if slice_index is None:
        slice_index = count // 2
    if not 0 <= slice_index < count:
        raise InputError(f"there is no slice {slice_index}: use 0 to {count - 1}")
    one = _slab(uldct, slice_index, slice_index + 1)
    near = _around(ndct, one)
    check_pair(one, near)
    matched = settings.add_noise and settings.kernel == MATCHED
    return one, ndct if matched else near, slice_index


def _purify(
    uldct: Volume,
    ndct: Volume,
    settings: Settings,
    scan: Volume,
    first_slice: int,
    progress: Callable[[float, str], None] | None,
    cancelled: Callable[[], bool] | None,
) -> Stages:
    """`purify` of a part of a pair; `scan` is all of the NDCT, for kernels that are matched to it."""
    report = progress or (lambda fraction, text: None)
    report(0.0, "finding the common masks")
    outside = outside_field_of_view(uldct.array) | _without_data(ndct, uldct)
    ndct = resample_onto(ndct, uldct)
    masks = common_masks(uldct, ndct, settings, outside)
    simulated = weakly_denoised = None
    if settings.add_noise and _is_blank(ndct):
        simulated = ndct
    elif settings.add_noise:
        simulated = _with_noise(ndct, scan, settings, first_slice, _part(progress, 0.15, 0.85), cancelled)
    if settings.remove_noise and _is_blank(uldct):
        weakly_denoised = uldct
    elif settings.remove_noise:
        weakly_denoised = weak_denoise(uldct, settings.weak_strength, progress=_part(progress, 0.85, 0.95))
    report(0.95, "composing the images")
    low, normal = (np.asarray(volume.array, np.float32) for volume in (uldct, ndct))
    common = masks.common(settings)
    mixed = mix_training_input(low, normal, simulated.array if simulated else normal, common, settings.blend)
    test_label = mix_test_label(weakly_denoised.array if weakly_denoised else low, normal, common)
    labels = np.full(common.shape, BODY, np.uint8)
    labels[masks.background] = BACKGROUND
    labels[masks.cm2] = LUNG
    labels[outside] = OUTSIDE
    report(1.0, "purified")
    return Stages(
        uldct=uldct,
        ndct=ndct,
        **vars(masks),
        simulated=simulated,
        weakly_denoised=weakly_denoised,
        training_input=uldct.with_array(mixed.astype(np.float32, copy=False)),
        test_label=uldct.with_array(test_label.astype(np.float32, copy=False)),
        labels=labels,
        settings=settings,
    )


@dataclass(frozen=True, eq=False)
class CommonMasks:
    """D(L), D(N), CM1, B and CM2 of a pair: boolean, (slices, rows, columns)."""

    dark_uldct: np.ndarray
    dark_ndct: np.ndarray
    cm1: np.ndarray
    background: np.ndarray
    cm2: np.ndarray

    def common(self, settings: Settings) -> np.ndarray:
        """M: CM2 with *Remove Background*, CM1 without."""
        return self.cm2 if settings.remove_background else self.cm1


def common_masks(
    uldct: Volume, ndct: Volume, settings: Settings = IPV2, outside: np.ndarray | None = None
) -> CommonMasks:
    """The masks of a pair on one grid.

    Parameters
    ----------
    uldct, ndct : Volume
        L and N, HU.
    settings : Settings
        The window, the threshold and `drop_enclosed_air` are used.
    outside : ndarray of bool, optional
        Outside the field of view of either.
    """
    window = settings.low_hu, settings.high_hu, settings.threshold_hu
    dark_uldct, dark_ndct = dark_mask(uldct.array, *window), dark_mask(ndct.array, *window)
    cm1 = dark_uldct | dark_ndct
    room = background(cm1, outside)
    if settings.drop_enclosed_air:
        room |= enclosed_air(cm1 & ~room, _outside_body(ndct))
    return CommonMasks(dark_uldct, dark_ndct, cm1, room, cm1 & ~room)


def dark_mask(
    array: np.ndarray, low_hu: float = -1000.0, high_hu: float = 400.0, threshold_hu: float | None = None
) -> np.ndarray:
    """D(x): air and lung of every slice.

    Otsu's threshold of the windowed 8-bit slice, inverted (or a fixed one in HU); opening with a 3×3 cross; pixels
    without any of 8 neighbours dropped. The same pixels as OpenCV's `threshold` and `morphologyEx` find.
    Padding outside the field of view clips to the window's lower end, as room air does, and so does not move the
    threshold from where a full square of air would put it.

    Parameters
    ----------
    array : ndarray, shape (slices, rows, columns)
        HU, finite.
    low_hu, high_hu : float
        Window, HU.
    threshold_hu : float, optional
        Pixels at or below this are dark; default: Otsu's threshold of each slice.

    Returns
    -------
    ndarray of bool, the shape of `array`

    Raises
    ------
    InputError
        Not three-dimensional, not finite, or an empty window.

    Examples
    --------
    >>> array = np.full((1, 8, 8), 40.0)
    >>> array[0, 2:6, 2:6] = -850.0
    >>> int(dark_mask(array).sum())  # the opening takes the four corners
    12
    """
    array = _checked(array)

    def dark(index: int) -> np.ndarray:
        if threshold_hu is not None:
            return _cleaned(array[index] <= threshold_hu)
        grey = window_8bit(array[index], low_hu, high_hu)
        return _cleaned(grey <= otsu_threshold(grey))

    return _over_slices(dark, len(array))


def otsu_threshold(grey: np.ndarray) -> int:
    """Otsu's threshold as OpenCV finds it: pixels at or below it are the dark class.

    The first grey value that maximises the variance between the classes (Otsu, IEEE Trans. Syst. Man Cybern. 9,
    1979); 0 for an image of one value.

    Parameters
    ----------
    grey : ndarray of uint8
        Any shape.

    Examples
    --------
    >>> otsu_threshold(np.uint8([10, 10, 200, 200, 210]))
    10
    """
    probability = (np.bincount(grey.ravel(), minlength=256) * (1.0 / grey.size)).tolist()
    mean = sum(value * p for value, p in enumerate(probability))
    smallest = float(np.finfo(np.float32).eps)
    best, threshold = 0.0, 0
    weight_dark = mean_dark = 0.0
    # A running mean rather than cumulative sums: where thresholds tie, rounding decides, and it has to decide as
    # in OpenCV.
    for value, p in enumerate(probability):
        mean_dark *= weight_dark
        weight_dark += p
        weight_bright = 1.0 - weight_dark
        if min(weight_dark, weight_bright) < smallest:
            continue
        mean_dark = (mean_dark + value * p) / weight_dark
        mean_bright = (mean - weight_dark * mean_dark) / weight_bright
        between = weight_dark * weight_bright * (mean_dark - mean_bright) ** 2
        if between > best:
            best, threshold = between, value
    return threshold


def background(mask: np.ndarray, outside: np.ndarray | None = None) -> np.ndarray:
    """B: the part of a common mask that is connected to the border of its slice, through any of 4 neighbours.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
    outside : ndarray of bool, same shape, optional
        Outside the field of view. It is background, and so is what it touches.

    Returns
    -------
    ndarray of bool, same shape

    Examples
    --------
    >>> mask = np.zeros((1, 5, 7), bool)
    >>> mask[0, 2, [0, 1, 4]] = True
    >>> background(mask)[0, 2].astype(int)
    array([1, 1, 0, 0, 0, 0, 0])
    """
    mask = _checked(mask)

    def connected(index: int) -> np.ndarray:
        room = mask[index] if outside is None else mask[index] | outside[index]
        pieces, count = ndimage.label(room)
        keep = np.zeros(count + 1, bool)
        for border in (pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]):
            keep[border] = True
        if outside is not None:
            keep[pieces[outside[index]]] = True
        keep[0] = False
        return keep[pieces]

    return _over_slices(connected, len(mask))


def enclosed_air(mask: np.ndarray, outside_body: np.ndarray) -> np.ndarray:
    """The 4-connected pieces of a mask that lie outside the body: in the table, in cushions, under clothes.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        Dark pixels that are not connected to the border.
    outside_body : ndarray of bool, same shape

    Returns
    -------
    ndarray of bool, same shape
        The pieces of which more than half lies outside the body.
    """

    def pieces_outside(index: int) -> np.ndarray:
        pieces, count = ndimage.label(mask[index])
        sizes = np.bincount(pieces.ravel(), minlength=count + 1)
        drop = np.bincount(pieces[outside_body[index]], minlength=count + 1) > 0.5 * sizes
        drop[0] = False
        return drop[pieces]

    return _over_slices(pieces_outside, len(mask))


def _checked(array: np.ndarray) -> np.ndarray:
    array = np.asarray(array)
    if array.ndim != 3 or 0 in array.shape:
        raise InputError(f"an array of shape {array.shape} is not a volume: give (slices, rows, columns)")
    if not np.isfinite(array).all():
        raise InputError("some voxels are NaN or infinite: replace them by HU, e.g. -1024 outside the scan")
    return array


def _is_blank(part: Volume) -> bool:
    """Whether part of a scan holds nothing: padding, or beyond the ends of the other scan."""
    return bool(part.array.min() == part.array.max())


def _without_data(ndct: Volume, uldct: Volume) -> np.ndarray:
    """Where, on the grid of the uLDCT, the NDCT has no voxel or only padding."""
    outside = outside_field_of_view(ndct.array)
    if same_grid(ndct, uldct):
        return outside
    inside = resample_onto(ndct.with_array((~outside).astype(np.float32)), uldct, fill_hu=0.0)
    return inside.array < 0.999  # any mixture with padding is no HU of the patient


def _outside_body(volume: Volume) -> np.ndarray:
    """Room air and what is outside the field of view, on every few pixels: it only has to decide about pieces."""
    step = max(1, round(COARSE_MM / volume.spacing[0]))
    x, y, z = volume.spacing
    labels = segment(volume.array[:, ::step, ::step], (x * step, y * step, z))
    coarse = labels <= Region.BACKGROUND
    rows, columns = volume.array.shape[1:]
    return coarse.repeat(step, axis=1).repeat(step, axis=2)[:, :rows, :columns]


def _cleaned(dark: np.ndarray) -> np.ndarray:
    """Opening with a cross and removal of lone pixels; one slice. Beyond its border a slice has no neighbours to
    erode from or to be dilated from, as in OpenCV."""
    cross = ndimage.generate_binary_structure(2, 1)
    eroded = ndimage.binary_erosion(dark, cross, border_value=1)
    opened = ndimage.binary_dilation(eroded, cross)
    neighbours = ndimage.convolve(opened.astype(np.uint8), np.ones((3, 3), np.uint8), mode="constant") - opened
    return opened & (neighbours > 0)


def _over_slices(function: Callable[[int], np.ndarray], slices: int) -> np.ndarray:
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        return np.stack(list(threads.map(function, range(slices))))


def _slab(volume: Volume, start: int, stop: int) -> Volume:
    """Some slices of a volume, where they were."""
    origin = (volume.affine @ [0, 0, start, 1])[:3]
    return Volume(volume.array[start:stop].copy(), volume.spacing, tuple(origin), volume.direction)


def _around(ndct: Volume, uldct: Volume) -> Volume:
    """The slices of the NDCT that reach into the uLDCT, and their neighbours; all of them if none does."""
    corners = np.array([[x, y, z, 1.0] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
    corners[:, :3] *= np.array(uldct.array.shape[::-1]) - 1
    k = (np.linalg.inv(ndct.affine) @ uldct.affine @ corners.T)[2]
    start = max(0, math.floor(k.min() - 0.01) - 1)
    stop = min(len(ndct.array), math.ceil(k.max() + 0.01) + 2)
    if same_grid(ndct, uldct) or start >= stop:
        return ndct
    here = round(float(k.mean()))
    if 0 <= here < len(ndct.array) and len(uldct.array) == 1:
        same = _slab(ndct, here, here + 1)
        if same_grid(same, uldct):  # then nothing has to be resampled
            return same
    return _slab(ndct, start, stop)


def _with_noise(ndct: Volume, scan: Volume, settings: Settings, first_slice: int, progress, cancelled) -> Volume:
    """S(N). Noise is matched to the scan as it came, not as it was resampled."""
    photons, kernel = dose_simulation.PHOTONS, settings.kernel
    if settings.kernel == MATCHED and settings.method == "physical":
        photons, kernel = dose_simulation.match_scan(scan)
    return dose_simulation.simulate(
        ndct,
        settings.dose,
        method=settings.method,
        seed=settings.seed,
        kernel=kernel,
        photons=photons,
        first_slice=first_slice,
        progress=progress,
        cancelled=cancelled,
    )


def _part(progress: Callable[[float, str], None] | None, start: float, stop: float):
    """Progress of one step as progress of the whole."""
    return progress and (lambda fraction, text: progress(start + fraction * (stop - start), text))
