"""Full disks and odd surroundings for `chaos.py`."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chaos_commands import fresh

_DISK_BYTES = 64 * 2**20
_PAGE = 4096
_NOBODY = 65534


@contextmanager
def disk(trial: Path, template: Path, room: int) -> Iterator[tuple[Path, int | None, Callable[[], None]]]:
    """A working folder on a disk with little room: the folder, else the most bytes of a file, and what makes room."""
    shutil.rmtree(trial, ignore_errors=True)
    trial.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "chaos", str(trial)]
    if os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        yield fresh(template, trial), max(room // 2, 100), lambda: None
        return
    try:
        shutil.copytree(template, trial / "work", symlinks=True)
        for name in ("tmp", "home"):
            (trial / name).mkdir()
        ballast = trial / "ballast"
        free = os.statvfs(trial)
        with open(ballast, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, max(_PAGE, free.f_bavail * free.f_frsize - room // _PAGE * _PAGE))
        yield trial / "work", None, ballast.unlink
    finally:
        subprocess.run(["umount", "--lazy", str(trial)], check=True)


@dataclass(frozen=True)
class Surrounding:
    """Where a command runs.

    Attributes
    ----------
    setup : called in its process
    may_refuse : whether it may say in one line that it cannot work there
    afresh : whether Python has to start there
    harmed : what was done to somebody else's files
    clear : called in this process afterwards
    """

    setup: Callable[[], None]
    may_refuse: bool = False
    afresh: bool = False
    harmed: Callable[[], str] = lambda: ""
    clear: Callable[[], None] = lambda: None


def surroundings(trial: Path) -> dict[str, Surrounding]:
    """All of them, by name."""
    victim = trial / "victim"

    def without(*names: str) -> Callable[[], None]:
        return lambda: [os.environ.pop(name, None) for name in names] and None

    def full(*streams: int) -> Callable[[], None]:
        return lambda: [os.dup2(os.open("/dev/full", os.O_WRONLY), stream) for stream in streams] and None

    def closed(*streams: int) -> Callable[[], None]:
        return lambda: [os.close(stream) for stream in streams] and None

    def few_files() -> None:
        most = max(map(int, os.listdir("/proc/self/fd"))) + 8
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    def little_memory() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * _PAGE + 64 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    def somebody_else() -> None:
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)

    def plant() -> None:
        victim.write_text("kept")
        work = trial / "work"
        left = f".ipv2-{platform.node()}~999999999~1~1"  # as of a killed process
        for name in (".out.nrrd.part", "out.nrrd.part", "out.part", ".ipv2-out", left, "out.json.tmp"):
            (work / name).symlink_to(victim)

    def unplant() -> None:
        for path in (trial / "work").iterdir():
            if path.is_symlink():
                path.unlink()

    found = {
        "no HOME": Surrounding(without("HOME", "USER", "LOGNAME", "XDG_DATA_HOME", "XDG_CACHE_HOME"), afresh=True),
        "no PATH": Surrounding(without("PATH")),
        "no TMPDIR": Surrounding(lambda: os.environ.__setitem__("TMPDIR", "/proc/nowhere")),
        "no UTF-8": Surrounding(
            lambda: os.environ.update(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii"),
            afresh=True,
        ),
        "streams closed": Surrounding(closed(0, 1, 2), afresh=True),
        "stdout closed": Surrounding(closed(1), afresh=True),
        "streams full": Surrounding(full(1, 2)),
        "few descriptors": Surrounding(few_files, may_refuse=True),
        "little memory": Surrounding(little_memory, may_refuse=True),
        "planted links": Surrounding(
            plant, harmed=lambda: "" if victim.read_text() == "kept" else "a planted link was followed", clear=unplant
        ),
    }
    if os.geteuid() == 0:
        found["another user"] = Surrounding(somebody_else, may_refuse=True)
    return found
