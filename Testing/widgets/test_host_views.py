"""The views of the stand-in: layouts, pictures, linking, and screenshots of the whole."""

import numpy as np
import pytest
from example_module import PATH
from IPv2Lib.io.volume import Volume
from IPv2SlicerLib.scene import display, volume_nodes


def picture(path) -> np.ndarray:
    """An image file as an array (rows, columns, 3)."""
    from PySide6.QtGui import QImage

    image = QImage(str(path)).convertToFormat(QImage.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()


def view_picture(host, name: str, path) -> np.ndarray:
    import slicer

    host.screenshot(path, slicer.app.layoutManager().sliceWidget(name).sliceView())
    return picture(path)


@pytest.fixture
def ramp() -> Volume:
    """Slices that get brighter: -1350, -1250, ... HU."""
    array = np.full((16, 32, 32), -1350, np.int16) + 100 * np.arange(16, dtype=np.int16)[:, None, None]
    return Volume(array, (2.0, 2.0, 3.0))


def test_the_default_layout_has_three_slice_views(host):
    import slicer

    manager = slicer.app.layoutManager()
    assert sorted(manager.sliceViewNames()) == ["Green", "Red", "Yellow"]
    assert all(manager.sliceWidget(name).isVisible() for name in manager.sliceViewNames())
    assert manager.sliceWidget("Blue") is None


def test_another_layout_hides_views(host):
    import slicer

    manager = slicer.app.layoutManager()
    told = []
    manager.layoutChanged.connect(told.append)
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    host.process_events()
    assert told == [slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView] == [manager.layout]
    assert [name for name in manager.sliceViewNames() if manager.sliceWidget(name).isVisible()] == ["Red"]


def test_a_loaded_volume_is_shown(host, ramp, tmp_path):
    import slicer
    from IPv2Lib.io import files

    node = slicer.util.loadVolume(str(files.write(ramp, tmp_path / "scan.nrrd")))
    host.process_events(0.1)
    composite = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceCompositeNode()
    assert composite.GetBackgroundVolumeID() == node.GetID()
    assert view_picture(host, "Red", tmp_path / "red.png").max() > 0


def test_a_view_is_drawn_again_once_for_several_changes(host, ramp, tmp_path):
    import slicer

    node = volume_nodes.volume_to_node(ramp, "ramp")
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    host.process_events(0.2)
    view = slicer.app.layoutManager().sliceWidget("Red").sliceView()
    before, renders = view_picture(host, "Red", tmp_path / "before.png"), view.renders
    for window in (500, 400, 300):
        node.GetDisplayNode().SetWindowLevel(window, -1000)
    host.process_events(0.2)
    after = view_picture(host, "Red", tmp_path / "after.png")
    assert view.renders == renders + 1
    assert after.mean() > before.mean() + 50


def test_views_of_a_comparison_are_linked(host, ramp, tmp_path):
    import slicer

    nodes = [volume_nodes.volume_to_node(ramp, name) for name in "abc"]
    views = display.show_compare(nodes, slice_index=2)
    host.process_events(0.2)
    manager = slicer.app.layoutManager()
    dark = view_picture(host, "IPv2View3", tmp_path / "dark.png")
    manager.sliceWidget("IPv2View1").sliceController().setSliceOffsetValue(13 * 3.0)
    host.process_events(0.2)
    assert [view.GetSliceOffset() for view in views] == [39.0] * 3
    assert view_picture(host, "IPv2View3", tmp_path / "bright.png").mean() > dark.mean() + 50
    assert [name for name in manager.sliceViewNames() if manager.sliceWidget(name).isVisible()] == [
        "IPv2View1",
        "IPv2View2",
        "IPv2View3",
    ]


def test_the_mouse_wheel_moves_one_slice(host, ramp):
    import slicer
    from PySide6 import QtCore, QtGui

    node = volume_nodes.volume_to_node(ramp, "ramp")
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    host.process_events()
    widget = slicer.app.layoutManager().sliceWidget("Red")
    before = widget.sliceLogic().GetSliceOffset()
    center = QtCore.QPointF(widget.sliceView().rect().center())
    event = QtGui.QWheelEvent(
        center, center, QtCore.QPoint(), QtCore.QPoint(0, 120), QtCore.Qt.NoButton, QtCore.Qt.NoModifier,
        QtCore.Qt.NoScrollPhase, False,
    )  # fmt: skip
    QtCore.QCoreApplication.sendEvent(widget.sliceView(), event)
    assert widget.sliceLogic().GetSliceOffset() == pytest.approx(before + 3.0)


def test_a_legend_is_seen_only_where_slicers_own_manager_shows_it(host, ramp, tmp_path):
    import slicer

    def spread(name: str) -> np.ndarray:
        host.process_events(0.2)
        colored = view_picture(host, "Red", tmp_path / f"{name}.png").astype(int)
        return colored.max(axis=2) - colored.min(axis=2)

    node = volume_nodes.volume_to_node(ramp.with_array(np.zeros_like(ramp.array)), "difference")
    display.show_difference(node)
    slicer.util.setSliceViewerLayers(background=node, fit=True)
    view = slicer.app.layoutManager().sliceWidget("Red").sliceView()
    assert view.legends() == [] and (spread("unnoticed") <= 100).all(), "nobody told the view's manager"
    display.refresh_legends(slicer.mrmlScene)
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(node)
    assert view.legends() == [legend]
    assert (spread("legend") > 100).any(), "the ends of the colour bar are blue and red"
    legend.SetVisibility(False)
    assert view.legends() == [] and (spread("plain") <= 100).all()


def test_a_slice_view_is_no_narrower_than_its_bar_and_the_window_grows(make_host):
    import slicer

    host = make_host(size=(800, 600), panel_width=350)
    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    views = "".join(f'<item><view class="vtkMRMLSliceNode" singletontag="V{number}"/></item>' for number in range(4))
    node.AddLayoutDescription(501, f'<layout type="horizontal" split="true">{views}</layout>')
    node.SetViewArrangement(501)
    host.process_events()
    assert host.window.width() >= 350 + 4 * 318
    node.SetViewArrangement(slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpRedSliceView)
    host.process_events()
    assert host.window.width() >= 350 + 4 * 318, "it does not shrink again"


def test_a_splitter_without_sizes_crushes_plots(host):
    import slicer

    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    for number, size in ((501, ""), (502, ' splitSize="500"')):
        description = (
            f'<layout type="vertical" split="true"><item{size}><view class="vtkMRMLTableViewNode" singletontag="T"/>'
            f'</item><item{size}><view class="vtkMRMLPlotViewNode" singletontag="P"/></item></layout>'
        )
        node.AddLayoutDescription(number, description)
    heights = []
    for number in (501, 502):
        node.SetViewArrangement(number)
        host.process_events()
        heights.append(slicer.app.layoutManager().plotWidget(0).height() / host.window._viewport.height())
    assert heights[0] < 0.3 and heights[1] == pytest.approx(0.5, abs=0.03)


def test_a_key_of_slicers_own_is_heard_by_nobody_else(host):
    from host.main_window import SLICER_KEYS
    from PySide6 import QtGui

    heard = []
    for keys in ("Ctrl+Shift+Down", "Ctrl+Shift+K"):
        QtGui.QShortcut(QtGui.QKeySequence(keys), host.window).activated.connect(lambda keys=keys: heard.append(keys))
        host.press(keys)
    assert "Ctrl+Shift+Down" in SLICER_KEYS and heard == ["Ctrl+Shift+K"]


def test_a_click_places_a_point_only_where_slicer_is_placing_one(host, ramp):
    import slicer
    from host.errors import HostError

    slicer.util.setSliceViewerLayers(background=volume_nodes.volume_to_node(ramp, "CT"), fit=True)
    host.process_events(0.1)
    points = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "points")
    points.CreateDefaultDisplayNodes()
    plane = slicer.app.layoutManager().sliceWidget("Red").mrmlSliceNode().GetSliceToRAS()
    center = [plane.GetElement(row, 3) for row in range(3)]
    host.click_view("Red", center)
    assert points.GetNumberOfControlPoints() == 0
    slicer.modules.markups.logic().SetActiveList(points)
    slicer.modules.markups.logic().StartPlaceMode(False)
    for _ in range(2):
        host.click_view("Red", center)
        assert points.GetNumberOfDefinedControlPoints() == 1
    position = [0.0] * 3
    points.GetNthControlPointPositionWorld(0, position)
    assert position == pytest.approx(center, abs=0.5)
    with pytest.raises(HostError, match="does not show the place"):
        host.click_view("Red", (center[0], center[1], center[2] + 6))


@pytest.mark.parametrize(("dark", "width"), [(False, 380), (True, 350)])
def test_a_screenshot_shows_panel_and_views(make_host, tmp_path, dark, width):
    host = make_host(dark=dark, panel_width=width)
    host.load_module(PATH)
    window = picture(host.screenshot(tmp_path / "window.png"))
    assert window.shape == (800, 1400, 3)
    panel, views = window[:, : width - 2], window[:, width + 4 :]
    assert (np.median(panel) < 100) == dark
    assert (views == 0).all(axis=2).mean() > 0.4, "empty slice views are black"
    assert picture(host.screenshot(tmp_path / "large.png", scale=2)).shape == (1600, 2800, 3)
    assert picture(host.panel_screenshot(tmp_path / "panel.png")).shape[1] == width


def test_texts_that_do_not_fit_are_found(host):
    widget = host.load_module(PATH)
    host.process_events()
    assert host.cut_off_texts() == []
    widget.ui.applyButton.setMaximumWidth(20)
    host.process_events()
    assert host.cut_off_texts() == ["Apply"]
