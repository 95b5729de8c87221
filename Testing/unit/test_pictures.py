"""Sheets of slices: nothing is lost, clipped or of another size."""

import errno
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from IPv2Lib.cli import pictures
from IPv2Lib.colors import difference_colors
from IPv2Lib.errors import InputError, OutputError
from IPv2Lib.hounsfield import LUNG_LEVEL, LUNG_WINDOW
from IPv2Lib.io import figures, files
from IPv2Lib.io.volume import Volume
from IPv2Lib.purification.settings import IPV1, IPV2, Settings
from IPv2Lib.purification.stages import CM2_ENTRIES, Stages


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


def panel(title="title", shape=(30, 40), value=200, **key) -> pictures.Panel:
    return pictures.Panel(title, np.full((*shape, 3), value, np.uint8), **key)


def pixels(figure) -> np.ndarray:
    """A sheet as it becomes a PNG, (rows, columns, red green blue)."""
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]


def shown(figure) -> list[np.ndarray]:
    """What stands in the panels of a sheet, letters and marks included."""
    sheet = pixels(figure)
    boxes = [axes.get_window_extent() for axes in figure.axes if axes.texts]
    height = len(sheet)
    return [sheet[height - round(box.y1) : height - round(box.y0), round(box.x0) : round(box.x1)] for box in boxes]


def test_every_panel_is_on_the_sheet_unchanged():
    rng = np.random.default_rng(0)
    random = [rng.integers(0, 256, (30, 40, 3), dtype=np.uint8) for _ in range(5)]
    sheet = pictures.contact_sheet([pictures.Panel(f"panel {n}", each) for n, each in enumerate(random)], 3, (40, 30))
    boxes = [axes.get_window_extent() for axes in sheet.axes]
    assert len({round(box.x0) for box in boxes}) == 3 and len({round(box.y0) for box in boxes}) == 2
    for expected, seen in zip(random, shown(sheet), strict=True):
        np.testing.assert_array_equal(seen[:, 11:-11], expected[:, 11:-11])  # without the sides of the patient


@pytest.mark.parametrize("title", ["", "short", "g", "x" * 300, "CM2 = CM1 \\ B", "a $formula$"])
def test_titles_and_keys_stay_above_and_below_their_panels(title):
    expected = pixels(pictures.contact_sheet([panel("title")] * 2, 2, (200, 150)))
    keys = ({}, {"caption": title}, {"swatches": [(title, (1, 2, 3))]}, {"limit_hu": 1234.5})
    for key in keys:
        sheet = pixels(pictures.contact_sheet([panel(title, **key), panel()], 2, (200, 150)))
        assert sheet.shape == expected.shape
        changed = np.argwhere((sheet != expected).any(axis=-1))
        assert not len(changed) or changed[:, 1].max() < 12 + 200
        inside = np.s_[12 + 15 : 12 + 15 + 150, 12 : 12 + 200]
        np.testing.assert_array_equal(sheet[inside], expected[inside])


def test_a_sheet_needs_panels_and_columns():
    for panels, columns in (([], 1), ([panel()], 0)):
        with pytest.raises(InputError, match="make no sheet"):
            pictures.contact_sheet(panels, columns, (40, 30))


@pytest.mark.parametrize(("settings", "count"), [(IPV2, 10), (IPV1, 8)], ids=["ipv2", "ipv1"])
def test_all_stages_are_shown_in_panels_of_one_size(monkeypatch, settings, count):
    sheets = []
    monkeypatch.setattr(pictures, "contact_sheet", lambda *sheet: sheets.append(sheet))
    pictures.stages_picture(stages(settings), width=100)
    ((panels, columns, size),) = sheets
    assert (len(panels), columns, size[0]) == (count, count // 2, 100)
    assert len({each.picture.shape for each in panels}) == 1
    assert len({each.title for each in panels}) == count
    assert all(each.caption or each.swatches for each in panels)


def test_the_slice_with_the_largest_lung_is_chosen():
    whole = stages(IPV2)
    panels = [("CT", chest(), "ct")]
    for draw, what in ((pictures.stages_picture, whole), (pictures.compare_picture, panels)):
        np.testing.assert_array_equal(pixels(draw(what, width=80)), pixels(draw(what, slice_index=1, width=80)))
        assert (pixels(draw(what, width=80)) != pixels(draw(what, slice_index=0, width=80))).any()


def test_a_ct_is_grey_in_the_lung_window():
    hu = np.full((1, 64, 80), 40, np.float32)
    hu[0, 2:-2, 2:-2] = np.linspace(-1600, 400, 60 * 76).reshape(60, 76)
    (seen,) = shown(pictures.compare_picture([("CT", Volume(hu), "ct")], width=80, slice_index=0))
    expected = np.clip((hu[0] - (LUNG_LEVEL - LUNG_WINDOW / 2)) / LUNG_WINDOW * 255, 0, 255)
    for channel in range(3):
        np.testing.assert_allclose(seen[:, 12:-12, channel], expected[:, 12:-12], atol=1)


@pytest.mark.parametrize("direction", [(1, 1), (-1, 1), (1, -1), (-1, -1)])
@pytest.mark.parametrize("turned", [False, True])
def test_the_same_patient_looks_the_same_however_the_slice_is_stored(direction, turned):
    volume = chest(spacing=(1.2, 1.5, 5.0))
    volume.array[:, 20:30, 60:64] = 1000  # on the left of the patient, in front
    x, y = direction
    array, spacing, matrix = volume.array[:, ::y, ::x], volume.spacing, np.diag([x, y, 1])
    if turned:
        array, spacing, matrix = array.swapaxes(1, 2), (1.5, 1.2, 5.0), matrix[:, [1, 0, 2]]
    stored = Volume(np.ascontiguousarray(array), spacing, direction=tuple(matrix.ravel()))
    sheets = [pixels(pictures.compare_picture([("CT", each, "ct")], width=160)) for each in (volume, stored)]
    np.testing.assert_array_equal(*sheets)


def test_pixels_are_square_in_mm():
    air = np.full((1, 40, 60), -1000, np.float32)
    (seen,) = shown(pictures.compare_picture([("air", Volume(air, (0.5, 1.5, 5)), "ct")], width=90))
    assert seen.shape[:2] == (180, 90)


def test_enlarged_voxels_are_sharp_and_too_many_are_averaged():
    board = np.indices((1, 64, 64)).sum(axis=0) % 2 * LUNG_WINDOW + LUNG_LEVEL - LUNG_WINDOW / 2
    volume = Volume(board.astype(np.float32))
    (large,) = shown(pictures.compare_picture([("board", volume, "ct")], width=256))
    assert set(np.unique(large[:, 32:-32])) == {0, 255}
    (small,) = shown(pictures.compare_picture([("board", volume, "ct")], width=32))
    np.testing.assert_allclose(small[2:-2, 12:-12], 127, atol=4)


def test_labels_lie_over_the_slice_in_the_colors_of_their_key():
    whole = stages(IPV2)
    sheet = pictures.stages_picture(whole, slice_index=1, width=4 * whole.cm2.shape[2])
    sheet, panels = pixels(sheet), shown(sheet)
    ct, marked = panels[1].astype(int), panels[5].astype(int)
    ((_, _, color),) = CM2_ENTRIES
    assert (sheet == color).all(axis=-1).sum() >= 10
    middle = np.s_[120:140, 80:100]  # inside a lung
    np.testing.assert_allclose(marked[middle], 0.55 * ct[middle] + 0.45 * np.array(color), atol=1)
    heart = np.s_[120:130, 155:165]
    np.testing.assert_array_equal(marked[heart], ct[heart])


def test_no_lung_and_no_body_still_make_a_picture():
    air = Volume(np.full((3, 8, 8), -1000, np.float32))
    assert pixels(pictures.compare_picture([("air", air, "ct"), ("nothing", air, "difference")], width=60)).any()


def test_no_difference_is_white_with_a_legend():
    volume = chest()
    nothing = volume.with_array(np.zeros_like(volume.array))
    sheet = pixels(pictures.compare_picture([("difference", nothing, "difference")], width=120, limit_hu=100))
    white = (sheet == 255).all(axis=-1)
    rows = np.flatnonzero(white.sum(axis=1) > 60)
    colors = difference_colors()
    assert len(rows) > 50
    for end in (colors[0], colors[-1]):
        assert (sheet == end).all(axis=-1).sum() >= 3


def test_zero_is_white_and_both_signs_have_their_colors():
    hu = np.array([0, 0.3, 5, 40, 99, 100, 500], np.float32)
    pair = [Volume(sign * hu[None, None].repeat(7, axis=1)) for sign in (1, -1)]
    panels = [("d", each, "difference") for each in pair]
    positive, negative = (each[5, 5::10] for each in shown(pictures.compare_picture(panels, width=70, limit_hu=100)))
    for side, end in ((positive, difference_colors()[-1]), (negative, difference_colors()[0])):
        assert side[0].tolist() == side[1].tolist() == [255, 255, 255]
        assert side[-1].tolist() == side[-2].tolist() == end.tolist()
        assert (np.diff(side.astype(int).sum(axis=1))[1:4] < 0).all()


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
        pixels(pictures.compare_picture(panels, width=80)),
        pixels(pictures.compare_picture(panels, width=80, limit_hu=limit)),
    )


def test_pictures_of_a_real_scan(data_folder):
    volume = files.read(data_folder / "lungdx_A0002.nrrd")
    some = Volume(volume.array[10:20], volume.spacing, volume.origin, volume.direction)
    difference = some.with_array(np.zeros_like(some.array))
    figure = pictures.compare_picture([("CT", some, "ct"), ("difference", difference, "difference")], width=256)
    assert pixels(figure).shape[1] > 512
    # Lung, tissue and bone are all there: dark, grey and white pixels inside the first panel.
    picture = shown(figure)[0].astype(int).mean(axis=-1)
    assert picture.min() < 80 < 150 < picture.max()


def test_a_sheet_becomes_the_same_png_every_time(tmp_path):
    path = tmp_path / "a.png"
    contents = set()
    for _ in range(2):
        figure = pictures.contact_sheet([panel("title", limit_hu=100.0)] * 3, 2, (40, 30))
        figures.save(figure, path)
        contents.add(path.read_bytes())
    assert len(contents) == 1
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))[..., :3]
    np.testing.assert_array_equal(written, pixels(figure))
    assert list(tmp_path.iterdir()) == [path]


def test_a_picture_that_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    figure = pictures.contact_sheet([panel()], 1, (40, 30))
    (tmp_path / "a.png").mkdir()
    with pytest.raises(OutputError, match="cannot be written"):
        figures.save(figure, tmp_path / "a.png")

    def half(path, **_):
        path.write_bytes(b"half a picture")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(figure, "savefig", half)
    with pytest.raises(OutputError, match=r"b.png cannot be written \(the disk is full\)"):
        figures.save(figure, tmp_path / "b.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_drawing_says_nothing_needs_no_display_and_leaves_pyplot_alone(tmp_path):
    code = (
        "import sys, numpy as np\n"
        "from IPv2Lib.cli import pictures\n"
        "from IPv2Lib.io import figures\n"
        "from IPv2Lib.io.volume import Volume\n"
        "from pathlib import Path\n"
        "volume = Volume(np.zeros((2, 8, 8), np.int16))\n"
        "figures.save(pictures.compare_picture([('CT', volume, 'ct')]), Path(sys.argv[1]))\n"
        "assert not {'torch', 'matplotlib.pyplot', 'tkinter'} & set(sys.modules)\n"
        "if sys.platform == 'linux':\n"
        "    loaded = open('/proc/self/maps').read()\n"
        "    assert not any(name in loaded for name in ('libEGL', 'libGL.', 'libX11'))\n"
    )
    environment = {"PYTHONPATH": str(Path(pictures.__file__).parents[2]), "MPLCONFIGDIR": str(tmp_path), "PATH": ""}
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
