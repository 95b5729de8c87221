"""What reading has to say of an input besides the volume, on its way to people and programs."""

import json

import numpy as np
import pytest
from dicom_samples import HU, write_scan
from IPv2Lib import ct
from IPv2Lib.console import Console
from IPv2Lib.errors import InputNote


@pytest.mark.parametrize("json_lines", [False, True])
def test_a_command_shows_notes(tmp_path, capsys, json_lines):
    scan = write_scan(tmp_path / "scan")
    (scan / "blob").write_bytes(bytes(range(256)))

    def command() -> None:
        for _ in range(2):  # each time, although Python shows a warning once
            np.testing.assert_array_equal(ct.read(scan).array, HU)

    assert Console(json_lines).run("ipv2 denoise", command) == 0
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert len(lines) == 2
    assert all(line.startswith("ipv2: note: 1 file was left out of series") for line in lines)
    events = [json.loads(line) for line in printed.out.splitlines()]
    assert [event["event"] for event in events] == (["note", "note"] if json_lines else [])
    assert all("blob (not DICOM)" in event["message"] for event in events)


def test_a_script_gets_a_warning(tmp_path):
    scan = write_scan(tmp_path / "scan")
    (scan / "blob").write_bytes(bytes(range(256)))
    with pytest.warns(InputNote, match=r"blob \(not DICOM\)"):
        ct.read(scan)
