"""The section *Denoise*: input, strength, the run, its result, and what is folded away under *Advanced*."""

import slicer
from IPv2Lib.errors import InputError
from IPv2Lib.jobs import JobState
from IPv2SlicerLib.JobDisplay import JobDisplay
from IPv2SlicerLib.Messages import sentence
from IPv2SlicerLib.Timers import singleShot
from slicer.i18n import tr as _

from .AdvancedSection import AdvancedSection
from .Logic import IPv2DenoiseLogic
from .Messages import boxes, errorsShown, showError
from .Results import Results

SETTLE_MSEC = 30
"""A slider that is dragged says many values; the result follows when it has been still for so long."""


class DenoiseSection:
    """Connects the widgets of the section with the logic; the widget class hands parameter nodes and events on.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : IPv2DenoiseLogic
    """

    def __init__(self, ui, logic: IPv2DenoiseLogic):
        self._ui, self._logic = ui, logic
        self._parameterNode = None
        self._input = self._checked = None  # what is shown, and what the concerns are about
        self._results = Results(ui)
        self._display = JobDisplay(
            ui.denoiseButton,
            ui.denoiseProgressBar,
            ui.denoiseStatusLabel,
            ("denoise", "devices"),
            self._onDenoise,
            logic.cancel,
            boxes,
        )
        self._advanced = AdvancedSection(ui, logic, self._display.say)
        self._strengthTimer = singleShot(SETTLE_MSEC, self._applyStrength)
        self._concernsTimer = singleShot(0, self._showConcerns)
        self._sceneTimer = singleShot(0, self._followScene)
        self._sceneTags = [
            slicer.mrmlScene.AddObserver(event, self._onSceneChanged)
            for event in (slicer.vtkMRMLScene.NodeAddedEvent, slicer.vtkMRMLScene.NodeRemovedEvent)
        ]

    def setParameterNode(self, parameterNode) -> None:
        """Use a parameter node, or none while the module is not shown."""
        self._parameterNode = parameterNode
        self._input = self._checked = None
        if not parameterNode:
            self._display.forget()
        self._advanced.setParameterNode(parameterNode)
        self.parametersChanged()

    def parametersChanged(self) -> None:
        """Follow a change of any parameter."""
        parameters = self._parameterNode
        self._advanced.parametersChanged()
        if not parameters:
            self._results.setInput(None)
            return
        if self._input is not parameters.inputVolume:
            if self._input is not None:
                self._display.forget()
            self._input = parameters.inputVolume
            self._showResult()
        if self._checked != (parameters.inputVolume, parameters.model):
            self._checked = parameters.inputVolume, parameters.model
            self._concernsTimer.start()
        shown = self._results.strengthPercent()
        if shown is not None and abs(shown - parameters.strengthPercent) > 1e-6:
            self._strengthTimer.start()

    def jobChanged(self) -> None:
        """Show where the job is."""
        self._display.update(self._logic.runner, self._logic.jobKind)
        self._advanced.jobChanged()

    def enter(self) -> None:
        """The module is opened."""
        self._followScene()
        self.jobChanged()

    def exit(self) -> None:
        """Another module is opened; a running job goes on."""

    def cleanup(self) -> None:
        """The widget goes away."""
        for timer in (self._strengthTimer, self._concernsTimer, self._sceneTimer):
            timer.stop()
        for tag in self._sceneTags:
            slicer.mrmlScene.RemoveObserver(tag)
        self._sceneTags = []
        self._advanced.cleanup()
        self._results.cleanup()

    def _onSceneChanged(self, caller, event) -> None:
        if self._parameterNode:
            self._sceneTimer.start()

    def _followScene(self) -> None:
        """Volumes have come or gone, perhaps a result: removed, or by Undo and Redo."""
        if not self._parameterNode:
            return
        from IPv2Lib import scene_denoised

        self._advanced.sceneChanged()
        scene_denoised.remove_unused_outputs(slicer.mrmlScene)
        if self._results.isOutdated():
            self._display.forget()
            self._showResult()

    def _onDenoise(self) -> None:
        parameters = self._parameterNode
        options = {
            "strength": parameters.strengthPercent / 100,
            "model": parameters.model or None,
            "device": parameters.device,
            "keepOutsideBody": parameters.keepOutsideBody,
            "keptNoiseHu": parameters.keptNoiseHu if parameters.keptNoiseHu >= 0 else None,
            "selfEnsemble": parameters.selfEnsemble,
            "onFinished": self._onFinished,
            "wait": False,
        }
        further = [node for node in parameters.furtherVolumes if node and node is not parameters.inputVolume]
        if further and parameters.inputVolume and parameters.inputVolume.IsA("vtkMRMLSequenceNode"):
            raise InputError(_("a sequence is denoised by itself: untick the further volumes under Advanced"))
        if further:
            self._logic.denoiseVolumes([parameters.inputVolume, *further], **options)
        else:
            self._logic.denoise(parameters.inputVolume, parameters.outputVolume, **options)

    def _onFinished(self, result) -> None:
        if self._logic.runner.state is JobState.FAILED:
            showError(self._logic.runner.error)
        if result is None or not self._parameterNode:
            return
        with errorsShown():
            wanted = self._parameterNode.strengthPercent  # may have been changed during the run
            self._showResult()
            if self._results.nodes:
                self._results.show()
                self._parameterNode.strengthPercent = wanted
            elif hasattr(result, "sequence"):
                self._results.showSequence(result)

    def _showResult(self) -> None:
        """Show the result of the input, if there is one, and let the slider say its strength."""
        self._results.setInput(self._parameterNode.inputVolume)
        percent = self._results.strengthPercent()
        if percent is not None:
            self._parameterNode.strengthPercent = percent

    def _applyStrength(self) -> None:
        if not self._parameterNode or not self._results.nodes:
            return
        try:
            self._results.setStrengthPercent(self._parameterNode.strengthPercent)
        except InputError as error:
            self._display.say(sentence(str(error)))

    def _showConcerns(self) -> None:
        """Say what the model was not trained for, before the run; nothing is blocked."""
        sentences = []
        if self._parameterNode and self._parameterNode.inputVolume:
            with errorsShown():
                sentences = concerns(self._parameterNode.inputVolume, self._advanced.card())
        self._ui.concernsLabel.setText("\n".join(f"• {text}" for text in sentences))
        self._ui.concernsLabel.setVisible(bool(sentences))


def concerns(node, card: dict) -> list[str]:
    """What to know before this node is denoised with the model of this card; an unusable one has its say at the start.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode or vtkMRMLSequenceNode
    card : dict
    """
    from IPv2Lib import scene, scene_denoised, suitability

    try:
        if node.IsA("vtkMRMLSequenceNode"):
            frames = scene_denoised.frames(node)
            count = _("This is a sequence: each of its {count} frames is denoised.").format(count=len(frames))
            return [count, *suitability.concerns(scene.node_view(frames[0]), card)]
        return suitability.concerns(scene.node_view(node), card)
    except InputError:
        return []
