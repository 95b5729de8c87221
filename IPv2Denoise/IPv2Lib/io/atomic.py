"""Files and folders that appear whole or not at all, whenever and however the program ends.

Whatever is written is made in a private folder beside its place, and renamed at the end. The private folder is made
exclusively, under a name that nobody can guess, so that no planted link is followed. What a killed process left is
cleared away by the next one that writes to the same place.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import json
import os
import platform
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import OutputError, reason
from . import locks
from .locks import lives, start_of

PREFIX = ".ipv2-"
"""Of the names of private folders."""

_NEW, _OLD, _JOURNAL = "new", "old", "journal.json"  # in the private folder of a folder
_swept: set[Path] = set()
_CANNOT = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM)  # a system or file system without an exchange


@contextlib.contextmanager
def private_folder(place: Path) -> Iterator[Path]:
    """A hidden folder in the folder `place` for what is being written; gone at the end.

    Parameters
    ----------
    place : Path
        An existing folder.

    Raises
    ------
    OSError
        `place` cannot be written to.
    """
    _sweep_once(place)
    folder = place / _private_name()
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        try:
            shutil.rmtree(folder, ignore_errors=True)
        except BaseException:  # a stop at this very moment
            shutil.rmtree(folder, ignore_errors=True)
            raise


@contextlib.contextmanager
def new_file(path: Path, durable: bool = False) -> Iterator[Path]:
    """A name to write a file under, which becomes `path` if all goes well and vanishes if not.

    Parameters
    ----------
    path : Path
        Its parents are made. A file of that name is replaced.
    durable : bool
        At the end it is on the disk, and a loss of power does not take it away; its parents must be there.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with private_folder(path.parent) as folder:
            yield folder / path.name
            locks.check_owner()
            if durable:
                sync(folder / path.name)
            os.replace(folder / path.name, path)
            if durable:
                sync(path.parent)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({reason(error)})") from error


def move_together(private: Path, files: dict[Path, Path]) -> None:
    """Move files that belong together out of a private folder; the next process finishes what a kill interrupts.

    Parameters
    ----------
    private : Path
        See `private_folder`.
    files : dict
        What was written, by its place beside the private folder; the last one refers to the others.

    Raises
    ------
    OSError
    """
    locks.check_owner()
    stamps = {target: _stamp(target) for target in files}
    steps = [(source.name, target.name, stamps[target]) for target, source in files.items()]
    (private / _JOURNAL).write_text(json.dumps({"files": steps}), encoding="utf-8")
    try:
        for target, source in files.items():
            os.replace(source, target)
    except BaseException:
        with contextlib.suppress(OSError):
            _finish(private)  # it was a stop; what is there already is of no use alone
        if not os.path.lexists(next(reversed(files))):
            for target in (target for target, stamp in stamps.items() if stamp is None):
                target.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Let a file, or the names in a folder, be on the disk; `OSError` if that fails."""
    if os.name != "posix" and path.is_dir():  # Windows opens no folder
        return
    descriptor = os.open(path, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str, durable: bool = False) -> None:
    """Write a text file (UTF-8), all of it or nothing, see `new_file`; `OutputError` if it cannot be written."""
    with new_file(path, durable) as temporary:
        # Of a name that is not UTF-8 there remains what JSON writes for it.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to write into, which becomes `folder` if all goes well and vanishes if not.

    Parameters
    ----------
    folder : Path
        Its parents are made. What is there is replaced in one step: at every moment the old or the new one is there.

    Raises
    ------
    OutputError
        It cannot be written, or was not there at the beginning and is now.
    """
    folder = folder.absolute()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with private_folder(folder.parent) as private:
            replaced = _stamps(folder)
            fresh = private / _NEW
            fresh.mkdir()
            with _errors_name(folder, fresh):
                yield fresh
            locks.check_owner()
            _replace_folder(private, folder, replaced)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({reason(error)})") from error


@contextlib.contextmanager
def changed_folder(folder: Path) -> Iterator[Path]:
    """A folder to write several files into, which all appear in an existing folder in one step, or not at all.

    Parameters
    ----------
    folder : Path
        What else is in it stays. Where it cannot be renamed, because a disk is mounted on it or there is no right to
        write beside it, the files appear one after the other.

    Raises
    ------
    OutputError
        It cannot be written.
    """
    if os.path.ismount(folder) or not os.access(folder.absolute().parent, os.W_OK):
        try:
            with private_folder(folder) as private:
                with _errors_name(folder, private):
                    yield private
                for path in sorted(private.iterdir()):
                    os.replace(path, folder / path.name)
        except OSError as error:
            raise OutputError(f"{folder} cannot be written ({reason(error)})") from error
        return
    with new_folder(Path(os.path.realpath(folder))) as fresh, private_folder(fresh) as written:
        with _errors_name(folder, written):
            yield written
        hidden = shutil.ignore_patterns(f"{PREFIX}*")
        shutil.copytree(folder, fresh, symlinks=True, ignore=hidden, copy_function=linked, dirs_exist_ok=True)
        for path in written.iterdir():
            os.replace(path, fresh / path.name)


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A private folder where the system keeps temporary files; one that a killed process left there is cleared away.

    Raises
    ------
    OutputError
        There is no such place.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(private_folder(Path(tempfile.gettempdir())))
        except OSError as error:
            raise OutputError(f"temporary files cannot be written ({reason(error)}): set TMPDIR to a folder") from error
        yield folder


@contextlib.contextmanager
def cleared_away(folder: Path) -> Iterator[Path]:
    """Let a folder that somebody else's code made, and removes, be cleared away, too, should this process be killed.

    Yields
    ------
    Path
        What lies beside it for that, until the end.

    Raises
    ------
    OSError
        Nothing can be written beside it.
    """
    with private_folder(folder.parent) as private:
        (private / _JOURNAL).write_text(json.dumps({"remove": folder.name}), encoding="utf-8")
        yield private


@contextlib.contextmanager
def _errors_name(place: Path, hidden: Path) -> Iterator[None]:
    """Let errors of files in a private folder name them as people will know them."""
    try:
        yield
    except OutputError as error:
        raise OutputError(str(error).replace(str(hidden), str(place))) from error


def sweep(place: Path) -> None:
    """Clear away what killed processes of this computer left in a folder, and finish what they had only to rename."""
    for private in place.glob(f"{PREFIX}*~*~*~*"):
        with contextlib.suppress(OSError):
            if _is_left(private.name) and _is_mine(private):
                _clear_away(private)
    locks.sweep(place)


def _clear_away(left: Path) -> None:
    """Finish and remove what a killed process left, unless another process does."""
    private = left.with_name(_private_name())
    os.rename(left, private)  # which only one can; should it be killed, the next one goes on
    try:
        _finish(private)
        shutil.rmtree(private)
    except OSError:
        os.rename(private, left)
        raise


def contents(folder: Path) -> list[Path]:
    """What is in a folder, but for private folders; those that killed processes left are cleared away."""
    sweep(folder)
    return [path for path in folder.iterdir() if not path.name.startswith(PREFIX)]


def _sweep_once(place: Path) -> None:
    """Each process looks once at each folder."""
    if (place := place.absolute()) not in _swept:
        _swept.add(place)
        sweep(place)


def _private_name() -> str:
    pid = os.getpid()
    began = start_of(pid)
    return f"{PREFIX}{platform.node()}~{pid}~{'' if began is None else f'{began:.0f}'}~{secrets.token_hex(8)}"


def _is_left(name: str) -> bool:
    """Whether the process that made a private folder has certainly ended; another computer's nobody here can tell."""
    try:
        host, pid, began, _ = name.removeprefix(PREFIX).rsplit("~", 3)
        return host == platform.node() and not lives(int(pid), float(began) if began else None)
    except ValueError:
        return False


def _is_mine(private: Path) -> bool:
    """Whether it is a folder, and not one that another user made for us to move its files about."""
    facts = private.lstat()
    return stat.S_ISDIR(facts.st_mode) and (os.name != "posix" or facts.st_uid == os.geteuid())


def linked(source: str | Path, target: str | Path) -> None:
    """The same file under another name, or a copy where that is not possible."""
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def _stamp(path: Path) -> list[int] | None:
    """Size and time of a file; None if there is none."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return None
    return [facts.st_size, facts.st_mtime_ns]


def _stamps(folder: Path) -> dict[str, list[int] | None] | None:
    """Size and time of every file in a folder; None if there is no folder."""
    if not folder.is_dir():
        return None
    stamps = {}
    for place, _, names in os.walk(folder):
        for path in (Path(place) / name for name in names):
            stamps[str(path.relative_to(folder))] = _stamp(path)
    return stamps


def _replace_folder(private: Path, folder: Path, replaced: dict[str, list[int] | None] | None) -> None:
    fresh, old = private / _NEW, private / _OLD
    if replaced is None or not folder.exists():
        rename_to_new(fresh, folder)
        return
    journal = {"folder": folder.name, "new": fresh.stat().st_ino, "replaced": replaced}
    (private / _JOURNAL).write_text(json.dumps(journal), encoding="utf-8")
    try:
        if not _exchange(fresh, folder):
            os.rename(folder, old)
            os.rename(fresh, folder)
    finally:
        _finish(private)


def rename_to_new(fresh: Path, folder: Path) -> None:
    """Rename a folder to one that is not there, or empty; `OutputError` if somebody else was sooner."""
    try:
        if os.name == "nt" and folder.is_dir():
            folder.rmdir()  # elsewhere an empty folder is replaced in one step
        os.rename(fresh, folder)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise OutputError(
                f"{folder} was made by somebody else meanwhile and is left as it is: give another name"
            ) from error
        raise


def _finish(private: Path) -> None:
    """Finish a replacement that may have been interrupted anywhere, and save what nobody meant to replace."""
    try:
        journal = json.loads((private / _JOURNAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it did not come so far
        return
    if "remove" in journal:
        shutil.rmtree(private.parent / Path(journal["remove"]).name, ignore_errors=True)
        return
    if "files" in journal:
        for name, target, stamp in journal["files"]:
            source, place = private / Path(name).name, private.parent / Path(target).name
            if source.exists() and _stamp(place) == stamp:  # nobody put something else there
                os.replace(source, place)
        return
    folder = private.parent / Path(journal["folder"]).name
    fresh, old = private / _NEW, private / _OLD
    if not folder.exists():
        os.rename(fresh if fresh.exists() else old, folder)
    if folder.stat().st_ino == journal["new"]:
        _rescue(old if old.exists() else fresh, folder, journal["replaced"])


def _rescue(old: Path, folder: Path, replaced: dict[str, list[int] | None]) -> None:
    """Move what somebody put into a folder while it was being replaced to where they will look for it."""
    for name, stamp in (_stamps(old) or {}).items():
        place = folder / name
        if replaced.get(name) != stamp and not (place.exists() and place.samefile(old / name)):
            for number in itertools.count(2):
                if not os.path.lexists(place):
                    break
                place = place.with_name(f"{Path(name).stem} {number}{place.suffix}")
            place.parent.mkdir(parents=True, exist_ok=True)
            os.rename(old / name, place)


def _exchange(a: Path, b: Path) -> bool:
    """Let two folders change names in one step; False where the system cannot."""
    names = (os.fsencode(a), os.fsencode(b))
    library: Any = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    here = -100  # AT_FDCWD
    if sys.platform == "linux" and hasattr(library, "renameat2"):
        failed = library.renameat2(here, names[0], here, names[1], 2)  # RENAME_EXCHANGE
    elif sys.platform == "darwin" and hasattr(library, "renamex_np"):
        failed = library.renamex_np(*names, 2)  # RENAME_SWAP
    else:
        return False
    if not failed:
        return True
    number = ctypes.get_errno()
    if number in _CANNOT:
        return False
    raise OSError(number, os.strerror(number), str(b))
