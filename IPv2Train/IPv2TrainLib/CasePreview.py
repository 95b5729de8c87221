"""What a purified case looks like: its picture in the panel, its volumes in the views."""

from pathlib import Path

import qt
import slicer
from IPv2Lib.datasets.cases import Case
from IPv2Lib.datasets.shards import SHARDS_FOLDER, THUMBNAIL_FILE, read_shard
from IPv2Lib.io.file_names import within
from IPv2SlicerLib.widgets.Section import Section
from slicer.i18n import tr as _

from .Cases import CaseState
from .Logic import IPv2TrainLogic

WIDTH = 136
"""Of each picture, in the panel's own pixels, of which a high-resolution screen has several for one; two fit side by
side into a narrow panel."""

_GAP = 4  # between the four pictures of a thumbnail


class CasePreview(Section):
    """Shows one case below the table.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : IPv2TrainLogic
    """

    def __init__(self, ui, logic: IPv2TrainLogic):
        super().__init__(ui, logic)
        self._pictures = (ui.uldctPicture, ui.ndctPicture, ui.inputPicture, ui.testLabelPicture)
        self._folder: Path | None = None  # of the shard
        self._name = ""
        self._shown: tuple = ()
        self._onClick(ui.showCaseButton, self._onShow)

    def show(self, dataset: Path | None, case: Case | None, state: CaseState | None) -> None:
        """Show a case of a data set, or nothing."""
        shown = dataset, case and case.name, state
        if shown == self._shown:
            return
        self._shown = shown
        self._folder = within(dataset / SHARDS_FOLDER, state.key) if dataset and state and state.key else None
        self._name = case.name if case else ""
        text = self._name
        if state and state.message:
            text += f": {state.message}"
        self._ui.casePreview.setVisible(bool(case and (self._folder or text != self._name)))
        self._ui.caseLabel.setText(text)
        self._ui.showCaseButton.setEnabled(self._folder is not None)
        self._showPictures(self._folder / THUMBNAIL_FILE if self._folder else None)

    def _showPictures(self, path: Path | None) -> None:
        sheet = qt.QPixmap(str(path)) if path and path.exists() else None
        isThere = sheet is not None and not sheet.isNull()
        for widget in (
            *self._pictures,
            self._ui.uldctCaption,
            self._ui.ndctCaption,
            self._ui.inputCaption,
            self._ui.testLabelCaption,
        ):
            widget.setVisible(isThere)
        if not isThere:
            return
        width = (sheet.width() - 3 * _GAP) // 4
        for number, label in enumerate(self._pictures):
            ratio = label.devicePixelRatioF()
            part = sheet.copy(number * (width + _GAP), 0, width, sheet.height())
            picture = part.scaledToWidth(round(WIDTH * ratio), qt.Qt.SmoothTransformation)
            picture.setDevicePixelRatio(ratio)
            label.setPixmap(picture)

    def _onShow(self) -> None:
        from IPv2SlicerLib.scene import training_nodes

        with slicer.util.WaitCursor():
            nodes = training_nodes.add_case(slicer.mrmlScene, read_shard(self._folder))
            training_nodes.show_case(nodes)
            slicer.util.showStatusMessage(_("{name} is in the scene").format(name=self._name), 3000)
