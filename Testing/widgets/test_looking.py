"""How a radiologist looks at a result: one view, three planes, flipping with keys, windows, the way back."""

import numpy as np
import pytest
import slicer
from IPv2Lib.hounsfield import WINDOWS
from IPv2SlicerLib.scene import denoised_nodes, display, looking, volume_nodes
from panel import expand, open_panel, view_names

PLANES = ["IPv2Axial", "IPv2Coronal", "IPv2Sagittal"]


@pytest.fixture
def panel(host):
    """The module with a result, seen as before it was looked at, and *Look and measure* unfolded."""
    widget, uldct, _ = open_panel(host)
    before = volume_nodes.node_to_volume(uldct)
    output = before.with_array((before.array * 0.9).astype(np.float32))
    nodes = denoised_nodes.add_denoised(uldct, output, 1.0, None, {"model": "none"})
    expand(host, widget.ui.lookCollapsibleButton)
    host.process_events(0.1)
    return host, widget, nodes


def arrangement() -> int:
    return slicer.app.layoutManager().property("layout")


def backgrounds() -> list[str]:
    """Names of what the slice views of the layout show."""
    views = [display.view_of_name(slicer.mrmlScene, name) for name in view_names()]
    ids = [display.composite_of(view).GetBackgroundVolumeID() for view in views]
    return [slicer.mrmlScene.GetNodeByID(each).GetName() for each in ids]


def windows(nodes) -> list[tuple[float, float]]:
    displays = [node.GetDisplayNode() for node in (nodes.input, nodes.denoised)]
    return [(each.GetWindow(), each.GetLevel()) for each in displays]


def pressed(ui) -> list[str]:
    buttons = {
        "one": ui.oneViewButton, "planes": ui.planesButton, "input": ui.lookInputButton,
        "result": ui.lookResultButton, "difference": ui.lookDifferenceButton,
    }  # fmt: skip
    return [name for name, button in buttons.items() if button.isChecked()]


def test_a_key_flips_one_view_between_input_and_result_at_one_place(panel):
    host, widget, _ = panel
    before = arrangement()
    logic = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
    logic.SetSliceOffset(-2.5)
    host.press("X")
    assert view_names() == ["IPv2View1"] and backgrounds() == ["CTChest denoised"]
    assert pressed(widget.ui) == ["one", "result"]
    view = display.view_of_name(slicer.mrmlScene, "IPv2View1")
    place = [view.GetSliceToRAS().GetElement(row, column) for row in range(4) for column in range(4)]
    assert place[11] == pytest.approx(-2.5)
    seen = []
    for key in ("X", "D", "D", "X", "D", "X"):
        host.press(key)
        seen += backgrounds()
    names = [name.removeprefix("CTChest").strip() or "input" for name in seen]
    assert names == ["input", "difference", "input", "denoised", "difference", "denoised"]
    assert place == [view.GetSliceToRAS().GetElement(row, column) for row in range(4) for column in range(4)]
    host.click(widget._layoutRow.restoreButton)
    assert arrangement() == before and pressed(widget.ui) == []


def test_a_flip_computes_nothing_and_changes_the_picture(panel):
    host, widget, nodes = panel
    host.click(widget.ui.oneViewButton)
    view = slicer.app.layoutManager().sliceWidget("IPv2View1").sliceView()
    images = [node.GetImageData().GetMTime() for node in (nodes.input, nodes.denoised, nodes.difference)]
    host.wait_until(lambda: view._picture is not None, 10)
    picture = view._picture.copy()
    host.press("X")
    host.wait_until(lambda: (view._picture != picture).any(), 10)
    assert images == [node.GetImageData().GetMTime() for node in (nodes.input, nodes.denoised, nodes.difference)]


def test_buttons_do_what_keys_do(panel):
    host, widget, _ = panel
    ui = widget.ui
    before = arrangement()
    for button, name in (
        (ui.lookInputButton, "CTChest"),
        (ui.lookDifferenceButton, "CTChest difference"),
        (ui.lookResultButton, "CTChest denoised"),
    ):
        host.click(button)
        assert backgrounds() == [name] and button.isChecked()
    host.click(ui.oneViewButton)  # again
    assert arrangement() == before and not ui.oneViewButton.isChecked()


def test_three_planes_flip_together(panel):
    host, widget, nodes = panel
    host.click(widget.ui.planesButton)
    assert view_names() == PLANES and backgrounds() == ["CTChest denoised"] * 3
    orientations = [display.view_of_name(slicer.mrmlScene, name).GetOrientation() for name in PLANES]
    assert orientations == ["Axial", "Coronal", "Sagittal"]
    host.press("D")
    assert backgrounds() == ["CTChest difference"] * 3 and pressed(widget.ui) == ["planes", "difference"]
    legend = slicer.vtkSlicerColorLogic.GetColorLegendDisplayNode(nodes.difference)
    views = {name: slicer.app.layoutManager().sliceWidget(name).sliceView() for name in PLANES}
    assert [name for name in PLANES if legend in views[name].legends()] == ["IPv2Axial"]
    host.click(widget.ui.oneViewButton)
    assert view_names() == ["IPv2View1"] and backgrounds() == ["CTChest difference"]
    assert slicer.app.layoutManager().sliceWidget("IPv2View1").sliceView().legends() == [legend]


def test_a_window_is_for_all_views_at_once_also_while_the_difference_is_shown(panel):
    host, widget, nodes = panel
    colors = nodes.difference.GetDisplayNode().GetWindow()
    host.click(widget.ui.mediastinumButton)
    assert windows(nodes) == [WINDOWS["Mediastinum"]] * 2
    host.press("D")
    for key, name in zip("123", WINDOWS, strict=True):
        host.press(key)
        assert windows(nodes) == [WINDOWS[name]] * 2
    assert nodes.difference.GetDisplayNode().GetWindow() == colors
    host.press("X")
    nodes.denoised.GetDisplayNode().SetWindowLevel(123, 45)  # with the mouse
    assert windows(nodes) == [(123, 45)] * 2


def test_who_has_unfolded_it_finds_it_unfolded(panel):
    slicer.util.reloadScriptedModule("IPv2Denoise")
    widget = slicer.modules.ipv2denoise.widgetRepresentation().self()
    assert not widget.ui.lookCollapsibleButton.property("collapsed")
    widget.ui.lookCollapsibleButton.setProperty("collapsed", True)
    slicer.util.reloadScriptedModule("IPv2Denoise")
    assert slicer.modules.ipv2denoise.widgetRepresentation().self().ui.lookCollapsibleButton.property("collapsed")


def test_windows_are_there_before_a_result(host):
    widget, uldct, _ = open_panel(host)
    expand(host, widget.ui.lookCollapsibleButton)
    ui = widget.ui
    assert not ui.oneViewButton.isEnabled() and "no result yet" in ui.oneViewButton.toolTip()
    host.press("X")
    host.press("3")
    display_node = uldct.GetDisplayNode()
    assert (display_node.GetWindow(), display_node.GetLevel()) == WINDOWS["Bone"] and host.messages == []


def test_keys_are_heard_while_the_module_is_open_and_nobody_types(panel):
    host, widget, nodes = panel
    host.press("X")
    widget.ui.strengthSlider.setFocus()
    host.press("2")
    assert windows(nodes)[0] == WINDOWS["Mediastinum"]
    widget.exit()
    host.press("1")
    host.press("X")
    assert windows(nodes)[0] == WINDOWS["Mediastinum"] and backgrounds() == ["CTChest denoised"]
    widget.enter()
    expand(host, widget.ui.advancedCollapsibleButton)
    widget.ui.residualNoiseSpinBox.setFocus()
    widget.ui.residualNoiseSpinBox.selectAll()
    host.press("3")
    assert windows(nodes)[0] == WINDOWS["Mediastinum"] and widget.ui.residualNoiseSpinBox.value() == 3


def test_a_part_that_was_removed_is_said(panel):
    host, _, nodes = panel
    host.press("X")
    slicer.mrmlScene.RemoveNode(nodes.difference)
    host.press("D")
    assert "not in the scene any more" in host.messages[-1].text and backgrounds() == ["CTChest denoised"]


def test_one_view_comes_back_with_a_scene(panel, tmp_path):
    host, widget, _ = panel
    before = arrangement()
    host.press("X")
    host.press("X")
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    host.process_events()
    slicer.util.loadScene(path)
    host.process_events(0.1)
    assert view_names() == ["IPv2View1"] and backgrounds() == ["CTChest"]
    assert pressed(widget.ui) == ["one", "input"]
    host.press("X")
    assert backgrounds() == ["CTChest denoised"]
    host.click(widget._layoutRow.restoreButton)
    assert arrangement() == before


def test_the_legend_is_not_over_the_picture(panel):
    host, _, nodes = panel
    host.press("D")
    view = slicer.app.layoutManager().sliceWidget("IPv2View1").sliceView()
    host.wait_until(lambda: view._overlays_picture is not None, 10)
    legend = view._overlays_picture[..., 3] > 0
    volume = view._picture.max(axis=2) > 0
    assert legend.any() and volume.any() and not (legend & volume).any()
    assert looking.part_of(nodes) == "difference"


def test_no_key_is_one_of_slicers(host):
    from host.main_window import SLICER_KEYS, VIEW_KEYS

    open_panel(host)
    section = __import__("IPv2DenoiseLib.LookingSection", fromlist=["x"])
    keys = {section.FLIP_KEY, section.DIFFERENCE_KEY, *section.WINDOW_KEYS}
    keys.add(__import__("IPv2DenoiseLib.MeasuringSection", fromlist=["x"]).PLACE_KEY)
    assert len(keys) == 6 and not keys & {*SLICER_KEYS, *VIEW_KEYS}
