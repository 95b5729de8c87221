"""Long work for `chaos.py`: many cases, while workers die, and a scheduler once."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from chaos_commands import REPOSITORY, Running, in_fork
from IPv2Lib.inference.cohort import DENOISED, FAILED, KEPT

if TYPE_CHECKING:
    from chaos import Chaos

_LONG_SECONDS = 7200.0
_PREPARE = "prepare in --out out"


def cases_on_workers(chaos: Chaos, name: str, cases: int, every: float) -> None:
    """Prepare or denoise many cases on two workers, of which one dies every so many seconds."""
    model = chaos.folder / "template" / "in" / "tiny"
    names = " ".join(f"in/case{number}.nrrd" for number in range(cases))
    line = {
        "prepare": f"{_PREPARE} --workers 2",
        "denoise": f"denoise {names} out --workers 2 --device cpu --model {model}",
    }[name]
    row = ("long", f"{name}, {cases} cases, workers die")
    work = _scans(chaos.trial, cases)
    chaos.start(row)
    running = Running(work, line)
    killed, until = 0, time.monotonic() + every
    while running.poll() is None and time.monotonic() - running.began < _LONG_SECONDS:
        if time.monotonic() > until and (workers := _workers(running)):
            os.kill(workers[killed % len(workers)], signal.SIGKILL)
            killed, until = killed + 1, time.monotonic() + every
        time.sleep(0.02)
    chaos.rows[row]["hit"] += killed
    where = f"exit code {running.code}, {killed} workers killed"
    done, named = _state(work / "out")
    if len(done | named) != cases or (running.code != 0) != bool(named) or running.code not in (0, 1):
        chaos.wrong(row, "wrong end", f"{where}: {len(done)} done, {len(named)} named: {running.error[-300:]}")
    _again(chaos, row, work, line, cases, where)


def cases_on_scheduler(chaos: Chaos, cases: int) -> None:
    """Prepare cases on a Dask scheduler, which dies once; then on another one."""
    if shutil.which("dask", path=str(Path(sys.executable).parent)) is None:
        print("long: no Dask here, so nothing is done on a scheduler", file=sys.stderr)
        return
    row = ("long", f"prepare, {cases} cases, scheduler dies")
    work = _scans(chaos.trial, cases)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = f"{_PREPARE} --scheduler tcp://127.0.0.1:{port}"
    chaos.start(row)
    cluster = _cluster(port, chaos.folder)
    try:
        running = Running(work, line, afresh=True)
        while running.poll() is None and len(_state(work / "out")[0]) < cases // 4:
            time.sleep(0.05)
        cluster[0].kill()
        chaos.rows[row]["hit"] += running.poll() is None
        code = running.wait(120)
        lines = [
            text for text in running.error.splitlines() if text and "distributed" not in text and "note:" not in text
        ]
        if code != 2 or len(lines) != 1 or "scheduler" not in lines[-1]:
            chaos.wrong(row, "wrong end", f"exit code {code}: {lines[-3:]}")
    finally:
        _end(cluster)
    cluster = _cluster(port, chaos.folder)
    try:
        _again(chaos, row, work, line, cases, "another scheduler")
    finally:
        _end(cluster)


def _again(chaos: Chaos, row: tuple[str, str], work: Path, line: str, cases: int, where: str) -> None:
    running = Running(work, line, afresh="--scheduler" in line)
    code = running.wait(_LONG_SECONDS)
    done, named = _state(work / "out")
    if code != 0 or len(done) != cases or named:
        text = f"{where}, then exit code {code}: {len(done)} done, {sorted(named)[:3]} named: {running.error[-300:]}"
        chaos.wrong(row, "fails again", text)
    import chaos_judge as judge

    for text in in_fork(lambda: judge.damaged(work)):
        chaos.wrong(row, "half-written", text)
    if left := [*judge.leftovers(chaos.trial), *running.members_in_the_end()]:
        chaos.wrong(row, "leftovers", f"{where}: {left[:5]}")


def _scans(trial: Path, cases: int) -> Path:
    def write() -> None:
        from IPv2Lib.io import files
        from small_chest import small_chest

        for number in range(cases):
            place = trial / "work" / "in" / f"case{number}.nrrd"
            files.write(small_chest(size=48, sigma=5.0, seed=number), place, compress=False)

    shutil.rmtree(trial, ignore_errors=True)
    (trial / "work" / "in").mkdir(parents=True)
    in_fork(write)
    return trial / "work"


def _workers(running: Running) -> list[int]:
    found = []
    for pid in running.members():
        with suppress(OSError):
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def _state(out: Path) -> tuple[set[str], set[str]]:
    """Names of the cases that are done, and of those that are said to have failed."""
    with suppress(OSError, ValueError):
        record = json.loads((out / "dataset.json").read_text(encoding="utf-8"))
        return {shard["case"] for shard in record["shards"]}, {failed["case"] for failed in record["failed"]}
    with suppress(OSError), open(out / "report.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
        failed = {row["input"] for row in rows if row["status"] == FAILED}
        return {row["input"] for row in rows if row["status"] in (DENOISED, KEPT)}, failed
    return set(), set()


def _cluster(port: int, folder: Path) -> list[subprocess.Popen]:
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "IPv2Denoise")}
    options = {"cwd": folder, "env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    dask = str(Path(sys.executable).parent / "dask")
    address = f"tcp://127.0.0.1:{port}"
    scheduler = [dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = [dask, "worker", address, "--nthreads", "1", "--nworkers", "1", "--no-dashboard", "--death-timeout", "60"]
    return [subprocess.Popen(line, **options) for line in (scheduler, worker)]


def _end(cluster: list[subprocess.Popen]) -> None:
    for process in cluster:
        process.terminate()
    for process in cluster:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
