"""Commands whose streams are closed, full, or read by nobody: the work is done, and the exit code says whether."""

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path

import IPv2Lib
import pytest
from IPv2Lib.io import files
from IPv2Lib.models import bundle
from small_chest import small_chest

LIBRARY = str(Path(IPv2Lib.__file__).parents[1])
ENVIRONMENT = {**os.environ, "PYTHONPATH": LIBRARY, "OMP_NUM_THREADS": "1"}

posix = pytest.mark.skipif(os.name != "posix", reason="streams of POSIX")
full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")


@pytest.fixture
def shell(tmp_path):
    """Run a line of shell in which IPV2 is the command, beside a scan; exit code and stderr."""
    files.write(small_chest(), tmp_path / "scan.nrrd")

    def run(line: str, **environment: str | None) -> tuple[int, str]:
        line = line.replace("IPV2", f"{sys.executable} -m IPv2Lib")
        changed = {name: text for name, text in (ENVIRONMENT | environment).items() if text is not None}
        done = subprocess.run(["bash", "-c", line], cwd=tmp_path, env=changed, capture_output=True, text=True)
        return done.returncode, done.stderr

    return run


@posix
@pytest.mark.parametrize(
    "streams",
    [
        "--json | head -1; exit ${PIPESTATUS[0]}",
        "| true; exit ${PIPESTATUS[0]}",
        ">&-",
        "--json >&-",
        "2>&-",
        "<&- >&- 2>&-",
        pytest.param("2>/dev/full", marks=full),
        pytest.param(">/dev/full", marks=full),
        pytest.param("--json >/dev/full", marks=full),
    ],
)
def test_the_work_is_done_whoever_listens(shell, tmp_path, streams):
    code, err = shell(f"IPV2 convert scan.nrrd out {streams}")
    assert code == 0, err
    assert len(list((tmp_path / "out").iterdir())) == 3 and (tmp_path / "out.json").exists()
    assert "bug" not in err and "Traceback" not in err and "Exception ignored" not in err
    assert ("could not be said (the disk is full)" in err) == (">/dev/full" in streams and "2>" not in streams)


@full
def test_a_command_that_only_answers_fails_when_its_answer_is_lost(shell):
    code, err = shell("IPV2 evaluate scan.nrrd scan.nrrd >/dev/full")
    assert code == 2 and err.splitlines() == [
        "ipv2 evaluate: error: the result could not be written (the disk is full): write it to another place"
    ]
    assert shell("IPV2 evaluate scan.nrrd scan.nrrd >&-") == (0, "")  # nobody wants to read it


@posix
def test_an_error_has_its_exit_code_whoever_listens(shell):
    for streams in ("2>&-", ">&- 2>&-", ">&-", "--json >&-"):
        assert shell(f"IPV2 evaluate none.nrrd scan.nrrd {streams}")[0] == 2


@posix
def test_an_environment_with_nothing_in_it(shell, tmp_path):
    """Neither HOME nor TERM nor PATH, and nobody whom the system knows."""
    none = {name: None for name in os.environ if not name.startswith("COVERAGE")} | {"PYTHONPATH": LIBRARY}
    code, err = shell("IPV2 phantom out --size 64 --slices 2", **none)
    assert (code, err) == (0, "")


@posix
def test_a_user_without_a_home_has_the_models_that_come_along(monkeypatch):
    def unknown(number):
        raise KeyError(number)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_DATA_HOME"):
        monkeypatch.delenv(name, raising=False)
    models, problems = bundle.scan()
    assert models and not problems
    assert not bundle.user_folder().exists()


def test_a_reader_that_leaves_in_the_middle_stops_nothing(tmp_path):
    """Unlike `head`, it goes when there is certainly more to come."""
    process = subprocess.Popen(
        [sys.executable, "-m", "IPv2Lib", "phantom", "out", "--size", "64", "--slices", "2", "--json"],
        cwd=tmp_path, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert json.loads(process.stdout.readline())["event"] == "progress"
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait() == 0
    assert (tmp_path / "out" / "ndct.nrrd").exists()
