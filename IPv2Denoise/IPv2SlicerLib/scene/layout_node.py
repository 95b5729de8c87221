"""The layout of views that was there before one of ours, and the way back to it.

Owns which one that was: an attribute of the layout node, so that it is saved with the scene.
"""

from __future__ import annotations

import slicer

from .layouts import is_ours

_BEFORE = "IPv2LayoutBefore"


def layout_node(target: slicer.vtkMRMLScene) -> slicer.vtkMRMLLayoutNode | None:
    """What says which views are shown; None without views."""
    return target.GetFirstNodeByClass("vtkMRMLLayoutNode")


def remember_layout(target: slicer.vtkMRMLScene) -> None:
    """Keep the layout that is shown now as the one to go back to, unless it is one of ours."""
    node = layout_node(target)
    if node is not None and not is_ours(node.GetViewArrangement()):
        node.SetAttribute(_BEFORE, str(node.GetViewArrangement()))


def layout_before(target: slicer.vtkMRMLScene) -> int | None:
    """The view arrangement that `restore_layout` goes back to; None unless one of our layouts is shown.

    Where it is not known, as in a scene that an older version saved, it is Slicer's own default.
    """
    node = layout_node(target)
    if node is None or not is_ours(node.GetViewArrangement()):
        return None
    before = int(node.GetAttribute(_BEFORE) or node.SlicerLayoutFourUpView)
    return before if node.IsLayoutDescription(before) else node.SlicerLayoutFourUpView


def restore_layout(target: slicer.vtkMRMLScene) -> None:
    """Show the layout that was there before ours; nothing happens if none of ours is shown."""
    before = layout_before(target)
    if before is not None:
        layout_node(target).SetViewArrangement(before)
