"""Noise matched to a scan: photons, kernel and σ found again, with an interval that holds, or a refusal."""

import numpy as np
import pytest
from IPv2Lib.errors import InputError
from IPv2Lib.io.volume import Volume
from IPv2Lib.simulation import phantom
from IPv2Lib.simulation.dose import simulate
from IPv2Lib.simulation.matching import Match, match_scan
from IPv2Lib.simulation.projection import kernel

VIEWS = 96


def water(size: int = 256, slices: int = 4, spacing: float = 1.25) -> Volume:
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    hu = np.where(np.hypot(rows, columns) < 0.4 * size, 0.0, -1000.0).astype(np.float32)
    return Volume(np.repeat(hu[None], slices, 0), (spacing, spacing, 3.0))


@pytest.fixture(scope="module")
def chest() -> Volume:
    """Without noise of its own."""
    return phantom.chest(seed=3, size=512, slices=4)


def scanned(clean: Volume, look: str | float, photons: float) -> Volume:
    noisy = simulate(clean, 1.0, kernel=look, photons=photons, source_dose=None, seed=5, views=VIEWS)
    return noisy.with_array(np.clip(np.rint(noisy.array), -1024, 3071).astype(np.int16))


def sigma(clean: Volume, found: Match | None = None, **how) -> float:
    how |= {"kernel": found.kernel, "photons": found.photons} if found else {}
    noise = simulate(clean, 1.0, source_dose=None, seed=9, views=VIEWS, **how).array - clean.array
    return float(noise[:, 96:160, 96:160].std())


@pytest.mark.parametrize(
    ("anatomy", "look", "photons"),
    [
        ("water", "soft", 6e3), ("water", "hann", 8e3), ("water", 1.5, 2e4),
        ("chest", "hann", 8e3), ("chest", 1.5, 1e4),
    ],
)  # fmt: skip
def test_photons_kernel_and_strength_are_found_again(anatomy, look, photons, request):
    clean = water() if anatomy == "water" else request.getfixturevalue("chest")
    found = match_scan(scanned(clean, look, photons), views=VIEWS)
    assert found.photons == pytest.approx(photons, rel=0.25)
    assert found.interval[0] < found.photons < found.interval[1]
    assert sigma(clean, found) == pytest.approx(sigma(clean, kernel=look, photons=photons), rel=0.1)
    u = np.linspace(0, 0.6, 13)
    assert np.abs(found.kernel.at(u) - kernel(look).at(u)).max() < 0.2


def test_the_interval_holds_the_truth_as_often_as_it_says():
    clean = water(size=192, slices=3)
    inside = 0
    for seed in range(8):
        noisy = simulate(clean, 1.0, photons=1e4, source_dose=None, seed=seed, views=96)
        low, high = match_scan(noisy, views=96, seed=seed).interval
        inside += low < 1e4 < high
    assert inside >= 7


def test_the_same_seed_finds_the_same(chest):
    noisy = scanned(chest, "hann", 1e4)
    assert match_scan(noisy, views=96) == match_scan(noisy, views=96)


@pytest.mark.parametrize(
    ("scan", "message"),
    [
        (Volume(np.random.default_rng(0).normal(-800, 50, (2, 64, 64)).astype(np.float32)), "soft tissue"),
        (water(), "no noise"),
    ],
    ids=["lung only", "no noise"],
)
def test_where_nothing_can_be_measured(scan, message):
    with pytest.raises(InputError, match=message):
        match_scan(scan, views=96)


def test_anatomy_is_not_taken_for_noise():
    clean = phantom.chest(seed=4, size=512, slices=4)
    try:
        found = match_scan(clean.with_array(np.rint(clean.array).astype(np.int16)), views=96)
    except InputError as error:
        assert "cannot be told from its anatomy" in str(error) or "no noise" in str(error)
    else:
        assert sigma(clean, found) < 3.0
