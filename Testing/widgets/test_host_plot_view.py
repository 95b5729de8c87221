"""Plot views of the stand-in draw what the nodes of the scene say, with VTK's charts."""

import numpy as np
import pytest

PURE = {"red": (1.0, 0.0, 0.0), "green": (0.0, 0.6, 0.0)}


@pytest.fixture
def table(host):
    """Columns x = 0 ... 9, y = x and z = 100 x."""
    import slicer
    import vtk

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Log")
    for name, factor in (("x", 1), ("y", 1), ("z", 100)):
        column = vtk.vtkDoubleArray()
        column.SetName(name)
        for index in range(10):
            column.InsertNextValue(factor * index)
        node.AddColumn(column)
    return node


@pytest.fixture
def chart(table):
    """A chart of y over x, red."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotChartNode", "Curves")
    node.SetTitle("Title")
    node.SetXAxisTitle("Step")
    node.SetYAxisTitle("Loss")
    add_series(node, table, "y", "red")
    return node


def add_series(chart, table, column: str, color: str):
    import slicer

    series = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLPlotSeriesNode", column)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    series.SetXColumnName("x")
    series.SetYColumnName(column)
    series.SetColor(*PURE[color])
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return series


@pytest.fixture
def widget(host, chart):
    """The plot view of a layout, which shows the chart."""
    import slicer

    manager = slicer.app.layoutManager()
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpPlotView)
    widget = manager.plotWidget(0)
    widget.mrmlPlotViewNode().SetPlotChartNodeID(chart.GetID())
    host.process_events(0.2)
    return widget


def picture(host, widget) -> np.ndarray:
    host.process_events(0.2)
    return widget.plotView()._picture.astype(int)


def amount(image: np.ndarray, color: str) -> int:
    """How many pixels are of a colour."""
    return int((np.abs(image - 255 * np.array(PURE[color])).max(axis=2) < 60).sum())


def axis(widget, number: int):
    return widget.plotView().chart().GetAxis(number)


def test_there_are_as_many_plot_views_as_nodes_for_them(host):
    import slicer

    manager = slicer.app.layoutManager()
    assert (manager.plotViewCount, manager.plotWidget(0)) == (0, None)
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutThreeOverThreePlotView)
    assert manager.plotViewCount == 3
    node = manager.plotWidget(2).mrmlPlotViewNode()
    assert node.GetName() == "PlotView3"
    assert manager.viewWidget(node) is manager.plotWidget(2)
    assert manager.viewWidget(None) is None


def test_a_chart_is_drawn_with_its_titles(host, widget):
    import vtk

    image = picture(host, widget)
    assert image.shape[:2] == (widget.plotView().height(), widget.plotView().width())
    assert amount(image, "red") > 500
    assert amount(image, "green") == 0
    assert str(widget.plotView().chart().GetTitle()) == "Title"
    assert [axis(widget, number).GetTitle() for number in (vtk.vtkAxis.BOTTOM, vtk.vtkAxis.LEFT)] == ["Step", "Loss"]


def test_a_changed_table_is_drawn_once(host, widget, table):
    before, renders = picture(host, widget), widget.plotView().renders
    for row in range(10):
        table.GetTable().SetValue(row, 1, 9 - row)
    table.Modified()
    after = picture(host, widget)
    assert widget.plotView().renders == renders + 1
    assert amount(after, "red") > 500
    assert (before != after).any()


def test_series_come_and_go(host, widget, chart, table):
    import slicer

    series = add_series(chart, table, "z", "green")
    assert amount(picture(host, widget), "green") > 500
    series.SetColor(*PURE["red"])
    assert amount(picture(host, widget), "green") == 0
    series.SetColor(*PURE["green"])
    slicer.mrmlScene.RemoveNode(series)
    assert amount(picture(host, widget), "green") == 0
    assert widget.plotView().chart().GetNumberOfPlots() == 1


@pytest.mark.parametrize("change", ["SetXColumnName", "SetYColumnName"])
def test_a_series_without_its_column_is_left_out(host, widget, chart, change):
    getattr(chart.GetNthPlotSeriesNode(0), change)("nothing")
    assert widget.plotView().chart().GetNumberOfPlots() == 0
    assert amount(picture(host, widget), "red") == 0


def test_a_line_needs_no_column_for_x(host, widget, chart):
    import slicer

    series = chart.GetNthPlotSeriesNode(0)
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeLine)
    series.SetXColumnName("")
    assert amount(picture(host, widget), "red") > 500


def test_the_chart_says_what_the_axes_span(host, widget, chart):
    import vtk

    span = [0.0, 0.0]
    chart.SetYAxisRangeAuto(False)
    chart.SetYAxisRange(2, 5)
    axis(widget, vtk.vtkAxis.LEFT).GetUnscaledRange(span)
    assert span == [2, 5]
    widget.plotController().fitPlotToAxes()
    assert chart.GetYAxisRange() == (0, 9)


def test_an_axis_is_logarithmic_where_all_is_positive(host, widget, chart, table):
    import vtk

    left = axis(widget, vtk.vtkAxis.LEFT)
    chart.SetYAxisLogScale(True)
    host.process_events(0.2)
    assert not left.GetLogScaleActive(), "the first value is 0"
    table.GetTable().SetValue(0, 1, 0.01)
    table.Modified()
    assert amount(picture(host, widget), "red") > 100
    assert left.GetLogScaleActive()
    assert not axis(widget, vtk.vtkAxis.BOTTOM).GetLogScale()


def test_a_fixed_logarithmic_axis_gives_way_to_what_is_positive(widget, chart):
    import vtk

    left, span = axis(widget, vtk.vtkAxis.LEFT), [0.0, 0.0]
    chart.SetYAxisLogScale(True)
    chart.SetYAxisRangeAuto(False)
    for asked, used in (((-5, 100), (0.01, 100)), ((-5, -1), (0.1, 1)), ((0.5, 2), (0.5, 2))):
        chart.SetYAxisRange(asked)
        left.GetUnscaledRange(span)
        assert span == pytest.approx(used)


def test_the_plots_logic_shows_a_chart(host, chart):
    import slicer

    slicer.modules.plots.logic().ShowChartInLayout(chart)
    host.process_events(0.1)
    widget = slicer.app.layoutManager().plotWidget(0)
    assert widget.isVisible()
    assert widget.plotView().chart().GetNumberOfPlots() == 1


def test_a_closed_scene_leaves_the_view_empty(host, widget):
    import slicer

    slicer.mrmlScene.Clear()
    assert amount(picture(host, widget), "red") == 0


def test_a_removed_chart_leaves_the_view_empty(host, widget, chart):
    import slicer

    slicer.mrmlScene.RemoveNode(chart)
    assert amount(picture(host, widget), "red") == 0
