"""Node selectors whose offer depends on what the nodes of the scene are."""

import slicer

from .Timers import singleShot


class SceneSelectors:
    """Follows the scene, as a section of a panel without widgets of its own; `_follow` says what is offered."""

    def __init__(self):
        self._timer = singleShot(0, self._follow)
        self._tags = [
            slicer.mrmlScene.AddObserver(event, lambda caller, event: self._timer.start())
            for event in (slicer.vtkMRMLScene.NodeAddedEvent, slicer.vtkMRMLScene.NodeRemovedEvent)
        ]

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
        raise NotImplementedError
