"""Types are what the annotations say."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def test_annotations_of_the_library_are_true(tmp_path):
    pytest.importorskip("mypy", reason="mypy comes with the test extra")
    command = [sys.executable, "-m", "mypy", "--cache-dir", tmp_path]
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, encoding="utf-8")
    assert run.returncode == 0, run.stdout + run.stderr
