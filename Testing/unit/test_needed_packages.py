"""Packages that are missing: a line says what to do, or the script `ipv2` installs them and the command goes on."""

import os
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import IPv2Lib
import pytest
from IPv2Lib import packages
from IPv2Lib.errors import InputError, InputNote

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the script is for POSIX shells")
INSTALLED = Path(sysconfig.get_path("purelib"))


@pytest.fixture
def without(tmp_path) -> Path:
    """A folder of the packages that are installed here, but for PyTorch and what needs it."""
    folder = tmp_path / "packages"
    folder.mkdir()
    for path in INSTALLED.iterdir():
        if not path.name.startswith(("torch", "functorch")) and path.suffix != ".pth":
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


PHANTOM = "phantom chest --size 64 --slices 1"


@pytest.mark.parametrize("line", [PHANTOM, "train nothing --out run", "publish run --name x", "demo"])
def test_a_command_says_what_it_lacks(line, without):
    done = subprocess.run(**command(line, without))
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    needs = f"error: 'ipv2 {line.split()[0]}' needs PyTorch"
    assert f'{needs}, which is not installed: pip install "IPv2Lib[torch]"' in said
    assert not (without.parent / "chest").exists()


def test_no_help_and_no_wrong_argument_installs_anything(without):
    installer = script(without.parent, "exit 1")
    for line, code in (("phantom --help", 0), ("phantom --no-such-option", 2), ("models", 0)):
        done = subprocess.run(**command(line, without, IPV2_SCRIPT=str(installer)), stdout=subprocess.DEVNULL)
        assert done.returncode == code, done.stderr
    assert not (without.parent / "calls").exists()


def test_a_command_goes_on_once_the_script_has_installed_pytorch(without):
    """And once more it is not asked for."""
    installer = script(without.parent, f'ln -s "{INSTALLED}"/torch* "{INSTALLED}"/functorch* "{without}"; cat')
    for number in (1, 2):
        done = subprocess.run(
            **command(f"{PHANTOM} --overwrite", without, IPV2_SCRIPT=str(installer)), input="for the command\n"
        )
        assert done.returncode == 0, done.stderr
        assert (without.parent / "chest" / "uldct.nrrd").exists()
        noted = "ipv2: note: 'ipv2 phantom' needs PyTorch: it is installed now, once"
        assert (noted in done.stderr) == (number == 1) and len(done.stderr.splitlines()) == 2 - number
    assert (without.parent / "calls").read_text() == "install\n"


def test_an_installation_that_fails_is_said_in_a_line(without):
    text = "echo 'ERROR: no matching distribution' >&2; echo 'ipv2: see the log; run it again' >&2; exit 1"
    done = subprocess.run(**command(PHANTOM, without, IPV2_SCRIPT=str(script(without.parent, text))))
    assert done.returncode == 2
    assert "PyTorch could not be installed: no matching distribution (see the log; run it again)" in done.stderr
    assert len(done.stderr.splitlines()) == 2 and "Traceback" not in done.stderr


def test_who_stops_the_command_stops_the_installation(without):
    text = f"trap 'echo cleaned >>\"{without.parent}/calls\"; exit 143' TERM; sleep 60"
    running = subprocess.Popen(**command(PHANTOM, without, IPV2_SCRIPT=str(script(without.parent, text))))
    while not (without.parent / "calls").exists():
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
