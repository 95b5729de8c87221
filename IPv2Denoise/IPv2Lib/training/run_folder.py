"""A training run on disk: the files of its folder, written by the run and read by whoever watches it.

Owns their names and formats, what state a run is in, and asking it to pause or stop. What is trained is `training`'s
matter. Needs numpy only, and reads a run at any moment of its life, on this machine or another one.

================== ============================================================================================
settings.json      `settings.TrainingSettings`; a folder with this file is a run
data.json          what it trains on, see `sources`
log.csv            step, seconds, learning_rate, loss (mean since the last line), waiting (seconds, likewise)
validation.csv     step, seconds, rmse_hu, rmse_lung_hu, reference ("ground_truth" or "label")
validation.npz     one slice: input, output, label (float32 HU, rows by columns), step, spacing (mm), case
checkpoint.pt      what `--resume` needs
best.safetensors   averaged weights with the lowest validation RMSE; without validation data the last ones
status.json        state, step, fraction, time left, ..., see `RunState`
request            "pause" or "stop": what somebody wants of it; the run removes it when it obeys
================== ============================================================================================
"""

from __future__ import annotations

import csv
import json
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO
from zipfile import BadZipFile

import numpy as np

from ..errors import InputError, OutputError, reason
from ..io import atomic
from ..io.locks import lives, start_of

SETTINGS_FILE, DATA_FILE, STATUS_FILE = "settings.json", "data.json", "status.json"
LOG_FILE, VALIDATION_FILE, SLICE_FILE = "log.csv", "validation.csv", "validation.npz"
CHECKPOINT_FILE, BEST_FILE, REQUEST_FILE = "checkpoint.pt", "best.safetensors", "request"

RUNNING, PAUSED, STOPPED, COMPLETED, FAILED = "running", "paused", "stopped", "completed", "failed"
"""States of a run. All but "running" can be resumed; what is completed has nothing left to do."""

REQUESTS = ("pause", "stop")

LOG_COLUMNS = ("step", "seconds", "learning_rate", "loss", "waiting")
VALIDATION_COLUMNS = ("step", "seconds", "rmse_hu", "rmse_lung_hu", "reference")

_STATUS_SECONDS = 0.5  # between two writings of the status, unless the state changes


@dataclass(frozen=True)
class RunState:
    """What is known of a run.

    Attributes
    ----------
    folder : Path
    state : str
        "running", "paused", ..., see above. A run that says "running" and whose process is gone is "paused".
    settings, data : dict
        Of `settings.json` and `data.json`.
    step : int
        Steps that are done.
    steps : int or None
        Steps that it has; None if it ends by the clock.
    fraction : float
        Done, 0 to 1.
    seconds_left : float or None
    loss : float or None
        Mean since the last line of the log.
    best_step, best_rmse_hu : int or None, float or None
        Of the weights in `best.safetensors`; no RMSE without validation data.
    pid : int or None
        Of the process that trains.
    message : str
        Why it failed, or what else there is to say.
    log, validation : dict of str to ndarray
        By column, see `LOG_COLUMNS` and `VALIDATION_COLUMNS`; empty arrays at the beginning. The reference is text,
        the RMSE of a lung that is not there NaN.
    """

    folder: Path
    state: str
    settings: dict[str, Any]
    data: dict[str, Any]
    step: int = 0
    steps: int | None = None
    fraction: float = 0.0
    seconds_left: float | None = None
    loss: float | None = None
    best_step: int | None = None
    best_rmse_hu: float | None = None
    pid: int | None = None
    message: str = ""
    log: dict[str, np.ndarray] = field(default_factory=dict)
    validation: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def can_resume(self) -> bool:
        """Whether there is something left to do, and nobody is doing it."""
        return self.state in (PAUSED, STOPPED, FAILED)

    @property
    def has_weights(self) -> bool:
        """Whether there is something to publish and to compare."""
        return (self.folder / BEST_FILE).is_file()


def is_run(folder: str | Path) -> bool:
    """Whether a folder is a training run (which may be damaged all the same)."""
    return (Path(folder) / SETTINGS_FILE).is_file()


def has_begun(folder: str | Path) -> bool:
    """Whether a folder holds what the start of a run left that was killed in its middle, and nothing else."""
    with suppress(OSError):
        names = [path.name for path in Path(folder).iterdir()]
        return bool(names) and all(name == DATA_FILE or name.startswith(atomic.PREFIX) for name in names)
    return False


def read_run(folder: str | Path) -> RunState:
    """Everything about a run as it is now, while it is being trained or at any time after.

    Raises
    ------
    InputError
        If the folder is no run, or its settings cannot be read.
    """
    folder = Path(folder)
    settings = read_json(folder / SETTINGS_FILE)
    if settings is None:
        raise InputError(f"{folder} is not a training run: it has no readable {SETTINGS_FILE}")
    status = read_json(folder / STATUS_FILE) or {}
    log = _read_table(folder / LOG_FILE, LOG_COLUMNS)
    validation = _read_table(folder / VALIDATION_FILE, VALIDATION_COLUMNS)
    state, message = status.get("state", PAUSED), status.get("message", "")
    if state == RUNNING and not is_trained_now(folder):
        state, seconds_left = PAUSED, None
        message = f"its process ended at step {status.get('step', 0)} without a word; resume it"
    else:
        seconds_left = status.get("seconds_left")
    known = ("step", "steps", "fraction", "loss", "best_step", "best_rmse_hu", "pid")
    return RunState(
        folder,
        state,
        settings,
        read_data(folder),
        seconds_left=seconds_left,
        message=message,
        log=log,
        validation=validation,
        **{name: status[name] for name in known if name in status},
    )


def request(folder: str | Path, word: str) -> None:
    """Ask a run to pause or to stop; it obeys after the present step. Ask only one that is running.

    A paused run has a checkpoint and is resumed later. A stopped one is finished: its best weights stay.

    Parameters
    ----------
    folder : path
    word : {"pause", "stop"}

    Raises
    ------
    InputError
        For another word, or a folder that is no run.
    OutputError
        The folder cannot be written.
    """
    if word not in REQUESTS:
        raise InputError(f"a run cannot be asked to {word!r}: use one of {', '.join(REQUESTS)}")
    if not is_run(folder):
        raise InputError(f"{folder} is not a training run: it has no {SETTINGS_FILE}")
    atomic.write_text(Path(folder) / REQUEST_FILE, f"{word}\n")


def remove_request(folder: Path) -> None:
    """Forget what was asked of a run."""
    (folder / REQUEST_FILE).unlink(missing_ok=True)


def validation_slice(folder: str | Path) -> dict[str, np.ndarray] | None:
    """The slice that was denoised at the last validation; None if there was none.

    Returns
    -------
    dict
        ``input``, ``output`` and ``label``, float32 HU (rows, columns); ``step``; ``spacing``, mm between columns and
        between rows; ``case``.
    """
    path = Path(folder) / SLICE_FILE
    with suppress(OSError, ValueError, EOFError, BadZipFile), np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}
    return None


def is_trained_now(folder: str | Path) -> bool:
    """Whether a process trains this run at the moment. Of another machine's process the file is believed."""
    status = read_json(Path(folder) / STATUS_FILE) or {}
    if status.get("state") != RUNNING or not isinstance(status.get("pid"), int):
        return False
    return status.get("host") != platform.node() or lives(status["pid"], status.get("began"))


class RunWriter:
    """What a run writes while it goes on, but its checkpoints: tables, status, validation slice.

    Parameters
    ----------
    folder : Path
        Of the run; it exists.
    step : int
        Steps done. What the tables say of later ones is cut off: those steps are done again.
    """

    def __init__(self, folder: Path, step: int):
        self.folder = folder
        self._log = _open_table(folder / LOG_FILE, LOG_COLUMNS, step)
        self._validation = _open_table(folder / VALIDATION_FILE, VALIDATION_COLUMNS, step)
        self._status = {"pid": os.getpid(), "host": platform.node(), "began": start_of(os.getpid())}
        self._written = float("-inf")
        self._state = ""

    def close(self) -> None:
        """Close the tables."""
        self._log.close()
        self._validation.close()

    def log(self, step: int, seconds: float, learning_rate: float, loss: float, waiting: float) -> None:
        """Add a line to the log."""
        _write_row(self._log, [step, f"{seconds:.2f}", f"{learning_rate:.2e}", f"{loss:.6g}", f"{waiting:.3f}"])

    def validation(self, step: int, seconds: float, rmse_hu: float, rmse_lung_hu: float, reference: str) -> None:
        """Add a line to the table of validations; the RMSE of the lung may be NaN."""
        lung = "" if np.isnan(rmse_lung_hu) else f"{rmse_lung_hu:.4f}"
        _write_row(self._validation, [step, f"{seconds:.2f}", f"{rmse_hu:.4f}", lung, reference])

    def slice(self, **arrays: Any) -> None:
        """Replace the validation slice, see `validation_slice`."""
        path = self.folder / SLICE_FILE
        with atomic.new_file(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)

    def status(self, state: str, **facts: Any) -> None:
        """Say how it stands, see `RunState`; not more than twice a second unless the state changes."""
        now = time.monotonic()
        if state == self._state and now - self._written < _STATUS_SECONDS:
            return
        self._state, self._written = state, now
        # Windows refuses to replace a file that somebody reads just now; the next status comes soon.
        with suppress(OutputError):
            write_json(self.folder / STATUS_FILE, {"state": state, **facts, **self._status})

    def asked(self) -> str | None:
        """What somebody asks of this run: "pause", "stop" or nothing."""
        path = self.folder / REQUEST_FILE
        if not path.exists():
            return None
        with suppress(OSError):
            word = path.read_text(encoding="utf-8", errors="replace").strip().lower()
            if word in REQUESTS:
                return word
            if word:  # an empty file is just being written
                remove_request(self.folder)
        return None


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file, all of it or none."""
    atomic.write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_data(folder: Path, described: dict[str, Any]) -> None:
    """Write `data.json`. Its paths are relative to the run, where that is possible: they move with it, and say less."""
    write_json(folder / DATA_FILE, _with_paths(described, lambda path: _relative(path, folder.resolve())))


def read_data(folder: Path) -> dict[str, Any]:
    """`data.json` with absolute paths; empty if there is none."""
    return _with_paths(read_json(folder / DATA_FILE) or {}, lambda path: os.path.normpath(folder.resolve() / path))


def _with_paths(described: dict[str, Any], changed: Callable[[str], str]) -> dict[str, Any]:
    found = dict(described)
    if isinstance(found.get("dataset"), str):
        found["dataset"] = changed(found["dataset"])
    for key in ("volumes", "targets"):
        if isinstance(found.get(key), list):
            found[key] = [changed(str(path)) for path in found[key]]
    return found


def _relative(path: str, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return path


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object in a file; None if there is no such file, or nothing of that kind in it."""
    with suppress(OSError, ValueError):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            return content
    return None


def _read_table(path: Path, columns: Sequence[str]) -> dict[str, np.ndarray]:
    """Columns of a table; what is damaged, or a last line that is only half there yet, is left out."""
    rows = []
    with suppress(OSError):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
        for row in csv.reader(line for line in lines[1:] if line.endswith("\n")):
            with suppress(ValueError):
                if len(row) == len(columns):
                    rows.append([_cell(name, text) for name, text in zip(columns, row, strict=True)])
    transposed = list(zip(*rows, strict=True)) or [()] * len(columns)
    types = {"step": np.int64, "reference": np.str_}
    return {name: np.array(values, types.get(name, float)) for name, values in zip(columns, transposed, strict=True)}


def _cell(column: str, text: str) -> Any:
    if column == "reference":
        return text
    return int(text) if column == "step" else float(text or "nan")


def _open_table(path: Path, columns: Sequence[str], step: int) -> TextIO:
    """A table to go on with after a step."""
    kept = [",".join(columns) + "\n"]
    with suppress(FileNotFoundError, IsADirectoryError, UnicodeDecodeError):
        for line in path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]:
            first = line.partition(",")[0]
            if line.endswith("\n") and first.isdecimal() and int(first) <= step:
                kept.append(line)
    atomic.write_text(path, "".join(kept))
    return open(path, "a", encoding="utf-8")


def _write_row(table: TextIO, row: Sequence[object]) -> None:
    try:
        table.write(",".join(map(str, row)) + "\n")
        table.flush()
    except OSError as error:
        raise OutputError(f"{table.name} cannot be written ({reason(error)})") from error


def trained_on(data: Mapping[str, Any]) -> str:
    """How many cases of how many patients a run trained on, or how many scans, from its `data.json`."""
    if "train" not in data:
        return _counted(len(data.get("names", [])), "scan")
    cases = len({entry["case"] for entry in data["train"]})
    patients = len({entry["patient"] for entry in data["train"]})
    text = f"{_counted(cases, 'case')} of {_counted(patients, 'patient')}"
    paired = len({entry["case"] for entry in data["train"] if entry.get("paired")})
    return f"{text}, {paired} with a real uLDCT" if paired else text


def _counted(count: int, thing: str) -> str:
    return f"{count} {thing}{'' if count == 1 else 's'}"
