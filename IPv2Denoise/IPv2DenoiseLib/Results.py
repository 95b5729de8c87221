"""The result of the chosen input, volume or sequence: its table, its comparison, its strength, its files."""

import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import qt
import slicer
import vtk
from IPv2Lib.errors import InputError
from IPv2SlicerLib.widgets.Messages import sentence
from IPv2SlicerLib.widgets.Section import Section
from IPv2SlicerLib.widgets.Views import currentSliceIndex
from slicer.i18n import tr as _

from .Export import FILTERS, dicomSources
from .Logic import IPv2DenoiseLogic
from .Messages import confirm
from .Parameters import Engine

FOLDER_SETTING = "IPv2/ResultFolder"
"""Of the user's settings: where the latest result was put."""


class Results(Section):
    """Finds the result of a volume or sequence in the scene, also after the scene was saved and loaded, and shows it.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : IPv2DenoiseLogic
    say : callable
        Shows a sentence below the button Denoise.
    """

    def __init__(self, ui, logic: IPv2DenoiseLogic, say: Callable[[str], None]):
        super().__init__(ui, logic)
        self._say = say
        self.nodes = None
        self._input = None
        self._table, self._tag = None, None  # what is observed
        self._steps = None  # frames that do not have the new strength yet
        self._stepTimer = self._timer(0, self._nextStep)
        self._onClick(ui.showButton, self.show)
        self._onClick(ui.saveButton, self._onSave)
        self._onClick(ui.exportDicomButton, self._onExportDicom)
        self.setInput(None)

    def setInput(self, node) -> None:
        """Show the table of the newest result of an input; None, or an input without a result, hides it."""
        from IPv2SlicerLib.scene.sequences import shown

        self.finishStrength()
        self._input, self.nodes = node, resultOf(node)
        self._observe(shown(self.nodes.table) if self.nodes else None)
        self.jobChanged()

    def jobChanged(self) -> None:
        """Lock what has to wait for a job, or for a result."""
        lacking = "" if self.nodes else _("Denoise first: there is no result yet.")
        self._allow(self._ui.showButton, lacking)
        for button in (self._ui.saveButton, self._ui.exportDicomButton):
            self._allow(button, self._whyWait() or lacking)

    def isOutdated(self) -> bool:
        """Whether the scene holds another result of the input by now, or lacks a part of the one that is shown."""
        from IPv2SlicerLib.scene.sequences import shown

        now = resultOf(self._input)
        return (now and vars(now)) != (self.nodes and vars(self.nodes)) or (now and shown(now.table)) is not self._table

    def strengthPercent(self) -> float | None:
        """Of the result; None without one."""
        from IPv2SlicerLib.scene import volume_nodes

        text = volume_nodes.provenance(self.nodes.denoised).get("strength") if self.nodes else None
        return 100 * float(text) if text else None

    def howText(self) -> str:
        """What computed the result: "ipv2-fast, CPU, ONNX Runtime, 0.14 s per slice."; of a sequence without time."""
        from IPv2SlicerLib.scene import volume_nodes

        facts = volume_nodes.provenance(self.nodes.denoised)
        device = _("CPU") if facts["device"] == "cpu" else facts["device"]
        parts = [facts["model"], device, Engine(facts["engine"]).label()]
        if self.nodes.denoised.IsA("vtkMRMLScalarVolumeNode"):
            seconds = float(facts["network_seconds"]) / self.nodes.denoised.GetImageData().GetDimensions()[2]
            parts.append(_("{time} s per slice").format(time=f"{seconds:.2g}"))
        return f"{', '.join(parts)}."

    def setStrengthPercent(self, percent: float) -> None:
        """Blend the result again; the network does not run. Of a sequence, the frames that are not shown follow.

        Raises
        ------
        InputError
            What the network said is not there any more, as after the scene was saved and loaded.
        """
        from IPv2SlicerLib.scene import blending

        self._steps = blending.strength_steps(self.nodes.denoised, percent / 100)
        self._step()

    def finishStrength(self) -> None:
        """Let all frames have the strength that was chosen last."""
        while self._steps is not None:
            self._nextStep()

    def show(self) -> None:
        """Input, result and difference side by side, at the slice that is shown now."""
        from IPv2SlicerLib.scene import denoised_nodes
        from IPv2SlicerLib.scene.sequences import shown

        if self.nodes:
            before = shown(self.nodes.input)
            denoised_nodes.show_denoised(self.nodes, slice_index=before and currentSliceIndex(before))

    def _step(self) -> None:
        steps, self._steps = self._steps, None  # none if it fails
        if next(steps, self) is not self:
            self._steps = steps
            self._stepTimer.start()

    def _nextStep(self) -> None:
        if self._steps is not None:
            try:
                self._step()
            except InputError as error:
                self._say(sentence(str(error)))

    def cleanup(self) -> None:
        """The widget goes away."""
        self.finishStrength()
        super().cleanup()
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

    def _onSave(self) -> None:
        from IPv2Lib.io import outputs
        from IPv2SlicerLib.scene.sequences import is_sequence

        self.finishStrength()
        name = f"{outputs.file_name(self.nodes.denoised.GetName())}.nrrd"
        title = _("Save the denoised volume")
        if is_sequence(self.nodes.denoised):
            title = _("Save the frames, one file each, in a new folder of this name")
        path = askWhereToSave(title, name)
        if path is not None:
            # The dialog has asked about a file that is there.
            self._whenDone(self._logic.save(self.nodes.denoised, path, overwrite=True), self._onWritten)

    def _onExportDicom(self) -> None:
        self.finishStrength()
        node = self.nodes.denoised
        lacking = next((source.lacking for source in dicomSources(node) if source.lacking), "")
        if lacking and not confirm(_("{lacking} Export as a new study without patient?").format(lacking=lacking)):
            self._say(_("Not exported: {lacking}").format(lacking=lacking))
            return
        folder = qt.QFileDialog.getExistingDirectory(
            slicer.util.mainWindow(), _("Folder in which a DICOM series is made"), latestFolder()
        )
        if folder:
            keepFolder(folder)
            self._whenDone(self._logic.exportDicom(node, folder, bool(lacking)), self._onWritten)

    def _onWritten(self, path: Path) -> None:
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
        With the columns `IPv2SlicerLib.scene.blending.COLUMNS`.
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
    """The nodes of the newest result of a volume or sequence, or None."""
    if node is None or node.GetScene() is None:
        return None
    from IPv2SlicerLib.scene.result_nodes import newest_result

    return newest_result(node)
