"""A PythonSlicer whose `-m IPv2Lib` is there at once: a fork of a process that has imported the library and torch.

What it is asked for runs in a session of its own, has the streams, the folder and the environment of who asked, gets
the signals that who asked gets, and ends with that one.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

CLIENT = """#!{python} -IS
import os, sys
if sys.argv[1:3] != ["-m", "IPv2Lib"]:
    os.execv("{python}", ["{python}", *sys.argv[1:]])
import json, signal, socket
server = socket.socket(socket.AF_UNIX)
server.connect("{address}")
asked = json.dumps([sys.argv[3:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(server, [len(asked).to_bytes(8, "big")], [0, 1, 2])
server.sendall(asked)
for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(each, lambda number, frame: server.send(bytes([number])))
code = int(server.recv(8) or -9)
if code < 0:
    if -code in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


@contextlib.contextmanager
def warm_python() -> Iterator[Path]:
    """Have it in a folder: one with a short path, as sockets need."""
    temporary = tempfile.TemporaryDirectory(prefix="ipv2-")
    folder = Path(temporary.name)
    address, client = folder / "warm", folder / "PythonSlicer"
    client.write_text(CLIENT.format(python=sys.executable, address=address))
    client.chmod(0o755)
    environment = {**os.environ, "PYTHONUTF8": "1", "OPENBLAS_NUM_THREADS": "1"}
    server = subprocess.Popen([sys.executable, __file__, address], stdin=subprocess.PIPE, env=environment)
    while not address.exists():
        assert server.poll() is None
        time.sleep(0.01)
    yield folder
    server.communicate()
    temporary.cleanup()


def serve(address: str) -> tuple[list[str], str, dict[str, str]]:
    """Fork for everyone who asks, until stdin ends; returns, in the fork, what it is to do."""
    signal.signal(signal.SIGCHLD, lambda *_: None)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address + "~")
    listening.listen()
    os.rename(address + "~", address)
    selector = selectors.DefaultSelector()
    for each in (0, woken, listening):
        selector.register(each, selectors.EVENT_READ)
    running: dict[socket.socket, int] = {}
    while True:
        for key, _ in selector.select():
            if key.fileobj == 0:
                os._exit(0)
            elif key.fileobj == woken:
                os.read(woken, 4096)
                for connection, pid in list(running.items()):
                    ended, status = os.waitpid(pid, os.WNOHANG)
                    if ended:
                        with contextlib.suppress(OSError):
                            connection.send(str(os.waitstatus_to_exitcode(status)).encode())
                        with contextlib.suppress(KeyError):
                            selector.unregister(connection)
                        running.pop(connection)
                        connection.close()
            elif key.fileobj is listening:
                connection, _ = listening.accept()
                size, streams, *_ = socket.recv_fds(connection, 8, 3)
                asked = b""
                while len(asked) < int.from_bytes(size, "big"):
                    asked += connection.recv(1 << 20)
                pid = os.fork()
                if not pid:
                    os.setsid()
                    signal.set_wakeup_fd(-1)
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    for target, stream in enumerate(streams):
                        os.dup2(stream, target)
                    # Each by its owner: one that only lost its descriptor would close another's of that number later.
                    for owner in (selector, listening, connection, *running):
                        owner.close()
                    for descriptor in (woken, wake, *streams):
                        os.close(descriptor)
                    return json.loads(asked)
                for stream in streams:
                    os.close(stream)
                running[connection] = pid
                selector.register(connection, selectors.EVENT_READ)
            elif key.fileobj in running:
                said = key.fileobj.recv(1)
                with contextlib.suppress(ProcessLookupError):
                    if said:
                        os.kill(running[key.fileobj], said[0])
                    else:
                        os.killpg(running[key.fileobj], signal.SIGKILL)
                        selector.unregister(key.fileobj)


if __name__ == "__main__":
    import IPv2Lib.cli.commands
    import IPv2Lib.datasets.preparation
    import IPv2Lib.inference.denoise
    import IPv2Lib.training.loop  # noqa: F401
    import torch  # noqa: F401

    arguments, folder, environment = serve(sys.argv[1])
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.stdout, sys.stderr = (open(stream, "w", encoding="utf-8", errors="replace") for stream in (1, 2))  # noqa: SIM115
    sys.argv = ["ipv2", *arguments]
    runpy.run_module("IPv2Lib", run_name="__main__", alter_sys=True)
