"""Selectors of inputs: what IPv2 made itself is not offered, though a script may choose it."""

import slicer
import vtk
from IPv2SlicerLib.widgets.SceneSelectors import SceneSelectors
from IPv2SlicerLib.widgets.Views import hideInSelector

from .Logic import IPv2DenoiseLogic

_OFFERED = {
    "inputVolume": ("",),
    "outputVolume": ("", "denoised"),
    "uldctVolume": ("", "frame"),
    "ndctVolume": ("", "frame"),
}
"""Which kinds of nodes are, see `result_nodes.kind_of`; a frame is what shows one of a sequence."""


class InputSelectors(SceneSelectors):
    """What is offered as inputs and output.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : IPv2DenoiseLogic
    """

    def __init__(self, ui, logic: IPv2DenoiseLogic):
        super().__init__(ui, logic)
        self._selectors = {
            "inputVolume": ui.inputSelector,
            "uldctVolume": ui.uldctSelector,
            "ndctVolume": ui.ndctSelector,
            "outputVolume": ui.outputSelector,
        }
        self._tag: int | None = None

    def setParameterNode(self, parameterNode) -> None:
        """Use a parameter node; without one everything is offered, as the next one may have chosen anything."""
        if self._parameterNode:
            self._parameterNode.parameterNode.RemoveObserver(self._tag)
        self._parameterNode = parameterNode
        if parameterNode:
            # Before the selectors hear of a choice: what is hidden they could not show, and would choose nothing.
            event, first = vtk.vtkCommand.ModifiedEvent, 100.0
            self._tag = parameterNode.parameterNode.AddObserver(event, lambda *_: self._follow(), first)
        self._follow()

    def _follow(self) -> None:
        from IPv2SlicerLib.scene.result_nodes import kind_of
        from IPv2SlicerLib.scene.sequences import sequence_of

        parameters = self._parameterNode
        classes = ("vtkMRMLScalarVolumeNode", "vtkMRMLSequenceNode") if parameters else ()
        nodes = [node for each in classes for node in slicer.util.getNodesByClass(each)]
        kinds = {node: kind_of(node) for node in nodes}
        # It will show another one: as the input, the sequence is offered.
        kinds |= {node: "frame" for node, kind in kinds.items() if not kind and sequence_of(node) is not None}
        for name, selector in self._selectors.items():
            offered = _OFFERED[name]
            chosen = parameters and getattr(parameters, name)
            hideInSelector(
                selector, [node for node, kind in kinds.items() if kind not in offered and node is not chosen]
            )
