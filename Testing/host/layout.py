"""`slicer.app.layoutManager()`, and its slice views, drawn by Slicer's slice pipeline."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import rendering
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Qt, Signal, Slot

from .errors import HostError
from .observation import Observation
from .overlays import Overlays
from .plot_view import qMRMLPlotWidget
from .stand_in import StandIn
from .table_view import qMRMLTableWidget

_COALESCE_MS = 15
_OFFSET_STEPS = 1000
_MARGIN = 8
_BAR_WIDTH, _BAR_HEIGHT = 318, 30  # Slicer 5.12 on Linux; no view can be narrower than its bar
_SLICE_VIEW, _PLOT_VIEW, _TABLE_VIEW = "vtkMRMLSliceNode", "vtkMRMLPlotViewNode", "vtkMRMLTableViewNode"
_MAKERS = {_PLOT_VIEW: qMRMLPlotWidget, _TABLE_VIEW: qMRMLTableWidget}
_INK, _SHADOW = QtGui.QColor("#f0f0f0"), QtGui.QColor(0, 0, 0, 200)


class SliceView(QtWidgets.QWidget):
    """The picture of a slice view, with the names of its volumes, colour legends and markups on top."""

    def __init__(self, node, logic):
        super().__init__()
        self._node, self._logic, self._picture = node, logic, None
        self._observed, self._overlays_picture = [], None
        self.renders = 0
        self._timer = QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_COALESCE_MS)
        self._timer.timeout.connect(self._render)
        self.setSizePolicy(QtWidgets.QSizePolicy.Ignored, QtWidgets.QSizePolicy.Ignored)
        composite = logic.GetSliceCompositeNode()
        for each in (node, composite, logic):
            Observation(self, each, vtk.vtkCommand.ModifiedEvent, self.scheduleRender)
        Observation(self, composite, vtk.vtkCommand.ModifiedEvent, self._observe_volumes)
        self._observe_volumes()
        self._overlays = Overlays(self, node, self.scheduleRender)

    def legends(self) -> list:
        """The nodes of the colour legends that are seen; of the stand-in."""
        return self._overlays.shown()

    @Slot()
    def scheduleRender(self) -> None:
        """Draw soon; several changes in a row are drawn once."""
        if not self._timer.isActive() and self.isVisible():
            self._timer.start()

    def resizeEvent(self, event) -> None:
        self._logic.ResizeSliceNode(max(1, self.width()), max(1, self.height()))
        self.scheduleRender()

    def showEvent(self, event) -> None:
        self.scheduleRender()

    def wheelEvent(self, event) -> None:
        step = self._logic.GetLowestVolumeSliceSpacing()[2]
        _move(self._logic, self._logic.GetSliceOffset() + (step if event.angleDelta().y() > 0 else -step))

    def mouseMoveEvent(self, event) -> None:
        self._interact(vtk.vtkCommand.MouseMoveEvent, event)

    def mousePressEvent(self, event) -> None:
        self._interact(vtk.vtkCommand.MouseMoveEvent, event)
        if event.button() == Qt.LeftButton:
            self._interact(vtk.vtkCommand.LeftButtonPressEvent, event)

    def mouseReleaseEvent(self, event) -> None:
        if event.button() == Qt.LeftButton:
            self._interact(vtk.vtkCommand.LeftButtonReleaseEvent, event)

    def _interact(self, vtk_event: int, event) -> None:
        size = max(1, self.width()), max(1, self.height())
        place = event.position().toPoint()
        self._overlays.interact(vtk_event, place.x(), self.height() - 1 - place.y(), size)

    def paintEvent(self, _event) -> None:
        painter = QtGui.QPainter(self)
        painter.fillRect(self.rect(), Qt.black)
        if self._picture is None:
            return
        rows, columns, _ = self._picture.shape
        image = QtGui.QImage(self._picture.data, columns, rows, 3 * columns, QtGui.QImage.Format_RGB888)
        painter.drawImage(self.rect(), image)
        painter.setFont(QtGui.QFont("DejaVu Sans", 8))
        self._paint_names(painter)
        if self._overlays_picture is not None:
            rows, columns, _ = self._overlays_picture.shape
            image = QtGui.QImage(
                self._overlays_picture.data, columns, rows, 4 * columns, QtGui.QImage.Format_RGBA8888_Premultiplied
            )
            painter.drawImage(self.rect(), image)

    def _render(self) -> None:
        if self._node.GetScene() is None:
            return
        self._picture = rendering.render_view(self._node).copy()
        self._overlays_picture = self._overlays.draw(max(1, self.width()), max(1, self.height()))
        self.renders += 1
        self.update()

    def _volumes(self) -> dict[str, object]:
        composite = self._logic.GetSliceCompositeNode()
        ids = {
            "L": composite.GetLabelVolumeID(),
            "F": composite.GetForegroundVolumeID(),
            "B": composite.GetBackgroundVolumeID(),
        }
        found = {letter: slicer.mrmlScene.GetNodeByID(each) for letter, each in ids.items() if each}
        return {letter: node for letter, node in found.items() if node}

    def _observe_volumes(self) -> None:
        for observation in self._observed:
            observation.end()
        events = (
            vtk.vtkCommand.ModifiedEvent,
            slicer.vtkMRMLDisplayableNode.DisplayModifiedEvent,
            slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent,
        )
        self._observed = [
            Observation(self, node, event, self.scheduleRender) for node in self._volumes().values() for event in events
        ]

    def _paint_names(self, painter) -> None:
        line = painter.fontMetrics().height()
        for index, (letter, node) in enumerate(reversed(self._volumes().items())):
            width = self.width() - 2 * _MARGIN
            text = painter.fontMetrics().elidedText(f"{letter}: {node.GetName()}", Qt.ElideMiddle, width)
            _draw_text(painter, _MARGIN, self.height() - _MARGIN - index * line, text)


class SliceController(QtWidgets.QWidget):
    """The bar over a slice view: its label, a slider for the offset and the offset in mm."""

    def __init__(self, node, logic):
        super().__init__()
        self._node, self._logic, self._showing = node, logic, False
        self._label = QtWidgets.QLabel(node.GetLayoutLabel() or node.GetLayoutName())
        self._label.setAlignment(Qt.AlignCenter)
        self._label.setMinimumWidth(22)
        color = QtGui.QColor.fromRgbF(*node.GetLayoutColor())
        colors = self.palette()
        colors.setColor(QtGui.QPalette.Window, color)
        colors.setColor(QtGui.QPalette.WindowText, Qt.black)
        self.setPalette(colors)
        self.setAutoFillBackground(True)
        self.setMinimumSize(_BAR_WIDTH, _BAR_HEIGHT)
        self._slider = QtWidgets.QSlider(Qt.Horizontal)
        self._slider.setRange(0, _OFFSET_STEPS)
        self._text = QtWidgets.QLabel()
        self._text.setMinimumWidth(self._text.fontMetrics().horizontalAdvance("S: -000.00mm"))
        box = QtWidgets.QHBoxLayout(self)
        box.setContentsMargins(2, 1, 4, 1)
        for widget in (self._label, self._slider, self._text):
            box.addWidget(widget)
        self._slider.valueChanged.connect(self._moved)
        for each in (node, logic):
            Observation(self, each, vtk.vtkCommand.ModifiedEvent, self._show)
        self._show()

    @Slot(float)
    def setSliceOffsetValue(self, offset: float) -> None:
        """Show the slice at an offset, in mm; linked views follow."""
        _move(self._logic, offset)

    @Slot()
    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()

    def _range(self) -> tuple[float, float]:
        bounds = [0.0] * 6
        self._logic.GetLowestVolumeSliceBounds(bounds)
        return bounds[4], bounds[5]

    def _moved(self, position: int) -> None:
        if not self._showing:
            low, high = self._range()
            _move(self._logic, low + (high - low) * position / _OFFSET_STEPS)

    def _show(self) -> None:
        if self._node.GetScene() is None:
            return
        offset = self._logic.GetSliceOffset()
        low, high = self._range()
        self._showing = True
        self._slider.setValue(round(_OFFSET_STEPS * (offset - low) / (high - low)) if high > low else 0)
        self._showing = False
        letter = {"Axial": "S", "Coronal": "A", "Sagittal": "R"}.get(self._node.GetOrientation(), "")
        self._text.setText(f"{letter + ': ' if letter else ''}{offset:.2f}mm")


class qMRMLSliceWidget(StandIn, QtWidgets.QWidget):
    """A slice view with its controller."""

    def __init__(self, node, logic):
        super().__init__()
        self._node, self._logic = node, logic
        self._controller, self._view = SliceController(node, logic), SliceView(node, logic)
        box = QtWidgets.QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addWidget(self._controller)
        box.addWidget(self._view, 1)

    def sliceController(self) -> SliceController:
        return self._controller

    def sliceView(self) -> SliceView:
        return self._view

    def sliceLogic(self):
        return self._logic

    def mrmlSliceNode(self):
        return self._node

    def mrmlSliceCompositeNode(self):
        return self._logic.GetSliceCompositeNode()

    @Slot()
    def fitSliceToBackground(self) -> None:
        self._logic.FitSliceToBackground()


class _ThreeDView(QtWidgets.QWidget):
    """In place of a 3-D view, which is not drawn."""

    def __init__(self, label: str):
        super().__init__()
        bar = QtWidgets.QLabel(f" {label} ")
        bar.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Fixed)
        ground = QtWidgets.QWidget()
        ground.setStyleSheet("background: qlineargradient(y1:0, y2:1, stop:0 #7478be, stop:1 #c1c3e8);")
        box = QtWidgets.QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addWidget(bar)
        box.addWidget(ground, 1)


class qSlicerLayoutManager(StandIn, QtCore.QObject):
    """Arranges the views as the layout node of the scene says."""

    layoutChanged = Signal(int)

    def __init__(self, viewport: QtWidgets.QWidget, scene, application_logic):
        super().__init__()
        self._viewport, self._scene, self._application = viewport, scene, application_logic
        self._widgets: dict[tuple[str, str], QtWidgets.QWidget] = {}  # by class and name of the view node
        self._shown, self._root, self._enabled = None, None, True
        self._box = QtWidgets.QVBoxLayout(viewport)
        self._box.setContentsMargins(0, 0, 0, 0)
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLScene(scene)
        self._node = self._logic.GetLayoutNode()
        Observation(self, self._node, vtk.vtkCommand.ModifiedEvent, self._update)
        Observation(self, scene, scene.StartCloseEvent, self._clear)
        for event in (scene.EndCloseEvent, scene.EndBatchProcessEvent):
            Observation(self, scene, event, self._update)
        self._update()

    threeDViewCount = QtCore.Property(int, lambda self: 0)
    tableViewCount = QtCore.Property(int, lambda self: len(self._view_nodes(_TABLE_VIEW)))
    plotViewCount = QtCore.Property(int, lambda self: len(self._view_nodes(_PLOT_VIEW)))

    def _get_layout(self) -> int:
        return self._node.GetViewArrangement()

    @Slot(int)
    def setLayout(self, layout: int) -> None:
        """Show one of the layouts that the layout node knows."""
        self._node.SetViewArrangement(layout)

    layout = QtCore.Property(int, _get_layout, setLayout, notify=layoutChanged)

    def layoutLogic(self):
        return self._logic

    def mrmlSliceLogics(self):
        return self._application.GetSliceLogics()

    def sliceViewNames(self) -> list[str]:
        """Names of the slice views that were ever shown."""
        return [name for kind, name in self._widgets if kind == _SLICE_VIEW]

    def sliceWidget(self, name: str):
        """A slice view by name, or None."""
        return self._widgets.get((_SLICE_VIEW, name))

    def plotWidget(self, index: int):
        """A plot view by its number, or None. Numbers have no order in Slicer; here they are the scene's."""
        return self._nth_widget(_PLOT_VIEW, index)

    def tableWidget(self, index: int):
        """A table view by its number, or None."""
        return self._nth_widget(_TABLE_VIEW, index)

    def viewWidget(self, node):
        """The widget of a view node, or None."""
        known = node is not None and node.GetClassName() in (_SLICE_VIEW, *_MAKERS)
        return self._widget(node) if known else None

    @Slot(bool)
    def setRenderPaused(self, paused: bool) -> None:
        """Views are drawn between events only, so there is nothing to pause."""

    @Slot()
    def pauseRender(self) -> None:
        """See `setRenderPaused`."""

    @Slot()
    def resumeRender(self) -> None:
        """See `setRenderPaused`."""

    def _update(self) -> None:
        if self._scene.IsBatchProcessing() or not self._enabled:
            return
        shown = self._node.GetViewArrangement(), self._node.GetCurrentLayoutDescription()
        if shown == self._shown or not shown[1]:
            return
        self._clear()
        self._shown = shown
        self._root = self._build(ElementTree.fromstring(shown[1]))
        self._box.addWidget(self._root)
        self.layoutChanged.emit(shown[0])

    def _retire(self) -> None:
        """Show nothing any more: the scene is about to lose even the nodes of its views."""
        self._enabled = False
        self._clear()

    def _clear(self) -> None:
        """Take the views out of the window; they are kept."""
        self._shown = None
        for widget in self._widgets.values():
            widget.setParent(None)
        if self._root is not None:
            self._box.removeWidget(self._root)
            self._root.deleteLater()
            self._root = None

    def _build(self, element) -> QtWidgets.QWidget:
        if element.tag == "view":
            return self._view(element)
        if element.tag == "item":
            return self._build(element[0])
        kind = element.get("type", "horizontal")
        items = element.findall("item")
        if kind == "tab":
            tabs = QtWidgets.QTabWidget()
            for item in items:
                tabs.addTab(self._build(item), item.get("name", ""))
            return tabs
        if kind != "grid" and element.get("split") == "true":
            splitter = QtWidgets.QSplitter(Qt.Vertical if kind == "vertical" else Qt.Horizontal)
            for item in items:
                splitter.addWidget(self._build(item))
            sizes = [int(item.get("splitSize", 0)) for item in items]
            if any(sizes):
                splitter.setSizes(sizes)
            return splitter
        holder = QtWidgets.QWidget()
        grid = QtWidgets.QGridLayout(holder)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setSpacing(2)
        for number, item in enumerate(items):
            row, column = {"vertical": (number, 0), "grid": (int(item.get("row", 0)), int(item.get("column", 0)))}.get(
                kind, (0, number)
            )
            grid.addWidget(self._build(item), row, column, int(item.get("rowspan", 1)), int(item.get("colspan", 1)))
        return holder

    def _view(self, element) -> QtWidgets.QWidget:
        class_name, name = element.get("class"), element.get("singletontag")
        if class_name not in (_SLICE_VIEW, *_MAKERS):
            return _ThreeDView(element.findtext("property[@name='viewlabel']") or name or "")
        node = self._scene.GetSingletonNode(name, class_name)
        if node is None:
            raise HostError(f"the layout shows a {class_name} '{name}' for which the scene has no node")
        return self._widget(node)

    def _widget(self, node) -> QtWidgets.QWidget:
        """The widget of a view node, made where there is none."""
        key = node.GetClassName(), node.GetSingletonTag() or node.GetID()
        if key not in self._widgets:
            if key[0] == _SLICE_VIEW:
                self._widgets[key] = qMRMLSliceWidget(node, self._slice_logic(node))
            else:
                self._widgets[key] = _MAKERS[key[0]](node)
        return self._widgets[key]

    def _view_nodes(self, class_name: str) -> list:
        count = self._scene.GetNumberOfNodesByClass(class_name)
        return [self._scene.GetNthNodeByClass(index, class_name) for index in range(count)]

    def _nth_widget(self, class_name: str, index: int):
        nodes = self._view_nodes(class_name)
        return self._widget(nodes[index]) if 0 <= index < len(nodes) else None

    def _slice_logic(self, node):
        """The logic of a slice node, made where there is none: the views of Slicer do that."""
        logic = self._application.GetSliceLogic(node)
        if logic is None:
            logic = slicer.vtkMRMLSliceLogic()
            logic.SetMRMLApplicationLogic(self._application)
            logic.SetMRMLScene(self._scene)
            logic.SetSliceNode(node)
            self._application.GetSliceLogics().AddItem(logic)
        return logic


def _draw_text(painter, x: int, y: int, text: str) -> None:
    """White text with a dark rim, readable on every ground."""
    painter.setPen(_SHADOW)
    for shift in ((-1, 0), (1, 0), (0, -1), (0, 1), (1, 1)):
        painter.drawText(x + shift[0], y + shift[1], text)
    painter.setPen(_INK)
    painter.drawText(x, y, text)


def _move(logic, offset: float) -> None:
    """Move a slice as a hand on the slider does: linked views follow."""
    logic.StartSliceOffsetInteraction()
    logic.SetSliceOffset(offset)
    logic.EndSliceOffsetInteraction()
