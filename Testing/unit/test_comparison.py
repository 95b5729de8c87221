"""Comparisons: rows that are right, files that agree, what is measured again and what is not, and what is refused."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.cli import commands
from IPv2Lib.datasets.cases import Case
from IPv2Lib.datasets.preparation import prepare
from IPv2Lib.datasets.shards import PurifiedDataset
from IPv2Lib.errors import BundleError, Cancelled, InputError, OutputError
from IPv2Lib.evaluation import comparison_files, measures
from IPv2Lib.evaluation.comparison import compare
from IPv2Lib.evaluation.measures import MEASURES
from IPv2Lib.evaluation.methods import find_denoisers
from IPv2Lib.io import files
from IPv2Lib.models import bundle
from IPv2Lib.networks import registry
from IPv2Lib.progress import Progress
from IPv2Lib.simulation import phantom
from IPv2Lib.training.loop import train
from IPv2Lib.training.settings import TrainingSettings
from samples import CARD

TINY = {"channels": [4], "blocks": [1], "context": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("comparison")


@pytest.fixture(scope="module")
def dataset(folder) -> PurifiedDataset:
    """A scan to train on, and two to test on: one simulated, so with its ground truth, and one real pair."""
    cases = []
    for seed, split in enumerate(("train", "test", "test")):
        pair = phantom.pair(seed=seed, size=96, slices=4) if seed == 2 else None
        ndct = pair.ndct if pair else phantom.chest(seed=seed, size=96, slices=4)
        ndct = files.write(ndct, folder / f"n{seed}.nrrd")
        uldct = files.write(pair.uldct, folder / f"u{seed}.nrrd") if pair else None
        cases.append(Case(f"case{seed}", ndct=ndct, uldct=uldct, patient=f"p{seed}", split=split))
    prepare(cases, folder / "dataset")
    return PurifiedDataset.read(folder / "dataset")


def make_model(folder: Path, network: str = "unet", **arguments) -> Path:
    """A model that nobody trained: the U-Net returns its input."""
    torch.manual_seed(0)
    return bundle.save(folder, network, arguments, registry.build(network, **arguments).state_dict(), CARD).folder


@pytest.fixture(scope="module")
def model(folder) -> Path:
    return make_model(folder / "untrained", **TINY)


@pytest.fixture(scope="module")
def run(folder, dataset) -> Path:
    settings = TrainingSettings(arguments=TINY, steps=3, batch=2, patch=32, learning_rate=0.02, device="cpu")
    return train(dataset, folder / "runs" / "three-steps", settings, workers=0)


@pytest.fixture(scope="module")
def found(folder, dataset, model, run):
    return compare(dataset, ["input", model, run], folder / "all", bootstrap=100)


def read_csv(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def parts(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "parts").glob("*.npz")}


def test_a_model_that_changes_nothing_scores_as_the_input(found):
    for reference in ("ground_truth", "label"):
        first, second = found.row("input", reference), found.row("untrained", reference)
        for measure in MEASURES:
            expected = None if first[measure.name] is None else pytest.approx(first[measure.name], rel=1e-3, abs=0.05)
            assert second[measure.name] == expected, measure.name


def test_errors_are_those_of_the_shards(dataset, found):
    shards = {shard.case: shard for shard in dataset.split("test")}
    simulated = shards["case1"]
    lung = simulated.regions == Region.LUNG
    difference = np.clip(simulated.scan(np.s_[:]), -1024, 600) - np.clip(
        simulated.ground_truth.astype(float), -1024, 600
    )
    row = found.row("input", "ground_truth")
    assert (row["patients"], row["slices"], row["resampled"]) == (1, 4, "slices")
    assert row["rmse_lung_hu"] == pytest.approx(np.sqrt(np.mean(difference[lung] ** 2)), rel=1e-5)
    assert found.row("input", "label")["patients"] == 2
    biases = [
        (shard.scan(np.s_[:]) - shard.test_label(np.s_[:], "ipv2"))[shard.regions == Region.SOFT_TISSUE].mean()
        for shard in shards.values()
    ]
    # Lungs of both phantoms differ in size, slices of one patient do not weigh alike in the mean of pixels.
    assert found.row("input", "label")["bias_soft_tissue_hu"] == pytest.approx(np.mean(biases), abs=0.3)


def test_rows_files_and_notes_agree(dataset, found, model):
    table = read_csv(found.files["table"])
    assert [(row["method"], row["reference"]) for row in table] == [
        (method, reference)
        for reference in ("ground_truth", "label")
        for method in ("reference", "input", "untrained", "three-steps")
    ]
    for written, row in zip(table, found.rows, strict=True):
        assert list(written) == list(row)
        for name, value in row.items():
            assert (
                written[name] == ""
                if value is None
                else str(value) == written[name] or float(written[name]) == pytest.approx(value, rel=1e-4, abs=1e-12)
            )
    facts = json.loads(found.files["provenance"].read_text(encoding="utf-8"))
    assert facts["methods"]["three-steps"]["step"] == 3
    assert facts["methods"]["untrained"]["sha256"] == bundle.load(model).hash
    assert facts["methods"]["untrained"]["folder"] == model.name
    assert facts["dataset"]["shards"] == [shard.key for shard in dataset.split("test")]
    assert set(facts["measures"]) == {measure.name for measure in MEASURES}
    assert any("patients are too few to resample (" in note for note in found.notes)
    assert found.files["plot"].read_bytes().startswith(b"\x89PNG")
    curves = read_csv(found.files["transfer"])
    assert {row["method"] for row in curves} == {"reference", "input", "untrained", "three-steps"}


def test_single_slices_are_in_the_scores(found):
    scores = read_csv(found.files["scores"])
    own = [row for row in scores if row["method"] == "input" and row["measure"] == "ssim"]
    assert [(row["case"], row["slice"]) for row in own if row["reference"] == "ground_truth"] == [
        ("case1", str(index)) for index in range(4)
    ]
    mean = np.mean([float(row["value"]) for row in own if row["reference"] == "ground_truth"])
    assert mean == pytest.approx(found.row("input", "ground_truth")["ssim"], rel=1e-4)


def test_the_reference_has_its_own_noise_and_no_errors(found):
    row = found.row("reference", "ground_truth")
    assert row["rmse_lung_hu"] is None and row["psnr_db"] is None
    assert 0 < row["sigma_lung_hu"] < found.row("input", "ground_truth")["sigma_lung_hu"]


def test_limits_hold_the_value(found):
    for row in found.rows[1:4]:
        for name in ("rmse_lung_hu", "ssim", "gmsd", "sigma_lung_hu", "psnr_db"):
            assert row[f"{name} low"] <= row[name] <= row[f"{name} high"]


def test_what_was_measured_is_not_measured_again(dataset, model, tmp_path):
    options = {"slices_per_case": 1, "bootstrap": 0}
    first = compare(dataset, ["input"], tmp_path / "out", **options)
    before = parts(tmp_path / "out")
    more = compare(dataset, ["input", model], tmp_path / "out", **options)
    after = parts(tmp_path / "out")
    assert before.items() <= after.items() and len(after) == len(before) + 2
    assert more.row("input", "ground_truth") == first.row("input", "ground_truth")
    assert more.row("input", "ground_truth")["slices"] == 1
    next(iter((tmp_path / "out" / "parts").glob("*.npz"))).write_bytes(b"damaged")
    assert compare(dataset, ["input", model], tmp_path / "out", **options).rows == more.rows


def test_a_stopped_comparison_goes_on(dataset, tmp_path):
    options = {"slices_per_case": 2, "bootstrap": 20}
    polls = iter([False] * 3 + [True] * 100)
    with pytest.raises(Cancelled, match="goes on"):
        compare(dataset, ["input"], tmp_path / "out", progress=Progress(cancelled=lambda: next(polls)), **options)
    kept = parts(tmp_path / "out")
    assert kept
    resumed = compare(dataset, ["input"], tmp_path / "out", **options)
    assert kept.items() <= parts(tmp_path / "out").items()
    assert resumed.rows == compare(dataset, ["input"], tmp_path / "new", **options).rows
    assert not list((tmp_path / "out").glob("*/*.part"))


def test_an_earlier_comparison_stays_until_the_next_one_is_whole(dataset, model, tmp_path, monkeypatch):
    options = {"slices_per_case": 1, "bootstrap": 0}
    compare(dataset, ["input"], tmp_path / "out", **options)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}

    def fails(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(comparison_files.comparison_plot, "draw", fails)  # the tables are written by then
        with pytest.raises(OutputError, match=r"out cannot be written \(the disk is full\)"):
            compare(dataset, ["input", model], tmp_path / "out", **options)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()} == before
    assert os.listdir(tmp_path) == ["out"]
    assert compare(dataset, ["input", model], tmp_path / "out", **options).row(model.name, "ground_truth")


@pytest.mark.parametrize("change", [{"residual_noise_hu": 20.0}, {"hu_range": [-1024, 100]}, {"title": "The same"}])
def test_a_model_that_was_published_anew_with_another_card_is_measured_again(folder, dataset, tmp_path, change):
    model = make_model(tmp_path / "implicit", "implicit", steps=2, width=4)
    options = {"slices_per_case": 1, "bootstrap": 0, "reference": "ground_truth"}
    first = compare(dataset, [model], tmp_path / "out", **options)
    path = model / bundle.CARD_FILE
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    again = compare(dataset, [model], tmp_path / "out", **options)
    assert again.rows == compare(dataset, [model], tmp_path / "new", **options).rows
    assert (again.rows == first.rows) == ("title" in change)


def test_a_run_that_was_trained_on_is_measured_again(dataset, tmp_path):
    settings = TrainingSettings(arguments=TINY, steps=2, batch=1, patch=32, learning_rate=0.05, device="cpu")
    options = {"slices_per_case": 1, "bootstrap": 0, "reference": "label"}
    rows = []
    for seed in (0, 1):
        run = train(
            dataset, tmp_path / f"{seed}" / "run", TrainingSettings(**vars(settings) | {"seed": seed}), workers=0
        )
        rows.append(compare(dataset, [run], tmp_path / "out", **options).row("run", "label"))
    assert rows[0]["rmse_lung_hu"] != rows[1]["rmse_lung_hu"]


def test_a_network_that_needs_no_training(dataset, tmp_path):
    found = compare(dataset, ["input", "implicit"], tmp_path, slices_per_case=1, bootstrap=0, reference="ground_truth")
    before, after = (found.row(method, "ground_truth")["sigma_background_hu"] for method in ("input", "implicit"))
    assert after < 0.8 * before


def test_filters_are_compared_like_models(dataset, tmp_path):
    options = {"slices_per_case": 1, "bootstrap": 0, "reference": "ground_truth"}
    found = compare(dataset, ["input", "tv", "tv:0.2", "median"], tmp_path / "out", **options)
    errors = {row["method"]: row["sigma_background_hu"] for row in found.rows}
    assert errors["tv"] < errors["tv 0.2"] < errors["input"]
    facts = json.loads(found.files["provenance"].read_text(encoding="utf-8"))
    assert facts["methods"]["tv 0.2"] | {"filter": "tv", "multiple": 0.2} == facts["methods"]["tv 0.2"]
    before = parts(tmp_path / "out")
    again = compare(dataset, ["tv:0.2", "tv"], tmp_path / "out", **options)
    assert parts(tmp_path / "out") == before
    assert again.row("tv", "ground_truth") == found.row("tv", "ground_truth")


def test_what_was_measured_before_there_was_a_measure_is_measured_again(dataset, tmp_path, monkeypatch):
    options = {"slices_per_case": 1, "bootstrap": 0, "reference": "label"}
    first = compare(dataset, ["input"], tmp_path / "out", **options)
    before = parts(tmp_path / "out")
    monkeypatch.setitem(measures.SUMS, "new", lambda block: block.sums("psnr"))
    again = compare(dataset, ["input"], tmp_path / "out", **options)
    after = parts(tmp_path / "out")
    assert before.keys() == after.keys() and not before.items() & after.items()
    assert again.rows == first.rows


def test_steps_of_flows(folder, dataset, tmp_path):
    flow = make_model(folder / "flow", "ffm", width=16, multipliers=[1, 2])
    for name, steps in (("own", None), ("two", 2), ("three", 3)):
        (tmp_path / name).mkdir()
        (method,) = find_denoisers([flow], tmp_path / name, steps)
        assert method.model.network().steps == (steps or 4)
    ways = (("own", 2), ("two", 2), ("own", 3))
    assert len({find_denoisers([flow], tmp_path / name, steps)[0].key for name, steps in ways}) == 2
    with pytest.raises(InputError, match="50"):
        compare(dataset, [flow], tmp_path / "out", flow_steps=51)


def test_features_of_a_users_network(dataset, tmp_path):
    with pytest.raises(InputError, match="features"):
        compare(dataset, ["input"], tmp_path / "out", features=tmp_path / "features.pt")
    assert not (tmp_path / "out").exists()


def test_names_are_told_apart(model, folder, tmp_path):
    other = make_model(folder / "elsewhere" / "untrained", **TINY)
    found = find_denoisers([model, other, "input"], tmp_path)
    assert [method.name for method in found] == ["untrained", "untrained-2", "input"]


@pytest.mark.parametrize(
    ("methods", "options", "words"),
    [
        ([], {}, "nothing to compare"),
        (["unet"], {}, "without weights"),
        (["input"], {"split": "validation"}, "no scans for validation"),
        (["input"], {"split": "holdout"}, "holdout"),
        (["input"], {"reference": "ndct"}, "ndct"),
        (["input"], {"reference": "ground_truth", "split": "test", "slices_per_case": 0}, "slices_per_case is 0"),
        (["input"], {"bootstrap": -1}, "bootstrap is -1"),
        (["input"], {"device": "cuda:77"}, "cuda:77"),
        (["input"], {"label_strategy": "direct"}, "direct"),
    ],
)
def test_what_is_refused(dataset, tmp_path, methods, options, words):
    with pytest.raises(InputError, match=words):
        compare(dataset, methods, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_other_things_that_are_refused(run, dataset, tmp_path):
    with pytest.raises(BundleError, match="no model 'nobody'"):
        compare(dataset, ["nobody"], tmp_path / "out")
    with pytest.raises(InputError, match=r"dataset\.json"):
        compare(tmp_path, ["input"], tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("Dear")
    with pytest.raises(InputError, match="not empty"):
        compare(dataset, ["input"], tmp_path / "mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "settings.json").write_bytes((run / "settings.json").read_bytes())
    with pytest.raises(InputError, match="weights"):
        compare(dataset, [tmp_path / "run"], tmp_path / "out")


def test_real_scans_have_no_truth(folder, tmp_path):
    cases = [Case("real", ndct=folder / "n2.nrrd", uldct=folder / "u2.nrrd", split="test")]
    prepare(cases, tmp_path / "dataset")
    found = compare(tmp_path / "dataset", ["input"], tmp_path / "out", slices_per_case=1, bootstrap=0)
    assert {row["reference"] for row in found.rows} == {"label"}
    with pytest.raises(InputError, match="ground truth"):
        compare(tmp_path / "dataset", ["input"], tmp_path / "out", reference="ground_truth")


def test_the_command(dataset, model, tmp_path, capsys):
    arguments = ["compare", str(dataset.folder), "--models", "input", str(model), "--out", str(tmp_path / "out")]
    arguments += ["--slices", "1", "--bootstrap", "10"]
    assert commands.main([*arguments, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    fractions = [event["fraction"] for event in events if event["event"] == "progress"]
    assert fractions == sorted(fractions) and fractions[-1] == 1
    result = events[-1]
    assert (result["command"], result["folder"]) == ("compare", str(tmp_path / "out"))
    assert [row["method"] for row in result["table"][:3]] == ["reference", "input", "untrained"]
    assert all(Path(path).is_file() for path in result["files"].values())
    assert commands.main(arguments) == 0
    text = capsys.readouterr().out
    assert "RMSE in the lung, HU" in text and "Against the ground truth: 1 patient, 1 slice;" in text
