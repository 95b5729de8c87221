"""One owner at a time for a folder that a command works on, and who lives.

Owns the small file that says who works on a folder, and how a process is told from a later one with its number. The
file lies beside the folder, which need not exist yet, or within it where there is no right to write beside it. Its
content is a JSON object: command, host, pid, began (of the process, seconds since 1970), since (a date for people).

On this computer the system itself knows whether the owner lives: it holds the file by `flock`, which also works between
computers on most network folders, and ends with the process however that ends. Where there is no `flock`, the number of
the process decides. An owner on another computer cannot be asked, so its file is believed, and the message says which
file to remove if it is wrong.
"""

from __future__ import annotations

import errno
import inspect
import json
import os
import platform
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from ..errors import InputError, OutputError, reason

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]  # a module for mypy

P = ParamSpec("P")
T = TypeVar("T")

_SAME_START_SECONDS = 5.0  # within which two readings of when a process began agree
_LEAVE_SECONDS = 2.0  # that what a dead owner has started may still hold its file
_POLL_SECONDS = 0.05
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)


@dataclass(frozen=True)
class Owner:
    """Who works on a folder.

    Attributes
    ----------
    command : str
        Of `ipv2`, such as "train".
    host : str
    pid : int
    began : float or None
        When the process began, seconds since 1970; None where that cannot be found out.
    since : str
        When it took the folder, for people.
    """

    command: str
    host: str
    pid: int
    began: float | None
    since: str

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this computer."""
        return self.host == platform.node()

    @property
    def lives(self) -> bool:
        """Whether the process is there; one on another computer is believed to be."""
        return not self.is_here or lives(self.pid, self.began)


_mine: ContextVar[frozenset[str]] = ContextVar("mine", default=frozenset())


@contextmanager
def owned(folder: Path | str, command: str) -> Iterator[None]:
    """Be the only one that works on a folder, which need not exist yet, until the end of the `with`.

    The owner's file is removed at the end. One that a crash left behind is taken over by the next call on the same
    computer.

    Parameters
    ----------
    folder : path
    command : str
        Of `ipv2`, for whoever is refused meanwhile.

    Raises
    ------
    InputError
        Somebody else works on the folder.
    OutputError
        There is no right to write there.
    """
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    me = Owner(command, platform.node(), os.getpid(), start_of(os.getpid()), since)
    parents = [parent for parent in lock_files(folder)[0].parents if not parent.exists()]
    try:
        path, file = _take(Path(folder), me)
        name = os.path.realpath(folder)
        _mine.set(_mine.get() | {name})
        try:
            yield
        finally:
            _mine.set(_mine.get() - {name})  # perhaps by another thread
            try:
                _release(path, file, me)
            except BaseException:  # a stop at this very moment
                _release(path, file, me)
                raise
    finally:
        with suppress(OSError):  # those that nothing was put into
            for parent in parents:
                parent.rmdir()


def exclusive(command: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let a function, or its caller, be the only one that works on its argument `folder`, see `owned`."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        signature = inspect.signature(function)

        @wraps(function)
        def call(*arguments: P.args, **options: P.kwargs) -> T:
            folder = signature.bind(*arguments, **options).arguments["folder"]
            with nullcontext() if os.path.realpath(folder) in _mine.get() else owned(folder, command):
                return function(*arguments, **options)

        return call

    return decorate


def owner_of(folder: Path | str) -> Owner | None:
    """Who is said to work on a folder; None if nobody is, or if that cannot be seen from here."""
    for path in lock_files(folder):
        with suppress(OSError):
            file = os.open(path, os.O_RDONLY | _NO_LINK)
            try:
                if owner := _read(file):
                    return owner
            finally:
                os.close(file)
    return None


@dataclass(frozen=True)
class ForOwner:
    """A function that is called in another process for the owner of a folder; can be sent there.

    Its process may outlive the owner, and another one may own the folder by then. So what the function writes with
    `atomic` is put in place only as long as the owner's file is what it was; from then on, that is an `OutputError`.

    Attributes
    ----------
    function : callable
    folder : Path
    owner : Owner or None
        See `owner_of`.
    """

    function: Callable[..., Any]
    folder: Path
    owner: Owner | None

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Call the function."""
        token = _works_for.set(self if owner_of(self.folder) else None)
        try:
            check_owner()
            return self.function(*arguments, **options)
        finally:
            _works_for.reset(token)


_works_for: ContextVar[ForOwner | None] = ContextVar("works_for", default=None)


def check_owner() -> None:
    """Refuse (`OutputError`) to go on in a `ForOwner` whose owner does not own the folder any more."""
    work = _works_for.get()
    if work and work.owner and owner_of(work.folder) != work.owner:
        raise OutputError(
            f"{work.folder} is no longer held by this 'ipv2 {work.owner.command}': another one has taken it, or "
            f"{lock_files(work.folder)[0].name} was removed; run it again"
        )


def lock_files(folder: Path | str) -> tuple[Path, Path]:
    """Where the owner's file of a folder may lie: beside it, and within it."""
    folder = Path(os.path.realpath(folder))
    return folder.with_name(f".{folder.name}.ipv2-lock"), folder / ".ipv2-lock"


def sweep(place: Path) -> None:
    """Clear away the files of owners that have ended, of all folders in a folder."""
    for path in place.glob(lock_files("*")[0].name):
        with suppress(OSError):
            file = os.open(path, os.O_RDWR | _NO_LINK)
            try:
                owner = _read(file)
                if owner and not owner.lives:
                    held = _flock(file)
                    if held and _is_still(path, file):
                        path.unlink()
                    elif held is None:
                        _move_away(path, owner)
            finally:
                os.close(file)


def lives(pid: int, began: float | None) -> bool:
    """Whether a process of this computer is there and is the one that began then; numbers are used again."""
    try:
        import psutil
    except ImportError:  # a bare machine
        return _is_there(pid)
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        same = began is None or abs(process.create_time() - began) < _SAME_START_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    return False


def start_of(pid: int) -> float | None:
    """When a process of this computer began, seconds since 1970; None where that cannot be found out."""
    try:
        import psutil
    except ImportError:
        return None
    return psutil.Process(pid).create_time()


def _take(folder: Path, me: Owner) -> tuple[Path, int]:
    beside, within = lock_files(folder)
    try:
        try:
            beside.parent.mkdir(parents=True, exist_ok=True)
            _refuse_if_taken(within, folder)  # by somebody who may not write beside it
            return beside, _open(beside, folder, me)
        except OSError as error:
            if error.errno not in _NO_RIGHT or not folder.is_dir():
                raise
            _refuse_if_taken(beside, folder)
            return within, _open(within, folder, me)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise InputError(f"a symbolic link lies where 'ipv2' keeps who works on {folder}: remove it") from error
        raise OutputError(f"{folder} cannot be written ({reason(error)})") from error


def _refuse_if_taken(path: Path, folder: Path) -> None:
    try:
        file = os.open(path, os.O_RDONLY | _NO_LINK)
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError:
        raise _taken(folder, path, None) from None
    try:
        owner = _read(file)
    finally:
        os.close(file)
    if owner and owner.lives:
        raise _taken(folder, path, owner)


def _open(path: Path, folder: Path, me: Owner) -> int:
    """Open the file as its only owner."""
    until = time.monotonic() + _LEAVE_SECONDS
    while True:
        try:
            file, fresh = os.open(path, os.O_RDWR | _NO_LINK | os.O_CREAT | os.O_EXCL, 0o644), True
        except FileExistsError:
            _refuse_if_taken(path, folder)
            try:
                file, fresh = os.open(path, os.O_RDWR | _NO_LINK), False
            except FileNotFoundError:  # its owner has just ended
                continue
        held, owner = _flock(file), _read(file)
        taken = held is False or (owner is None and held is None and not fresh)
        if (owner and owner.lives) or (taken and time.monotonic() > until):
            os.close(file)
            raise _taken(folder, path, owner)
        if (held and _is_still(path, file)) or (held is None and fresh):
            try:
                os.ftruncate(file, 0)
                os.lseek(file, 0, os.SEEK_SET)
                os.write(file, json.dumps(asdict(me)).encode())
            except OSError:  # the disk is full
                with suppress(OSError):
                    path.unlink()
                os.close(file)
                raise
            return file
        os.close(file)
        if held is None and owner:
            _move_away(path, owner)
        elif taken:  # by another one that takes it just now, or by what a dead owner has started
            time.sleep(_POLL_SECONDS)


def _move_away(path: Path, dead: Owner) -> None:
    """Remove the file of a dead owner where `flock` cannot say who comes first: only one process can rename it."""
    aside = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    with suppress(FileNotFoundError):
        os.rename(path, aside)
        if json.loads(aside.read_text(encoding="utf-8")) != asdict(dead):  # another one came first: give it back
            os.rename(aside, path)
        else:
            aside.unlink()


def _release(path: Path, file: int, me: Owner) -> None:
    if os.getpid() != me.pid:  # a forked process
        return
    with suppress(OSError):
        if _read(file) == me and _is_still(path, file):
            if fcntl is None:  # Windows removes no open file
                os.close(file)
                path.unlink()
                return
            path.unlink()
    with suppress(OSError):
        os.close(file)


def _flock(file: int) -> bool | None:
    """Hold a file for this process alone: whether that worked; None where it does not exist."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EAGAIN) else None
    return True


def _is_still(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(file))
    except FileNotFoundError:
        return False


def _read(file: int) -> Owner | None:
    with suppress(OSError, ValueError, TypeError, KeyError):
        os.lseek(file, 0, os.SEEK_SET)
        owner = Owner(**json.loads(os.read(file, 10_000)))
        if isinstance(owner.pid, int) and isinstance(owner.began, (float, int, type(None))):
            return owner
    return None


def _taken(folder: Path, path: Path, owner: Owner | None) -> InputError:
    if owner is None:
        return InputError(f"{folder} is in use by another process: wait for it; if there is none, remove {path}")
    where = "this computer" if owner.is_here else f"computer {owner.host}"
    text = f"{folder} is in use by 'ipv2 {owner.command}', process {owner.pid} on {where}, since {owner.since}: "
    if owner.is_here:
        return InputError(f"{text}wait for it, or end it")
    return InputError(f"{text}wait for it; if it does not run any more, remove {path}")


def _is_there(pid: int) -> bool:
    if os.name != "posix":
        return True  # signal 0 would end it; believe the file
    try:
        os.kill(pid, 0)
    except OSError as error:
        return isinstance(error, PermissionError)
    return True
