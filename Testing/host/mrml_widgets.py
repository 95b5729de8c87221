"""Slicer's widgets that hold others or choose nodes of the scene, and the list of all that a .ui file may use."""

from __future__ import annotations

import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Signal, Slot

from . import ctk_widgets, dialogs
from .observation import Observation
from .plot_view import qMRMLPlotView
from .stand_in import StandIn, WithScene, stored_property
from .table_view import qMRMLTableView


class qMRMLWidget(WithScene, QtWidgets.QWidget):
    """The usual outermost widget of a module's .ui file."""

    mrmlSceneChanged = Signal(object)


class qMRMLSortFilterProxyModel(StandIn, QtCore.QObject):
    """Which nodes a selector offers, beyond the selector's own properties."""

    def _filter_changed(self) -> None:
        self.parent()._update()

    hiddenNodeIDs = stored_property("QStringList", [], changed="_filter_changed")


class qMRMLNodeComboBox(StandIn, QtWidgets.QWidget):
    """Choose a node of the scene."""

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)
    nodeActivated = Signal(object)
    nodeAdded = Signal(object)
    nodeAddedByUser = Signal(object)
    nodeAddedByUserAction = Signal(object)
    nodeAboutToBeRemoved = Signal(object)
    nodeAboutToBeEdited = Signal(object)
    currentNodeRenamed = Signal(str)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._scene, self._observations, self._ids, self._current = None, [], [], ""
        self._requested = ""
        self._watched: dict[str, Observation] = {}
        self._filter = qMRMLSortFilterProxyModel(self)
        self._combo = ctk_widgets.ctkComboBox(self)
        box = QtWidgets.QHBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.addWidget(self._combo)
        self._combo.activated.connect(self._activated)
        self.setEnabled(False)

    nodeTypes = stored_property("QStringList", [], changed="_update")
    showHidden = stored_property(bool, False, changed="_update")
    showChildNodeTypes = stored_property(bool, True, changed="_update")
    hideChildNodeTypes = stored_property("QStringList", [], changed="_update")
    noneEnabled = stored_property(bool, False, changed="_update")
    addEnabled = stored_property(bool, True, changed="_update")
    removeEnabled = stored_property(bool, True, changed="_update")
    editEnabled = stored_property(bool, False, changed="_update")
    renameEnabled = stored_property(bool, False, changed="_update")
    selectNodeUponCreation = stored_property(bool, True)
    noneDisplay = stored_property(str, "None", changed="_update")
    baseName = stored_property(str, "")
    interactionNodeSingletonTag = stored_property(str, "")

    def _get_current_node_id(self) -> str:
        return self._current

    @Slot(str)
    def setCurrentNodeID(self, node_id: str) -> None:
        """Choose a node; an id that is not offered chooses nothing."""
        node_id = node_id or ""
        if self._scene is None:
            self._requested = node_id
            return
        self._choose(node_id if node_id in self._ids else "")

    currentNodeID = QtCore.Property(str, _get_current_node_id, setCurrentNodeID)

    def mrmlScene(self):
        """The scene, or None."""
        return self._scene

    def setMRMLScene(self, scene) -> None:
        """Slot: offer the nodes of a scene, those already there and those to come."""
        if scene is self._scene:
            return
        for observation in self._observations:
            observation.end()
        self._watch([])
        self._scene, self._observations = scene, []
        if scene is not None:
            self._observations = self._observe_scene()
        self.setEnabled(scene is not None)
        self._update()
        if self._requested:
            requested, self._requested = self._requested, ""
            self.setCurrentNodeID(requested)

    def currentNode(self):
        """The chosen node, or None."""
        return self._scene.GetNodeByID(self._current) if self._scene and self._current else None

    def setCurrentNode(self, node) -> None:
        """Slot: choose a node; None, or one that is not offered, chooses nothing."""
        self.setCurrentNodeID(node.GetID() if node else "")

    def nodeCount(self) -> int:
        """How many nodes are offered."""
        return len(self._ids)

    def nodeFromIndex(self, index: int):
        """An offered node, or None."""
        return self._scene.GetNodeByID(self._ids[index]) if 0 <= index < len(self._ids) else None

    def sortFilterProxyModel(self) -> qMRMLSortFilterProxyModel:
        return self._filter

    def nodeTypeLabel(self, node_type: str) -> str:
        known = self._scene.GetTypeDisplayNameByClassName(node_type) if self._scene else ""
        return known or "node"

    def addNode(self, node_type: str | None = None):
        """Slot: create a node of a class, by default the first one offered, and choose it."""
        types = self.property("nodeTypes")
        node_type = node_type or next(iter(types), None)
        if node_type not in types:
            return None
        name = self.property("baseName") or self.nodeTypeLabel(node_type)
        node = self._scene.AddNewNodeByClass(node_type, self._scene.GenerateUniqueName(name))
        self._update()
        if self.property("selectNodeUponCreation"):
            self.setCurrentNode(node)
        self.nodeAddedByUser.emit(node)
        return node

    @Slot()
    def removeCurrentNode(self) -> None:
        self._scene.RemoveNode(self.currentNode())

    @Slot()
    def editCurrentNode(self) -> None:
        self.nodeAboutToBeEdited.emit(self.currentNode())

    @Slot()
    def renameCurrentNode(self) -> None:
        node = self.currentNode()
        name = dialogs.QInputDialog.getText(self, "Rename", "New name:", None, node.GetName()) if node else ""
        if name:
            node.SetName(name)
            self.currentNodeRenamed.emit(name)

    def _nth_node(self, index: int):
        return self._scene.GetNthNode(index)

    def _is_of_type(self, node) -> bool:
        return any(node.IsA(each) for each in self.property("nodeTypes"))

    def _offers(self, node) -> bool:
        if node.GetID() in self._filter.property("hiddenNodeIDs"):
            return False
        if node.GetHideFromEditors() and not self.property("showHidden"):
            return False
        if any(node.IsA(each) for each in self.property("hideChildNodeTypes")):
            return False
        for node_type in self.property("nodeTypes"):
            derived = self.property("showChildNodeTypes") and node.IsA(node_type)
            if node.GetClassName() == node_type or derived:
                return True
        return False

    def _observe_scene(self) -> list[Observation]:
        events = slicer.vtkMRMLScene
        return [
            Observation(self, self._scene, events.NodeAddedEvent, self._node_added, with_node=True),
            Observation(self, self._scene, events.NodeAboutToBeRemovedEvent, self._node_leaves, with_node=True),
            Observation(self, self._scene, events.NodeRemovedEvent, self._node_removed, with_node=True),
            *(
                Observation(self, self._scene, event, self._update)
                for event in (
                    events.EndBatchProcessEvent,
                    events.EndImportEvent,
                    events.EndCloseEvent,
                    events.EndRestoreEvent,
                )
            ),
        ]

    def _node_removed(self, node) -> None:
        if self._is_of_type(node):
            self._update()

    def _node_added(self, node) -> None:
        if self._scene.IsBatchProcessing() or not self._is_of_type(node):
            return
        self._update()
        if self._offers(node):
            self.nodeAdded.emit(node)

    def _watch(self, nodes) -> None:
        """Follow names and attributes of nodes, and of no others."""
        wanted = {node.GetID(): node for node in nodes}
        for node_id in set(self._watched) - set(wanted):
            self._watched.pop(node_id).end()
        for node_id in set(wanted) - set(self._watched):
            node = wanted[node_id]
            self._watched[node_id] = Observation(
                self, node, vtk.vtkCommand.ModifiedEvent, lambda node=node: self._node_modified(node)
            )

    def _node_leaves(self, node) -> None:
        if not self._scene.IsBatchProcessing() and node.GetID() in self._ids:
            self.nodeAboutToBeRemoved.emit(node)

    def _node_modified(self, node) -> None:
        if self._scene is None or not node.GetScene() or self._scene.IsBatchProcessing():
            return
        offered = node.GetID() in self._ids
        if offered != self._offers(node) or (offered and node.GetName() not in self._texts()):
            self._update()

    def _texts(self) -> list[str]:
        return [self._combo.itemText(index) for index in range(self._combo.count())]

    def _update(self) -> None:
        """Offer what is in the scene now. A removed current node gives its place to the next one, as in a QComboBox."""
        before, place = self._current, self._ids.index(self._current) if self._current in self._ids else -1
        had_any = bool(self._ids)
        count = self._scene.GetNumberOfNodes() if self._scene is not None else 0
        types = self.property("nodeTypes")
        nodes = [node for node in map(self._nth_node, range(count)) if any(node.IsA(each) for each in types)]
        self._watch(nodes)
        nodes = [node for node in nodes if self._offers(node)]
        self._ids = [node.GetID() for node in nodes]
        self._fill(nodes)
        chosen = before
        if before not in self._ids:
            chosen = ""
            if place >= 0 and self._ids:
                chosen = self._ids[min(place, len(self._ids) - 1)]
            elif not had_any and self._ids and not self.property("noneEnabled"):
                chosen = self._ids[0]
        self._choose(chosen)

    def _fill(self, nodes) -> None:
        combo = self._combo
        combo.blockSignals(True)
        combo.clear()
        types = self.property("nodeTypes")
        label = self.nodeTypeLabel(types[0]) if len(types) == 1 else "node"
        combo.setProperty("defaultText", f"Select a {self.nodeTypeLabel(types[0]) if types else 'node'}")
        if self.property("noneEnabled"):
            combo.addItem(self.property("noneDisplay"), ("none", ""))
        for node in nodes:
            combo.addItem(node.GetName(), ("node", node.GetID()))
        actions = []
        if self._scene is not None:
            if self.property("renameEnabled"):
                actions.append((f"Rename current {label}", ("rename", "")))
            if self.property("editEnabled"):
                actions.append((f"Edit current {label}", ("edit", "")))
            if self.property("addEnabled"):
                actions += [(f"Create new {self.nodeTypeLabel(each)}", ("create", each)) for each in types]
            if self.property("removeEnabled"):
                actions.append((f"Delete current {label}", ("delete", "")))
        if actions:
            combo.insertSeparator(combo.count())
        for text, data in actions:
            combo.addItem(text, data)
        combo.blockSignals(False)

    def _show_current(self) -> None:
        shown = next(
            (n for n in range(self._combo.count()) if self._combo.itemData(n) == ("node", self._current)), None
        )
        if shown is None:
            shown = 0 if self.property("noneEnabled") else -1
        self._combo.setCurrentIndex(shown)

    def _choose(self, node_id: str) -> None:
        changed = node_id != self._current
        self._current = node_id
        self._show_current()
        if changed:
            self.currentNodeChanged.emit(self.currentNode())
            self.currentNodeIDChanged.emit(node_id)

    def _activated(self, index: int) -> None:
        kind, value = self._combo.itemData(index) or ("none", "")
        self._show_current()
        if kind in ("none", "node"):
            self._choose(value)
            self.nodeActivated.emit(self.currentNode())
        elif kind == "create":
            node = self.addNode(value)
            self.setCurrentNode(node)
            self.nodeAddedByUserAction.emit(node)
        else:
            {"rename": self.renameCurrentNode, "edit": self.editCurrentNode, "delete": self.removeCurrentNode}[kind]()


WIDGETS = {each.__name__: each for each in (qMRMLWidget, qMRMLNodeComboBox, qMRMLPlotView, qMRMLTableView)}
