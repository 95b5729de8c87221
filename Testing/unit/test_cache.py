"""The cache of answers: the same question needs no network, another one does, and nothing depends on the folder."""

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from IPv2Lib.cli.commands import main
from IPv2Lib.inference import cache, denoise
from IPv2Lib.inference.cohort import denoise_to_file
from IPv2Lib.inference.options import DenoiseOptions
from IPv2Lib.io import files, outputs
from IPv2Lib.io.volume import Volume
from IPv2Lib.models import bundle

MODEL = "ipv2-fast"


def scan(seed=0, dtype=np.int16) -> Volume:
    ramp = np.linspace(-900, 300, 48) + np.zeros((2, 32, 48))
    return Volume((ramp + np.random.default_rng(seed).normal(0, 60, ramp.shape)).astype(dtype), (0.7, 0.7, 1.25))


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv(cache.VARIABLE, str(folder))
    return folder


@pytest.fixture
def runs(monkeypatch) -> list[int]:
    """One entry per time that a network ran."""
    made, real = [], denoise.denoise

    def counted(*args, **kwargs):
        made.append(1)
        return real(*args, **kwargs)

    monkeypatch.setattr(denoise, "denoise", counted)
    return made


def make(folder: Path, volume=None, name="out.nrrd", model=MODEL, **options) -> tuple[Volume, dict]:
    volume = volume or scan()
    facts = denoise_to_file(
        volume, folder / "scan.nrrd", folder / name, bundle.load(model), DenoiseOptions(**options), concerns=[]
    )
    return files.read(folder / name), facts


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_another_strength_needs_no_network_and_gives_the_same(tmp_path, place, runs, dtype):
    make(tmp_path, scan(dtype=dtype))
    again, facts = make(tmp_path, scan(dtype=dtype), "half.nrrd", strength=0.5, statistics=True)
    assert len(runs) == 1
    alone, its = make(tmp_path, scan(dtype=dtype), "alone.nrrd", strength=0.5, statistics=True, cache=False)
    assert len(runs) == 2 and again.sha256() == alone.sha256()
    assert facts["statistics"] == its["statistics"]
    same = facts["provenance"].keys() & its["provenance"].keys() - {"seconds", "network_seconds", "created"}
    assert {name: facts["provenance"][name] for name in same} == {name: its["provenance"][name] for name in same}
    assert facts["provenance"]["from_cache"] is True and "from_cache" not in its["provenance"]


def test_statistics_are_kept_as_well(tmp_path, place, monkeypatch):
    from IPv2Lib.analysis import region_statistics

    _, first = make(tmp_path)
    _, second = make(tmp_path, statistics=True)
    monkeypatch.setattr(region_statistics, "denoising_statistics", None)
    with pytest.raises(TypeError):
        make(tmp_path, scan(1), statistics=True)
    _, third = make(tmp_path, strength=0.3, statistics=True)
    _, plain = make(tmp_path)
    assert second["statistics"] == third["statistics"]
    assert all("statistics" not in each and "statistics" not in each["provenance"] for each in (first, plain))


def test_the_place_in_the_patient_does_not_matter(tmp_path, place, runs):
    make(tmp_path)
    there, _ = make(tmp_path, replace(scan(), origin=(1, 2, 3), spacing=(0.7 + 1e-9, 0.7, 1.25)))
    assert len(runs) == 1 and there.origin == (1, 2, 3)


@pytest.mark.parametrize(
    "other",
    [
        {"volume": scan(1)}, {"volume": replace(scan(), spacing=(0.8, 0.7, 1.25))}, {"volume": scan(dtype=np.float32)},
        {"model": "ipv2-quality"}, {"keep_outside_body": True}, {"residual_noise_hu": 5.0}, {"tile": 64},
        {"test_time_augmentation": True}, {"engine": "torch"}, {"cache": False},
    ],
    ids=str,
)  # fmt: skip
def test_another_question_is_answered_anew(tmp_path, place, runs, other):
    make(tmp_path)
    make(tmp_path, **other)
    assert len(runs) == 2


def test_what_is_damaged_counts_as_none(tmp_path, place, runs):
    expected, _ = make(tmp_path)
    (path,) = place.glob("*.nrrd")
    good = path.read_bytes()
    sidecar = outputs.sidecar_path(path)
    said = sidecar.read_bytes()
    wrong = good[:-4] + bytes(byte ^ 1 for byte in good[-4:])
    for number, (image, text) in enumerate(
        [(good[:-10], said), (wrong, said), (b"", said), (good, b"{"), (good, None)]
    ):
        path.write_bytes(image)
        sidecar.write_bytes(text) if text is not None else sidecar.unlink()
        assert make(tmp_path)[0].sha256() == expected.sha256()
        assert len(runs) == number + 2
        assert path.read_bytes() == good


def test_images_of_others_in_the_folder_stay(tmp_path, place, monkeypatch):
    place.mkdir()
    other = files.write(scan(5), place / "scan.nrrd")
    make(tmp_path)
    assert cache.size()[0] == 1
    monkeypatch.setattr(cache, "MOST_BYTES", scan().array.nbytes + 1)
    make(tmp_path, scan(1))
    cache.clear()
    assert cache.size() == (0, 0) and list(place.iterdir()) == [other]


def test_results_are_made_where_nothing_can_be_kept(tmp_path, monkeypatch, runs):
    (tmp_path / "file").write_text("no folder")
    for setting in (str(tmp_path / "file"), str(tmp_path / "file" / "below"), "off"):
        monkeypatch.setenv(cache.VARIABLE, setting)
        make(tmp_path)
        make(tmp_path, strength=0.5)
    assert len(runs) == 6 and (tmp_path / "file").read_text() == "no folder"


def test_the_longest_unused_goes_first(tmp_path, place, monkeypatch, runs):
    for seed in range(3):
        make(tmp_path, scan(seed))
    for number, seed in enumerate((1, 2, 0)):
        make(tmp_path, scan(seed))  # used again, in this order
        for path in place.glob("*.nrrd"):
            age = path.stat().st_mtime - 100
            os.utime(path, (age, age))
        assert len(runs) == 3, number
    monkeypatch.setattr(cache, "MOST_BYTES", int(3.5 * scan().array.nbytes))
    make(tmp_path, scan(3))
    assert cache.size()[0] == 3
    for seed in (0, 2):
        make(tmp_path, scan(seed))
    assert len(runs) == 4
    make(tmp_path, scan(1))
    assert len(runs) == 5


def test_nothing_is_kept_on_a_disk_that_is_nearly_full(tmp_path, place, monkeypatch):
    monkeypatch.setattr(cache, "_LEAST_FREE", 1 << 60)
    make(tmp_path)
    assert cache.size() == (0, 0)


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_only_the_user_may_look(tmp_path, place):
    make(tmp_path)
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_the_command_and_the_flag(tmp_path, place, capsys):
    files.write(scan(), tmp_path / "scan.nrrd")
    line = ["denoise", str(tmp_path / "scan.nrrd"), str(tmp_path / "out.nrrd"), "--model", MODEL, "--device", "cpu"]
    assert main([*line, "--no-cache"]) == 0
    assert main(["cache", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["answers"] == 0
    assert main([*line, "--overwrite"]) == main(["cache", "--json"]) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["answers"] == 1 and said["bytes"] > scan().array.nbytes and said["folder"] == str(place)
    assert main(["cache", "--clear"]) == 0
    assert list(place.iterdir()) == []


def test_where_it_is(monkeypatch, tmp_path):
    monkeypatch.delenv(cache.VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("sys.platform", "linux")
    assert cache.folder() == tmp_path / "IPv2" / "Cache"
