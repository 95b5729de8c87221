"""Events of the stand-in: waiting, threads that starve, and how long the user interface stood still."""

import sys
import threading
import time

import pytest
from PySide6 import QtCore


def test_waiting_ends_when_it_came_true_or_took_too_long(host):
    done = []
    QtCore.QTimer.singleShot(50, lambda: done.append(True))
    host.wait_until(lambda: done, timeout=30)
    with pytest.raises(TimeoutError, match=r"0\.1 s"):
        host.wait_until(lambda: False, timeout=0.1)


def test_waiting_ends_with_an_error(host):
    def wrong():
        raise ValueError("from a timer")

    QtCore.QTimer.singleShot(0, wrong)
    with pytest.raises(ValueError, match="from a timer"):
        host.wait_until(lambda: False, timeout=10)


def test_the_longest_standstill_is_measured(host):
    host.process_events(0.2)
    host.reset_block_timer()
    QtCore.QTimer.singleShot(20, lambda: time.sleep(0.3))
    host.process_events(0.5)
    assert host.longest_block() > 0.25
    host.reset_block_timer()
    time.sleep(2)  # outside of events nobody waits for the user interface
    host.process_events(0.1)
    assert host.longest_block() < 1.9


def rounds_of_a_thread(host, seconds: float) -> int:
    rounds, ended = [0], threading.Event()

    def run():
        while not ended.wait(0.001):
            rounds[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    host.process_events(seconds)
    ended.set()
    thread.join()
    return rounds[0]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Qt's function is known by its Linux name only")
def test_threads_starve_as_in_slicer(make_host):
    starving = make_host()
    few = rounds_of_a_thread(starving, 1.0)
    starving.close()
    many = rounds_of_a_thread(make_host(keep_lock=False), 1.0)
    assert few < many / 2
