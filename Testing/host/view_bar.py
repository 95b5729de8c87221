"""The coloured bar over a table or plot view: the view's label and what it shows."""

from __future__ import annotations

from collections.abc import Callable

import vtk
from PySide6 import QtCore, QtGui, QtWidgets

from .observation import Observation


class ViewBar(QtWidgets.QWidget):
    """A bar.

    Parameters
    ----------
    node : vtkMRMLAbstractViewNode
    color : str
    shown : function
        Returns the node that the view shows, or None.
    """

    def __init__(self, node, color: str, shown: Callable):
        super().__init__()
        self._node, self._shown = node, shown
        self._label, self._name = QtWidgets.QLabel(), QtWidgets.QLabel()
        colors = self.palette()
        colors.setColor(QtGui.QPalette.Window, QtGui.QColor(color))
        colors.setColor(QtGui.QPalette.WindowText, QtCore.Qt.black)
        self.setPalette(colors)
        self.setAutoFillBackground(True)
        self._label.setMinimumWidth(22)
        box = QtWidgets.QHBoxLayout(self)
        box.setContentsMargins(2, 1, 4, 1)
        box.addWidget(self._label)
        box.addWidget(self._name, 1)
        Observation(self, node, vtk.vtkCommand.ModifiedEvent, self._show)
        self._show()

    def _show(self) -> None:
        if self._node.GetScene() is None:
            return
        shown = self._shown()
        self._label.setText(f" {self._node.GetLayoutLabel() or self._node.GetLayoutName()} ")
        self._name.setText(shown.GetName() if shown is not None else "")
