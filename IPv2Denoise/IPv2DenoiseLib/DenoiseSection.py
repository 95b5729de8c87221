"""The section *Denoise*: input, strength, the run, its result, and what is folded away under *Advanced*."""

import slicer
import vtk
from IPv2Lib.errors import InputError
from IPv2Lib.inference.options import DenoiseOptions
from IPv2Lib.models.card import ModelCard
from IPv2SlicerLib.widgets.Messages import sentence
from IPv2SlicerLib.widgets.Options import optionsOf
from IPv2SlicerLib.widgets.Section import Section
from slicer.i18n import tr as _

from .AdvancedSection import AdvancedSection
from .Logic import IPv2DenoiseLogic, checkOutputs, checkVolumes
from .Messages import confirm
from .Results import Results, resultOf

SETTLE_MSEC = 30
"""A slider that is dragged says many values; the result follows when it has been still for so long."""
CHECK_MSEC = 200
"""The same for an input that somebody works on."""


class DenoiseSection(Section):
    """Connects the widgets of the section with the logic.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : IPv2DenoiseLogic
    """

    def __init__(self, ui, logic: IPv2DenoiseLogic):
        super().__init__(ui, logic)
        self._input = self._checked = None  # what is shown, and what the concerns are about
        self._reason = ""  # why the button cannot be used
        self._observed, self._inputTags = None, []  # the input, as long as the module is shown
        self._display = self._jobDisplay(
            ui.denoiseButton,
            ui.denoiseProgressBar,
            ui.denoiseStatusLabel,
            ("denoise", "devices", "save", "export"),
            self._onDenoise,
        )
        self._results = Results(ui, logic, self._display.say)
        self._advanced = AdvancedSection(ui, logic, self._display.say)
        self._strengthTimer = self._timer(SETTLE_MSEC, self._applyStrength)
        self._concernsTimer = self._timer(0, self._showConcerns)
        self._inputTimer = self._timer(CHECK_MSEC, self._check)
        self._watchScene(self._followScene)

    def setParameterNode(self, parameterNode) -> None:
        """Use a parameter node, or none while the module is not shown."""
        self._input = self._checked = None
        self._advanced.setParameterNode(parameterNode)
        super().setParameterNode(parameterNode)

    def parametersChanged(self) -> None:
        """Follow a change of any parameter."""
        parameters = self._parameterNode
        self._advanced.parametersChanged()
        self._observe(parameters and parameters.inputVolume)
        if not parameters:
            self._results.setInput(None)
            return
        if self._input is not parameters.inputVolume:
            before, self._input = self._input, parameters.inputVolume
            if before is not None:
                self._display.forget()
                parameters.outputVolume = None  # it was chosen for the input before
            self._showResult()
            self.jobChanged()  # whose run it is, is told otherwise now
        choices = parameters.inputVolume, parameters.outputVolume, self._further(), parameters.model
        if self._checked != choices:
            self._checked = choices
            self._showStart()
            self._concernsTimer.start()
        shown = self._results.strengthPercent()
        if shown is not None and abs(shown - parameters.strengthPercent) > 1e-6:
            self._strengthTimer.start()

    def jobChanged(self) -> None:
        """Show where the job is."""
        self._display.update(self._logic.runner, self._logic.jobKind, self._whoseRun())
        self._advanced.jobChanged()
        self._results.jobChanged()

    def enter(self) -> None:
        """The module is opened."""
        self._followScene()
        self.jobChanged()

    def cleanup(self) -> None:
        """The widget goes away."""
        super().cleanup()
        self._observe(None)
        self._advanced.cleanup()
        self._results.cleanup()

    def _whoseRun(self) -> str:
        """Title of the run, if it is not about the chosen input."""
        parameters, runner = self._parameterNode, self._logic.runner
        node = parameters and parameters.inputVolume
        if self._logic.jobKind != "denoise" or node is None or node.GetID() in self._logic.denoised:
            return ""
        return runner.task.title

    def _followScene(self) -> None:
        """Volumes have come or gone, perhaps a result: removed, or by Undo and Redo."""
        self._cancelWithoutInput()
        if not self._parameterNode:
            return
        from IPv2SlicerLib.scene import denoised_nodes, display, volume_nodes

        if volume_nodes.nodes_of_class(slicer.mrmlScene, "vtkMRMLColorLegendDisplayNode"):
            display.refresh_legends(slicer.mrmlScene)  # of what Slicer shows no more since it loaded a volume
        self._advanced.sceneChanged()
        self._check()
        denoised_nodes.remove_unused_outputs(slicer.mrmlScene)
        if self._results.isOutdated():
            self._display.forget()
            self._showResult()

    def _cancelWithoutInput(self) -> None:
        """A run whose input is gone has nowhere to put its result."""
        if not self._logic.runner.state.active or self._logic.jobKind != "denoise":
            return
        gone = [name for nodeId, name in self._logic.denoised.items() if not slicer.mrmlScene.GetNodeByID(nodeId)]
        if gone:
            self._logic.cancel(_("'{name}' was removed from the scene").format(name=gone[0]))

    def _observe(self, node) -> None:
        """Follow an input: what is wrong with it, somebody may mend."""
        if node is self._observed:
            return
        for tag in self._inputTags:
            self._observed.RemoveObserver(tag)
        self._observed, self._inputTags = node, []
        if node is not None:
            events = [vtk.vtkCommand.ModifiedEvent, slicer.vtkMRMLTransformableNode.TransformModifiedEvent]
            events.append(slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent)
            self._inputTags = [node.AddObserver(event, self._onInputModified) for event in events]

    def _onInputModified(self, caller, event) -> None:
        self._inputTimer.start()

    def _further(self) -> list:
        """Further volumes that are ticked."""
        parameters = self._parameterNode
        return [node for node in parameters.furtherVolumes if node and node is not parameters.inputVolume]

    def _onDenoise(self) -> None:
        parameters, further = self._parameterNode, self._further()
        node, output, options = parameters.inputVolume, parameters.outputVolume, optionsOf(parameters, DenoiseOptions)
        refuse(node, output, further)
        if node.IsA("vtkMRMLSequenceNode"):
            job = self._logic.denoise(node, earlierResult(node), options=options)
        else:
            inputs = [node, *further]
            outputs = [earlierResult(each) for each in inputs]
            if output:
                outputs[0] = chosenOutput(output, node)
            agreed = output is not None and outputs[0] is output
            job = self._logic.denoiseVolumes(inputs, outputNodes=outputs, replaceOutput=agreed, options=options)
        self._whenDone(job, lambda results: self._onDenoised(output, further))

    def _onDenoised(self, output, further) -> None:
        parameters = self._logic.getParameterNode()  # also while another module is shown
        if parameters.outputVolume is output:
            parameters.outputVolume = None  # it was chosen for this run
        parameters.furtherVolumes = [node for node in parameters.furtherVolumes if node and node not in further]
        if not self._parameterNode or self._whoseRun():
            return
        wanted = self._parameterNode.strengthPercent  # may have been changed during the run
        self._showResult()
        if self._results.nodes:
            self._results.show()
            self._parameterNode.strengthPercent = wanted
            self._display.say(f"{sentence(self._logic.runner.message)} {self._results.howText()}")

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
            self._parameterNode.strengthPercent = self._results.strengthPercent()
            self._display.say(sentence(str(error)))

    def _check(self) -> None:
        """Look again: volumes have been changed."""
        self._showStart()
        self._showConcerns()

    def _showStart(self) -> None:
        """What the button would do, or why it cannot."""
        parameters = self._parameterNode
        if not parameters:
            return
        further, self._reason = self._further(), ""
        try:
            refuse(parameters.inputVolume, parameters.outputVolume, further)
        except InputError as error:
            self._reason = sentence(str(error))
        text = _("Denoise {n} volumes").format(n=1 + len(further)) if further else None
        self._display.setStart(text, self._reason)

    def _showConcerns(self) -> None:
        """Say what else will be denoised, and what the model was not trained for, which blocks nothing."""
        sentences, parameters = [], self._parameterNode
        if parameters and (further := self._further()):
            names = ", ".join(node.GetName() for node in further)
            sentences.append(_("Denoised in the same run: {names} (ticked under Advanced).").format(names=names))
        if parameters and parameters.inputVolume and not self._reason:
            with self._boxes.errorsShown():
                sentences += concerns(parameters.inputVolume, self._advanced.card())
        self._ui.concernsLabel.setText("\n".join(f"• {text}" for text in sentences))
        self._ui.concernsLabel.setVisible(bool(sentences))


def refuse(node, output, further) -> None:
    """Raise `InputError` with what is wrong with the choices in the panel; takes some 0.1 s for 300 slices."""
    if node is not None and node.IsA("vtkMRMLSequenceNode"):
        if further:
            raise InputError(_("a sequence is denoised by itself: untick the further volumes under Advanced"))
        if output is not None:
            raise InputError(_("a sequence cannot be written into one volume: choose no output under Advanced"))
    checkOutputs([node, *further], [output])
    checkVolumes([node, *further])


def earlierResult(node):
    """The node with the newest result of an input, which the next one replaces; None where there is none."""
    nodes = resultOf(node)
    return nodes and nodes.denoised


def chosenOutput(output, node):
    """The output that somebody chose, or None for a new volume if something else would be lost and must not be."""
    from IPv2SlicerLib.scene.result_nodes import why_not_output

    lost = why_not_output(output, node)
    question = _("{lost}. Replace it by the result of '{name}'? With No, a new volume is made.")
    return None if lost and not confirm(question.format(lost=lost, name=node.GetName())) else output


def concerns(node, card: ModelCard | None) -> list[str]:
    """What to know before this node is denoised with the model of this card; an unusable one has its say at the start.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode or vtkMRMLSequenceNode
    card : ModelCard or None
    """
    from IPv2Lib.analysis import suitability
    from IPv2SlicerLib.scene import volume_nodes
    from IPv2SlicerLib.scene.sequences import frames, sequence_of

    try:
        if not node.IsA("vtkMRMLSequenceNode"):
            found = suitability.concerns(volume_nodes.node_view(node), card)
            if (sequence := sequence_of(node)) is not None:
                text = _("This is the frame on display of '{name}': choose the sequence to denoise all of them.")
                found.insert(0, text.format(name=sequence.GetName()))
            return found
        volumes = [volume_nodes.node_view(frame) for frame in frames(node)]
        # Result, difference, and what the network said, for the strength.
        megabytes = 3 * sum(volume.array.nbytes for volume in volumes) / 2**20
        text = _("This is a sequence: each of its {count} frames is denoised. The result takes {size} MB of memory.")
        text = text.format(count=len(volumes), size=round(megabytes))
        return [text, *suitability.concerns(volumes[0], card)]
    except InputError:
        return []
