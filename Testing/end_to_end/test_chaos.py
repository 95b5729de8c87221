"""Commands are killed, meet full disks, each other and odd surroundings: a few trials of the benchmark `chaos`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes by /proc")

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "chaos.py"


@pytest.mark.parametrize(
    "options",
    [
        ("--only", "kills", "--kills", "3"),
        ("--only", "disks", "--disks", "8"),
        ("--only", "pairs", "odd", "--pairs", "6", "--odd", "8"),
        ("--only", "long", "--long", "30", "--every", "1.5"),
    ],
    ids=["kills", "full disks", "at once and odd", "workers die"],
)
def test_nothing_is_lost_mixed_or_left(options):
    commands = ("denoise file again", "denoise retries", "purify --overwrite", "prepare", "publish", "convert DICOM")
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *options, "--commands", *commands],
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stderr}\n{done.stdout}"
    whole = done.stdout.splitlines()[-3]
    tried, hit = (int(cell) for cell in whole.split("|")[2:4])
    assert whole.startswith("| all") and tried and hit
