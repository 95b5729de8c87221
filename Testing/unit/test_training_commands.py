"""The commands `train` and `publish`: what they take, refuse and say. The work itself is tested elsewhere."""

import json
import os

import pytest
from children import killed_owner
from IPv2Lib.cli.commands import main
from IPv2Lib.io import atomic
from IPv2Lib.io.locks import owned
from IPv2Lib.models import bundle
from IPv2Lib.training.run_folder import read_run
from IPv2Lib.training.settings import read_settings
from samples import simulated_dataset

SMALL = (
    "--steps", "2", "--batch", "2", "--patch", "24", "--argument", "channels=[4]", "--argument", "blocks=[1]",
    "--workers", "0",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    simulated_dataset(folder, {"split": "train"})
    return folder


@pytest.fixture
def ipv2(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def run(*arguments) -> tuple[int, list[dict], str]:
        code = main([*map(str, arguments), "--json"])
        out, err = capsys.readouterr()
        return code, [json.loads(line) for line in out.splitlines()], err

    return run


def test_options_become_settings_and_a_run_becomes_a_model(ipv2, folder, tmp_path):
    code, events, err = ipv2(
        "train", folder / "dataset", "--out", "run", *SMALL, "--strategy", "ipv1+add-noise", "--blend", 0.2,
        "--loss", "mse", "--pairs", "simulated", "--sharpness", 0, 1, "--motion", 3, 4, "--zoom", 1, 1, "--seed", 7,
        "--validate-every", 5,
    )  # fmt: skip
    assert code == 0, err
    facts = {"command": "train", "run": "run", "state": "completed", "step": 2, "best_step": 2, "best_rmse_hu": None}
    assert facts.items() <= events[-1].items()
    settings = read_settings("run")
    assert (settings.strategy, settings.blend, settings.loss, settings.pairs) == (
        "ipv1+add-noise",
        0.2,
        "mse",
        "simulated",
    )
    assert (settings.ranges.sharpness, settings.ranges.motion_mm, settings.ranges.zoom) == ((0, 1), (3, 4), (1, 1))
    assert (settings.seed, settings.validate_every, settings.arguments) == (7, 5, {"channels": [4], "blocks": [1]})

    code, events, err = ipv2("publish", "run", "--name", "mine", "--title", "My model", "--limits", "Many")
    assert code == 0, err
    model = bundle.load("mine")
    assert model.folder == bundle.user_folder() / "mine"
    assert events[-1] == {
        "event": "result", "command": "publish", "model": str(model.folder), "name": "mine", "sha256": model.hash
    }  # fmt: skip
    assert (model.card.title, model.card.limits) == ("My model", "Many")
    killed = killed_owner(model.folder, "publish")
    (bundle.user_folder() / f"{atomic.PREFIX}{killed.host}~{killed.pid}~1~0").mkdir()
    code, _, err = ipv2("publish", "run", "--name", "mine")
    assert os.listdir(bundle.user_folder()) == ["mine"]  # also where it is refused
    assert code == 2 and "--overwrite" in err
    (tmp_path / "card.json").write_text('{"title": "Other"}')
    again = ("publish", "run", "--name", "mine", "--overwrite", "--last", "--card", "card.json")
    with owned(model.folder, "train"):
        assert "is in use by 'ipv2 train'" in ipv2(*again)[2]
    assert ipv2(*again)[0] == 0
    assert bundle.load("mine").card.title == "Other"
    for taken in ("input", "implicit", bundle.default_name(), "my model", ""):
        code, _, err = ipv2("publish", "run", "--name", taken)
        assert code == 2 and repr(taken) in err and "name" in err and "model.json" not in err
    assert [path.name for path in bundle.user_folder().iterdir()] == ["mine"]
    assert ipv2("publish", "run", "--out", "models/there")[0] == 0
    assert bundle.load(tmp_path / "models" / "there").name == "there"


def test_a_run_is_resumed_without_naming_its_data(ipv2, folder):
    assert ipv2("train", folder / "dataset", "--out", "run", *SMALL)[0] == 0
    code, events, err = ipv2("train", "--out", "run", "--resume", "--device", "cpu")
    assert code == 0 and events[-1]["state"] == "completed", err
    assert read_run("run").step == 2


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("train --out run", "nothing to train on"),
        ("train DATASET NDCT --out run", "give it alone"),
        ("train DATASET --out run --argument channels", "channels=[16,32]"),
        ("train DATASET --out run --argument channels=[4", "channels=[16,32]"),
        ("train DATASET --out run --argument depth=3", "cannot be built"),
        ("train DATASET --out run --strategy ipv3", "ipv1+remove-background"),
        ("train DATASET --out run --strategy none --blend 0.1", "blend"),
        ("train DATASET --out run --network implicit", "ipv2 compare"),
        ("train DATASET --out run --loss l7", "charbonnier"),
        ("train DATASET --out run --pairs all", "purified, simulated"),
        ("train DATASET --out run --steps 3 --minutes 1", "not allowed with"),
        ("train DATASET --out run --sharpness 1 3", "range of sharpness is 1 to 3"),
        ("train DATASET --out run", "patch of 128 pixels is larger than case 'case0' with 48×48: use 48"),
        ("train DATASET --out DATASET", "holds an input"),
        ("train --out run --resume", "not a training run"),
        ("train --out run --resume --steps 9", "keeps its settings"),
        ("publish run", "not a training run"),
        ("publish DATASET", "not a training run"),
        ("publish run --name a/b", "no name of a model"),
        ("publish run --card none.json", "none.json"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line_and_leaves_nothing(ipv2, folder, tmp_path, command, words):
    places = {"DATASET": folder / "dataset", "NDCT": folder / "n0.nrrd"}
    code, _, err = ipv2(*(places.get(word, word) for word in command.split()))
    assert code == 2
    assert words in err and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())
