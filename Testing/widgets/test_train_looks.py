"""The panel of IPv2 Train at its narrowest: nothing is cut off, everything explains itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from looks import WIDTH, contrast, controls_without_tooltip, fill_with_long_texts
from panel import expand
from train_panel import MODULE, open_panel

OPEN_WITHOUT_TORCH = """
import sys
from host import Host
with Host() as host:
    host.load_module(sys.argv[1], select=False)
    host.load_module(sys.argv[2])
    print("torch" in sys.modules, "skimage" in sys.modules, "torchmetrics" in sys.modules)
"""


def test_opening_the_module_imports_nothing_that_may_have_to_be_installed():
    denoise = MODULE.parents[1] / "IPv2Denoise"
    folders = [str(denoise), str(Path(__file__).resolve().parents[1])]
    run = subprocess.run(
        [sys.executable, "-c", OPEN_WITHOUT_TORCH, str(denoise / "IPv2Denoise.py"), str(MODULE)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(folders)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[-3:] == ["False"] * 3


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_off_in_a_narrow_panel(make_host, dataset, dark):
    host = make_host(panel_width=WIDTH, dark=dark)
    widget = open_panel(host, dataset)
    ui = widget.ui
    expand(host, *(each for name, each in vars(ui).items() if name.endswith("CollapsibleButton")))
    host.click_cell(ui.casesTable, 0, 0)
    widget._parameterNode.run = "finished"
    host.process_events(0.2)
    assert ui.casePreview.isVisible() and ui.trainStatusLabel.isVisible()
    assert host.cut_off_texts() == []
    assert ui.dataCollapsibleButton.width() <= WIDTH


def test_the_section_data_alone_fits_into_a_narrow_panel(make_host, dataset):
    host = make_host(panel_width=WIDTH)
    ui = open_panel(host, dataset).ui
    expand(host, ui.dataCollapsibleButton)
    assert ui.doseHighSpinBox.text() == "one dose"
    assert host.smallest_panel_width() <= WIDTH and host.cut_off_texts() == []


@pytest.mark.parametrize("dark", [False, True])
def test_long_names_do_not_widen_the_panel(make_host, dataset, dark):
    host = make_host(panel_width=WIDTH, dark=dark)
    widget = open_panel(host, dataset)
    host.click_cell(widget.ui.casesTable, 0, 0)
    fill_with_long_texts(host, widget)
    assert host.smallest_panel_width() <= WIDTH


@pytest.mark.parametrize("dark", [False, True])
def test_what_failed_can_be_read_in_the_table(make_host, dark):
    from PySide6.QtGui import QColor, QPalette

    host = make_host(dark=dark)
    open_panel(host)
    from IPv2TrainLib.CaseTable import failedColor

    for role in (QPalette.Base, QPalette.AlternateBase):
        assert contrast(QColor(failedColor()), host.app.palette().color(role)) >= 4.5
    host.set_dark(not dark)
    assert contrast(QColor(failedColor()), host.app.palette().color(QPalette.Base)) >= 4.5


def test_thumbnails_use_the_pixels_of_a_high_resolution_screen(dataset):
    run = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("looks.py")), "train", str(dataset)],
        capture_output=True, text=True, check=True, env={**os.environ, "QT_SCALE_FACTOR": "2"},
    )  # fmt: skip
    pixels, width = (float(each) for each in run.stdout.split()[:2])
    assert (pixels, width) == (272, 136)


def test_every_control_has_a_tooltip(host):
    widget = open_panel(host)
    assert controls_without_tooltip(MODULE.parent / "Resources" / "UI" / "IPv2Train.ui", widget.ui) == []
