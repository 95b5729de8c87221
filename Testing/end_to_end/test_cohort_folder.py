"""The right scan in the folder of a cohort: what is kept, made again, replaced and told, whatever its name and time."""

import csv
import dataclasses
import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import as_another_command, killed_owner
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from IPv2Lib.errors import OutputError
from IPv2Lib.inference import cohort
from IPv2Lib.inference.cohort import DENOISED, FAILED, KEPT, denoise_cohort
from IPv2Lib.inference.cohort_folder import OTHER
from IPv2Lib.inference.denoise import denoise
from IPv2Lib.inference.options import DenoiseOptions
from IPv2Lib.io import files, outputs
from IPv2Lib.io.locks import ForOwner
from IPv2Lib.io.volume import Volume
from IPv2Lib.models import bundle
from IPv2Lib.progress import NO_PROGRESS, Progress
from small_chest import small_chest

DAY = 86_400


@pytest.fixture(scope="module")
def tiny(model) -> bundle.Bundle:
    return bundle.load(model)


def scan_of(seed: int) -> Volume:
    return small_chest(size=32, slices=1, seed=seed)


def put(path: Path, seed: int) -> Path:
    """Write a scan of its own for each number; every file has the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        path.unlink()
    files.write(scan_of(seed), path)
    os.utime(path, (DAY, DAY))
    return path


def report(folder: Path) -> list[dict[str, str]]:
    with open(folder / "report.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def results(folder: Path) -> dict[str, str]:
    """Hash of every result, by name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.nrrd")}


class Checked:
    """Calls that are checked: every output is what its input, as it is now, gives with these options."""

    def __init__(self, model: bundle.Bundle, folder: Path):
        self.model, self.folder = model, folder
        self._expected: dict[tuple, np.ndarray] = {}

    def expected(self, volume: Volume, options: DenoiseOptions) -> np.ndarray:
        key = (volume.sha256(), options.strength, options.keep_outside_body)
        if key not in self._expected:
            how = {"strength": options.strength, "keep_outside_body": options.keep_outside_body}
            self._expected[key] = denoise(volume, self.model, device="cpu", **how).volume.array
        return self._expected[key]

    def __call__(self, *sources: Path, **how: Any) -> list[str]:
        """Denoise, check, and return what became of each input."""
        options = DenoiseOptions(device="cpu", **how)
        scans = denoise_cohort(list(sources), self.folder, self.model, options)
        rows = report(self.folder)
        for scan, row in zip(scans, rows[: len(scans)], strict=True):
            if scan.status == FAILED:
                assert (row["status"], row["output"], row["input_sha256"]) == (FAILED, "", "")
                continue
            volume = files.read(scan.source)
            assert np.array_equal(files.read(scan.output).array, self.expected(volume, options)), scan
            assert scan.facts["provenance"]["input_sha256"] == row["input_sha256"] == volume.sha256()
            assert (row["input"], row["output"], row["status"]) == (str(scan.source), scan.output.name, scan.status)
        assert len({scan.output for scan in scans}) == len(scans)
        told = [row["output"].lower() for row in rows if row["output"]]
        assert len(told) == len(set(told))
        for row in rows:
            if row["output"]:
                written = self.folder / row["output"]
                beside = json.loads(written.with_name(f"{written.name}.json").read_text(encoding="utf-8"))
                assert row["input_sha256"] == beside.get("input_sha256", "")
        return [scan.status for scan in scans]

    def outputs(self) -> dict[str, str]:
        """Output by input, of the report."""
        return {row["input"]: row["output"] for row in report(self.folder) if row["output"]}


@pytest.fixture
def run(tiny, tmp_path) -> Checked:
    return Checked(tiny, tmp_path / "out")


@pytest.fixture
def a(tmp_path) -> Path:
    return put(tmp_path / "A" / "scan.nrrd", 1)


@pytest.fixture
def b(tmp_path) -> Path:
    return put(tmp_path / "B" / "scan.nrrd", 2)


# --- workers that outlive their run -----------------------------------------------------------------------------


def test_a_worker_that_outlives_its_run_leaves_the_results_of_the_next_one_alone(run, a, monkeypatch):
    """As on a scheduler, where what has begun is finished, although who wanted it was killed."""
    work = cohort._Work(cohort.Scan(a, run.folder / "scan.nrrd"), run.model.folder, DenoiseOptions(device="cpu"))
    late = ForOwner(cohort._denoise_scan, run.folder, killed_owner(run.folder, "denoise"))
    begun, save = [], outputs.save

    def meanwhile(*arguments, **options):
        if not begun:
            begun.append(True)
            as_another_command(lambda: begun.append(run(a, strength=0.5)))
        return save(*arguments, **options)

    monkeypatch.setattr(outputs, "save", meanwhile)
    with pytest.raises(OutputError, match="no longer held by this 'ipv2 denoise'"):
        late(work, progress=NO_PROGRESS)
    assert begun == [True, [DENOISED]] and run(a, strength=0.5) == [KEPT]
    assert sorted(os.listdir(run.folder)) == ["report.csv", "scan.nrrd", "scan.nrrd.json"]


# --- names ------------------------------------------------------------------------------------------------------


def test_another_order_and_a_third_scan(run, a, b, tmp_path):
    assert run(a, b) == [DENOISED, DENOISED]
    before, names = results(run.folder), run.outputs()
    assert run(b, a) == [KEPT, KEPT]
    assert run(b, put(tmp_path / "C" / "SCAN.nrrd", 3), a) == [KEPT, DENOISED, KEPT]
    assert results(run.folder).items() >= before.items() and run.outputs().items() >= names.items()


def test_one_alone_then_the_other(run, a, b):
    assert run(a) == [DENOISED]
    assert run(b) == [DENOISED]
    assert run.outputs() == {str(a): "scan.nrrd", str(b): "scan-2.nrrd"}
    assert [row["status"] for row in report(run.folder)] == [DENOISED, OTHER]
    assert run(a) == [KEPT]
    assert run(b, a) == [KEPT, KEPT]


def test_names_that_look_like_numbered_ones(run, a, b, tmp_path):
    two = put(tmp_path / "C" / "scan-2.nrrd", 3)
    assert run(two, a, b) == [DENOISED] * 3
    assert run(b, a) == [KEPT, KEPT]
    assert run(a, b, two) == [KEPT] * 3


def test_dicom_folders_of_one_name(run, tmp_path):
    folders = [tmp_path / patient / "4: Thorax 1.0 B31f" for patient in "AB"]
    for seed, folder in enumerate(folders):
        folder.parent.mkdir()
        files.write(scan_of(seed), folder.with_name("series"))
        folder.with_name("series").rename(folder)
    assert run(*folders) == [DENOISED, DENOISED]
    assert list(run.outputs().values()) == ["4_ Thorax 1.0 B31f.nrrd", "4_ Thorax 1.0 B31f-2.nrrd"]
    assert run(*reversed(folders)) == [KEPT, KEPT]
    assert run(*(folder / "0001.dcm" for folder in folders)) == [DENOISED, DENOISED]


def test_all_ways_to_write_a_place(run, a, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "A")
    ways = [a, Path("A/scan.nrrd"), Path("./A/../A/scan.nrrd"), Path("link/scan.nrrd"), Path("A//scan.nrrd")]
    assert run(*ways) == [DENOISED]
    for way in ways:
        assert run(way) == [KEPT]
    (tmp_path / "C").mkdir()
    put(tmp_path / "C" / "deep" / "scan.nrrd", 5)
    put(tmp_path / "C" / "scan.nrrd", 6)
    (tmp_path / "D").symlink_to(tmp_path / "C" / "deep")  # D/.. is C, not here
    assert run(Path("D/../scan.nrrd")) == [DENOISED]
    monkeypatch.chdir(tmp_path / "A")
    assert run(Path("../A/scan.nrrd"), Path("scan.nrrd")) == [KEPT]


# --- contents ---------------------------------------------------------------------------------------------------


def test_a_scan_that_was_replaced_with_its_time_kept(run, a, b):
    run(a, b)
    names = run.outputs()
    put(a, 7)
    assert run(a, b) == [DENOISED, KEPT] and run.outputs() == names
    put(a, 2), put(b, 7)  # exchanged
    assert run(b, a) == [DENOISED, DENOISED] and run.outputs() == names


def test_a_link_that_leads_elsewhere(run, a, b, tmp_path):
    link = tmp_path / "scan.nrrd"
    link.symlink_to(a)
    assert run(link) == [DENOISED]
    link.unlink(), link.symlink_to(b)
    assert run(link) == [DENOISED]
    assert run(link, b, a) == [KEPT, DENOISED, DENOISED]
    assert run.outputs()[str(link)] == "scan.nrrd"


def test_one_content_in_two_places(run, a, tmp_path):
    twin = tmp_path / "B" / "scan.nrrd"
    twin.parent.mkdir()
    twin.symlink_to(a)
    assert run(a) == [DENOISED]
    assert run(twin) == [DENOISED]
    assert run(a, twin) == [KEPT, KEPT]
    twin.unlink()
    put(twin, 9)
    before = (run.folder / "scan.nrrd").read_bytes()
    assert run(twin) == [DENOISED] and (run.folder / "scan.nrrd").read_bytes() == before


def test_folders_that_were_renamed(run, a, b, tmp_path):
    assert run(a, b) == [DENOISED, DENOISED]
    before = results(run.folder)
    (tmp_path / "A").rename(tmp_path / "moved")
    assert run(b, tmp_path / "moved" / "scan.nrrd") == [KEPT, KEPT]
    run.folder = run.folder.rename(tmp_path / "results")
    assert run(tmp_path / "moved" / "scan.nrrd", b) == [KEPT, KEPT]
    (tmp_path / "B").rename(tmp_path / "A")  # where another one was
    assert run(tmp_path / "A" / "scan.nrrd", tmp_path / "moved" / "scan.nrrd") == [KEPT, KEPT]
    assert results(run.folder) == before


def test_other_values_of_an_unreadable_scan_leave_the_earlier_result_and_tell_of_it(run, a, b):
    run(a, b)
    before = results(run.folder)
    a.write_bytes(b"no scan")
    assert run(a, b) == [FAILED, KEPT]
    assert results(run.folder) == before
    assert [(row["output"], row["status"]) for row in report(run.folder)] == [
        ("", FAILED), ("scan-2.nrrd", KEPT), ("scan.nrrd", OTHER),
    ]  # fmt: skip
    put(a, 1)
    assert run(b, a) == [KEPT, KEPT]


def test_a_model_with_other_weights_or_another_card_under_the_same_name(run, a, tiny, tmp_path):
    assert run(a) == [DENOISED]
    copy = bundle.load(Path(shutil.copytree(tiny.folder, tmp_path / "models" / "tiny")))
    run.model = copy
    assert run(a) == [KEPT]
    path = copy.folder / bundle.CARD_FILE
    for change, status in (({"title": "Another"}, KEPT), ({"hu_range": [-1000, 500]}, DENOISED)):
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        run.model = bundle.load(copy.folder)
        run._expected.clear()
        assert run(a) == [status], change


# --- options ----------------------------------------------------------------------------------------------------

OTHER_VALUES = {
    "strength": 0.5, "device": "cpu", "engine": "torch", "keep_outside_body": True, "residual_noise_hu": 5.0,
    "test_time_augmentation": True, "statistics": True, "reliability": True, "compress": False, "cache": False,
    "model": "tiny", "batch": 1, "tile": 64,
}  # fmt: skip
SAME_RESULT = {"device", "engine", "compress", "statistics", "reliability", "cache", "model", "batch", "tile"}


@pytest.mark.parametrize("name", [each.name for each in dataclasses.fields(DenoiseOptions)])
def test_every_option_that_decides_the_result_is_compared(tiny, name):
    """A field that is new must get another value above, and is compared unless it is declared to decide nothing."""
    options = DenoiseOptions()
    other = dataclasses.replace(options, **{name: OTHER_VALUES[name]})
    same = cohort.deciding("0", tiny, options) == cohort.deciding("0", tiny, other)
    assert same == (name in SAME_RESULT)


@pytest.mark.parametrize("name", [each.name for each in dataclasses.fields(DenoiseOptions)])
def test_a_result_of_other_options_is_not_kept(tiny, a, tmp_path, name):
    options = DenoiseOptions(device="cpu")
    other = dataclasses.replace(options, **{name: OTHER_VALUES[name]})
    folder = tmp_path / "out"

    def status(how: DenoiseOptions) -> str:
        (scan,) = denoise_cohort([a], folder, tiny, how)
        return scan.status

    assert [status(options), status(options)] == [DENOISED, KEPT]
    assert status(other) == (KEPT if name in SAME_RESULT - {"statistics", "reliability"} else DENOISED)
    assert status(other) == KEPT


def test_an_option_that_is_new_is_compared(tiny):
    @dataclasses.dataclass(frozen=True)
    class More(DenoiseOptions):
        sharpen: float = 0.0

    assert cohort.deciding("0", tiny, More()) != cohort.deciding("0", tiny, More(sharpen=1.0))


def test_a_measured_result_is_kept_with_its_numbers(tiny, a, tmp_path):
    first, second = (
        denoise_cohort([a], tmp_path / "out", tiny, DenoiseOptions(device="cpu", statistics=True))[0] for _ in range(2)
    )
    assert (first.status, second.status) == (DENOISED, KEPT)
    assert second.facts["statistics"] == first.facts["statistics"] and second.facts == first.facts


# --- results that are not what they say, reports that are wrong -------------------------------------------------


def test_an_image_that_is_not_the_one_spoken_of(run, a, b):
    run(a, b)
    first = run.folder / "scan.nrrd"
    good = first.read_bytes()
    for bad in (good[:-20], (run.folder / "scan-2.nrrd").read_bytes(), b""):
        first.write_bytes(bad)
        assert run(a, b) == [DENOISED, KEPT]
        assert run(a, b) == [KEPT, KEPT]
    first.unlink()
    assert run(a, b) == [DENOISED, KEPT]
    # what strength 0 gives, beside the words for 1
    files.write(files.read(a), first)
    assert run(a) == [DENOISED]
    # the right voxels in another place
    files.write(dataclasses.replace(files.read(first), origin=(0, 0, 0)), first)
    assert run(a) == [DENOISED]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"command": "denoise"}', '{"command": "simulate"}', '{"foreign": 1}']
)
def test_a_file_beside_the_image_that_is_damaged_or_none_of_ours(run, a, b, text):
    run(a, b)
    image, beside = run.folder / "scan.nrrd", run.folder / "scan.nrrd.json"
    beside.write_text(text)
    before = image.read_bytes()
    assert run(a, b) == [DENOISED, KEPT]
    assert (image.read_bytes(), beside.read_text()) == (before, text)  # nobody knows whose they are
    assert run(b, a) == [KEPT, KEPT]


def change_rows(folder: Path, change) -> None:
    rows = change(report(folder))
    with open(folder / "report.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def exchanged(column: str):
    def change(rows):
        rows[0][column], rows[1][column] = rows[1][column], rows[0][column]
        return rows

    return change


def without(*columns: str):
    return lambda rows: [{name: value for name, value in row.items() if name not in columns} for row in rows]


def all_into(output: str):
    return lambda rows: [row | {"output": output} for row in rows]


@pytest.mark.parametrize(
    "change",
    [exchanged("output"), exchanged("input"), exchanged("input_sha256"), without("input_sha256"), without("output"),
     all_into("scan.nrrd"), all_into("../A/scan.nrrd"), all_into("mine.nrrd"), lambda rows: rows[:1]],
)  # fmt: skip
def test_a_report_that_somebody_changed(run, a, b, change):
    run(a, b)
    (run.folder / "mine.nrrd").write_text("mine")
    before = results(run.folder)
    change_rows(run.folder, change)
    assert run(b) == [KEPT]
    assert run(a) == [KEPT]
    assert run(a, b) == [KEPT, KEPT]
    assert results(run.folder) == before


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe\x00", b"input;output\na;b\n", b"input,output\n,\n\x00,x\n"])
def test_a_report_that_is_missing_or_none(run, a, b, content):
    run(a, b)
    before = results(run.folder)
    path = run.folder / "report.csv"
    path.unlink() if content is None else path.write_bytes(content)
    assert run(b, a) == [KEPT, KEPT]
    assert results(run.folder) == before


def test_results_and_report_from_before_contents_were_noted(run, a, b):
    """They stay, and new ones are made: it cannot be known what they were made of."""
    run(a, b)
    before = results(run.folder)
    for beside in run.folder.glob("*.json"):
        facts = json.loads(beside.read_text())
        for name in ("input_sha256", "output_sha256", "model_sha256", "input_place"):
            del facts[name]
        beside.write_text(json.dumps(facts))
    change_rows(run.folder, without("input_sha256"))
    assert run(b, a) == [DENOISED, DENOISED] and results(run.folder).items() > before.items()
    assert run(a, b) == [KEPT, KEPT] and len(report(run.folder)) == 4


def test_a_stopped_call_goes_on(run, a, b, tmp_path):
    c = put(tmp_path / "C" / "scan.nrrd", 3)
    run(a, b, c)
    names = run.outputs()
    put(a, 4), put(b, 5), put(c, 6)
    with pytest.raises(KeyboardInterrupt):
        denoise_cohort(
            [c, b, a], run.folder, run.model, DenoiseOptions(device="cpu"), progress=Progress(stop_at("scan.nrrd", 2))
        )
    assert [row["status"] for row in report(run.folder)] == [DENOISED, "not begun", "not begun", OTHER, OTHER]
    assert run(a, b, c) == [DENOISED, DENOISED, KEPT] and run.outputs() == names
    with pytest.raises(KeyboardInterrupt):  # before anything
        denoise_cohort(
            [a], tmp_path / "new", run.model, DenoiseOptions(device="cpu"), progress=Progress(stop_at("scan.nrrd", 1))
        )
    run.folder = tmp_path / "new"
    assert run(b, a) == [DENOISED, DENOISED]


def stop_at(text: str, times: int):
    """Stop when so many inputs of that name were begun."""
    begun = iter(range(1, 100))

    def progress(fraction: float, told: str) -> None:
        if told == text and next(begun) == times:
            raise KeyboardInterrupt

    return progress


def test_a_folder_that_holds_an_input_is_refused_also_later(run, a):
    run(a)
    with pytest.raises(cohort.InputError, match="holds an input"):
        denoise_cohort([run.folder / "scan.nrrd"], run.folder, run.model, DenoiseOptions(device="cpu"))


# --- any order of all that --------------------------------------------------------------------------------------


class Folder(RuleBasedStateMachine):
    """Scans come, go, move and change places between calls that are stopped by nobody and checked each time."""

    model: bundle.Bundle
    root: Path
    number = 0

    @initialize()
    def begin(self):
        Folder.number += 1
        self.base = self.root / str(Folder.number)
        self.places = [self.base / name for name in ("A/scan.nrrd", "B/scan.nrrd", "B/Scan.nrrd", "C/scan-2.nrrd")]
        for seed, place in enumerate(self.places[:2]):
            put(place, seed)
        self.run = Checked(self.model, self.base / "out")

    @rule(place=st.integers(0, 3), seed=st.integers(0, 4))
    def write(self, place, seed):
        put(self.places[place], seed)

    @rule(one=st.integers(0, 3), other=st.integers(0, 3))
    def move(self, one, other):
        if self.places[one].exists():
            self.places[other].parent.mkdir(exist_ok=True)
            self.places[one].replace(self.places[other])

    @rule(one=st.integers(0, 3), other=st.integers(0, 3))
    def link(self, one, other):
        if one != other and not self.places[other].is_symlink() and self.places[other].exists():
            self.places[one].unlink(missing_ok=True)
            self.places[one].parent.mkdir(exist_ok=True)
            self.places[one].symlink_to(self.places[other])

    @rule(which=st.integers(0, 9), do=st.sampled_from(["remove", "damage", "empty"]))
    def harm(self, which, do):
        present = sorted(self.run.folder.glob("*")) if self.run.folder.exists() else []
        if present:
            path = present[which % len(present)]
            path.unlink() if do == "remove" else path.write_text("" if do == "empty" else "damaged")

    @rule(order=st.permutations(range(4)), count=st.integers(1, 4), strength=st.sampled_from([1.0, 0.5]))
    def denoise(self, order, count, strength):
        places = [self.places[index] for index in order if self.places[index].exists()][:count]
        if not places:
            return
        mine = {str(place) for place in places}
        before, owned = {}, {}
        if self.run.folder.exists():
            before = results(self.run.folder)
            with open_quietly(self.run.folder) as rows:
                owned = {row["output"]: row["input"] for row in rows if row.get("output")}
        statuses = self.run(*places, strength=strength)
        after = results(self.run.folder)
        for output, owner in owned.items():
            if owner not in mine and Path(owner).exists() and output in before:
                assert after[output] == before[output], (output, owner)
        assert after.keys() >= before.keys()
        assert all(status in (DENOISED, KEPT) for status in statuses)
        assert self.run(*reversed(places), strength=strength) == [KEPT] * len(places)
        assert results(self.run.folder) == after

    def teardown(self):
        shutil.rmtree(self.base, ignore_errors=True)


class open_quietly:
    """Rows of a report; none where there is no readable one."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __enter__(self) -> list[dict[str, str]]:
        try:
            return report(self.folder)
        except (OSError, ValueError, csv.Error):
            return []

    def __exit__(self, *_):
        return False


def test_whatever_happens_between_calls(tiny, tmp_path_factory):
    Folder.model, Folder.root = tiny, tmp_path_factory.mktemp("folders")
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Folder,
        settings=settings(
            max_examples=25, stateful_step_count=12, deadline=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip
