"""Selectors of the volumes of a new case: what IPv2 made itself is not offered, though a script may choose it."""

import slicer
from IPv2SlicerLib.Timers import singleShot
from IPv2SlicerLib.Views import hideInSelector

from .CaseSources import isMade


class CaseSelectors:
    """Follows the scene, as a section of the panel does that has no widgets of its own.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    """

    def __init__(self, ui):
        self._selectors = (ui.ndctSelector, ui.uldctSelector)
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
        made = [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if isMade(node)]
        for selector in self._selectors:
            hideInSelector(selector, made)
