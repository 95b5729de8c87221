"""DICOM is read in another process, which may crash, hang or be left alone without any harm to this one."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
from IPv2Lib.errors import InputError
from IPv2Lib.io import files, reading
from IPv2Lib.io.volume import Volume

HU = np.random.default_rng(0).integers(-1000, 1000, (3, 16, 20)).astype(np.int16)


@pytest.fixture
def series(tmp_path) -> Path:
    return files.write(Volume(HU, (0.7, 0.8, 2.5), (-10, 20, 30)), tmp_path / "series")


@pytest.fixture
def reader(monkeypatch):
    """A reader of its own for the test."""
    fresh = reading._Reader()
    monkeypatch.setattr(reading, "_reader", fresh)
    yield fresh
    fresh._end()


@pytest.fixture
def sabotage(tmp_path, monkeypatch):
    """Put a function body in the place of the DICOM reader, in processes that start from now on."""

    def put(body: str) -> None:
        folder = tmp_path / "sabotage"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(
            "import ctypes, os, sys, time\n"
            "from IPv2Lib.io import dicom\n"
            "from IPv2Lib.errors import InputError\n"
            "original = dicom.read_series\n"
            f"def read_series(path):\n    {body}\n"
            "dicom.read_series = read_series\n"
        )
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))

    return put


def test_gives_what_reading_here_gives(series, reader):
    here, there = files.read_here(series)[0], files.read(series)
    assert there.sha256() == here.sha256()
    assert there.array.flags.writeable and there.array.flags.owndata


def test_the_process_is_kept(series, reader):
    files.read(series)
    pid = reader._process.pid
    files.read(series / "0001.dcm")
    assert reader._process.pid == pid


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("os.abort()", "crash"),
        ("os._exit(0)", "crash"),
        ("raise ValueError('two\\nlines')", r"damaged \(ValueError: two lines\)"),
        ("bytearray(1 << 46)", "memory"),
        ("raise InputError('a\\nb')", "a b"),
    ],
)
def test_whatever_happens_is_one_line(series, reader, sabotage, capfd, body, words):
    sabotage(f"print('noise', file=sys.stderr); print('more'); os.write(2, b'raw'); {body}")
    with pytest.raises(InputError, match=words) as caught:
        files.read(series)
    assert "\n" not in str(caught.value)
    assert str(caught.value) == "a b" or str(series) in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_reads_on_after_a_crash(series, reader, sabotage, tmp_path):
    (tmp_path / "crash").mkdir()
    sabotage("os.abort() if path.name == 'crash' else None; return original(path)")
    for _ in range(2):
        with pytest.raises(InputError, match="crash"):
            files.read(tmp_path / "crash")
        np.testing.assert_array_equal(files.read(series).array, HU)


@pytest.mark.parametrize("body", ["time.sleep(600)", "ctypes.PyDLL(None).sleep(600)"])  # the latter keeps the GIL
def test_no_end_is_an_error(series, reader, sabotage, monkeypatch, body):
    if "PyDLL" in body and sys.platform == "win32":
        pytest.skip("no libc")
    sabotage(body)
    monkeypatch.setattr(reading, "SECONDS", 0.2)
    monkeypatch.setattr(reading, "_START_SECONDS", 1.0)
    with pytest.raises(InputError, match=f"cannot read {series}: no end after 1 s"):
        files.read(series)
    assert reader._process is None


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of the time that a process computes")
def test_computing_without_an_end_is_an_error_soon(series, reader, sabotage, monkeypatch):
    sabotage("while True: pass")
    monkeypatch.setattr(reading, "WORK_SECONDS", 0.1)
    with pytest.raises(InputError, match=f"cannot read {series}: no end after 0 s of computing"):
        files.read(series)


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of the time that a process computes")
def test_the_limit_of_computing_is_that_of_each_series(series, reader, sabotage, monkeypatch):
    sabotage("end = time.process_time() + 0.4\n    while time.process_time() < end: pass\n    return original(path)")
    monkeypatch.setattr(reading, "WORK_SECONDS", 1.0)
    for _ in range(4):
        np.testing.assert_array_equal(files.read(series).array, HU)


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_ctrl_c_stops_it_at_once(series, reader, sabotage):
    sabotage("ctypes.PyDLL(None).sleep(600)")
    threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        files.read(series)
    assert reader._process is None


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a busy process ends at its limit")
@pytest.mark.parametrize(
    ("body", "end"), [("ctypes.PyDLL(None).sleep(600)", signal.SIGKILL), ("return original(path)", None)]
)
def test_ends_with_the_process_that_asked(series, sabotage, body, end):
    asked = series.parent / "asked"
    sabotage(f"open({str(asked)!r}, 'w').close(); {body}")
    script = (
        "import os, sys, time, threading\n"
        "from IPv2Lib.io import files, reading\n"
        "threading.Thread(target=files.read, args=(sys.argv[1],), daemon=True).start()\n"
        f"while not os.path.exists({str(asked)!r}): time.sleep(0.01)\n"
        "print(reading._reader._process.pid, flush=True)\n"
        f"{'time.sleep(600)' if end else ''}"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": f"{os.environ['PYTHONPATH']}{os.pathsep}{Path(files.__file__).parents[2]}",
    }
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(series)], stdout=subprocess.PIPE, text=True, env=environment
    )
    child = psutil.Process(int(parent.stdout.readline()))
    if end:
        parent.send_signal(end)
    parent.wait(20)
    child.wait(20)


def test_is_usable_from_threads(series, reader):
    found, errors = [], []

    def read() -> None:
        try:
            found.append(files.read(series).sha256())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and len(found) == 8 and len(set(found)) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_process_starts_its_own(series, reader, monkeypatch):
    files.read(series)
    pid = reader._process.pid
    os.register_at_fork(after_in_child=reader.forget)  # as for the one of the library
    forked = os.fork()
    if forked == 0:
        code = 1
        try:
            same = np.array_equal(files.read(series).array, HU) and reader._process.pid != pid
            reader._end()
            code = 0 if same else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    np.testing.assert_array_equal(files.read(series).array, HU)
    assert reader._process.pid == pid


def test_a_module_beside_the_files_is_not_taken_for_pythons_own(series, reader, monkeypatch):
    for name in ("json", "numpy", "pydicom", "SimpleITK", "queue"):
        (series.parent / f"{name}.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(series.parent)
    np.testing.assert_array_equal(files.read("series").array, HU)


def test_relative_paths_follow_the_working_directory(series, reader, monkeypatch):
    monkeypatch.chdir(series.parent)
    files.read(series)
    monkeypatch.chdir(series)
    np.testing.assert_array_equal(files.read(".").array, HU)
    with pytest.raises(InputError, match=r"^nothing does not exist"):
        files.read("nothing")


@pytest.mark.skipif(sys.platform != "linux", reason="names are UTF-8 there")
def test_names_that_are_not_utf8(series, reader, tmp_path, monkeypatch):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/Th\xf6rax"))
    series.rename(folder)
    np.testing.assert_array_equal(files.read(folder).array, HU)
    (folder / "0001.dcm").rename(os.fsdecode(os.fsencode(folder) + b"/\xe41.dcm"))
    np.testing.assert_array_equal(files.read(folder).array, HU)
    np.testing.assert_array_equal(files.read(next(folder.glob("*1.dcm"))).array, HU)
    monkeypatch.chdir(folder)
    np.testing.assert_array_equal(files.read(".").array, HU)


@pytest.mark.parametrize(
    ("executable", "found", "expected"),
    [
        ("/usr/bin/python3.12", None, "/usr/bin/python3.12"),
        ("/opt/Slicer/bin/SlicerApp-real", "/opt/Slicer/bin/PythonSlicer", "/opt/Slicer/bin/PythonSlicer"),
        ("", "/opt/Slicer/bin/PythonSlicer", "/opt/Slicer/bin/PythonSlicer"),
    ],
)
def test_the_interpreter_in_and_outside_of_slicer(monkeypatch, executable, found, expected):
    monkeypatch.setattr(sys, "executable", executable)
    monkeypatch.setattr(reading.shutil, "which", lambda name: found)
    assert reading.python() == expected


def test_image_files_start_no_process(tmp_path, reader):
    path = files.write(Volume(HU), tmp_path / "a.nrrd")
    np.testing.assert_array_equal(files.read(path).array, HU)
    assert reader._process is None


def test_reading_needs_no_dicom_library_here(series):
    code = f"import sys; from IPv2Lib.io import files; files.read({str(series)!r}); print('pydicom' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(files.__file__).parents[2], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    assert out.strip() == "False"
