"""Plot views: charts of the scene drawn by VTK's chart classes, as Slicer's `qMRMLPlotView` does."""

from __future__ import annotations

import math

import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Qt, Signal, Slot
from vtk.util.numpy_support import vtk_to_numpy

from .errors import HostError
from .observation import Observation
from .stand_in import StandIn, WithScene
from .view_bar import ViewBar

_COLOR = "#1bc6cf"
_GROUND = (255, 253, 246, 255)
_COALESCE_MS = 15
_X_AXES = (vtk.vtkAxis.BOTTOM, vtk.vtkAxis.TOP)
_Series = slicer.vtkMRMLPlotSeriesNode
_LINES = {
    _Series.LineStyleNone: vtk.vtkPen.NO_PEN,
    _Series.LineStyleSolid: vtk.vtkPen.SOLID_LINE,
    _Series.LineStyleDash: vtk.vtkPen.DASH_LINE,
    _Series.LineStyleDot: vtk.vtkPen.DOT_LINE,
    _Series.LineStyleDashDot: vtk.vtkPen.DASH_DOT_LINE,
    _Series.LineStyleDashDotDot: vtk.vtkPen.DASH_DOT_DOT_LINE,
}
_MARKERS = {
    _Series.MarkerStyleNone: vtk.vtkPlotPoints.NONE,
    _Series.MarkerStyleCross: vtk.vtkPlotPoints.CROSS,
    _Series.MarkerStylePlus: vtk.vtkPlotPoints.PLUS,
    _Series.MarkerStyleSquare: vtk.vtkPlotPoints.SQUARE,
    _Series.MarkerStyleCircle: vtk.vtkPlotPoints.CIRCLE,
    _Series.MarkerStyleDiamond: vtk.vtkPlotPoints.DIAMOND,
}


class qMRMLPlotView(WithScene, QtWidgets.QWidget):
    """Shows the chart that a plot view node names; drawn anew when the view, the chart, a series or a table changes."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._view_node, self._chart_node, self._view_observations = None, None, []
        self._chart_observation, self._picture = None, None
        self._chart = vtk.vtkChartXY()
        self._chart.GetBackgroundBrush().SetColor(*_GROUND)
        self._contents = vtk.vtkContextScene()
        self._contents.AddItem(self._chart)
        self.renders = 0
        self._timer = QtCore.QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(_COALESCE_MS)
        self._timer.timeout.connect(self._render)
        self.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Expanding)

    def chart(self):
        """The vtkChartXY."""
        return self._chart

    def scene(self):
        """The vtkContextScene with the chart."""
        return self._contents

    def setMRMLPlotViewNode(self, node) -> None:
        """Slot: show what a plot view node says."""
        for observation in self._view_observations:
            observation.end()
        self._view_node, self._view_observations = node, []
        if node is not None:
            events = (vtk.vtkCommand.ModifiedEvent, slicer.vtkMRMLPlotViewNode.PlotChartNodeChangedEvent)
            self._view_observations = [Observation(self, node, event, self._follow) for event in events]
        self._follow()

    @Slot()
    def fitToContent(self) -> None:
        """Let the axes span everything, also where the chart node fixes them; the node is told."""
        bounds = [_union(self._chart, axis) for axis in (vtk.vtkAxis.BOTTOM, vtk.vtkAxis.LEFT)]
        for axis, (low, high) in zip((vtk.vtkAxis.BOTTOM, vtk.vtkAxis.LEFT), bounds, strict=True):
            _set_range(self._chart.GetAxis(axis), low, high)
            self._chart.GetAxis(axis).AutoScale()
        if self._chart_node is not None:
            modifying = self._chart_node.StartModify()
            self._chart_node.SetXAxisRange(bounds[0])
            self._chart_node.SetYAxisRange(bounds[1])
            self._chart_node.EndModify(modifying)
        self._schedule()

    def resizeEvent(self, event) -> None:
        self._schedule()

    def showEvent(self, event) -> None:
        self._schedule()

    def paintEvent(self, _event) -> None:
        painter = QtGui.QPainter(self)
        painter.fillRect(self.rect(), Qt.white)
        if self._picture is None:
            return
        rows, columns, _ = self._picture.shape
        image = QtGui.QImage(self._picture.data, columns, rows, 3 * columns, QtGui.QImage.Format_RGB888)
        painter.drawImage(self.rect(), image)

    def _schedule(self) -> None:
        if not self._timer.isActive() and self.isVisible():
            self._timer.start()

    def _follow(self) -> None:
        node = self._view_node
        chart_node = node.GetPlotChartNode() if node is not None and node.GetScene() is not None else None
        if chart_node is not self._chart_node:
            if self._chart_observation is not None:
                self._chart_observation.end()
            self._chart_observation = None
            if chart_node is not None:
                self._chart_observation = Observation(self, chart_node, vtk.vtkCommand.ModifiedEvent, self._update)
        self._chart_node = chart_node
        self._update()

    def _update(self) -> None:
        self._chart.ClearPlots()
        if self._chart_node is not None and self._chart_node.GetScene() is not None:
            for index in range(self._chart_node.GetNumberOfPlotSeriesNodes()):
                plot = _plot(self._chart_node.GetNthPlotSeriesNode(index))
                if plot is not None:
                    self._chart.AddPlot(plot)
            _describe(self._chart, self._chart_node)
        self._schedule()

    def _render(self) -> None:
        if self.width() > 0 and self.height() > 0:
            self._picture = _canvas().draw(self._contents, self.width(), self.height())
            self.renders += 1
            self.update()


class qMRMLPlotWidget(StandIn, QtWidgets.QWidget):
    """A plot view of the layout with its bar."""

    def __init__(self, node):
        super().__init__()
        self._node, self._view = node, qMRMLPlotView()
        self._bar = PlotViewBar(node, self._view)
        box = QtWidgets.QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addWidget(self._bar)
        box.addWidget(self._view, 1)
        self._view.setMRMLScene(node.GetScene())
        self._view.setMRMLPlotViewNode(node)

    def mrmlPlotViewNode(self):
        return self._node

    def mrmlAbstractViewNode(self):
        return self._node

    def plotView(self) -> qMRMLPlotView:
        return self._view

    def viewWidget(self) -> qMRMLPlotView:
        return self._view

    def plotController(self) -> PlotViewBar:
        return self._bar

    def controllerWidget(self) -> PlotViewBar:
        return self._bar


class PlotViewBar(ViewBar):
    """The bar over a plot view."""

    def __init__(self, node, view: qMRMLPlotView):
        super().__init__(node, _COLOR, node.GetPlotChartNode)
        self._view = view

    @Slot()
    def fitPlotToAxes(self) -> None:
        self._view.fitToContent()


def _plot(series):
    """A series of a chart as a vtkPlot, or None where its table lacks a column of numbers that it needs."""
    table_node = series.GetTableNode() if series is not None else None
    table = table_node.GetTable() if table_node is not None else None
    if table is None:
        return None
    x_name, y_name = series.GetXColumnName(), series.GetYColumnName()
    needed = [y_name, x_name] if series.IsXColumnRequired() else [y_name]
    if not all(name and _is_numbers(table.GetColumnByName(name)) for name in needed):
        return None
    is_line = series.GetPlotType() in (_Series.PlotTypeLine, _Series.PlotTypeScatter)
    plot = vtk.vtkPlotLine() if is_line else vtk.vtkPlotBar()
    plot.SetWidth(series.GetLineWidth())
    plot.SetColorF(*series.GetColor())
    plot.SetOpacity(series.GetOpacity())
    plot.GetPen().SetOpacityF(series.GetOpacity())
    solid = series.GetPlotType() == _Series.PlotTypeBar
    plot.GetPen().SetLineType(vtk.vtkPen.SOLID_LINE if solid else _LINES[series.GetLineStyle()])
    if is_line:
        plot.SetMarkerSize(series.GetMarkerSize())
        plot.SetMarkerStyle(_MARKERS[series.GetMarkerStyle()])
    labels = table.GetColumnByName(series.GetLabelColumnName()) if series.GetLabelColumnName() else None
    plot.SetIndexedLabels(labels if isinstance(labels, vtk.vtkStringArray) else None)
    plot.SetUseIndexForXSeries(not series.IsXColumnRequired())
    plot.SetInputData(table, x_name if series.IsXColumnRequired() else y_name, y_name)
    plot.SetLabel(series.GetName() or y_name)
    return plot


def _is_numbers(column) -> bool:
    return column is not None and not isinstance(column, (vtk.vtkStringArray, vtk.vtkBitArray))


def _describe(chart, node) -> None:
    """Title, legend and axes of a chart as its node says."""
    title = chart.GetTitleProperties()
    font = title.GetFontFamilyFromString(node.GetFontType() or "Arial")
    chart.SetTitle((node.GetTitle() or "") if node.GetTitleVisibility() else "")
    title.SetFontSize(node.GetTitleFontSize())
    chart.SetShowLegend(node.GetLegendVisibility())
    legend = chart.GetLegend().GetLabelProperties()
    legend.SetFontSize(node.GetLegendFontSize())
    for each in (title, legend):
        each.SetFontFamily(font)
    for number in (*_X_AXES, vtk.vtkAxis.LEFT, vtk.vtkAxis.RIGHT):
        axis = chart.GetAxis(number)
        letter = "X" if number in _X_AXES else "Y"
        text = getattr(node, f"Get{letter}AxisTitle")() or ""
        axis.SetTitle(text if getattr(node, f"Get{letter}AxisTitleVisibility")() else "")
        logarithmic = getattr(node, f"Get{letter}AxisLogScale")()
        if getattr(node, f"Get{letter}AxisRangeAuto")():
            if axis.GetLogScale() != logarithmic:
                span = [0.0, 1.0]
                axis.GetUnscaledRange(span)
                axis.SetLogScale(logarithmic)
                _set_range(axis, *span)
            axis.SetBehavior(vtk.vtkAxis.AUTO)
        else:
            axis.SetBehavior(vtk.vtkAxis.FIXED)
            axis.SetLogScale(logarithmic)
            _set_range(axis, *getattr(node, f"Get{letter}AxisRange")())
        axis.SetGridVisible(node.GetGridVisibility())
        axis.GetTitleProperties().SetBold(False)
        axis.GetTitleProperties().SetFontSize(node.GetAxisTitleFontSize())
        axis.GetLabelProperties().SetFontSize(node.GetAxisLabelFontSize())
        for each in (axis.GetTitleProperties(), axis.GetLabelProperties()):
            each.SetFontFamily(font)


def _union(chart, axis: int) -> tuple[float, float]:
    """What the plots of a chart span along an axis; 0, 0 without plots."""
    first = 0 if axis in _X_AXES else 2
    spans = []
    for index in range(chart.GetNumberOfPlots()):
        bounds = [0.0] * 4
        chart.GetPlot(index).GetUnscaledInputBounds(bounds)
        if bounds[1] >= bounds[0]:
            spans.append(bounds[first : first + 2])
    return (min(low for low, _ in spans), max(high for _, high in spans)) if spans else (0.0, 0.0)


def _set_range(axis, low: float, high: float) -> None:
    """A range in the values' own unit; on a logarithmic axis what is not positive gives way to four decades."""
    limits = (-math.inf, math.inf)
    if axis.GetLogScale():
        limits = (0.0, math.inf)
        if high <= 0:
            low, high, limits = 0.1, 1.0, (0.1, 1.0)
        elif low <= 0:
            low = high / 1e4 if high < 1e4 else 1.0
    axis.SetUnscaledMinimumLimit(limits[0])
    axis.SetUnscaledMaximumLimit(limits[1])
    axis.SetUnscaledRange(low, high)
    axis.Update()


class _Canvas:
    """The one window without a screen in which every chart is drawn."""

    def __init__(self):
        self._window = vtk.vtkRenderWindow()
        self._window.SetOffScreenRendering(True)
        if not self._window.SupportsOpenGL():
            raise HostError("VTK finds no OpenGL to draw a chart with: install Mesa (Debian: libegl1 libgl1)")
        self._window.SetMultiSamples(0)  # else Mesa draws the upper rim of some texts under them once more
        self._window.SetLineSmoothing(True)
        self._renderer, self._actor = vtk.vtkRenderer(), vtk.vtkContextActor()
        self._renderer.SetUseFXAA(True)
        self._renderer.SetBackground(1, 1, 1)
        self._renderer.AddActor(self._actor)
        self._window.AddRenderer(self._renderer)
        self._filter = vtk.vtkWindowToImageFilter()
        self._filter.SetInput(self._window)
        self._filter.ReadFrontBufferOff()

    def draw(self, contents, width: int, height: int):
        """A vtkContextScene as an array (rows, columns, 3) of bytes."""
        self._window.SetSize(width, height)
        self._actor.SetScene(contents)
        contents.SetRenderer(self._renderer)
        contents.SetDirty(True)
        self._window.Render()
        self._filter.Modified()
        self._filter.Update()
        image = self._filter.GetOutput()
        pixels = vtk_to_numpy(image.GetPointData().GetScalars())
        return pixels.reshape(height, width, -1)[::-1, :, :3].copy()


_shared: list[_Canvas] = []


def _canvas() -> _Canvas:
    if not _shared:
        _shared.append(_Canvas())
    return _shared[0]
