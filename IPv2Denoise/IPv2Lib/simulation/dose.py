"""*Add noise*: what a CT scan would look like at a lower dose.

Owns the photon statistics of the two simulators. The geometry and the filters are in `projection`, what reproduces the
noise of a given scan in `matching`. Only the *noise* is reconstructed and added, so that the image keeps its
resolution, its HU and its texture, and nothing is stretched to 8 bits on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..analysis.regions import outside_field_of_view
from ..errors import InputError
from ..io.volume import Volume, check_ct
from ..parallel.threads import over_slices
from ..progress import NO_PROGRESS, Progress
from .projection import Kernel, back_project, detector_bins, filter_views, project
from .settings import SimulationSettings

WATER_PER_MM = 0.0192  # linear attenuation of water at about 70 keV
PHOTONS = 1.5e5  # per ray at full dose, a typical value
ELECTRONIC_VARIANCE = 10.0  # photons²

_MOST_PHOTONS = 1e18  # that numpy counts; rounding makes more noise than theirs

_SLICES_AT_ONCE = 8
_DOING = "simulating dose"


def simulate(
    ndct: Volume,
    dose: float,
    *,
    method: str = "physical",
    seed: int = 0,
    kernel: str | float | Kernel = "hann",
    photons: float = PHOTONS,
    views: int = 512,
    electronic_variance: float = ELECTRONIC_VARIANCE,
    source_dose: float | None = 1.0,
    first_slice: int = 0,
    device: str = "cpu",
    progress: Progress = NO_PROGRESS,
) -> Volume:
    """Simulate a scan at a fraction of the dose.

    ``physical``: μ = μ_water (1 + HU / 1000), p = ∫ μ dl with the true pixel spacing; counts
    y ~ Poisson(a N₀ exp(-p)) + N(0, σ_e²), at least 1; the result is N + FBP(-ln(y / (a N₀)) - p).

    ``published``: the constants of the IPv2 authors' script. Line integrals are the Radon sum, in pixels, of the
    image scaled to 0..1 over [-1000, 400] HU, divided by 500; photons = (0.015 mAs + 0.1002)·200·1000 with
    mAs = 125·dose; y ~ Poisson(λ) + N(0, (0.05 √λ)²); Hann filter. It puts nearly the same noise everywhere,
    and at 2 % dose it uses 7 % of its full-dose photons. For comparison only.

    Parameters
    ----------
    ndct : Volume
        (slices, rows, columns), HU, axial slices with square pixels. Padding outside the field of view is taken
        for air and comes back unchanged.
    dose : float
        Dose fraction of the result, in (0, 1].
    method : {"physical", "published"}
    seed : int
        Same seed, same noise, whatever the number of slices at once and (to rounding) the device.
    kernel : str, float or Kernel
        What the noise looks like, see `projection.kernel`; `matching.match_scan` measures it from a scan.
        ``physical`` only.
    photons : float
        N₀, photons per ray at dose 1. ``physical`` only; `matching.match_scan` measures it from a scan.
    views : int
        Number of view angles over 180°, at least 4; rounded up to a multiple of 4. ``published`` always uses as
        many as the slice has rows.
    electronic_variance : float
        σ_e² in photons². ``physical`` only.
    source_dose : float or None
        Dose fraction at which `ndct` itself was taken. Its noise is part of the result, so only what is missing
        is added: as if at 1 / (1 / dose - 1 / source_dose). None for a noise-free source. ``physical`` only.
    first_slice : int
        Number of the first slice in its scan: a part of a scan gets the noise that it has in the whole.
    device : str
        What projects: "cpu", or a torch device.
    progress : Progress
        Asked between batches of slices.

    Returns
    -------
    Volume
        float32 HU, same geometry.

    Raises
    ------
    InputError
        For a parameter out of range, a volume that is not CT, or pixels that are not square.
    Cancelled
        If `progress` was cancelled.

    References
    ----------
    Yu et al., J. Comput. Assist. Tomogr. 36(4), 2012 (lower dose from an existing scan); Zeng et al., IEEE Trans.
    Nucl. Sci. 62(5), 2015; Massoumzadeh et al., Phys. Med. Biol. 54, 2009; Leuschner et al., Sci. Data 8, 2021
    (LoDoPaB-CT).
    """

    def noise(hu: np.ndarray, photons: float, seeds: list[int]) -> list[np.ndarray]:
        if method == "published":
            return [_published_noise(hu, dose, seeds, device)]
        sinogram = _physical_sinogram(hu, ndct.spacing[0], photons, views, electronic_variance, seeds, device)
        return [_reconstructed(sinogram, kernel, hu.shape, device) * _hu_per_pixel(ndct.spacing[0])]

    _check(ndct, dose, method, seed, photons, views, electronic_variance, source_dose)
    added = dose if source_dose is None or method == "published" else _added_dose(dose, source_dose)
    (result,) = _with_noise(ndct, 1, added * photons, noise, seed, first_slice, progress)
    return result


def simulate_halves(
    ndct: Volume,
    dose: float,
    *,
    seed: int = 0,
    kernel: str | float | Kernel = "hann",
    photons: float = PHOTONS,
    views: int = 512,
    electronic_variance: float = ELECTRONIC_VARIANCE,
    source_dose: float | None = 1.0,
    first_slice: int = 0,
    device: str = "cpu",
    progress: Progress = NO_PROGRESS,
) -> tuple[Volume, Volume]:
    """Simulate a low-dose scan twice: from its even views, and from its odd ones.

    The noise added to the two is independent, and each has √2 times the σ of the whole. Their mean is what `simulate`
    returns for the same arguments (method ``physical``), to rounding. Noise that `ndct` has of its own is in both.

    Parameters
    ----------
    ndct, dose, seed, kernel, photons, views, electronic_variance, source_dose, first_slice, device
        As for `simulate`.
    progress : Progress
        Asked between batches of slices.

    Returns
    -------
    even, odd : Volume
        float32 HU, same geometry.

    Raises
    ------
    InputError, Cancelled
        As `simulate`.

    References
    ----------
    Hendriksen, Pelt & Batenburg, IEEE Trans. Comput. Imaging 6, 2020 (Noise2Inverse: a network that predicts one half
    from the other learns to remove what they do not share).
    """

    def noise(hu: np.ndarray, photons: float, seeds: list[int]) -> list[np.ndarray]:
        sinogram = _physical_sinogram(hu, ndct.spacing[0], photons, views, electronic_variance, seeds, device)
        whole = _reconstructed(sinogram, kernel, hu.shape, device)
        sinogram[:, 1::2] = 0.0
        even = 2.0 * _reconstructed(sinogram, kernel, hu.shape, device)
        return [half * _hu_per_pixel(ndct.spacing[0]) for half in (even, 2.0 * whole - even)]

    _check(ndct, dose, "physical", seed, photons, views, electronic_variance, source_dose)
    added = dose if source_dose is None else _added_dose(dose, source_dose)
    even, odd = _with_noise(ndct, 2, added * photons, noise, seed, first_slice, progress)
    return even, odd


def physical_noise(
    hu: np.ndarray,
    spacing_mm: float,
    photons: float,
    *,
    seeds: Sequence[int] | np.ndarray,
    kernel: str | float | Kernel = "hann",
    views: int = 512,
    electronic_variance: float = ELECTRONIC_VARIANCE,
    device: str = "cpu",
) -> np.ndarray:
    """Noise, in HU, of the ``physical`` simulation: what `simulate` adds to the slices.

    Parameters
    ----------
    hu : numpy.ndarray
        (slices, rows, columns) HU, no padding.
    spacing_mm : float
        Pixel spacing.
    photons : float
        Per ray, at the dose of the noise (dose fraction times N₀).
    seeds : sequence of int
        One per slice.
    kernel, views, electronic_variance, device
        As in `simulate`.
    """
    sinogram = _physical_sinogram(hu, spacing_mm, photons, views, electronic_variance, seeds, device)
    return _reconstructed(sinogram, kernel, hu.shape, device) * _hu_per_pixel(spacing_mm)


def modulated(hu: np.ndarray, spacing_mm: float, modulation: float) -> tuple[np.ndarray, float]:
    """What to give `physical_noise` so that rays through more than usual get more photons, as filters and modulated
    tube currents send them.

    Usual is the mean path through a cylinder of as much water as the slices hold.

    Parameters
    ----------
    hu, spacing_mm
        As in `physical_noise`.
    modulation : float
        0: every ray gets as many photons. 1: as many arrive everywhere, and the noise is the same everywhere.

    Returns
    -------
    numpy.ndarray, float
        HU in place of `hu`, and the part of the photons to send.

    References
    ----------
    Water-equivalent area: AAPM report 220, 2014.

    Examples
    --------
    >>> slices, part = modulated(np.zeros((1, 10, 10)), 1.0, 1.0)
    >>> float(slices.max()), round(part, 2)
    (-1000.0, 0.84)
    """
    if modulation == 0.0:
        return hu, 1.0
    water = np.maximum(hu + 1000.0, 0.0) / 1000.0
    area = float(water.sum((1, 2)).mean()) * spacing_mm**2
    usual_mm = np.sqrt(np.pi * area) / 2.0
    return (1.0 - modulation) * 1000.0 * water - 1000.0, float(np.exp(-modulation * WATER_PER_MM * usual_mm))


def _with_noise(
    ndct: Volume,
    count: int,
    photons: float,
    noise: Callable[[np.ndarray, float, list[int]], list[np.ndarray]],
    seed: int,
    first_slice: int,
    progress: Progress,
) -> list[Volume]:
    """A scan `count` times, with what `noise` makes of a few slices at a time, the photons per ray and their seeds.

    Padding counts as air, and stays. With so many photons that none can be counted, nothing is missing.
    """
    results = [np.array(ndct.array, dtype=np.float32) for _ in range(count)]
    for first in range(0, 0 if photons > _MOST_PHOTONS else len(ndct.array), _SLICES_AT_ONCE):
        progress.check("the dose simulation was cancelled; nothing was written")
        progress.report(first / len(ndct.array), _DOING)
        part = slice(first, min(first + _SLICES_AT_ONCE, len(ndct.array)))
        outside = outside_field_of_view(ndct.array[part])
        hu = np.where(outside, -1000.0, ndct.array[part].astype(np.float32)).astype(np.float32)
        seeds = [_slice_seed(seed, first_slice + index) for index in range(part.start, part.stop)]
        for result, added in zip(results, noise(hu, photons, seeds), strict=True):
            result[part] += np.where(outside, 0.0, added)
    progress.report(1.0, _DOING)
    return [ndct.with_array(result) for result in results]


def _physical_sinogram(
    hu: np.ndarray,
    spacing_mm: float,
    photons: float,
    views: int,
    electronic_variance: float,
    seeds: Sequence[int] | np.ndarray,
    device: str,
) -> np.ndarray:
    """Noise of the line integrals, of which `_hu_per_pixel` times the reconstruction is noise in HU."""
    per_pixel = np.float32(WATER_PER_MM * spacing_mm)
    attenuation = per_pixel * np.maximum(1 + _to_square(hu) / 1000, 0)
    integrals = _line_integrals(attenuation, views, device)
    return _log_noise(integrals, photons, seeds, lambda expected: np.float32(electronic_variance**0.5))


def _hu_per_pixel(spacing_mm: float) -> np.float32:
    return np.float32(1000.0 / (WATER_PER_MM * spacing_mm))


def _published_noise(hu: np.ndarray, dose: float, seeds: Sequence[int], device: str) -> np.ndarray:
    unit = np.clip((_to_square(hu) + 1000) / 1400, 0, 1)
    photons = (0.015 * 125.0 * dose + 0.1002) * 200.0 * 1000.0
    integrals = _line_integrals(unit, unit.shape[-1], device) / 500
    noise = _log_noise(integrals, photons, seeds, lambda expected: np.float32(0.05) * np.sqrt(expected))
    return _reconstructed(noise, "hann", hu.shape, device) * np.float32(500.0 * 1400.0)


def _reconstructed(
    sinogram: np.ndarray, kernel: str | float | Kernel, shape: tuple[int, ...], device: str
) -> np.ndarray:
    """Filtered back-projection, cut to the (slices, rows, columns) of `shape`."""
    _, rows, columns = shape
    size = max(rows, columns) + max(rows, columns) % 2
    return back_project(filter_views(sinogram, kernel), size, device)[:, :rows, :columns]


def _check(ndct, dose, method, seed, photons, views, electronic_variance, source_dose) -> None:
    check_ct(ndct)
    SimulationSettings(dose=dose, method=method, seed=seed)  # refuses what is out of range
    if not photons > 0.0 or electronic_variance < 0.0 or views < 4:
        raise InputError(
            f"photons {photons:g}, electronic variance {electronic_variance:g}, views {views}: "
            "photons must be above 0, the variance 0 or more, the views 4 or more"
        )
    if source_dose is not None and not source_dose >= dose:
        raise InputError(f"dose {dose:g} is above the source's own {source_dose:g}: noise cannot be taken away")
    x, y, _ = ndct.spacing
    if abs(x - y) > 0.01 * max(x, y):
        raise InputError(f"pixels of {x:g} by {y:g} mm are not square: resample the slices first")


def _added_dose(dose: float, source_dose: float) -> float:
    """Dose fraction whose noise, added to that of `source_dose`, gives the noise of `dose`."""
    missing = 1.0 / dose - 1.0 / source_dose
    return 1.0 / missing if missing > 0.0 else np.inf


def _slice_seed(seed: int, index: int) -> int:
    return int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0] >> 1)


def _to_square(hu: np.ndarray) -> np.ndarray:
    """(slices, n, n) float32, n even, the image in its first rows and columns and air in the rest."""
    rows, columns = hu.shape[1:]
    size = max(rows, columns) + max(rows, columns) % 2
    square = np.full((len(hu), size, size), -1000, np.float32)
    square[:, :rows, :columns] = hu
    return square


def _line_integrals(images: np.ndarray, views: int, device: str) -> np.ndarray:
    """Line integrals on a twice coarser grid where that is fine enough: they only set the noise's strength."""
    views = 4 * -(-views // 4)
    count, size, _ = images.shape
    if size < 256 or size % 4:
        return project(images, views, device)
    coarse = project(images.reshape(count, size // 2, 2, size // 2, 2).mean((2, 4)), views, device) * np.float32(2)
    bins, fine = coarse.shape[-1], detector_bins(size)
    # Bin centres, in pixels from the axis of rotation, must agree between the two detectors.
    position = (np.arange(fine, dtype=np.float32) - (fine - 1) / 2) / 2 + (bins - 1) / 2
    position = np.clip(position, 0, bins - 1.001)
    lower = position.astype(int)
    return coarse[..., lower] + (position - lower).astype(np.float32) * (coarse[..., lower + 1] - coarse[..., lower])


def _log_noise(
    integrals: np.ndarray,
    photons: float,
    seeds: Sequence[int] | np.ndarray,
    electronic_sigma: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Error of the log-transformed counts. Each slice has its own seed, which means the same everywhere."""
    noise = np.empty_like(integrals)

    def one(index: int) -> None:
        random = np.random.default_rng(int(seeds[index]))
        expected = np.float32(photons) * np.exp(-integrals[index])
        counts = random.poisson(expected).astype(np.float32)
        counts += electronic_sigma(expected) * random.standard_normal(expected.shape, np.float32)
        noise[index] = -np.log(np.maximum(counts, 1) / np.float32(photons)) - integrals[index]

    over_slices(one, len(integrals))
    return noise
