"""3D Slicer module IPv2 Train: purified data sets, training, comparison, and the model for IPv2 Denoise.

Long work runs in other processes; data sets and runs are folders (`IPv2Lib.datasets.shards`,
`IPv2Lib.training.run_folder`), the scene is `IPv2SlicerLib.scene.training_nodes`'s, the panel's sections are
`IPv2TrainLib`'s. Opening the module imports no torch.
"""

from IPv2SlicerLib.Homepage import documentationLink
from IPv2SlicerLib.widgets.PanelWidget import PanelWidget
from IPv2TrainLib.Logic import IPv2TrainLogic
from IPv2TrainLib.Parameters import OPTIONS
from IPv2TrainLib.SelfTest import IPv2TrainTest
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

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
            "on patients that they have not seen, and measure them on phantoms; publish one, so that <b>IPv2 "
            "Denoise</b> lists it.</p>"
            "<p>Data sets, runs and comparisons are folders. A training goes on when the module or the scene is "
            "closed, and pauses when Slicer is; it is resumed from its folder, here or by the command "
            "<tt>ipv2 train</tt>.</p>"
            "<p><b>For research. Not for diagnosis.</b></p>"
        )
        self.parent.helpText += documentationLink()
        self.parent.acknowledgementText = _(
            "<p>If you use this module in your work, please cite Gong &amp; Yu, <i>IPv2: An Improved Image "
            'Purification Strategy for Real-World Ultra-Low-Dose Lung CT Denoising</i>, <a href="https://arxiv.org/'
            'abs/2602.19314">arXiv 2602.19314</a>. This is an independent implementation; no code or weights of the '
            "authors are used.</p>"
        )


#
# IPv2TrainWidget
#


class IPv2TrainWidget(PanelWidget):
    """The panel: sections Data, Train, Evaluate, Publish and Log. What is running does not need the scene."""

    OPTIONS = OPTIONS

    def setup(self) -> None:
        """Called when the user opens the module the first time."""
        from IPv2SlicerLib.widgets.JobLog import JobLog
        from IPv2TrainLib.CaseSelectors import CaseSelectors
        from IPv2TrainLib.DataSection import DataSection
        from IPv2TrainLib.EvaluateSection import EvaluateSection
        from IPv2TrainLib.PublishSection import PublishSection
        from IPv2TrainLib.Runs import Runs
        from IPv2TrainLib.TrainSection import TrainSection

        PanelWidget.setup(self)
        self.logic = IPv2TrainLogic()
        self.logic.onJobChanged = self.logic.training.onJobChanged = self._jobChanged
        parts, runs = (self.ui, self.logic), Runs()
        self._usersOfRuns = EvaluateSection(*parts, runs), PublishSection(*parts, runs)
        sections = DataSection(*parts), CaseSelectors(*parts), TrainSection(*parts, runs, self._runsChanged)
        self.begin([*sections, *self._usersOfRuns, JobLog(*parts, self.logic.training)])

    def _runsChanged(self) -> None:
        for section in self._usersOfRuns:
            section.runsChanged()
