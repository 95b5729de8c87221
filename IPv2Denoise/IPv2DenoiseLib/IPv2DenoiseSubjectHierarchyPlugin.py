"""Right-click on a volume in the module Data: "Denoise with IPv2…" opens the module with this volume.

Slicer loads this file by its path, as a module of its own; file and class have the same name because it asks for it.
"""

import qt
import slicer
from slicer.i18n import tr as _
from SubjectHierarchyPlugins import AbstractScriptedSubjectHierarchyPlugin


class IPv2DenoiseSubjectHierarchyPlugin(AbstractScriptedSubjectHierarchyPlugin):
    """Owns no items, adds one action."""

    def __init__(self, scriptedPlugin):
        scriptedPlugin.name = "IPv2Denoise"
        AbstractScriptedSubjectHierarchyPlugin.__init__(self, scriptedPlugin)
        self.denoiseAction = qt.QAction(_("Denoise with IPv2…"), scriptedPlugin)
        self.denoiseAction.triggered.connect(self.onDenoise)

    def canAddNodeToSubjectHierarchy(self, node, parentItemID) -> float:
        """Slicer asks who takes care of a node: not this plugin."""
        return 0.0

    def canOwnSubjectHierarchyItem(self, itemID) -> float:
        """Likewise for an item."""
        return 0.0

    def roleForPlugin(self) -> str:
        """Plugins without items have none."""
        return "N/A"

    def itemContextMenuActions(self) -> list:
        """Every action that may be shown."""
        return [self.denoiseAction]

    def showContextMenuActionsForItem(self, itemID) -> None:
        """Show the action for grey-value volumes; it is hidden by default."""
        node = slicer.mrmlScene.GetSubjectHierarchyNode().GetItemDataNode(itemID) if itemID else None
        if node and node.GetClassName() == "vtkMRMLScalarVolumeNode":
            self.denoiseAction.setVisible(True)

    def onDenoise(self) -> None:
        """Open the module with the current item's volume chosen, or the sequence of which it is a frame."""
        from IPv2SlicerLib.scene.sequences import sequence_of

        from IPv2DenoiseLib.Logic import IPv2DenoiseLogic

        itemID = slicer.qSlicerSubjectHierarchyPluginHandler.instance().currentItem()
        node = slicer.mrmlScene.GetSubjectHierarchyNode().GetItemDataNode(itemID)
        if node:
            IPv2DenoiseLogic().getParameterNode().inputVolume = sequence_of(node) or node
            slicer.util.selectModule("IPv2Denoise")
