"""Selectors of inputs: what IPv2 made itself is not offered, though a script may choose it."""

import slicer
from IPv2SlicerLib.Timers import singleShot
from IPv2SlicerLib.Views import hideInSelector


class InputSelectors:
    """Follows the scene, as a section of the panel does that has no widgets of its own.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    """

    def __init__(self, ui):
        self._inputs, self._output = (ui.inputSelector, ui.uldctSelector, ui.ndctSelector), ui.outputSelector
        self._timer = singleShot(0, self._follow)
        self._tags = [
            slicer.mrmlScene.AddObserver(event, lambda caller, event: self._timer.start())
            for event in (slicer.vtkMRMLScene.NodeAddedEvent, slicer.vtkMRMLScene.NodeRemovedEvent)
        ]

    def setParameterNode(self, parameterNode) -> None:
        """Another parameter node, with other choices."""
        if parameterNode:
            self._follow()

    def parametersChanged(self) -> None:
        """Another choice, perhaps."""
        self._timer.start()

    def jobChanged(self) -> None:
        """Jobs add nodes, which is heard of from the scene."""

    def enter(self) -> None:
        """The module is opened."""
        self._follow()

    def exit(self) -> None:
        """Another module is opened."""

    def cleanup(self) -> None:
        """The widget goes away."""
        self._timer.stop()
        for tag in self._tags:
            slicer.mrmlScene.RemoveObserver(tag)
        self._tags = []

    def _follow(self) -> None:
        from IPv2Lib.scene_results import kind_of

        kinds = {node: kind_of(node) for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")}
        for selector in self._inputs:
            hideInSelector(selector, [node for node, kind in kinds.items() if kind])
        hideInSelector(self._output, [node for node, kind in kinds.items() if kind not in ("", "denoised")])
