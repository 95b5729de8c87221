"""Trained models on disk: written, found, read, and refused when anything is wrong."""

import hashlib
import json
import os
import shutil
from datetime import date

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from IPv2Lib.errors import BundleError, OutputError
from IPv2Lib.models import bundle, quantization
from IPv2Lib.networks import registry

CARD = {
    "title": "A model of the tests",
    "description": "Random weights.",
    "hu_range": [-1024, 3071],
    "training": {
        "data": [{"name": "Phantom", "licence": "Apache-2.0", "citation": "none"}],
        "settings": {"steps": 0},
        "seed": 0,
    },
    "metrics": {},
    "intended_use": "Tests.",
    "limits": "Everything else.",
}


def saved(folder, network_name="redcnn", bits=16, **changes):
    arguments = {"filters": 4} if network_name == "redcnn" else {"channels": [4, 8], "blocks": [1, 1]}
    torch.manual_seed(0)
    network = registry.build(network_name, **arguments)
    return bundle.save(folder, network_name, arguments, network.state_dict(), {**CARD, **changes}, bits)


def rewritten(folder, **changes):
    """Change the card of a bundle; a value of ... removes the key."""
    path = folder / bundle.CARD_FILE
    card = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in card.items() if value is not ...}))
    return folder


def with_weights(folder, change):
    """Change the weights of a bundle, and the hash on its card."""
    path = folder / bundle.WEIGHTS_FILE
    state = safetensors.torch.load_file(path)
    change(state)
    safetensors.torch.save_file(state, path)
    rewritten(folder, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def first_step(state):
    return next(key for key in state if key.endswith(".step"))


@pytest.fixture(autouse=True)
def no_installed_models(tmp_path, monkeypatch):
    """Only the models that a test puts into `models` are found."""
    (tmp_path / "models").mkdir()
    monkeypatch.setattr(bundle, "folders", lambda: [tmp_path / "models"])


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


@pytest.mark.parametrize("name", ["redcnn", "unet"])
@pytest.mark.parametrize("bits", [32, 16, 8])
def test_weights_come_back(models, name, bits):
    made = saved(models / "first", name, bits)
    torch.manual_seed(0)
    arguments = made.card.network.arguments
    expected = registry.build(name, **arguments).state_dict()
    network = bundle.load("first").network()
    assert not network.training
    for key, tensor in network.state_dict().items():
        assert tensor.dtype == torch.float32
        if bits == 8 and tensor.ndim > 1:
            error, largest = ((of - expected[key]).abs().flatten(1).amax(1) for of in (tensor, 0 * tensor))
            assert (error <= 0.501 * largest / 127).all(), "rounded to the nearest of 255 values"
        else:
            torch.testing.assert_close(tensor, expected[key] if bits == 32 else expected[key].half().float())


def test_8_bits_are_half_of_16(models):
    sizes = [
        (saved(models / f"of-{bits}", "unet", bits).folder / bundle.WEIGHTS_FILE).stat().st_size for bits in (8, 16)
    ]
    assert sizes[0] < 0.75 * sizes[1], "even for a network so small that names and steps count"


def test_8_bits_without_their_steps_are_refused(models):
    made = saved(models / "first", bits=8)
    with_weights(made.folder, lambda state: state.pop(first_step(state)))
    with pytest.raises(BundleError, match="in 8 bits"):
        bundle.load(made.folder).network()


@pytest.mark.parametrize("step", [[1.0], [1, 2], [[1.0, 1.0]], [1j, 1j]])
def test_steps_that_are_not_one_number_a_row_are_refused(step):
    with pytest.raises(ValueError, match="'weight' is in 8 bits"):
        quantization.unpack({"weight": np.ones((2, 3), np.int8), "weight.step": torch.tensor(step).numpy()})
    with pytest.raises(ValueError, match="in 8 bits"):
        quantization.unpack({"weight": np.array(1, np.int8), "weight.step": np.array(1.0, np.float32)})


def test_steps_that_make_weights_infinite_are_refused(models):
    made = saved(models / "first", bits=8)
    with_weights(made.folder, lambda state: state[first_step(state)].fill_(3e38))
    with pytest.raises(BundleError, match="not finite"):
        bundle.load(made.folder).network()


def test_card_comes_back_complete(models):
    made = saved(models / "first", default=True)
    read = bundle.load(models / "first")
    assert read == made
    assert (read.name, read.card.hu_range, len(read.hash)) == ("first", (-1024, 3071), 64)
    assert read.card.created == date.today().isoformat()
    assert {key: read.card.as_dict()[key] for key in CARD} == CARD
    assert set(read.card.versions) == {"IPv2Lib", "torch"}


def test_the_same_weights_give_the_same_hash(models):
    assert saved(models / "first").hash == saved(models / "second").hash


def test_available_is_sorted_and_broken_ones_are_reported(models):
    for name in ("zebra", "ant"):
        saved(models / name)
    rewritten(saved(models / "broken").folder, title=...)
    shutil.copytree(models / "ant", models / "twin")
    (models / "not a model").mkdir()
    assert [found.name for found in bundle.available()] == ["ant", "zebra"]
    problems = [str(problem) for problem in bundle.scan()[1]]
    assert len(problems) == 2
    assert "broken" in problems[0] and "'title' is missing" in problems[0]
    assert "twin" in problems[1] and "rename one" in problems[1]


def test_default_is_the_one_that_says_so(models):
    with pytest.raises(BundleError, match="no model is installed"):
        bundle.default_name()
    saved(models / "ant")
    assert bundle.default_name() == "ant"
    saved(models / "zebra", default=True)
    assert bundle.default_name() == "zebra"


def test_a_model_can_be_the_default_of_one_kind_of_device(models):
    for name, default in (("a", False), ("b", "gpu"), ("c", True), ("d", "cpu"), ("e", "cpu")):
        saved(models / name, default=default)
    assert [bundle.default_name(device) for device in ("cpu", "auto", "cuda", "cuda:1", "mps")] == [
        "d",
        "d",
        "b",
        "b",
        "b",
    ]
    shutil.rmtree(models / "b")
    assert bundle.default_name("cuda") == "c"
    shutil.rmtree(models / "c")
    assert bundle.default_name("cuda") == "d"


def test_user_folders_come_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.undo()
    places = [tmp_path / "a", tmp_path / "b"]
    monkeypatch.setenv("IPV2_MODELS", os.pathsep.join(map(str, [*places, tmp_path / "absent"])))
    monkeypatch.setattr(bundle, "user_folder", lambda: tmp_path / "c")
    for place in [*places, tmp_path / "c"]:
        saved(place / f"in-{place.name}")
    assert bundle.folders()[-3:] == [*places, tmp_path / "c"]
    assert {"in-a", "in-b", "in-c"} <= {found.name for found in bundle.available()}


def test_names_win_over_folders_and_folders_work(models, monkeypatch):
    saved(models / "first", title="installed")
    elsewhere = saved(models.parent / "first", title="in the folder").folder
    monkeypatch.chdir(models.parent)
    assert bundle.load("first").card.title == "installed"
    assert bundle.load("./first").card.title == "in the folder"
    assert bundle.load(elsewhere).card.title == "in the folder"


def test_saving_again_replaces_and_leaves_nothing_else(models):
    saved(models / "first", title="old")
    saved(models / "first", title="new")
    assert bundle.load("first").card.title == "new"
    assert [path.name for path in models.iterdir()] == ["first"]


def test_a_failed_save_leaves_what_was_there(models, monkeypatch):
    before = saved(models / "first")
    with pytest.raises(BundleError, match="'hu_range'"):
        saved(models / "first", hu_range=[5, 1])
    wrong = registry.build("redcnn", filters=5).state_dict()
    with pytest.raises(BundleError, match="does not fit"):
        bundle.save(models / "first", "redcnn", {"filters": 4}, wrong, CARD)
    infinite = {key: tensor * float("inf") for key, tensor in wrong.items()}
    with pytest.raises(BundleError, match="not finite"):
        bundle.save(models / "first", "redcnn", {"filters": 5}, infinite, CARD)
    with pytest.raises(BundleError, match="JSON"):
        saved(models / "first", metrics={"path": models})
    assert bundle.load("first") == before
    assert [path.name for path in models.iterdir()] == ["first"]


def test_save_does_not_replace_what_is_not_a_model(models):
    (models / "letters").mkdir()
    (models / "letters" / "dear.txt").write_text("keep me")
    with pytest.raises(OutputError, match="not a model"):
        saved(models / "letters")
    assert (models / "letters" / "dear.txt").read_text() == "keep me"
    with pytest.raises(OutputError, match="cannot be written"):
        saved(models / "letters" / "dear.txt" / "model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": ...}, "'format_version' is missing"),
        ({"format_version": 3}, "'format_version' is 3, not 1 or 2; update"),
        ({"format_version": True}, "'format_version' is True"),
        ({"name": "../up"}, "'name' is '../up'"),
        ({"title": ""}, "'title'"),
        ({"limits": ...}, "'limits' is missing"),
        ({"network": "unet"}, "'network'.*arguments"),
        ({"network": {"name": "vgg", "arguments": {}}}, "unknown network 'vgg'.*redcnn, .*unet"),
        ({"hu_range": [1, 2, 3]}, "'hu_range'"),
        ({"hu_range": [float("nan"), 0]}, "'hu_range'"),
        ({"training": {"data": [{"name": "LIDC"}], "settings": {}, "seed": 0}}, "'training'.*licence"),
        ({"training": {"data": [], "settings": {}}}, "'training'.*seed"),
        ({"sha256": "abc"}, "'sha256'"),
        ({"created": "yesterday"}, "'created'"),
        ({"versions": {"torch": 2}}, "'versions'"),
        ({"default": "yes"}, "'default'"),
        ({"residual_noise_hu": -1}, "'residual_noise_hu' is -1"),
        ({"residual_noise_hu": "5"}, "'residual_noise_hu'"),
        ({"default": 1}, "'default' is 1"),
        ({"noise_hu": [300, 10]}, r"'noise_hu' is \[300, 10\]; it must be \[lowest, highest\]"),
        ({"noise_hu": [10, float("inf")]}, "'noise_hu'"),
        ({"colour": "red"}, "'colour' is unknown"),
    ],
)
def test_a_wrong_card_names_the_key(models, changes, message):
    folder = rewritten(saved(models / "first").folder, **changes)
    with pytest.raises(BundleError, match=message):
        bundle.load(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"text"', "\x00", "[" * 100_000])
def test_a_card_that_is_no_card(models, text):
    folder = saved(models / "first").folder
    (folder / bundle.CARD_FILE).write_text(text)
    with pytest.raises(BundleError, match=r"model.json"):
        bundle.load(folder)


@settings(max_examples=60, deadline=None)
@given(
    key=st.sampled_from([*CARD, "name", "network", "sha256", "created", "versions", "format_version"]),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    ),
)
def test_any_value_under_any_key_is_taken_or_refused_by_name(tmp_path_factory, key, value):
    folder = rewritten(saved(tmp_path_factory.mktemp("models") / "first").folder, **{key: value})
    try:
        bundle.load(folder)
    except BundleError as error:
        assert key in str(error) or "model.safetensors" in str(error)


def test_damaged_weights(models):
    folder = saved(models / "first").folder
    path = folder / bundle.WEIGHTS_FILE
    whole = path.read_bytes()
    path.write_bytes(whole[:-10])
    with pytest.raises(BundleError, match=r"truncated or changed.*copy the model again"):
        bundle.load(folder)
    path.unlink()
    with pytest.raises(BundleError, match=r"has no model.safetensors"):
        bundle.load(folder)


def test_weights_that_change_after_loading_are_noticed(models):
    made = saved(models / "first")
    path = made.folder / bundle.WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    with pytest.raises(BundleError, match="truncated or changed"):
        made.network()


def test_weights_of_another_kind_of_file(models):
    import hashlib
    import pickle

    folder = saved(models / "first").folder
    data = pickle.dumps({"layer": [1.0]})
    (folder / bundle.WEIGHTS_FILE).write_bytes(data)
    rewritten(folder, sha256=hashlib.sha256(data).hexdigest())
    with pytest.raises(BundleError, match="not a safetensors file"):
        bundle.load(folder).network()


def test_arguments_that_the_network_does_not_take(models):
    folder = rewritten(
        saved(models / "first").folder, network={"name": "redcnn", "arguments": {"filters": 4, "depth": 9}}
    )
    with pytest.raises(BundleError, match="depth"):
        bundle.load(folder).network()
    rewritten(folder, network={"name": "redcnn", "arguments": {"filters": 8}})
    with pytest.raises(BundleError, match="does not fit network 'redcnn'"):
        bundle.load(folder).network()


def test_names_and_folders_that_are_no_model(models):
    saved(models / "first")
    rewritten(saved(models / "broken").folder, title=...)
    with pytest.raises(BundleError, match=r"no model 'frist'.*\(first\).*'title' is missing"):
        bundle.load("frist")
    (models / "empty").mkdir()
    for folder in (models / "empty", models / "absent"):
        with pytest.raises(BundleError, match=r"has no model.json|is not a model"):
            bundle.load(folder)
