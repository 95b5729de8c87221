"""Ablations: runs that differ in what is asked only, means over seeds, going on, and what is said of the order."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from IPv2Lib.cli.commands import main
from IPv2Lib.datasets.shards import PurifiedDataset
from IPv2Lib.errors import Cancelled, InputError
from IPv2Lib.evaluation.ablation import ROWS, Ablation, ablate, verdicts
from IPv2Lib.evaluation.measures import MEASURES
from IPv2Lib.progress import Progress
from IPv2Lib.training.run_folder import read_run
from IPv2Lib.training.settings import read_settings, write_settings
from samples import simulated_dataset

OPTIONS = {
    "arguments": {"channels": [4], "blocks": [1]}, "steps": 2, "batch": 1, "patch": 32, "learning_rate": 0.02,
    "device": "cpu", "slices_per_case": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> PurifiedDataset:
    cases = [{"split": split} for split in ("train", "test")]
    return PurifiedDataset.read(simulated_dataset(tmp_path_factory.mktemp("ablation-data"), *cases, size=96))


@pytest.fixture(scope="module")
def found(dataset, tmp_path_factory) -> Ablation:
    return ablate(dataset, tmp_path_factory.mktemp("ablation") / "out", seeds=2, **OPTIONS)


def weights(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/best.safetensors")}


def test_runs_differ_in_strategy_and_seed_only(found):
    runs = {(strategy, seed): found.folder / f"unet-{strategy}-{seed}" for strategy in ROWS for seed in (0, 1)}
    assert set(weights(found.folder)) == {run.name for run in runs.values()}
    common = None
    for (strategy, seed), run in runs.items():
        settings = vars(read_settings(run)) | {}
        assert (settings.pop("strategy"), settings.pop("seed")) == (strategy, seed)
        assert (settings["steps"], settings["batch"], settings["patch"], settings["blend"]) == (2, 1, 32, 0.0)
        common = common or settings
        assert settings == common


def test_rows_are_means_and_ranges_over_seeds(found):
    for reference in ("ground_truth", "label"):
        for strategy in ROWS:
            row = found.row(strategy, reference)
            values = [found.comparison.row(f"unet-{strategy}-{seed}", reference)["rmse_lung_hu"] for seed in (0, 1)]
            assert row["rmse_lung_hu"] == pytest.approx(np.mean(values))
            assert (row["rmse_lung_hu min"], row["rmse_lung_hu max"]) == (min(values), max(values))
            assert (row["seeds"], row["network"]) == (2, "unet")
        assert found.row("input", reference)["rmse_lung_hu"] == found.comparison.row("input", reference)["rmse_lung_hu"]


def test_files_hold_what_was_found(found):
    with open(found.files["table"], newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert [(row["strategy"], row["reference"]) for row in table] == [
        (strategy, reference) for reference in ("ground_truth", "label") for strategy in ("input", *ROWS)
    ]
    assert float(table[1]["ssim"]) == pytest.approx(found.rows[1]["ssim"], rel=1e-4)
    facts = json.loads(found.files["provenance"].read_text(encoding="utf-8"))
    assert facts["verdicts"] == found.verdicts and len(found.verdicts) == 2
    assert found.files["plot"].read_bytes().startswith(b"\x89PNG")


def test_only_what_is_new_is_trained(dataset, found):
    before = weights(found.folder)
    again = ablate(dataset, found.folder, seeds=2, **OPTIONS)
    assert weights(found.folder) == before and again.rows == found.rows
    more = ablate(dataset, found.folder, seeds=2, strategies=("ipv2", "direct"), **OPTIONS)
    assert before.items() <= weights(found.folder).items()
    assert set(weights(found.folder)) - set(before) == {"unet-direct-0", "unet-direct-1"}
    assert more.row("ipv2", "ground_truth") == found.row("ipv2", "ground_truth")


def test_a_run_that_is_none_of_the_ablation_is_refused(dataset, found, tmp_path):
    """Also where it has the right name and is completed."""
    options = {"seeds": 1, "strategies": ("ipv2",), **OPTIONS}
    for change, words in (({"learning_rate": 0.5}, "another learning_rate"), ({"seed": 1}, "another seed")):
        folder = tmp_path / words
        shutil.copytree(found.folder / "unet-ipv2-0", folder / "unet-ipv2-0")
        shutil.copy(found.folder / "provenance.json", folder)
        settings = read_settings(folder / "unet-ipv2-0")
        write_settings(dataclasses.replace(settings, **change), folder / "unet-ipv2-0")
        with pytest.raises(InputError, match=words):
            ablate(dataset, folder, **options)
    write_settings(settings, folder / "unet-ipv2-0")
    path = folder / "unet-ipv2-0" / "data.json"
    path.write_text(path.read_text().replace('"shard": "', '"shard": "other-'))
    with pytest.raises(InputError, match="other data"):
        ablate(dataset, folder, **options)


def test_a_stopped_ablation_goes_on_with_the_same_result(dataset, found, tmp_path):
    polls = iter([False] * 3 + [True] * 1000)
    options = {"seeds": 1, "strategies": ("ipv1", "ipv2"), **OPTIONS}
    with pytest.raises(Cancelled, match="goes on"):
        ablate(dataset, tmp_path / "out", progress=Progress(cancelled=lambda: next(polls)), **options)
    assert [read_run(tmp_path / "out" / f"unet-{name}-0").state for name in ("ipv1", "ipv2")] == ["completed", "paused"]
    resumed = ablate(dataset, tmp_path / "out", **options)
    for name in ("unet-ipv1-0", "unet-ipv2-0"):
        own, expected = (each.comparison.row(name, "ground_truth")["rmse_body_hu"] for each in (resumed, found))
        assert own == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": 0}, "seeds is 0"),
        ({"strategies": ()}, "nothing to train"),
        ({"strategies": ("ipv2", "ipv2")}, "twice"),
        ({"strategies": ("ipv3",)}, "ipv3"),
        ({"strategies": ("noise2inverse",)}, "split"),
        ({"networks": ("unet", "redcnn")}, "one network"),
        ({"networks": ("implicit",), "arguments": {}}, "nothing to train"),
        ({"split": "validation"}, "no scans for validation"),
    ],
)
def test_what_is_refused_before_anything_is_trained(dataset, tmp_path, options, words):
    with pytest.raises(InputError, match=words):
        ablate(dataset, tmp_path / "out", **OPTIONS | options)
    assert not (tmp_path / "out").exists()


def test_another_budget_goes_elsewhere(dataset, found):
    with pytest.raises(InputError, match="steps 2, not 3"):
        ablate(dataset, found.folder, **OPTIONS | {"steps": 3})


def rows_of(lung: dict[str, tuple[float, float, float]]) -> list[dict]:
    """Rows of an ablation with the mean, lowest and highest error of the lung by strategy."""
    rows = []
    for strategy, numbers in lung.items():
        row = {f"{measure.name}{limit}": None for measure in MEASURES for limit in ("", " min", " max")}
        row |= {"network": "unet", "strategy": strategy, "reference": "ground_truth", "seeds": 3}
        rows.append(row | dict(zip(("rmse_lung_hu", "rmse_lung_hu min", "rmse_lung_hu max"), numbers, strict=True)))
    return rows


@pytest.mark.parametrize(
    ("lung", "says"),
    [
        ({"ipv1": (60, 59, 61), "ipv1+add-noise": (50, 49, 51), "ipv2": (40, 39, 41)}, "ipv2 is best."),
        ({"ipv1": (60, 59, 61), "ipv1+add-noise": (41, 40, 42), "ipv2": (40, 39, 41)}, "ipv2 is best, within the"),
        ({"ipv1": (60, 59, 61), "ipv1+add-noise": (40, 39, 41), "ipv2": (50, 49, 51)}, "add-noise is best, not ipv2."),
        ({"ipv1": (50, 49, 51), "ipv1+add-noise": (60, 59, 61), "ipv2": (40, 39, 41)}, "add-noise is worst, not ipv1"),
    ],
)  # fmt: skip
def test_the_order_is_said_as_it_was_measured(lung, says):
    (verdict,) = verdicts(rows_of(lung))
    assert verdict.startswith("unet, RMSE in the lung, HU, against the ground truth, best first: ")
    assert says in verdict
    places = [
        verdict.index(f"{strategy} {numbers[0]}") for strategy, numbers in sorted(lung.items(), key=lambda i: i[1])
    ]
    assert places == sorted(places)


def test_the_command(dataset, tmp_path, capsys):
    arguments = ["ablation", str(dataset.folder), "--out", str(tmp_path / "out"), "--seeds", "1", "--steps", "1"]
    arguments += ["--strategies", "ipv1", "ipv2", "--networks", "dncnn", "unet", "--batch", "1", "--patch", "16"]
    arguments += ["--slices", "1", "--device", "cpu"]
    assert main([*arguments, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    fractions = [event["fraction"] for event in events if event["event"] == "progress"]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    result = events[-1]
    assert [(row["network"], row["strategy"]) for row in result["table"] if row["reference"] == "ground_truth"] == [
        ("", "input"), ("dncnn", "ipv1"), ("dncnn", "ipv2"), ("unet", "ipv1"), ("unet", "ipv2"),
    ]  # fmt: skip
    assert len(result["verdicts"]) == 4 and Path(result["files"]["plot"]).is_file()
    assert main(arguments) == 0
    assert "unet ipv2" in capsys.readouterr().out
