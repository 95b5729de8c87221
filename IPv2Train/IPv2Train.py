"""3D Slicer module IPv2 Train: purified data sets, training, comparison, and the model for IPv2 Denoise.

Long work runs in other processes; data sets and runs are folders (`IPv2Lib.shards`, `IPv2Lib.training_run`), the
scene is `IPv2Lib.scene_training`'s, the panel's sections are `IPv2TrainLib`'s. Opening the module imports no torch.
"""

import sys

import slicer
import vtk
from IPv2TrainLib.Logic import IPv2TrainLogic
from IPv2TrainLib.Parameters import IPv2TrainParameterNode
from IPv2TrainLib.SelfTest import IPv2TrainTest
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule, ScriptedLoadableModuleWidget
from slicer.util import VTKObservationMixin

__all__ = ["IPv2Train", "IPv2TrainLogic", "IPv2TrainTest", "IPv2TrainWidget"]

#
# IPv2Train
#


class IPv2Train(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("IPv2 Train")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Filtering")]
        self.parent.dependencies = ["IPv2Denoise"]
        self.parent.contributors = ["The SlicerIPv2 developers"]
        self.parent.helpText = _(
            "<p>Trains denoisers for low-dose chest CT in four steps, each usable alone: make a purified data set of "
            "uLDCT/NDCT pairs, or of NDCTs whose uLDCTs are simulated; train a network and watch it; compare models "
            "on patients that they have not seen; publish one, so that <b>IPv2 Denoise</b> lists it.</p>"
            "<p>Data sets, runs and comparisons are folders. A training goes on when the module or the scene is "
            "closed, and pauses when Slicer is; it is resumed from its folder, here or by the command "
            "<tt>ipv2 train</tt>.</p>"
            "<p><b>For research. Not for diagnosis.</b></p>"
        )
        self.parent.acknowledgementText = _(
            "<p>If you use this module in your work, please cite Gong &amp; Yu, <i>IPv2: An Improved Image "
            'Purification Strategy for Real-World Ultra-Low-Dose Lung CT Denoising</i>, <a href="https://arxiv.org/'
            'abs/2602.19314">arXiv 2602.19314</a>. This is an independent implementation; no code or weights of the '
            "authors are used.</p>"
        )


#
# IPv2TrainWidget
#


class IPv2TrainWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: loads the .ui file and gives its sections the parameter node and the jobs' news."""

    def __init__(self, parent=None) -> None:
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._sections = self._users = ()  # users: of the runs
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    def setup(self) -> None:
        """Called when the user opens the module the first time."""
        from IPv2TrainLib.DataSection import DataSection
        from IPv2TrainLib.EvaluateSection import EvaluateSection
        from IPv2TrainLib.JobLog import JobLog
        from IPv2TrainLib.PublishSection import PublishSection
        from IPv2TrainLib.Runs import Runs
        from IPv2TrainLib.TrainSection import TrainSection

        ScriptedLoadableModuleWidget.setup(self)
        uiWidget = slicer.util.loadUI(self.resourcePath("UI/IPv2Train.ui"))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)

        self.logic = IPv2TrainLogic()
        runs = Runs()
        self._log = JobLog(self.ui, self.logic, self.logic.training)
        self._users = (EvaluateSection(self.ui, self.logic, runs), PublishSection(self.ui, self.logic, runs))
        self._sections = (
            DataSection(self.ui, self.logic),
            TrainSection(self.ui, self.logic, runs, self._runsChanged),
            *self._users,
        )
        self.logic.onJobChanged = self.logic.training.onJobChanged = self._jobChanged
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartImportEvent, self.onSceneStartImport)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()

    def cleanup(self) -> None:
        """Called when the application closes or the module is reloaded: a training pauses, other work ends."""
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
        """Called each time the user opens a different module; what is running goes on."""
        for section in self._sections:
            section.exit()
        self.setParameterNode(None)

    def onReload(self) -> None:
        """Developer's button: reload the library as well."""
        for name in list(sys.modules):
            if name.partition(".")[0] in ("IPv2TrainLib", "IPv2Lib", "IPv2SlicerLib"):
                del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def onSceneStartClose(self, caller, event) -> None:
        """Called just before the scene is closed; what is running does not need it."""
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
        """Ensure that the parameter node exists and is observed."""
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode: IPv2TrainParameterNode | None) -> None:
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

    def _runsChanged(self) -> None:
        for section in self._users:
            section.runsChanged()

    def _jobChanged(self) -> None:
        for section in self._sections:
            section.jobChanged()
        self._log.jobChanged()
