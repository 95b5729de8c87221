"""What is set in IPv2 Train is what is done: from the logic and from the panel, through a job, to the folder."""

import dataclasses
import json
import shutil
import sys

import numpy as np
import pytest
from IPv2Lib.datasets.settings import PreparationSettings
from IPv2Lib.errors import InputError
from IPv2Lib.evaluation.physics.settings import PhysicsSettings
from IPv2Lib.evaluation.settings import AblationSettings, ComparisonSettings
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume
from IPv2Lib.training import settings as training_settings
from IPv2Lib.training.publishing import publish
from IPv2Lib.training.settings import Ranges, TrainingSettings, read_settings
from panel import expand
from train_panel import TINY, errors, finish, open_panel, write_scans

RANGES = Ranges(
    dose=(0.011, 0.21), photons=(1e5, 2.123456789e5), sharpness=(-0.5, 1.5), zoom=(1.0, 1.1), motion_mm=(1.0, 3.0),
    thickness=(1, 2), band=(0.0, 1 / 3), modulation=(0.1, 0.2),
)  # fmt: skip
SIMULATED = TrainingSettings(
    network="unet", arguments=TINY, strategy="ipv1", blend=0.3, pairs="simulated", ranges=RANGES, steps=7, epochs=1e-3,
    batch=2, patch=16, learning_rate=1.23456789e-4, average=0.9, small_error=0.2, bias_weight=0.5, bias_pixels=4,
    variance_weight=2.5, blocks=3, keep_blocks="blocks", pool=2, steps_per_case=3, seed=5, device="cpu",
    validate_every=3, checkpoint_minutes=0.7, start_from="model",
)  # fmt: skip
PURIFIED = TrainingSettings(
    network="redcnn", arguments={"filters": 4}, loss="mse", minutes=0.02, batch=1, patch=16, device="cpu",
    precision="bfloat16",
)  # fmt: skip


@pytest.fixture
def logic(host, dataset, monkeypatch):
    monkeypatch.chdir(dataset.parent)  # so that relative paths mean something
    widget = open_panel(host)
    return widget.logic


def test_every_setting_of_a_training_but_compiling_is_other_than_usual_here():
    usual = TrainingSettings()
    for kind, ones in ((TrainingSettings, (SIMULATED, PURIFIED)), (Ranges, (RANGES,))):
        usual = kind()
        same = {
            each.name for each in dataclasses.fields(kind)
            if all(getattr(one, each.name) == getattr(usual, each.name) for one in ones)
        }  # fmt: skip
        assert same <= {"compile"}


@pytest.mark.parametrize("settings", [SIMULATED, PURIFIED], ids=["simulated", "purified"])
def test_a_training_has_all_settings_that_the_logic_was_given(logic, dataset, settings):
    publish(dataset / "runs" / "finished", dataset.parent / "model")
    state = logic.train(dataset.name, f"{dataset.name}/runs/mine", settings).wait()
    assert state.state == "completed" and state.step >= 1
    expected = dataclasses.replace(
        settings,
        start_from=settings.start_from and str(dataset.parent / "model"),
        keep_blocks=settings.keep_blocks and str(dataset.parent / "blocks"),
    )
    assert read_settings(dataset / "runs" / "mine") == expected
    written = json.loads((dataset / "runs" / "mine" / "settings.json").read_text())
    assert written == json.loads(json.dumps(dataclasses.asdict(expected)))


def test_what_a_file_cannot_hold_is_refused_before_a_job_begins(logic, dataset):
    with pytest.raises(InputError, match=r"steps is 2\.5: give a whole number"):
        logic.train(dataset, dataset / "runs" / "mine", TrainingSettings(steps=2.5))
    assert not logic.training.runner.state.active and not (dataset / "runs" / "mine").exists()


def test_a_data_set_has_all_settings_that_the_logic_was_given(logic, tmp_path):
    settings = PreparationSettings(
        fractions=(1 - 0.07 - 1 / 3, 0.07, 1 / 3), seed=3, split_projections=True, drop_enclosed_air=False,
        low_hu=-950.123456789, high_hu=350.5, threshold_hu=-501.25, weak_strength=0.987654321, workers=1, retries=0,
    )  # fmt: skip
    cases = write_scans(tmp_path / "scans", 2, size=48, slices=2)
    rows = logic.prepare(cases, "made", settings).wait()
    assert [row["status"] for row in rows] == ["purified"] * 2
    made = json.loads((tmp_path / "made" / "dataset.json").read_text())
    assert made["split"] == {"fractions": list(settings.fractions), "seed": 3}
    found = json.dumps(made)
    for number in ("-950.123456789", "350.5", "-501.25", "0.987654321"):
        assert number in found, number
    assert any((tmp_path / "made" / "shards").glob("*/half_a.npy"))


def test_a_comparison_has_all_settings_and_folders_of_the_logic(logic, dataset):
    publish(dataset / "runs" / "finished", dataset.parent / "model")
    settings = ComparisonSettings(
        split="validation", slices_per_case=1, reference="label", label_strategy="ipv1", bootstrap=7, seed=3,
        device="cpu", flow_steps=2,
    )  # fmt: skip
    methods = ["input", f"{dataset.name}/runs/finished", "model"]
    logic.compare(dataset.name, methods, "compared", settings).wait()
    facts = json.loads((dataset.parent / "compared" / "provenance.json").read_text())
    assert set(facts["methods"]) == {"input", "finished", "model"}
    for name in ("split", "slices_per_case", "label_strategy", "bootstrap", "seed", "device"):
        assert facts[name] == getattr(settings, name), name
    assert facts["references"] == ["label"]


def test_an_ablation_has_all_settings_that_the_logic_was_given(logic, dataset):
    settings = AblationSettings(
        strategies=("ipv1", "none"), networks=("redcnn",), arguments={"filters": 4}, seeds=2, steps=3, batch=2,
        patch=16, learning_rate=1.23456789e-4, device="cpu", split="validation", slices_per_case=None,
    )  # fmt: skip
    shutil.rmtree(dataset / "ablation", ignore_errors=True)
    logic.ablation(dataset, "ablated", settings).wait()
    runs = {path.parent.name: read_settings(path.parent) for path in dataset.parent.glob("ablated/*/settings.json")}
    assert set(runs) == {f"redcnn-{strategy}-{seed}" for strategy in settings.strategies for seed in (0, 1)}
    for run in runs.values():
        for name in ("arguments", "steps", "batch", "patch", "learning_rate", "device"):
            assert getattr(run, name) == getattr(settings, name), name
    compared = json.loads((dataset.parent / "ablated" / "comparison" / "provenance.json").read_text())
    assert (compared["split"], compared["slices_per_case"]) == ("validation", None)


def test_image_physics_have_all_settings_and_folders_of_the_logic(logic, dataset):
    for number in (1, 2):
        noise = np.random.default_rng(number).normal(0, 20, (1, 96, 96))
        files.write(Volume(noise.astype(np.float32), (0.8, 0.8, 3.0)), dataset.parent / f"{number}.nrrd")
    settings = PhysicsSettings(
        quick=True, doses=(0.3, 0.1), kernels=("sharp",), only=(), scans=("1.nrrd", "2.nrrd"), series_dose=0.125,
        command=(f"{sys.executable} -c 'import sys, shutil; shutil.copy(*sys.argv[1:])' {{in}} {{out}}",),
        timeout=30.0, seed=3, device="cpu",
    )  # fmt: skip
    with pytest.raises(InputError, match="nothing to measure"):
        logic.physics(["input"], "measured")
    nodes = logic.physics(["input", "gaussian:2"], "measured", settings).wait()
    assert any("1.nrrd and 2.nrrd" in each for each in nodes.sentences) and nodes.charts == ()
    facts = json.loads((dataset.parent / "measured" / "provenance.json").read_text())
    scans = tuple(str(dataset.parent / each) for each in settings.scans)
    assert facts["settings"] == json.loads(json.dumps(dataclasses.asdict(dataclasses.replace(settings, scans=scans))))
    assert len(facts["denoisers"]) == 3 and "gaussian 2" in facts["denoisers"]


def test_everything_that_is_set_in_the_panel_is_what_is_trained(host, dataset):
    widget = open_panel(host, dataset)
    expand(host, widget.ui.trainCollapsibleButton)
    parameters, kinds = widget._parameterNode, {}
    for name in ("strategy", "pairs", "lengthUnit"):
        kinds[name] = type(getattr(parameters, name))
    values = {
        "newRun": "mine", "network": "redcnn", "networkArguments": '{"filters": 4}', "loss": "mse",
        "strategy": kinds["strategy"].REMOVE_BACKGROUND, "pairs": kinds["pairs"].SIMULATED,
        "simulatedDoseLowPercent": 1.5, "simulatedDoseHighPercent": 20.0, "simulatedKernelLow": -0.5,
        "simulatedKernelHigh": 1.5, "length": 3.0, "lengthUnit": kinds["lengthUnit"].STEPS, "patch": 16, "batch": 2,
        "learningRate": 0.000123, "seed": 9,
        "device": "cpu", "precision": "bfloat16", "validateEvery": 2,
    }  # fmt: skip
    for name, value in values.items():
        parameters.setValue(name, value)
    host.click(widget.ui.startButton)
    finish(host, widget.logic.training)
    assert errors(host) == []
    assert read_settings(dataset / "runs" / "mine") == TrainingSettings(
        network="redcnn", arguments={"filters": 4}, loss="mse", strategy="ipv1+remove-background", pairs="simulated",
        ranges=Ranges(dose=(0.015, 0.2), sharpness=(-0.5, 1.5)), steps=3, patch=16, batch=2, learning_rate=0.000123,
        seed=9, device="cpu", precision="bfloat16", validate_every=2,
    )  # fmt: skip
    assert tuple(each.value for each in kinds["pairs"]) == training_settings.PAIRS
