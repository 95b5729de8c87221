"""Work on many items: order, failures, retries, workers of this machine and of a cluster, cancelling."""

import os
from pathlib import Path

import pytest
from IPv2Lib import cluster
from IPv2Lib.errors import Cancelled, InputError


def double(item, *, progress, cancelled):
    """Do what the item says; functions for workers are found by their name in this file."""
    progress(0.5, f"half of {item}")
    if item == "bad":
        raise InputError("a bad\ninput")
    if item == "bug":
        raise ValueError("surprise")
    if item == "stop" and cancelled():
        raise Cancelled("stopped within")
    return 2 * item


def fails_once(marker: Path, *, progress, cancelled):
    """Fail the first time, on whatever process."""
    if not marker.exists():
        marker.touch()
        raise OSError("the disk was away")
    return "done"


def dies(marker: Path, *, progress, cancelled):
    """End the worker's process without a word, each time."""
    if marker.name == "fatal":
        os._exit(3)
    return os.getpid()


@pytest.fixture(scope="module")
def scheduler():
    """Address of a Dask cluster that somebody else started."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address=None) as other:
        yield other.scheduler_address


def test_failures_stop_no_others_and_the_order_is_that_of_the_items(caplog):
    seen, told = [], []
    outcomes = cluster.run(
        double,
        [1, "bad", "bug", 4],
        retries=2,
        finished=seen.append,
        progress=lambda *arguments: told.append(arguments),
    )
    assert [outcome.value for outcome in outcomes] == [2, None, None, 8]
    assert [outcome.error for outcome in outcomes] == ["", "a bad input", "ValueError: surprise", ""]
    assert [outcome.attempts for outcome in outcomes] == [1, 1, 3, 1]  # bad input stays bad
    assert seen == outcomes
    assert "line" in outcomes[2].details and "ValueError: surprise" in caplog.text
    fractions = [fraction for fraction, _ in told]
    assert fractions == sorted(fractions) and fractions[0] == 0
    assert (0.125, "half of 1") in told


def test_what_failed_is_tried_again(tmp_path):
    (outcome,) = cluster.run(fails_once, [tmp_path / "marker"])
    assert (outcome.value, outcome.error, outcome.attempts, outcome.details) == ("done", "", 2, "")
    (outcome,) = cluster.run(fails_once, [tmp_path / "other"], retries=0)
    assert (outcome.value, outcome.error, outcome.attempts) == (None, "OSError: the disk was away", 1)


def test_cancelling_here():
    seen = []
    with pytest.raises(Cancelled):
        cluster.run(double, [1, 2, 3], finished=seen.append, cancelled=lambda: len(seen) == 2)
    assert [outcome.value for outcome in seen] == [2, 4]
    answers = iter([False, True])
    with pytest.raises(Cancelled, match="within"):
        cluster.run(double, ["stop"], cancelled=lambda: next(answers))


def test_workers_of_this_machine(tmp_path):
    """One start of the processes for all: results, a worker that dies each time, and that others do its work."""
    outcomes = cluster.run(dies, [tmp_path / "a", tmp_path / "fatal", tmp_path / "b"], workers=2)
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False]
    assert "died" in outcomes[1].error and outcomes[1].attempts == 2
    assert os.getpid() not in {outcomes[0].value, outcomes[2].value}


def test_the_workers_of_a_scheduler(scheduler, tmp_path):
    told = []
    outcomes = cluster.run(
        double, [1, 2, "bug"], scheduler=scheduler, progress=lambda *arguments: told.append(arguments)
    )
    assert [outcome.value for outcome in outcomes] == [2, 4, None]
    assert outcomes[2].error == "ValueError: surprise" and outcomes[2].attempts == 2
    assert told[0][0] == 0 and told[-1][0] == 1
    (outcome,) = cluster.run(fails_once, [tmp_path / "marker"], scheduler=scheduler)
    assert (outcome.value, outcome.attempts) == ("done", 2)


def test_cancelling_there(scheduler):
    seen = []
    with pytest.raises(Cancelled):
        cluster.run(double, [1], scheduler=scheduler, finished=seen.append, cancelled=lambda: True)
    assert not seen


def test_what_cannot_be_run(monkeypatch):
    with pytest.raises(InputError, match="0 workers"):
        cluster.run(double, [1], workers=0)
    with pytest.raises(InputError, match="-1 retries"):
        cluster.run(double, [1], retries=-1)
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.2)
    with pytest.raises(InputError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:9"):
        cluster.run(double, [1], scheduler="tcp://127.0.0.1:9")
    with pytest.raises(InputError, match="no Dask scheduler answers at nonsense"):
        cluster.run(double, [1], scheduler="nonsense://here")
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    with pytest.raises(InputError, match="pip install dask distributed"):
        cluster.run(double, [1, 2], workers=2)


def test_no_items_are_no_work():
    assert cluster.run(double, [], workers=8) == []
