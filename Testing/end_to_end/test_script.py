"""The ipv2 script: prepares its environment once, completes a broken one, passes arguments on from anywhere.

Python and pip are stand-ins that write down how they are called, so this takes no network and no time; what they
are asked to install is the wheel test's and the continuous integration's to prove.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell script")

# Runs real Python for the script's own snippets; "-m venv" makes a folder with another stand-in for its Python.
PYTHON = f"""#!/bin/sh
case "$*" in
"-m venv "*) mkdir -p "$3/bin" "$3/lib/python3/site-packages/numpy" && cp "$STAND_INS/venv-python" "$3/bin/python" ;;
*) exec "{sys.executable}" "$@" ;;
esac
"""
VENV_PYTHON = """#!/bin/sh
echo "$*" >>"$STAND_INS/calls"
case "$*" in
*--editable*)
    [ ! -e "$STAND_INS/no-network" ] || { echo "no network" >&2; exit 1; }
    printf '#!/bin/sh\\nprintf "<%%s>" "$PWD" "$@"\\nexit 7\\n' >"${0%/*}/ipv2"
    chmod +x "${0%/*}/ipv2"
    ;;
*"IPv2Lib[pictures]"*) mkdir "${0%/*}/../lib/python3/site-packages/matplotlib" || exit 1 ;;
*"IPv2Lib[all]"*)
    mkdir "${0%/*}/../lib/python3/site-packages/torch" || exit 1
    [ ! -e "$STAND_INS/stays" ] || { touch "$STAND_INS/waits"; exec sleep 60; }
    [ ! -e "$STAND_INS/no-network" ] || { echo "ERROR: no network" >&2; exit 1; }
    ;;
"-c import torch") exit 1 ;;
esac
"""


class Checkout:
    """A copy of the script in a folder with a space in its name, and the stand-ins on PATH."""

    def __init__(self, folder: Path):
        self.root = folder / "check out"
        self.stand_ins = folder / "bin"
        self.root.mkdir()
        self.stand_ins.mkdir()
        shutil.copy(REPOSITORY / "ipv2", self.root)
        (self.root / "pyproject.toml").write_text("first\n")
        scripts = {
            "python3": PYTHON,
            "venv-python": VENV_PYTHON,
            "dpkg-query": "#!/bin/sh\nprintf installed\n",
            "nvidia-smi": "#!/bin/sh\nexit 1\n",
        }
        for name, text in scripts.items():
            (self.stand_ins / name).write_text(text)
            (self.stand_ins / name).chmod(0o755)

    def run(self, *arguments, script: Path | None = None) -> subprocess.CompletedProcess:
        command = [script or self.root / "ipv2", *arguments]
        return subprocess.run(command, cwd="/", env=self.environment(), capture_output=True, text=True, timeout=60)

    def environment(self) -> dict[str, str]:
        path = f"{self.stand_ins}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "STAND_INS": str(self.stand_ins)}

    def installations(self, of: str = "--editable") -> list[str]:
        calls = self.stand_ins / "calls"
        return [line for line in calls.read_text().splitlines() if of in line] if calls.exists() else []

    def packages(self) -> set[str]:
        return {path.name for path in (self.root / ".venv" / "lib" / "python3" / "site-packages").iterdir()}


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return Checkout(tmp_path)


def test_the_first_use_prepares_and_the_second_only_runs(checkout):
    first, second = checkout.run("denoise", "a b"), checkout.run("denoise", "a b")
    assert "preparing the Python environment" in first.stderr
    assert second.stderr == ""
    assert first.stdout == second.stdout == "</><denoise><a b>"
    assert first.returncode == second.returncode == 7
    (installation,) = checkout.installations()
    assert installation.endswith(f"--editable {checkout.root}"), "without PyTorch, nor what comes with it"
    assert not checkout.installations("torch==")


def test_a_chain_of_links_leads_to_the_same_environment(checkout, tmp_path):
    (tmp_path / "far").symlink_to(checkout.root / "ipv2")
    (checkout.stand_ins / "near").symlink_to(Path("..", "far"))
    assert checkout.run("x", script=checkout.stand_ins / "near").stdout == "</><x>"
    assert (checkout.root / ".venv" / "bin" / "ipv2").exists()


def test_a_failed_installation_shows_the_log_and_the_next_run_starts_afresh(checkout):
    (checkout.stand_ins / "no-network").touch()
    failed = checkout.run("x")
    assert failed.returncode == 1 and failed.stdout == ""
    assert "no network" in failed.stderr and str(checkout.root / ".venv" / "install.log") in failed.stderr

    (checkout.stand_ins / "no-network").unlink()
    leftover = checkout.root / ".venv" / "leftover"
    leftover.touch()
    assert checkout.run("x").stdout == "</><x>"
    assert not leftover.exists()


def test_a_changed_pyproject_updates_the_environment_in_place(checkout):
    checkout.run()
    kept = checkout.root / ".venv" / "kept"
    kept.touch()
    (checkout.root / "pyproject.toml").write_text("second\n")
    assert "up to date" in checkout.run().stderr
    assert checkout.run().stderr == ""
    assert kept.exists() and len(checkout.installations()) == 2


def test_test_installs_its_extra_then_runs_ruff_and_pytest_with_the_arguments(checkout):
    checkout.run()
    pytest = "-m pytest -n logical --dist loadfile"
    for arguments, line in (
        (["-k", "a or b"], "-k a or b"),
        (["--coverage", "--fast", "-n", "1"], "--cov --cov-report=term -m not slow -n 1"),
    ):
        assert checkout.run("test", *arguments).returncode == 0
        calls = (checkout.stand_ins / "calls").read_text().splitlines()
        assert calls[-2:] == ["-m ruff check .", f"{pytest} {line}"]
    assert f"{checkout.root}[test]" in checkout.installations()[-1]
    assert checkout.run().stderr == "", "the test extra includes what a plain run needs"


def test_what_denoising_does_not_need_is_added_once(checkout):
    checkout.run("denoise")
    first, second = checkout.run("install"), checkout.run("install")
    assert first.returncode == second.returncode == 0
    assert "installing PyTorch and the rest, once" in first.stderr and second.stderr == ""
    assert len(checkout.installations("IPv2Lib[all]")) == len(checkout.installations()) == 1
    assert checkout.packages() == {"numpy", "torch"}
    assert checkout.run("denoise").stderr == ""


def test_pictures_are_added_without_pytorch(checkout):
    checkout.run("denoise")
    assert checkout.run("install", "pictures").returncode == 0
    assert checkout.packages() == {"numpy", "matplotlib"} and not checkout.installations("torch==")
    assert checkout.run("install", "pictures").stderr == checkout.run("denoise").stderr == ""
    (checkout.root / "pyproject.toml").write_text("second\n")
    checkout.run("denoise")
    assert checkout.installations()[-1].endswith(f"--editable {checkout.root}[pictures]")
    assert checkout.run("install").returncode == 0 and checkout.packages() == {"numpy", "matplotlib", "torch"}
    assert checkout.run("install", "pictures").stderr == ""
    assert checkout.run("install", "nonsense").returncode == 1


def test_everything_can_be_installed_at_first(checkout):
    assert checkout.run("install").returncode == 0
    (installation,) = checkout.installations()
    assert installation.endswith(f"--editable {checkout.root}[all]")
    assert checkout.run("denoise").stderr == ""


def test_a_changed_pyproject_keeps_what_was_added(checkout):
    checkout.run("install")
    (checkout.root / "pyproject.toml").write_text("second\n")
    checkout.run("denoise")
    assert checkout.installations()[-1].endswith(f"--editable {checkout.root}[all]")
    assert checkout.run("install").stderr == ""


def test_what_cannot_be_added_leaves_everything_as_it_was(checkout):
    checkout.run("denoise")
    (checkout.stand_ins / "no-network").touch()
    failed = checkout.run("install")
    assert failed.returncode == 1 and "ERROR: no network" in failed.stderr
    assert "The installation failed" in failed.stderr.splitlines()[-1]
    assert checkout.packages() == {"numpy"}
    assert checkout.run("denoise").stderr == ""
    (checkout.stand_ins / "no-network").unlink()
    assert checkout.run("install").returncode == 0 and checkout.packages() == {"numpy", "torch"}


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_an_addition_that_is_stopped(checkout, how):
    """Others denoise meanwhile and afterwards; what was not finished goes away, at once or with the next addition."""
    checkout.run("denoise")
    (checkout.stand_ins / "stays").touch()
    adding = subprocess.Popen(
        [checkout.root / "ipv2", "install"], env=checkout.environment(), stderr=subprocess.PIPE, start_new_session=True
    )
    while not (checkout.stand_ins / "waits").exists() and adding.poll() is None:
        time.sleep(0.02)
    assert checkout.run("denoise").stderr == ""
    adding.send_signal(how)
    os.killpg(adding.pid, signal.SIGKILL if how == signal.SIGKILL else signal.SIGTERM)
    adding.communicate(timeout=30)
    assert checkout.run("denoise").stderr == ""
    assert checkout.packages() == ({"numpy"} if how == signal.SIGTERM else {"numpy", "torch"})
    (checkout.stand_ins / "stays").unlink()
    assert checkout.run("install").returncode == 0  # the stand-in fails where there is a torch already
    assert checkout.packages() == {"numpy", "torch"}


def test_an_unsuitable_python_is_said(checkout):
    for name in ("python3", "python3.13", "python3.12", "python3.11", "python3.10"):
        (checkout.stand_ins / name).write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2\nexit 1\n')
        (checkout.stand_ins / name).chmod(0o755)
    done = checkout.run("--help")
    assert done.returncode == 1
    assert "no Python 3.10 to 3.13 found; python3 is Python 3.9.2" in done.stderr
