"""What `chaos.py` disturbs: tiny inputs, the commands, and processes that run them.

A command runs in a fork of this process, in a session of its own, so that it starts at once and a kill hits its work
rather than the loading of libraries. Nothing is computed in this process itself.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
for folder in ("IPv2Denoise", "Testing/unit", "Testing/end_to_end"):
    sys.path.insert(0, str(REPOSITORY / folder))

END_SECONDS = 180.0
"""After which a command that was asked to stop hangs."""

_FILE_EVENTS = frozenset(
    ("open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "os.truncate", "os.scandir", "ctypes.dlopen")
)
_RENAMES = frozenset(("os.rename", "ctypes.dlopen"))  # the latter before two folders are exchanged
_MOST_OPERATIONS = 2**16
_CARD = {
    "title": "Tiny",
    "description": "For tests.",
    "intended_use": "Tests.",
    "limits": "Not trained.",
    "hu_range": [-1024, 3071],
    "training": {"data": [{"name": "None", "licence": "none", "citation": "none"}], "settings": {}, "seed": 0},
    "metrics": {},
}
_TRAIN = (
    "--steps 6 --batch 1 --patch 32 --validate-every 3 --workers 0 --device cpu --checkpoint-minutes 0.0005 "
    "--network unet --argument channels=[4,8] --argument blocks=[1,1]"
)


@dataclass(frozen=True)
class Command:
    """A command that is disturbed.

    Attributes
    ----------
    name : row of the table
    arguments : of `ipv2`; `in/` holds the inputs
    output : file or folder that it makes
    before : arguments of a command that made an earlier result there; empty if there is none
    again : arguments that go on after a stop; empty for the same ones
    replaces : whether the earlier result is to be there, or the new one, at every moment
    stopped : where `before` is stopped, a part of its operations on files; 1 if it is not
    variant : more arguments, for another result; only of commands that make a folder and find none
    """

    name: str
    arguments: str
    output: str
    before: str = ""
    again: str = ""
    replaces: bool = False
    stopped: float = 1.0
    variant: str = ""


_RESUME = "train --out out --resume --device cpu --workers 0"
_MODEL = "--model in/tiny --device cpu"
COMMANDS = (
    Command("denoise file", f"denoise in/a.nrrd out.nrrd {_MODEL}", "out.nrrd"),
    Command(
        "denoise file again", f"denoise in/a.nrrd out.nrrd {_MODEL}", "out.nrrd",
        f"denoise in/b.nrrd out.nrrd --strength 0 {_MODEL}", replaces=True,
    ),
    Command("denoise DICOM", f"denoise in/dicom out/ {_MODEL}", "out", variant="--strength 0.5"),
    Command("denoise several", f"denoise in/a.nrrd in/b.nrrd in/c.nrrd out {_MODEL}", "out", variant="--strength 0.5"),
    Command(
        "denoise workers", f"denoise in/a.nrrd in/b.nrrd in/c.nrrd out --workers 2 {_MODEL}", "out",
        variant="--strength 0.5",
    ),
    Command(
        "denoise retries", f"denoise in/a.nrrd in/b.nrrd in/c.nrrd out --retries 1 {_MODEL}", "out",
        variant="--strength 0.5",
    ),
    Command("convert", "convert in/a.nrrd out.mhd", "out.mhd"),
    Command("convert DICOM", "convert in/a.nrrd out/", "out", variant="--description other"),
    Command("purify", "purify in/b.nrrd in/a.nrrd out --no-pictures", "out", variant="--strategy ipv1"),
    Command(
        "purify --overwrite", "purify in/b.nrrd in/a.nrrd out --no-pictures --overwrite", "out",
        "purify in/c.nrrd in/a.nrrd out --no-pictures --strategy ipv1", replaces=True,
    ),
    Command("prepare", "prepare in/a.nrrd in/b.nrrd in/c.nrrd --out out --split 34 33 33", "out", variant="--seed 5"),
    Command(
        "prepare workers", "prepare in/a.nrrd in/b.nrrd in/c.nrrd --out out --workers 2", "out",
        variant="--seed 5",
    ),
    Command(
        "train", f"train in/data --out out {_TRAIN}", "out", again=_RESUME,
        variant="--seed 5",
    ),
    Command(
        "train workers", f"train in/data --out out {_TRAIN.replace('--workers 0', '--workers 2')}", "out",
        again=_RESUME.replace("--workers 0", "--workers 2"),
    ),
    Command(
        "train --resume", _RESUME, "out",
        f"train in/data --out out {_TRAIN}", stopped=0.6,
    ),
    Command(
        "compare", "compare in/data --models input in/tiny --out out --bootstrap 5 --device cpu", "out",
        variant="--seed 5",
    ),
    Command(
        "compare again", "compare in/data --models input in/tiny --out out --bootstrap 5 --device cpu", "out",
        "compare in/data --models input --out out --bootstrap 5 --device cpu", replaces=True,
    ),
    Command("publish", "publish in/run --out out", "out", variant="--title Other"),
    Command(
        "publish --overwrite", "publish in/run --out out --overwrite --title New", "out",
        "publish in/run --out out --title Old", replaces=True,
    ),
    Command("simulate", "simulate in/a.nrrd out.nii.gz --dose 0.1", "out.nii.gz"),
    Command("phantom", "phantom out --size 64", "out", variant="--seed 5"),
    Command("demo", f"demo --out out {_MODEL}", "out", f"demo --out out --seed 1 {_MODEL}", replaces=True),
)  # fmt: skip
COMMANDS = tuple(replace(command, again=command.again or command.arguments) for command in COMMANDS)


def make_inputs(folder: Path) -> None:
    """Small scans, one DICOM series, a tiny model, a data set and a run in `folder`/in; needs a second or two."""
    import torch
    from dicom_samples import write_scan
    from IPv2Lib.io import files
    from IPv2Lib.models import bundle
    from IPv2Lib.networks import registry
    from small_chest import small_chest

    place = folder / "in"
    place.mkdir(parents=True)
    for seed, name in enumerate("abc"):
        files.write(small_chest(sigma=5.0 + 10 * seed, seed=seed), place / f"{name}.nrrd")
    write_scan(place / "dicom")
    arguments = {"channels": [4, 8], "blocks": [1, 1]}
    weights = registry.build("unet", **arguments).state_dict()
    generator = torch.Generator().manual_seed(0)
    weights = {name: value + 0.02 * torch.randn(value.shape, generator=generator) for name, value in weights.items()}
    bundle.save(place / "tiny", "unet", arguments, weights, _CARD)
    scans = " ".join(f"in/{name}.nrrd" for name in "abc")
    for line in (f"prepare {scans} --out in/data --split 34 33 33", f"train in/data --out in/run {_TRAIN}"):
        running = Running(folder, line)
        if (code := running.wait()) != 0:
            raise RuntimeError(f"{line}: exit code {code}\n{running.error}")


class Running:
    """A command in a fork.

    Parameters
    ----------
    work : Path
        Its working folder; what it says goes to `out` and `err` in `work`'s parent, temporary files to `tmp` there.
    line : str
        Arguments of `ipv2`.
    signal_at : (int, int, bool), optional
        A signal, before which operation on files it comes, and whether the whole group gets it.
    file_bytes : int, optional
        Most bytes of a file.
    setup : callable
        Called in the new process.
    afresh : bool
        Start Python anew, which takes seconds.
    """

    def __init__(
        self,
        work: Path,
        line: str,
        signal_at: tuple[int, int, bool] | None = None,
        file_bytes: int | None = None,
        setup: Callable[[], None] = lambda: None,
        afresh: bool = False,
    ):
        self.line, self.work = line, work
        self.logs = work.parent.with_name("logs")  # on another disk
        self.logs.mkdir(exist_ok=True)
        self._operations = mmap.mmap(-1, _MOST_OPERATIONS)  # the number, and after it a 1 for each that renames
        self.began = time.monotonic()
        self.code: int | None = None
        for name in ("tmp", "home"):
            (work.parent / name).mkdir(exist_ok=True)
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            try:
                self._become(signal_at, file_bytes, setup, afresh)
            except SystemExit as end:
                code = end.code
            except KeyboardInterrupt:  # before the command has begun
                code = 130
            except BaseException as error:
                os.write(2, f"bug: {error!r}\n".encode())
                code = 1
            finally:
                os._exit(code or 0)

    @property
    def operations(self) -> int:
        """How many operations on files there were."""
        return int.from_bytes(self._operations[:8], "little")

    @property
    def error(self) -> str:
        """What it said on stderr."""
        path = self.logs / f"err-{self.pid}"
        return path.read_text(errors="replace") if path.exists() else ""  # it was killed before it began

    @property
    def renames(self) -> list[int]:
        """Which of them give something its name."""
        return [number for number in range(1, self.operations + 1) if self._operations[7 + number]]

    def poll(self) -> int | None:
        """Exit code, negative for a signal; None while it runs."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code

    def send(self, number: int, group: bool) -> None:
        """Send a signal to it or to its group."""
        try:
            (os.killpg if group else os.kill)(self.pid, number)
        except ProcessLookupError:  # it has no group yet
            os.kill(self.pid, number)

    def wait(self, seconds: float = END_SECONDS) -> int | None:
        """Exit code; None if it is killed since it did not end in time."""
        until = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        if self.code is None:
            self.end()
            return None
        return self.code

    def end(self) -> None:
        """Kill it and all that it started."""
        for pid in self.members():
            os.kill(pid, signal.SIGKILL)
        while self.poll() is None:
            time.sleep(0.005)

    def members(self) -> list[int]:
        """Processes of its session that are there."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdecimal():
                try:
                    state, _, _, session = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[:4]
                except OSError:
                    continue
                if int(session) == self.pid and state != "Z":
                    found.append(int(entry))
        return found

    def members_in_the_end(self, seconds: float = 8.0) -> list[int]:
        """Those that are still there after a while."""
        until = time.monotonic() + seconds
        while (found := self.members()) and time.monotonic() < until:
            time.sleep(0.02)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return found

    def _become(
        self, signal_at: tuple[int, int, bool] | None, file_bytes: int | None, setup: Callable[[], None], afresh: bool
    ) -> None:
        os.setsid()
        for number, name in enumerate(("null", "out", f"err-{os.getpid()}")):
            path = os.devnull if not number else self.logs / name
            file = os.open(path, os.O_RDWR | os.O_CREAT | (os.O_TRUNC if number else 0), 0o600)
            os.dup2(file, number)
            os.close(file)
        os.chdir(self.work)
        os.environ |= {
            "TMPDIR": str(self.work.parent / "tmp"), "HOME": str(self.work.parent / "home"), "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(REPOSITORY / "IPv2Denoise"), "QT_QPA_PLATFORM": "offscreen",
            "IPV2_PATIENT_KEY": str(self.work.parents[1] / "patients.key"),  # or labels differ from trial to trial
        }  # fmt: skip
        tempfile.tempdir = None
        sys.modules["__main__"] = types.ModuleType("__main__")  # workers import nothing of this one
        if file_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, resource.RLIM_INFINITY))
        setup()
        if afresh:
            os.execve(sys.executable, [sys.executable, "-m", "IPv2Lib", *self.line.split()], os.environ)
        from IPv2Lib.cli import commands as cli
        from IPv2Lib.cli import demo
        from IPv2Lib.cli.stopping import end_process

        demo.SIZE, demo.SLICES = 64, 3
        me, place, operations = os.getpid(), str(self.work.parent), 0

        def count(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal operations
            if event not in _FILE_EVENTS or os.getpid() != me:
                return
            if event != "ctypes.dlopen":
                path = arguments[0]
                if isinstance(path, int) or not os.path.abspath(os.fsdecode(path)).startswith(place):
                    return
            operations += 1
            self._operations[:8] = operations.to_bytes(8, "little")
            if 7 + operations < _MOST_OPERATIONS:  # of many cases, nobody asks which
                self._operations[7 + operations] = event in _RENAMES
            if signal_at and operations == signal_at[1]:
                (os.killpg if signal_at[2] else os.kill)(me, signal_at[0])

        sys.addaudithook(count)
        end_process(cli.main(self.line.split()))


def fresh(template: Path, trial: Path) -> Path:
    """A working folder as the template is."""
    shutil.rmtree(trial, ignore_errors=True)
    trial.mkdir(parents=True)
    shutil.copytree(template, trial / "work", symlinks=True)
    return trial / "work"


def in_fork(function: Callable[[], object]) -> object:
    """What a function returns (JSON) in a process of its own, so that this one has no threads."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reading)
        try:
            answer = json.dumps(function()).encode()
        except BaseException as error:
            answer = json.dumps({"failed": repr(error)}).encode()
        with open(writing, "wb") as file:
            file.write(answer)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        answer = file.read()
    os.waitpid(pid, 0)
    result = json.loads(answer)
    if isinstance(result, dict) and "failed" in result:
        raise RuntimeError(result["failed"])
    return result
