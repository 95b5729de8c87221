"""Warnings about volumes that a model was not made for: one property at a time is made wrong."""

import re

import numpy as np
import pytest
import samples
from IPv2Lib.analysis.suitability import concerns
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume
from IPv2Lib.models import bundle
from IPv2Lib.models.card import ModelCard
from IPv2Lib.networks import registry
from IPv2Lib.simulation import phantom

CARD = None
"""Of a model that says nothing of its noise."""


@pytest.fixture(scope="module")
def uldct() -> Volume:
    return phantom.pair(seed=0, size=192, slices=6, dose=0.05).uldct


def with_geometry(volume: Volume, **geometry) -> Volume:
    kept = {"spacing": (0.8, 0.8, 2.0), "origin": volume.origin, "direction": volume.direction}
    return Volume(volume.array, **{**kept, **geometry})


@pytest.fixture(scope="module")
def suitable(uldct) -> Volume:
    return uldct if uldct.spacing[0] <= 1.3 else with_geometry(uldct)


def test_a_low_dose_chest_raises_no_concern(suitable):
    assert concerns(suitable, CARD) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: (a + 3000).clip(1), "cannot be denoised.*no value is below 0"),
        (lambda a: np.where(a < 0, np.nan, a).astype(np.float32), "cannot be denoised.*NaN"),
        (lambda a: a // 20 - 1, "span only"),
        (lambda a: (a + 1024).clip(-5), "lowest values are .* below −700"),
        (lambda a: np.where(a < -400, a, a + 1000), r"Tissue lies around \d+, .*rescale intercept"),
        (lambda a: a.clip(None, -500), "Nothing is denser than −400 HU"),
    ],
)
def test_values_that_are_no_hu(suitable, change, words):
    found = concerns(suitable.with_array(change(suitable.array)), CARD)
    assert len(found) == 1
    assert re.search(words, found[0]), found[0]


def test_padding_does_not_hide_values_that_are_no_hu(suitable):
    array = suitable.array + 1024
    array[:, :30] = -3024
    (found,) = concerns(suitable.with_array(array), CARD)
    assert found.startswith("The lowest values are")


def test_no_lung(suitable):
    array = np.where(suitable.array < -300, 40, suitable.array).astype(np.int16)
    array[:, :20] = array[:, -20:] = array[:, :, :20] = array[:, :, -20:] = -1000
    found = concerns(suitable.with_array(array), CARD)
    assert any("Hardly any lung" in text and "0 % of the body" in text for text in found)


def card(folder, **changes) -> ModelCard:
    """The card of a model on disk."""
    small = {"channels": [4], "blocks": [1]}
    made = bundle.save(folder, "unet", small, registry.build("unet", **small).state_dict(), samples.CARD | changes)
    return bundle.load(made.folder).card


def test_noise_beyond_the_range_of_the_card_and_of_the_default(suitable, tmp_path):
    noisy = suitable.array + np.random.default_rng(0).normal(0, 700, suitable.array.shape)
    (found,) = concerns(suitable.with_array(noisy), card(tmp_path / "silent"))
    assert "noise is about" in found and "10 to 300 HU" in found
    assert concerns(suitable.with_array(noisy), card(tmp_path / "wide", noise_hu=[10, 1000])) == []
    (found,) = concerns(suitable, card(tmp_path / "strong", noise_hu=[400, 1000]))
    assert "only about" in found and "400 to 1000 HU" in found


@pytest.mark.parametrize(
    ("geometry", "words"),
    [
        ({"spacing": (0.8, 0.8, 8.0)}, "8.0 mm apart"),
        ({"spacing": (0.8, 1.1, 2.0)}, "not square (0.80 × 1.10 mm)"),
        ({"spacing": (0.2, 0.2, 2.0)}, "measure 0.20 mm"),
        ({"spacing": (1.7, 1.7, 2.0)}, "measure 1.70 mm"),
        ({"direction": (1, 0, 0, 0, 0, 1, 0, -1, 0)}, "tilted by 90°"),
    ],
)
def test_unusual_geometry(suitable, geometry, words):
    assert any(words in text for text in concerns(with_geometry(suitable, **geometry), CARD))


def test_one_slice_has_no_distance_to_the_next(suitable):
    one = Volume(suitable.array[3:4], spacing=(0.8, 0.8, 50.0))
    assert not any("apart" in text for text in concerns(one, CARD))


@pytest.mark.parametrize(
    "array", [np.zeros((2, 1, 4)), np.zeros((0, 4, 4)), np.zeros((4, 4)), np.full((1, 4, 4), -7.0)]
)
def test_nothing_is_refused(array):
    assert len(concerns(Volume(array), CARD)) >= 1


def test_real_scans_raise_none_but_for_thick_slices(data_folder):
    for name in ("lungdx_A0002", "nlst_101287", "acrin_042"):
        volume = files.read(data_folder / f"{name}.nrrd")
        found = concerns(volume, CARD)
        assert [("apart" in text) for text in found] == [True] * (volume.spacing[2] > 5)
