"""The panel of IPv2 Train at its narrowest: nothing is cut off, everything explains itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from panel import expand
from train_panel import MODULE, open_panel

WIDTH = 350

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


def test_every_control_has_a_tooltip(host):
    widget = open_panel(host)
    kinds = ("Button", "Selector", "SpinBox", "CheckBox", "List", "Table", "Text", "Bar", "LineEdit")
    controls = {name: each for name, each in vars(widget.ui).items() if name.endswith(kinds)}
    controls = {name: each for name, each in controls.items() if not name.endswith("CollapsibleButton")}
    assert len(controls) > 70
    assert [name for name, each in controls.items() if not each.toolTip()] == []
