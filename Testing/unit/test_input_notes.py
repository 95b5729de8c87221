"""What reading has to say of an input besides the volume, on its way to people and programs."""

import json
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from dicom_samples import HU, write_scan
from IPv2Lib.cli.console import Console
from IPv2Lib.errors import InputNote
from IPv2Lib.io import dicom, files
from IPv2Lib.io.volume import Volume


@pytest.mark.parametrize("json_lines", [False, True])
def test_a_command_shows_notes(tmp_path, capsys, json_lines):
    scan = write_scan(tmp_path / "scan")
    (scan / "blob").write_bytes(bytes(range(256)))

    def command() -> None:
        for _ in range(2):  # each time, although Python shows a warning once
            np.testing.assert_array_equal(files.read(scan).array, HU)

    assert Console(json_lines).run("ipv2 denoise", command) == 0
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("ipv2: note: 1 file was left out of series") for line in lines)
    events = [json.loads(line) for line in printed.out.splitlines()]
    assert [event["event"] for event in events] == (["note", "note"] if json_lines else [])
    assert all("blob (not DICOM)" in event["message"] for event in events)


def test_notes_of_several_threads(tmp_path):
    """None is lost to, and none appears at, another thread, and no filter stays behind."""
    plain, noted = write_scan(tmp_path / "plain"), write_scan(tmp_path / "noted")
    (noted / "blob").write_bytes(bytes(range(256)))

    def use(number: int) -> tuple[list[str], list[str]]:
        dicom.write_series(Volume(HU), made(tmp_path / f"out {number}"), "", None)
        return files.read_here(plain)[1], files.read_noted(noted)[1]

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(use, range(12)))
    assert [len(none) for none, _ in found] == [0] * 12
    assert all(len(one) == 1 and "blob (not DICOM)" in one[0] for _, one in found)
    assert not any("pydicom" in str(entry) for entry in warnings.filters)


def test_warnings_of_several_threads(tmp_path):
    noted = write_scan(tmp_path / "noted")
    (noted / "blob").write_bytes(bytes(range(256)))
    with warnings.catch_warnings(record=True) as caught, ThreadPoolExecutor(2) as pool:
        warnings.simplefilter("always")
        list(pool.map(files.read, [noted] * 4))
    assert [each.category for each in caught] == [InputNote] * 4


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_a_script_gets_a_warning(tmp_path):
    scan = write_scan(tmp_path / "scan")
    (scan / "blob").write_bytes(bytes(range(256)))
    with pytest.warns(InputNote, match=r"blob \(not DICOM\)"):
        files.read(scan)
