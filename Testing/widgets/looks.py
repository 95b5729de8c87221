"""What the tests of looks share; as a program, what a screen of another scaling gives: the smallest width of a panel
and the pixels of thumbnails.

    QT_SCALE_FACTOR=2 python Testing/widgets/looks.py denoise|train [DATASET]
"""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "IPv2Denoise")]

from host import Host  # noqa: E402
from PySide6 import QtWidgets  # noqa: E402

WIDTH = 350
"""Pixels that a panel has to fit into, its scroll bar included."""

LONG = "4: Thorax 1.0 B31f Lunge nativ (Serie 4711, 512 x 512 x 312) anonymisiert"
UNBREAKABLE = "/a/folder/with/a/very/long/name/" + 100 * "x" + ".log"

_NO_CONTROLS = {"QWidget", "QLabel", "QGroupBox", "qMRMLWidget", "ctkCollapsibleButton"}


def fill_with_long_texts(host: Host, widget) -> None:
    """Unfold and show everything, with texts as long as DICOM, file names and errors make them."""
    import slicer

    for number in range(3):
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", f"{LONG} {number}")
        node.CreateDefaultDisplayNodes()
    for name, each in vars(widget.ui).items():
        if name.endswith("CollapsibleButton"):
            each.setProperty("collapsed", False)
        elif isinstance(each, QtWidgets.QWidget) and each is not widget.ui.__dict__.get(type(widget).__name__):
            each.setVisible(True)
        if isinstance(each, QtWidgets.QLabel) and each.wordWrap():
            each.setText(f"{UNBREAKABLE} {LONG}")
        if isinstance(each, QtWidgets.QComboBox):
            each.addItem(LONG)
    host.process_events(0.2)


def controls_without_tooltip(ui_file: Path, ui) -> list[str]:
    """Names of the widgets of a .ui file that a person works with, or reads, and that do not say what they are.

    What is no attribute of the open panel `ui` has to say it in the file.
    """
    controls = [each for each in ElementTree.parse(ui_file).iter("widget") if each.get("class") not in _NO_CONTROLS]
    assert len(controls) > 35
    silent = [each.get("name") for each in controls if not each.findtext("property[@name='toolTip']/string")]
    return [name for name in silent if not hasattr(ui, name) or not getattr(ui, name).toolTip()]


def contrast(one, other) -> float:
    """Of two QColors, by WCAG 2: 1 to 21; text needs 4.5."""

    def luminance(color) -> float:
        parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color.getRgbF()[:3]]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def main(module: str, dataset: str = "") -> None:
    """Print the smallest width, and of a data set the width of a thumbnail in pixels and in the panel's own."""
    from train_panel import DENOISE
    from train_panel import open_panel as open_train

    with Host(panel_width=WIDTH) as host:
        widget = (
            host.load_module(DENOISE) if module == "denoise" else open_train(host, Path(dataset) if dataset else None)
        )
        if dataset:
            host.click_cell(widget.ui.casesTable, 0, 0)
            picture = widget.ui.uldctPicture.pixmap()
            print(picture.width(), picture.deviceIndependentSize().width())
        fill_with_long_texts(host, widget)
        print(host.smallest_panel_width())


if __name__ == "__main__":
    main(*sys.argv[1:])
