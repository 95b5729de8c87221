"""The stand-in for Slicer's application, for tests of widgets."""

from collections.abc import Callable, Iterator

import pytest

pytest.importorskip("slicer", reason="MRML needs Slicer or its wheel: pip install slicer-core")
pytest.importorskip("PySide6", reason="widgets need Qt: pip install PySide6-Essentials")

from host import Host

collect_ignore = ["example"]  # a module of Slicer: it can be imported only where the stand-in is running


@pytest.fixture
def make_host() -> Iterator[Callable[..., Host]]:
    """Start the stand-in with options of `Host`; it is closed after the test, and what it caught is raised."""
    started = []

    def make(**options) -> Host:
        started.append(Host(**options))
        return started[-1]

    yield make
    for each in started:
        each.close()


@pytest.fixture
def host(make_host) -> Host:
    """The stand-in with its default options."""
    return make_host()
