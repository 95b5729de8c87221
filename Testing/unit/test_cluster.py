"""Work on many items: order, failures, retries, workers of this machine and of a cluster, cancelling."""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import IPv2Lib
import psutil
import pytest
from children import children
from IPv2Lib.errors import Cancelled, InputError, OutputError
from IPv2Lib.parallel import cluster
from IPv2Lib.parallel.cluster import Scheduler
from IPv2Lib.progress import NO_PROGRESS, Progress

LIBRARY = str(Path(IPv2Lib.__file__).parents[1])


def double(item, *, progress):
    """Do what the item says; functions for workers are found by their name in this file."""
    progress.report(0.5, f"half of {item}")
    if item == "bad":
        raise InputError("a bad\ninput")
    if item == "bug":
        raise ValueError("surprise")
    if item == "stop" and progress.cancelled():
        raise Cancelled("stopped within")
    return 2 * item


def fails_once(marker: Path, *, progress):
    """Fail the first time, on whatever process."""
    if not marker.exists():
        marker.touch()
        raise OSError("the disk was away")
    return "done"


def dies(marker: Path, *, progress):
    """End the worker's process without a word, each time."""
    if marker.name == "fatal":
        os._exit(3)
    return os.getpid()


def dies_once(marker: Path, *, progress):
    """End the worker's process the first time."""
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def sockets(item, *, progress):
    """Of this process: those that have an address that somebody could connect to."""
    return [
        str(each.laddr)
        for each in psutil.Process().net_connections("all")
        if each.status == psutil.CONN_LISTEN or (isinstance(each.laddr, str) and each.laddr)
    ]


def waits(marker: Path, *, progress):
    """Until it is stopped, and leave a mark of that."""
    marker.with_suffix(".begun").write_text(str(os.getpid()))
    while not progress.cancelled():
        time.sleep(0.01)
    marker.with_suffix(".cleaned").touch()
    raise Cancelled("stopped within")


def cannot_be_sent(item, *, progress):
    """A result that cannot be pickled, or one that cannot be read again."""
    return (lambda: item) if item == "value" else TwoWords("one", "two")


class TwoWords(Exception):
    def __init__(self, first, second):
        super().__init__(f"{first} {second}")


def no_memory(item, *, progress):
    if item == "library":
        raise ImportError("libtorch_cpu.so: failed to map segment from shared object")
    raise MemoryError("Unable to allocate 7 TiB")


def slow(item, *, progress):
    time.sleep(0.3)


def pid(item, *, progress):
    return os.getpid()


@pytest.fixture(scope="module")
def secure():
    """A Dask cluster with TLS, and the files that its client needs."""
    from distributed import LocalCluster, Security

    security = Security.temporary()
    with LocalCluster(n_workers=1, processes=False, protocol="tls", security=security, dashboard_address=None) as other:
        yield other.scheduler_address, security


def files(security, folder: Path) -> dict[str, Path]:
    """What `Scheduler` wants, of a `distributed.Security` in memory."""
    texts = {"ca": security.tls_ca_file, "cert": security.tls_client_cert, "key": security.tls_client_key}
    for name, text in texts.items():
        (folder / f"{name}.pem").write_text(text)
    return {name: folder / f"{name}.pem" for name in texts}


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
        progress=Progress(lambda *arguments: told.append(arguments)),
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
        cluster.run(double, [1, 2, 3], finished=seen.append, progress=Progress(cancelled=lambda: len(seen) == 2))
    assert [outcome.value for outcome in seen] == [2, 4]
    answers = iter([False, True])
    with pytest.raises(Cancelled, match="within"):
        cluster.run(double, ["stop"], progress=Progress(cancelled=lambda: next(answers)))


def test_workers_of_this_machine(tmp_path):
    """One start of the processes for all: results, a worker that dies each time, and that others do its work."""
    outcomes = cluster.run(dies, [tmp_path / "a", tmp_path / "fatal", tmp_path / "b"], workers=2)
    assert [bool(outcome.error) for outcome in outcomes] == [False, True, False]
    assert "died" in outcomes[1].error and outcomes[1].attempts == 2
    assert os.getpid() not in {outcomes[0].value, outcomes[2].value}


def test_a_worker_that_died_is_missed_and_replaced(tmp_path):
    with cluster.crew(2) as crew:
        outcomes = crew.run(dies_once, [tmp_path / "a", tmp_path / "b"])
        assert [outcome.error for outcome in outcomes] == ["", ""]
        seen = {outcome.value for outcome in crew.run(pid, list(range(8)))}
        assert len(seen) <= 2
        os.kill(seen.pop(), signal.SIGKILL)  # while it has nothing to do
        assert not any(outcome.error for outcome in crew.run(pid, list(range(8))))
    assert children("spawn_main") == []


def test_nobody_can_connect_to_the_workers():
    own = sockets(0, progress=NO_PROGRESS)
    with cluster.crew(2) as crew:
        assert [outcome.value for outcome in crew.run(sockets, [0, 1])] == [[], []]
        assert sockets(0, progress=NO_PROGRESS) == own
        assert not any(
            child.net_connections("inet") for child in psutil.Process().children(recursive=True) if child.is_running()
        )


def test_workers_clean_up_when_they_are_stopped(tmp_path):
    places = [tmp_path / "a", tmp_path / "b"]

    def begun() -> bool:
        return all(place.with_suffix(".begun").exists() for place in places)

    with pytest.raises(Cancelled):
        cluster.run(waits, places, workers=2, progress=Progress(cancelled=begun))
    assert all(place.with_suffix(".cleaned").exists() for place in places)


def test_workers_leave_signals_to_their_owner_and_end_with_it(tmp_path):
    """What a terminal or a job scheduler sends reaches all processes; the death of the owner none."""
    script = (
        "import sys; from pathlib import Path; sys.path[:0] = sys.argv[1:4]; import test_cluster as t\n"
        "if __name__ == '__main__': t.cluster.run(t.waits, [Path(p) for p in sys.argv[4:]], workers=2)"
    )
    (tmp_path / "script.py").write_text(script)
    places = [tmp_path / "a", tmp_path / "b"]
    owner = subprocess.Popen(
        [sys.executable, tmp_path / "script.py", LIBRARY, *map(str, Path(__file__).parents[:2]), *places],
        start_new_session=True,
    )
    marks = [place.with_suffix(".begun") for place in places]
    wait_for(lambda: owner.poll() is not None or all(mark.exists() and mark.read_text() for mark in marks))
    workers = [psutil.Process(int(mark.read_text())) for mark in marks]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        for worker in workers:
            worker.send_signal(number)
    assert not psutil.wait_procs(workers, 0.3)[0]
    owner.kill()
    owner.wait()
    assert not psutil.wait_procs(workers, 10)[1]


def test_what_cannot_be_sent_is_an_error_of_its_own():
    outcomes = cluster.run(cannot_be_sent, ["value", "error"], workers=2, retries=0)
    assert "cannot be sent" in outcomes[0].error
    assert outcomes[1].error.startswith("TypeError: ")


@pytest.mark.parametrize("workers", [1, 2])
def test_too_little_memory_is_one_line(workers, caplog):
    outcomes = cluster.run(no_memory, ["array", "library"], workers=workers)
    for outcome, what in zip(
        outcomes, ("MemoryError: Unable to allocate 7 TiB", "ImportError: libtorch_cpu"), strict=True
    ):
        assert outcome.error.startswith(f"there is too little memory ({what}")
        assert outcome.error.endswith("): use fewer workers")
        assert outcome.attempts == 2 and not outcome.details and not caplog.text


def test_too_few_open_files_are_one_line():
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, hard))
    try:
        with pytest.raises(InputError, match=r"8 workers cannot be started \(Too many open files\): use fewer"):
            cluster.run(pid, list(range(8)), workers=8)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_scheduler_with_tls(secure, tmp_path):
    address, security = secure
    outcomes = cluster.run(double, [1, 2], scheduler=Scheduler(address, **files(security, tmp_path)))
    assert [outcome.value for outcome in outcomes] == [2, 4]
    both = tmp_path / "both.pem"
    both.write_text(security.tls_client_key + security.tls_client_cert)
    (outcome,) = cluster.run(double, [1], scheduler=Scheduler(address, tmp_path / "ca.pem", both))
    assert outcome.value == 2


def test_who_has_no_right_to_a_scheduler_with_tls(secure, tmp_path, monkeypatch):
    from distributed import Security

    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1)
    address, security = secure
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    for folder, of in ((right, security), (wrong, Security.temporary())):
        folder.mkdir()
        files(of, folder)
    for ca, own in ((wrong, right), (right, wrong), (wrong, wrong)):
        with pytest.raises(InputError, match="no Dask scheduler answers at tls") as error:
            cluster.run(double, [1], scheduler=Scheduler(address, ca / "ca.pem", own / "cert.pem", own / "key.pem"))
        assert "\n" not in str(error.value)
    for bare in (address, address.replace("tls", "tcp")):
        with pytest.raises(InputError, match="no Dask scheduler answers"):
            cluster.run(double, [1], scheduler=bare)
    with pytest.raises(InputError, match=r"none\.pem cannot be read"):
        cluster.run(double, [1], scheduler=Scheduler(address, right / "none.pem", right / "cert.pem"))
    with pytest.raises(InputError, match=r"certificates .* cannot be used"):
        cluster.run(double, [1], scheduler=Scheduler(address, right / "ca.pem", right / "cert.pem", wrong / "key.pem"))
    with pytest.raises(InputError, match="has no TLS"):
        cluster.run(double, [1], scheduler=Scheduler("tcp://127.0.0.1:9", right / "ca.pem", right / "cert.pem"))


def test_what_did_not_connect_is_closed_at_once(monkeypatch):
    """The garbage collector would close it while another one starts, and wait for a lock that this one holds."""
    from distributed import Client

    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 0.2)
    gc.disable()
    try:
        for address in ("tcp://127.0.0.1:9", "tls://127.0.0.1:9", "nonsense://here", "tcp://nowhere.invalid:1"):
            with pytest.raises(InputError, match="no Dask scheduler answers"):
                cluster.run(double, [1], scheduler=address)
        assert {each.status for each in gc.get_objects() if isinstance(each, Client)} <= {"closed", "newly-created"}
    finally:
        gc.enable()


def wait_for(condition) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.01)


def test_the_workers_of_a_scheduler(scheduler, tmp_path):
    told = []
    outcomes = cluster.run(
        double, [1, 2, "bug"], scheduler=scheduler, progress=Progress(lambda *arguments: told.append(arguments))
    )
    assert [outcome.value for outcome in outcomes] == [2, 4, None]
    assert outcomes[2].error == "ValueError: surprise" and outcomes[2].attempts == 2
    assert told[0][0] == 0 and told[-1][0] == 1
    (outcome,) = cluster.run(fails_once, [tmp_path / "marker"], scheduler=scheduler)
    assert (outcome.value, outcome.attempts) == ("done", 2)


def test_a_scheduler_that_ends_is_said_once(caplog):
    """The clients of Dask give up what they wait for."""
    import dask
    from distributed import LocalCluster

    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        LocalCluster(n_workers=1, processes=False, protocol="tcp", dashboard_address=None) as other,
    ):
        address = other.scheduler_address
        ended = threading.Event()

        def progress(fraction, text):
            if not ended.is_set():
                ended.set()
                other.loop.add_callback(other.scheduler.close)

        with pytest.raises(OutputError, match=f"the Dask scheduler at {address} does not answer any more") as told:
            cluster.run(slow, list(range(20)), scheduler=address, progress=Progress(progress))
    assert "\n" not in str(told.value)
    assert not [each for each in caplog.get_records("call") if each.name.startswith(("IPv2Lib", "distributed.client"))]


def test_cancelling_there(scheduler):
    seen = []
    with pytest.raises(Cancelled):
        cluster.run(double, [1], scheduler=scheduler, finished=seen.append, progress=Progress(cancelled=lambda: True))
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
    with pytest.raises(InputError, match=r"a scheduler needs distributed, .* pip install \"IPv2Lib\[train\]\""):
        cluster.run(double, [1, 2], scheduler="tcp://127.0.0.1:9")


def test_no_items_are_no_work():
    assert cluster.run(double, [], workers=8) == []
