"""A small scripted module after Slicer's template, for the tests of the stand-in."""

import enum
from pathlib import Path
from typing import Annotated, Optional

import qt
import slicer
import vtk
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

VERSION = 1
calls = []  # what Slicer called


class Side(enum.Enum):
    LEFT = 1
    RIGHT = 2

    def label(self) -> str:
        return self.name.title()


class HostExample(ScriptedLoadableModule):
    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("Host Example")
        self.parent.categories = ["Examples"]
        self.parent.helpText = _("Helps.")
        slicer.app.startupCompleted.connect(lambda: calls.append("startupCompleted"))


@parameterNodeWrapper
class HostExampleParameterNode:
    inputVolume: Optional[vtkMRMLScalarVolumeNode]  # noqa: UP045 (Slicer 5.10 knows no other)
    strength: Annotated[float, WithinRange(0, 100)] = 50.0
    rounds: Annotated[int, WithinRange(1, 9)] = 3
    careful: bool = True
    title: str = "none"
    method: Annotated[str, Choice(["fast", "slow"])] = "slow"
    side: Side = Side.RIGHT
    folder: Path = Path("somewhere")
    marks: list[int]


class HostExampleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self._parameterNode, self._guiTag = None, None
        self.clicks = 0

    def setup(self):
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/HostExample.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = HostExampleLogic()
        self.ui.applyButton.clicked.connect(self.onApply)
        self.shortcut = qt.QShortcut(qt.QKeySequence("Ctrl+Shift+R"), slicer.util.mainWindow())
        self.shortcut.activated.connect(self.onApply)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndClose)
        self.connectParameters()
        calls.append("setup")

    def cleanup(self):
        calls.append("cleanup")
        self.removeObservers()
        self.shortcut.activated.disconnect(self.onApply)

    def enter(self):
        calls.append("enter")
        self.connectParameters()

    def exit(self):
        calls.append("exit")

    def onSceneStartClose(self, caller, event):
        calls.append("StartCloseEvent")
        self._parameterNode.disconnectGui(self._guiTag)

    def onSceneEndClose(self, caller, event):
        calls.append("EndCloseEvent")
        self.connectParameters()

    def connectParameters(self):
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._guiTag)
        self._parameterNode = self.logic.getParameterNode()
        self._guiTag = self._parameterNode.connectGui(self.ui)

    def onApply(self):
        self.clicks += 1

    def onWrong(self):
        raise ValueError("from a slot")


class HostExampleLogic(ScriptedLoadableModuleLogic):
    def getParameterNode(self):
        return HostExampleParameterNode(super().getParameterNode())


class HostExampleTest(ScriptedLoadableModuleTest):
    def setUp(self):
        slicer.mrmlScene.Clear()
        self.observed = []
        slicer.mrmlScene.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: None)

    def test_second(self):
        self.delayDisplay("second")
        calls.append("test_second")

    def test_first(self):
        calls.append("test_first")
        self.assertEqual(slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode"), 0)
