"""The stand-in for Slicer's application, for tests of widgets."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="MRML needs Slicer or its wheel: pip install slicer-core")
pytest.importorskip("PySide6", reason="widgets need Qt: pip install PySide6-Essentials")

from host import Host
from warm_python import warm_python

collect_ignore = ["example"]  # a module of Slicer: it can be imported only where the stand-in is running


@pytest.fixture
def make_host() -> Iterator[Callable[..., Host]]:
    """Start the stand-in with options of `Host`; it is closed after the test, and what it caught is raised."""
    started = []

    def make(**options) -> Host:
        started.append(Host(**options))
        started[-1].app.setDoubleClickInterval(100)  # a second click on a button has to wait for longer
        from IPv2SlicerLib.jobs.Jobs import Jobs  # needs a running host

        Jobs.POLL_MSEC = 10
        return started[-1]

    yield make
    for each in started:
        each.close()


@pytest.fixture
def host(make_host) -> Host:
    """The stand-in with its default options."""
    return make_host()


@pytest.fixture(scope="session", autouse=True)
def _warm_python() -> Iterator[None]:
    """Jobs run in a Python that has its imports behind it, where forks of such a one are safe."""
    if sys.platform != "linux":
        yield
        return
    with warm_python() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(folder), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def _template(tmp_path_factory) -> Path:
    """A purified data set of four small synthetic patients, with a run of a few steps."""
    from train_panel import prepare_dataset, train_briefly

    dataset = prepare_dataset(tmp_path_factory.mktemp("train"), 4, size=64, slices=2)
    train_briefly(dataset, dataset / "runs" / "finished")
    return dataset


@pytest.fixture
def dataset(_template, tmp_path, monkeypatch) -> Path:
    """A copy of the data set to do with as one likes; published models go into a folder beside it."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "home"))
    return Path(shutil.copytree(_template, tmp_path / "data"))
