"""Training on a purified data set, small: batches, validation, best weights, pause and stop, resuming, publishing."""

import dataclasses
import json
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.datasets.cases import Case
from IPv2Lib.datasets.preparation import prepare
from IPv2Lib.datasets.shards import PurifiedDataset
from IPv2Lib.datasets.strategies import STRATEGIES
from IPv2Lib.errors import Cancelled, InputError, IPv2Error, OutputError
from IPv2Lib.io import files
from IPv2Lib.io.locks import owned
from IPv2Lib.io.volume import Volume
from IPv2Lib.models import bundle
from IPv2Lib.progress import Progress
from IPv2Lib.simulation import phantom
from IPv2Lib.training.batches import hold, on_the_fly_batch
from IPv2Lib.training.distributed import Processes
from IPv2Lib.training.learner import Learner, is_recorded, load_weights
from IPv2Lib.training.loop import train
from IPv2Lib.training.on_the_fly import Block
from IPv2Lib.training.publishing import publish
from IPv2Lib.training.run_folder import read_run, request, validation_slice
from IPv2Lib.training.settings import Ranges, TrainingSettings, read_settings
from IPv2Lib.training.sources import open_source
from IPv2Lib.training.validation import Validation
from networks_of_runs import load_network

SMALL = {"channels": [8, 8], "blocks": [1, 1]}
SIZE = 48


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Three patients: a real pair and one NDCT to train on, one NDCT to validate with."""
    folder = tmp_path_factory.mktemp("scans")
    cases = []
    for seed, split in enumerate(("train", "train", "validation")):
        pair = phantom.pair(seed=seed, size=SIZE, slices=2)
        ndct = files.write(pair.ndct, folder / f"{seed}.nrrd")
        uldct = files.write(pair.uldct, folder / f"{seed}-uldct.nrrd") if seed == 0 else None
        cases.append(Case(f"p{seed}", ndct=ndct, uldct=uldct, patient=f"p{seed}", seed=seed, split=split, dose=0.005))
    return cases


@pytest.fixture(scope="module")
def folder(scans, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "dataset"
    prepare(scans, folder)
    return folder


@pytest.fixture(scope="module")
def split_folder(scans, tmp_path_factory):
    """Simulated pairs only, with split projections."""
    folder = tmp_path_factory.mktemp("data") / "split"
    prepare(scans[1:], folder, split_projections=True)
    return folder


def settings(**changes) -> TrainingSettings:
    base = TrainingSettings(
        arguments=SMALL, steps=12, batch=2, patch=16, learning_rate=3e-3, validate_every=4,
        ranges=Ranges(zoom=(1.0, 1.0)),
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def batches(source, steps, context=3, processes=None) -> list:
    stream = source.batches(context, steps[0], processes or Processes())
    return [next(stream) for _ in steps]


def same(first, second) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# --- batches ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_batch_is_made_of_the_pairs_of_the_strategy(folder, split_folder, strategy):
    where = split_folder if strategy in ("direct", "noise2inverse") else folder
    source = open_source(where, settings(strategy=strategy, patch=SIZE, batch=6), workers=0)
    [(x, target)] = batches(source, [0])
    assert x.shape == (6, 3, SIZE, SIZE) and target.shape == (6, 1, SIZE, SIZE)
    known = {}
    for shard in PurifiedDataset.read(where).split("train"):
        for swap in (False, True):
            for k in range(2):
                image, wanted = shard.pair(np.s_[k], strategy, swap=swap)
                known[np.sort(image, None).tobytes()] = np.sort(wanted, None)
    for image, wanted in zip(x[:, 1].numpy() * 1000, target.numpy() * 1000, strict=True):
        nearest = np.sort(image.round(1), None)
        matches = [
            np.abs(np.frombuffer(key, np.float32) - nearest).max() < 0.11
            and np.abs(other - np.sort(wanted, None)).max() < 0.11
            for key, other in known.items()
        ]
        assert any(matches)


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_a_drawn_batch_is_cut_from_its_blocks(kind):
    rng = np.random.default_rng(0)
    target, noise = rng.integers(-900, 900, (3, 40, 48)).astype(kind), rng.integers(1, 50, (3, 40, 48)).astype(kind)
    block = Block(target + noise, target - noise, target, dose=0.1, sharpness=0.0)
    pool = [hold(block, "cpu", antithetic=True)]
    wanted = settings(batch=40, patch=32, variance_weight=1.0)
    x, y = on_the_fly_batch(pool, 3, wanted, 0, Processes())
    assert x.shape == (80, 3, 32, 32) and y.shape == (80, 1, 32, 32) and x.dtype == y.dtype == torch.float32
    assert torch.equal(y[:40], y[40:])
    torch.testing.assert_close((x[:40, 1] + x[40:, 1]) / 2, y[:40, 0])
    known = {tuple(pair) for pair in zip(block.input.ravel().tolist(), target.ravel().tolist(), strict=True)}
    made = torch.stack([x[:40, 1], y[:40, 0]], -1).mul(1000).round().view(40, -1, 2)
    outside = (made == -1000).all(-1)
    assert 2 <= outside.any(1).sum() <= 20, "of the patches some are crossed by the edge of the field of view"
    assert {tuple(pair) for pair in made[~outside].tolist()} <= known
    assert same(on_the_fly_batch(pool, 3, wanted, 0, Processes()), (x, y))


def test_a_drawn_patch_is_a_turned_piece_of_its_block():
    """Every pixel says where it is from: block, image, slice, row, column."""
    shapes, kinds = [(3, 24, 30), (5, 28, 20), (1, 22, 26)], {}
    for number, (slices, rows, columns) in enumerate(shapes):
        where = np.indices((slices, rows, columns), dtype=np.float32)
        here = 250_000 * number + 4_096 * where[0] + 64 * where[1] + where[2]
        kinds[number] = Block(here, here + 2_000_000, here + 1_000_000, dose=0.1, sharpness=0.0)
    pool = [hold(block, "cpu", antithetic=True) for block in kinds.values()]
    x, y = on_the_fly_batch(pool, 3, settings(batch=60, patch=16, variance_weight=1.0), 0, Processes())
    turned, seen = set(), set()
    for image, antithetic, target in zip(x[:60], x[60:], y[:60], strict=True):
        codes = (torch.cat([image, antithetic, target]) * 1000).double().round().long().numpy()
        if (codes == -1000).any():
            continue  # crossed by the edge of the field of view
        codes -= np.array([0, 0, 0, 2_000_000, 2_000_000, 2_000_000, 1_000_000])[:, None, None]
        number, (z, row, column) = codes[1, 0, 0] // 250_000, _place(codes % 250_000)
        assert (codes // 250_000 == number).all() and number in (0, 1, 2)
        assert (row == row[0]).all() and (column == column[0]).all(), "all images are of the same place"
        assert (z == z[:, :1, :1]).all()
        slices, centre = z[:, 0, 0], z[1, 0, 0]
        assert slices[6] == centre and (slices[:3] == slices[3:6]).all()
        ends = np.clip([centre - 1, centre + 1], 0, shapes[number][0] - 1)
        assert sorted(slices[[0, 2]]) == sorted(ends)
        window = np.indices((16, 16)) + np.array([row.min(), column.min()])[:, None, None]
        views = [np.rot90(view, k, (1, 2)) for k in range(4) for view in (window, window[..., ::-1])]
        found = [np.array_equal(view, [row[0], column[0]]) for view in views]
        assert sum(found) == 1
        turned.add(found.index(True))
        seen.add(int(number))
    assert turned == set(range(8)) and seen == {0, 1, 2}


def _place(codes: np.ndarray) -> tuple[np.ndarray, ...]:
    return codes // 4_096, codes % 4_096 // 64, codes % 64


def test_batch_number_n_is_the_same_wherever_one_begins_and_whoever_makes_it(folder):
    for changes in ({}, {"pairs": "simulated", "pool": 2, "steps_per_case": 2}):
        source = open_source(folder, settings(batch=4, **changes), workers=0)
        whole, late = batches(source, range(4)), batches(source, [2, 3])
        assert same(whole[2], late[0]) and same(whole[3], late[1])
        assert not same(whole[0], whole[1])
        ahead = open_source(folder, settings(batch=4, **changes), workers=2)
        assert all(same(a, b) for a, b in zip(whole, batches(ahead, range(4)), strict=True))
        parts = [batches(source, [2], processes=Processes(rank, 2))[0] for rank in (0, 1)]
        for index in range(2):
            assert torch.equal(whole[2][index], torch.stack([p[index] for p in parts], 1).flatten(0, 1))


def test_some_drawn_patches_are_cut_by_the_edge_of_the_field_of_view():
    tissue = Volume(np.random.default_rng(0).normal(-10, 5, (3, SIZE, SIZE)).astype(np.float32), (8.0, 8.0, 2.0))
    simulated = settings(batch=200, pairs="simulated", pool=1, ranges=Ranges(zoom=(1.0, 1.0), dose=(0.1, 0.1)))
    [(x, target)] = batches(open_source([tissue], simulated, workers=0), [0])
    outside = (x == -1).all(1, keepdim=True)
    assert torch.equal(outside, target == -1)  # silent in the input, and so in the target
    parts = outside.float().mean((1, 2, 3))
    assert 0.1 < (parts > 0).float().mean() < 0.3
    assert len(parts[parts > 0].unique()) > 10


def test_another_seed_gives_other_batches_and_the_order_of_cases_does_not_matter(folder):
    dataset = PurifiedDataset.read(folder)
    turned = dataclasses.replace(dataset, shards=dataset.shards[::-1])
    first, again, other = (
        batches(open_source(source, settings(seed=seed), workers=0), [0])[0]
        for source, seed in ((dataset, 0), (turned, 0), (dataset, 1))
    )
    assert same(first, again) and not same(first, other)


# --- validation -------------------------------------------------------------------------------------------------


class Centre(torch.nn.Module):
    """Returns its input."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return x[:, x.shape[1] // 2, None]


def test_validation_measures_from_the_truth_or_else_from_the_label(folder):
    dataset = PurifiedDataset.read(folder)
    [simulated], real = dataset.split("validation"), next(shard for shard in dataset.shards if shard.case == "p0")
    for shards, reference in (([simulated], "ground_truth"), ([real], "label"), ([simulated, real], "label")):
        score = Validation(shards, 3).score(Centre())
        errors, lungs = [], []
        for shard in shards:
            wanted = shard.ground_truth if reference == "ground_truth" else shard.test_label(np.s_[:])
            error = shard.scan(np.s_[:]) - np.asarray(wanted, np.float32)
            errors.append(error[shard.regions > Region.BACKGROUND])
            lungs.append(error[shard.regions == Region.LUNG])
        assert score.reference == reference
        assert score.rmse_hu == pytest.approx(np.sqrt(np.mean(np.concatenate(errors) ** 2)), rel=1e-4)
        assert score.rmse_lung_hu == pytest.approx(np.sqrt(np.mean(np.concatenate(lungs) ** 2)), rel=1e-4)


def test_the_slice_that_is_shown_is_one_of_the_validation_case(folder):
    [shard] = PurifiedDataset.read(folder).split("validation")
    shown = Validation([shard], 3).picture(Centre())
    assert np.array_equal(shown["output"].round(2), shown["input"].round(2))
    assert any(np.array_equal(shown["label"], shard.test_label(np.s_[k])) for k in range(2))
    assert shown["spacing"].tolist() == list(shard.spacing[:2]) and shown["case"] == "p2"


# --- runs -------------------------------------------------------------------------------------------------------


def test_a_run_keeps_its_log_its_validations_and_the_best_weights(folder, tmp_path):
    told = []
    run = train(folder, tmp_path / "run", settings(steps=20), progress=Progress(lambda *what: told.append(what)))
    state = read_run(run)
    assert (state.state, state.step, state.steps, state.fraction) == ("completed", 20, 20, 1.0)
    assert state.log["step"].tolist() == [10, 20] and state.validation["step"].tolist() == [4, 8, 12, 16, 20]
    assert (state.log["waiting"] <= state.log["seconds"] + 0.1).all()
    assert state.validation["reference"].tolist() == ["ground_truth"] * 5
    best = state.validation["rmse_hu"].argmin()
    assert state.best_step == state.validation["step"][best]
    assert state.best_rmse_hu == pytest.approx(state.validation["rmse_hu"][best], abs=1e-3)
    score = Validation(PurifiedDataset.read(folder).split("validation"), 3).score(load_network(run))
    assert score.rmse_hu == pytest.approx(state.best_rmse_hu, rel=1e-4)
    shown = validation_slice(run)
    assert int(shown["step"]) == 20 and shown["output"].dtype == np.float32
    assert told[-1] == (1.0, "20 steps done") and any("loss" in text and "left" in text for _, text in told)


def test_the_best_weights_are_not_the_last_ones_when_those_are_worse(folder, tmp_path):
    run = train(folder, tmp_path / "run", settings(steps=16, learning_rate=0.3, average=0.0), workers=0)
    state = read_run(run)
    assert state.validation["rmse_hu"][-1] > 1.01 * state.best_rmse_hu
    best, last = (load_network(run, last=last).state_dict() for last in (False, True))
    assert not torch.equal(best["head.weight"], last["head.weight"])


def test_resumed_equals_uninterrupted_to_the_last_line(folder, tmp_path):
    whole = train(folder, tmp_path / "whole", settings(steps=20), workers=0)
    count = iter(range(100))
    with pytest.raises(Cancelled, match="paused at step 13; resume"):
        train(
            folder,
            tmp_path / "cut",
            settings(steps=20),
            workers=0,
            progress=Progress(cancelled=lambda: next(count) == 13),
        )
    assert read_run(tmp_path / "cut").state == "paused"
    train(None, tmp_path / "cut", resume=True, workers=0)
    first, second = (read_run(run) for run in (whole, tmp_path / "cut"))
    assert np.array_equal(first.validation["rmse_hu"], second.validation["rmse_hu"])
    assert np.array_equal(first.log["step"], second.log["step"])
    assert np.array_equal(first.log["loss"], second.log["loss"])
    assert (first.best_step, first.best_rmse_hu) == (second.best_step, second.best_rmse_hu)
    assert (whole / "best.safetensors").read_bytes() == (tmp_path / "cut" / "best.safetensors").read_bytes()


def test_how_often_checkpoints_are_written_changes_nothing(folder, tmp_path):
    runs = [
        read_run(train(folder, tmp_path / str(minutes), settings(steps=20, checkpoint_minutes=minutes), workers=0))
        for minutes in (1e-9, 60.0)
    ]
    assert np.array_equal(*(run.log["loss"] for run in runs)) and runs[0].best_rmse_hu == runs[1].best_rmse_hu


@pytest.mark.parametrize("word", ["pause", "stop"])
def test_a_run_obeys_what_it_is_asked(folder, tmp_path, word):
    run, count = tmp_path / "run", iter(range(100))

    def ask():
        if next(count) == 6:
            request(run, word)
        return False

    def obeyed():
        train(folder, run, settings(steps=1000), workers=0, progress=Progress(cancelled=ask))

    if word == "pause":
        with pytest.raises(Cancelled, match="paused at step 6"):
            obeyed()
    else:
        obeyed()
    state = read_run(run)
    assert (state.state, state.step) == ("paused" if word == "pause" else "stopped", 6)
    assert state.validation["step"].tolist() == ([4] if word == "pause" else [4, 6])
    assert state.has_weights and state.can_resume and not (run / "request").exists()
    (run / "request").write_text("stop")  # from before: nobody obeyed
    shorter = json.loads((run / "settings.json").read_text()) | {"steps": 9}
    (run / "settings.json").write_text(json.dumps(shorter))
    train(None, run, resume=True, workers=0)
    assert (read_run(run).state, read_run(run).step) == ("completed", 9)


def test_a_run_that_is_being_trained_is_left_alone(folder, tmp_path):
    run = train(folder, tmp_path / "run", settings(steps=2), workers=0)
    with owned(run, "train"), pytest.raises(InputError, match=f"process {os.getpid()}"):
        train(None, run, resume=True)


def test_epochs_and_minutes_are_lengths_too(folder, tmp_path):
    # Two cases of 2 slices, batches of 2 patches with a ninth of a slice each.
    run = train(folder, tmp_path / "epochs", settings(epochs=1.5), workers=0)
    assert read_run(run).step == math.ceil(1.5 * 4 * 9 / 2)
    run = train(folder, tmp_path / "minutes", settings(minutes=1e-6), workers=0)
    state = read_run(run)
    assert (state.state, state.steps, state.fraction) == ("completed", None, 1.0)


def test_without_validation_cases_the_last_weights_are_the_best(folder, tmp_path):
    dataset = PurifiedDataset.read(folder)
    only = dataclasses.replace(dataset, shards=tuple(dataset.split("train")))
    run = train(only, tmp_path / "run", settings(), workers=0)
    state = read_run(run)
    assert (state.best_step, state.best_rmse_hu, len(state.validation["step"])) == (12, None, 0)
    best, last = (load_network(run, last=last).state_dict() for last in (False, True))
    assert all(torch.equal(best[name], last[name]) for name in best)
    assert validation_slice(run) is None


def test_pairs_of_a_data_set_can_be_drawn_anew(folder, tmp_path):
    run = train(folder, tmp_path / "run", settings(pairs="simulated", steps=4, pool=2, variance_weight=1.0), workers=0)
    assert len(read_run(run).validation["step"]) == 1
    assert read_settings(run).pairs == "simulated"


@pytest.mark.parametrize(
    ("network", "arguments"),
    [("dncnn", {"filters": 4, "depth": 4}), ("ffm", {"width": 16, "multipliers": [1], "blocks": 1})],
)
def test_networks_with_running_means_or_an_error_of_their_own(folder, tmp_path, network, arguments):
    changes = {"network": network, "arguments": arguments, "average": 0.0, "steps": 3, "validate_every": 3}
    run = train(folder, tmp_path / "run", settings(**changes), workers=0)
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    for name, value in state["network"].items():
        assert torch.equal(value, state["average"][name]), name
    assert np.isfinite(read_run(run).best_rmse_hu)


def test_a_run_can_be_resumed_on_another_device(folder, tmp_path):
    count = iter(range(100))
    with pytest.raises(Cancelled):
        train(folder, tmp_path / "run", settings(), workers=0, progress=Progress(cancelled=lambda: next(count) == 2))
    gone = json.loads((tmp_path / "run" / "settings.json").read_text()) | {"device": "cuda:77"}
    (tmp_path / "run" / "settings.json").write_text(json.dumps(gone))
    with pytest.raises(InputError, match="'cuda:77' is absent"):
        train(None, tmp_path / "run", resume=True)
    train(None, tmp_path / "run", resume=True, workers=0, device="cpu")
    assert read_run(tmp_path / "run").state == "completed"


@pytest.mark.parametrize("fused", [None, True])
def test_a_checkpoint_of_a_gpu_goes_on_without_one(folder, tmp_path, fused):
    """Its optimiser has other ways there, which are not taken over."""
    count = iter(range(100))
    with pytest.raises(Cancelled):
        train(folder, tmp_path / "run", settings(), workers=0, progress=Progress(cancelled=lambda: next(count) == 2))
    path = tmp_path / "run" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    for group in state["optimizer"]["param_groups"]:
        group |= {"lr": torch.tensor(1e-3), "fused": fused, "capturable": True}
    torch.save(state, path)
    train(None, tmp_path / "run", resume=True, workers=0)
    whole = train(folder, tmp_path / "whole", settings(), workers=0)
    for name, value in load_weights(whole)[0].items():
        assert torch.equal(value, load_weights(tmp_path / "run")[0][name])


@pytest.mark.parametrize(
    ("changes", "kind", "world", "recorded"),
    [
        ({}, "cuda", 1, True),
        ({"precision": "bfloat16"}, "cuda", 1, True),
        ({"compile": False}, "cuda", 1, False),
        ({}, "cpu", 1, False),
        ({}, "cuda", 2, False),
        ({"precision": "float16"}, "cuda", 1, False),
        ({"network": "ffm"}, "cuda", 1, False),
    ],
)
def test_steps_are_recorded_where_they_can_be(changes, kind, world, recorded):
    assert is_recorded(TrainingSettings(**{"compile": True, **changes}), kind, world) is recorded


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
def test_recorded_steps_teach_the_same(folder, tmp_path):
    weights = [
        load_weights(train(folder, tmp_path / str(compile), settings(compile=compile, steps=30, device="cuda")))[0]
        for compile in (False, True)
    ]
    for name, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][name], atol=1e-3, rtol=1e-2)


def test_a_step_that_cannot_be_recorded_says_what_to_do(folder, tmp_path, monkeypatch):
    said = RuntimeError("CUDA error: operation not permitted when stream is capturing")
    monkeypatch.setattr(Learner, "trained", lambda *_: (_ for _ in ()).throw(said))
    with pytest.raises(InputError, match="without compiling"):
        train(folder, tmp_path / "run", settings(), workers=0)
    full = OutputError("captured/run cannot be written: make room")
    monkeypatch.setattr(Learner, "trained", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(OutputError, match="make room"):
        train(folder, tmp_path / "other", settings(), workers=0)


def test_a_checkpoint_that_meets_a_full_disk_says_so(folder, tmp_path, monkeypatch):
    def save(state, file):
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("unexpected pos 576 vs 534")  # as PyTorch does

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OutputError) as told:
        train(folder, tmp_path / "run", settings(), workers=0)
    what = f"{tmp_path / 'run' / 'checkpoint.pt'} cannot be written (the disk is full)"
    assert str(told.value) == f"{what}: make room and resume the run"


def test_a_loss_that_is_no_number_ends_the_run_and_says_so(folder, tmp_path):
    with pytest.raises(IPv2Error, match="lower learning rate"):
        train(folder, tmp_path / "run", settings(learning_rate=1e30, steps=40, validate_every=100), workers=0)
    state = read_run(tmp_path / "run")
    assert state.state == "failed" and "not a number" in state.message and state.loss is None


# --- resuming on data that changed ------------------------------------------------------------------------------


def test_a_run_keeps_its_cases_when_the_data_set_grows_or_moves(scans, tmp_path):
    folder = tmp_path / "dataset"
    prepare(scans[1:], folder)
    whole = train(folder, tmp_path / "whole", settings(), workers=0)
    count = iter(range(100))
    with pytest.raises(Cancelled):
        train(folder, tmp_path / "cut", settings(), workers=0, progress=Progress(cancelled=lambda: next(count) == 5))
    prepare(scans, folder)
    moved = folder.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="'p1', which the run trains on, is not in"):
        train(None, tmp_path / "cut", resume=True)
    assert read_run(tmp_path / "cut").state == "paused"
    train(moved, tmp_path / "cut", resume=True, workers=0)
    assert (whole / "best.safetensors").read_bytes() == (tmp_path / "cut" / "best.safetensors").read_bytes()
    with pytest.raises(InputError, match="trains on the data set"):
        train([scans[0].ndct], tmp_path / "cut", resume=True)


def test_a_run_in_a_data_set_finds_it_wherever_both_are_moved(scans, tmp_path):
    folder = tmp_path / "dataset"
    prepare(scans[1:], folder)
    count = iter(range(100))
    with pytest.raises(Cancelled):
        train(
            folder,
            folder / "runs" / "cut",
            settings(),
            workers=0,
            progress=Progress(cancelled=lambda: next(count) == 5),
        )
    moved = folder.rename(tmp_path / "elsewhere")
    train(None, moved / "runs" / "cut", resume=True, workers=0)
    assert read_run(moved / "runs" / "cut").state == "completed"


def test_a_run_on_scans_is_resumed_from_their_files(scans, folder, tmp_path):
    small = settings(steps=6, pool=2, steps_per_case=100)
    ndcts = [case.ndct for case in scans[:2]]
    whole = train(ndcts, tmp_path / "whole", small, workers=0)
    count = iter(range(100))
    with pytest.raises(Cancelled):
        train(ndcts, tmp_path / "cut", small, workers=0, progress=Progress(cancelled=lambda: next(count) == 3))
    with pytest.raises(InputError, match="trains on volumes"):
        train(folder, tmp_path / "cut", resume=True)
    train(None, tmp_path / "cut", resume=True, workers=0)
    assert (whole / "best.safetensors").read_bytes() == (tmp_path / "cut" / "best.safetensors").read_bytes()
    run = train([files.read(ndcts[0])], tmp_path / "volumes", dataclasses.replace(small, steps=1), workers=0)
    with pytest.raises(InputError, match="give them again"):
        train(None, run, resume=True)


def test_a_run_does_not_go_on_with_another_scan_in_the_place_of_the_first(scans, tmp_path):
    small = settings(steps=6, pool=2, steps_per_case=100)
    ndcts = [Path(shutil.copy(case.ndct, tmp_path / f"{number}.nrrd")) for number, case in enumerate(scans[:2])]
    count = iter(range(100))
    with pytest.raises(Cancelled):
        train(
            ndcts,
            tmp_path / "cut",
            small,
            targets=ndcts,
            workers=0,
            progress=Progress(cancelled=lambda: next(count) == 3),
        )
    time = ndcts[1].stat()
    shutil.copy(ndcts[0], ndcts[1])
    os.utime(ndcts[1], ns=(time.st_atime_ns, time.st_mtime_ns))
    with pytest.raises(InputError, match=r"volume 2 \(1.nrrd\) is not the one that the run began with"):
        train(None, tmp_path / "cut", resume=True)
    shutil.copy(scans[1].ndct, ndcts[1])
    for given, targets, words in (
        (ndcts[::-1], ndcts[::-1], "volume 1"), (ndcts, ndcts[:1] * 2, "target 2"), (ndcts[:1], ndcts[:1], "2 volumes"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            train(given, tmp_path / "cut", resume=True, targets=targets)
    train([files.read(path) for path in ndcts], tmp_path / "cut", resume=True, targets=ndcts, workers=0)


# --- refusals ---------------------------------------------------------------------------------------------------


def test_what_a_data_set_cannot_give_is_refused_and_leaves_nothing(folder, split_folder, tmp_path):
    dataset = PurifiedDataset.read(folder)
    without = dataclasses.replace(dataset, shards=tuple(dataset.split("validation")))
    for source, change, words in (
        (folder, {"strategy": "direct"}, "'p0' has a real uLDCT"),
        (folder, {"strategy": "noise2inverse"}, "--split-projections"),
        (split_folder, {"strategy": "noise2inverse", "pairs": "simulated"}, "--split-projections"),
        (folder, {"patch": 64}, "patch of 64 pixels is larger than case 'p0' with 48×48: use 48"),
        (folder, {"variance_weight": 1.0}, "simulated on the fly"),
        (without, {}, "no case in the split 'train'"),
    ):
        with pytest.raises(InputError, match=words):
            train(source, tmp_path / "run", settings(**change))
    with pytest.raises(InputError, match="targets belong to volumes"):
        train(folder, tmp_path / "run", settings(), targets=[folder])
    with pytest.raises(InputError, match="no volumes"):
        train(None, tmp_path / "run", settings())
    assert not list(tmp_path.iterdir())


def test_a_batch_that_processes_cannot_share_is_refused(folder, tmp_path, monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2" if name.endswith("SIZE") else "0")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(InputError, match="a batch of 3 cannot be shared by 2 processes"):
        train(folder, tmp_path / "run", settings(batch=3))
    assert not list(tmp_path.iterdir())


def test_a_damaged_checkpoint_is_named(folder, tmp_path):
    run = train(folder, tmp_path / "run", settings(steps=2), workers=0)
    for content in (b"", b"PK\x03\x04", b"no checkpoint at all"):
        (run / "checkpoint.pt").write_bytes(content)
        with pytest.raises(InputError, match=r"checkpoint\.pt cannot be read"):
            train(None, run, resume=True)
        with pytest.raises(InputError, match=r"checkpoint\.pt cannot be read"):
            load_network(run, last=True)
    (run / "best.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(InputError, match=r"best\.safetensors cannot be read"):
        load_network(run)


# --- publishing -------------------------------------------------------------------------------------------------


def test_the_card_of_a_published_run_says_what_it_is_made_of(folder, tmp_path):
    run = train(folder, tmp_path / "run", settings(strategy="ipv1"), workers=0)
    state = read_run(run)
    card = publish(run, tmp_path / "model", {"title": "Mine"}).card
    assert card.title == "Mine" and card.network.arguments == SMALL
    assert [source["name"] for source in card.training["data"]] == ["2 cases of 2 patients, 1 with a real uLDCT"]
    assert card.training["settings"]["strategy"] == "ipv1"
    assert card.training["settings"]["steps"] == state.best_step
    found = card.metrics["validation"]
    assert (found["step"], found["reference"], found["cases"]) == (state.best_step, "ground_truth", 1)
    assert found["rmse_hu"] == pytest.approx(state.best_rmse_hu, abs=0.01)
    assert "Not evaluated" not in card.limits
    model = bundle.load(tmp_path / "model").network().state_dict()
    for name, value in load_network(run).state_dict().items():
        assert torch.allclose(model[name], value, atol=1e-3), name


def test_what_people_know_goes_before_what_the_run_says_but_for_its_settings(folder, tmp_path):
    run = train(folder, tmp_path / "run", settings(steps=2), workers=0)
    data = [{"name": "Hospital", "licence": "none", "citation": "none"}]
    known = {"training": {"data": data, "settings": {}, "seed": 5}, "metrics": {"mine": 1}}
    card = publish(run, tmp_path / "model", known).card
    assert card.training["data"] == data and card.metrics == {"mine": 1}
    assert card.training["seed"] == 0 and card.training["settings"]["patch"] == 16


def test_weights_that_are_not_there_yet_are_not_published(folder, tmp_path):
    count = iter(range(100))
    with pytest.raises(Cancelled):
        train(folder, tmp_path / "run", settings(), workers=0, progress=Progress(cancelled=lambda: next(count) == 2))
    with pytest.raises(InputError, match="no best weights yet"):
        publish(tmp_path / "run", tmp_path / "model")
    assert publish(tmp_path / "run", tmp_path / "model", last=True).card.training["settings"]["steps"] == 2
    shutil.rmtree(tmp_path / "run")
    with pytest.raises(InputError, match="not a training run"):
        publish(tmp_path / "run", tmp_path / "model")
