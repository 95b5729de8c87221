"""Files and folders appear whole or not at all, and nothing of anybody else's is lost."""

import os
import platform
import signal
import subprocess
import sys
import textwrap

import pytest
from IPv2Lib.errors import OutputError
from IPv2Lib.io import atomic


@pytest.fixture(params=[True, False], ids=["exchange", "two renames"])
def exchange(request, monkeypatch):
    """With and without a system that can exchange two folders in one step."""
    if not request.param:
        monkeypatch.setattr(atomic, "_exchange", lambda a, b: False)


def names(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_appears_at_the_end(tmp_path):
    path = tmp_path / "a.txt"
    with atomic.new_file(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["a.txt"]


def test_a_file_that_failed_leaves_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic.new_file(path) as temporary:
        temporary.write_text("new")
        raise ZeroDivisionError
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


def test_a_file_may_have_the_longest_name(tmp_path):
    atomic.write_text(tmp_path / ("a" * 255), "x")
    assert os.listdir(tmp_path) == ["a" * 255]


def test_a_file_replaces_a_link_and_not_what_it_points_to(tmp_path):
    (tmp_path / "precious").write_text("old")
    (tmp_path / "link").symlink_to("precious")
    atomic.write_text(tmp_path / "link", "new")
    assert (tmp_path / "precious").read_text() == "old" and (tmp_path / "link").read_text() == "new"


def test_private_folders_are_private_and_not_to_be_guessed(tmp_path):
    with atomic.private_folder(tmp_path) as first, atomic.private_folder(tmp_path) as second:
        assert first != second
        assert first.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("there", [False, True], ids=["new", "empty"])
def test_a_folder_appears_at_the_end(tmp_path, there):
    folder = tmp_path / "deep" / "folder"
    if there:
        folder.mkdir(parents=True)
    with atomic.new_folder(folder) as fresh:
        (fresh / "a").write_text("new")
        assert not (folder / "a").exists()
    assert names(tmp_path) == ["deep/folder/a"]


@pytest.mark.usefixtures("exchange")
def test_a_folder_is_replaced(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "old").write_text("old")
    with atomic.new_folder(folder) as fresh:
        (fresh / "a").write_text("new")
        assert names(folder) == ["sub/old"]
    assert names(tmp_path) == ["folder/a"]


@pytest.mark.usefixtures("exchange")
def test_a_folder_that_failed_leaves_the_old_one(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "old").write_text("old")
    with pytest.raises(KeyboardInterrupt), atomic.new_folder(folder) as fresh:
        (fresh / "a").write_text("new")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["folder/old"]


@pytest.mark.usefixtures("exchange")
def test_what_appeared_meanwhile_is_kept(tmp_path):
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    for name in ("a", "changed", "untouched"):
        (folder / name).write_text("old")
    with atomic.new_folder(folder) as fresh:
        (fresh / "a").write_text("new")
        (folder / "sub" / "note").write_text("mine")
        (folder / "changed").write_text("mine, too")
        (folder / "a").write_text("mine, of the same name")
    assert names(folder) == ["a", "a 2", "changed", "sub/note"]
    assert (folder / "a").read_text() == "new" and (folder / "a 2").read_text() == "mine, of the same name"


def test_a_folder_that_appeared_meanwhile_is_left_alone(tmp_path):
    folder = tmp_path / "folder"
    with pytest.raises(OutputError, match="made by somebody else meanwhile"), atomic.new_folder(folder) as fresh:
        (fresh / "a").write_text("new")
        folder.mkdir()
        (folder / "theirs").write_text("theirs")
    assert names(tmp_path) == ["folder/theirs"]


@pytest.mark.usefixtures("exchange")
@pytest.mark.parametrize("which", range(1, 4))
def test_an_interrupt_between_any_two_renames_loses_nothing(tmp_path, monkeypatch, which):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("old")
    rename, calls = os.rename, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == which:
            raise KeyboardInterrupt
        rename(*arguments)

    monkeypatch.setattr(os, "rename", interrupted)
    try:
        with atomic.new_folder(folder) as fresh:
            (fresh / "a").write_text("new")
    except KeyboardInterrupt:
        pass
    assert names(tmp_path) == ["folder/a"]


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from IPv2Lib.io import atomic

    exchanges, which, folder = sys.argv[1] == "exchange", int(sys.argv[2]), Path(sys.argv[3])
    rename, exchange, calls = os.rename, atomic._exchange, []

    def counted(function):
        def call(*arguments):
            calls.append(1)
            if len(calls) == which:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments)
        return call

    os.rename = counted(rename)
    atomic._exchange = counted(exchange) if exchanges else lambda a, b: False
    atomic.json.loads = counted(atomic.json.loads)
    with atomic.new_folder(folder) as fresh:
        (fresh / "a").write_text("new")
        (folder / "note").write_text("mine")
"""


@pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals here")
@pytest.mark.parametrize("how", ["exchange", "renames"])
@pytest.mark.parametrize("which", range(1, 6))
def test_a_kill_between_any_two_steps_loses_nothing(tmp_path, how, which):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "a").write_text("old")
    command = [sys.executable, "-c", textwrap.dedent(KILLED), how, str(which), str(folder)]
    code = subprocess.run(command, check=False).returncode
    assert code in (0, -signal.SIGKILL)
    atomic.write_text(tmp_path / "next", "the next command")
    assert names(tmp_path) == ["folder/a", "folder/note", "next"]
    assert (folder / "a").read_text() in ("old", "new")
    assert sorted(os.listdir(tmp_path)) == ["folder", "next"]


KILLED_BETWEEN_FILES = """
    import os, signal, sys
    from pathlib import Path
    from IPv2Lib.io import atomic

    which, place, calls, replace = int(sys.argv[1]), Path(sys.argv[2]), [], os.replace

    def counted(*arguments):
        calls.append(1)
        if len(calls) == which:
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*arguments)

    os.replace = counted
    with atomic.private_folder(place) as private:
        for name in ("voxels", "header"):
            (private / name).write_text("new")
        atomic.move_together(private, {place / "scan.raw": private / "voxels", place / "scan.mhd": private / "header"})
"""


@pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals here")
@pytest.mark.parametrize("which", range(1, 4))
@pytest.mark.parametrize("before", [None, "old"])
def test_a_kill_between_files_that_belong_together_is_made_good(tmp_path, which, before):
    pair = [tmp_path / "scan.raw", tmp_path / "scan.mhd"]
    if before:
        for path in pair:
            path.write_text(before)
    command = [sys.executable, "-c", textwrap.dedent(KILLED_BETWEEN_FILES), str(which), str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == (-signal.SIGKILL if which < 3 else 0)
    atomic.write_text(tmp_path / "next", "the next command")
    assert sorted(os.listdir(tmp_path)) == ["next", "scan.mhd", "scan.raw"]
    assert [path.read_text() for path in pair] == ["new", "new"]


@pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals here")
def test_what_somebody_put_there_after_a_kill_stays(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(KILLED_BETWEEN_FILES), "2", str(tmp_path)]
    subprocess.run(command, check=False)
    (tmp_path / "scan.mhd").write_text("mine")
    atomic.write_text(tmp_path / "next", "the next command")
    assert (tmp_path / "scan.mhd").read_text() == "mine"


def test_a_stop_while_a_private_folder_is_removed_leaves_nothing(tmp_path, monkeypatch):
    real, calls = atomic.shutil.rmtree, []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 1:
            raise KeyboardInterrupt
        real(*arguments, **options)

    monkeypatch.setattr(atomic.shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        atomic.write_text(tmp_path / "file", "text")
    assert os.listdir(tmp_path) == ["file"]


def test_what_a_living_process_writes_is_not_swept(tmp_path, monkeypatch):
    with atomic.private_folder(tmp_path) as folder:
        monkeypatch.setattr(atomic, "_swept", set())
        atomic.write_text(tmp_path / "next", "")
        assert folder.is_dir()


def test_a_full_disk_is_called_so(tmp_path):
    with pytest.raises(OutputError, match="the disk is full"), atomic.new_file(tmp_path / "a"):
        raise OSError(28, "No space left on device")


def test_errors_name_the_place_that_was_asked_for(tmp_path):
    with pytest.raises(OutputError) as told, atomic.new_folder(tmp_path / "out") as fresh, atomic.new_file(fresh / "a"):
        raise OSError(28, "No space left on device")
    assert str(told.value) == f"{tmp_path / 'out' / 'a'} cannot be written (the disk is full)"


@pytest.mark.parametrize("beside", [True, False], ids=["beside", "within"])
def test_files_of_a_folder_change_together(tmp_path, monkeypatch, beside):
    folder = tmp_path / "folder"
    (folder / "parts").mkdir(parents=True)
    for name in ("a", "b", "parts/c"):
        (folder / name).write_text("old")
    (folder / "link").symlink_to("a")
    monkeypatch.setattr(os, "access", lambda *_: beside)
    for fails in (True, False):
        try:
            with atomic.changed_folder(folder) as changed:
                (changed / "a").write_text("new")
                (changed / "b").write_text("new")
                assert (folder / "a").read_text() == (folder / "b").read_text() == "old"
                (folder / "mine").write_text("meanwhile")
                if fails:
                    raise ZeroDivisionError
        except ZeroDivisionError:
            assert (folder / "a").read_text() == (folder / "b").read_text() == "old"
    with pytest.raises(OutputError) as told, atomic.changed_folder(folder) as changed:
        raise OutputError(f"{changed / 'a'} cannot be written")
    assert str(told.value) == f"{folder / 'a'} cannot be written"
    assert names(tmp_path) == ["folder/a", "folder/b", "folder/link", "folder/mine", "folder/parts/c"]
    assert (folder / "a").read_text() == (folder / "b").read_text() == "new"
    assert (folder / "parts" / "c").read_text() == "old" and (folder / "link").is_symlink()


def test_temporary_files_of_a_killed_process_are_swept(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.tempfile, "tempdir", str(tmp_path))
    script = f"""
        import os, signal
        from IPv2Lib.io import atomic
        atomic.tempfile.tempdir = {str(tmp_path)!r}
        with atomic.temporary_folder() as folder:
            (folder / "a").touch()
            os.kill(os.getpid(), signal.SIGKILL)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    assert names(tmp_path)
    with atomic.temporary_folder() as folder:
        assert os.listdir(tmp_path) == [folder.name] and folder.stat().st_mode & 0o077 == 0
    assert not os.listdir(tmp_path)


@pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals here")
@pytest.mark.parametrize("kill", ["", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_what_other_code_makes_for_a_process_is_swept_with_it(tmp_path, kill):
    script = f"""
        import os, signal
        from pathlib import Path
        from IPv2Lib.io import atomic
        folder = Path({str(tmp_path)!r}, "of-python")
        folder.mkdir()
        with atomic.cleared_away(folder):
            (folder / "socket").touch()
            {kill}
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False)
    atomic.write_text(tmp_path / "next", "")
    assert sorted(os.listdir(tmp_path)) == (["next"] if kill else ["next", "of-python"])


def test_no_place_for_temporary_files_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(OutputError, match="set TMPDIR"), atomic.temporary_folder():
        pass


@pytest.mark.skipif(os.name != "posix", reason="users of POSIX")
def test_a_folder_that_another_user_planted_moves_no_files(tmp_path, monkeypatch):
    """As in /tmp, where anybody may make a folder that looks like that of a killed process."""
    (tmp_path / "mine").mkdir()
    planted = tmp_path / f"{atomic.PREFIX}{os.uname().nodename}~999999999~1~0"
    (planted / "new").mkdir(parents=True)
    (planted / "new" / "planted").touch()
    journal = {"folder": "mine", "new": (tmp_path / "mine").stat().st_ino, "replaced": {}}
    (planted / "journal.json").write_text(atomic.json.dumps(journal))
    monkeypatch.setattr(os, "geteuid", lambda: 1 + planted.stat().st_uid)
    atomic.sweep(tmp_path)
    assert not os.listdir(tmp_path / "mine") and planted.is_dir()
    planted.rename(tmp_path / "aside")
    planted.symlink_to("aside")
    monkeypatch.undo()
    atomic.sweep(tmp_path)
    assert not os.listdir(tmp_path / "mine") and planted.is_symlink()


def left_behind(place, name: str = "0"):
    """A private folder of a process that has ended, with a file that it had only to rename."""
    left = place / f"{atomic.PREFIX}{platform.node()}~{2**22 + 1}~~{name}"
    left.mkdir()
    (left / name).write_text(name)
    (left / "journal.json").write_text(atomic.json.dumps({"files": [[name, name, None]]}))
    return left


def test_what_another_process_clears_away_first_is_no_error(tmp_path, monkeypatch):
    """As when two workers of one run begin in a folder where a killed run left something."""
    left, is_left = left_behind(tmp_path), atomic._is_left

    def too_late(name):
        if (found := is_left(name)) and left.exists():
            atomic.shutil.rmtree(left)
        return found

    monkeypatch.setattr(atomic, "_is_left", too_late)
    atomic.write_text(tmp_path / "next", "")
    assert os.listdir(tmp_path) == ["next"]


SWEEPS = """
    import sys
    from pathlib import Path
    from IPv2Lib.io import atomic

    print("ready", flush=True)
    sys.stdin.readline()
    atomic.write_text(Path(sys.argv[1]) / sys.argv[2], "")
"""


def test_processes_that_clear_away_at_the_same_time_are_in_nobodys_way(tmp_path):
    lefts = [left_behind(tmp_path, str(number)) for number in range(300)]
    sweepers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SWEEPS), str(tmp_path), f"next{number}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for number in range(3)
    ]  # fmt: skip
    for sweeper in sweepers:
        assert sweeper.stdout.readline() == "ready\n"
    for sweeper in sweepers:
        sweeper.stdin.write("\n")
        sweeper.stdin.flush()
    for sweeper in sweepers:
        sweeper.communicate()
    assert [sweeper.returncode for sweeper in sweepers] == [0, 0, 0]
    expected = {f"next{number}" for number in range(3)} | {str(number) for number in range(len(lefts))}
    assert set(os.listdir(tmp_path)) == expected


def test_one_process_at_a_time_finishes_what_another_left(tmp_path, monkeypatch):
    left_behind(tmp_path)
    finish, calls = atomic._finish, []

    def meanwhile(private):
        calls.append(private)
        atomic.sweep(tmp_path)  # as another process does
        finish(private)

    monkeypatch.setattr(atomic, "_finish", meanwhile)
    atomic.sweep(tmp_path)
    assert len(calls) == 1 and os.listdir(tmp_path) == ["0"]


@pytest.mark.skipif(os.name != "posix", reason="processes are killed by signals here")
@pytest.mark.parametrize("at", ["_finish", "shutil.rmtree"])
def test_a_kill_while_leftovers_are_cleared_away_is_made_good(tmp_path, at):
    left_behind(tmp_path)
    script = f"""
        import os, signal, sys
        from IPv2Lib.io import atomic
        atomic.{at} = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
        atomic.sweep(atomic.Path({str(tmp_path)!r}))
    """
    code = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=False).returncode
    assert code == -signal.SIGKILL
    atomic.write_text(tmp_path / "next", "")
    assert sorted(os.listdir(tmp_path)) == ["0", "next"] and (tmp_path / "0").read_text() == "0"
