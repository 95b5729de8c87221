"""Stages as a folder of files: what was written comes back, and what is no such folder is refused."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from IPv2Lib.cli import commands
from IPv2Lib.errors import InputError
from IPv2Lib.io import files
from IPv2Lib.purification.purify import purify
from IPv2Lib.purification.settings import IPV1, IPV2, Settings
from IPv2Lib.purification.stage_files import export_stages, read_stages, stage_file
from IPv2Lib.simulation import phantom


@pytest.fixture(scope="module")
def pair():
    return phantom.pair(seed=1, size=96, slices=3)


@pytest.mark.parametrize("settings", [IPV2, IPV1, Settings(add_noise=False, threshold_hu=-450.0, blend=0.2)])
@pytest.mark.parametrize("compress", [True, False])
def test_stages_come_back_as_they_were_written(pair, settings, compress, tmp_path):
    stages = purify(pair.uldct, pair.ndct, settings)
    folder = export_stages(stages, tmp_path / "stages", compress=compress, uldct="a.nrrd")
    facts = json.loads((folder / "provenance.json").read_text())
    assert facts["uldct"] == "a.nrrd" and set(facts["files"]) == {path.name for path in folder.glob("*.nrrd")}
    again = read_stages(folder)
    assert again.settings == settings
    for (name, _, image), (other, _, read) in zip(stages.steps(), again.steps(), strict=True):
        assert name == other
        expected, found = (getattr(each, "array", each) for each in (image, read))
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)
    for name in ("training_input_difference", "test_label_difference"):
        expected, found = getattr(stages, name), getattr(again, name)
        assert (found is None) == (expected is None) == (settings == IPV1)
        if found is not None:
            np.testing.assert_array_equal(found.array, expected.array)


def test_the_folder_of_the_command_is_read(pair, tmp_path, monkeypatch):
    for name in ("uldct", "ndct"):
        files.write(getattr(pair, name), tmp_path / f"{name}.nrrd")
    monkeypatch.chdir(tmp_path)
    assert commands.main(["purify", "uldct.nrrd", "ndct.nrrd", "stages", "--dose", "0.1", "--seed", "3"]) == 0
    stages = read_stages(tmp_path / "stages")
    assert stages.settings == replace(IPV2, dose=0.1, seed=3)
    expected = purify(pair.uldct, pair.ndct, stages.settings)
    np.testing.assert_allclose(stages.training_input.array, expected.training_input.array, atol=1e-3)
    np.testing.assert_array_equal(stages.labels, expected.labels)
    # And the library writes what the command does.
    mine = export_stages(stages, tmp_path / "mine")
    assert {path.name for path in mine.iterdir()} >= {path.name for path in (tmp_path / "stages").glob("*.nrrd")}


def test_only_masks_are_label_maps_for_slicer():
    names = ("uldct", "training_input", "test_label", "labels", "dark_uldct", "cm1", "cm2", "background")
    by_kind = {name: "label" in stage_file(name).removesuffix(".nrrd").split("-") for name in names}
    assert [name for name, is_mask in by_kind.items() if is_mask] == ["dark_uldct", "cm1", "cm2", "background"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "provenance.json").unlink(), "provenance.json cannot be read"),
        (lambda folder: (folder / "provenance.json").write_text("{}"), "no settings"),
        (lambda folder: (folder / "provenance.json").write_text('{"settings": {"dose": "much"}}'), "no settings"),
        (lambda folder: (folder / "cm2-label.nrrd").unlink(), "cm2-label.nrrd does not exist"),
        (lambda folder: (folder / "ndct.nrrd").write_bytes(b"NRRD0004\n"), "ndct.nrrd"),
    ],
)
def test_a_damaged_folder_is_refused(pair, tmp_path, damage, message):
    folder = export_stages(purify(pair.uldct, pair.ndct, Settings(add_noise=False)), tmp_path / "stages")
    damage(folder)
    with pytest.raises(InputError, match=message):
        read_stages(folder)


def test_stages_of_different_grids_are_refused(pair, tmp_path):
    folder = export_stages(purify(pair.uldct, pair.ndct, Settings(add_noise=False)), tmp_path / "stages")
    files.write(replace(pair.ndct, spacing=(1, 1, 1)), folder / "ndct.nrrd")
    with pytest.raises(InputError, match=r"ndct\.nrrd does not lie on the grid"):
        read_stages(folder)


def test_a_folder_with_files_is_not_written_to(pair, tmp_path):
    stages = purify(pair.uldct, pair.ndct, Settings(add_noise=False))
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="not empty"):
        export_stages(stages, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_settings_of_a_later_version_keep_what_is_known(pair, tmp_path):
    folder = export_stages(purify(pair.uldct, pair.ndct, IPV1), tmp_path / "stages")
    facts = json.loads((folder / "provenance.json").read_text())
    facts["settings"] = {**asdict(IPV1), "new": 1}
    (folder / "provenance.json").write_text(json.dumps(facts))
    assert read_stages(folder).settings == IPV1
