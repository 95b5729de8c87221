"""The section *Purification*: the pair, the settings, and the stages."""

import qt
import slicer
from IPv2Lib.errors import InputError
from IPv2Lib.io import formats
from IPv2Lib.purification.settings import IPV1, IPV2, Settings
from IPv2SlicerLib.scene.Loading import loadScan
from IPv2SlicerLib.widgets.Messages import sentence
from IPv2SlicerLib.widgets.Options import optionsOf
from IPv2SlicerLib.widgets.Section import Section
from IPv2SlicerLib.widgets.Views import currentSliceIndex, showInSliceViews
from slicer.i18n import tr as _

from .Logic import IPv2DenoiseLogic, checkPair, checkVolumes
from .Parameters import Simulator, Strategy, Threshold
from .Stages import StageList


class PurificationSection(Section):
    """Connects the widgets of the section with the logic.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : IPv2DenoiseLogic
    """

    def __init__(self, ui, logic: IPv2DenoiseLogic):
        super().__init__(ui, logic)
        self._stages = StageList(ui, logic)
        self._display = self._jobDisplay(
            ui.purifyButton,
            ui.purificationProgressBar,
            ui.purificationStatusLabel,
            ("purify", "preview", "sample pair"),
            self._onPurify,
        )
        ui.strategySelector.activated.connect(self._onStrategyChosen)
        for button, act in (
            (ui.previewButton, self._onPreview),
            (ui.samplePairButton, lambda: self._whenDone(logic.makeSamplePair(), self._onSamplePairMade)),
            (ui.uldctFileButton, lambda: self._loadFile("uldctVolume")),
            (ui.uldctDicomButton, lambda: self._loadDicom("uldctVolume")),
            (ui.ndctFileButton, lambda: self._loadFile("ndctVolume")),
            (ui.ndctDicomButton, lambda: self._loadDicom("ndctVolume")),
        ):
            self._onClick(button, act)

    def setParameterNode(self, parameterNode) -> None:
        """Use a parameter node, or none while the module is not shown."""
        self._stages.setParameterNode(parameterNode)
        super().setParameterNode(parameterNode)

    def parametersChanged(self) -> None:
        """Follow a change of any parameter: grey out what has no effect."""
        self._stages.parametersChanged()
        parameters, ui = self._parameterNode, self._ui
        if not parameters:
            return
        self._showButtons()
        ui.dropEnclosedAirCheckBox.setEnabled(parameters.removeBackground)
        ui.thresholdHuSpinBox.setEnabled(parameters.thresholdMethod is Threshold.FIXED)
        for widget in (ui.doseSpinBox, ui.simulatorSelector, ui.seedSpinBox):
            widget.setEnabled(parameters.addNoise)
        ui.kernelSelector.setEnabled(parameters.addNoise and parameters.simulator is Simulator.PHYSICAL)
        ui.weakStrengthSpinBox.setEnabled(parameters.removeNoise)

    def jobChanged(self) -> None:
        """Show where the job is."""
        super().jobChanged()
        self._showButtons()

    def _showButtons(self) -> None:
        """What can be started of a pair, and why not."""
        parameters, wait = self._parameterNode, self._whyWait()
        reason = whyNot(parameters.uldctVolume, parameters.ndctVolume) if parameters else ""
        self._display.setStart(reason=reason)
        self._allow(self._ui.previewButton, reason or wait)
        self._allow(self._ui.samplePairButton, wait)

    def enter(self) -> None:
        """The module is opened."""
        self._stages.enter()
        super().enter()

    def exit(self) -> None:
        """Another module is opened."""
        self._stages.exit()

    def cleanup(self) -> None:
        """The widget goes away."""
        super().cleanup()
        self._stages.cleanup()

    # --- the pair ---

    def _loadFile(self, parameter: str) -> None:
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(),
            _("Load a CT in HU"),
            "",
            _("Volumes {suffixes};;All files (*)").format(suffixes=formats.WILDCARDS),
        )
        self._load(path, parameter)

    def _loadDicom(self, parameter: str) -> None:
        title = _("Load a folder that holds one DICOM series")
        self._load(qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title), parameter)

    def _load(self, path: str, parameter: str) -> None:
        if not path or not self._parameterNode:
            return
        with slicer.util.WaitCursor():
            node = loadScan(path)
            checkVolumes([node])
        self._parameterNode.setValue(parameter, node)
        showInSliceViews(node)

    def _onSamplePairMade(self, pair) -> None:
        if self._parameterNode:
            self._parameterNode.uldctVolume, self._parameterNode.ndctVolume = pair
            showInSliceViews(pair[0])

    # --- settings ---

    def _onStrategyChosen(self, index=None) -> None:
        """By a person: when a scene is loaded, its settings stay as they are, whatever its strategy."""
        if self._parameterNode:
            settings = {Strategy.IPV1: IPV1, Strategy.IPV2: IPV2}[self._parameterNode.strategy]
            with slicer.util.NodeModify(self._parameterNode.parameterNode):
                self._parameterNode.removeBackground = settings.remove_background
                self._parameterNode.addNoise = settings.add_noise
                self._parameterNode.removeNoise = settings.remove_noise
                self._parameterNode.blendPercent = 100 * settings.blend

    # --- work ---

    def _onPreview(self) -> None:
        parameters = self._parameterNode
        uldct, settings = parameters.uldctVolume, purificationSettings(parameters)
        index = currentSliceIndex(uldct) if uldct else None
        where = _("the middle slice") if index is None else _("slice {number}").format(number=index + 1)
        job = self._logic.previewSlice(uldct, parameters.ndctVolume, settings, sliceIndex=index)
        self._whenDone(job, lambda stages: self._onPreviewed(stages, where))

    def _onPreviewed(self, stages, where: str) -> None:
        self._onPurified(stages)
        self._display.say(_("Preview of {slice}.").format(slice=where))

    def _onPurify(self) -> None:
        parameters = self._parameterNode
        settings = purificationSettings(parameters)
        job = self._logic.purify(parameters.uldctVolume, parameters.ndctVolume, settings)
        self._whenDone(job, self._onPurified)

    def _onPurified(self, stages) -> None:
        if self._parameterNode:
            self._stages.show(stages)


def whyNot(uldctNode, ndctNode) -> str:
    """Why a pair cannot be purified, a sentence; empty if it can, as far as that is seen at once."""
    try:
        checkPair(uldctNode, ndctNode)
    except InputError as error:
        return sentence(str(error))
    return ""


def purificationSettings(parameterNode):
    """The settings that a parameter node means.

    Returns
    -------
    IPv2Lib.purification.settings.Settings

    Raises
    ------
    InputError
        For a value out of range.
    """
    isFixed = parameterNode.thresholdMethod is Threshold.FIXED
    return optionsOf(parameterNode, Settings, threshold_hu=parameterNode.thresholdHu if isFixed else None)
