"""The window: module panel at the left, views at the right."""

from __future__ import annotations

from PySide6 import QtGui, QtWidgets
from PySide6.QtCore import Qt

from . import ctk_widgets
from .errors import HostError

SLICER_KEYS = (
    "Ctrl+O", "Ctrl+S", "Ctrl+W", "Ctrl+Z", "Ctrl+Y", "Ctrl+H", "Ctrl+F", "Ctrl+B", "Ctrl+Left", "Ctrl+Right",
    "Ctrl+`", *(f"Ctrl+{digit}" for digit in range(7)),
    "Ctrl+Shift+A", "Ctrl+Shift+T", "Ctrl+Shift+Space",  # markups
    "Ctrl+Shift+Down", "Ctrl+Shift+Left", "Ctrl+Shift+Right",  # sequences
)  # fmt: skip
"""Keys of Slicer's own; another shortcut with one of them is ambiguous, and neither is heard."""

VIEW_KEYS = (
    "G", "T", "F", "B", "V", "R", "S", "[", "]", "{", "}", "Left", "Right", "Up", "Down", "Del", "Backspace", "Esc",
)  # fmt: skip
"""Keys that slice views and markups listen to; a shortcut with one of them takes it from them."""


class ModuleSelector(QtWidgets.QWidget):
    """The list of modules above the panel; choosing one enters it."""

    def __init__(self, window: qSlicerMainWindow):
        super().__init__()
        self._window = window
        self._combo = QtWidgets.QComboBox()
        box = QtWidgets.QHBoxLayout(self)
        box.setContentsMargins(4, 4, 4, 4)
        box.addWidget(QtWidgets.QLabel("Modules:"))
        box.addWidget(self._combo, 1)
        self._combo.activated.connect(lambda index: self.selectModule(self._combo.itemData(index)))

    @property
    def selectedModule(self) -> str:
        return self._window._current.name if self._window._current else ""

    def selectModule(self, name: str) -> None:
        """Leave the current module and enter another.

        Raises
        ------
        HostError
            No module of this name is loaded.
        """
        self._window._select(name)

    def _add(self, module) -> None:
        self._combo.addItem(module.icon, module.title or module.name, module.name)

    def _show(self, name: str) -> None:
        self._combo.setCurrentIndex(self._combo.findData(name))


class qSlicerMainWindow(QtWidgets.QMainWindow):
    """Slicer's main window, as far as scripted modules use it."""

    def __init__(self, module_manager, panel_width: int, size: tuple[int, int]):
        super().__init__()
        self.setObjectName("qSlicerMainWindow")
        self.setWindowTitle("3D Slicer")
        self._manager, self._current = module_manager, None
        self._selector = ModuleSelector(self)
        self._help = ctk_widgets.ctkCollapsibleButton("Help && Acknowledgement")
        self._help_text = QtWidgets.QLabel()
        self._help_text.setWordWrap(True)
        self._help_text.setTextFormat(Qt.RichText)
        QtWidgets.QVBoxLayout(self._help).addWidget(self._help_text)
        self._help._set_collapsed(True)
        self._holder = QtWidgets.QWidget()
        column = QtWidgets.QVBoxLayout(self._holder)
        column.setContentsMargins(0, 0, 0, 0)
        column.addWidget(self._help)
        column.addStretch(1)
        self._scroll = QtWidgets.QScrollArea()
        self._scroll.setWidgetResizable(True)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarAsNeeded)
        self._scroll.setFrameShape(QtWidgets.QFrame.NoFrame)
        self._scroll.setWidget(self._holder)
        panel = QtWidgets.QWidget()
        box = QtWidgets.QVBoxLayout(panel)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addWidget(self._selector)
        box.addWidget(self._scroll, 1)
        panel.setFixedWidth(panel_width)
        self._panel = panel
        self._viewport = QtWidgets.QWidget()
        self._viewport.setAutoFillBackground(True)
        both = QtWidgets.QWidget()
        row = QtWidgets.QHBoxLayout(both)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(3)
        row.addWidget(panel)
        row.addWidget(self._viewport, 1)
        self.setCentralWidget(both)
        self.statusBar()
        self._shortcuts = [QtGui.QShortcut(QtGui.QKeySequence(keys), self) for keys in SLICER_KEYS]
        self.resize(*size)

    def moduleSelector(self) -> ModuleSelector:
        return self._selector

    def _set_panel_width(self, width: int) -> None:
        self._panel.setFixedWidth(width)

    def _select(self, name: str) -> None:
        module = self._manager.module(name)
        if module is None:
            raise HostError(f"there is no module '{name}' to select: {self._manager.modulesNames()}")
        if module is self._current:
            return
        self._leave()
        self._current = module
        widget = module.widgetRepresentation()
        self._selector._show(name)
        if widget is None:
            return
        text = f"<p>{module.helpText}</p><p>{module.acknowledgementText}</p>"
        self._help_text.setText(text)
        self._holder.layout().insertWidget(1, widget)
        widget.show()
        widget.enter()

    def _leave(self) -> None:
        if self._current is not None and self._current.widgetRepresentation() is not None:
            self._current.widgetRepresentation().exit()
            self._current.widgetRepresentation().hide()
        self._current = None
