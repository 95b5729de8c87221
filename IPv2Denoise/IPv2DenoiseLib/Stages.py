"""The stages of a purification: choosing, overlay, two side by side, keyboard, export."""

import html

import qt
import slicer
from IPv2SlicerLib.widgets.Section import Section
from IPv2SlicerLib.widgets.Shortcuts import Shortcuts
from IPv2SlicerLib.widgets.Views import currentSliceIndex, showRedView
from slicer.i18n import tr as _

from .Export import newFolder
from .Logic import IPv2DenoiseLogic

SHORTCUTS = (("Ctrl+Shift+N", "next"), ("Ctrl+Shift+P", "previous"), ("Ctrl+Shift+M", "toggleOverlay"))
"""Keys, and the method of `StageList` that each calls."""


class StageList(Section):
    """The list of the stages that are in the scene, and what the views show of them.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : IPv2DenoiseLogic
    """

    def __init__(self, ui, logic: IPv2DenoiseLogic):
        super().__init__(ui, logic)
        self._source = None  # uLDCT whose stages are listed
        self._nodes = None  # IPv2SlicerLib.scene.stage_nodes.StageNodes
        self._shown: tuple | None = None  # what the views show, see `_wanted`
        self._keys: list[str] = []
        ui.stagesList.currentRowChanged.connect(self._onRow)
        ui.secondStageSelector.currentTextChanged.connect(self._onSecond)
        self._onClick(ui.exportStagesButton, self._onExport)
        self._shortcuts = Shortcuts({key: getattr(self, method) for key, method in SHORTCUTS}, ui.stagesList)

    def setParameterNode(self, parameterNode) -> None:
        """Use a parameter node, or none."""
        self._source = self._shown = None
        super().setParameterNode(parameterNode)

    def parametersChanged(self) -> None:
        """Show what the parameters say, if it is not shown yet."""
        parameters = self._parameterNode
        if not parameters:
            return
        if self._shown is None or self._source is not parameters.uldctVolume:
            self._find()
        wanted = self._wanted()
        if wanted != self._shown and parameters.stage in self._keys:
            self._shown = wanted
            with self._boxes.errorsShown():
                self._showStage()
            self._followList()

    def show(self, nodes) -> None:
        """List new stages, and show the one that was shown before, or the training input."""
        self._nodes = nodes
        self._list()
        stage = self._parameterNode.stage
        self._shown = ()  # as good as nothing
        self._parameterNode.stage = stage if stage in self._keys else "training_input"
        self.parametersChanged()

    def next(self) -> None:
        """Show the next stage."""
        self._step(1)

    def previous(self) -> None:
        """Show the stage before."""
        self._step(-1)

    def toggleOverlay(self) -> None:
        """Show or hide the masks over the image."""
        if self._parameterNode:
            self._parameterNode.showOverlay = not self._parameterNode.showOverlay

    def enter(self) -> None:
        """The module is opened."""
        self._shortcuts.setEnabled(True)

    def exit(self) -> None:
        """Another module is opened: its keys are its own."""
        self._shortcuts.setEnabled(False)

    def cleanup(self) -> None:
        """The widget goes away."""
        self._shortcuts.close()

    def _step(self, by: int) -> None:
        if self._parameterNode and self._parameterNode.stage in self._keys:
            row = self._keys.index(self._parameterNode.stage) + by
            if 0 <= row < len(self._keys):
                self._parameterNode.stage = self._keys[row]

    def _wanted(self) -> tuple:
        parameters = self._parameterNode
        return parameters.stage, parameters.secondStage, parameters.showOverlay, parameters.overlayOpacityPercent

    def _find(self) -> None:
        """List the newest stages of the uLDCT, such as those that came with a scene; the views stay as they are."""
        self._source = self._parameterNode.uldctVolume
        self._nodes = None
        if self._source:
            from IPv2SlicerLib.scene import stage_nodes

            found = [each for each in stage_nodes.find_stages(slicer.mrmlScene) if each.source is self._source]
            self._nodes = found[-1] if found else None
        self._list()
        self._shown = self._wanted()
        if self._parameterNode.stage in self._keys:
            self._followList()

    def _list(self) -> None:
        ui = self._ui
        found = self._nodes.stages if self._nodes else []
        self._keys = [stage.key for stage in found]
        for widget in (ui.stagesList, ui.secondStageSelector):
            widget.blockSignals(True)
            widget.clear()
        ui.secondStageSelector.addItem(_("Nothing"))
        for number, stage in enumerate(found, 1):
            ui.stagesList.addItem(f"{number}. {stage.title}")
            ui.secondStageSelector.addItem(stage.title)
        for widget in (ui.stagesList, ui.secondStageSelector):
            widget.blockSignals(False)
        ui.stagesList.setVisible(bool(found))
        ui.stageControls.setVisible(bool(found))
        ui.stageLegend.setVisible(False)

    def _showStage(self) -> None:
        from IPv2SlicerLib.scene import stage_nodes

        stage, second, overlay, percent = self._shown
        opacity = percent / 100 if overlay else 0.0
        if second in self._keys:
            index = currentSliceIndex(self._nodes.nodes[stage])
            stage_nodes.show_stages_side_by_side(self._nodes, stage, second, slice_index=index, opacity=opacity)
        else:
            showRedView()
            stage_nodes.show_stage(self._nodes, stage, opacity=opacity)

    def _followList(self) -> None:
        """Let the widgets say what is shown."""
        stage, second = self._shown[:2]
        ui = self._ui
        legend = legendHtml(each for each in self._nodes.stages if each.key in (stage, second))
        ui.stageLegend.setText(legend)
        ui.stageLegend.setVisible(bool(legend))
        for widget in (ui.stagesList, ui.secondStageSelector):
            widget.blockSignals(True)
        ui.stagesList.setCurrentRow(self._keys.index(stage))
        ui.secondStageSelector.setCurrentIndex(self._keys.index(second) + 1 if second in self._keys else 0)
        for widget in (ui.stagesList, ui.secondStageSelector):
            widget.blockSignals(False)

    def _onRow(self, row: int) -> None:
        if self._parameterNode and 0 <= row < len(self._keys):
            self._parameterNode.stage = self._keys[row]

    def _onSecond(self, title: str) -> None:
        if self._parameterNode and self._nodes:
            keys = {stage.title: stage.key for stage in self._nodes.stages}
            self._parameterNode.secondStage = keys.get(title, "")

    def _onExport(self) -> None:
        from IPv2SlicerLib.scene import stage_nodes

        title = _("Folder in which a folder of stages is made")
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title)
        if folder:
            with slicer.util.WaitCursor():
                written = stage_nodes.export_stages(self._nodes, newFolder(folder, self._nodes.name))
            slicer.util.showStatusMessage(_("Exported: {path}").format(path=written), 5000)


def legendHtml(stages) -> str:
    """What the colours of masks mean, one after the other; nothing where no mask is.

    Parameters
    ----------
    stages : iterable of IPv2Lib.purification.stages.Stage
    """
    entries = {(name, rgb): None for stage in stages for value, name, rgb in stage.entries if value}
    return " ".join(
        f"<span style='color:#{red:02x}{green:02x}{blue:02x}'>■</span>&nbsp;{html.escape(name).replace(' ', '&nbsp;')}"
        for name, (red, green, blue) in entries
    )
