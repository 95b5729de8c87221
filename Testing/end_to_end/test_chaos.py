"""A short form of the benchmark `chaos.py`: commands that are killed are run again, and nothing is lost or mixed."""

import subprocess
import sys
from pathlib import Path

import pytest

CHAOS = Path(__file__).resolve().parents[1] / "benchmarks" / "chaos.py"


@pytest.mark.skipif(sys.platform != "linux", reason="it counts operations on files as Linux has them")
def test_killed_commands_can_be_run_again():
    names = ["convert", "convert DICOM", "denoise several", "purify --overwrite", "prepare", "compare", "publish"]
    command = [sys.executable, CHAOS, "--only", "kills", "--kills", "1", "--seed", "5", "--commands", *names]
    run = subprocess.run(command, capture_output=True, text=True, timeout=900)
    assert (run.returncode, run.stderr) == (0, ""), run.stdout
    assert all(f"kill: {name} " in run.stdout for name in names)
