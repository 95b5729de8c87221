"""Packages that are missing: a line says what to do, or the script `ipv2` installs them and the command goes on."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import IPv2Lib
import numpy as np
import pytest
from IPv2Lib import packages
from IPv2Lib.errors import InputError, InputNote
from IPv2Lib.io import files
from IPv2Lib.io.volume import Volume
from node_peers import node_file

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the script is for POSIX shells")
INSTALLED = Path(sysconfig.get_path("purelib"))


@pytest.fixture
def without(tmp_path) -> Path:
    """A folder of the packages that are installed here, but for PyTorch, what needs it, matplotlib and pynetdicom."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for path in INSTALLED.iterdir():
        if not path.name.startswith(("torch", "functorch", "matplotlib", "pynetdicom")) and path.suffix != ".pth":
            (folder / path.name).symlink_to(path)
    return folder


def script(folder: Path, text: str) -> Path:
    path = folder / "script"
    path.write_text(f'#!/bin/sh\necho "$@" >>"{folder}/calls"\n{text}\n')
    path.chmod(0o755)
    return path


def command(line: str, without: Path, **variables) -> dict:
    """Arguments of `Popen` for a command in a Python that has those packages only."""
    places = os.pathsep.join([str(Path(IPv2Lib.__file__).parents[1]), str(without)])
    environment = {name: text for name, text in os.environ.items() if name != packages.SCRIPT_VARIABLE}
    return {
        "args": [sys.executable, "-S", "-m", "IPv2Lib", *line.split()], "cwd": without.parent,
        "env": {**environment, "PYTHONPATH": places, **variables}, "stderr": subprocess.PIPE, "text": True,
    }  # fmt: skip


DENOISE = "denoise scan.nrrd out.nrrd --engine torch"


@pytest.fixture
def scan(tmp_path) -> Path:
    ramp = np.linspace(-900, 300, 40) + np.zeros((1, 40, 40))
    return files.write(Volume(ramp.astype(np.int16)), tmp_path / "scan.nrrd")


@pytest.mark.parametrize(
    ("line", "what", "package"),
    [
        ("train nothing --out run", "'ipv2 train'", "PyTorch"),
        ("publish run --name x", "'ipv2 publish'", "PyTorch"),
        ("compare x --models input --out y", "comparing", "PyTorch"),
        (DENOISE, "engine 'torch'", "PyTorch"),
        ("simulate scan.nrrd out.nrrd --dose 0.1 --device cuda", "device 'cuda'", "PyTorch"),
        ("prepare scan.nrrd --out out", "a thumbnail of each shard", "matplotlib"),
    ],
)
def test_a_command_says_what_it_lacks(line, what, package, without, scan):
    done = subprocess.run(**command(line, without))
    assert done.returncode == 2
    said = done.stderr.splitlines()[-1]
    extra = {"PyTorch": "torch", "matplotlib": "pictures"}[package]
    assert f'error: {what} needs {package}, which is not installed: pip install "IPv2Lib[{extra}]"' in said
    assert not list(without.parent.glob("out*"))


def test_no_help_and_no_wrong_argument_installs_anything(without):
    installer = script(without.parent, "exit 1")
    for line, code in (("train --help", 0), ("train --no-such-option", 2), ("models", 0)):
        done = subprocess.run(**command(line, without, IPV2_SCRIPT=str(installer)), stdout=subprocess.DEVNULL)
        assert done.returncode == code, done.stderr
    assert not (without.parent / "calls").exists()


def links(*names: str, folder: Path) -> str:
    """A shell command that installs packages."""
    return " ".join(f'ln -s "{INSTALLED}"/{name}* "{folder}";' for name in names)


def test_a_command_goes_on_once_the_script_has_installed_pytorch(without, scan):
    """And once more it is not asked for."""
    installer = script(without.parent, f"{links('torch', 'functorch', folder=without)} cat")
    for number in (1, 2):
        done = subprocess.run(**command(DENOISE, without, IPV2_SCRIPT=str(installer)), input="for the command\n")
        assert done.returncode == 0, done.stderr
        assert json.loads((scan.parent / "out.nrrd.json").read_text(encoding="utf-8"))["engine"] == "torch"
        noted = "ipv2: note: engine 'torch' needs PyTorch: it is installed now, once"
        assert done.stderr.count(noted) == done.stderr.count("PyTorch") == 2 - number
    assert (without.parent / "calls").read_text() == "install\n"


def test_pictures_need_no_pytorch(without):
    installer = script(without.parent, links("matplotlib", folder=without))
    for line in ("phantom chest --size 64 --slices 2", "purify chest/uldct.nrrd chest/ndct.nrrd stages"):
        done = subprocess.run(**command(line, without, IPV2_SCRIPT=str(installer)))
        assert done.returncode == 0, done.stderr
    assert "a picture needs matplotlib: it is installed now, once" in done.stderr
    assert (without.parent / "stages" / "stages.png").exists()
    assert (without.parent / "calls").read_text() == "install pictures\n"


def test_a_node_needs_pynetdicom_alone(without):
    file = node_file(without.parent, '[[rules]]\naction = "keep"')
    done = subprocess.run(**command(f"node {file}", without))
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2, "ipv2 node: error: 'ipv2 node' needs pynetdicom, which is not installed: pip install \"IPv2Lib[node]\"",
    )  # fmt: skip
    installer = script(without.parent, links("pynetdicom", folder=without))
    done = subprocess.run(
        **command(f"node --status {file}", without, IPV2_SCRIPT=str(installer)), stdout=subprocess.DEVNULL
    )
    assert done.returncode == 1, done.stderr  # there is none
    assert (without.parent / "calls").read_text() == "install node\n"


def test_an_installation_that_fails_is_said_in_a_line(without, scan):
    text = "echo 'ERROR: no matching distribution' >&2; echo 'ipv2: see the log; run it again' >&2; exit 1"
    done = subprocess.run(**command(DENOISE, without, IPV2_SCRIPT=str(script(without.parent, text))))
    assert done.returncode == 2
    assert "PyTorch could not be installed: no matching distribution (see the log; run it again)" in done.stderr
    assert "Traceback" not in done.stderr


def test_who_stops_the_command_stops_the_installation(without, scan):
    text = f"trap 'echo cleaned >>\"{without.parent}/calls\"; exit 143' TERM; sleep 60"
    running = subprocess.Popen(**command(DENOISE, without, IPV2_SCRIPT=str(script(without.parent, text))))
    while not (without.parent / "calls").exists() and running.poll() is None:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    assert running.wait(20) == 130
    assert "stopped; nothing was written" in running.communicate()[1]
    assert (without.parent / "calls").read_text() == "install\ncleaned\n"


def test_the_script_installs_nothing_that_it_does_not_know(monkeypatch):
    monkeypatch.setenv(packages.SCRIPT_VARIABLE, "/nonexistent")
    with pytest.raises(InputError, match="a filter needs no_such_package, which is not installed: pip install no_such"):
        packages.need("no_such_package", "a filter")


def test_what_the_script_has_not_installed_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv(packages.SCRIPT_VARIABLE, str(script(tmp_path, "")))
    monkeypatch.setattr(packages, "is_here", lambda package: False)
    with pytest.warns(InputNote), pytest.raises(InputError, match=r"a scheduler needs distributed.*IPv2Lib\[train\]"):
        packages.need("distributed", "a scheduler")
