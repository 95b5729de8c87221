"""The process that workers of the panels' tests are forked from."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from warm_python import CLIENT

SERVER = """
import gc, os, sys
sys.path.insert(0, {folder!r})
from warm_python import serve
serve(sys.argv[1])
gc.disable()
opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(40)]
gc.collect()
for descriptor in opened:
    os.fstat(descriptor)
os.write(1, b"all open, the first is %d" % opened[0])
"""


@pytest.mark.skipif(os.name != "posix", reason="no fork")
def test_what_a_fork_opens_stays_open(tmp_path_factory):
    folder = tmp_path_factory.mktemp("warm")
    address, client = folder / "a", folder / "client"
    client.write_text(CLIENT.format(python=sys.executable, address=address))
    script = SERVER.format(folder=str(Path(__file__).parent))
    with subprocess.Popen([sys.executable, "-c", script, address], stdin=subprocess.PIPE) as server:
        while not address.exists():
            assert server.poll() is None
            time.sleep(0.01)
        said = [
            subprocess.run([sys.executable, client, "-m", "IPv2Lib"], capture_output=True, text=True, check=True).stdout
            for _ in range(2)
        ]
        server.communicate()
    assert said == ["all open, the first is 3"] * 2
