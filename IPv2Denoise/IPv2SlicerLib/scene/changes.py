"""Changing the scene in one step that can be undone, and the place of nodes in the subject hierarchy.

Owns what every result in the scene needs: it appears complete or not at all, beside its source. What the nodes hold
is `denoised_nodes`'s and `stage_nodes`' matter.

Undo is off in Slicer unless somebody switches it on (`vtkMRMLScene.SetUndoOn`), and then covers the nodes that ask
for it. The nodes of a step ask for it; the switch is left alone.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import slicer
import vtk

from .volume_nodes import application_logic, nodes_of_class

# Node attribute that comes and goes with the content of a node, and so tells which of its places is the right one.
_PLACE = "IPv2Place"


@contextlib.contextmanager
def undoable_step(target: slicer.vtkMRMLScene, changed: Sequence[slicer.vtkMRMLNode | None] = ()) -> Iterator[None]:
    """One step of Undo; if anything fails inside, the scene is as before.

    Nodes that are added inside belong to the step: Undo removes them, and so does a failure. Undo and Redo also take
    nodes back to their places in the subject hierarchy, which Slicer leaves to the hierarchy, and that to nobody: a
    volume must not get the voxels of one patient back and stay in the study of another.

    Parameters
    ----------
    target : vtkMRMLScene
    changed : sequence of vtkMRMLNode or None
        Existing nodes that are changed inside. An image has to be replaced, not written into. If nodes are removed,
        that has to be the last thing inside, where nothing fails any more.
    """
    changed = [node for node in changed if node is not None]
    application_logic(target)  # what it adds to the scene, once, is no part of the step
    tree = subject_hierarchy(target)
    nodes_before, items_before = set(_node_ids(target)), set(_items(tree))
    copies = [(node, _shallow_copy(node), _place_of(tree, node)) for node in changed]
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
        for node, copy, place in copies:
            _restore(node, copy)
            _put(tree, node, place)
        if saves_state:
            target.Undo()
            target.ClearRedoStack()
        raise
    added = [target.GetNodeByID(node_id) for node_id in _node_ids(target) if node_id not in nodes_before]
    for node in added:
        node.SetUndoEnabled(True)
    if saves_state:
        places = _places_of(target)
        for node, copy, place in copies:
            places.known[node.GetID(), copy.GetAttribute(_PLACE)] = place
        for node in [*changed, *added]:
            if node.GetScene() is not None and tree.GetItemByDataNode(node):
                node.SetAttribute(_PLACE, uuid.uuid4().hex)
                places.known[node.GetID(), node.GetAttribute(_PLACE)] = _place_of(tree, node)


def remove_whole(node: slicer.vtkMRMLNode) -> None:
    """Take a node out of its scene with what shows it, its colour legend included, and what stores it."""
    target = node.GetScene()
    belongings = []
    if node.IsA("vtkMRMLDisplayableNode"):
        belongings += [node.GetNthDisplayNode(number) for number in range(node.GetNumberOfDisplayNodes())]
    if node.IsA("vtkMRMLStorableNode"):
        belongings += [node.GetNthStorageNode(number) for number in range(node.GetNumberOfStorageNodes())]
    for each in (node, *belongings):
        if each is not None and target.IsNodePresent(each):  # a display node may go with its volume
            target.RemoveNode(each)


def subject_hierarchy(target: slicer.vtkMRMLScene) -> slicer.vtkMRMLSubjectHierarchyNode:
    """The one subject hierarchy of a scene, made where it is missing."""
    return slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(target)


def place_beside(nodes: Sequence[slicer.vtkMRMLNode], source: slicer.vtkMRMLNode) -> None:
    """Put nodes under the study or folder that holds `source`, or at the top if it has no place.

    Wherever they were before; of the DICOM series that they were once, nothing is left there.
    """
    parent = parent_of(source)
    tree = subject_hierarchy(source.GetScene())
    for node in nodes:
        # Moves the item that Slicer made when the node was added.
        _forget_dicom(tree, tree.CreateItem(parent, node))


def parent_of(source: slicer.vtkMRMLNode) -> int:
    """The item of the subject hierarchy that holds `source`: its top if `source` has no place."""
    tree = subject_hierarchy(source.GetScene())
    item = tree.GetItemByDataNode(source)
    parent = tree.GetInvalidItemID() if item == tree.GetInvalidItemID() else tree.GetItemParent(item)
    return tree.GetSceneItemID() if parent == tree.GetInvalidItemID() else parent


def unique_name(target: slicer.vtkMRMLScene, name: str, node: slicer.vtkMRMLNode | None = None) -> str:
    """The name, or with the next free number if a node has it already; `node`, which it is for, may have it."""
    return name if target.GetFirstNodeByName(name) in (None, node) else target.GenerateUniqueName(name)


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


# --- places in the subject hierarchy ------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Where a node is in the subject hierarchy, and what Slicer's DICOM modules know it for."""

    parent: int
    uids: dict[str, str]
    attributes: dict[str, str]


@dataclass
class _Places:
    """The places that nodes of a scene had, by node and what its attribute says; follows Undo and Redo."""

    known: dict[tuple[str, str | None], _Place | None] = field(default_factory=dict)

    def put_back(self, target: slicer.vtkMRMLScene, event: str) -> None:
        tree = subject_hierarchy(target)
        for (node_id, which), place in self.known.items():
            node = target.GetNodeByID(node_id)
            if node is not None and node.GetAttribute(_PLACE) == which:
                _put(tree, node, place)


_known_places: dict[slicer.vtkMRMLScene, _Places] = {}


def _places_of(target: slicer.vtkMRMLScene) -> _Places:
    if target not in _known_places:
        places = _known_places[target] = _Places()
        for event in (target.EndUndoEvent, target.EndRedoEvent):
            target.AddObserver(event, places.put_back)
        target.AddObserver(target.EndCloseEvent, lambda *_: places.known.clear())
    return _known_places[target]


def _place_of(tree, node: slicer.vtkMRMLNode) -> _Place | None:
    item = tree.GetItemByDataNode(node)
    if not item:
        return None
    return _Place(
        tree.GetItemParent(item),
        {name: tree.GetItemUID(item, name) for name in tree.GetItemUIDNames(item)},
        {name: tree.GetItemAttribute(item, name) for name in tree.GetItemAttributeNames(item)},
    )


def _put(tree, node: slicer.vtkMRMLNode, place: _Place | None) -> None:
    """Take a node to a place, if that is still there; None is no place."""
    if place is None:
        if item := tree.GetItemByDataNode(node):
            tree.RemoveItem(item, False, False)
        return
    if place.parent not in (tree.GetSceneItemID(), *_items(tree)):
        return
    item = tree.CreateItem(place.parent, node)
    _forget_dicom(tree, item)
    for name, value in place.uids.items():
        tree.SetItemUID(item, name, value)
    for name, value in place.attributes.items():
        tree.SetItemAttribute(item, name, value)


def _forget_dicom(tree, item: int) -> None:
    for name in tree.GetItemUIDNames(item):
        tree.RemoveItemUID(item, name)
    for name in tree.GetItemAttributeNames(item):
        if name.startswith("DICOM."):
            tree.RemoveItemAttribute(item, name)
