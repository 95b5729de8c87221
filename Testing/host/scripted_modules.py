"""Module `slicer.ScriptedLoadableModule` and the objects through which Slicer holds a scripted module."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
import unittest
from pathlib import Path
from types import ModuleType

import slicer
import slicer.util
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Signal

from . import ctk_widgets
from .errors import HostError
from .stand_in import StandIn, stored_property


class ScriptedLoadableModule:
    """Base of a module's class: what Slicer shows about it."""

    def __init__(self, parent):
        super().__init__()
        self.parent = parent
        self.moduleName = type(self).__name__
        parent.title = ""
        parent.categories = []
        parent.dependencies = []
        parent.contributors = []
        parent.helpText = ""
        parent.acknowledgementText = ""
        for extension in (".svg", ".png"):
            icon = Path(parent.path).parent / "Resources" / "Icons" / (self.moduleName + extension)
            if icon.is_file():
                parent.icon = QtGui.QIcon(str(icon))
                break
        if not hasattr(slicer, "selfTests"):
            slicer.selfTests = {}
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, filename):
        """Path in the module's folder Resources."""
        return str(Path(self.parent.path).parent / "Resources" / filename)

    def runTest(self, msec=100, **kwargs):
        """Run the class `<Module>Test`."""
        module = importlib.import_module(self.__module__)
        name = f"{self.moduleName}Test"
        if not hasattr(module, name):
            raise AssertionError(f"Test case class not found: {self.__module__}.{name}")
        test = getattr(module, name)()
        test.messageDelay = msec
        test.runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """Base of a module's user interface. In developer mode it starts with the section "Reload & Test"."""

    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = slicer.util.settingsValue("Developer/DeveloperMode", False, converter=slicer.util.toBool)
        if parent is None:
            self.parent = slicer.qMRMLWidget()
            self.parent.setLayout(QtWidgets.QVBoxLayout())
            self.parent.setMRMLScene(slicer.mrmlScene)
        else:
            self.parent = parent
        self.layout = self.parent.layout()
        if parent is None:
            self.setup()
            self.parent.show()
        slicer.app.moduleManager().moduleAboutToBeUnloaded.connect(self._onModuleAboutToBeUnloaded)

    def resourcePath(self, filename):
        """Path in the module's folder Resources."""
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / filename)

    def setup(self):
        """Build the user interface; a module calls this first in its own."""
        self.setupDeveloperSection()

    def cleanup(self):
        """Called before the module is reloaded or Slicer ends."""

    def _onModuleAboutToBeUnloaded(self, moduleName):
        if moduleName == self.moduleName:
            self.cleanup()
            slicer.app.moduleManager().moduleAboutToBeUnloaded.disconnect(self._onModuleAboutToBeUnloaded)

    def setupDeveloperSection(self):
        """The buttons Reload, Reload and Test, Edit, Edit UI and Restart Slicer, in developer mode."""
        if not self.developerMode:
            return
        self.reloadCollapsibleButton = ctk_widgets.ctkCollapsibleButton("Reload && Test")
        self.layout.addWidget(self.reloadCollapsibleButton)
        form = QtWidgets.QFormLayout(self.reloadCollapsibleButton)
        self.reloadButton = QtWidgets.QPushButton("Reload")
        self.reloadTestMenuButton = QtWidgets.QToolButton()
        self.testAction = QtGui.QAction("Test")
        self.reloadTestAction = QtGui.QAction("Reload and Test")
        self.reloadTestMenuButton.setDefaultAction(self.reloadTestAction)
        self.editSourceButton = QtWidgets.QPushButton("Edit")
        self.restartButton = QtWidgets.QPushButton("Restart Slicer")
        rows = [[self.reloadButton, self.reloadTestMenuButton, self.restartButton], [self.editSourceButton]]
        if Path(self.resourcePath(f"UI/{self.moduleName}.ui")).is_file():
            self.editModuleUiButton = QtWidgets.QPushButton("Edit UI")
            rows[1].append(self.editModuleUiButton)
        for buttons in rows:
            row = QtWidgets.QHBoxLayout()
            for button in buttons:
                row.addWidget(button)
            form.addRow(row)
        self.reloadButton.clicked.connect(lambda: self.onReload())
        self.testAction.triggered.connect(lambda: self.onTest())
        self.reloadTestAction.triggered.connect(lambda: self.onReloadAndTest())
        self.editSourceButton.clicked.connect(lambda: self.onEditSource())
        self.restartButton.clicked.connect(lambda: slicer.app.restart())

    def onReload(self):
        """Reload the module's file and build its user interface anew."""
        slicer.util.reloadScriptedModule(self.moduleName)

    def onTest(self, **kwargs):
        """Run the self-test."""
        with slicer.util.tryWithErrorDisplay("Test failed."):
            slicer.selfTests[self.moduleName](msec=0, **kwargs)

    def onReloadAndTest(self, **kwargs):
        """Reload, then run the self-test."""
        with slicer.util.tryWithErrorDisplay("Reload and Test failed."):
            self.onReload()
            slicer.selfTests[self.moduleName](msec=0, **kwargs)

    def onEditSource(self):
        raise HostError("the stand-in opens no editor")


class ScriptedLoadableModuleLogic:
    """Base of a module's logic: knows the node that keeps the module's parameters."""

    def __init__(self, parent=None):
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self):
        """The module's parameter node, made where there is none."""
        if self.isSingletonParameterNode:
            node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
            if node:
                # Closing the scene may have removed the attribute.
                if node.GetAttribute("ModuleName") != self.moduleName:
                    node.SetAttribute("ModuleName", self.moduleName)
                return node
        else:
            nodes = self.getAllParameterNodes()
            if nodes:
                return nodes[0]
        return slicer.mrmlScene.AddNode(self.createParameterNode())

    def getAllParameterNodes(self):
        """Every parameter node of this module."""
        nodes = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
        return [node for node in nodes if node.GetAttribute("ModuleName") == self.moduleName]

    def createParameterNode(self):
        """A new parameter node, not yet in the scene."""
        node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
        node.UnRegister(None)
        if self.isSingletonParameterNode:
            node.SetSingletonTag(self.moduleName)
        node.SetAttribute("ModuleName", self.moduleName)
        node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """Base of a module's self-test. `runTest` runs every method with "test" in its name, or `moduleTestNames`."""

    def __init__(self, *args, **kwargs):
        self.moduleTestNames = []
        super().__init__(*args, **kwargs)
        if not self.moduleTestNames:
            self.moduleTestNames = [name for name in dir(self) if "test" in name and callable(getattr(self, name))]

    def delayDisplay(self, message, requestedDelay=None, msec=None):
        """Say something and let the application catch up."""
        if hasattr(self, "messageDelay"):
            msec = self.messageDelay
        slicer.util.delayDisplay(message, next((each for each in (msec, requestedDelay) if each is not None), 100))

    def runTest(self):
        """Run the tests in alphabetical order, each between setUp and tearDown."""
        if not self.moduleTestNames:
            logging.warning("No test is defined in %s", type(self).__name__)
            return
        self.setUpClass()
        for name in self.moduleTestNames:
            self.setUp()
            logging.info("Running %s", name)
            getattr(self, name)()
            self.tearDown()
        self.tearDownClass()


class qSlicerScriptedLoadableModuleWidget(StandIn, QtWidgets.QWidget):
    """The widget in which a scripted module builds its user interface; the module sees it as `parent`."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, source: str):
        super().__init__()
        QtWidgets.QVBoxLayout(self).setContentsMargins(0, 0, 0, 0)
        self._source, self._python, self._scene, self._entered = source, None, slicer.mrmlScene, False
        self._instantiate()

    @property
    def moduleName(self) -> str:
        return Path(self._source).stem

    def self(self):
        """The Python object."""
        return self._python

    def reload(self) -> None:
        """Build the user interface from the class that `sys.modules` has now."""
        self._instantiate()
        self._python.setup()

    def enter(self) -> None:
        self._entered = True
        self._call("enter")

    def exit(self) -> None:
        self._entered = False
        self._call("exit")

    @property
    def isEntered(self) -> bool:
        return self._entered

    def setEditedNode(self, node, role: str = "", context: str = "") -> bool:
        """Slicer asks to edit a node here, as after a right click on it."""
        return self._call("setEditedNode", node, role, context) or False

    def nodeEditable(self, node) -> float:
        """How sure the module is that it edits a node."""
        result = self._call("nodeEditable", node)
        return result if isinstance(result, float) else 0.0

    def mrmlScene(self):
        return self._scene

    def setMRMLScene(self, scene) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)

    def _call(self, name: str, *arguments):
        method = getattr(self._python, name, None)
        return method(*arguments) if method else None

    def _instantiate(self) -> None:
        name = f"{self.moduleName}Widget"
        self._python = getattr(sys.modules[self.moduleName], name)(self)
        setattr(slicer.modules, name, self._python)


class qSlicerScriptedLoadableModule(StandIn, QtCore.QObject):
    """What Slicer knows about a scripted module; the module sees it as `parent`, the user as `slicer.modules.name`."""

    title = stored_property(str, "")
    categories = stored_property("QStringList", [])
    contributors = stored_property("QStringList", [])
    dependencies = stored_property("QStringList", [])
    associatedNodeTypes = stored_property("QStringList", [])
    helpText = stored_property(str, "")
    acknowledgementText = stored_property(str, "")
    hidden = stored_property(bool, False)
    index = stored_property(int, -1)
    icon = stored_property(QtGui.QIcon, QtGui.QIcon())
    widgetRepresentationCreationEnabled = stored_property(bool, True)

    def __init__(self, path: Path):
        super().__init__()
        self._path, self._widget = path, None
        source = _load(path)
        if not hasattr(source, self.name):
            raise HostError(f"class {self.name} was not found in {path}")
        setattr(slicer.modules, f"{self.name}Instance", getattr(source, self.name)(self))
        setattr(slicer.modules, self.name.lower(), self)
        self.widgetRepresentationCreationEnabled = hasattr(source, f"{self.name}Widget")

    @property
    def name(self) -> str:
        return self._path.stem

    @property
    def path(self) -> str:
        return str(self._path)

    def logic(self):
        """As in Slicer not the Python logic, but an empty C++ one: use `slicer.util.getModuleLogic`."""
        return slicer.vtkSlicerScriptedLoadableModuleLogic()

    def mrmlScene(self):
        return slicer.mrmlScene

    def widgetRepresentation(self):
        """The module's widget, made and set up on the first call."""
        if self._widget is None and self.widgetRepresentationCreationEnabled:
            self._widget = qSlicerScriptedLoadableModuleWidget(self.path)
            self._widget.self().setup()
        return self._widget


class ModuleManager(QtCore.QObject):
    """The loaded modules."""

    moduleLoaded = Signal(str)
    moduleAboutToBeUnloaded = Signal(str)

    def __init__(self):
        super().__init__()
        self._modules: dict[str, object] = {}

    def connect(self, signal: str, function) -> None:
        """`manager.connect("moduleLoaded(QString)", function)`, as Slicer's own Python files write it."""
        getattr(self, signal.partition("(")[0]).connect(function)

    def disconnect(self, signal: str, function) -> None:
        """Undo `connect`."""
        getattr(self, signal.partition("(")[0]).disconnect(function)

    def modulesNames(self) -> list[str]:
        return list(self._modules)

    def module(self, name: str):
        """A module by its name, or None."""
        return self._modules.get(name)

    def _add(self, name: str, module) -> None:
        self._modules[name] = module
        self.moduleLoaded.emit(name)


class Modules:
    """`slicer.modules`: modules by their name in small letters."""

    def __getattr__(self, name: str):
        raise AttributeError(f"slicer.modules has no '{name}': no such module is loaded in the stand-in")


def _load(path: Path) -> ModuleType:
    """Import a module's file under its own name, its folder on the search path, as Slicer does."""
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def make_module() -> ModuleType:
    """Module `slicer.ScriptedLoadableModule`."""
    module = ModuleType("slicer.ScriptedLoadableModule", "Base classes of a scripted module.")
    bases = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    )
    for base in bases:
        setattr(module, base.__name__, base)
    module.__all__ = [base.__name__ for base in bases]
    return module
