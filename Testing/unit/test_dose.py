"""The dose simulators: known strength, scaling, determinism, bad parameters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from IPv2Lib.errors import Cancelled, InputError
from IPv2Lib.io.volume import Volume
from IPv2Lib.progress import Progress
from IPv2Lib.simulation.dose import simulate, simulate_halves


def water(size: int = 128, slices: int = 2, spacing: float = 2.5) -> Volume:
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    body = np.hypot(rows, columns) < min(130 / spacing, 0.45 * size)
    hu = np.where(body, 0.0, -1000.0).astype(np.float32)
    return Volume(np.repeat(hu[None], slices, 0), (spacing, spacing, 3.0))


def added(volume: Volume, dose: float, **options) -> np.ndarray:
    options = {"source_dose": None, "views": 128} | options
    noise = simulate(volume, dose, **options).array - volume.array
    middle = slice(volume.array.shape[1] // 2 - 16, volume.array.shape[1] // 2 + 16)
    return noise[:, middle, middle]


def test_noise_follows_the_dose_from_half_to_one_percent():
    volume = water(slices=4)
    plenty = {"electronic_variance": 0.0, "photons": 1.5e7}  # the logarithm is straight where photons are many
    full = added(volume, 1.0, **plenty).std()
    for dose in (0.5, 0.1, 0.02, 0.01):
        assert added(volume, dose, **plenty).std() == pytest.approx(full / dose**0.5, rel=0.05)


def test_the_noise_of_the_source_counts():
    volume = water(slices=4)
    missing = added(volume, 0.5, source_dose=1.0, seed=3).std()
    assert missing == pytest.approx(added(volume, 1.0, seed=4).std(), rel=0.05)
    assert not added(volume, 1.0, source_dose=1.0).any()


def test_strength_agrees_with_theory():
    """σ of the plain ramp in the middle of a disc: π / views · Σ over views of var(p) · Σ ramp² (Kak & Slaney)."""
    volume = water(slices=6)
    per_pixel = 0.0192 * 2.5
    variance = np.exp(0.0192 * 260) / 1.5e5
    # Σ of the squared ramp is 1/12; linear interpolation keeps about 2/3 of the power of its neighbours' mean.
    upper = 1000 / per_pixel * np.sqrt(np.pi**2 / 128 * variance / 12)
    sigma = added(volume, 1.0, kernel="ramp", electronic_variance=0.0).std()
    assert 0.6 * upper < sigma < 1.0 * upper


def test_endless_photons_make_no_noise():
    assert not added(water(slices=1), 1.0, photons=1e30).any()
    assert 0 < np.abs(added(water(slices=1), 1.0, photons=1e17, electronic_variance=0.0)).max() < 1


def test_no_bias_at_moderate_dose():
    assert added(water(slices=4), 0.25).mean() == pytest.approx(0.0, abs=1.0)


def test_sharper_kernels_make_more_and_finer_noise():
    volume = water(slices=3)
    sigma = [added(volume, 0.1, kernel=name).std() for name in ("soft", "hann", "ramp", "sharp")]
    assert sigma == sorted(sigma) and sigma[3] > 3 * sigma[0]


def test_a_seed_fixes_every_slice_whatever_its_company():
    volume = water(slices=10)
    whole = simulate(volume, 0.05, seed=7, views=32).array
    again = simulate(volume, 0.05, seed=7, views=32).array
    first = simulate(Volume(volume.array[:3], volume.spacing), 0.05, seed=7, views=32).array
    assert np.array_equal(whole, again)
    assert first == pytest.approx(whole[:3], abs=0.1)
    assert not np.array_equal(whole[0], whole[1])
    assert not np.array_equal(whole, simulate(volume, 0.05, seed=8, views=32).array)


def test_padding_and_geometry_come_back():
    volume = water(slices=2)
    rows, columns = np.mgrid[:128, :128] - 63.5
    outside = np.hypot(rows, columns) > 70
    array = np.where(outside, -2000, volume.array).astype(np.int16)
    padded = Volume(array, (2.5, 2.5, 3.0), (1.0, 2.0, 3.0))
    result = simulate(padded, 0.02, views=32)
    assert (result.array[:, outside] == -2000).all()
    assert (result.spacing, result.origin, result.direction) == (
        padded.spacing,
        padded.origin,
        padded.direction,
    )
    assert result.array.dtype == np.float32


def test_published_noise_is_nearly_uniform():
    volume = water(size=64, slices=4, spacing=5.0)
    noise = simulate(volume, 0.02, method="published").array - volume.array
    middle, air = noise[:, 24:40, 24:40].std(), noise[:, :6, 24:40].std()
    physical = simulate(volume, 0.02, views=64).array - volume.array
    assert middle / air < 1.1 < 1.5 < physical[:, 24:40, 24:40].std() / physical[:, :6, 24:40].std()


@pytest.mark.parametrize(
    "options",
    [
        {"dose": 0.0},
        {"dose": 1.5},
        {"dose": float("nan")},
        {"method": "magic"},
        {"photons": 0},
        {"electronic_variance": -1},
        {"views": 2},
        {"seed": -1},
        {"kernel": "bone"},
        {"source_dose": 0.01},
    ],
)
def test_bad_parameters_are_named(options):
    dose = options.pop("dose", 0.02)
    with pytest.raises(InputError):
        simulate(water(32, 1), dose, **options)


def test_pixels_must_be_square():
    with pytest.raises(InputError, match="square"):
        simulate(Volume(water(32, 1).array, (1.0, 2.0, 1.0)), 0.02)


def test_cancel_and_progress():
    seen = []
    simulate(water(32, 20), 0.1, views=8, progress=Progress(lambda fraction, text: seen.append(fraction)))
    assert seen == sorted(seen) and seen[-1] == 1.0 and len(seen) > 2
    with pytest.raises(Cancelled):
        simulate(water(32, 2), 0.1, progress=Progress(cancelled=lambda: True))


@settings(max_examples=15, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(4, 40), st.integers(4, 40)),
    dose=st.floats(0.005, 1.0),
    method=st.sampled_from(["physical", "published"]),
)
def test_any_shape_comes_back_finite(shape, dose, method):
    rng = np.random.default_rng(0)
    volume = Volume(rng.uniform(-1000, 1500, shape).astype(np.float32))
    result = simulate(volume, dose, method=method, views=8)
    assert result.array.shape == shape and np.isfinite(result.array).all()


# --- split projections ------------------------------------------------------------------------------------------


def test_halves_have_independent_noise_of_twice_the_variance_and_the_whole_as_their_mean():
    volume = water(slices=8)
    options = {"source_dose": None, "views": 128, "seed": 3, "kernel": "ramp"}
    whole = simulate(volume, 0.1, **options).array
    even, odd = (half.array for half in simulate_halves(volume, 0.1, **options))
    assert (even + odd) / 2 == pytest.approx(whole, abs=0.1)
    middle = np.s_[:, 48:80, 48:80]
    noise, first, second = ((image - volume.array)[middle] for image in (whole, even, odd))
    assert first.var() == pytest.approx(2 * noise.var(), rel=0.05)
    assert second.var() == pytest.approx(2 * noise.var(), rel=0.05)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.03


def test_halves_keep_padding_and_know_the_source_dose():
    volume = water(slices=1)
    rows, columns = np.mgrid[:128, :128] - 63.5
    outside = np.hypot(rows, columns) > 63
    padded = volume.with_array(np.where(outside, -2000, volume.array))
    for half in simulate_halves(padded, 0.05, views=32):
        assert (half.array[0][outside] == -2000).all() and half.array[0][~outside].min() > -2000
    for half in simulate_halves(volume, 1.0, views=32):
        assert np.array_equal(half.array, volume.array)


def test_halves_refuse_and_stop_as_the_whole_does():
    with pytest.raises(InputError, match="dose fraction is 2"):
        simulate_halves(water(), 2.0)
    with pytest.raises(Cancelled):
        simulate_halves(water(), 0.1, progress=Progress(cancelled=lambda: True))
