"""What a command and the process that it works for agree upon: exit codes, signs of life, and ending together.

The other side is `IPv2SlicerLib.jobs`; what is said between the two is `console`'s.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from .streams import write

SUCCESS, BUG, BAD_INPUT, STOPPED = 0, 1, 2, 130
"""Exit codes."""

SOME_FAILED = 1
"""Exit code where there is a result and some of several cases failed; a bug has no result."""

JOB_VARIABLE = "IPV2_JOB"
"""Environment variable of a command that works for another process, in a session of its own: that process's id, a
colon, the folder of the job. The command then says twice a second that it is alive, and if that process ends, it
removes the folder and ends the session."""

HEARTBEAT_SECONDS = 0.5


@contextlib.contextmanager
def heartbeat(say_alive: Callable[[], object]) -> Iterator[None]:
    """Say from a thread that the command is alive, and end it with the process that it works for."""
    owner, _, folder = os.environ.pop(JOB_VARIABLE, "").partition(":")  # not for processes started from here
    if not owner:
        yield
        return
    done = threading.Event()

    def beat() -> None:
        import psutil

        try:
            process = psutil.Process(int(owner))
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                if done.wait(HEARTBEAT_SECONDS):
                    return
                say_alive()
        except psutil.NoSuchProcess:
            pass
        _leave(Path(folder))

    say_alive()
    threading.Thread(target=beat, name="heartbeat", daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _leave(folder: Path) -> None:
    """End this process and what it started, at once and without a trace but a line in the log."""
    sys.setswitchinterval(1e-5)  # the command goes on meanwhile, and would keep this thread waiting
    write(sys.stderr, "ipv2: stopped: the program that this worked for has ended\n")
    # Windows removes neither the working directory nor an open file, and stdout is a file in the folder.
    os.chdir(tempfile.gettempdir())
    with contextlib.suppress(OSError):
        os.close(1)
    for _ in range(100):  # the command may just be writing into the folder
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break
    if hasattr(os, "killpg"):
        os.killpg(0, signal.SIGKILL)  # the session that the job was given, this process included
    import psutil

    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            child.kill()
    os._exit(STOPPED)
