"""The result of the chosen input: its table, its comparison, its strength, its files."""

import html
from collections.abc import Sequence

import qt
import slicer
import vtk
from IPv2SlicerLib.Views import currentSliceIndex
from slicer.i18n import tr as _

from .Export import exportDicom, fileFilter, saveVolume
from .Messages import errorsShown


class Results:
    """Finds the result of a volume in the scene, also after the scene was saved and loaded, and shows it.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    """

    def __init__(self, ui):
        self._ui = ui
        self.nodes = None
        self._input = None
        self._table, self._tag = None, None  # what is observed
        ui.showButton.clicked.connect(self._onShow)
        ui.saveButton.clicked.connect(self._onSave)
        ui.exportDicomButton.clicked.connect(self._onExportDicom)
        self.setInput(None)

    def setInput(self, node) -> None:
        """Show the table of the newest result of a volume; None, or a volume without a result, hides it."""
        self._input, self.nodes = node, resultOf(node)
        ui = self._ui
        self._observe(self.nodes.table if self.nodes else None)
        for button in (ui.showButton, ui.saveButton, ui.exportDicomButton):
            button.setEnabled(self.nodes is not None)

    def isOutdated(self) -> bool:
        """Whether the scene holds another result of the volume by now, or lacks a part of the one that is shown."""
        now = resultOf(self._input)
        return (now and vars(now)) != (self.nodes and vars(self.nodes))

    def strengthPercent(self) -> float | None:
        """Of the result; None without one."""
        from IPv2Lib import scene

        text = scene.provenance(self.nodes.denoised).get("strength") if self.nodes else None
        return 100 * float(text) if text else None

    def setStrengthPercent(self, percent: float) -> None:
        """Blend the result again; the network does not run.

        Raises
        ------
        InputError
            What the network said is not there any more, as after the scene was saved and loaded.
        """
        from IPv2Lib import scene_denoised

        scene_denoised.set_strength(self.nodes.denoised, percent / 100)

    def show(self) -> None:
        """Input, result and difference side by side, at the slice that is shown now."""
        from IPv2Lib import scene_denoised

        if self.nodes:
            scene_denoised.show_denoised(self.nodes, slice_index=currentSliceIndex(self.nodes.input))

    @staticmethod
    def showSequence(result) -> None:
        """The present frame of a `scene_denoised.DenoisedSequence`, before and after, side by side."""
        from IPv2Lib import scene

        index = currentSliceIndex(result.input)
        scene.show_compare([result.input, result.denoised], slice_index=index)

    def cleanup(self) -> None:
        """The widget goes away."""
        self._observe(None)

    def _observe(self, table) -> None:
        if self._table is not None:
            self._table.RemoveObserver(self._tag)
        self._table = table
        if table is not None:
            self._tag = table.AddObserver(vtk.vtkCommand.ModifiedEvent, self._showTable)
        self._showTable()

    def _showTable(self, caller=None, event=None) -> None:
        self._ui.regionTable.setText(tableHtml(self._table) if self._table is not None else "")
        self._ui.regionTable.setVisible(self._table is not None)

    def _onShow(self) -> None:
        with errorsShown():
            self.show()

    def _onSave(self) -> None:
        with errorsShown():
            name = f"{self.nodes.denoised.GetName()}.nrrd"
            path = qt.QFileDialog.getSaveFileName(
                slicer.util.mainWindow(), _("Save the denoised volume"), name, fileFilter()
            )
            if path:
                with slicer.util.WaitCursor():
                    saveVolume(self.nodes.denoised, path)
                slicer.util.showStatusMessage(_("Saved: {path}").format(path=path), 5000)

    def _onExportDicom(self) -> None:
        with errorsShown():
            folder = qt.QFileDialog.getExistingDirectory(
                slicer.util.mainWindow(), _("Folder in which a DICOM series is made")
            )
            if folder:
                with slicer.util.WaitCursor():
                    series = exportDicom(self.nodes.denoised, self.nodes.input, folder)
                slicer.util.showStatusMessage(_("Exported: {path}").format(path=series), 5000)


def tableHtml(table) -> str:
    """A table of regions in few columns, narrow enough for a panel; σ with decimals, means without.

    Parameters
    ----------
    table : vtkMRMLTableNode
        With the columns `IPv2Lib.scene_denoised.COLUMNS`.
    """
    heads = (_("Region"), _("Mean (HU)"), _("σ (HU)"), _("Noise"))
    rows = []
    for index in range(table.GetNumberOfRows()):
        region, meanBefore, meanAfter, sigmaBefore, sigmaAfter, reduction = (
            table.GetCellText(index, column) for column in range(table.GetNumberOfColumns())
        )
        means = f"{_whole(meanBefore)} → {_whole(meanAfter)}"
        rows.append((region, means, f"{sigmaBefore} → {sigmaAfter}", f"{_change(reduction)} %"))
    lines = [_line("th", heads), *(_line("td", row) for row in rows)]
    return f"<table width='100%' cellspacing='0' cellpadding='2'>{''.join(lines)}</table>"


def _line(tag: str, texts: Sequence[str]) -> str:
    """A row of a table: the first text may wrap, the numbers after it do not and are aligned at their right."""
    first, *numbers = (html.escape(text) for text in texts)
    cells = "".join(f"<{tag} align='right'>&nbsp;{text.replace(' ', '&nbsp;')}</{tag}>" for text in numbers)
    return f"<tr><{tag} align='left'>{first}</{tag}>{cells}</tr>"


def _whole(text: str) -> str:
    """A number without decimals, with a proper minus; what is no number stays."""
    try:
        return f"{round(float(text)):d}".replace("-", "−")
    except ValueError:
        return text


def _change(reduction: str) -> str:
    """By how much noise changed, for a reduction: "−12" for "12.3", "+5" where there is more noise than before."""
    try:
        change = -round(float(reduction))
    except ValueError:
        return reduction
    return f"{change:+d}".replace("-", "−") if change else "0"


def resultOf(node):
    """The nodes of the newest result of a volume, or None."""
    if node is None or not node.IsA("vtkMRMLScalarVolumeNode"):
        return None
    from IPv2Lib import scene_denoised

    for candidate in reversed(slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")):
        nodes = scene_denoised.nodes_of(candidate)
        if nodes and nodes.input is node and nodes.denoised is candidate:
            return nodes
    return None
