"""The style of Slicer's windows: light or dark."""

import qt
import slicer


def isDark() -> bool:
    """Whether texts are bright on a dark ground."""
    return qt.QApplication.palette().color(qt.QPalette.Base).lightness() <= 127


def followStyle() -> None:
    """Let the views show differences in colours for the style."""
    from IPv2SlicerLib.scene.display import follow_style

    follow_style(slicer.mrmlScene, isDark())
