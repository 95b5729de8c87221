"""Sheets of slices: nothing is lost, clipped or of another size."""

import numpy as np
import pytest
from IPv2Lib.errors import InputError
from IPv2Lib.io.volume import Volume
from IPv2Lib.purification.stages import Stages
from IPv2Lib.purification.strategies import IPV1, IPV2, Settings

pytest.importorskip("slicer", reason="MRML needs Slicer or its wheel: pip install slicer-core")

from IPv2Lib.cli import pictures
from IPv2SlicerLib.scene import volume_nodes


def chest(shape=(3, 64, 80), spacing=(1.2, 1.2, 5.0)) -> Volume:
    """An ellipse of tissue with two lungs, the largest in slice 1."""
    z, y, x = np.indices(shape)
    y, x = (y - shape[1] / 2) / (shape[1] / 2), (x - shape[2] / 2) / (shape[2] / 2)
    array = np.where(x**2 + y**2 < 0.8, 40.0, -1000.0)
    lung = ((np.abs(x) - 0.4) / 0.25) ** 2 + (y / np.where(z == 1, 0.5, 0.3)) ** 2 < 1
    array[lung] = -850
    noise = np.random.default_rng(0).normal(0, 20, shape)
    return Volume((array + noise).astype(np.float32), spacing)


def stages(settings: Settings) -> Stages:
    volume = chest()
    dark = volume.array < -500
    lung = dark & (np.abs(np.indices(dark.shape)[2] - 40) < 30)
    return Stages(
        uldct=volume,
        ndct=volume,
        dark_uldct=dark,
        dark_ndct=dark,
        cm1=dark,
        background=dark & ~lung,
        cm2=lung,
        simulated=volume if settings.add_noise else None,
        weakly_denoised=volume if settings.remove_noise else None,
        training_input=volume,
        test_label=volume,
        labels=np.ones(dark.shape, np.uint8),
        settings=settings,
    )


def panel(title="title", shape=(30, 40), value=200) -> pictures.Panel:
    return pictures.Panel(title, np.full((*shape, 3), value, np.uint8))


def test_every_panel_is_on_the_sheet_unchanged():
    rng = np.random.default_rng(0)
    shown = [rng.integers(0, 256, (30, 40, 3), dtype=np.uint8) for _ in range(5)]
    sheet = pictures.contact_sheet([pictures.Panel(f"panel {n}", picture) for n, picture in enumerate(shown)], 3)
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (30, 40, 3))[:, :, 0]
    places = []
    for picture in shown:
        found = np.argwhere((windows[..., 0, 0, :] == picture[0, 0]).all(axis=-1))
        places += [tuple(at) for at in found.tolist() if (windows[tuple(at)] == picture).all()]
    rows, columns = {row for row, _ in places}, {column for _, column in places}
    assert (len(places), len(rows), len(columns)) == (5, 2, 3)


@pytest.mark.parametrize("title", ["", "short", "g", "x" * 300, "CM2 = CM1 \\ B", "a $formula$"])
def test_titles_never_change_the_size_of_a_sheet(title):
    expected = pictures.contact_sheet([panel()], 1).shape
    assert pictures.contact_sheet([panel(title)], 1).shape == expected


def test_a_sheet_needs_panels_and_columns():
    for panels, columns in (([], 1), ([panel()], 0)):
        with pytest.raises(InputError, match="make no sheet"):
            pictures.contact_sheet(panels, columns)


@pytest.mark.parametrize(("settings", "count"), [(IPV2, 10), (IPV1, 8)], ids=["ipv2", "ipv1"])
def test_all_stages_are_shown_in_panels_of_one_size(monkeypatch, settings, count):
    sheets = []
    monkeypatch.setattr(pictures, "contact_sheet", lambda panels, columns: sheets.append((panels, columns)))
    pictures.stages_picture(stages(settings), width=100)
    ((panels, columns),) = sheets
    assert (len(panels), columns) == (count, count // 2)
    assert len({each.picture.shape for each in panels}) == 1
    assert len({each.title for each in panels}) == count
    assert all(each.key.shape[1] <= 100 for each in panels)


def test_the_slice_with_the_largest_lung_is_chosen():
    whole = stages(IPV2)
    np.testing.assert_array_equal(
        pictures.stages_picture(whole, width=80), pictures.stages_picture(whole, slice_index=1, width=80)
    )
    volume = chest()
    panels = [("CT", volume, "ct")]
    np.testing.assert_array_equal(
        pictures.compare_picture(panels, width=80), pictures.compare_picture(panels, slice_index=1, width=80)
    )


def test_no_lung_and_no_body_still_make_a_picture():
    air = Volume(np.full((3, 8, 8), -1000, np.float32))
    assert pictures.compare_picture([("air", air, "ct"), ("nothing", air, "difference")], width=60).any()


def test_no_difference_is_white_with_a_legend():
    volume = chest()
    nothing = volume.with_array(np.zeros_like(volume.array))
    sheet = pictures.compare_picture([("difference", nothing, "difference")], width=120, limit_hu=100)
    white = (sheet == 255).all(axis=-1)
    rows = np.flatnonzero(white.sum(axis=1) > 60)
    colors = volume_nodes.difference_colors()
    assert len(rows) > 50
    for end in (colors[0], colors[-1]):
        assert (sheet == end).all(axis=-1).sum() >= 10


def test_what_cannot_be_compared_is_refused():
    volume = chest()
    moved = Volume(volume.array, volume.spacing, origin=(50, 0, 0))
    with pytest.raises(InputError, match="nothing to compare"):
        pictures.compare_picture([])
    with pytest.raises(InputError, match="unknown kind 'mri'"):
        pictures.compare_picture([("a", volume, "mri")])
    with pytest.raises(InputError, match="'b' lies on another grid"):
        pictures.compare_picture([("a", volume, "ct"), ("b", moved, "ct")])
    with pytest.raises(InputError, match="no slice 3: use 0 to 2"):
        pictures.compare_picture([("a", volume, "ct")], slice_index=3)
    with pytest.raises(InputError, match="positive limit"):
        pictures.compare_picture([("a", volume, "difference")], limit_hu=-1)


@pytest.mark.parametrize(("largest", "limit"), [(3, 20), (60, 100), (199, 200), (5000, 2000)])
def test_the_range_of_a_difference_is_a_round_number_that_holds_it(largest, limit):
    volume = chest()
    difference = volume.with_array(np.full_like(volume.array, -largest))
    panels = [("d", difference, "difference")]
    np.testing.assert_array_equal(
        pictures.compare_picture(panels, width=80), pictures.compare_picture(panels, width=80, limit_hu=limit)
    )


def test_pictures_of_a_real_scan(data_folder):
    from IPv2Lib.io import files

    volume = files.read(data_folder / "lungdx_A0002.nrrd")
    some = Volume(volume.array[10:20], volume.spacing, volume.origin, volume.direction)
    difference = some.with_array(np.zeros_like(some.array))
    sheet = pictures.compare_picture([("CT", some, "ct"), ("difference", difference, "difference")], width=256)
    assert sheet.shape[1] > 512
    # Lung, tissue and bone are all there: dark, grey and white pixels inside the first panel.
    picture = sheet[60:200, 60:220].astype(int).mean(axis=-1)
    assert picture.min() < 80 < 150 < picture.max()
