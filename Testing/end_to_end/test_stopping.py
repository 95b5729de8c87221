"""Commands that are asked to stop: at any moment a clean end, one line, and the exit code of a stop."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import IPv2Lib
import psutil
import pytest
from children import children
from IPv2Lib.io import files
from small_chest import small_chest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")

LIBRARY = str(Path(IPv2Lib.__file__).parents[1])
ENVIRONMENT = {**os.environ, "PYTHONPATH": LIBRARY, "OMP_NUM_THREADS": "1"}
DRAWING = """
import os, signal, sys, threading
from IPv2Lib.cli import pictures
from IPv2Lib.cli.commands import main
from IPv2Lib.cli.stopping import end_process

real = pictures.stages_picture
def stages_picture(stages):
    threading.Timer(float(sys.argv[1]), os.kill, [os.getpid(), signal.SIGTERM]).start()
    while True:
        real(stages)
pictures.stages_picture = stages_picture
end_process(main(["purify", "scan.nrrd", "scan.nrrd", "stages"]))
"""


@pytest.mark.parametrize("seconds", [0.01, 0.3])
def test_stopped_while_pictures_are_drawn(tmp_path, seconds):
    pytest.importorskip("vtk")
    files.write(small_chest(), tmp_path / "scan.nrrd")
    done = subprocess.run(
        [sys.executable, "-c", DRAWING, str(seconds)], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "ipv2 purify: stopped; nothing was written\n"
    assert os.listdir(tmp_path) == ["scan.nrrd"]


WITHIN_A_CALLBACK = """
import os, signal, sys, weakref
from IPv2Lib.cli import pictures
from IPv2Lib.cli.commands import main
from IPv2Lib.cli.stopping import end_process

class Thing: pass

def stages_picture(stages):
    thing = Thing()
    reference = weakref.ref(thing, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    del thing
    while True:
        pass

pictures.stages_picture = stages_picture
end_process(main(["purify", "scan.nrrd", "scan.nrrd", "stages"]))
"""


def test_stopped_where_what_is_raised_goes_no_further(tmp_path):
    """As at the end of an import, where Python prints an error of a callback and goes on."""
    pytest.importorskip("vtk")
    files.write(small_chest(), tmp_path / "scan.nrrd")
    done = subprocess.run(
        [sys.executable, "-c", WITHIN_A_CALLBACK], cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "ipv2 purify: stopped; nothing was written\n")
    assert os.listdir(tmp_path) == ["scan.nrrd"]


@pytest.mark.parametrize("held", [False, True])
def test_a_hang_up_is_an_orderly_end_unless_nohup_holds_it_back(tmp_path, held):
    """The process is asked as soon as it has said something."""
    process = subprocess.Popen(
        [*(["nohup"] if held else []), sys.executable, "-m", "IPv2Lib", "phantom", "out", "--size", "64", "--json"],
        cwd=tmp_path, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=120)
    assert process.returncode == (0 if held else 130), err
    assert held or err == "ipv2 phantom: stopped; nothing was written\n"
    assert (tmp_path / "out").exists() == held


def test_a_worker_that_outlives_its_command_changes_nothing(tmp_path):
    """Workers end with their command, but one that the system holds up does so when the next command is at work."""
    for seed in range(3):
        files.write(small_chest(seed=seed), tmp_path / f"{seed}.nrrd")
    line = [sys.executable, "-m", "IPv2Lib", "prepare", "0.nrrd", "1.nrrd", "2.nrrd", "--out", "out", "--workers", "2"]
    shards = tmp_path / "out" / "shards"
    command = subprocess.Popen(line, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    while not list(shards.glob(".ipv2-*")):
        assert command.poll() is None
        time.sleep(0.01)
    workers = children("spawn_main", command.pid)
    for worker in workers:
        worker.suspend()
    command.kill()
    command.wait()
    subprocess.run(line, cwd=tmp_path, env=ENVIRONMENT, check=True, stderr=subprocess.DEVNULL)
    made = {path.name: path.stat().st_ino for path in shards.glob("[!.]*")}
    for worker in workers:
        worker.resume()
    assert not psutil.wait_procs(workers, 30)[1]
    subprocess.run(line, cwd=tmp_path, env=ENVIRONMENT, check=True, stderr=subprocess.DEVNULL)
    assert len(made) == 3 and {path.name: path.stat().st_ino for path in shards.iterdir()} == made
