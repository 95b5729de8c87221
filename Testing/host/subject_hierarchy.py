"""The subject hierarchy: items for data nodes, which in Slicer plugins written with Qt make, and scripted plugins."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import slicer
import vtk
from PySide6 import QtCore, QtGui

from .errors import HostError
from .stand_in import StandIn, stored_property

_DATA = (
    "vtkMRMLVolumeNode", "vtkMRMLModelNode", "vtkMRMLTransformNode", "vtkMRMLTableNode", "vtkMRMLTextNode",
    "vtkMRMLSequenceNode", "vtkMRMLSequenceBrowserNode", "vtkMRMLSegmentationNode", "vtkMRMLMarkupsNode",
    "vtkMRMLPlotChartNode",
)  # fmt: skip


class SubjectHierarchy:
    """Observes a scene."""

    def __init__(self, scene):
        self._scene = scene
        self._tags = [
            scene.AddObserver(slicer.vtkMRMLScene.NodeAddedEvent, _with_node(self._added)),
            scene.AddObserver(slicer.vtkMRMLScene.NodeAboutToBeRemovedEvent, _with_node(self._about_to_be_removed)),
            scene.AddObserver(slicer.vtkMRMLScene.EndImportEvent, lambda *_: self._add_missing()),
            scene.AddObserver(slicer.vtkMRMLScene.EndCloseEvent, lambda *_: self._node()),
        ]
        self._node()

    def close(self) -> None:
        """Stop observing."""
        for tag in self._tags:
            self._scene.RemoveObserver(tag)

    def _node(self):
        return slicer.vtkMRMLSubjectHierarchyNode.ResolveSubjectHierarchy(self._scene)

    def _added(self, node) -> None:
        if node.IsA("vtkMRMLSubjectHierarchyNode"):
            self._node()
        elif not self._scene.IsImporting():
            self._add(node)

    def _add(self, node) -> None:
        if node.GetHideFromEditors() or not any(node.IsA(each) for each in _DATA):
            return
        hierarchy = self._node()
        if not hierarchy.GetItemByDataNode(node):
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    def _add_missing(self) -> None:
        self._node()
        for index in range(self._scene.GetNumberOfNodes()):
            self._add(self._scene.GetNthNode(index))

    def _about_to_be_removed(self, node) -> None:
        if self._scene.IsClosing() or node.IsA("vtkMRMLSubjectHierarchyNode"):
            return
        hierarchy = self._node()
        item = hierarchy.GetItemByDataNode(node)
        if item:
            hierarchy.RemoveItem(item, False, False)


class qSlicerSubjectHierarchyPluginHandler:
    """Knows the registered plugins and the item that the user clicked."""

    _instance: qSlicerSubjectHierarchyPluginHandler | None = None

    def __init__(self):
        self._plugins, self._item = [], 0

    @staticmethod
    def instance() -> qSlicerSubjectHierarchyPluginHandler:
        if qSlicerSubjectHierarchyPluginHandler._instance is None:
            qSlicerSubjectHierarchyPluginHandler._instance = qSlicerSubjectHierarchyPluginHandler()
        return qSlicerSubjectHierarchyPluginHandler._instance

    def registerPlugin(self, plugin) -> bool:
        """Add a plugin; one whose name is taken is refused."""
        if self.pluginByName(plugin.name) is not None:
            return False
        self._plugins.append(plugin)
        return True

    def registeredPlugins(self) -> list:
        return list(self._plugins)

    def pluginByName(self, name: str):
        return next((plugin for plugin in self._plugins if plugin.name == name), None)

    def subjectHierarchyNode(self):
        return slicer.mrmlScene.GetSubjectHierarchyNode()

    def mrmlScene(self):
        return slicer.mrmlScene

    def currentItem(self) -> int:
        return self._item

    def setCurrentItem(self, item: int) -> None:
        self._item = item


class qSlicerSubjectHierarchyScriptedPlugin(StandIn, QtCore.QObject):
    """Holds a plugin written in Python."""

    name = stored_property(str, "UnnamedScriptedPlugin")

    def __init__(self, parent=None):
        super().__init__(parent)
        self._source, self._python = "", None

    def self(self):
        """The Python object."""
        return self._python

    def setPythonSource(self, path: str) -> bool:
        """Make an object of the class `<file name>`, which ends in SubjectHierarchyPlugin, from a file."""
        file = Path(path)
        if file.suffix != ".py":
            return False
        class_name = file.stem if file.stem.endswith("SubjectHierarchyPlugin") else f"{file.stem}SubjectHierarchyPlugin"
        module = sys.modules.get(file.stem)
        if not hasattr(module, class_name):
            spec = importlib.util.spec_from_file_location(file.stem, file)
            module = sys.modules[file.stem] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        if not hasattr(module, class_name):
            raise HostError(f"class {class_name} was not found in {path}")
        self._python, self._source = getattr(module, class_name)(self), path
        return True


class AbstractScriptedSubjectHierarchyPlugin:
    """Base of a plugin written in Python: registers it."""

    def __init__(self, scriptedPlugin):
        self.scriptedPlugin = scriptedPlugin
        qSlicerSubjectHierarchyPluginHandler.instance().registerPlugin(scriptedPlugin)


def context_menu(node) -> dict[str, QtGui.QAction]:
    """What a right click on a node in the module Data offers from scripted plugins: text to action."""
    handler = qSlicerSubjectHierarchyPluginHandler.instance()
    item = handler.subjectHierarchyNode().GetItemByDataNode(node)
    if not item:
        raise HostError(f"'{node.GetName()}' has no item in the subject hierarchy")
    handler.setCurrentItem(item)
    actions = {}
    for plugin in handler.registeredPlugins():
        offered = plugin.self().itemContextMenuActions()
        for action in offered:
            action.setVisible(False)
        plugin.self().showContextMenuActionsForItem(item)
        actions.update({action.text(): action for action in offered if action.isVisible()})
    return actions


def make_modules() -> dict[str, ModuleType]:
    """The package that plugins import their base class from.

    The module AbstractScriptedSubjectHierarchyPlugin, which is in it, can be imported by itself in Slicer only once
    somebody has imported the package.
    """
    package = ModuleType("SubjectHierarchyPlugins", "Base of scripted subject hierarchy plugins.")
    package.AbstractScriptedSubjectHierarchyPlugin = AbstractScriptedSubjectHierarchyPlugin
    return {package.__name__: package}


def _with_node(method):
    @vtk.calldata_type(vtk.VTK_OBJECT)
    def call(_caller, _event, node):
        method(node)

    return call
