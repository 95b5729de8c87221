"""Changing the scene in one step that can be undone, and the place of nodes in the subject hierarchy.

Owns what every result in the scene needs: it appears complete or not at all, beside its source. What the nodes hold
is `scene_denoised`'s and `scene_stages`' matter.

Undo is off in Slicer unless somebody switches it on (`vtkMRMLScene.SetUndoOn`), and then covers the nodes that ask
for it. The nodes of a step ask for it; the switch is left alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import slicer
import vtk

from .scene import application_logic, nodes_of_class


@contextlib.contextmanager
def undoable_step(target: slicer.vtkMRMLScene, changed: Sequence[slicer.vtkMRMLNode | None] = ()) -> Iterator[None]:
    """One step of Undo; if anything fails inside, the scene is as before.

    Nodes that are added inside belong to the step: Undo removes them, and so does a failure.

    Parameters
    ----------
    target : vtkMRMLScene
    changed : sequence of vtkMRMLNode or None
        Existing nodes that are changed inside. An image has to be replaced, not written into.
    """
    changed = [node for node in changed if node is not None]
    application_logic(target)  # what it adds to the scene, once, is no part of the step
    tree = subject_hierarchy(target)
    nodes_before, items_before = set(_node_ids(target)), set(_items(tree))
    copies = [(node, _shallow_copy(node)) for node in changed]
    saves_state = target.GetUndoFlag() and not target.IsUndoing() and not target.IsBatchProcessing()
    _save_state(target, changed)
    try:
        yield
    except BaseException:
        for node_id in reversed([each for each in _node_ids(target) if each not in nodes_before]):
            node = target.GetNodeByID(node_id)
            if node is not None:  # a display node may have gone with its volume
                target.RemoveNode(node)
        for item in set(_items(tree)) - items_before:
            tree.RemoveItem(item, False, False)
        for node, copy in copies:
            _restore(node, copy)
        if saves_state:
            target.Undo()
            target.ClearRedoStack()
        raise
    for node_id in _node_ids(target):
        if node_id not in nodes_before:
            target.GetNodeByID(node_id).SetUndoEnabled(True)


def subject_hierarchy(target: slicer.vtkMRMLScene) -> slicer.vtkMRMLSubjectHierarchyNode:
    """The one subject hierarchy of a scene, made where it is missing."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(target)


def place_beside(nodes: Sequence[slicer.vtkMRMLNode], source: slicer.vtkMRMLNode) -> None:
    """Put nodes under the study or folder that holds `source`, or at the top if it has no place."""
    parent = parent_of(source)
    for node in nodes:
        # Moves the item that Slicer made when the node was added.
        subject_hierarchy(source.GetScene()).CreateItem(parent, node)


def parent_of(source: slicer.vtkMRMLNode) -> int:
    """The item of the subject hierarchy that holds `source`: its top if `source` has no place."""
    tree = subject_hierarchy(source.GetScene())
    item = tree.GetItemByDataNode(source)
    parent = tree.GetInvalidItemID() if item == tree.GetInvalidItemID() else tree.GetItemParent(item)
    return tree.GetSceneItemID() if parent == tree.GetInvalidItemID() else parent


def unique_name(target: slicer.vtkMRMLScene, name: str) -> str:
    """The name, or with the next free number if a node has it already."""
    return name if target.GetFirstNodeByName(name) is None else target.GenerateUniqueName(name)


def _node_ids(target: slicer.vtkMRMLScene) -> list[str]:
    return [node.GetID() for node in nodes_of_class(target, "vtkMRMLNode")]


def _items(tree: slicer.vtkMRMLSubjectHierarchyNode) -> list[int]:
    items = vtk.vtkIdList()
    tree.GetItemChildren(tree.GetSceneItemID(), items, True)
    return [items.GetId(index) for index in range(items.GetNumberOfIds())]


def _save_state(target: slicer.vtkMRMLScene, changed: Sequence[slicer.vtkMRMLNode]) -> None:
    # Only these are copied: without an argument every node would be, images included.
    collection = vtk.vtkCollection()
    for node in changed:
        node.SetUndoEnabled(True)
        collection.AddItem(node)
    target.SaveStateForUndo(collection)


def _shallow_copy(node: slicer.vtkMRMLNode) -> slicer.vtkMRMLNode:
    copy = node.NewInstance()
    copy.CopyContent(node, False)
    copy.SetName(node.GetName())
    copy.SetScene(node.GetScene())
    copy.CopyReferences(node)
    return copy


def _restore(node: slicer.vtkMRMLNode, copy: slicer.vtkMRMLNode) -> None:
    node.CopyContent(copy, False)
    node.SetName(copy.GetName())
    node.CopyReferences(copy)
