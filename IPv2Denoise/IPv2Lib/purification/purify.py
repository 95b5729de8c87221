"""Image purification: from a uLDCT/NDCT pair of one patient, images whose anatomy agrees.

Owns the order of the steps of IPv1 and IPv2 (Gong & Yu, arXiv 2510.07492 and 2602.19314), of a whole pair, of some
slices or of one. What the steps are to do is in `settings`; they are the work of `masks`, `dose`, `weak_denoiser`
and `mixing`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..analysis.regions import outside_field_of_view
from ..errors import InputError
from ..io.volume import Volume, check_ct, overlap_fraction, resample_onto, same_grid
from ..progress import NO_PROGRESS, Progress
from ..simulation import dose as dose_simulation
from ..simulation.matching import match_scan
from .masks import common_masks
from .mixing import mix_test_label, mix_training_input
from .settings import IPV2, MATCHED, Settings
from .stages import BACKGROUND, BODY, LUNG, OUTSIDE, Stages
from .weak_denoiser import weak_denoise

if TYPE_CHECKING:
    from ..simulation.projection import Kernel

SMALLEST_OVERLAP = 0.1
"""Part of the uLDCT that the NDCT must cover."""


def purify(
    uldct: Volume, ndct: Volume, settings: Settings = IPV2, *, first_slice: int = 0, progress: Progress = NO_PROGRESS
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
    progress : Progress

    Returns
    -------
    Stages

    Raises
    ------
    InputError
        If a volume is not CT, or the two overlap by less than 10 % of the uLDCT.
    Cancelled
        If `progress` was cancelled.
    """
    check_pair(uldct, ndct)
    return _purify(uldct, ndct, settings, ndct, first_slice, progress)


def purify_slices(
    uldct: Volume,
    ndct: Volume,
    start: int,
    stop: int,
    settings: Settings = IPV2,
    *,
    progress: Progress = NO_PROGRESS,
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
    progress : Progress

    Raises
    ------
    Cancelled
        If `progress` was cancelled.
    """
    block = _slab(uldct, start, stop)
    return _purify(block, _around(ndct, block), settings, ndct, start, progress)


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
    uldct: Volume, ndct: Volume, settings: Settings, scan: Volume, first_slice: int, progress: Progress
) -> Stages:
    """`purify` of a part of a pair; `scan` is all of the NDCT, for kernels that are matched to it."""
    progress.report(0.0, "finding the common masks")
    outside = outside_field_of_view(uldct.array) | _without_data(ndct, uldct)
    ndct = resample_onto(ndct, uldct)
    masks = common_masks(uldct, ndct, settings, outside)
    simulated = weakly_denoised = None
    if settings.add_noise and _is_blank(ndct):
        simulated = ndct
    elif settings.add_noise:
        simulated = _with_noise(ndct, scan, settings, first_slice, progress.part(0.15, 0.85))
    if settings.remove_noise and _is_blank(uldct):
        weakly_denoised = uldct
    elif settings.remove_noise:
        weakly_denoised = weak_denoise(uldct, settings.weak_strength, progress=progress.part(0.85, 0.95))
    progress.report(0.95, "composing the images")
    low, normal = (np.asarray(volume.array, np.float32) for volume in (uldct, ndct))
    common = masks.common(settings)
    mixed = mix_training_input(low, normal, simulated.array if simulated else normal, common, settings.blend)
    test_label = mix_test_label(weakly_denoised.array if weakly_denoised else low, normal, common)
    labels = np.full(common.shape, BODY, np.uint8)
    labels[masks.background] = BACKGROUND
    labels[masks.cm2] = LUNG
    labels[outside] = OUTSIDE
    progress.report(1.0, "purified")
    return Stages(
        uldct=uldct, ndct=ndct, **vars(masks), simulated=simulated, weakly_denoised=weakly_denoised,
        training_input=uldct.with_array(mixed.astype(np.float32, copy=False)),
        test_label=uldct.with_array(test_label.astype(np.float32, copy=False)), labels=labels, settings=settings,
    )  # fmt: skip


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


def _with_noise(ndct: Volume, scan: Volume, settings: Settings, first_slice: int, progress: Progress) -> Volume:
    """S(N). Noise is matched to the scan as it came, not as it was resampled."""
    photons: float = dose_simulation.PHOTONS
    kernel: str | float | Kernel = settings.kernel
    if settings.kernel == MATCHED and settings.method == "physical":
        found = match_scan(scan)
        photons, kernel = found.photons, found.kernel
    return dose_simulation.simulate(
        ndct, settings.dose, method=settings.method, seed=settings.seed, kernel=kernel, photons=photons,
        first_slice=first_slice, progress=progress,
    )  # fmt: skip
