"""What lies over slice views, colour legends and markups: Slicer's own displayable managers decide, draw and place."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from .observation import Observation

_LEGENDS, _LEGEND = "vtkMRMLColorLegendDisplayableManager", "vtkMRMLColorLegendDisplayNode"
_MARKUPS, _MARKUP = "vtkMRMLMarkupsDisplayableManager", "vtkMRMLMarkupsNode"
_all: weakref.WeakSet[Overlays] = weakref.WeakSet()
_spare: list[vtk.vtkRenderWindow] = []
"""Windows for the next views: each takes 8 MB, which VTK never gives back."""


class Overlays:
    """The legends and markups over one slice view.

    Parameters
    ----------
    owner : QObject
        For whose life they are watched.
    node : vtkMRMLSliceNode
        Its slice logic must be known to the application already, as in Slicer.
    changed : callable
        Called without arguments when they have to be drawn again.
    """

    def __init__(self, owner, node, changed: Callable[[], None]):
        self._owner, self._node, self._changed = owner, node, changed
        self._scene, self._window = node.GetScene(), None
        if self._any(_LEGEND) or self._any(_MARKUP):
            self._make()
        Observation(owner, self._scene, slicer.vtkMRMLScene.NodeAddedEvent, self._node_added, with_node=True)
        _all.add(self)

    def _node_added(self, node) -> None:
        if self._window is None and (node.IsA(_LEGEND) or node.IsA(_MARKUP)):
            self._make()
            self._changed()

    def _make(self) -> None:
        """With the first of them: most views never have any."""
        self._window, self._renderer = _spare.pop() if _spare else _new_window(), vtk.vtkRenderer()
        self._window.AddRenderer(self._renderer)
        self._interactor = vtk.vtkGenericRenderWindowInteractor()
        self._interactor.SetInteractorStyle(vtk.vtkInteractorStyleUser())
        self._interactor.SetRenderWindow(self._window)
        factory = slicer.vtkMRMLSliceViewDisplayableManagerFactory.GetInstance()
        factory.SetMRMLApplicationLogic(slicer.app.applicationLogic())
        for manager in (_LEGENDS, _MARKUPS):
            if not factory.IsDisplayableManagerRegistered(manager):
                factory.RegisterDisplayableManager(manager)
        self._group = factory.InstantiateDisplayableManagers(self._renderer)
        self._manager = self._group.GetDisplayableManagerByClassName(_LEGENDS)
        self._markups = self._group.GetDisplayableManagerByClassName(_MARKUPS)
        Observation(self._owner, self._group, vtk.vtkCommand.UpdateEvent, self._changed)
        self._group.SetMRMLDisplayableNode(self._node)

    def shown(self) -> list:
        """The legend nodes that are seen now."""
        if self._window is None:
            return []
        layers = [renderer for renderer in self._window.GetRenderers() if renderer is not self._renderer]
        found = []
        for index in range(self._scene.GetNumberOfNodesByClass(_LEGEND)):
            legend = self._scene.GetNthNodeByClass(index, _LEGEND)
            actor = self._manager.GetColorLegendActor(legend)
            if actor is not None and actor.GetVisibility() and any(each.HasViewProp(actor) for each in layers):
                found.append(legend)
        return found

    def interact(self, event: int, x: int, y: int, size: tuple[int, int]) -> None:
        """Let the mouse do something, such as `vtkCommand.MouseMoveEvent`; x and y are pixels from the lower left."""
        if self._window is None:
            return
        self._window.SetSize(*size)
        data = slicer.vtkMRMLInteractionEventData()
        data.SetType(event)
        data.SetRenderer(self._renderer)
        data.SetDisplayPosition([x, y])
        if self._markups.CanProcessInteractionEvent(data, vtk.reference(float("inf"))):
            self._markups.ProcessInteractionEvent(data)

    def draw(self, width: int, height: int) -> np.ndarray | None:
        """An array (rows, columns, 4) of bytes, on a transparent ground; None without legends and markups."""
        if not (self.shown() or (self._window is not None and self._any(_MARKUP))):
            return None
        self._window.SetSize(width, height)
        self._window.Render()
        picture = vtk.vtkWindowToImageFilter()
        picture.SetInput(self._window)
        picture.SetInputBufferTypeToRGBA()
        picture.ReadFrontBufferOff()
        picture.Update()
        pixels = vtk_to_numpy(picture.GetOutput().GetPointData().GetScalars()).reshape(height, width, 4)
        return np.ascontiguousarray(pixels[::-1])

    def _any(self, class_name: str) -> bool:
        return self._scene.GetNumberOfNodesByClass(class_name) > 0

    def close(self) -> None:
        """Leave the scene."""
        if self._window is not None:
            self._group.SetMRMLDisplayableNode(None)
            for renderer in list(self._window.GetRenderers()):
                self._window.RemoveRenderer(renderer)
            self._interactor.SetRenderWindow(None)
            _spare.append(self._window)
            self._window = None


def _new_window() -> vtk.vtkRenderWindow:
    window = vtk.vtkRenderWindow()
    window.SetOffScreenRendering(True)
    window.SetAlphaBitPlanes(1)
    window.SetMultiSamples(0)
    return window


def close_all() -> None:
    """Let every view leave its scene, which is about to go."""
    for each in list(_all):
        each.close()
        _all.discard(each)
