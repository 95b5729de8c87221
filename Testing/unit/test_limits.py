"""What a stranger's file may name, and how large what it asks for may be."""

import json
import os
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from IPv2Lib.datasets.cases import Case
from IPv2Lib.datasets.contents import recorded_contents
from IPv2Lib.datasets.preparation import prepare
from IPv2Lib.datasets.shards import PurifiedDataset
from IPv2Lib.errors import BundleError, InputError
from IPv2Lib.evaluation import comparison
from IPv2Lib.io import dicom_file, files, payload
from IPv2Lib.io.file_names import within
from IPv2Lib.io.json_files import read_object
from IPv2Lib.models import bundle
from IPv2Lib.networks import ffm, limits, registry
from IPv2Lib.simulation import phantom
from IPv2Lib.training.settings import TrainingSettings
from IPv2Lib.training.sources import reopen_source
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian
from samples import CARD

NO_NAMES = ["../other", "..", ".", "", "a/b", "a\\b", "/etc", "C:x", "a\0b", "a\nb", None, 5, ["a"]]

# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_leads_elsewhere_is_no_name(tmp_path, name):
    with pytest.raises(InputError, match="would lead elsewhere"):
        within(tmp_path, name)


@pytest.mark.parametrize("name", ["a", "..a", "case-0-12ab", "Ä b", "~", "-x"])
def test_other_texts_are_names(tmp_path, name):
    assert within(tmp_path, name) == tmp_path / name


def test_a_link_may_not_lead_elsewhere(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir(), outside.mkdir()
    (inside / "real").mkdir()
    (inside / "same").symlink_to("real")
    (inside / "out").symlink_to(outside)
    assert within(inside, "same").is_dir()
    with pytest.raises(InputError, match="out is a link that leads elsewhere"):
        within(inside, "out")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("untrusted")
    files.write(phantom.chest(size=48, slices=2), folder / "n.nrrd")
    prepare([Case("a", ndct=folder / "n.nrrd", split="train")], folder / "data")
    return folder / "data"


@pytest.fixture
def key_of(dataset):
    """Sets the key of the only shard, and puts it back."""
    path = dataset / "dataset.json"
    before = path.read_bytes()

    def set_key(key) -> None:
        content = json.loads(before)
        content["shards"][0]["key"] = key
        path.write_text(json.dumps(content))

    yield set_key
    path.write_bytes(before)


@pytest.mark.parametrize("key", ["../../data/shards/x", "/etc", "..", None])
def test_keys_of_shards_are_names(dataset, key_of, key):
    key_of(key)
    for read in (PurifiedDataset.read, recorded_contents):
        with pytest.raises(InputError, match="would lead elsewhere"):
            read(dataset)


def test_shards_of_a_run_are_names(dataset):
    described = {
        "train": [{"shard": "../shards", "case": "a", "patient": "P"}],
        "validation": [],
        "dataset": str(dataset),
    }
    with pytest.raises(InputError, match="would lead elsewhere"):
        reopen_source(None, described, TrainingSettings())


def test_an_array_of_a_shard_lies_in_it(dataset, tmp_path):
    (shard,) = PurifiedDataset.read(dataset).shards
    path, elsewhere = shard.folder / "weak.npy", tmp_path / "weak.npy"
    path.rename(elsewhere)
    try:
        path.symlink_to(elsewhere)
        with pytest.raises(InputError, match="leads elsewhere"):
            PurifiedDataset.read(dataset)
    finally:
        path.unlink(missing_ok=True)
        elsewhere.rename(path)


# --- models -----------------------------------------------------------------------------------------------------

SMALL = {"channels": [4], "blocks": [1]}


@pytest.fixture
def model(tmp_path) -> Path:
    return bundle.save(tmp_path / "model", "unet", SMALL, registry.build("unet", **SMALL).state_dict(), CARD).folder


def change(model: Path, network: str, arguments: dict) -> None:
    card = json.loads((model / "model.json").read_text())
    card["network"] = {"name": network, "arguments": arguments}
    (model / "model.json").write_text(json.dumps(card))


@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_the_files_of_a_model_lie_in_its_folder(model, tmp_path, monkeypatch, name):
    (model / name).rename(tmp_path / name)
    (model / name).symlink_to(tmp_path / name)
    with pytest.raises(BundleError, match="leads elsewhere"):
        bundle.load(model)
    monkeypatch.setenv("IPV2_MODELS", str(tmp_path))
    assert any("leads elsewhere" in str(problem) for problem in bundle.scan()[1])


def test_a_model_of_which_the_folder_is_a_link_is_one(model, tmp_path):
    (tmp_path / "link").symlink_to(model)
    assert bundle.load(tmp_path / "link").name == "model"


@pytest.mark.parametrize("content", [b" " * (2 << 20), b'{"a":' + b"[" * 100_000, b"[1]", b"\xff\xfe"])
def test_a_card_that_is_large_or_deep_or_none_is_refused(model, content):
    (model / "model.json").write_bytes(content)
    with pytest.raises(BundleError, match=r"model\.json is not JSON"):
        bundle.load(model)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("name", ["model.json", "model.safetensors"])
def test_a_pipe_in_the_place_of_a_file_holds_nobody_up(model, name):
    (model / name).unlink()
    os.mkfifo(model / name)
    with pytest.raises(BundleError):
        bundle.load(model)


TOO_LARGE = [
    ("unet", {"channels": [4], "blocks": [100_000]}),
    ("unet", {"channels": [100_000], "blocks": [1]}),
    ("unet", {"channels": [10**30], "blocks": [1]}),
    ("unet", {"channels": [1] * 20, "blocks": [1] * 20}),  # few weights, but blocks of a million pixels
    ("unet", {"channels": [1] * 10**6, "blocks": [1] * 10**6}),
    ("unet", {"context": 99_999}),
    ("dncnn", {"depth": 90_000}),
    ("denomamba", {"blocks": [99_999]}),
    ("denomamba", {"unshuffle": 100_000}),
    ("ffm", {"width": 96_000}),
    ("ffm", {"blocks": 99_999}),
    ("ipv2net", {"kernel": 99_999}),
    ("redcnn", {"filters": 90_000}),
    ("scunet", {"blocks": 90_000}),
    ("scunet", {"window": 2000}),  # a table of window⁴ numbers
    ("structkpn", {"kernel": 9999}),
    ("implicit", {"width": 99_999}),
    ("implicit", {"steps": 10**9}),
]


@pytest.mark.parametrize(("name", "arguments"), TOO_LARGE)
def test_a_network_that_is_too_large_is_refused_before_it_takes_memory(name, arguments, monkeypatch):
    made = []
    monkeypatch.setattr(
        torch.Tensor, "uniform_", lambda tensor, *rest, **more: made.append(tensor.device.type) or tensor
    )
    with pytest.raises(InputError, match=r"limit|may have|beyond|at most"):
        registry.build(name, **arguments)
    assert "cpu" not in made


@pytest.mark.parametrize("name", registry.names())
def test_looking_at_the_size_changes_no_weights(name):
    torch.manual_seed(3)
    state = torch.get_rng_state()
    with limits._without_values():
        pass
    network = registry.build(name)
    torch.set_rng_state(state)
    again = type(network)(**({} if name != "ffm-published" else ffm.PUBLISHED))
    for one, other in zip(network.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_card_may_not_ask_for_more_weights_than_the_file_can_hold(model):
    assert bundle.load(model).network().context == 3
    change(model, "unet", {"channels": [256], "blocks": [8]})
    with pytest.raises(BundleError, match="more than 1,000,000 weights"):
        bundle.load(model).network()
    change(model, "unet", SMALL | {"most_weights": 10**12})
    with pytest.raises(BundleError, match="most_weights"):
        bundle.load(model).network()


def test_the_limits_are_for_this_thread_and_this_call_only():
    with pytest.raises(InputError):
        registry.build("unet", channels=[4], blocks=[100_000])
    assert len(torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(limits.MOST_TENSORS + 1)))) > 0


@pytest.mark.parametrize("settings", [{"batch": 10**9}, {"patch": 10**9}, {"pool": 10**9}])
def test_settings_of_a_run_have_limits(settings):
    with pytest.raises(InputError, match="it must be from 1 to"):
        TrainingSettings(**settings)


# --- bombs ------------------------------------------------------------------------------------------------------


def test_json_is_limited_in_size_and_depth(tmp_path):
    path = tmp_path / "a.json"
    for content, words in (("[" * 200_000, "deeply"), (" " * 100, "KiB"), ("5", "no JSON object")):
        path.write_text(content)
        with pytest.raises(ValueError, match=words):
            read_object(path, 99 if words == "KiB" else 1 << 20)
    with pytest.raises(ValueError, match="no file"):
        read_object(tmp_path)
    path.write_text('{"a": 1}')
    assert read_object(path) == {"a": 1}


def deflated(path: Path, megabytes: int, group_length: int | None = None) -> Path:
    """A DICOM file of a few kB that inflates to so many megabytes."""
    from io import BytesIO

    from pydicom.filewriter import write_file_meta_info

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.3"
    meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    start = BytesIO()
    start.write(bytes(128) + b"DICM")
    write_file_meta_info(start, meta)
    head = bytearray(start.getvalue())
    if group_length is not None:
        head[140:144] = group_length.to_bytes(4, "little")
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    element = b"\x09\x00\x01\x10OB\x00\x00" + (megabytes << 20).to_bytes(4, "little")
    start, zeros = deflate.compress(element) + deflate.flush(zlib.Z_FULL_FLUSH), bytes(1 << 20)
    block = deflate.compress(zeros) + deflate.flush(zlib.Z_FULL_FLUSH)  # which can be repeated
    path.write_bytes(bytes(head) + start + megabytes * block + deflate.flush())
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")
@pytest.mark.parametrize("group_length", [None, 0])  # a lie sends whoever believes it elsewhere
def test_a_deflated_bomb_takes_little_memory(tmp_path, group_length):
    path = deflated(tmp_path / "bomb.dcm", 900, group_length)
    assert path.stat().st_size < 1_000_000
    code = (
        "import resource, sys\n"
        "from pathlib import Path\n"
        "from IPv2Lib.io import dicom_file\n"
        "from IPv2Lib.errors import InputError\n"
        "from IPv2Lib.datasets.patients import patient_of\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    dicom_file.read_dataset(Path(sys.argv[1]))\n"
        "except InputError as error:\n    print(error)\n"
        "assert patient_of(Path(sys.argv[1])) == ''\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    said, megabytes = done.stdout.splitlines()
    assert "inflates to more than" in said and int(megabytes) < 200


def test_a_deflated_file_that_is_no_bomb_is_read(tmp_path):
    assert (0x0009, 0x1001) in dicom_file.read_dataset(deflated(tmp_path / "some.dcm", 8))


def test_a_header_may_not_ask_for_more_voxels_than_a_ct_has(tmp_path):
    side = 1 << 11
    (tmp_path / "n.nrrd").write_bytes(
        f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: {side} {side} {side}\nencoding: bzip2\n\n".encode() + bytes(10**6)
    )
    with pytest.raises(InputError, match=f"{payload.MOST_VOXELS} are the limit"):
        files.read(tmp_path / "n.nrrd")


def test_a_part_of_a_comparison_that_is_a_bomb_is_measured_again(tmp_path, monkeypatch):
    path = tmp_path / "part.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("ground_truth/features.npy", bytes(1 << 22))
    monkeypatch.setattr(comparison, "_MOST_PART_BYTES", 1 << 20)
    monkeypatch.setattr(np, "load", None)
    assert comparison._read_part(path, ["ground_truth"]) is None
