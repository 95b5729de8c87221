"""The queue of a node: what is kept of what came, what is sent once, and what is forgotten."""

import os
import shutil

import pytest
from IPv2Lib.errors import OutputError
from IPv2Lib.node.queue import DENOISED, Outgoing, Queue, State


@pytest.fixture
def queue(tmp_path) -> Queue:
    """An empty one."""
    return Queue(tmp_path / "queue")


def come(queue: Queue, key: str, instance: str, content: bytes = b"a") -> bool:
    """Let an instance arrive."""
    with queue.arriving(content) as path:
        return queue.accept(key, instance, path)


def finish(queue: Queue, key: str, result: str = "") -> None:
    """Say that something became of all slices of a series."""
    with queue.snapshot(key) as (_, revision):
        queue.write_state(key, State(revision, DENOISED, result=result))


def make(queue: Queue, result: str) -> None:
    """A result of one file."""
    with queue.new_result(result) as place:
        place.mkdir()
        (place / "0001.dcm").write_text(result)


def test_a_key_is_the_same_in_a_queue_and_another_in_another(queue, tmp_path):
    assert queue.key("0815", "1.2.3") == Queue(queue.folder).key("0815", "1.2.3")
    assert queue.key("0815", "1.2.3") != Queue(tmp_path / "other").key("0815", "1.2.3")
    assert queue.key("0815", "1.2.3") != queue.key("08151", ".2.3")


def test_the_same_instance_again_changes_nothing_and_another_content_does(queue):
    assert come(queue, "k", "1") and come(queue, "k", "2")
    finish(queue, "k")
    assert not come(queue, "k", "1")
    assert queue.is_done("k")
    assert come(queue, "k", "1", b"b")
    assert not queue.is_done("k")
    assert sorted(path.read_bytes() for path in queue.slices("k")) == [b"a", b"b"]


def test_what_comes_during_the_work_is_not_in_it_and_not_forgotten(queue):
    come(queue, "k", "1")
    with queue.snapshot("k") as (folder, revision):
        come(queue, "k", "2")
        come(queue, "k", "1", b"new")
        assert [path.read_bytes() for path in folder.iterdir()] == [b"a"]
        queue.write_state("k", State(revision, DENOISED))
    assert not queue.is_done("k")
    finish(queue, "k")
    assert Queue(queue.folder).is_done("k")


def test_work_that_ends_the_process_is_counted_and_other_ends_are_not(queue):
    come(queue, "k", "1")
    with queue.attempt("k", "revision"):
        (mark,) = queue.folder.glob("series/k/*.begun")
    for number in range(2):
        mark.with_name(f"revision-{number}.begun").touch()  # what a kill leaves
    with pytest.raises(OutputError), queue.attempt("k", "revision") as attempt:
        assert attempt == 3
        raise OutputError("the disk is full")
    with queue.attempt("k", "another revision") as attempt:
        assert attempt == 1
    with queue.attempt("k", "revision") as attempt:
        assert attempt == 1


def test_a_result_is_promised_once_to_each_whatever_was_sent(queue):
    make(queue, "k-1")
    for _ in range(2):
        queue.promise("k-1", ["a", "b"])
    (waiting,) = queue.outgoing("a")
    queue.sent("a", waiting)
    queue.promise("k-1", ["a", "b"])
    assert queue.outgoing("a") == []
    assert [each.result for each in queue.outgoing("b")] == ["k-1"]


def test_results_are_sent_in_order_and_the_urgent_one_first(queue):
    for name in ("k-b", "k-a", "k-c"):
        queue.promise(name, ["pacs"], urgent=name == "k-c")
    assert [each.result for each in Queue(queue.folder).outgoing("pacs")] == ["k-c", "k-b", "k-a"]


def test_a_result_appears_whole_or_not_at_all(queue):
    with pytest.raises(ZeroDivisionError), queue.new_result("k-1") as place:
        place.mkdir()
        (place / "0001.dcm").write_text("half")
        1 / 0  # noqa: B018
    assert not queue.result("k-1").exists()
    make(queue, "k-1")
    assert [path.read_text() for path in queue.names_of("k-1")] == ["k-1"]


def test_only_what_is_old_finished_and_sent_is_forgotten(queue):
    for key in ("new", "old", "unsent", "late"):
        come(queue, key, "1")
        make(queue, f"{key}-1")
        finish(queue, key, f"{key}-1")
        if key != "new":
            os.utime(queue.folder / "series" / key / "state.json", (0, 0))
    queue.promise("unsent-1", ["pacs"])
    queue.sent("pacs", Outgoing(mark(queue, "old-1"), "old-1"))
    come(queue, "late", "2")
    assert queue.forget(days=1) == 1
    left = {path.name for path in queue.folder.rglob("*")}
    assert not any("old" in name for name in left)
    assert {"new", "unsent", "late", "new-1", "unsent-1", "late-1"} <= left
    assert not list((queue.folder / "work").iterdir())


def mark(queue: Queue, result: str):
    """Where it is said that a result is to be sent."""
    queue.promise(result, ["pacs"])
    return next(each.mark for each in queue.outgoing("pacs") if each.result == result)


def test_a_state_that_a_loss_of_power_damaged_means_work_and_no_crash(queue):
    come(queue, "k", "1")
    finish(queue, "k")
    (queue.folder / "series" / "k" / "state.json").write_text('{"revision": "')
    assert not queue.is_done("k")
    assert queue.counts() == {"waiting": 1}


def test_what_a_killed_node_was_writing_is_cleared_away(queue):
    come(queue, "k", "1")
    left = queue.folder / "work" / ".ipv2-host~1~1~0"
    left.mkdir()
    (left / "instance.dcm").write_text("half")
    queue.sweep()
    assert not list((queue.folder / "work").iterdir())
    assert len(queue.slices("k")) == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_queue_that_is_read_only_is_one_line(queue):
    (queue.folder / "work").chmod(0o500)
    with pytest.raises(OutputError, match="cannot be written"):
        come(queue, "k", "1")
    (queue.folder / "work").chmod(0o700)


def test_a_queue_that_was_taken_away_accepts_nothing(queue):
    shutil.rmtree(queue.folder)
    with pytest.raises(OutputError, match="cannot be written"):
        come(queue, "k", "1")
