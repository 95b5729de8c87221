"""Every command of `ipv2`, from arguments to files: what comes out, where it says it came from, how it stops."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from IPv2Lib.analysis import regions, suitability
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.analysis.region_statistics import StrengthStatistics, statistics
from IPv2Lib.cli import demo
from IPv2Lib.cli.commands import main
from IPv2Lib.evaluation import agreement, measures
from IPv2Lib.io import files
from IPv2Lib.io.volume import same_grid
from IPv2Lib.models import bundle
from IPv2Lib.purification import purify as purification
from IPv2Lib.purification.settings import Settings
from IPv2Lib.simulation import phantom
from small_chest import small_chest, without_notes

LIBRARY_PARENT = Path(bundle.__file__).resolve().parents[2]
COARSE = "The pixels measure 5.47 mm, the model was trained on 0.4 to 1.3 mm: structures have an unusual size for it."
"""What is said about a scan of `small_chest` before it is denoised."""

COMMANDS = (
    "demo", "denoise", "purify", "simulate", "train", "compare", "physics", "ablation", "evaluate", "models", "devices",
    "cache", "node", "phantom",
)  # fmt: skip


def start(*arguments: object, cwd: Path) -> subprocess.Popen:
    """Run a command in another process."""
    environment = os.environ | {"PYTHONPATH": str(LIBRARY_PARENT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "IPv2Lib", *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def sidecar(output: Path) -> dict:
    return json.loads(output.with_name(f"{output.name}.json").read_text(encoding="utf-8"))


# --- help and version ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_explains_with_an_example(ipv2, command):
    outcome = ipv2(command, "--help")
    assert (outcome.code, outcome.said) == (0, "")
    assert outcome.out.startswith(f"usage: ipv2 {command}")
    assert f"  ipv2 {command} " in outcome.out.split("example")[1]


def test_help_lists_the_commands_and_nothing_given_shows_it(ipv2):
    outcome = ipv2("--help")
    assert outcome.code == 0
    assert all(f"    {command} " in outcome.out for command in COMMANDS)
    bare = ipv2()
    assert (bare.code, bare.out, bare.err) == (2, "", outcome.out)


def test_help_needs_no_heavy_package():
    code = (
        "import sys\n"
        "from IPv2Lib.cli.commands import main\n"
        "assert main(['denoise', '--help']) == 0\n"
        "assert not {'torch', 'numpy', 'SimpleITK', 'scipy'} & set(sys.modules)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(LIBRARY_PARENT)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)


def test_python_m_is_the_command(tmp_path):
    process = start("--version", cwd=tmp_path)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("IPv2 ")


# --- denoise ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.nrrd", "out.nii.gz", "out.nii", "out.mha", "out.mhd", "series"])
def test_denoise_keeps_geometry_and_type_in_every_format(ipv2, scan, model, tmp_path, name):
    output = tmp_path / name
    outcome = ipv2("denoise", scan, output, "--model", model)
    assert (outcome.code, outcome.err) == (0, f"ipv2: note: {scan}: {COARSE}\n")
    assert outcome.out.splitlines() == [f"{output}: denoised with tiny at strength 1"]
    before, after = files.read(scan), files.read(output)
    assert same_grid(before, after)
    assert after.array.dtype == np.int16
    assert not np.array_equal(before.array, after.array)


def test_denoise_says_where_the_result_came_from(ipv2, scan, model, tmp_path):
    output = tmp_path / "out.nrrd"
    assert ipv2("denoise", scan, output, "--model", model, "--strength", "0.5", "--device", "cpu").code == 0
    facts = sidecar(output)
    assert facts["command"] == "denoise"
    assert (facts["input"], facts["input_sha256"]) == ("scan.nrrd", files.read(scan).sha256())
    assert facts["output_sha256"] == files.read(output).sha256()
    assert facts["model"] == "tiny"
    assert facts["weights_sha256"] == bundle.load(model).hash
    assert (facts["strength"], facts["device"]) == (0.5, "cpu")
    assert {"IPv2Lib", "torch", "numpy", "SimpleITK", "nibabel", "pynrrd", "Python"} <= set(facts["versions"])


def test_what_a_model_was_not_made_for_is_said_once_and_kept(ipv2, scan, clean, model, tmp_path):
    """By one file, several and a cohort alike, in the words of the panel."""
    expected = {path: suitability.concerns(files.read(path), bundle.load(model).card) for path in (scan, clean)}
    assert expected[scan] == [COARSE] and len(expected[clean]) == 2
    for name, inputs, more in (
        ("one.nrrd", [scan], []), ("several", [scan, clean], []), ("cohort", [scan, clean], ["--workers", 1]),
        ("cohort", [scan, clean], ["--workers", 1]),
    ):  # fmt: skip
        done = ipv2("denoise", *inputs, tmp_path / name, "--model", model, "--json", *more)
        texts = [f"{path}: {sentence}" for path in inputs for sentence in expected[path]]
        assert [event["message"] for event in done.events if event["event"] == "note"] == texts
        assert done.err == "".join(f"ipv2: note: {text}\n" for text in texts)
        result = done.events[-1]
        assert result["notes"] == texts
        for path, one in zip(inputs, result.get("results", [result]), strict=True):
            assert one["provenance"]["concerns"] == sidecar(Path(one["output"]))["concerns"] == expected[path]


def test_what_reading_says_of_a_series_is_said_once_and_kept(ipv2, scan, model, tmp_path):
    series = files.write(files.read(scan), tmp_path / "series")
    (series / "blob").write_bytes(bytes(range(256)))
    for name, inputs, more in (
        ("one", [series], []), ("several", [series, scan], []), ("cohort", [series, scan], ["--workers", 1]),
        ("cohort", [series, scan], ["--workers", 1]),
    ):  # fmt: skip
        done = ipv2("denoise", *inputs, tmp_path / name, "--model", model, "--json", *more)
        assert done.code == 0, done.err
        (text,) = (line for line in done.err.splitlines() if "blob" in line)
        assert text.startswith(f"ipv2: note: {series}: 1 file was left out of series")
        text = text.removeprefix("ipv2: note: ")
        assert [each for each in done.events[-1]["notes"] if "blob" in each] == [text]
        assert [event["message"] for event in done.events if "blob" in event.get("message", "")] == [text]
        result = done.events[-1].get("results", [done.events[-1]])[0]
        for concerns in (result["provenance"]["concerns"], sidecar(Path(result["output"]))["concerns"]):
            assert f"{series}: {concerns[0]}" == text


def test_several_inputs_are_told_as_what_they_are(ipv2, model, tmp_path):
    scans = [files.write(small_chest(seed=seed), tmp_path / f"{seed}.nrrd") for seed in range(3)]
    for seed, name in enumerate("ABC"):
        (tmp_path / name).mkdir()
        scans[seed] = scans[seed].rename(tmp_path / name / ("scan.nrrd", "SCAN.nrrd", "4: Thorax 1.0 B31f.nrrd")[seed])
    done = ipv2("denoise", *scans, tmp_path / "out", "--model", model, "--strength", 0.5, "--json")
    names = [Path(one["output"]).name for one in done.events[-1]["results"]]
    assert names == ["scan.nrrd", "SCAN-2.nrrd", "4_ Thorax 1.0 B31f.nrrd"]
    for path, one in zip(scans, done.events[-1]["results"], strict=True):
        assert one["input"] == str(path) and one["provenance"] == sidecar(Path(one["output"]))
        assert one["provenance"]["input_sha256"] == files.read(path).sha256()
        alone = tmp_path / "alone.nrrd"
        assert ipv2("denoise", path, alone, "--model", model, "--strength", 0.5).code == 0
        assert files.read(alone).sha256() == files.read(one["output"]).sha256() == one["provenance"]["output_sha256"]
    more = ipv2(
        "denoise", *reversed(scans), tmp_path / "out", "--model", model, "--strength", 0.5, "--json", "--workers", 1
    )
    assert [Path(one["output"]).name for one in more.events[-1]["results"]] == names[::-1]
    assert {one["status"] for one in more.events[-1]["results"]} == {"done earlier"}


@pytest.mark.parametrize("name", ["out.nrrd", "out.nii", "out.nii.gz", "out.mha", "out.mhd", "series"])
def test_the_hash_of_an_output_is_that_of_what_is_read_from_it(ipv2, model, tmp_path, name):
    volume = small_chest()
    source = files.write(volume.with_array(volume.array + np.float32(0.3)), tmp_path / "scan.mha")
    for command, *options in (("denoise", "--model", model), ("simulate", "--dose", 0.5)):
        output = tmp_path / command / name
        output.parent.mkdir()
        assert ipv2(command, source, output, *options).code == 0
        assert sidecar(output)["output_sha256"] == files.read(output).sha256()
        assert sidecar(output)["input_sha256"] == files.read(source).sha256()


def test_values_that_may_be_no_hu_are_said_by_every_command_that_reads_them(ipv2, scan, tmp_path):
    volume = files.read(scan)
    source = files.write(
        volume.with_array(np.where(volume.array < -400, volume.array, volume.array + 1000)), tmp_path / "no.nrrd"
    )
    (sentence,) = suitability.value_concerns(files.read(source))
    assert "rescale intercept" in sentence
    text = f"{source}: {sentence}"
    for command in (
        ("simulate", source, tmp_path / "out.nrrd", "--dose", 0.5), ("evaluate", source, scan),
        ("evaluate", source, source), ("purify", source, scan, tmp_path / "stages", "--no-pictures"),
    ):  # fmt: skip
        done = ipv2(*command, "--json")
        assert done.code == 0, done.err
        assert [event["message"] for event in done.events if event["event"] == "note"] == [text]
        assert done.events[-1]["notes"] == [text]
    assert sidecar(tmp_path / "out.nrrd")["concerns"] == [sentence]
    facts = json.loads((tmp_path / "stages" / "provenance.json").read_text(encoding="utf-8"))
    assert facts["concerns"] == [text]
    assert facts["input_sha256"] == {"uldct": files.read(source).sha256(), "ndct": files.read(scan).sha256()}


def test_strength_blends_and_the_same_input_gives_the_same_bytes(ipv2, scan, model, tmp_path):
    arrays = []
    for number, strength in enumerate((0, 0.5, 1, 1)):
        output = tmp_path / f"{number}.nrrd"
        assert ipv2("denoise", scan, output, "--model", model, "--strength", strength).code == 0
        arrays.append(files.read(output).array.astype(float))
    before = files.read(scan).array
    assert np.array_equal(arrays[0], before)
    assert np.abs(arrays[1] - (before + arrays[2]) / 2).max() <= 1
    assert np.array_equal(arrays[2], arrays[3])


def test_a_dicom_series_keeps_patient_and_study(ipv2, scan, model, tmp_path):
    series, result = tmp_path / "series", tmp_path / "result"
    assert ipv2("denoise", scan, series, "--model", model, "--strength", 0).code == 0
    for path in series.iterdir():
        dataset = pydicom.dcmread(path)
        dataset.PatientID, dataset.PatientName = "P1", "Doe^Jane"
        dataset.save_as(path)
    assert ipv2("denoise", series, result, "--model", model).code == 0
    before, after = pydicom.dcmread(series / "0001.dcm"), pydicom.dcmread(result / "0001.dcm")
    assert (after.PatientID, after.PatientName) == ("P1", "Doe^Jane")
    assert after.StudyInstanceUID == before.StudyInstanceUID
    assert after.SeriesInstanceUID != before.SeriesInstanceUID
    assert "tiny" in after.SeriesDescription
    assert same_grid(files.read(series), files.read(result))
    assert sidecar(result)["input"] == "series"


def test_one_slice_is_a_volume(ipv2, model, tmp_path):
    source = files.write(small_chest(size=31, slices=1), tmp_path / "one.nrrd")
    assert ipv2("denoise", source, tmp_path / "out.nrrd", "--model", model).code == 0
    assert files.read(tmp_path / "out.nrrd").array.shape == (1, 31, 31)


def test_an_earlier_output_is_replaced_and_nothing_else_is_left(ipv2, scan, model, tmp_path):
    output = tmp_path / "out.nrrd"
    output.write_text("a scan of somebody")
    refused = ipv2("denoise", scan, output, "--model", model)
    assert refused.code == 2 and "no earlier output" in refused.err and output.read_text() == "a scan of somebody"
    assert ipv2("denoise", scan, output, "--model", model, "--overwrite").code == 0
    assert ipv2("denoise", scan, output, "--model", model).code == 0
    assert files.read(output).array.shape == (3, 64, 64)
    assert {path.name for path in tmp_path.iterdir()} == {"scan.nrrd", "out.nrrd", "out.nrrd.json"}


def test_the_default_model_is_there_and_removes_noise(ipv2, tmp_path, monkeypatch):
    monkeypatch.delenv("IPV2_MODELS", raising=False)
    assert bundle.available()
    pair = phantom.pair(size=320, slices=3)
    output = tmp_path / "out.nrrd"
    assert ipv2("denoise", files.write(pair.uldct, tmp_path / "uldct.nrrd"), output).code == 0
    facts = sidecar(output)
    assert facts["model"] == bundle.default_name()
    before, after = (
        agreement.compare(volume, pair.ground_truth, pair.labels) for volume in (pair.uldct, files.read(output))
    )
    assert after["rmse_body_hu"] < 0.85 * before["rmse_body_hu"]


def test_several_inputs_become_a_folder_of_results(ipv2, scan, clean, model, tmp_path):
    again = tmp_path / "again"
    again.mkdir()
    again = files.write(small_chest(seed=2), again / "scan.nii.gz")
    folder = tmp_path / "results"
    outcome = ipv2("denoise", scan, clean, again, folder, "--model", model, "--json")
    assert (outcome.code, outcome.said) == (0, "")
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.nrrd{suffix}" for name in ("scan", "clean", "scan-2") for suffix in ("", ".json")
    }
    *progress, result = [event for event in outcome.events if event["event"] != "note"]
    fractions = [event["fraction"] for event in progress]
    assert fractions == sorted(fractions)
    assert any("2 of 3, clean.nrrd: denoising slice" in event["message"] for event in progress)
    assert result["output"] == str(folder)
    assert [Path(each["input"]) for each in result["results"]] == [scan, clean, again]
    for source, each in zip((scan, clean, again), result["results"], strict=True):
        assert sidecar(Path(each["output"])) == each["provenance"]
        assert each["provenance"]["input"] == source.name
        assert Path(each["sidecar"]).exists()
        single = tmp_path / "single.nrrd"
        assert ipv2("denoise", source, single, "--model", model).code == 0
        assert np.array_equal(files.read(Path(each["output"])).array, files.read(single).array)


def test_several_inputs_are_all_looked_at_before_any_work(ipv2, scan, clean, model, tmp_path, contents):
    (tmp_path / "bad.nrrd").write_text("no scan")
    before = contents()
    outcome = ipv2("denoise", scan, clean, tmp_path / "bad.nrrd", tmp_path / "results", "--model", model, "--json")
    assert outcome.code == 2
    assert "bad.nrrd" in outcome.err
    assert not any("denoising" in event["message"] for event in outcome.events)
    assert contents() == before


@pytest.mark.parametrize("output", ["out.nrrd", "."])
def test_several_inputs_need_a_folder_of_their_own(ipv2, scan, clean, model, tmp_path, contents, output):
    before = contents()
    outcome = ipv2("denoise", scan, clean, tmp_path / output, "--model", model)
    assert outcome.code == 2
    assert "give a" in outcome.err
    assert contents() == before


def test_hu_outside_the_body_come_back_if_asked_for(ipv2, scan, model, tmp_path):
    before = files.read(scan)
    room = regions.segment(before.array, before.spacing) == Region.BACKGROUND
    assert ipv2("denoise", scan, tmp_path / "all.nrrd", "--model", model).code == 0
    assert ipv2("denoise", scan, tmp_path / "body.nrrd", "--model", model, "--keep-outside-body").code == 0
    everywhere, body = (files.read(tmp_path / name).array for name in ("all.nrrd", "body.nrrd"))
    assert not np.array_equal(everywhere[room], before.array[room])
    assert np.array_equal(body[room], before.array[room])
    assert np.array_equal(body[~room], everywhere[~room])
    assert sidecar(tmp_path / "body.nrrd")["keep_outside_body"] is True


def test_as_much_noise_is_kept_as_was_asked_for(ipv2, scan, model, tmp_path):
    before = files.read(scan).array.astype(float)
    removed = {}
    for kept in ("0", "7.5"):
        output = tmp_path / f"{kept}.nrrd"
        assert ipv2("denoise", scan, output, "--model", model, "--residual-noise", kept).code == 0
        assert sidecar(output)["residual_noise_hu"] == float(kept)
        removed[kept] = before - files.read(output).array
    assert removed["7.5"].std() < removed["0"].std()


def test_a_self_ensemble_is_asked_for(ipv2, scan, model, tmp_path):
    once, eight = tmp_path / "once.nrrd", tmp_path / "eight.nrrd"
    assert ipv2("denoise", scan, once, "--model", model).code == 0
    assert ipv2("denoise", scan, eight, "--model", model, "--tta").code == 0
    assert (sidecar(once)["test_time_augmentation"], sidecar(eight)["test_time_augmentation"]) == (False, True)
    assert np.abs(files.read(eight).array.astype(float) - files.read(once).array).max() > 0


def test_statistics_are_a_table_and_numbers_for_every_strength(ipv2, scan, clean, model, tmp_path):
    output = tmp_path / "out.nrrd"
    arguments = ("denoise", scan, output, "--model", model, "--strength", 0.5, "--statistics")
    table = ipv2(*arguments).out.splitlines()
    assert len(table) == 2 + sum(region != Region.OUTSIDE for region in Region)
    numbers = ipv2(*arguments, "--json").events[-1]["statistics"]
    before, after = files.read(scan), files.read(output)
    ipv2("denoise", scan, tmp_path / "full.nrrd", "--model", model)
    labels = regions.segment(files.read(tmp_path / "full.nrrd").array, before.spacing)
    measured = statistics(labels, before.array, after.array)
    for line, row, expected in zip(table[2:], StrengthStatistics.from_dict(numbers).at(0.5), measured, strict=True):
        assert (row.region, row.voxels) == (expected.region, expected.voxels)
        assert row.mean_after == pytest.approx(expected.mean_after, abs=0.5)
        assert row.sigma_after == pytest.approx(expected.sigma_after, rel=0.05, nan_ok=True)
        assert line.startswith(row.region.label)
        assert measures.number(row.mean_after) in line
    several = ipv2("denoise", scan, clean, tmp_path / "results", "--model", model, "--statistics", "--json")
    assert several.events[-1]["results"][0]["statistics"] == numbers


@pytest.mark.parametrize("suffix", [".nrrd", ".mha", ".nii.gz"])
def test_files_can_be_written_without_compression(ipv2, clean, model, tmp_path, suffix):
    sizes, arrays = [], []
    for flags in ((), ("--no-compress",)):
        output = tmp_path / f"out{suffix}"
        assert ipv2("denoise", clean, output, "--model", model, *flags).code == 0
        sizes.append(output.stat().st_size)
        arrays.append(files.read(output).array)
    assert np.array_equal(*arrays)
    raw = arrays[0].nbytes
    assert sizes[0] < raw
    assert (sizes[1] >= raw) == (suffix != ".nii.gz")


# --- progress, JSON, stopping, bugs ---------------------------------------------------------------------------


def test_json_lines_tell_progress_and_result(ipv2, scan, model, tmp_path):
    output = tmp_path / "out.nrrd"
    outcome = ipv2("denoise", scan, output, "--model", model, "--json")
    assert (outcome.code, outcome.said) == (0, "")
    *progress, result = [event for event in outcome.events if event["event"] != "note"]
    fractions = [event["fraction"] for event in progress]
    assert {event["event"] for event in progress} == {"progress"}
    assert fractions == sorted(fractions)
    assert 0 <= fractions[0] <= fractions[-1] <= 1
    assert all(event["message"] for event in progress)
    assert result["event"] == "result"
    assert result["output"] == str(output)
    assert result["provenance"] == sidecar(output)


def test_a_terminal_gets_a_progress_bar(ipv2, scan, model, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    outcome = ipv2("denoise", scan, tmp_path / "out.nrrd", "--model", model)
    assert outcome.code == 0
    assert " %" in outcome.err
    assert "denoising slice" in outcome.err
    assert len(outcome.out.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopping_leaves_nothing_behind(model, tmp_path, contents, number):
    files.write(small_chest(slices=2000), tmp_path / "scan.nrrd")
    before = contents()
    process = start("denoise", "scan.nrrd", "out.nrrd", "--model", model, "--json", cwd=tmp_path)
    try:
        while "denoising slice" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert without_notes(err) == "ipv2 denoise: stopped; nothing was written\n"
    assert json.loads(out.splitlines()[-1])["event"] == "stopped"
    assert contents() == before


def test_stopping_while_a_folder_is_written_leaves_nothing_behind(ipv2, scan, clean, tmp_path, contents, monkeypatch):
    before, write, handler = contents(), files.write, signal.getsignal(signal.SIGINT)

    def interrupted(volume, path, **options):
        if Path(path).name == "cm2-label.nrrd":
            os.kill(os.getpid(), signal.SIGTERM)
        return write(volume, path, **options)

    monkeypatch.setattr(files, "write", interrupted)
    outcome = ipv2("purify", scan, clean, tmp_path / "stages")
    assert (outcome.code, outcome.said) == (130, "ipv2 purify: stopped; nothing was written\n")
    assert contents() == before
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("output", ["out.nrrd", "series"])
def test_a_full_disk_is_an_error_that_leaves_nothing_behind(ipv2, scan, model, tmp_path, contents, monkeypatch, output):
    before = contents()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    monkeypatch.setattr(os, "rename", full)
    outcome = ipv2("denoise", scan, tmp_path / output, "--model", model)
    assert outcome.code == 2
    assert "the disk is full" in outcome.err
    assert contents() == before


def test_a_bug_shows_its_traceback_and_asks_for_a_report(ipv2, scan, model, tmp_path, contents, monkeypatch):
    def broken(path):
        raise ValueError("surprise")

    before = contents()
    monkeypatch.setattr(files, "read_noted", broken)
    outcome = ipv2("denoise", scan, tmp_path / "out.nrrd", "--model", model, "--json")
    assert outcome.code == 1
    assert "Traceback" in outcome.err
    assert outcome.err.splitlines()[-1].startswith("ipv2 denoise: bug: ValueError: surprise")
    assert outcome.events[-1]["event"] == "error"
    assert contents() == before


# --- simulate -------------------------------------------------------------------------------------------------


def test_simulate_follows_the_dose_and_the_seed(ipv2, clean, tmp_path):
    def noise(name: str, *options: object) -> np.ndarray:
        assert ipv2("simulate", clean, tmp_path / name, *options).code == 0
        return files.read(tmp_path / name).array - files.read(clean).array

    strong = noise("a.nrrd", "--dose", 0.02, "--seed", 3)
    assert np.array_equal(strong, noise("b.nii.gz", "--dose", 0.02, "--seed", 3))
    assert not np.array_equal(strong, noise("c.nrrd", "--dose", 0.02, "--seed", 4))
    assert noise("d.nrrd", "--dose", 0.25).std() < 0.5 * strong.std()
    published = noise("e.nrrd", "--dose", 0.02, "--method", "published")
    assert not np.array_equal(strong, published)
    facts = sidecar(tmp_path / "a.nrrd")
    assert (facts["command"], facts["dose"], facts["seed"], facts["method"]) == ("simulate", 0.02, 3, "physical")


# --- purify ---------------------------------------------------------------------------------------------------


def test_purify_writes_every_stage(ipv2, scan, clean, tmp_path):
    folder = tmp_path / "new" / "stages"
    outcome = ipv2("purify", scan, clean, folder)
    assert outcome.code == 0, outcome.err
    stages = purification.purify(files.read(scan), files.read(clean))
    expected = {
        "uldct.nrrd": stages.uldct.array,
        "ndct.nrrd": stages.ndct.array,
        "dark-uldct-label.nrrd": stages.dark_uldct,
        "dark-ndct-label.nrrd": stages.dark_ndct,
        "cm1-label.nrrd": stages.cm1,
        "background-label.nrrd": stages.background,
        "cm2-label.nrrd": stages.cm2,
        "simulated.nrrd": stages.simulated.array,
        "weakly-denoised.nrrd": stages.weakly_denoised.array,
        "training-input.nrrd": stages.training_input.array,
        "test-reference.nrrd": stages.test_label.array,
        "labels.nrrd": stages.labels,
    }
    assert {path.name for path in folder.iterdir()} == {*expected, "stages.png", "provenance.json"}
    for name, array in expected.items():
        volume = files.read(folder / name)
        assert np.array_equal(volume.array, array), name
        assert same_grid(volume, stages.uldct)
    assert (folder / "stages.png").read_bytes().startswith(b"\x89PNG")
    facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert (facts["uldct"], facts["ndct"], facts["settings"]["blend"]) == ("scan.nrrd", "clean.nrrd", 0)
    assert all(name in outcome.out for name in expected)


def test_purify_ipv1_has_its_own_stages_and_replaces_its_own_folder_only(ipv2, scan, clean, tmp_path, contents):
    folder = tmp_path / "stages"
    assert ipv2("purify", scan, clean, folder).code == 0
    before = contents()
    outcome = ipv2("purify", scan, clean, folder, "--strategy", "ipv1")
    assert outcome.code == 2
    assert "--overwrite" in outcome.err
    assert contents() == before
    assert ipv2("purify", scan, clean, folder, "--strategy", "ipv1", "--overwrite", "--blend", 0.3).code == 0
    stages = purification.purify(files.read(scan), files.read(clean), Settings(False, False, False, blend=0.3))
    assert not (folder / "simulated.nrrd").exists()
    assert np.array_equal(files.read(folder / "training-input.nrrd").array, stages.training_input.array)


def test_purify_switches_each_module_by_itself(ipv2, scan, clean, tmp_path):
    folder = tmp_path / "stages"
    options = ("--strategy", "ipv1", "--blend", 0, "--add-noise", "--window", -1000, 200, "--seed", 5)
    assert ipv2("purify", scan, clean, folder, *options).code == 0
    settings = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["settings"]
    assert (settings["remove_background"], settings["add_noise"], settings["remove_noise"]) == (False, True, False)
    assert (settings["low_hu"], settings["high_hu"], settings["seed"]) == (-1000, 200, 5)
    assert (folder / "simulated.nrrd").exists()


def test_purify_without_matplotlib_says_so_and_writes_the_rest(ipv2, scan, clean, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    outcome = ipv2("purify", scan, clean, tmp_path / "stages")
    assert outcome.code == 0
    assert (
        'no pictures: a picture needs matplotlib, which is not installed: pip install "IPv2Lib[pictures]"'
        in outcome.err
    )
    assert len(outcome.err.splitlines()) == 1
    assert (tmp_path / "stages" / "labels.nrrd").exists()
    assert not (tmp_path / "stages" / "stages.png").exists()


def test_purify_without_pictures_and_compression_has_the_same_images(ipv2, scan, clean, tmp_path):
    plain, fast = tmp_path / "plain", tmp_path / "fast"
    assert ipv2("purify", scan, clean, plain).code == 0
    outcome = ipv2("purify", scan, clean, fast, "--no-pictures", "--no-compress")
    assert (outcome.code, outcome.said) == (0, "")
    names = {path.name for path in fast.iterdir()}
    assert names == {path.name for path in plain.iterdir()} - {"stages.png"}
    for name in names - {"provenance.json"}:
        assert np.array_equal(files.read(fast / name).array, files.read(plain / name).array)
        assert (fast / name).stat().st_size > (plain / name).stat().st_size


# --- evaluate -------------------------------------------------------------------------------------------------


def test_evaluate_prints_a_table_and_json(ipv2, scan, clean):
    outcome = ipv2("evaluate", scan, clean)
    assert outcome.code == 0
    assert outcome.out.startswith("RMSE in the body")
    assert all(region.label in outcome.out for region in Region if region != Region.OUTSIDE)
    scores = ipv2("evaluate", scan, clean, "--json").events[-1]
    assert scores["event"] == "result"
    assert 50 < scores["body_rmse_hu"] < 70
    assert f"{scores['body_rmse_hu']:.1f} HU" in outcome.out


# --- models ---------------------------------------------------------------------------------------------------


def test_models_lists_and_shows_cards(ipv2, model, monkeypatch):
    monkeypatch.setenv("IPV2_MODELS", str(model.parent))
    listing = ipv2("models")
    assert listing.code == 0
    assert "tiny" in listing.out
    assert str(model) in listing.out
    (result,) = ipv2("models", "--json").events
    assert result["default"] in {item["card"]["name"] for item in result["models"]}
    card = ipv2("models", "tiny")
    assert card.code == 0
    assert "Intended use: Tests." in card.out
    assert bundle.load(model).hash in card.out


def test_models_tells_of_a_broken_model(ipv2, model, tmp_path, monkeypatch):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.json").write_text("{}")
    monkeypatch.setenv("IPV2_MODELS", os.pathsep.join([str(model.parent), str(tmp_path)]))
    outcome = ipv2("models")
    assert outcome.code == 0
    assert "broken" in outcome.err


# --- devices --------------------------------------------------------------------------------------------------


def test_devices_are_measured(ipv2, model):
    outcome = ipv2("devices", "--model", model)
    assert (outcome.code, outcome.said) == (0, "")
    assert any(line.startswith("cpu") for line in outcome.out.splitlines())
    *progress, result = ipv2("devices", "--model", model, "--json").events
    assert progress
    devices = {each["device"]: each for each in result["devices"]}
    assert result["auto"] in devices
    cpu = devices["cpu"]
    assert cpu["name"]
    assert 0 < cpu["free_bytes"] < cpu["total_bytes"]
    assert 0 < cpu["seconds_per_slice"] < 10


# --- phantom --------------------------------------------------------------------------------------------------


def test_phantom_is_a_pair_that_can_be_purified(ipv2, tmp_path):
    folder = tmp_path / "chest"
    settings = {"size": 64, "slices": 3, "dose": 0.1, "motion": 5.0, "seed": 2}
    flags = [text for name, value in settings.items() for text in (f"--{name}", value)]
    outcome = ipv2("phantom", folder, *flags, "--json")
    assert (outcome.code, outcome.said) == (0, "")
    assert outcome.events[-1]["folder"] == str(folder)
    made = phantom.pair(**settings)
    for name in ("uldct", "ndct", "ground_truth"):
        volume = files.read(folder / f"{name}.nrrd")
        assert np.array_equal(volume.array, getattr(made, name).array)
        assert same_grid(volume, made.ground_truth)
    facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert settings.items() <= facts.items()
    assert ipv2("purify", folder / "uldct.nrrd", folder / "ndct.nrrd", tmp_path / "stages", "--no-pictures").code == 0
    again = ipv2("phantom", folder, *flags)
    assert again.code == 2
    assert "--overwrite" in again.err
    assert ipv2("phantom", folder, *flags, "--overwrite").code == 0


@pytest.mark.parametrize(("flag", "value"), [("--dose", 2), ("--motion", 99), ("--size", 1), ("--slices", 0)])
def test_phantom_refuses_what_cannot_be_made(ipv2, tmp_path, contents, flag, value):
    outcome = ipv2("phantom", tmp_path / "chest", flag, value)
    assert outcome.code == 2
    assert outcome.err.startswith("ipv2 phantom: error: ")
    assert contents() == set()


# --- train ----------------------------------------------------------------------------------------------------

TRAINING = ("--steps", 3, "--batch", 1, "--patch", 16, "--seed", 1, "--dose", 0.05, 0.1)


def test_train_makes_a_model_that_denoises(ipv2, clean, scan, tmp_path):
    run, packed = tmp_path / "run", tmp_path / "packed"
    card = tmp_path / "card.json"
    card.write_text(json.dumps({"title": "Mine", "limits": "All."}))
    outcome = ipv2("train", clean, "--out", run, "--model-out", packed, "--card", card, *TRAINING)
    assert outcome.code == 0, outcome.err
    trained = bundle.load(packed)
    assert (trained.card.title, trained.card.limits) == ("Mine", "All.")
    assert trained.card.training["data"][0]["name"] == "1 scan"
    assert trained.card.training["settings"]["ranges"]["dose"] == [0.05, 0.1]
    assert (run / "log.csv").exists()
    assert ipv2("denoise", scan, tmp_path / "out.nrrd", "--model", packed).code == 0
    going_on = ("--start-from", packed, "--variance-weight", 1, "--thickness", 1, 2)
    going_on += ("--modulation", 0.5, 1, "--band", 1, 1.5, "--blocks", 2, "--keep-blocks", tmp_path / "kept")
    outcome = ipv2("train", clean, "--out", tmp_path / "more", *going_on, *TRAINING)
    assert outcome.code == 0, outcome.err
    settings = json.loads((tmp_path / "more" / "settings.json").read_text())
    assert (settings["start_from"], settings["variance_weight"]) == (str(packed), 1)
    ranges = settings["ranges"]
    assert (ranges["thickness"], ranges["modulation"], ranges["band"]) == ([1, 2], [0.5, 1], [1, 1.5])
    assert len(list((tmp_path / "kept").iterdir())) == 2


def test_training_is_stopped_with_a_checkpoint_and_resumed(clean, tmp_path):
    arguments = ("train", clean, "--out", "run", "--batch", 1, "--patch", 16)
    process = start(*arguments, "--minutes", 10, "--json", cwd=tmp_path)
    try:
        while "step 50" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "resume" in err
    assert "Traceback" not in err
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    (tmp_path / "run" / "settings.json").write_text(json.dumps(settings | {"minutes": 1e-6}))
    assert main(["train", str(clean), "--out", str(tmp_path / "run"), "--resume"]) == 0


# --- demo -----------------------------------------------------------------------------------------------------


def test_demo_writes_a_report_that_needs_nothing_else(ipv2, model, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "SLICES", 4)
    folder = tmp_path / "demo"
    began = time.time()
    outcome = ipv2("demo", "--out", folder, "--model", model, "--json")
    assert outcome.code == 0, outcome.err
    result = outcome.events[-1]
    assert Path(result["report"]) == folder / "report.html"
    assert set(result["scores"]) == {"uLDCT (input)", "Weak denoiser", "tiny"}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Not for diagnosis" in page
    assert page.count("data:image/png;base64,") >= 2
    assert "http:" not in page and "https:" not in page  # pictures are random letters, without colons
    assert (folder / "report.html").stat().st_mtime >= began
    for name in ("uldct", "ndct", "ground_truth", "denoised"):
        assert files.read(folder / f"{name}.nrrd").array.shape == (4, 320, 320)
    assert result["scores"]["Weak denoiser"]["body_rmse_hu"] < result["scores"]["uLDCT (input)"]["body_rmse_hu"]
