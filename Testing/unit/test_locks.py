"""One owner of a folder at a time: real processes that live, end, die, and lie on other computers."""

import errno
import json
import multiprocessing
import os
import platform
import re
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import IPv2Lib
import pytest
from IPv2Lib.errors import InputError, OutputError
from IPv2Lib.io import atomic, locks
from IPv2Lib.io.locks import ForOwner, exclusive, lock_files, owned, owner_of

LIBRARY = str(Path(IPv2Lib.__file__).parents[1])
HOLD = """
import sys
from IPv2Lib.errors import IPv2Error
from IPv2Lib.io.locks import owned
try:
    with owned(sys.argv[1], "train"):
        print("mine", flush=True)
        sys.stdin.read()
except IPv2Error as error:
    print(error, flush=True)
"""


@pytest.fixture
def hold():
    """Start a process that holds a folder until its stdin is closed; its first line is "mine" or why not."""
    with ExitStack() as ends:

        def start(folder) -> subprocess.Popen:
            process = subprocess.Popen(
                [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                env={**os.environ, "PYTHONPATH": LIBRARY},
            )  # fmt: skip
            ends.enter_context(process)
            ends.callback(process.kill)
            return process

        yield start


@pytest.fixture(params=["flock", "no flock"])
def flock(request, monkeypatch):
    """With and without a file system that knows `flock`."""
    if request.param == "no flock":
        monkeypatch.setattr(locks, "_flock", lambda file: None)
    return request.param


def leave(path: Path, **facts) -> None:
    """The file of an owner, as a crash leaves it."""
    owner = {"command": "train", "host": platform.node(), "pid": 2**22 + 1, "began": 1.0, "since": "yesterday"}
    path.write_text(json.dumps(owner | facts))


@pytest.mark.parametrize("exists", [True, False])
def test_one_owner_at_a_time_who_is_named_and_leaves_nothing(tmp_path, hold, exists, flock):
    folder = tmp_path / "deep" / "run"
    if exists:
        folder.mkdir(parents=True)
    first = hold(folder)
    assert first.stdout.readline() == "mine\n"
    with pytest.raises(InputError, match=rf"run is in use by 'ipv2 train', process {first.pid} on this computer, si"):
        owned(folder, "prepare").__enter__()
    assert f"process {first.pid}" in hold(folder).stdout.readline()
    first.communicate()
    with owned(folder, "prepare"), pytest.raises(InputError, match=f"'ipv2 prepare', process {os.getpid()}"):
        owned(folder, "prepare").__enter__()
    assert sorted(tmp_path.rglob("*")) == ([tmp_path / "deep", folder] if exists else [])


def test_what_its_owner_calls_may_work_on_a_folder(tmp_path, hold):
    @exclusive("prepare")
    def work(folder):
        assert hold(folder).stdout.readline().startswith(f"{folder} is in use by")
        return owner_of(folder).command

    with owned(tmp_path / "run", "train"):
        assert work(tmp_path / "run") == "train"
        assert work(tmp_path / "other") == "prepare"
        assert owner_of(tmp_path / "run").command == "train"
    assert work(tmp_path / "run") == "prepare"


def test_what_was_made_meanwhile_stays(tmp_path):
    with owned(tmp_path / "deep" / "run", "train"):
        (tmp_path / "deep" / "run").mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["deep", "run"]


def test_a_crash_of_the_owner_is_survived(tmp_path, hold, flock):
    first = hold(tmp_path / "run")
    assert first.stdout.readline() == "mine\n"
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert lock_files(tmp_path / "run")[0].exists()
    with owned(tmp_path / "run", "train"):
        pass
    assert not list(tmp_path.iterdir())


def test_a_number_that_was_given_to_another_process_is_no_owner(tmp_path, flock):
    leave(lock_files(tmp_path / "run")[0], pid=os.getpid())
    with owned(tmp_path / "run", "train"):
        pass


def test_an_owner_that_lives_is_believed_where_the_file_system_does_not_know(tmp_path):
    began = locks.start_of(os.getppid())
    leave(lock_files(tmp_path / "run")[0], pid=os.getppid(), began=began)
    with pytest.raises(InputError, match=f"process {os.getppid()} on this computer"):
        owned(tmp_path / "run", "train").__enter__()


def test_what_a_dead_owner_started_is_waited_for(tmp_path):
    """Forked processes hold the file a little longer than the one that forked them."""
    path = lock_files(tmp_path / "run")[0]
    leave(path)
    script = "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, 2); print(flush=True); sys.stdin.read()"
    child = subprocess.Popen([sys.executable, "-c", script, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    with pytest.raises(InputError, match="in use"):
        owned(tmp_path / "run", "train").__enter__()
    child.communicate()
    with owned(tmp_path / "run", "train"):
        pass


def test_an_owner_on_another_computer_is_believed_and_the_file_named(tmp_path, flock):
    path = lock_files(tmp_path / "run")[0]
    leave(path, host="elsewhere")
    with pytest.raises(InputError, match=f"on computer elsewhere, since yesterday: .* remove {path}"):
        owned(tmp_path / "run", "train").__enter__()
    path.unlink()
    with owned(tmp_path / "run", "train"):
        pass


@pytest.mark.parametrize("content", ["", "{", '{"pid": "many"}', "[]"])
def test_a_damaged_file_has_no_owner(tmp_path, content):
    lock_files(tmp_path / "run")[0].write_text(content)
    with owned(tmp_path / "run", "train"):
        pass


def test_a_planted_link_is_not_followed(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    lock_files(tmp_path / "run")[0].symlink_to(tmp_path / "mine.txt")
    with pytest.raises(InputError, match="symbolic link"):
        owned(tmp_path / "run", "train").__enter__()
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_other_names_of_the_folder_are_the_same_folder(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    with owned(tmp_path / "run", "train"):
        for name in (tmp_path / "link", ".", "../run", tmp_path / "run" / "..", str(tmp_path / "run") + "/"):
            if Path(name).resolve() == tmp_path / "run":
                with pytest.raises(InputError, match="in use"):
                    owned(name, "train").__enter__()


def test_without_the_right_to_write_beside_it_the_file_lies_within(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir()
    real = os.open

    def refuse(path, flags, *arguments, **options):
        if Path(path) == lock_files(folder)[0] and flags & os.O_CREAT:
            raise PermissionError(13, "Permission denied")
        return real(path, flags, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    with owned(folder, "train"):
        assert lock_files(folder)[1].exists()
        with pytest.raises(InputError, match="in use"):
            owned(folder, "train").__enter__()
        monkeypatch.undo()  # somebody who may write there
        with pytest.raises(InputError, match="in use"):
            owned(folder, "train").__enter__()
    assert not list(folder.iterdir())


def test_what_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="run cannot be written"):
        owned(tmp_path / "file" / "run", "train").__enter__()


def test_a_forked_process_does_not_let_go(tmp_path):
    with owned(tmp_path / "run", "train"):
        child = multiprocessing.get_context("fork").Process(target=sys.exit)
        with owned(tmp_path / "other", "train"):
            child.start()
            child.join()
        assert lock_files(tmp_path / "run")[0].exists()


def test_of_many_that_begin_at_once_one_wins(tmp_path, hold):
    leave(lock_files(tmp_path / "run")[0])
    processes = [hold(tmp_path / "run") for _ in range(6)]
    lines = [process.stdout.readline() for process in processes]
    assert sum(line == "mine\n" for line in lines) == 1
    assert all("in use" in line for line in lines if line != "mine\n")


def test_files_of_dead_owners_are_swept_and_those_of_others_are_not(tmp_path, hold, flock):
    leave(tmp_path / ".dead.ipv2-lock")
    living = hold(tmp_path / "alive")
    assert living.stdout.readline() == "mine\n"
    with owned(tmp_path / "mine", "test"):
        locks.sweep(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {".alive.ipv2-lock", ".mine.ipv2-lock"}
    assert living.poll() is None


def test_a_stop_while_a_folder_is_let_go_leaves_nothing(tmp_path, monkeypatch):
    real, calls = locks._is_still, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 2:  # the first one is when it is taken
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(locks, "_is_still", interrupted)
    with pytest.raises(KeyboardInterrupt), owned(tmp_path / "folder", "test"):
        pass
    assert len(calls) == 3 and list(tmp_path.iterdir()) == []


def test_a_full_disk_is_said_in_words(tmp_path, monkeypatch):
    """As by everything that writes; nobody but `errors.reason` words what the system says."""

    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "open", full)
    with pytest.raises(OutputError, match=r"run cannot be written \(the disk is full\)"):
        owned(tmp_path / "run", "train").__enter__()
    monkeypatch.undo()
    library = Path(IPv2Lib.__file__).parent
    asking = [path.name for path in library.rglob("*.py") if "error.strerror" in path.read_text(encoding="utf-8")]
    assert not asking


# --- what is done for an owner elsewhere ------------------------------------------------------------------------


def results(folder: Path, name: str, meanwhile=lambda: None) -> None:
    """As a worker: a file, a folder and files that belong together, after something has happened."""
    folder.mkdir(exist_ok=True)
    with ExitStack() as writing:
        private = writing.enter_context(atomic.private_folder(folder))
        (private / "part").write_text(name)
        writing.enter_context(atomic.new_folder(folder / "folder"))
        meanwhile()
        for write in (
            lambda: atomic.write_text(folder / "file", name),
            lambda: atomic.move_together(private, {folder / "part": private / "part"}),
            writing.close,
        ):
            try:
                write()
            except OutputError as error:
                assert re.search("run is no longer .* 'ipv2 train'", str(error)), error
                refused.append(write)


refused: list = []


def test_for_an_owner_that_lives_or_was_killed_results_are_put_in_place(tmp_path, hold):
    first = hold(tmp_path / "run")
    assert first.stdout.readline() == "mine\n"
    refused.clear()
    ForOwner(results, tmp_path / "run", owner_of(tmp_path / "run"))(tmp_path / "run", "first", first.kill)
    assert not refused and sorted(os.listdir(tmp_path / "run")) == ["file", "folder", "part"]


@pytest.mark.parametrize("lets_go", [False, True])
def test_once_another_one_owns_the_folder_nothing_is_put_in_place_for_the_first(tmp_path, hold, lets_go):
    """As by the worker of a scheduler, which knows nothing of the death of whom it works for."""
    first, seconds = hold(tmp_path / "run"), []
    assert first.stdout.readline() == "mine\n"

    def taken_over() -> None:
        first.kill()
        first.wait()
        seconds.append(hold(tmp_path / "run"))
        assert seconds[0].stdout.readline() == "mine\n"
        if lets_go:
            seconds[0].communicate()

    refused.clear()
    late = ForOwner(results, tmp_path / "run", owner_of(tmp_path / "run"))
    late(tmp_path / "run", "late", taken_over)
    assert len(refused) == 3 and not os.listdir(tmp_path / "run")
    if not lets_go:
        with pytest.raises(OutputError, match="is no longer"):
            late(tmp_path / "run", "later still")


def test_where_the_file_of_the_owner_cannot_be_seen_work_goes_on(tmp_path):
    """As on a worker of a scheduler that sees the folder but not what lies beside it."""
    with owned(tmp_path / "run", "train"):
        owner = owner_of(tmp_path / "run")
    ForOwner(results, tmp_path / "run", owner)(tmp_path / "run", "unseen")
    assert sorted(os.listdir(tmp_path / "run")) == ["file", "folder", "part"]
