"""Pictures of both modules in every state that people meet, made in the stand-in for Slicer.

    python Testing/widgets/screenshots.py FOLDER [--module denoise|train] [--scan SCAN] [--dark-only | --light-only]

Each state is a picture of the window and one of the whole panel, light and dark. Without a scan the synthetic chest is
denoised; IPv2 Train works on synthetic patients, with a training of some minutes.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "IPv2Denoise")]

from host import Host  # noqa: E402
from IPv2Lib.io import files  # noqa: E402
from IPv2Lib.simulation import phantom  # noqa: E402
from IPv2Lib.training.run_folder import COMPLETED, is_run, read_run  # noqa: E402
from IPv2SlicerLib.scene import volume_nodes  # noqa: E402
from panel import MODULE, expand, finish_job  # noqa: E402
from PySide6.QtCore import Qt  # noqa: E402
from train_panel import finish, open_panel, write_scans  # noqa: E402

PANEL_WIDTH = 350


def states(host: Host, scan: Path | None, size: int, slices: int) -> Iterator[str]:
    """Bring the module from one state to the next; yields the name of each."""
    import slicer

    pair = phantom.pair(size=size, slices=slices)
    input_volume = files.read(scan) if scan else pair.uldct
    chest = volume_nodes.volume_to_node(input_volume, scan.stem if scan else "Chest")
    slicer.util.setSliceViewerLayers(background=chest, fit=True)
    widget = host.load_module(MODULE)
    ui = widget.ui
    host.process_events(0.3)
    yield "opened"

    host.click(ui.denoiseButton)
    host.wait_until(lambda: widget.logic.runner.remaining_seconds or not widget.logic.runner.state.active, 300)
    host.process_events(0.1)
    yield "running"

    finish_job(host, widget, 3600)
    yield "done"

    ui.strengthSlider.setValue(60)
    host.process_events(0.3)
    yield "strength"

    expand(host, ui.lookCollapsibleButton)
    host.press("X")
    host.process_events(0.3)
    yield "one-view"

    host.press("D")
    host.process_events(0.3)
    yield "one-view-difference"

    host.press("D")
    host.press("2")
    host.click(ui.placeSphereButton)
    center = slicer.app.layoutManager().sliceWidget("IPv2View1").mrmlSliceNode().GetSliceToRAS()
    host.click_view("IPv2View1", [center.GetElement(row, 3) for row in range(3)])
    host.wait_until(ui.sphereTable.isVisible, 10)
    host.process_events(0.3)
    yield "sphere"

    host.press("1")
    host.click(ui.removeSpheresButton)
    host.click(ui.planesButton)
    host.process_events(0.3)
    yield "planes"

    host.click(ui.showButton)
    ui.lookCollapsibleButton.setProperty("collapsed", True)
    expand(host, ui.advancedCollapsibleButton)
    host.click(ui.measureDevicesButton)
    finish_job(host, widget, 300)
    yield "advanced"

    ui.advancedCollapsibleButton.setProperty("collapsed", True)
    widget._parameterNode.outputVolume = chest
    host.process_events(0.3)
    yield "refused"
    widget._parameterNode.outputVolume = None

    uldct, ndct = volume_nodes.volume_to_node(pair.uldct, "uLDCT"), volume_nodes.volume_to_node(pair.ndct, "NDCT")
    slicer.util.setSliceViewerLayers(background=uldct, fit=True)
    ui.denoiseCollapsibleButton.setProperty("collapsed", True)
    expand(host, ui.purificationCollapsibleButton)
    parameters = widget._parameterNode
    parameters.uldctVolume, parameters.ndctVolume = uldct, ndct
    yield "purification"

    host.click(ui.previewButton)
    finish_job(host, widget, 300)
    parameters.stage = "cm2"
    ui.settingsCollapsibleButton.setProperty("collapsed", True)
    host.process_events(0.3)
    yield "stage"

    parameters.stage, parameters.secondStage = "cm1", "cm2"
    host.process_events(0.3)
    yield "side-by-side"

    parameters.secondStage = ""
    parameters.stage = "training_input_difference"
    host.process_events(0.3)
    yield "difference"


def train_states(host: Host, folder: Path, size: int, slices: int) -> Iterator[str]:
    """Bring IPv2 Train from one state to the next in an empty folder; yields the name of each."""
    from IPv2Lib.datasets.cases import write_table

    rows = write_scans(folder / "scans", 7, size=size, slices=slices, paired=(0, 1))
    write_table(rows, folder / "cases.csv")
    widget = open_panel(host, folder / "dataset")
    ui, parameters = widget.ui, widget._parameterNode
    host.process_events(0.3)
    yield "train-opened"

    host.answers.append(str(folder / "cases.csv"))
    host.click(ui.openTableButton)
    host.process_events(0.3)
    host.click(ui.purifyButton)
    finish(host, widget.logic, 1200)
    host.click_cell(ui.casesTable, 0, 0)
    host.process_events(0.2)
    host.click(ui.showCaseButton)
    host.process_events(0.5)
    yield "train-data"

    ui.dataCollapsibleButton.setProperty("collapsed", True)
    expand(host, ui.trainCollapsibleButton)
    parameters.length, parameters.patch, parameters.batch, parameters.validateEvery = 400.0, 96, 4, 20
    parameters.loss = "l1"
    host.click(ui.startButton)
    run = folder / "dataset" / "runs" / "ipv2-1"
    host.wait_until(lambda: is_run(run) and read_run(run).step >= 300, 1200)
    host.process_events(0.3)
    yield "train-run"

    host.wait_until(lambda: read_run(run).state == COMPLETED and not widget.logic.training.runner.state.active, 1200)
    host.process_events(0.3)
    ui.trainCollapsibleButton.setProperty("collapsed", True)
    expand(host, ui.evaluateCollapsibleButton)
    for row in range(ui.methodsList.count()):
        ui.methodsList.item(row).setCheckState(Qt.Checked if row < 3 else Qt.Unchecked)
    host.click(ui.compareButton)
    finish(host, widget.logic, 1200)
    host.process_events(0.5)
    yield "train-comparison"

    expand(host, ui.physicsCollapsibleButton)
    parameters.physicsQuick = True
    host.click(ui.physicsButton)
    finish(host, widget.logic, 1200)
    host.process_events(0.5)
    yield "train-physics"

    ui.evaluateCollapsibleButton.setProperty("collapsed", True)
    expand(host, ui.publishCollapsibleButton)
    yield "train-publish"


def main() -> None:
    """Make the pictures and say which texts are cut off."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--module", choices=("denoise", "train"), default="denoise", help="(default: %(default)s)")
    parser.add_argument("--scan", type=Path, help="a chest CT to denoise; default: the synthetic chest")
    parser.add_argument("--size", type=int, default=256, help="pixels of the synthetic chest (default: %(default)s)")
    parser.add_argument("--slices", type=int, default=12, help="of the synthetic chest (default: %(default)s)")
    look = parser.add_mutually_exclusive_group()
    look.add_argument("--dark-only", action="store_true")
    look.add_argument("--light-only", action="store_true")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for dark in (False, True):
        if (dark and options.light_only) or (not dark and options.dark_only):
            continue
        with tempfile.TemporaryDirectory() as temporary, Host(panel_width=PANEL_WIDTH, dark=dark) as host:
            if options.module == "denoise":
                shown = states(host, options.scan, options.size, options.slices)
            else:
                shown = train_states(host, Path(temporary), options.size, options.slices)
            for name in shown:
                stem = f"{name}-dark" if dark else name
                host.screenshot(options.folder / f"{stem}.png")
                host.panel_screenshot(options.folder / f"panel-{stem}.png")
                for text in host.cut_off_texts():
                    print(f"{stem}: cut off: {text}")


if __name__ == "__main__":
    main()
