"""The result of the chosen input: its table, its comparison, its strength, its files."""

import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import qt
import slicer
import vtk
from IPv2Lib.jobs import JobState
from IPv2SlicerLib.Views import currentSliceIndex
from slicer.i18n import tr as _

from .Export import FILTERS, dicomSource
from .Logic import IPv2DenoiseLogic
from .Messages import confirm, errorsShown, showError

FOLDER_SETTING = "IPv2/ResultFolder"
"""Of the user's settings: where the latest result was put."""


class Results:
    """Finds the result of a volume in the scene, also after the scene was saved and loaded, and shows it.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : IPv2DenoiseLogic
    say : callable
        Shows a sentence below the button Denoise.
    """

    def __init__(self, ui, logic: IPv2DenoiseLogic, say: Callable[[str], None]):
        self._ui, self._logic, self._say = ui, logic, say
        self._tips = {button: button.property("toolTip") for button in (ui.saveButton, ui.exportDicomButton)}
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
        self._observe(self.nodes.table if self.nodes else None)
        self.jobChanged()

    def jobChanged(self) -> None:
        """Lock what has to wait for a job, or for a result."""
        runner = self._logic.runner
        self._ui.showButton.setEnabled(self.nodes is not None)
        for button, tip in self._tips.items():
            button.setEnabled(self.nodes is not None and not runner.state.active)
            wait = _("Wait until this is done: {title}").format(title=runner.task.title) if runner.state.active else ""
            button.setToolTip(wait or (tip if self.nodes else _("Denoise first: there is no result yet.")))

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
        from IPv2Lib import outputs

        with errorsShown():
            name = f"{outputs.file_name(self.nodes.denoised.GetName())}.nrrd"
            path = askWhereToSave(_("Save the denoised volume"), name)
            if path is not None:
                self._logic.save(self.nodes.denoised, path, onFinished=self._onWritten, wait=False)

    def _onExportDicom(self) -> None:
        with errorsShown():
            node = self.nodes.denoised
            lacking = dicomSource(node).lacking
            if lacking and not confirm(_("{lacking} Export as a new study without patient?").format(lacking=lacking)):
                self._say(_("Not exported: {lacking}").format(lacking=lacking))
                return
            folder = qt.QFileDialog.getExistingDirectory(
                slicer.util.mainWindow(), _("Folder in which a DICOM series is made"), latestFolder()
            )
            if folder:
                keepFolder(folder)
                self._logic.exportDicom(node, folder, bool(lacking), onFinished=self._onWritten, wait=False)

    def _onWritten(self, path: Path | None) -> None:
        if self._logic.runner.state is JobState.FAILED:
            showError(self._logic.runner.error)
        if path is not None:
            self._say(_("Written: {path}").format(path=path))


def latestFolder() -> str:
    """Where the latest result was put; empty at first, or if that is not there any more."""
    folder = str(slicer.app.userSettings().value(FOLDER_SETTING) or "")
    return folder if Path(folder).is_dir() else ""


def keepFolder(folder: str | Path) -> None:
    """Propose a folder next time."""
    slicer.app.userSettings().setValue(FOLDER_SETTING, str(folder))


def askWhereToSave(title: str, name: str) -> Path | None:
    """Ask for the file of a volume, in the folder of the last time; None if nothing was chosen.

    A name that is typed without suffix gets that of the chosen filter; a dot alone makes no suffix ("Thorax 1.0").
    """
    dialog = qt.QFileDialog(slicer.util.mainWindow(), title, latestFolder())
    dialog.setAcceptMode(qt.QFileDialog.AcceptSave)
    dialog.setNameFilters(list(FILTERS))
    dialog.selectFile(name)
    dialog.deleteLater()  # when this is over
    if not dialog.exec_() or not dialog.selectedFiles():
        return None
    path = Path(dialog.selectedFiles()[0])
    keepFolder(path.parent)
    if re.fullmatch(r"\.[A-Za-z]\w{1,4}", path.suffix):
        return path
    # The dialog has asked about the name that was typed, not about this one.
    path = path.with_name(path.name + FILTERS[dialog.selectedNameFilter()])
    question = _("{name} exists already. Replace it?").format(name=path.name)
    return path if not path.exists() or confirm(question) else None


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
    from IPv2Lib.scene_results import newest_result

    return newest_result(node)
