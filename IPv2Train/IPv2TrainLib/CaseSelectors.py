"""Selectors of the volumes of a new case: what IPv2 made itself is not offered, though a script may choose it."""

import slicer
from IPv2SlicerLib.widgets.SceneSelectors import SceneSelectors
from IPv2SlicerLib.widgets.Views import hideInSelector

from .CaseSources import isMade
from .Logic import IPv2TrainLogic


class CaseSelectors(SceneSelectors):
    """What is offered as the scans of a case.

    Parameters
    ----------
    ui : object
        The widgets of the .ui file by name.
    logic : IPv2TrainLogic
    """

    def __init__(self, ui, logic: IPv2TrainLogic):
        super().__init__(ui, logic)
        self._selectors = (ui.ndctSelector, ui.uldctSelector)

    def setParameterNode(self, parameterNode) -> None:
        """Another parameter node, with other choices."""
        if parameterNode:
            self._follow()

    def parametersChanged(self) -> None:
        """Another choice, perhaps."""
        self._soon.start()

    def _follow(self) -> None:
        made = [node for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if isMade(node)]
        for selector in self._selectors:
            hideInSelector(selector, made)
