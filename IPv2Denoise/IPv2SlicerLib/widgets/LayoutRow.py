"""The way back to the layout of views from before: a button at the end of a panel, there while a layout of ours is."""

import qt
import slicer
from slicer.i18n import tr as _

from .Clicks import onClick

RESTORE_ON_EXIT = "IPv2/RestoreLayoutOnExit"
"""Name of the user's setting."""


class LayoutRow:
    """A button that restores the layout, and whether that also happens when the module is left.

    Attributes
    ----------
    widget : QWidget
        For a panel; hidden while Slicer shows a layout of its own.
    """

    def __init__(self) -> None:
        self.widget = qt.QWidget()
        self.widget.setObjectName("layoutRow")
        self.restoreButton = qt.QPushButton(_("Restore layout"))
        self.restoreButton.setObjectName("restoreLayoutButton")
        self.restoreButton.setToolTip(_("Go back to the layout of views that was there before."))
        self.onExitCheckBox = qt.QCheckBox(_("when leaving"))
        self.onExitCheckBox.setObjectName("restoreLayoutOnExitCheckBox")
        self.onExitCheckBox.setToolTip(_("Go back to it by itself when another module is opened."))
        row = qt.QHBoxLayout(self.widget)
        row.addWidget(self.restoreButton, 1)
        row.addWidget(self.onExitCheckBox)
        onClick(self.restoreButton, restore)
        self.onExitCheckBox.toggled.connect(lambda on: qt.QSettings().setValue(RESTORE_ON_EXIT, on))
        self.update()

    def update(self) -> None:
        """Follow the layout that is shown."""
        from IPv2SlicerLib.scene.layout_node import layout_before, remember_layout

        remember_layout(slicer.mrmlScene)
        self.onExitCheckBox.setChecked(slicer.util.settingsValue(RESTORE_ON_EXIT, False, converter=slicer.util.toBool))
        self.widget.setVisible(layout_before(slicer.mrmlScene) is not None)

    def exit(self) -> None:
        """The module is left."""
        if self.onExitCheckBox.isChecked():
            restore()


def restore() -> None:
    """Show the layout from before."""
    from IPv2SlicerLib.scene.layout_node import restore_layout

    restore_layout(slicer.mrmlScene)
