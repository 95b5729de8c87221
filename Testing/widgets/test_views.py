"""What both modules do to Slicer's views: colour legends, layouts, and the way back from them."""

import re

import numpy as np
import pytest
import slicer
from IPv2Lib.io.volume import Volume
from IPv2SlicerLib.scene import display, layout_node, layouts, volume_nodes
from panel import expand, finish_job, open_panel, view_names

FOUR_UP = slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
ONE_UP_YELLOW = slicer.vtkMRMLLayoutNode.SlicerLayoutOneUpYellowSliceView
BAR = 318


def legends() -> dict[str, list[str]]:
    """Titles of the colour legends that each visible slice view shows."""
    manager = slicer.app.layoutManager()
    widgets = {name: manager.sliceWidget(name) for name in manager.sliceViewNames()}
    shown = {name: each.sliceView().legends() for name, each in widgets.items() if each.isVisible()}
    return {name: [legend.GetTitleText() for legend in found] for name, found in shown.items() if found}


def volume(name: str, hu: float = 0.0):
    return volume_nodes.volume_to_node(Volume(np.full((4, 16, 16), hu, np.float32), (2.0, 2.0, 3.0)), name)


def arrangement() -> int:
    return slicer.app.layoutManager().property("layout")


@pytest.fixture
def difference(host):
    """A node that is a difference, in a scene with another volume."""
    node = volume("difference", 20.0)
    display.show_difference(node, title="Removed (HU)")
    return node


# --- legends ---------------------------------------------------------------------------------------------------


def test_a_legend_is_beside_every_difference_and_nowhere_else(host, difference):
    ct = volume("CT")
    display.show_compare([ct, difference])  # the legend is older than these views
    assert legends() == {"IPv2View2": ["Removed (HU)"]}
    display.show_compare([difference, ct])  # the views know it by now
    assert legends() == {"IPv2View1": ["Removed (HU)"]}
    display.show_compare([ct, ct, ct])
    assert legends() == {}
    later = volume("another")
    display.show_difference(later, title="Another (HU)")
    display.show_compare([difference, later])  # the legend is younger than the views
    assert legends() == {"IPv2View1": ["Removed (HU)"], "IPv2View2": ["Another (HU)"]}


def test_a_legend_follows_what_is_laid_over_a_view(host, difference):
    ct = volume("CT")
    view = display.view_of_name(slicer.mrmlScene, "Red")
    display.show_overlay(difference, None, views=[view])
    assert legends() == {"Red": ["Removed (HU)"]}
    display.show_overlay(ct, None, views=[view], foreground=difference)
    assert legends() == {"Red": ["Removed (HU)"]}
    display.show_overlay(ct, None, views=[view])
    assert legends() == {}


def test_a_legend_goes_when_slicer_puts_a_loaded_volume_into_its_view(host, difference):
    open_panel(host, slices=2)
    display.show_compare([volume("CT"), difference])
    host.process_events(0.1)
    assert legends() == {"IPv2View2": ["Removed (HU)"]}
    slicer.util.setSliceViewerLayers(background=volume("loaded"))
    host.process_events(0.1)
    assert legends() == {}


def test_a_hidden_legend_stays_hidden(host, difference):
    slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(difference).SetVisibility(False)
    display.show_compare([difference])
    assert legends() == {}


def test_refreshing_leaves_no_trace_on_the_views(host, difference):
    ct = volume("CT")
    display.show_compare([ct, difference])
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert {each.GetInteractionFlags() for each in composites} == {0}
    shown = {each.GetLayoutName(): each.GetBackgroundVolumeID() for each in composites}
    assert (shown["IPv2View1"], shown["IPv2View2"]) == (ct.GetID(), difference.GetID())


def test_a_legend_lies_beside_the_slice_where_the_view_leaves_room(host, difference):
    display.show_compare([difference] * 3)  # high and narrow
    assert slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(difference).GetPosition()[1] > 0.8
    display.show_compare([difference])  # wide
    assert slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(difference).GetPosition() == pytest.approx((0.98, 0.5))


def test_denoising_shows_the_legend_of_what_was_removed_each_time(host):
    widget, *_ = open_panel(host)
    for _ in range(2):
        host.click(widget.ui.denoiseButton)
        finish_job(host, widget)
        assert legends() == {"IPv2View3": ["Removed (HU)"]}


def test_legends_come_with_a_scene_that_is_loaded(host, tmp_path, difference):
    open_panel(host)
    display.show_compare([volume("CT"), difference])
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    for _ in range(2):
        slicer.mrmlScene.Clear()
        host.process_events()
        assert legends() == {}
        slicer.util.loadScene(path)
        host.process_events()
        assert view_names() == ["IPv2View1", "IPv2View2"]
        assert legends() == {"IPv2View2": ["Removed (HU)"]}


# --- sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, layouts.MOST_VIEWS + 1))
def test_no_row_has_more_than_three_views(count):
    layout = layouts.compare_layout(count)
    rows = re.findall(r'type="horizontal".*?</layout>', layout.description)
    in_rows = [re.findall(r'singletontag="(\w+)"', row) for row in rows]
    assert tuple(name for row in in_rows for name in row) == layout.views and len(layout.views) == count
    lengths = [len(row) for row in in_rows]
    assert max(lengths) <= 3 and max(lengths) - min(lengths) <= 1 and lengths == sorted(lengths, reverse=True)


def test_the_window_need_not_be_wider_than_three_views(make_host):
    host = make_host(panel_width=350, size=(1000, 800))
    nodes = [volume("CT")] * 9
    widths = []
    for count in range(2, 10):
        display.show_compare(nodes[:count])
        host.process_events()
        widths.append(host.window.minimumSizeHint().width())
    assert max(widths) == widths[1] < 350 + 3 * BAR + 40
    assert max(widths[3:]) <= widths[1]


@pytest.mark.parametrize("layout", layouts.all_layouts()[-6:], ids=lambda layout: str(layout.number))
def test_every_part_of_a_layout_has_its_share_also_after_loading(host, tmp_path, layout):
    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "many columns")
    for number in range(30):
        table.AddColumn().SetName(f"a column with a long name {number}")
    display.set_layout(slicer.mrmlScene, layout)
    for name in layout.tables:
        slicer.mrmlScene.GetSingletonNode(name, "vtkMRMLTableViewNode").SetTableNodeID(table.GetID())
    open_panel(host)
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    for _ in range(2):
        host.process_events(0.2)
        heights, total = heights_of_views(layout), host.window._viewport.height()
        rows = {1: total, 2: total / 2, 3: total / 3}[layout.description.count('type="horizontal"') or 1]
        if layout.tables or layout == layouts.planes_layout():
            rows = total / 2
        assert min(heights) > 0.75 * rows, heights
        slicer.mrmlScene.Clear()
        slicer.util.loadScene(path)


def heights_of_views(layout) -> list[int]:
    manager = slicer.app.layoutManager()
    kinds = (
        ("vtkMRMLSliceNode", layout.views),
        ("vtkMRMLPlotViewNode", layout.plots),
        ("vtkMRMLTableViewNode", layout.tables),
    )
    widgets = [
        manager.viewWidget(slicer.mrmlScene.GetSingletonNode(name, kind)) for kind, names in kinds for name in names
    ]
    assert all(each.isVisible() for each in widgets)
    return [each.height() for each in widgets]


# --- the way back ----------------------------------------------------------------------------------------------


@pytest.fixture
def panel(host):
    widget, uldct, ndct = open_panel(host)
    slicer.app.layoutManager().setLayout(ONE_UP_YELLOW)
    host.process_events()
    return host, widget, [uldct, ndct]


def row(widget):
    return widget._layoutRow


def test_the_layout_from_before_comes_back_after_several_of_ours(panel):
    host, widget, nodes = panel
    assert not row(widget).widget.isVisible()
    for shown in (nodes, nodes[:1], nodes + nodes):
        display.show_compare(shown)
    host.process_events()
    assert row(widget).widget.isVisible()
    host.click(row(widget).restoreButton)
    assert arrangement() == ONE_UP_YELLOW and not row(widget).widget.isVisible()


def test_there_is_nothing_to_restore_once_another_layout_was_chosen(panel):
    host, widget, nodes = panel
    display.show_compare(nodes)
    slicer.app.layoutManager().setLayout(FOUR_UP)
    host.process_events()
    assert not row(widget).widget.isVisible() and layout_node.layout_before(slicer.mrmlScene) is None
    layout_node.restore_layout(slicer.mrmlScene)
    assert arrangement() == FOUR_UP
    display.show_compare(nodes)
    host.click(row(widget).restoreButton)
    assert arrangement() == FOUR_UP


def test_ours_chosen_from_the_menu_of_layouts_leads_back_too(panel):
    host, widget, _ = panel
    slicer.app.layoutManager().setLayout(layouts.compare_layout(2).number)
    host.process_events()
    host.click(row(widget).restoreButton)
    assert arrangement() == ONE_UP_YELLOW


def test_the_way_back_is_saved_with_the_scene(panel, tmp_path):
    host, widget, nodes = panel
    display.show_compare(nodes)
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    host.process_events()
    slicer.app.layoutManager().setLayout(FOUR_UP)
    slicer.util.loadScene(path)
    host.process_events()
    assert layouts.is_ours(arrangement())
    host.click(row(widget).restoreButton)
    assert arrangement() == ONE_UP_YELLOW


def test_a_scene_that_does_not_say_leads_to_slicers_default(host):
    display.set_layout(slicer.mrmlScene, layouts.compare_layout(2))
    node = layout_node.layout_node(slicer.mrmlScene)
    for text in (None, "99999"):
        node.SetAttribute("IPv2LayoutBefore", text)
        assert layout_node.layout_before(slicer.mrmlScene) == FOUR_UP


def test_the_layout_comes_back_when_the_module_is_left_if_the_user_wants_it(panel):
    _, widget, nodes = panel
    assert not row(widget).onExitCheckBox.isChecked()
    display.show_compare(nodes)
    widget.exit()
    assert layouts.is_ours(arrangement())
    widget.enter()
    row(widget).onExitCheckBox.setChecked(True)
    slicer.util.reloadScriptedModule("IPv2Denoise")  # it is a setting of the user, not of the panel
    widget = slicer.modules.ipv2denoise.widgetRepresentation().self()
    widget.enter()
    display.show_compare(nodes)
    widget.exit()
    assert arrangement() == ONE_UP_YELLOW
    widget.enter()
    widget.exit()
    assert arrangement() == ONE_UP_YELLOW


def test_a_stage_goes_back_to_the_red_view_of_the_layout_before(host):
    from IPv2SlicerLib.widgets.Views import showRedView

    widget, uldct, ndct = open_panel(host)
    expand(host, widget.ui.purificationCollapsibleButton)
    before = arrangement()
    display.show_compare([uldct, ndct])
    showRedView()
    assert arrangement() == before and "Red" in view_names()
    slicer.app.layoutManager().setLayout(ONE_UP_YELLOW)
    showRedView()
    host.process_events()
    assert view_names() == ["Red"]
    host.click(row(widget).restoreButton)
    assert arrangement() == ONE_UP_YELLOW
