"""The panel of IPv2 Denoise at its narrowest: nothing is cut off, everything explains itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from looks import WIDTH, controls_without_tooltip, fill_with_long_texts
from panel import MODULE, expand, open_panel

LOOKS = Path(__file__).with_name("looks.py")


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_off_in_a_narrow_panel(make_host, dark):
    host = make_host(panel_width=WIDTH, dark=dark)
    widget, uldct, ndct = open_panel(host)
    ui = widget.ui
    widget._parameterNode.uldctVolume, widget._parameterNode.ndctVolume = uldct, ndct
    expand(host, ui.advancedCollapsibleButton, ui.purificationCollapsibleButton)
    widget.logic.previewSlice(uldct, ndct).wait()
    widget.logic.denoise(uldct).wait()
    widget.enter()
    host.process_events(0.2)
    assert ui.regionTable.isVisible() and ui.stagesList.isVisible()
    assert host.cut_off_texts() == []
    assert ui.denoiseCollapsibleButton.width() <= WIDTH


@pytest.mark.parametrize("dark", [False, True])
def test_long_names_do_not_widen_the_panel(make_host, dark):
    host = make_host(panel_width=WIDTH, dark=dark)
    widget, *_ = open_panel(host)
    fill_with_long_texts(host, widget)
    assert host.smallest_panel_width() <= WIDTH


@pytest.mark.parametrize("module", ["denoise", "train"])
@pytest.mark.parametrize("scale", ["1.25", "2"])
def test_the_panels_are_as_narrow_on_every_screen(module, scale):
    run = subprocess.run(
        [sys.executable, str(LOOKS), module], capture_output=True, text=True, check=True,
        env={**os.environ, "QT_SCALE_FACTOR": scale},
    )  # fmt: skip
    assert int(run.stdout.split()[-1]) <= WIDTH


def test_every_control_has_a_tooltip(host):
    widget, *_ = open_panel(host)
    assert controls_without_tooltip(MODULE.parent / "Resources" / "UI" / "IPv2Denoise.ui", widget.ui) == []
    row = widget._layoutRow
    assert row.restoreButton.toolTip() and row.onExitCheckBox.toolTip()
