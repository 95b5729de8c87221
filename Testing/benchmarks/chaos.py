"""Stop it, fill the disk, run it twice: is anything lost, half-written, mixed, or left behind?

    python Testing/benchmarks/chaos.py [--kills 100] [--disks 60] [--long 1000] [--minutes M] [--seed 0]
                                       [--only PART ...] [--commands NAME ...]

Tiny inputs, so that nearly all the time of a command is spent where it matters. Each trial is drawn from the seed, its
part, its command and its number alone: the same seed, the same trials, but for what the clock decides. With --minutes,
parts share that time and stop when theirs is over. Needs Linux; full disks are small file systems in memory, for which
one has to be root, or else a limit on the size of files.

- kills: SIGKILL, SIGTERM, SIGINT or SIGHUP, to the process or to its group, before one of its operations on files or
  at any time; then the same command again, at once or when all that it has started has ended
- disks: somewhere on the way the disk is full; then there is room, and the same command again
- pairs: every two commands that make a folder, at the same time, one folder
- odd: no HOME, TMPDIR, PATH; closed streams, full ones; few descriptors, little memory; another user; no UTF-8; links
  planted at the names of what commands write beside a result
- long: many cases on two workers, one of which is killed again and again
- scheduler: cases on a Dask scheduler that is killed once

Columns after the first two, where all are to be 0:

- half-written: a visible file that cannot be read
- inputs changed
- lost: of a result that is replaced, neither the old nor the new one is there
- mixed: what is there, at once or after the same command, is neither the one result nor the other
- fails again: the same command does not go on, or make the result
- leftovers: hidden files, files in TMPDIR or processes after that command
- wrong end: an exit code or lines that do not say what happened: "bug", a traceback, a crash, no end
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import chaos_judge as judge
from chaos_commands import COMMANDS, Command, Running, fresh, in_fork, make_inputs
from chaos_surroundings import disk, surroundings
from chaos_work import cases_on_scheduler, cases_on_workers

COLUMNS = (
    "tried", "hit", "half-written", "inputs changed", "lost", "mixed", "fails again", "leftovers", "wrong end",
)  # fmt: skip
PARTS = ("kills", "disks", "pairs", "odd", "long", "scheduler")
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STOPPED = 130
_AT_OPERATION = 0.75  # of the kills
_NOT_COMPARED = ("log.csv", "cases.csv", "report.csv", "checkpoint.pt", "status.json")  # say what happened on the way


class Chaos:
    """All trials and what came of them.

    Parameters
    ----------
    folder : Path
        Empty; for the trials.
    seed : int
    say : callable
        Called with each thing that is wrong.
    """

    def __init__(self, folder: Path, seed: int, say: Callable[[str], None]):
        self.folder, self.seed, self._say = folder, seed, say
        self.trial = folder / "trial"
        self.rows: dict[tuple[str, str], Counter[str]] = {}
        in_fork(lambda: make_inputs(folder / "template"))
        self._template = folder / "template"
        self._inputs = in_fork(lambda: judge.tree(self._template / "in"))
        self._known: dict[str, dict] = {}

    def rng(self, *names: object) -> random.Random:
        """Random numbers of a trial."""
        return random.Random(":".join(map(str, (self.seed, *names))))

    def wrong(self, row: tuple[str, str], column: str, text: object) -> None:
        """Count something that is not as it should be."""
        self.rows[row][column] += 1
        self._say(f"{' '.join(row)}: {column}: {text}")

    def start(self, row: tuple[str, str]) -> None:
        """Count a trial."""
        self.rows.setdefault(row, Counter())["tried"] += 1

    def template(self, command: Command) -> Path:
        """The folder that a command finds, with an earlier result where it replaces one."""
        if not command.before:
            return self._template
        place = self.folder / f"template {command.name}"
        if not place.exists():
            work = fresh(self._template, self.trial)
            if command.stopped < 1:
                whole = Running(work, command.before)
                self._sound(whole)
                work = fresh(self._template, self.trial)
                Running(work, command.before, (signal.SIGTERM, int(command.stopped * whole.operations), False)).wait()
            else:
                self._sound(Running(work, command.before))
            shutil.copytree(work, place, symlinks=True)
        return place

    def known(self, command: Command, more: str = "") -> dict:
        """What comes of a command that nobody disturbs, and of `before`; how long it takes; its operations on files."""
        line = f"{command.arguments} {more}".strip()
        key = f"{command.name} {line}"
        if key not in self._known:
            work = fresh(self.template(command), self.trial)
            old = in_fork(lambda: judge.result(work))
            began = time.monotonic()
            running = Running(work, line)
            self._sound(running)
            size = sum(path.stat().st_size for path in judge.outputs_of(work))
            if left := judge.leftovers(self.trial):
                raise RuntimeError(f"{line} leaves {left}")
            self._known[key] = {
                "old": old, "new": in_fork(lambda: judge.result(work)), "seconds": time.monotonic() - began,
                "operations": running.operations, "renames": running.renames, "bytes": size,
            }  # fmt: skip
        return self._known[key]

    @staticmethod
    def _sound(running: Running) -> None:
        if (code := running.wait()) != 0:
            raise RuntimeError(f"ipv2 {running.line}: exit code {code}\n{running.error}")

    # --- kills -------------------------------------------------------------------------------------------------

    def kill(self, command: Command, number: int) -> None:
        """Kill a command somewhere, and run it again."""
        row = ("kill", command.name)
        known, rng = self.known(command), self.rng("kill", command.name, number)
        work = fresh(self.template(command), self.trial)
        sent, group, at = rng.choice(SIGNALS), rng.random() < 0.5, rng.random()
        self.start(row)
        if rng.random() < _AT_OPERATION:
            operation = 1 + int(at * known["operations"])
            if known["renames"] and rng.random() < 0.5:  # which is where most can go wrong: before one, or after it
                operation = rng.choice(known["renames"]) + rng.randrange(2)
            where = f"at operation {operation} of {known['operations']}"
            running = Running(work, command.arguments, (sent, operation, group))
        else:
            where = f"after {(seconds := at * known['seconds']):.3f} s"
            running = Running(work, command.arguments)
            while running.poll() is None and time.monotonic() - running.began < seconds:
                time.sleep(0.002)
            if running.poll() is None:
                running.send(sent, group)
        running.wait()
        at_once = rng.random() < 0.5  # while what it has started may still be ending
        where = f"trial {number}, {sent.name}{' to the group' if group else ''} {where}, exit code {running.code}"
        where += ", at once" if at_once else ""
        if running.code != 0:
            self.rows[row]["hit"] += 1
        self._check_end(row, running, sent, where)
        if at_once:
            self.after(row, command, known, work, where)
        if left := running.members_in_the_end():
            self.wrong(row, "leftovers", f"{where}: {len(left)} processes")
        if not at_once:
            self.after(row, command, known, work, where)

    def _check_end(self, row: tuple[str, str], running: Running, sent: signal.Signals, where: str) -> None:
        right = (0, -sent) if sent == signal.SIGKILL else (0, STOPPED, -sent)
        lines = [line for line in running.error.splitlines() if line]
        if running.code not in right or any("Traceback" in line or "bug" in line for line in lines):
            self.wrong(row, "wrong end", f"{where}: {lines[-3:]}")

    # --- full disks --------------------------------------------------------------------------------------------

    def fill(self, command: Command, number: int) -> None:
        """Let a command meet a full disk, make room, and run it again."""
        row = ("full disk", command.name)
        known, rng = self.known(command), self.rng("disk", command.name, number)
        template, room = self.template(command), int(rng.random() * (known["bytes"] * 1.2 + 50_000))
        self.start(row)
        with disk(self.trial, template, room) as (work, file_bytes, make_room):
            where = f"trial {number}, room for {room} bytes"
            running = Running(work, command.arguments, file_bytes=file_bytes)
            running.wait()
            lines = [line for line in running.error.splitlines() if line]
            if running.code != 0:
                self.rows[row]["hit"] += 1
                text = " ".join(lines)
                told = "disk is full" in text or (file_bytes is not None and "File too large" in text)
                if running.code not in (1, 2) or "Traceback" in text or "bug" in text or not told or ".ipv2-" in text:
                    self.wrong(row, "wrong end", f"{where}, exit code {running.code}: {lines[-3:]}")
            running.members_in_the_end()
            make_room()
            self.after(row, command, known, work, where)

    # --- after a disturbance -----------------------------------------------------------------------------------

    def after(self, row: tuple[str, str], command: Command, known: dict, work: Path, where: str) -> None:
        """Look at what is there, run the same command again, and look once more."""
        found = in_fork(lambda: self._seen(work))
        for text in found["damaged"]:
            self.wrong(row, "half-written", f"{where}: {text}")
        if found["inputs"] != self._inputs:
            self.wrong(row, "inputs changed", where)
        there, old, new = found["result"], known["old"], known["new"]
        for image in found["told"]:  # and believed
            pair = {name: there.get(name) for name in (image, f"{image}.json")}
            if not any(pair.items() <= whole.items() for whole in (old, new)):
                self.wrong(row, "mixed", f"{where}: {image} and what is said of it")
        if command.replaces and there is not None:
            if missing := old.keys() - there.keys():
                self.wrong(row, "lost", f"{where}: {sorted(missing)}")
            elif not any(_agree(there, whole, command) for whole in (old, new)):
                self.wrong(row, "mixed", f"{where}: {_differing(there, old)} and {_differing(there, new)}")
        is_done = there is not None and _agree(there, new, command)
        begun = (work / command.output / "settings.json").is_file()
        running = Running(work, command.again if begun else command.arguments)
        code = running.wait()
        exists = is_done and code == 2 and ("earlier result" in running.error or "exists" in running.error or
            "not empty" in running.error or "already" in running.error or "is completed" in running.error)  # fmt: skip
        if code != 0 and not exists:
            self.wrong(row, "fails again", f"{where}, then exit code {code}: {running.error[-300:]}")
        else:
            found = in_fork(lambda: self._seen(work))
            if found["damaged"] or not _agree(found["result"] or {}, new, command):
                what = found["damaged"] or _differing(found["result"], new)
                self.wrong(row, "mixed", f"{where}, after it was run again: {what}")
        if left := judge.leftovers(self.trial):
            self.wrong(row, "leftovers", f"{where}: {left}")
        if left := running.members_in_the_end():
            self.wrong(row, "leftovers", f"{where}: {len(left)} processes")

    def _seen(self, work: Path) -> dict:
        damaged = judge.damaged(work)
        return {
            "damaged": damaged,
            "inputs": judge.tree(work / "in"),
            "told": [] if damaged else judge.told(work),
            "result": None if damaged else judge.result(work),
        }

    # --- two at a time -----------------------------------------------------------------------------------------

    def pair(self, one: Command, two: Command, number: int) -> None:
        """Run two commands into one folder at a time; the second one with its variant."""
        row = ("at once", f"{one.name} + all")
        rng = self.rng("pair", one.name, two.name, number)
        firsts, seconds = self.known(one), self.known(two, two.variant)
        work = fresh(self._template, self.trial)
        self.start(row)
        a = Running(work, one.arguments)
        time.sleep(max(0.0, rng.uniform(-0.3, 1.0)) * firsts["seconds"])
        if a.poll() is None:
            self.rows[row]["hit"] += 1
        b = Running(work, f"{two.arguments} {two.variant}")
        order = []
        while len(order) < 2 and time.monotonic() - b.began < 120:
            order += [each for each in (a, b) if each not in order and each.poll() is not None]
            time.sleep(0.005)
        where = f"with {two.name}, exit codes {a.code}, {b.code}"
        for each in (a, b):
            lines = [line for line in each.error.splitlines() if line and "note:" not in line]
            if each.code not in (0, 2) or (each.code == 2 and len(lines) != 1):
                self.wrong(row, "wrong end", f"{where}: {each.line}: {lines[-3:]}")
            each.end()
        found = in_fork(lambda: self._seen(work))
        for text in found["damaged"]:
            self.wrong(row, "half-written", f"{where}: {text}")
        if found["inputs"] != self._inputs:
            self.wrong(row, "inputs changed", where)
        done = [each for each in order if each.code == 0]
        results = {a: (one, firsts["new"]), b: (two, seconds["new"])}
        if len(done) == 2 and not found["damaged"]:  # the second one may go on with what the first one made
            work = fresh(self._template, self.trial)
            for each in done:
                self._sound(Running(work, each.line))
            results[done[-1]] = results[done[-1]][0], in_fork(lambda: judge.result(work))
        if not done:
            self.wrong(row, "fails again", f"{where}: {a.error[-200:]} {b.error[-200:]}")
        elif not found["damaged"]:
            command, last = results[done[-1]]
            there, both = found["result"], set().union(*(results[each][1] for each in done))
            if not _agree({name: value for name, value in there.items() if name in last}, last, command):
                self.wrong(row, "mixed", f"{where}: {_differing(there, last)}")
            elif there.keys() - both:
                self.wrong(row, "mixed", f"{where}: {sorted(there.keys() - both)}")
        if left := judge.leftovers(self.trial):
            self.wrong(row, "leftovers", f"{where}: {left}")

    # --- odd surroundings --------------------------------------------------------------------------------------

    def odd(self, name: str, command: Command) -> None:
        """Run a command in odd surroundings: it works, or says in a line why not."""
        row = ("odd", name)
        known = self.known(command)
        work = fresh(self.template(command), self.trial)
        self.start(row)
        around = surroundings(self.trial)[name]
        running = Running(work, command.arguments, setup=around.setup, afresh=around.afresh)
        code = running.wait()
        self.rows[row]["hit"] += 1
        around.clear()
        lines = [line for line in running.error.splitlines() if line and "note:" not in line]
        where = f"{command.name}, exit code {code}"
        text = "\n".join(lines)
        if code not in (0, 2) or "Traceback" in text or "bug" in text or (code == 2 and len(lines) > 1):
            self.wrong(row, "wrong end", f"{where}: {lines[-3:]}")
        if code == 2 and not around.may_refuse:
            self.wrong(row, "wrong end", f"{where}: {lines[-3:]}")
        if around.harmed():
            self.wrong(row, "inputs changed", f"{where}: {around.harmed()}")
        running.members_in_the_end()
        self.after(row, command, known, work, where)

    # --- the table ---------------------------------------------------------------------------------------------

    def table(self) -> str:
        """A line for each row, and one for all."""
        rows = [(f"{part}: {name}", counts) for (part, name), counts in self.rows.items()]
        rows.append(("all", sum(self.rows.values(), Counter())))
        width = max(len(name) for name, _ in rows)
        lines = [f"| {'':{width}} | {' | '.join(COLUMNS)} |", f"|{'-' * (width + 2)}|{'--:|' * len(COLUMNS)}"]
        for name, counts in rows:
            cells = (f"{counts[column]:{len(column)}}" for column in COLUMNS)
            lines.append(f"| {name:{width}} | {' | '.join(cells)} |")
        return "\n".join(lines)

    @property
    def wrongs(self) -> int:
        """How much was wrong."""
        return sum(counts[column] for counts in self.rows.values() for column in COLUMNS[2:])


def _agree(there: dict[str, str], whole: dict[str, str], command: Command) -> bool:
    """Whether a result is that one; what tells of the way to it may differ."""
    return not _differing(there, whole, command)


def _differing(there: dict[str, str], whole: dict[str, str], command: Command | None = None) -> list[str]:
    names = there.keys() | whole.keys()
    if command and not command.output.startswith("out/") and "." in command.output:
        names = {name for name in names if not name.endswith(".json")}  # what it says of the image counts, see `judge`
    return sorted(
        name for name in names
        if "/parts/" not in name  # of a comparison: what was measured on the way
        and ((name in there) != (name in whole)
             or (name.rpartition("/")[2] not in _NOT_COMPARED and there[name] != whole[name]))
    )  # fmt: skip


def trials(chaos: Chaos, options: argparse.Namespace) -> dict[str, Iterator[Callable[[], None]]]:
    """By part, all trials, those of all commands in turn."""
    commands = [command for command in COMMANDS if not options.commands or command.name in options.commands]
    folders = [command for command in commands if command.variant]
    pairs = list(itertools.combinations_with_replacement(folders, 2))
    pairs += [(two, one) for one, two in pairs if one != two]
    chaos.rng("pairs").shuffle(pairs)
    around = surroundings(chaos.trial)
    odd = [(name, command) for number in range(len(commands)) for place, name in enumerate(around)
           for command in [commands[(number + 3 * place) % len(commands)]]
           if command.name != "demo" or not around[name].afresh]  # fmt: skip  # there its images are not small
    return {
        "kills": (lambda c=c, n=n: chaos.kill(c, n) for n in range(options.kills) for c in commands),
        "disks": (lambda n=n: chaos.fill(commands[n % len(commands)], n) for n in range(options.disks)),
        "pairs": (lambda p=p: chaos.pair(*p, 0) for p in pairs[: options.pairs]),
        "odd": (lambda o=o: chaos.odd(*o) for o in odd[: options.odd]),
        "long": (lambda name=name: cases_on_workers(chaos, name, options.long, options.every)
                 for name in ("prepare", "denoise")),
        "scheduler": iter([lambda: cases_on_scheduler(chaos, min(options.long, 100))]),
    }  # fmt: skip


def load() -> None:
    """Import what commands need, so that forks have it, also those of a user who cannot read where Python lies."""
    import codecs

    import matplotlib.pyplot
    import torchmetrics
    from IPv2Lib.cli import commands as cli
    from IPv2Lib.cli import demo
    from IPv2Lib.datasets import preparation
    from IPv2Lib.evaluation import comparison
    from IPv2Lib.inference import cohort
    from IPv2Lib.io import files
    from IPv2Lib.purification import purify as purification
    from IPv2Lib.training import loop, publishing

    codecs.lookup("iso8859")
    del matplotlib, torchmetrics, cli, cohort, comparison, files, demo, preparation, publishing, purification, loop


def main() -> int:
    """Run the trials and print the table; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of each command (default: %(default)s)")
    parser.add_argument("--disks", type=int, default=60, help="full disks in all (default: %(default)s)")
    parser.add_argument("--pairs", type=int, help="in all (default: every one)")
    parser.add_argument("--odd", type=int, help="in all (default: every surrounding with every command)")
    parser.add_argument("--long", type=int, default=1000, help="cases (default: %(default)s)")
    parser.add_argument("--every", type=float, default=10.0, help="seconds from one dying worker to the next")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="for all parts together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--commands", nargs="+", help="names of rows (default: all)")
    options = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "QT_QPA_PLATFORM": "offscreen", "CUDA_VISIBLE_DEVICES": ""}
    load()
    began = time.monotonic()
    folder = tempfile.mkdtemp(prefix="chaos-")  # a TemporaryDirectory would be removed by every fork that ends
    try:
        os.chmod(folder, 0o755)
        chaos = Chaos(Path(folder), options.seed, lambda text: print(text, file=sys.stderr, flush=True))
        parts = trials(chaos, options)
        for number, part in enumerate(options.only):
            share = (began + 60 * options.minutes - time.monotonic()) / (len(options.only) - number)
            until = time.monotonic() + share
            for trial in parts[part]:
                if time.monotonic() > until:
                    break
                trial()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(chaos.table())
    minutes, load_average = (time.monotonic() - began) / 60, os.getloadavg()[1]
    print(f"\nseed {options.seed}, {minutes:.1f} minutes, load {load_average:.1f} on {os.cpu_count()} cores")
    return 1 if chaos.wrongs else 0


if __name__ == "__main__":
    sys.exit(main())
