"""The panel of a module in sections: what the widget classes of both modules have in common.

Owns when the sections hear of the parameter node, of jobs, and of the scene. What a section shows is its own matter.
"""

import sys
from collections.abc import Sequence

import slicer
import vtk
from slicer.ScriptedLoadableModule import ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

from .LayoutRow import LayoutRow
from .Options import connectOptions
from .Section import Section
from .Style import followStyle


class PanelWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """Loads the module's .ui file and gives its sections the parameter node and the jobs' news.

    Attributes
    ----------
    LIBRARIES : tuple of str
        Packages that a developer's reload reloads with the module.
    OPTIONS : tuple of type
        Dataclasses of options that widgets of the panel show, see `Options.withOptions`.
    logic
        None until `setup`, which subclasses complete with `begin`.
    """

    OPTIONS: tuple[type, ...] = ()
    LIBRARIES = ("IPv2Lib", "IPv2SlicerLib")

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._sections: Sequence[Section] = ()
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    def setup(self) -> None:
        """Called when the user opens the module the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath(f"UI/{self.moduleName}.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        connectOptions(self.ui, *self.OPTIONS)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self._layoutRow = LayoutRow()
        self.layout.addWidget(self._layoutRow.widget)

    def begin(self, sections: Sequence[Section]) -> None:
        """Called at the end of a subclass's `setup`, when its logic and sections are there."""
        self._sections = sections
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(scene, scene.EndCloseEvent, self.onSceneEnd)
        self.addObserver(scene, scene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(scene, scene.EndImportEvent, self.onSceneEnd)
        layoutNode = scene.GetFirstNodeByClass("vtkMRMLLayoutNode")
        if layoutNode:  # not in Slicer without a main window
            self.addObserver(layoutNode, vtk.vtkCommand.ModifiedEvent, self._layoutChanged)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Called when the application closes or the module is reloaded: ends what is running."""
        if self.logic is None:  # `setup` failed
            return
        self.logic.close()
        for section in self._sections:
            section.cleanup()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self) -> None:
        """Called each time the user opens this module."""
        self.initializeParameterNode()
        self._layoutRow.update()
        for section in self._sections:
            section.enter()

    def exit(self) -> None:
        """Called each time the user opens a different module; what is running goes on."""
        for section in self._sections:
            section.exit()
        self._layoutRow.exit()
        self.setParameterNode(None)

    def onReload(self) -> None:
        """Developer's button: reload the library as well."""
        for name in list(sys.modules):
            if name.partition(".")[0] in (f"{self.moduleName}Lib", *self.LIBRARIES):
                del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event) -> None:
        """Called just before the scene is closed."""
        self.setParameterNode(None)

    def onSceneStartImport(self, caller, event) -> None:
        """Called before a scene is loaded: selectors that meet its first volume must not change its parameters."""
        self.setParameterNode(None)

    def onSceneEnd(self, caller, event) -> None:
        """Called just after that: shows the parameters of the scene."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Ensure that the parameter node exists and is observed, and that the views are in the style of the windows."""
        followStyle()
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode) -> None:
        """Connect the panel with a parameter node, or with none."""
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNodeGuiTag = None
            self.removeObserver(self._parameterNode, vtk.vtkCommand.ModifiedEvent, self._parametersChanged)
        self._parameterNode = parameterNode
        if parameterNode:
            self._parameterNodeGuiTag = parameterNode.connectGui(self.ui)
            self.addObserver(parameterNode, vtk.vtkCommand.ModifiedEvent, self._parametersChanged)
        for section in self._sections:
            section.setParameterNode(parameterNode)

    def _layoutChanged(self, caller=None, event=None) -> None:
        self._layoutRow.update()
        for section in self._sections:
            section.layoutChanged()

    def _parametersChanged(self, caller=None, event=None) -> None:
        for section in self._sections:
            section.parametersChanged()

    def _jobChanged(self) -> None:
        for section in self._sections:
            section.jobChanged()
