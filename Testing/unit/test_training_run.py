"""A run on disk as others see it, at any moment of its life; no training here."""

import json
import math
import os
import platform
import subprocess
import sys

import numpy as np
import psutil
import pytest
from IPv2Lib.errors import InputError, OutputError
from IPv2Lib.training.run_folder import (
    RunWriter,
    is_run,
    is_trained_now,
    read_run,
    remove_request,
    request,
    validation_slice,
)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "settings.json").write_text('{"network": "unet"}')
    return tmp_path


def say(folder, **facts) -> None:
    (folder / "status.json").write_text(json.dumps(facts))


def own(**facts) -> dict:
    began = psutil.Process().create_time()
    return {"state": "running", "pid": os.getpid(), "host": platform.node(), "began": began, **facts}


def test_what_a_run_writes_is_what_others_read(folder):
    assert is_run(folder) and not is_run(folder / "none")
    writer = RunWriter(folder, 0)
    writer.log(10, 1.23, 1e-3, 0.5, 0.04)
    writer.log(20, 2.5, 9e-4, 0.25, 0.0)
    writer.validation(20, 2.5, 30.0, math.nan, "label")
    writer.slice(input=np.ones((4, 3), np.float32), step=20, case="a")
    facts = {"steps": 40, "fraction": 0.5, "seconds_left": 3.0, "loss": 0.25, "best_step": 20, "best_rmse_hu": 30.0}
    writer.status("running", step=20, **facts, message="")
    state = read_run(folder)
    assert (state.state, state.step, state.pid, state.settings) == ("running", 20, os.getpid(), {"network": "unet"})
    assert {name: getattr(state, name) for name in facts} == facts
    assert state.log["step"].tolist() == [10, 20] and state.log["loss"].tolist() == [0.5, 0.25]
    assert state.log["waiting"].tolist() == [0.04, 0.0]
    assert state.validation["reference"].tolist() == ["label"] and np.isnan(state.validation["rmse_lung_hu"][0])
    shown = validation_slice(folder)
    assert shown["input"].shape == (4, 3) and int(shown["step"]) == 20 and str(shown["case"]) == "a"
    assert not state.can_resume and not state.has_weights
    writer.status("paused", step=20, message="by you")
    assert (read_run(folder).state, read_run(folder).message) == ("paused", "by you")
    assert read_run(folder).can_resume
    writer.close()
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


def test_a_status_is_written_at_once_when_the_state_changes_only(folder):
    writer = RunWriter(folder, 0)
    for step in range(100):
        writer.status("running", step=step)
    assert read_run(folder).step < 99
    writer.status("completed", step=100)
    assert (read_run(folder).step, read_run(folder).state) == (100, "completed")
    writer.close()


def test_a_run_that_just_began_or_is_just_being_written(folder):
    state = read_run(folder)
    assert (state.state, state.step, state.fraction, state.seconds_left) == ("paused", 0, 0.0, None)
    assert all(len(column) == 0 for table in (state.log, state.validation) for column in table.values())
    assert validation_slice(folder) is None
    (folder / "log.csv").write_text("step,seconds,learning_rate,loss,waiting\n10,1.0,1e-3,0.5,0\n20,2.0,1e-")
    (folder / "validation.csv").write_text("step,sec")
    (folder / "validation.npz").write_bytes(b"PK\x03\x04 half of it")
    (folder / "status.json").write_text('{"state": "run')
    state = read_run(folder)
    assert state.log["step"].tolist() == [10] and len(state.validation["step"]) == 0
    assert state.state == "paused" and validation_slice(folder) is None


def test_a_run_whose_process_is_gone_is_paused(folder):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    say(folder, **own(step=7, pid=gone.pid, seconds_left=5.0))
    state = read_run(folder)
    assert (state.state, state.step, state.seconds_left) == ("paused", 7, None)
    assert "step 7" in state.message and not is_trained_now(folder)


def test_a_process_that_got_the_number_of_a_gone_one_is_not_it(folder):
    say(folder, **own())
    assert is_trained_now(folder)
    say(folder, **own(began=psutil.Process().create_time() - 3600))
    assert not is_trained_now(folder)


def test_a_run_on_another_machine_is_believed(folder):
    say(folder, **own(host="elsewhere", pid=2**22 + 1))
    assert is_trained_now(folder) and read_run(folder).state == "running"


def test_without_psutil_a_process_is_found_all_the_same(folder, monkeypatch):
    alive, dead = own(began=None), own(began=None, pid=2**22 + 1)
    monkeypatch.setitem(sys.modules, "psutil", None)
    say(folder, **alive)
    assert is_trained_now(folder)
    say(folder, **dead)
    assert not is_trained_now(folder)


def test_what_comes_after_the_checkpoint_is_cut_off(folder):
    writer = RunWriter(folder, 0)
    for step in (10, 20, 30):
        writer.log(step, 1.0, 1e-3, 0.5, 0.0)
    writer.validation(30, 1.0, 1.0, 1.0, "ground_truth")
    writer.close()
    with open(folder / "log.csv", "a") as file:
        file.write("40,1")  # killed meanwhile
    writer = RunWriter(folder, 20)
    writer.log(30, 1.5, 1e-3, 0.4, 0.0)
    writer.close()
    state = read_run(folder)
    assert state.log["step"].tolist() == [10, 20, 30] and state.log["loss"][-1] == 0.4
    assert len(state.validation["step"]) == 0


def test_requests(folder):
    writer = RunWriter(folder, 0)
    assert writer.asked() is None
    request(folder, "pause")
    assert writer.asked() == "pause"
    request(folder, "stop")
    assert writer.asked() == "stop"
    remove_request(folder)
    assert writer.asked() is None
    (folder / "request").write_text(" STOP\n")  # by hand
    assert writer.asked() == "stop"
    (folder / "request").write_text("dance")
    assert writer.asked() is None and not (folder / "request").exists()
    (folder / "request").write_text("")  # just being written
    assert writer.asked() is None and (folder / "request").exists()
    writer.close()


def test_what_cannot_be_asked_or_read_is_named(folder):
    with pytest.raises(InputError, match="'dance'"):
        request(folder, "dance")
    with pytest.raises(InputError, match="not a training run"):
        request(folder / "none", "stop")
    with pytest.raises(InputError, match="not a training run"):
        read_run(folder / "none")
    (folder / "settings.json").write_text("{")
    with pytest.raises(InputError, match=r"settings\.json"):
        read_run(folder)


def test_a_table_that_cannot_be_written_is_named(folder):
    (folder / "log.csv").mkdir()
    with pytest.raises(OutputError, match=r"log\.csv"):
        RunWriter(folder, 0)
