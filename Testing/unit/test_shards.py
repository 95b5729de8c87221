"""Purified data as training reads it: windows against the method itself, damage, and a bare machine."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import IPv2Lib
import numpy as np
import pytest
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.analysis.regions import outside_field_of_view
from IPv2Lib.datasets import shards, strategies
from IPv2Lib.datasets.cases import Case
from IPv2Lib.datasets.preparation import prepare
from IPv2Lib.datasets.shards import PurifiedDataset, Shard, is_dataset
from IPv2Lib.errors import InputError
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume
from IPv2Lib.purification.purify import purify
from IPv2Lib.purification.settings import ABLATION, IPV1, Settings
from IPv2Lib.simulation import phantom

WINDOW = np.s_[1:3, 10:50, 20:64]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A data set of a real pair on two grids and of a simulated pair with split projections."""
    folder = tmp_path_factory.mktemp("data")
    pair = phantom.pair(size=64, slices=4)
    shifted = Volume(pair.ndct.array[:, :, 2:], pair.ndct.spacing, (pair.ndct.origin[0] + 9, *pair.ndct.origin[1:]))
    files.write(pair.uldct, folder / "uldct.nrrd")
    files.write(shifted, folder / "ndct.nrrd")
    files.write(pair.ndct, folder / "alone.nrrd")
    cases = [
        Case("pair", ndct=folder / "ndct.nrrd", uldct=folder / "uldct.nrrd", split="train"),
        Case("alone", ndct=folder / "alone.nrrd", split="test", dose=0.05, kernel="ramp"),
    ]
    prepare(cases, folder / "dataset", split_projections=True)
    return folder / "dataset"


@pytest.fixture(scope="module")
def dataset(folder) -> PurifiedDataset:
    return PurifiedDataset.read(folder)


def shard_of(dataset: PurifiedDataset, case: str) -> Shard:
    return next(shard for shard in dataset.shards if shard.case == case)


@pytest.fixture(params=["pair", "alone"])
def shard(request, dataset) -> Shard:
    return shard_of(dataset, request.param)


def again(dataset: PurifiedDataset, shard: Shard, settings: Settings):
    """What the method makes of the scans of a shard, by its own settings."""
    known = {field.name for field in fields(Settings)}
    own = Settings(**{name: value for name, value in shard.facts["settings"].items() if name in known})
    modules = ("remove_background", "add_noise", "remove_noise", "blend")
    settings = replace(own, **{name: getattr(settings, name) for name in modules})
    uldct = Volume(shard.uldct, shard.spacing, shard.facts["origin"], shard.facts["direction"])
    folder = dataset.folder.parent
    ndct = files.read(folder / ("ndct.nrrd" if shard.case == "pair" else "alone.nrrd"))
    return purify(uldct, ndct.with_array(np.rint(ndct.array)), settings)


@pytest.mark.parametrize("strategy", ABLATION)
def test_input_target_and_label_are_those_of_the_method(dataset, shard, strategy):
    for blend in (0.0, 0.3):
        stages = again(dataset, shard, replace(ABLATION[strategy], blend=blend))
        inside = stages.labels != 0
        source, target = shard.pair(np.s_[:], strategy, blend)
        assert source.dtype == target.dtype == np.float32
        assert np.abs(source - stages.training_input.array)[inside].max() <= 0.51
        assert np.abs(target - stages.ndct.array)[inside].max() <= 0.51
        assert (source[~inside] == -1000).all() and (target[~inside] == -1000).all()
        assert 0.01 < (~inside).mean() < 0.5
    assert np.abs(shard.test_label(np.s_[:], strategy) - stages.test_label.array)[inside].max() <= 0.51


def test_every_strategy_of_the_ablation_has_its_own_pair_and_published_blend(dataset, shard):
    pairs = {strategy: shard.pair(np.s_[:], strategy)[0] for strategy in ("none", *ABLATION)}
    for first in pairs:
        assert sum(np.array_equal(pairs[first], other) for other in pairs.values()) == 1
    stages = again(dataset, shard, IPV1)
    inside = stages.labels != 0
    assert IPV1.blend == 0.1
    assert np.abs(pairs["ipv1"] - stages.training_input.array)[inside].max() <= 0.51


def test_a_window_is_cut_out_of_the_whole(shard):
    for strategy in ("none", "ipv1", "ipv2"):
        for part, whole in zip(shard.pair(WINDOW, strategy), shard.pair(np.s_[:], strategy), strict=True):
            assert np.array_equal(part, whole[WINDOW])
    assert np.array_equal(shard.test_label(WINDOW), shard.test_label(np.s_[:])[WINDOW])
    assert np.array_equal(shard.scan(WINDOW), shard.uldct[WINDOW].astype(np.float32))
    assert shard.pair(np.s_[2], "ipv2")[0].shape == shard.shape[1:]


def test_the_files_stay_as_they_are(shard):
    source, _ = shard.pair(np.s_[0], "ipv2")
    source += 1
    with pytest.raises(ValueError, match="read-only"):
        shard.uldct[0] = 0
    assert isinstance(shard.uldct, np.memmap) and shard.uldct.dtype == np.int16


def test_masks_and_regions(dataset, shard):
    stages = again(dataset, shard, ABLATION["ipv2"])
    assert np.array_equal(shard.masks & shards.CM1 != 0, stages.cm1)
    assert np.array_equal(shard.masks & shards.CM2 != 0, stages.cm2)
    assert np.array_equal(shard.masks & shards.OUTSIDE != 0, stages.labels == 0)
    assert np.array_equal(shard.regions == Region.OUTSIDE, stages.labels == 0)
    lung = shard.regions == Region.LUNG
    assert lung.mean() > 0.1 and -950 < shard.ndct[lung].mean() < -600


def test_a_simulated_pair_has_a_truth_and_halves_whose_mean_is_the_scan(dataset):
    shard = shard_of(dataset, "alone")
    source, target = shard.pair(np.s_[:], "direct")
    inside = shard.masks & shards.OUTSIDE == 0
    assert np.array_equal(source[inside], shard.uldct[inside]) and np.array_equal(
        target[inside], shard.ground_truth[inside]
    )
    half, other = shard.pair(np.s_[:], "noise2inverse")
    assert np.abs((half + other) / 2 - source).max() <= 1.0  # all three are rounded
    swapped = shard.pair(np.s_[:], "noise2inverse", swap=True)
    assert np.array_equal(swapped[0], other) and np.array_equal(swapped[1], half)
    tissue = shard.regions == Region.SOFT_TISSUE
    noise, first, second = ((image - target)[tissue] for image in (source, half, other))
    assert first.std() == pytest.approx(2**0.5 * noise.std(), rel=0.1)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_what_a_shard_cannot_give_is_said(dataset):
    pair = shard_of(dataset, "pair")
    assert pair.ground_truth is None and pair.half_a is None and pair.half_b is None
    for strategy, blend, words in (
        ("direct", None, "'pair' has a real uLDCT and so no ground truth"),
        ("noise2inverse", None, "'pair' has no split projections"),
        ("ipv3", None, "unknown strategy 'ipv3'"),
        ("ipv2", 1.5, "T is 1.5"),
        ("none", 0.1, "mixes nothing"),
    ):
        with pytest.raises(InputError, match=words):
            pair.pair(np.s_[0], strategy, blend)
    for strategy in ("none", "direct"):
        with pytest.raises(InputError, match="no test label"):
            pair.test_label(np.s_[0], strategy)
    assert not pair.lacks("ipv2") and not shard_of(dataset, "alone").lacks("direct")


def test_strategies_are_those_of_the_ablation_and_three_more():
    assert ("none", *ABLATION, "direct", "noise2inverse") == strategies.STRATEGIES


def test_a_shard_is_sent_without_its_pixels(shard):
    shard.pair(np.s_[:], "ipv2")
    sent = pickle.dumps(shard)
    assert len(sent) < 5000
    assert np.array_equal(pickle.loads(sent).pair(WINDOW, "ipv2")[0], shard.pair(WINDOW, "ipv2")[0])


def test_a_data_set_says_what_it_holds(dataset, folder):
    assert is_dataset(folder) and not is_dataset(folder / "shards")
    assert [(shard.case, shard.split) for shard in dataset.shards] == [("pair", "train"), ("alone", "test")]
    assert len({shard.patient for shard in dataset.shards} - {"pair", "alone"}) == 2, "labels, not names"
    assert [shard.case for shard in dataset.split("test")] == ["alone"] and not dataset.split("validation")
    with pytest.raises(InputError, match="'training'"):
        dataset.split("training")
    shard = shard_of(dataset, "alone")
    assert (shard.shape, shard.dose, shard.folder.name) == ((4, 64, 64), 0.05, shard.key)
    assert shard.spacing == pytest.approx((350 / 64, 350 / 64, 5))
    assert outside_field_of_view(shard.uldct).any()


# --- damage -----------------------------------------------------------------------------------------------------


@pytest.fixture
def copy(folder, tmp_path) -> Path:
    shutil.copytree(folder, tmp_path / "copy")
    return tmp_path / "copy"


def cut_short(copy: Path) -> None:
    path = next(copy.glob("shards/pair-*/weak.npy"))
    path.write_bytes(path.read_bytes()[:5000])


def remove_file(copy: Path) -> None:
    next(copy.glob("shards/alone-*/ground_truth.npy")).unlink()


def remove_shard(copy: Path) -> None:
    shutil.rmtree(next(copy.glob("shards/alone-*")))


def edit(**changes):
    def change(copy: Path) -> None:
        content = json.loads((copy / "dataset.json").read_text())
        (copy / "dataset.json").write_text(json.dumps(content | changes))

    return change


@pytest.mark.parametrize(
    "damage, words",
    [
        (cut_short, "weak.npy is cut short"),
        (remove_file, "ground_truth.npy is missing"),
        (remove_shard, "shard.json cannot be read"),
        (edit(format=2), "format 2, this version reads 1"),
        (edit(shards=[{"key": "x"}]), "damaged"),
        (edit(shards=None), "damaged"),
        (lambda copy: (copy / "dataset.json").write_text("{"), "dataset.json is damaged"),
        (lambda copy: (copy / "dataset.json").write_text("[]"), "no JSON object"),
        (lambda copy: (copy / "dataset.json").unlink(), "dataset.json cannot be read"),
    ],
)
def test_a_damaged_data_set_is_refused_with_the_file(copy, damage, words):
    damage(copy)
    with pytest.raises(InputError, match=words):
        PurifiedDataset.read(copy)


def test_an_array_of_another_kind_is_refused_when_it_is_opened(copy):
    shard = shard_of(PurifiedDataset.read(copy), "pair")
    np.save(shard.folder / "weak.npy", np.zeros((9, 64, 64), np.float32))
    with pytest.raises(InputError, match="float32"):
        shard.test_label(np.s_[0])
    (shard.folder / "uldct.npy").write_bytes(b"x" * 100_000)
    with pytest.raises(InputError, match="cannot be read"):
        shard.scan(np.s_[0])


# --- a bare machine ---------------------------------------------------------------------------------------------


def test_reading_needs_numpy_only(folder):
    code = (
        "import sys\n"
        "for name in ('scipy', 'SimpleITK', 'skimage', 'pydicom', 'torch', 'psutil', 'tqdm'):\n"
        "    sys.modules[name] = None\n"
        "import numpy as np\n"
        "from IPv2Lib.datasets.shards import PurifiedDataset\n"
        "from IPv2Lib.datasets.strategies import STRATEGIES\n"
        f"for shard in PurifiedDataset.read({str(folder)!r}).shards:\n"
        "    for strategy in STRATEGIES:\n"
        "        if not shard.lacks(strategy):\n"
        "            print(shard.case, strategy, *(image.mean() for image in shard.pair(np.s_[0:2], strategy)))\n"
        "    shard.test_label(np.s_[0])\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(IPv2Lib.__file__).parents[1])}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert len(run.stdout.splitlines()) == 5 + 7
