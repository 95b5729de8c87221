"""Denoisers by name: known answers of filters, keys, what is refused, and a stop."""

import importlib.machinery
import json
import sys
import types

import numpy as np
import pytest
from IPv2Lib.analysis.regions import outside_field_of_view
from IPv2Lib.errors import Cancelled, InputError
from IPv2Lib.inference import denoisers
from IPv2Lib.inference.filters import FILTERS
from IPv2Lib.io.volume import Volume
from IPv2Lib.models import bundle
from IPv2Lib.progress import Progress

INSTALLED = [name for name, each in FILTERS.items() if each.installed]


ROWS, COLUMNS = np.indices((128, 128)) - 63.5
BODY = np.hypot(ROWS, COLUMNS) < 45


@pytest.fixture(scope="module")
def noisy() -> Volume:
    """A body of soft tissue with noise of 60 HU in room air, and padding outside a round field of view."""
    noise = np.random.default_rng(0).normal(0, 60, (3, 128, 128))
    scan = np.where(BODY, 40.0, -1000.0) + noise
    return Volume(np.where(np.hypot(ROWS, COLUMNS) > 62, -2000, scan).astype(np.float32), (0.7, 0.7, 2.0))


def find(name, folder="/nowhere"):
    return denoisers.find(name, folder)


@pytest.mark.parametrize("name", INSTALLED)
def test_noise_falls_and_padding_stays(name, noisy):
    result = find(name).denoise(noisy)
    outside = outside_field_of_view(noisy.array)
    assert outside.any() and np.array_equal(result.array[outside], noisy.array[outside])
    inner = np.hypot(ROWS, COLUMNS) < 38
    before, after = (volume.array[:, inner] for volume in (noisy, result))
    assert after.std() < 0.7 * before.std() and after.mean() == pytest.approx(before.mean(), abs=1)
    air = np.hypot(ROWS, COLUMNS) > 52
    assert result.array[:, air & ~outside[0]].mean() == pytest.approx(-1000, abs=2)
    assert (result.spacing, result.array.dtype) == (noisy.spacing, noisy.array.dtype)


@pytest.mark.parametrize("name", INSTALLED)
def test_what_has_no_noise_stays(name):
    step = np.where(np.arange(64) < 32, np.float32(-1000), np.float32(40)) * np.ones((2, 64, 1), np.float32)
    assert np.array_equal(find(name).denoise(Volume(step)).array, step)


@pytest.mark.parametrize("name", ["tv", "median"])
def test_slices_are_denoised_as_in_the_whole_volume_and_the_others_stay(name, noisy):
    whole, some = find(name).denoise(noisy), find(name).denoise(noisy, slices=[2, 0])
    assert np.array_equal(some.array[[0, 2]], whole.array[[0, 2]])
    assert np.array_equal(some.array[1], noisy.array[1])
    with pytest.raises(InputError, match="3"):
        find(name).denoise(noisy, slices=[3])


def test_integers_are_rounded(noisy):
    scan = Volume(np.rint(noisy.array).astype(np.int16))
    whole = find("tv").denoise(scan)
    exact = find("tv").denoise(Volume(scan.array.astype(np.float32)))
    assert whole.array.dtype == np.int16
    assert np.array_equal(whole.array, np.rint(exact.array))


def test_the_strength_follows_the_noise_and_its_multiple(noisy):
    def removed(name: str) -> float:
        return float((find(name).denoise(noisy).array - noisy.array).std())

    assert removed("tv:0.3") < removed("tv") < removed("tv:2")
    for each in FILTERS.values():
        assert each.strength(50) < each.strength(100) == each.usual < each.strength(100, 2)


def test_keys_tell_results_apart():
    names = ["input", *INSTALLED, "tv:0.5", "tv:0.8"]
    assert len({find(name).key for name in names}) == len(names)
    assert find("tv").key == find("tv:1").key == find("tv:1.0").key
    assert find("tv:0.8").name == "tv 0.8" and find("tv:0.8").label == "total variation × 0.8"
    assert json.loads(json.dumps(find("tv:0.8").facts))["multiple"] == 0.8


def test_the_key_of_a_model_says_how_it_runs():
    model = bundle.load(bundle.default_name())
    usual = denoisers.NetworkDenoiser("a", "A", model, {})
    other = denoisers.NetworkDenoiser("a", "A", model, {}, residual_noise_hu=3.0)
    assert usual.key == model.key == find(model.name).key != other.key


def test_the_input_is_a_denoiser(noisy):
    assert find("input").denoise(noisy) is noisy


def test_a_stop_is_heeded_and_progress_reported(noisy):
    told = []
    find("gaussian").denoise(noisy, progress=Progress(lambda fraction, text: told.append(fraction)))
    assert told == sorted(told) and told[-1] == 1
    with pytest.raises(Cancelled):
        find("gaussian").denoise(noisy, progress=Progress(cancelled=lambda: True))


def test_no_ct_is_refused():
    with pytest.raises(InputError, match="NaN"):
        find("tv").denoise(Volume(np.full((1, 8, 8), np.nan)))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nobody", ["no model 'nobody'", "tv", "implicit", "input", "ipv2-fast"]),
        ("tv:much", ["tv:0.8"]),
        ("tv:0", ["above 0"]),
        ("tv:nan", ["above 0"]),
        ("tv:-1", ["above 0"]),
        ("unet", ["without weights"]),
    ],
)
def test_what_is_refused(name, words, tmp_path):
    with pytest.raises(InputError) as error:
        find(name, tmp_path)
    for word in words:
        assert word in str(error.value)


def test_bm3d_says_how_to_install_it_and_under_which_licence(monkeypatch, noisy):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install bm3d \(its licence allows non-commercial use only\)"):
        find("bm3d")
    monkeypatch.undo()
    fake = types.ModuleType("bm3d")
    fake.__spec__ = importlib.machinery.ModuleSpec("bm3d", None)
    fake.bm3d = lambda image, sigma: image * 0 + sigma
    monkeypatch.setitem(sys.modules, "bm3d", fake)
    result = find("bm3d").denoise(noisy, slices=[1])
    assert 50 < result.array[1, 64, 64] < 2000
