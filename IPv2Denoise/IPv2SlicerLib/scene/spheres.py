"""Spheres that somebody has placed on nodules of a volume: point lists of Slicer with one point each.

Owns whose spheres they are and how large, in attributes that are saved with the scene. The numbers are
`IPv2Lib.analysis.spheres`'.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import slicer
from IPv2Lib.analysis.spheres import SphereMeasures, measure_sphere
from IPv2Lib.errors import InputError
from IPv2Lib.io.volume import Volume

from .changes import place_beside, unique_name
from .result_nodes import DenoisedNodes
from .sequences import shown
from .volume_nodes import application_logic, node_view, nodes_of_class

_CLASS = "vtkMRMLMarkupsFiducialNode"
_DIAMETER = "IPv2SphereDiameter"  # attribute, mm
_ROLE = "IPv2Measured"  # reference to the input
_COLOR = (0.9, 0.62, 0.0)
_OPACITY = 0.45  # Slicer draws points filled


@dataclass(frozen=True, eq=False)
class Measured:
    """A sphere, and what it holds before and after denoising; None for a volume that is missing or cannot be read."""

    node: slicer.vtkMRMLMarkupsFiducialNode
    diameter_mm: float
    before: SphereMeasures | None
    after: SphereMeasures | None


def add_sphere(input_node: slicer.vtkMRMLNode, diameter_mm: float) -> slicer.vtkMRMLMarkupsFiducialNode:
    """A sphere of a volume or sequence, which has no place yet: `place` lets the next click decide.

    A sphere of it that has got no place is used again.
    """
    target = input_node.GetScene()
    node = next((each for each in all_spheres(input_node) if not _has_place(each)), None)
    if node is None:
        number = len(all_spheres(input_node)) + 1
        node = target.AddNewNodeByClass(_CLASS, unique_name(target, f"Sphere {number}"))
        node.SetMaximumNumberOfControlPoints(1)
        node.SetControlPointLabelFormat("%N")
        node.SetNodeReferenceID(_ROLE, input_node.GetID())
        node.CreateDefaultDisplayNodes()
        display = node.GetDisplayNode()
        display.SetGlyphType(display.Circle2D)
        display.SetUseGlyphScale(False)
        display.SetSelectedColor(*_COLOR)
        display.SetOpacity(_OPACITY)
        place_beside([node], input_node)
    set_diameter(node, diameter_mm)
    return node


def place(node: slicer.vtkMRMLMarkupsFiducialNode) -> None:
    """Let the next click in a view place a sphere; Escape and a right click leave it without a place."""
    markups = application_logic(node.GetScene()).GetModuleLogic("Markups")
    markups.SetActiveList(node)
    markups.StartPlaceMode(False)


def set_diameter(node: slicer.vtkMRMLMarkupsFiducialNode, diameter_mm: float) -> None:
    """Make a sphere smaller or larger."""
    node.SetAttribute(_DIAMETER, f"{diameter_mm:g}")
    node.GetDisplayNode().SetGlyphSize(diameter_mm)


def all_spheres(input_node: slicer.vtkMRMLNode | None) -> list[slicer.vtkMRMLMarkupsFiducialNode]:
    """The spheres of a volume or sequence, also those that have no place yet."""
    target = input_node and input_node.GetScene()
    if target is None:
        return []
    nodes = nodes_of_class(target, _CLASS)
    return [node for node in nodes if node.GetAttribute(_DIAMETER) and node.GetNodeReference(_ROLE) is input_node]


def spheres_of(input_node: slicer.vtkMRMLNode | None) -> list[slicer.vtkMRMLMarkupsFiducialNode]:
    """The spheres of a volume or sequence that have a place, in the order of the scene."""
    return [node for node in all_spheres(input_node) if _has_place(node)]


def remove_unplaced(input_node: slicer.vtkMRMLNode | None) -> None:
    """Take spheres out of the scene that nobody has placed, and let no click place one any more."""
    for node in all_spheres(input_node):
        if not _has_place(node):
            application_logic(node.GetScene()).GetInteractionNode().SwitchToViewTransformMode()
            node.GetScene().RemoveNode(node)


def measure(input_node: slicer.vtkMRMLNode, nodes: DenoisedNodes | None) -> list[Measured]:
    """Measure every sphere of a volume in it and in its result; of sequences, in the frame on display."""
    views = [_view(shown(input_node)), _view(shown(nodes.denoised)) if nodes else None]
    found = []
    for node in spheres_of(input_node):
        position, diameter_mm = np.zeros(3), float(node.GetAttribute(_DIAMETER))
        node.GetNthControlPointPositionWorld(0, position)
        center = position * (-1, -1, 1)
        measures = (None if view is None else measure_sphere(view, center, diameter_mm) for view in views)
        found.append(Measured(node, diameter_mm, *measures))
    return found


def _view(node: slicer.vtkMRMLScalarVolumeNode | None) -> Volume | None:
    with suppress(InputError):  # under a transform, empty, in colour: whoever chose it is told so elsewhere
        return node_view(node) if node else None
    return None


def _has_place(node) -> bool:
    return node.GetNumberOfDefinedControlPoints() > 0
