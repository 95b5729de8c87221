"""Light and dark appearance, as Slicer's styles of these names."""

from __future__ import annotations

from PySide6.QtGui import QColor, QFont, QPalette
from PySide6.QtWidgets import QApplication, QStyleFactory

# What Slicer's styles "Light Slicer" and "Dark Slicer" use.
_LIGHT = {
    "Window": "#ffffff", "WindowText": "#000000", "Base": "#ffffff", "AlternateBase": "#e4e4fe", "Text": "#000000",
    "PlaceholderText": "#808080", "Button": "#fcfcfc", "ButtonText": "#000000", "BrightText": "#ff0000",
    "ToolTipBase": "#ffffdc", "ToolTipText": "#000000", "Light": "#c8c8c8", "Midlight": "#e6e6e6", "Mid": "#c8c8c8",
    "Dark": "#aaaaaa", "Shadow": "#5a5a5a", "Highlight": "#308cc6", "HighlightedText": "#ffffff", "Link": "#0000ff",
}  # fmt: skip
_DARK = {
    "Window": "#323232", "WindowText": "#ffffff", "Base": "#1e1e1e", "AlternateBase": "#323232", "Text": "#ffffff",
    "PlaceholderText": "#c0c0c0", "Button": "#323232", "ButtonText": "#ffffff", "BrightText": "#ff4444",
    "ToolTipBase": "#ffffff", "ToolTipText": "#323232", "Light": "#828284", "Midlight": "#5a5a5b", "Mid": "#2b2b2b",
    "Dark": "#232323", "Shadow": "#141414", "Highlight": "#3ca4ff", "HighlightedText": "#ffffff", "Link": "#3ca4ff",
}  # fmt: skip
_LIGHT_DISABLED = {
    "WindowText": "#bebebe", "Text": "#bebebe", "ButtonText": "#bebebe", "Highlight": "#919191",
}  # fmt: skip
_DARK_DISABLED = {
    "WindowText": "#6d6d6d", "Text": "#6d6d6d", "ButtonText": "#b4b4b4", "Highlight": "#505050",
    "HighlightedText": "#6d6d6d",
}  # fmt: skip


def apply(application: QApplication, dark: bool) -> None:
    """Give an application Qt's style Fusion, a palette and a readable font."""
    application.setStyle(QStyleFactory.create("Fusion"))
    application.setPalette(palette(dark))
    application.setFont(QFont("DejaVu Sans", 9))


def palette(dark: bool) -> QPalette:
    """Colours of the light or the dark appearance."""
    result = QPalette()
    for role, color in (_DARK if dark else _LIGHT).items():
        result.setColor(getattr(QPalette, role), QColor(color))
    for role, color in (_DARK_DISABLED if dark else _LIGHT_DISABLED).items():
        result.setColor(QPalette.Disabled, getattr(QPalette, role), QColor(color))
    return result
