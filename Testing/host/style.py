"""Light and dark appearance, as Slicer's styles of these names."""

from __future__ import annotations

from PySide6.QtGui import QColor, QFont, QPalette
from PySide6.QtWidgets import QApplication, QProxyStyle, QStyle

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


_MARGINS = (
    QStyle.PM_LayoutLeftMargin, QStyle.PM_LayoutTopMargin, QStyle.PM_LayoutRightMargin, QStyle.PM_LayoutBottomMargin,
)  # fmt: skip
_SPACINGS = (QStyle.PM_LayoutHorizontalSpacing, QStyle.PM_LayoutVerticalSpacing)


class SlicerStyle(QProxyStyle):
    """Qt's style Fusion with the distances of Slicer's."""

    def __init__(self):
        super().__init__("Fusion")

    def pixelMetric(self, metric, option=None, widget=None) -> int:
        if metric in _MARGINS:
            return 4 if widget is not None and widget.inherits("ctkCollapsibleButton") else 6
        if metric in _SPACINGS:
            return 3
        if metric == QStyle.PM_SliderLength:
            return 12
        if metric == QStyle.PM_ButtonIconSize:
            return 24
        return super().pixelMetric(metric, option, widget)


def apply(application: QApplication, dark: bool) -> None:
    """Give an application Slicer's style, a palette, and the font that Slicer has on Linux."""
    application.setStyle(SlicerStyle())
    application.setPalette(palette(dark))
    application.setFont(QFont("DejaVu Sans", 10))


def palette(dark: bool) -> QPalette:
    """Colours of the light or the dark appearance."""
    result = QPalette()
    for role, color in (_DARK if dark else _LIGHT).items():
        result.setColor(getattr(QPalette, role), QColor(color))
    for role, color in (_DARK_DISABLED if dark else _LIGHT_DISABLED).items():
        result.setColor(QPalette.Disabled, getattr(QPalette, role), QColor(color))
    return result
