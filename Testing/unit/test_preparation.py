"""Purified data sets: what is in them, what is made again and what is not, and what happens to cases that fail."""

import json
import os
import platform
import shutil
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from children import as_another_command, killed_owner
from IPv2Lib.analysis.noise import noise_sigma
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.cli import dataset
from IPv2Lib.cli.commands import main
from IPv2Lib.datasets import preparation, shard_making
from IPv2Lib.datasets.cases import Case
from IPv2Lib.datasets.orders import Order, orders_of
from IPv2Lib.datasets.owner_files import read_cases
from IPv2Lib.datasets.patients import hidden
from IPv2Lib.datasets.preparation import prepare
from IPv2Lib.datasets.record import Prepared
from IPv2Lib.datasets.shard_making import make
from IPv2Lib.datasets.shards import PurifiedDataset, is_dataset
from IPv2Lib.datasets.thumbnail import write_thumbnail
from IPv2Lib.errors import Cancelled, InputError, OutputError
from IPv2Lib.io import atomic, files
from IPv2Lib.io.locks import ForOwner
from IPv2Lib.io.volume import Volume
from IPv2Lib.progress import NO_PROGRESS, Progress
from IPv2Lib.purification.purify import purify
from IPv2Lib.purification.settings import IPV2
from IPv2Lib.purification.stage_files import export_stages
from IPv2Lib.simulation import phantom
from IPv2Lib.simulation.dose import simulate

SIZE, SLICES = 64, 3


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """NDCTs of four patients, the uLDCT of the first, and scans that are of no use."""
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(4):
        pair = phantom.pair(seed=seed, size=SIZE, slices=SLICES)
        files.write(pair.ndct, folder / f"n{seed}.nrrd")
        if seed == 0:
            files.write(pair.uldct, folder / "u0.nrrd")
            far = Volume(pair.uldct.array, pair.uldct.spacing, (5000.0, 0.0, 0.0))
            files.write(far, folder / "far.nrrd")
    rng = np.random.default_rng(0)
    belly = np.where(np.hypot(*np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]) < 0.7, 40.0, -1000.0)
    spacing = (5.5, 5.5, 5.0)
    files.write(Volume(belly + rng.normal(0, 10, (SLICES, SIZE, SIZE)), spacing), folder / "belly.nrrd")
    files.write(Volume(rng.integers(0, 900, (SLICES, SIZE, SIZE)).astype(np.int16), spacing), folder / "mri.nrrd")
    files.write(phantom.chest(size=SIZE, slices=1), folder / "one.nrrd")
    return folder


def alone(scans: Path, *numbers: int, **options) -> list[Case]:
    return [Case(f"p{number}", ndct=scans / f"n{number}.nrrd", **options) for number in numbers]


def times(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder).as_posix(): path.stat().st_mtime_ns
        for path in folder.glob("shards/*/*") if not path.parent.name.startswith(".")
    }  # fmt: skip


def order_of(folder: Path, one: Prepared) -> Order:
    """What a worker was given to make the shard of a case."""
    (order,) = orders_of([one.case], folder / "shards", IPV2, False, NO_PROGRESS)[one.case.name]
    assert order.key == one.keys[0]
    return order


def only_shard(folder: Path):
    (shard,) = PurifiedDataset.read(folder).shards
    return shard


# --- what is in a shard -----------------------------------------------------------------------------------------


def test_a_simulated_pair_is_breath_then_dose_then_purification(scans, tmp_path):
    (case,) = alone(scans, 1, dose=0.05, motion_mm=25.0)
    prepare([case], tmp_path / "data")
    shard = only_shard(tmp_path / "data")
    ndct = files.read(scans / "n1.nrrd")
    assert np.array_equal(shard.ndct, np.rint(ndct.array))
    moved = np.abs(shard.ground_truth - shard.ndct) > 50
    assert 0.005 < moved.mean() < 0.2
    near_lung = (shard.regions == Region.LUNG) | (shard.masks & 2 != 0)
    assert moved[near_lung].sum() > 0.8 * moved.sum()  # the rest of the chest stays where it is
    added = (shard.uldct - shard.ground_truth.astype(np.float32))[shard.regions == Region.SOFT_TISSUE]
    expected = simulate(ndct, 0.05, seed=3).array - ndct.array
    assert added.std() == pytest.approx(expected[shard.regions == Region.SOFT_TISSUE].std(), rel=0.15)
    stages = purify(
        Volume(shard.uldct, shard.spacing, shard.facts["origin"], shard.facts["direction"]),
        Volume(shard.ndct, shard.spacing, shard.facts["origin"], shard.facts["direction"]),
        replace(IPV2, dose=0.05, seed=shard.facts["settings"]["seed"]),
    )
    assert np.abs(shard.simulated - stages.simulated.array).max() <= 0.51
    assert np.abs(shard.weak - stages.weakly_denoised.array).max() <= 0.51
    other = (shard.simulated - shard.ndct.astype(np.float32))[shard.regions == Region.SOFT_TISSUE]
    assert abs(np.corrcoef(added, other)[0, 1]) < 0.15  # noise of its own


def test_the_facts_say_how_a_shard_was_made(scans, tmp_path):
    (case,) = alone(scans, 1, kernel="matched", patient="Q", seed=5)
    sharp = files.read(scans / "n1.nrrd")
    (prepared,) = prepare([replace(case, kernel="ramp")], tmp_path / "data")
    shard = only_shard(tmp_path / "data")
    assert (shard.key,) == prepared.keys and shard.key.startswith("p1-0-")
    assert prepared.status == "purified" and prepared.message == ""
    assert prepared.thumbnail.read_bytes().startswith(b"\x89PNG")
    facts = shard.facts
    assert (facts["case"], shard.patient, facts["kernel"], facts["seed"]) == ("p1", hidden("Q"), "ramp", 5)
    assert (facts["paired"], facts["motion_mm"], facts["dose"]) == (False, 6.0, 0.02)
    assert tuple(facts["origin"]) == pytest.approx(sharp.origin)
    assert len(facts["inputs"]["ndct"]) == 64 and facts["seconds"] > 0 and "numpy" in facts["versions"]
    assert read_cases(tmp_path / "data") == [prepared.case]
    assert prepared.case.split == "train"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_thumbnail_for_which_there_is_no_room_is_an_error(scans, tmp_path):
    prepare(alone(scans, 1), tmp_path)
    with pytest.raises(OSError, match="No space left"):
        write_thumbnail(only_shard(tmp_path), Path("/dev/full"))


def test_the_thumbnail_shows_four_images_with_the_outline_of_the_lungs(scans, tmp_path):
    (prepared,) = prepare(alone(scans, 1, dose=0.002), tmp_path)
    picture = sitk.GetArrayFromImage(sitk.ReadImage(str(prepared.thumbnail)))[..., :3].astype(int)
    height, width, _ = picture.shape
    side = (width - 3 * 4) // 4
    assert (height, width) == (224, 4 * 224 + 3 * 4)
    panels = [picture[:, left : left + side] for left in range(0, width, side + 4)]
    outlines = [(panel[..., 2] - panel[..., 0]) > 200 for panel in panels]
    assert 100 < outlines[0].sum() < 0.1 * side * side
    assert all(np.array_equal(outline, outlines[0]) for outline in outlines)
    uldct, ndct, training_input, test_label = (panel[~outlines[0]][:, 0] for panel in panels)
    assert np.abs(ndct - uldct).mean() > 1  # noise
    assert np.abs(training_input - uldct).mean() < np.abs(training_input - ndct).mean()
    assert np.abs(test_label - ndct).mean() < np.abs(test_label - uldct).mean()


def test_pieces_of_a_scan_are_what_they_are_in_the_whole(scans, tmp_path, monkeypatch):
    volume = phantom.chest(seed=2, size=SIZE, slices=7)
    blank = volume.array.copy()
    blank[-2:] = -1024  # nothing was scanned there
    files.write(volume.with_array(blank), tmp_path / "n.nrrd")
    shifted = (*volume.origin[:2], volume.origin[2] + 3 * volume.spacing[2] + 1.5)
    files.write(Volume(volume.array, volume.spacing, shifted), tmp_path / "shifted.nrrd")
    cases = [
        Case("a", ndct=tmp_path / "n.nrrd"), Case("b", ndct=tmp_path / "shifted.nrrd", uldct=tmp_path / "n.nrrd"),
    ]  # fmt: skip
    prepare(cases, tmp_path / "whole", split_projections=True)
    monkeypatch.setattr(shard_making, "_BLOCK_PIXELS", 2 * SIZE * SIZE)
    prepare(cases, tmp_path / "pieces", split_projections=True)
    names = ("uldct", "ground_truth", "ndct", "simulated", "weak", "masks", "regions", "half_a")
    for whole, pieces in zip(
        *(PurifiedDataset.read(tmp_path / name).shards for name in ("whole", "pieces")), strict=True
    ):
        for name in names:
            first, second = getattr(whole, name), getattr(pieces, name)
            if first is not None:
                assert np.abs(first.astype(int) - second).max() <= (1 if first.dtype == np.int16 else 0), name
    assert (whole.masks[:3] & 4).all() and not (whole.masks[4] & 4).all()  # beyond the NDCT there is no pair


def test_a_pair_and_its_stages_make_the_same_shard(scans, tmp_path):
    uldct, ndct = files.read(scans / "u0.nrrd"), files.read(scans / "n0.nrrd")
    narrow = Volume(ndct.array[:, :, 20:], ndct.spacing, (ndct.origin[0] + 20 * ndct.spacing[0], *ndct.origin[1:]))
    files.write(narrow, tmp_path / "narrow.nrrd")
    export_stages(purify(uldct, narrow), tmp_path / "stages")
    prepare([Case("p", ndct=tmp_path / "narrow.nrrd", uldct=scans / "u0.nrrd")], tmp_path / "pair")
    prepare([Case("p", stages=tmp_path / "stages")], tmp_path / "from stages")
    first, second = only_shard(tmp_path / "pair"), only_shard(tmp_path / "from stages")
    assert (first.masks[:, :, :20] & 4).all()
    assert np.array_equal(first.masks & 4, second.masks & 4)
    for strategy in ("none", "ipv2"):
        for one, other in zip(first.pair(np.s_[:], strategy), second.pair(np.s_[:], strategy), strict=True):
            assert np.mean(np.abs(one - other) > 1) < 0.02  # masks at the border of the narrow scan may differ
    assert first.ground_truth is None and first.facts["motion_mm"] is None and first.facts["paired"]


def test_realisations_have_noise_breath_and_dose_of_their_own(scans, tmp_path):
    prepare(alone(scans, 1, 2, dose=0.02, dose_high=0.2, realisations=3), tmp_path / "data")
    dataset = PurifiedDataset.read(tmp_path / "data")
    doses = [shard.dose for shard in dataset.shards]
    assert len(set(doses)) == 6 and all(0.02 <= dose <= 0.2 for dose in doses)
    assert len({shard.split for shard in dataset.shards if shard.case == "p1"}) == 1
    first, second, third = (shard for shard in dataset.shards if shard.case == "p1")
    assert not np.array_equal(first.ground_truth, second.ground_truth) and np.array_equal(first.ndct, third.ndct)
    tissue = first.regions == Region.SOFT_TISSUE
    by_dose = sorted((first, second, third), key=lambda shard: shard.dose)
    sigmas = [noise_sigma(shard.uldct - shard.ground_truth.astype(np.float32), tissue) for shard in by_dose]
    assert sigmas == sorted(sigmas, reverse=True)


# --- what is made again -----------------------------------------------------------------------------------------


def test_a_second_run_makes_nothing_and_more_cases_are_only_added(scans, tmp_path):
    data = tmp_path / "data"
    assert [one.status for one in prepare(alone(scans, 1, 2), data)] == ["purified", "purified"]
    before = times(data)
    again = prepare(alone(scans, 1, 2), data)
    assert [one.status for one in again] == ["cached", "cached"] and times(data) == before
    splits = {one.case.name: one.case.split for one in again}
    more = prepare(alone(scans, 3, 2, 1), data)
    assert [one.status for one in more] == ["purified", "cached", "cached"]
    assert times(data).items() > before.items()
    assert {
        one.case.name: one.case.split for one in more
    }.items() >= splits.items()  # what was tested is not trained on
    assert {shard.case for shard in PurifiedDataset.read(data).shards} == {"p1", "p2", "p3"}
    fewer = prepare(alone(scans, 2), data)
    assert [one.status for one in fewer] == ["cached"] and only_shard(data).case == "p2"


@pytest.mark.parametrize(
    "change", [{"dose": 0.04}, {"motion_mm": 9.0}, {"kernel": "soft"}, {"method": "published"}, {"seed": 1}]
)
def test_what_decides_the_result_decides_the_key(scans, tmp_path, change):
    (case,) = alone(scans, 1)
    (first,) = prepare([case], tmp_path)
    (second,) = prepare([replace(case, **change)], tmp_path)
    assert second.status == "purified" and second.keys != first.keys
    (back,) = prepare([case], tmp_path)
    assert back.status == "cached" and back.keys == first.keys


def test_what_does_not_decide_it_does_not(scans, tmp_path):
    (case,) = alone(scans, 1)
    (first,) = prepare([case], tmp_path)
    for same in (replace(case, split="test"), replace(case, patient="Q"), replace(case, dose_high=0.02)):
        (one,) = prepare([same], tmp_path, fractions=(0.5, 0.25, 0.25), seed=9)
        assert one.status == "cached" and one.keys == first.keys
    (shard,) = PurifiedDataset.read(tmp_path).shards
    (one,) = prepare([replace(case, patient="Q", split="test")], tmp_path)
    (shard,) = PurifiedDataset.read(tmp_path).split("test")
    assert shard.patient == hidden("Q")


def test_settings_and_contents_decide_the_key(scans, tmp_path):
    file = tmp_path / "n.nrrd"
    file.write_bytes((scans / "n1.nrrd").read_bytes())
    case, data = Case("p", ndct=file), tmp_path / "data"
    keys = [prepare([case], data)[0].keys]
    keys.append(prepare([case], data, weak_strength=2.0)[0].keys)
    keys.append(prepare([case], data, low_hu=-1024.0)[0].keys)
    keys.append(prepare([case], data, split_projections=True)[0].keys)
    file.write_bytes((scans / "n2.nrrd").read_bytes())
    keys.append(prepare([case], data)[0].keys)
    assert len(set(keys)) == 5


def nrrd(folder: Path, volume: Volume) -> Path:
    return files.write(volume, folder / "n.nrrd")


def nrrd_and_data(folder: Path, volume: Volume, suffix: str = ".nhdr") -> Path:
    """Only the data differ between two volumes on one grid."""
    sitk.WriteImage(sitk.ReadImage(str(nrrd(folder, volume))), str(folder / "n.nhdr"), useCompression=False)
    return (folder / "n.nhdr").replace(folder / f"n{suffix}")


def meta_image_and_data(folder: Path, volume: Volume, suffix: str = ".mhd") -> Path:
    for left in folder.glob("n.raw"):  # of the header that was renamed
        left.unlink()
    files.write(volume, folder / "n.mhd", compress=False)
    return (folder / "n.mhd").replace(folder / f"n{suffix}")


def dicom(folder: Path, volume: Volume) -> Path:
    shutil.rmtree(folder / "series", ignore_errors=True)
    return files.write(volume, folder / "series")


@pytest.mark.parametrize(
    "write",
    [
        nrrd, nrrd_and_data, partial(nrrd_and_data, suffix=".nrrd"), meta_image_and_data,
        partial(meta_image_and_data, suffix=".mha"), dicom,
    ],
)  # fmt: skip
def test_a_scan_that_was_replaced_with_its_time_kept_is_purified_again(scans, tmp_path, write):
    place, data = tmp_path / "scans", tmp_path / "data"
    place.mkdir()
    one, other = (files.read(scans / f"n{number}.nrrd") for number in (1, 2))

    def put(volume: Volume) -> Case:
        path = write(place, volume)
        for file in place.rglob("*"):
            os.utime(file, (86_400, 86_400))
        return Case("p", ndct=path)

    (first,) = prepare([put(one)], data)
    (second,) = prepare([put(other.with_array(other.array))], data)
    assert (first.status, second.status) == ("purified", "purified")
    assert np.array_equal(only_shard(data).ndct, np.rint(other.array))
    assert prepare([Case("p", ndct=first.case.ndct)], data)[0].status == "cached"


def test_stages_whose_labels_were_replaced_are_purified_again(scans, tmp_path):
    export_stages(purify(files.read(scans / "u0.nrrd"), files.read(scans / "n0.nrrd")), tmp_path / "stages")
    case, labels = Case("p", stages=tmp_path / "stages"), tmp_path / "stages" / "labels.nrrd"
    prepare([case], tmp_path / "data")
    assert not (only_shard(tmp_path / "data").masks[:, :, :20] & 4).all()
    volume = files.read(labels)
    array = volume.array.copy()
    array[:, :, :20] = 0
    files.write(volume.with_array(array), labels)
    assert prepare([case], tmp_path / "data")[0].status == "purified"
    assert (only_shard(tmp_path / "data").masks[:, :, :20] & 4).all()


def test_a_scan_that_is_replaced_meanwhile_makes_no_shard_under_the_name_of_the_other(scans, tmp_path):
    file = tmp_path / "n.nrrd"
    shutil.copyfile(scans / "n1.nrrd", file)

    def replace_it(fraction: float, text: str) -> None:
        if text == "looking at p":
            shutil.copyfile(scans / "n2.nrrd", file)

    with pytest.raises(InputError, match="'p': its files were changed while"):
        prepare([Case("p", ndct=file)], tmp_path / "data", progress=Progress(replace_it))


def test_what_cannot_be_read_stops_no_other_case(scans, tmp_path):
    (tmp_path / "bad.mhd").write_text("no header")
    found = prepare([Case("bad", ndct=tmp_path / "bad.mhd"), *alone(scans, 1)], tmp_path / "data")
    assert [one.status for one in found] == ["failed", "purified"]


def test_a_series_of_another_patient_in_the_place_of_an_earlier_one(scans, tmp_path):
    def put(seed: int, patient: str) -> None:
        for path in dicom(tmp_path, files.read(scans / f"n{seed}.nrrd")).iterdir():
            dataset = pydicom.dcmread(path)
            dataset.PatientID = patient
            dataset.save_as(path)

    data = tmp_path / "data"

    def patients() -> set[str]:
        assert main(["prepare", str(tmp_path / "series"), "--out", str(data)]) == 0
        return {case.patient for case in read_cases(data)} | {only_shard(data).patient}

    put(1, "P1")
    assert patients() == {hidden("P1")}
    table = read_cases(data)
    prepare([replace(case, patient="our own name") for case in table], data)
    assert patients() == {hidden("our own name")}
    put(2, "P2")
    assert patients() == {hidden("P2")}


def test_a_run_that_was_stopped_goes_on(scans, tmp_path):
    cases = alone(scans, 1, 2, 3)
    done = []

    def stop_in_the_second(fraction, text):
        if text.startswith("p2: purifying"):
            done.append(text)

    with pytest.raises(Cancelled):
        prepare(cases, tmp_path, progress=Progress(stop_in_the_second, lambda: bool(done)))
    assert done
    before = times(tmp_path)
    assert {name.split("/")[1].split("-")[0] for name in before} == {"p1"}
    assert [path.name for path in (tmp_path / "shards").iterdir()] == [only_shard(tmp_path).key]  # nothing half done
    assert [one.status for one in prepare(cases, tmp_path)] == ["cached", "purified", "purified"]
    assert times(tmp_path).items() > before.items()


def test_a_stop_before_the_first_shard_leaves_nothing(scans, tmp_path):
    with pytest.raises(Cancelled):
        prepare(alone(scans, 1), tmp_path / "data", progress=Progress(cancelled=lambda: True))
    assert not (tmp_path / "data").exists()


def test_what_a_killed_run_left_is_removed_and_a_damaged_shard_made_again(scans, tmp_path, monkeypatch):
    (first,) = prepare(alone(scans, 1), tmp_path)
    left = tmp_path / "shards" / f"{atomic.PREFIX}{platform.node()}~{2**22 + 1}~~abc"
    alive = tmp_path / "shards" / f"{atomic.PREFIX}{platform.node()}~{os.getpid()}~~abc"
    left.mkdir(), alive.mkdir()
    monkeypatch.setattr(atomic, "_swept", set())
    weak = tmp_path / "shards" / first.keys[0] / "weak.npy"
    good = weak.read_bytes()
    weak.write_bytes(good[:100])
    (again,) = prepare(alone(scans, 1), tmp_path)
    assert again.status == "purified" and weak.read_bytes() == good
    assert not left.exists() and alive.exists()


def test_two_runs_into_one_folder_do_no_harm(scans, tmp_path):
    cases, errors = alone(scans, 1, 2), []

    def run():
        try:
            prepare(cases, tmp_path)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("is in use by 'ipv2 prepare'" in str(error) for error in errors)  # the one that came second, if at once
    assert [shard.case for shard in PurifiedDataset.read(tmp_path).shards] == ["p1", "p2"]
    assert len(list((tmp_path / "shards").iterdir())) == 2
    assert [one.status for one in prepare(cases, tmp_path)] == ["cached", "cached"]


def test_nobody_adds_cases_or_makes_shards_between_what_a_command_looks_at_and_what_it_does(
    scans, tmp_path, monkeypatch, capsys
):
    """Or cases of one of two commands would be lost, and shards that it makes be pruned by the other."""

    def other() -> None:
        with pytest.raises(InputError, match="is in use by 'ipv2 prepare'"):
            prepare(alone(scans, 2), tmp_path)
        refused.append(True)

    def before(function):
        def call(*given):
            as_another_command(other)
            return function(*given)

        return call

    refused = []
    monkeypatch.setattr(dataset, "_say_names", before(dataset._say_names))
    monkeypatch.setattr(preparation, "unused_shards", before(preparation.unused_shards))
    assert main(["prepare", str(scans / "n1.nrrd"), "--out", str(tmp_path), "--prune"]) == 0
    assert len(refused) == 2 and only_shard(tmp_path).case == "n1"


@pytest.fixture
def meanwhile(monkeypatch):
    """Let something happen, once, while a shard is made."""

    def arrange(event):
        def hooked(*arguments):
            if events:
                as_another_command(events.pop())
            write_thumbnail(*arguments)

        events = [event]
        monkeypatch.setattr(shard_making, "write_thumbnail", hooked)
        return events

    return arrange


def test_a_worker_that_outlives_its_run_leaves_the_shards_of_the_next_one_alone(scans, tmp_path, meanwhile):
    (before,) = prepare(alone(scans, 1), tmp_path)
    order = order_of(tmp_path, before)
    shutil.rmtree(tmp_path / "shards")
    late = ForOwner(make, tmp_path, killed_owner(tmp_path, "prepare"))
    found = []

    def next_run() -> None:
        found.append(prepare(alone(scans, 1, 2), tmp_path))
        found.append(times(tmp_path))

    meanwhile(next_run)
    late(order, progress=NO_PROGRESS)  # what it is to make is there
    assert [one.status for one in found[0]] == ["purified", "purified"]
    assert times(tmp_path) == found[1]
    next_run()
    assert [one.status for one in found[2]] == ["cached", "cached"] and times(tmp_path) == found[1]
    assert len(list((tmp_path / "shards").iterdir())) == 2


def test_a_worker_that_outlives_its_run_makes_no_shard_that_nobody_wants(scans, tmp_path, meanwhile):
    (before,) = prepare(alone(scans, 1), tmp_path)
    order = order_of(tmp_path, before)
    late = ForOwner(make, tmp_path, killed_owner(tmp_path, "prepare"))
    meanwhile(lambda: prepare(alone(scans, 2), tmp_path) and shutil.rmtree(tmp_path / "shards" / order.key))
    with pytest.raises(OutputError, match="no longer held by this 'ipv2 prepare'"):
        late(order, progress=NO_PROGRESS)
    assert [path.name for path in (tmp_path / "shards").iterdir()] == [only_shard(tmp_path).key]


def test_a_shard_that_two_workers_make_is_made(scans, tmp_path, meanwhile):
    """As when a scheduler believes that a worker is dead, and it is not."""
    (before,) = prepare(alone(scans, 1), tmp_path)
    order = order_of(tmp_path, before)
    shutil.rmtree(tmp_path / "shards")
    meanwhile(lambda: make(order, progress=NO_PROGRESS))
    (again,) = prepare(alone(scans, 1), tmp_path)
    assert again.status == "purified" and only_shard(tmp_path).key == order.key


def test_what_a_worker_left_that_died_is_gone_with_the_run(scans, tmp_path, meanwhile):
    left = tmp_path / "shards" / f"{atomic.PREFIX}{platform.node()}~{2**22 + 1}~~abc"
    meanwhile(lambda: left.mkdir())
    prepare(alone(scans, 1), tmp_path)
    assert [path.name for path in (tmp_path / "shards").iterdir()] == [only_shard(tmp_path).key]


# --- failures ---------------------------------------------------------------------------------------------------


def test_cases_that_fail_are_named_and_the_others_are_done(scans, tmp_path):
    (scans / "broken.nrrd").write_text("no scan")
    cases = [
        Case("no lung", ndct=scans / "belly.nrrd"),
        Case("mri", ndct=scans / "mri.nrrd"),
        Case("broken", ndct=scans / "broken.nrrd"),
        Case("far", ndct=scans / "n0.nrrd", uldct=scans / "far.nrrd"),
        Case("one", ndct=scans / "one.nrrd"),
        *alone(scans, 1),
    ]
    prepared = {one.case.name: one for one in prepare(cases, tmp_path)}
    assert {name for name, one in prepared.items() if one.status == "failed"} == {"no lung", "mri", "broken", "far"}
    for name, words in (
        ("no lung", "belly.nrrd: hardly any lung"),
        ("mri", "mri.nrrd: not a CT in HU"),
        ("broken", "cannot read"),
        ("far", "covers 0 %"),
        ("one", "one slice"),
    ):
        assert words in prepared[name].message
    assert prepared["one"].status == prepared["p1"].status == "purified"
    content = json.loads((tmp_path / "dataset.json").read_text())
    assert [shard["case"] for shard in content["shards"]] == ["one", "p1"]
    assert {entry["case"] for entry in content["failed"]} == {"no lung", "mri", "broken", "far"}
    assert len(read_cases(tmp_path)) == 6


def test_nothing_is_left_where_no_case_can_be_used(scans, tmp_path):
    cases = [Case("a", ndct=scans / "belly.nrrd"), Case("b", ndct=scans / "mri.nrrd")]
    with pytest.raises(InputError, match=r"no case could be purified: case 'a': .*hardly any lung.*; case 'b': "):
        prepare(cases, tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_folders_that_hold_something_else(scans, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for folder, words in ((tmp_path, "holds no data set"), (tmp_path / "notes.txt", "is a file")):
        with pytest.raises(InputError, match=words):
            prepare(alone(scans, 1), folder)
    (tmp_path / "old").mkdir()
    for content in ('{"format": 0}', "{"):
        (tmp_path / "old" / "dataset.json").write_text(content)
        with pytest.raises(InputError, match=r"dataset\.json is damaged or of another version"):
            prepare(alone(scans, 1), tmp_path / "old")
    with pytest.raises(InputError, match="physical simulation only"):
        prepare(alone(scans, 1, method="published"), tmp_path / "new", split_projections=True)
    assert not is_dataset(tmp_path / "new")
