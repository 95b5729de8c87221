"""3D Slicer module IPv2 Denoise: denoise low-dose chest CT, and look at every stage of the purification.

Long work runs in another process (`IPv2Lib.jobs`); the scene is `IPv2Lib.scene*`'s, the panel's sections are
`IPv2DenoiseLib`'s. Opening the module imports no torch.
"""

import sys

import slicer
import vtk
from IPv2DenoiseLib.Logic import IPv2DenoiseLogic
from IPv2DenoiseLib.Parameters import IPv2DenoiseParameterNode
from IPv2DenoiseLib.SelfTest import IPv2DenoiseTest
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

__all__ = ["IPv2Denoise", "IPv2DenoiseLogic", "IPv2DenoiseTest", "IPv2DenoiseWidget"]

#
# IPv2Denoise
#


class IPv2Denoise(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("IPv2 Denoise")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Filtering")]
        self.parent.dependencies = []
        self.parent.contributors = ["The SlicerIPv2 developers"]
        self.parent.helpText = _(
            "<p>Removes the noise of a low-dose chest CT: choose the volume, click <b>Denoise</b>, compare input, "
            "result and what was removed. The strength can be changed afterwards without computing again.</p>"
            "<p>The section <b>Purification</b> shows, stage by stage, how IPv2 builds training and test images from "
            "an ultra-low-dose and a normal-dose scan of one patient.</p>"
            "<p><b>For research. Not for diagnosis.</b> Look at the difference image before you trust a result: "
            "small, faint structures can vanish.</p>"
        )
        self.parent.acknowledgementText = _(
            "<p>If you use this module in your work, please cite Gong &amp; Yu, <i>IPv2: An Improved Image "
            'Purification Strategy for Real-World Ultra-Low-Dose Lung CT Denoising</i>, <a href="https://arxiv.org/'
            'abs/2602.19314">arXiv 2602.19314</a>. This is an independent implementation; no code or weights of the '
            "authors are used.</p>"
        )
        slicer.app.startupCompleted.connect(onStartupCompleted)


def onStartupCompleted() -> None:
    """What has to wait until the other modules are there."""
    from IPv2DenoiseLib.Registration import registerLayouts, registerSampleData, registerSubjectHierarchyPlugin

    registerLayouts()
    registerSampleData()
    registerSubjectHierarchyPlugin()


#
# IPv2DenoiseWidget
#


class IPv2DenoiseWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: loads the .ui file and gives its sections the parameter node and the jobs' news."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._sections = ()
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    def setup(self) -> None:
        """Called when the user opens the module the first time."""
        from IPv2DenoiseLib.DenoiseSection import DenoiseSection
        from IPv2DenoiseLib.PurificationSection import PurificationSection

        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/IPv2Denoise.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)

        self.logic = IPv2DenoiseLogic()
        self.logic.onJobChanged = self._jobChanged
        self._sections = (DenoiseSection(self.ui, self.logic), PurificationSection(self.ui, self.logic))
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
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
        for section in self._sections:
            section.enter()

    def exit(self) -> None:
        """Called each time the user opens a different module; a running job goes on."""
        for section in self._sections:
            section.exit()
        self.setParameterNode(None)

    def onReload(self) -> None:
        """Developer's button: reload the library as well."""
        for name in list(sys.modules):
            if name.partition(".")[0] in ("IPv2DenoiseLib", "IPv2Lib", "IPv2SlicerLib"):
                del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event) -> None:
        """Called just before the scene is closed: a job has nothing to work for any more."""
        self.logic.abandonJob()
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event) -> None:
        """Called just after the scene is closed."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneStartImport(self, caller, event) -> None:
        """Called before a scene is loaded: selectors that meet its first volume must not change its parameters."""
        self.setParameterNode(None)

    def onSceneEndImport(self, caller, event) -> None:
        """Called after a scene was loaded: shows its parameters."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self) -> None:
        """Ensure that the parameter node exists and is observed; choose the first volume if none is chosen."""
        from IPv2SlicerLib.Views import firstVolume

        self.setParameterNode(self.logic.getParameterNode())
        if not self._parameterNode.inputVolume:
            self._parameterNode.inputVolume = firstVolume()

    def setParameterNode(self, parameterNode: IPv2DenoiseParameterNode | None) -> None:
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

    def _parametersChanged(self, caller=None, event=None) -> None:
        for section in self._sections:
            section.parametersChanged()

    def _jobChanged(self) -> None:
        for section in self._sections:
            section.jobChanged()
