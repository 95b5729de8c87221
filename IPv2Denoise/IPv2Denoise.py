"""3D Slicer module IPv2 Denoise: denoise low-dose chest CT, and look at every stage of the purification.

Long work runs in another process (`IPv2SlicerLib.jobs`); the scene is `IPv2SlicerLib.scene`'s, the panel's sections
are `IPv2DenoiseLib`'s. Opening the module imports no torch.
"""

import slicer
from IPv2DenoiseLib.Logic import IPv2DenoiseLogic
from IPv2DenoiseLib.Parameters import OPTIONS
from IPv2DenoiseLib.SelfTest import IPv2DenoiseTest
from IPv2SlicerLib.Homepage import documentationLink
from IPv2SlicerLib.widgets.PanelWidget import PanelWidget
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import ScriptedLoadableModule

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
        self.parent.helpText += documentationLink()
        self.parent.acknowledgementText = _(
            "<p>If you use this module in your work, please cite Gong &amp; Yu, <i>IPv2: An Improved Image "
            'Purification Strategy for Real-World Ultra-Low-Dose Lung CT Denoising</i>, <a href="https://arxiv.org/'
            'abs/2602.19314">arXiv 2602.19314</a>. This is an independent implementation; no code or weights of the '
            "authors are used.</p>"
        )
        slicer.app.startupCompleted.connect(onStartupCompleted)


def onStartupCompleted() -> None:
    """What has to wait until the other modules are there."""
    from IPv2DenoiseLib import Registration

    Registration.registerLayouts()
    Registration.showLegendsOfLoadedScenes()
    Registration.registerSampleData()
    Registration.registerSubjectHierarchyPlugin()


#
# IPv2DenoiseWidget
#


class IPv2DenoiseWidget(PanelWidget):
    """The panel: sections Denoise and Purification."""

    OPTIONS = OPTIONS

    def setup(self) -> None:
        """Called when the user opens the module the first time."""
        from IPv2DenoiseLib.DenoiseSection import DenoiseSection
        from IPv2DenoiseLib.InputSelectors import InputSelectors
        from IPv2DenoiseLib.LookingSection import LookingSection
        from IPv2DenoiseLib.MeasuringSection import MeasuringSection
        from IPv2DenoiseLib.PurificationSection import PurificationSection

        PanelWidget.setup(self)
        self.logic = IPv2DenoiseLogic()
        self.logic.onJobChanged = self._jobChanged
        sections = DenoiseSection, LookingSection, MeasuringSection, PurificationSection, InputSelectors
        self.begin([section(self.ui, self.logic) for section in sections])

    def onSceneStartClose(self, caller, event) -> None:
        """Called just before the scene is closed: a job has nothing to work for any more."""
        self.logic.abandonJob()
        PanelWidget.onSceneStartClose(self, caller, event)

    def initializeParameterNode(self) -> None:
        """Ensure that the parameter node exists and is observed; choose the first volume if none is chosen."""
        from IPv2SlicerLib.widgets.Views import firstVolume

        PanelWidget.initializeParameterNode(self)
        if not self._parameterNode.inputVolume:
            self._parameterNode.inputVolume = firstVolume()
