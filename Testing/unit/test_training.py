"""Training on pairs simulated on the fly from normal-dose CT: blocks of slices, and the loop, small."""

import csv
import dataclasses
import shutil

import numpy as np
import pytest
import torch
from IPv2Lib.datasets.strategies import STRATEGIES
from IPv2Lib.errors import Cancelled, InputError, OutputError
from IPv2Lib.inference.denoise import denoise
from IPv2Lib.models import bundle
from IPv2Lib.progress import Progress
from IPv2Lib.simulation import phantom
from IPv2Lib.simulation.breathing import with_motion
from IPv2Lib.training.loop import train
from IPv2Lib.training.on_the_fly import make_block
from IPv2Lib.training.publishing import publish
from IPv2Lib.training.settings import Ranges, TrainingSettings, read_settings
from networks_of_runs import load_network
from samples import CARD

SMALL = {"channels": [8, 8], "blocks": [1, 1]}


@pytest.fixture(scope="module")
def chest():
    return phantom.chest(seed=1, size=128, slices=2)


def settings(**changes) -> TrainingSettings:
    base = TrainingSettings(
        arguments=SMALL, steps=12, batch=2, patch=32, pool=2, steps_per_case=6, ranges=Ranges(zoom=(1.0, 1.0))
    )
    return dataclasses.replace(base, **changes)


def test_a_block_depends_on_its_number_alone(chest):
    first, again, other = (make_block([chest], i, 0) for i in (3, 3, 4))
    assert np.array_equal(first.input, again.input) and np.array_equal(first.target, again.target)
    assert not np.array_equal(first.input, other.input)


def test_ipv2_trains_lung_and_room_air_and_ipv1_neither(chest):
    ranges = Ranges(dose=(0.02, 0.02), zoom=(1.0, 1.0))
    ipv1, ipv2 = (make_block([chest], 0, 0, strategy, ranges=ranges) for strategy in ("ipv1", "ipv2"))
    lung = (ipv2.target < -700) & (ipv2.target > -930)
    air = ipv2.target < -990
    assert np.median(np.abs(ipv1.input - ipv1.target)[lung]) == 0.0
    assert np.median(np.abs(ipv1.input - ipv1.target)[air]) == 0.0
    assert np.median(np.abs(ipv2.input - ipv2.target)[lung]) > 5.0
    assert np.median(np.abs(ipv2.input - ipv2.target)[air]) > 2.0


def test_every_strategy_can_be_drawn_and_direct_asks_for_the_breathed_scan(chest):
    ranges = Ranges(dose=(0.02, 0.02), zoom=(1.0, 1.0), motion_mm=(9.0, 9.0))
    names = [name for name in STRATEGIES if name != "noise2inverse"]
    blocks = {name: make_block([chest], 0, 0, name, ranges=ranges) for name in names}
    for first in names:
        assert sum(np.array_equal(blocks[first].input, blocks[name].input) for name in names) == (
            2 if first in ("none", "direct") else 1
        )
    assert np.array_equal(blocks["none"].target, blocks["ipv2"].target)
    error = {name: blocks[name].input - blocks[name].target for name in ("none", "direct")}
    assert np.std(error["direct"]) < 0.8 * np.std(error["none"])  # nothing is where it should not be
    with pytest.raises(InputError, match="split projections"):
        make_block([chest], 0, 0, "noise2inverse")


def test_direct_targets_are_the_cleaner_scan_with_the_same_breath(chest):
    clean = chest.with_array(chest.array.astype(np.float32))
    scan = clean.with_array(clean.array + np.random.default_rng(0).normal(0, 3, clean.array.shape).astype(np.float32))
    ranges = Ranges(zoom=(1.0, 1.0), motion_mm=(9.0, 9.0))
    noisy = make_block([scan], 0, 0, "direct", ranges=ranges)
    cleaner = make_block([scan], 0, 0, "direct", ranges=ranges, targets=[clean])
    assert np.array_equal(noisy.input, cleaner.input)
    assert 0.5 < np.std(noisy.target - cleaner.target) < 4


def test_the_blend_is_that_of_the_publication_unless_chosen(chest):
    blocks = {blend: make_block([chest], 0, 0, "ipv1", blend=blend) for blend in (None, 0.1, 0.0)}
    assert np.array_equal(blocks[None].input, blocks[0.1].input)
    assert not np.array_equal(blocks[None].input, blocks[0.0].input)
    with pytest.raises(InputError, match="blend"):
        make_block([chest], 0, 0, "none", blend=0.1)


def test_cleaner_targets_are_asked_for_and_the_input_keeps_the_noise_of_the_scan(chest):
    clean = chest.with_array(chest.array.astype(np.float32))
    noise = np.random.default_rng(0).normal(0, 30, chest.array.shape).astype(np.float32)
    scan = clean.with_array(np.where(clean.array > -1000, clean.array + noise, clean.array))
    ranges = Ranges(dose=(1.0, 1.0), photons=(1e9, 1e9), zoom=(1.0, 1.0), motion_mm=(0.0, 0.0))
    block = make_block([scan], 0, 0, ranges=ranges, targets=[clean])
    body = block.target > -900
    assert set(np.unique(block.target)) <= set(np.unique(np.maximum(clean.array, -1024)))
    assert 25 < np.std((block.input - block.target)[body]) < 35


def test_zoom_filters_noise_that_the_coarser_grid_cannot_hold(chest):
    noise = np.random.default_rng(0).normal(0, 100, (2, 128, 128)).astype(np.float32)
    scan = chest.with_array(noise - 500)
    block = make_block([scan], 0, 0, ranges=Ranges(zoom=(2.0, 2.0), dose=(1.0, 1.0), photons=(1e9, 1e9)))
    assert block.target.shape[1:] == (64, 64)
    assert block.target.std() < 60


def test_thicker_slices_are_means_of_neighbours(chest):
    noise = np.random.default_rng(0).normal(-500, 100, (8, 128, 128)).astype(np.float32)
    scan = dataclasses.replace(chest, array=noise)
    ranges = Ranges(zoom=(1.0, 1.0), dose=(1.0, 1.0), photons=(1e9, 1e9), thickness=(4, 4))
    for target in (make_block([scan], index, 0, "none", ranges=ranges).target for index in range(3)):
        assert target.shape == (2, 128, 128)
        assert 48 < target.std() < 52
    # Thicker than the scan: one slice is left.
    assert len(make_block([chest], 0, 0, "none", ranges=dataclasses.replace(ranges, thickness=(8, 8))).target) == 1


def test_noise_of_every_other_block_is_as_even_as_asked_for(chest):
    ranges = Ranges(dose=(0.1, 0.1), photons=(1e5, 1e5), sharpness=(-1.0, -1.0), zoom=(1.0, 1.0), motion_mm=(0.0, 0.0))

    def noise(index: int, modulation: float) -> tuple[float, float]:
        """σ in the body, and how many times that of the air around it that is."""
        wanted = dataclasses.replace(ranges, modulation=(modulation, modulation))
        block = make_block([chest], index, 0, "none", ranges=wanted, antithetic=True)
        whole = np.minimum(block.input, block.antithetic) > -1020
        half, body = (block.input - block.antithetic)[whole] / 2, (block.target > -900)[whole]
        return half[body].std(), half[body].std() / half[~body].std()

    usual = [noise(index, 0.0) for index in range(8)]
    asked = [noise(index, 1.0) for index in range(8)]
    assert all(ratio > 1.2 for _, ratio in usual)
    even = [(sigma, ratio) for sigma, ratio in asked if ratio < 1.15]
    assert 2 <= len(even) <= 6 and all(ratio > 0.9 for _, ratio in even)
    assert sum(ratio > 1.2 for _, ratio in asked) == len(asked) - len(even)
    # Neither louder nor quieter than usual.
    assert 0.8 < np.mean([sigma for sigma, _ in even]) / np.mean([sigma for sigma, _ in usual]) < 1.25


def test_kernels_of_every_other_block_have_a_band_of_their_own(chest):
    air = chest.with_array(np.full_like(chest.array, -900))
    ranges = Ranges(dose=(1.0, 1.0), photons=(1e5, 1e5), sharpness=(1.0, 1.0), zoom=(1.0, 1.0), motion_mm=(0.0, 0.0))

    def spectrum(index: int, octaves: float) -> np.ndarray:
        """Power of the noise in three rings of frequencies, of all power."""
        wanted = dataclasses.replace(ranges, band=(octaves, octaves))
        block = make_block([air], index, 0, "none", ranges=wanted, antithetic=True)
        power = np.abs(np.fft.fft2((block.input - block.antithetic) / 2)).mean(0) ** 2
        frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(128), np.fft.fftfreq(128)))
        rings = np.array([power[(low <= frequency) & (frequency < low + 0.15)].sum() for low in (0.01, 0.16, 0.31)])
        return rings / rings.sum()

    usual = np.array([spectrum(index, 0.0) for index in range(8)])
    odd = np.abs([spectrum(index, 2.0) - usual.mean(0) for index in range(8)]).max(1) > 0.05
    assert np.abs(usual - usual.mean(0)).max() < 0.05
    assert 2 <= odd.sum() <= 6


def test_blocks_that_were_kept_are_read_again(chest, tmp_path):
    kept = settings(blocks=3, keep_blocks=str(tmp_path / "kept"), steps_per_case=1, learning_rate=1e-6)
    first = train([chest], tmp_path / "first", kept, workers=0)
    files = sorted((tmp_path / "kept").iterdir())
    assert len(files) == 3
    times = [file.stat().st_mtime_ns for file in files]
    again = train([chest], tmp_path / "again", kept, workers=1)
    assert sorted((tmp_path / "kept").iterdir()) == files and [file.stat().st_mtime_ns for file in files] == times
    assert weights(first) == weights(again)
    # Rounded to float16 they teach the same.
    fresh = train([chest], tmp_path / "fresh", dataclasses.replace(kept, keep_blocks=None), workers=0)
    losses = [[float(row["loss"]) for row in csv.DictReader((run / "log.csv").open())] for run in (first, fresh)]
    np.testing.assert_allclose(*losses, rtol=2e-3)
    # What makes other blocks has its own.
    train([chest], tmp_path / "other", dataclasses.replace(kept, seed=1), workers=0)
    assert len(list((tmp_path / "kept").iterdir())) == 6


def test_a_damaged_block_is_named(chest, tmp_path):
    kept = settings(blocks=1, pool=1, keep_blocks=str(tmp_path / "kept"))
    train([chest], tmp_path / "first", kept, workers=0)
    (file,) = (tmp_path / "kept").iterdir()
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match=f"{file.name} cannot be read .*delete it"):
        train([chest], tmp_path / "again", kept, workers=0)


def weights(run) -> list[bytes]:
    return [parameter.detach().numpy().tobytes() for parameter in load_network(run).parameters()]


def test_the_mirrored_input_has_the_negative_of_the_noise(chest):
    ranges = Ranges(dose=(0.2, 0.2), zoom=(1.0, 1.0), motion_mm=(0.0, 0.0))
    block = make_block([chest], 0, 0, ranges=ranges, antithetic=True)
    unclipped = np.minimum(block.input, block.antithetic) > -1020
    assert np.std((block.input - block.target)[unclipped]) > 5
    np.testing.assert_allclose(((block.input + block.antithetic) / 2)[unclipped], block.target[unclipped], atol=0.01)


def test_a_variance_weight_lets_less_noise_through(chest, tmp_path):
    ranges = Ranges(dose=(1.0, 1.0), sharpness=(1.0, 1.0), zoom=(1.0, 1.0))
    block = make_block([chest], 99, 0, ranges=ranges, antithetic=True)
    passed = []
    base = settings(steps=200, batch=4, learning_rate=5e-3, ranges=ranges, bias_weight=0.1, steps_per_case=50)
    for weight in (0.0, 100.0):
        wanted = dataclasses.replace(base, variance_weight=weight)
        run = train([chest], tmp_path / str(weight), wanted, workers=0)
        network = load_network(run)
        with torch.no_grad():
            first, second = (
                network(torch.from_numpy(image[[0, 0, 1]][None] / np.float32(1000))).numpy()
                for image in (block.input, block.antithetic)
            )
        passed.append(np.std(first - second))
    assert passed[1] < 0.95 * passed[0]


def test_breath_moves_the_lungs_and_nothing_else(chest):
    array = np.asarray(chest.array, np.float32)
    moved = with_motion(array, 3.0, np.random.default_rng(0))
    change = np.abs(moved - array)
    assert change[(array < -700) & (array > -950)].max() > 20
    assert change[array < -1000].max() == 0.0


def test_resumed_equals_uninterrupted(chest, tmp_path):
    whole = train([chest], tmp_path / "whole", settings(), workers=0)
    count = iter(range(100))
    with pytest.raises(Cancelled, match="resume"):
        train([chest], tmp_path / "cut", settings(), workers=0, progress=Progress(cancelled=lambda: next(count) == 7))
    train([chest], tmp_path / "cut", resume=True, workers=0)
    a, b = (torch.load(run / "checkpoint.pt", weights_only=True) for run in (whole, tmp_path / "cut"))
    assert a["step"] == b["step"] == 12
    for name, value in a["average"].items():
        assert torch.allclose(value, b["average"][name], atol=1e-6), name


def test_a_trained_network_removes_noise_and_is_published(chest, tmp_path):
    one_dose = Ranges(dose=(0.003, 0.003), sharpness=(1.0, 1.0), zoom=(1.0, 1.0))
    wanted = settings(steps=400, batch=4, learning_rate=5e-3, steps_per_case=1000, ranges=one_dose, bias_weight=0.1)
    run = train([chest], tmp_path / "run", wanted, workers=0)
    with open(run / "log.csv") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(10, 401, 10))
    data = [{"name": "phantom", "licence": "Apache-2.0", "citation": "this project"}]
    published = publish(run, tmp_path / "model", CARD | {"training": {"data": data}})
    assert bundle.load(tmp_path / "model").hash == published.hash
    assert published.card.training["settings"]["steps"] == 400
    block = make_block([chest], 99, 0, ranges=one_dose)
    result = denoise(chest.with_array(block.input), published).volume.array
    assert np.std(result - block.target) < 0.8 * np.std(block.input - block.target)


def test_a_run_starts_from_a_model_of_the_same_network(chest, tmp_path):
    first = publish(train([chest], tmp_path / "first", settings(steps=3), workers=0), tmp_path / "model", CARD)
    hardly = settings(steps=1, learning_rate=1e-12, start_from=str(first.folder), average=0.0)
    second = train([chest], tmp_path / "second", hardly, workers=0)
    weights = torch.load(second / "checkpoint.pt", weights_only=True)["network"]
    for name, value in first.network().state_dict().items():
        assert torch.allclose(weights[name], value, atol=1e-5), name
    other = settings(arguments={"channels": [4], "blocks": [1]}, start_from=str(first.folder))
    with pytest.raises(InputError, match="same network"):
        train([tmp_path / "found out before volumes are read"], tmp_path / "other", other)
    assert not (tmp_path / "other").exists()
    shutil.rmtree(first.folder)
    train([chest], second, resume=True, workers=0)  # goes on from its checkpoint


def test_targets_must_match_their_volumes(chest, tmp_path):
    with pytest.raises(InputError, match="1 volumes and 2 targets"):
        train([chest], tmp_path / "a", settings(), targets=[chest, chest])
    with pytest.raises(InputError, match="target 1 does not lie on the grid"):
        train([chest], tmp_path / "b", settings(), targets=[phantom.chest(seed=1, size=64, slices=2)])


def test_settings_survive_the_disk(chest, tmp_path):
    wanted = settings(steps=1, strategy="ipv1", pairs="simulated", ranges=Ranges(dose=(0.1, 0.2)))
    assert read_settings(train([chest], tmp_path / "run", wanted, workers=0)) == wanted


@pytest.mark.parametrize(
    "change",
    [
        {"network": "magic"},
        {"strategy": "ipv9"},
        {"batch": 0},
        {"precision": "int8"},
        {"pairs": "some"},
        {"loss": "l7"},
        {"minutes": -1},
        {"epochs": 0},
        {"seed": -1},
        {"average": 1.0},
        {"blend": 2},
        {"strategy": "direct", "blend": 0.1},
        {"network": "implicit"},
        {"loss": "mse", "variance_weight": 1},
        {"blocks": 0},
        {"small_error": 0},
        {"network": "ffm", "loss": "mse"},
        {"epochs": 1, "minutes": 1},
    ],
)
def test_bad_settings_are_named(change):
    with pytest.raises(InputError, match=next(iter(change)).replace("strategy", "ipv9|blend").replace("_", ".")):
        settings(**change)


@pytest.mark.parametrize(
    "bad",
    [
        {"dose": (0.0, 0.1)},
        {"zoom": (2.0, 1.0)},
        {"sharpness": (0.0, 3.0)},
        {"thickness": (0, 2)},
        {"thickness": (1.5, 2)},
        {"modulation": (0.0, 1.1)},
        {"band": (-1.0, 1.0)},
    ],
)
def test_bad_ranges_are_named(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        Ranges(**bad)


def test_a_run_without_a_checkpoint_begins_again(chest, tmp_path):
    run = train([chest], tmp_path / "run", settings(steps=1), workers=0)
    (run / "checkpoint.pt").unlink()
    train([chest], run, resume=True, workers=0)
    assert (run / "checkpoint.pt").exists()


def test_what_volumes_cannot_give_is_refused_and_leaves_nothing(chest, tmp_path):
    for change, words in (
        ({"patch": 129}, "patch of 129 pixels is larger than volume 1"),
        ({"strategy": "noise2inverse"}, "split projections"),
        ({"precision": "float16", "device": "cpu"}, "float16 needs"),
        ({"device": "abacus"}, "abacus"),
        ({"arguments": {"depth": 3}}, "cannot be built"),
    ):
        with pytest.raises(InputError, match=words):
            train([chest], tmp_path / "run", settings(**change))
    assert not list(tmp_path.iterdir())


def test_bad_folders_are_named(chest, tmp_path):
    with pytest.raises(InputError, match="no volumes"):
        train([], tmp_path / "empty")
    with pytest.raises(InputError, match="not a training run"):
        train([chest], tmp_path / "none", resume=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        train([chest], tmp_path / "file")
    train([chest], tmp_path / "run", settings(steps=1), workers=0)
    with pytest.raises(InputError, match="already"):
        train([chest], tmp_path / "run", settings(steps=1))
    with pytest.raises(InputError, match="not a training run"):
        publish(tmp_path / "nothing", tmp_path / "model", {})
