"""The panel of IPv2 Denoise at its narrowest: nothing is cut off, everything explains itself."""

import pytest
from panel import expand, open_panel

WIDTH = 350


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_is_cut_off_in_a_narrow_panel(make_host, dark):
    host = make_host(panel_width=WIDTH, dark=dark)
    widget, uldct, ndct = open_panel(host)
    ui = widget.ui
    widget._parameterNode.uldctVolume, widget._parameterNode.ndctVolume = uldct, ndct
    expand(host, ui.advancedCollapsibleButton, ui.purificationCollapsibleButton)
    widget.logic.previewSlice(uldct, ndct)
    widget.logic.denoise(uldct)
    widget.enter()
    host.process_events(0.2)
    assert ui.regionTable.isVisible() and ui.stagesList.isVisible()
    assert host.cut_off_texts() == []
    assert ui.denoiseCollapsibleButton.width() <= WIDTH


def test_every_control_has_a_tooltip(host):
    widget, *_ = open_panel(host)
    kinds = ("Button", "Selector", "Slider", "SpinBox", "CheckBox", "List", "Text", "Card", "Bar")
    controls = {name: each for name, each in vars(widget.ui).items() if name.endswith(kinds)}
    controls = {name: each for name, each in controls.items() if not name.endswith("CollapsibleButton")}
    assert len(controls) > 35
    assert [name for name, each in controls.items() if not each.toolTip()] == []
