"""Spheres on nodules: a click places one, the panel says what it holds in input and result, the clipboard gets it."""

import numpy as np
import pytest
import slicer
from IPv2Lib.analysis.spheres import measure_sphere
from IPv2SlicerLib.scene import blending, denoised_nodes, spheres, volume_nodes
from panel import expand, open_panel
from PySide6 import QtWidgets


@pytest.fixture
def panel(host):
    """The module with a result in one view, and *Look and measure* unfolded."""
    widget, uldct, _ = open_panel(host)
    before = volume_nodes.node_to_volume(uldct)
    output = before.with_array((before.array * 0.5 - 300).astype(np.float32))
    nodes = denoised_nodes.add_denoised(uldct, output, 1.0, None, {"model": "none"})
    expand(host, widget.ui.lookCollapsibleButton)
    host.click(widget.ui.oneViewButton)
    host.process_events(0.1)
    return host, widget, nodes


def center_of_view() -> list[float]:
    matrix = slicer.app.layoutManager().sliceWidget("IPv2View1").mrmlSliceNode().GetSliceToRAS()
    return [matrix.GetElement(row, 3) for row in range(3)]


def place(host, ui, dx=0.0) -> None:
    host.click(ui.placeSphereButton)
    right, anterior, superior = center_of_view()
    count = len(rows(ui.sphereTable))
    host.click_view("IPv2View1", (right + dx, anterior, superior))
    host.wait_until(lambda: len(rows(ui.sphereTable)) > count, 10)


def rows(label) -> list[list[str]]:
    """The texts of the cells of the table in a label."""
    import re

    lines = re.findall(r"<tr>(.*?)</tr>", label.text())
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", line) for line in lines]


def test_a_click_places_a_sphere_and_the_panel_says_what_it_holds(panel):
    host, widget, nodes = panel
    ui = widget.ui
    assert not ui.sphereTable.isVisible() and not ui.copySpheresButton.isVisible()
    place(host, ui)
    (node,) = spheres.spheres_of(nodes.input)
    position = [0.0] * 3
    node.GetNthControlPointPositionWorld(0, position)
    assert position == pytest.approx(center_of_view(), abs=2)
    center = np.multiply(position, (-1, -1, 1))
    before, after = (
        measure_sphere(volume_nodes.node_to_volume(each), center, 6) for each in (nodes.input, nodes.denoised)
    )
    head, *lines = rows(ui.sphereTable)
    assert head == ["Sphere", "", "Mean", "σ", "Contrast", "mm³"]
    assert [line[:2] for line in lines] == [["Sphere 1", "Input"], ["6 mm", "Result"]]
    for line, found in zip(lines, (before, after), strict=True):
        texts = f"{found.mean_hu:.0f} {found.sigma_hu:.1f} {found.contrast_hu:.0f} {found.volume_mm3:.0f}"
        assert " ".join(line[2:]) == texts.replace("-", "−").replace("nan", "–")
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform  # the next click places nothing


def test_the_sphere_is_drawn_as_large_as_it_is(panel):
    host, widget, _ = panel
    widget.ui.sphereDiameterSpinBox.setValue(20)
    place(host, widget.ui)
    view = slicer.app.layoutManager().sliceWidget("IPv2View1")
    host.wait_until(lambda: view.sliceView()._overlays_picture is not None, 10)
    drawn = view.sliceView()._overlays_picture[..., 3] > 0
    columns = np.flatnonzero(drawn[drawn.shape[0] // 2])
    pixel_mm = view.mrmlSliceNode().GetFieldOfView()[0] / view.sliceView().width()
    assert (columns[-1] - columns[0] + 1) * pixel_mm == pytest.approx(20, rel=0.1)


def test_the_diameter_is_for_the_last_sphere_and_those_to_come(panel):
    host, widget, _ = panel
    place(host, widget.ui)
    place(host, widget.ui, dx=20)
    widget.ui.sphereDiameterSpinBox.setValue(12.5)
    place(host, widget.ui, dx=-20)
    said = [line[0] for line in rows(widget.ui.sphereTable)[1:]]
    assert said == ["Sphere 1", "6 mm", "Sphere 2", "12.5 mm", "Sphere 3", "12.5 mm"]


def test_numbers_follow_the_sphere_and_the_strength(panel):
    host, widget, nodes = panel
    place(host, widget.ui)
    first = rows(widget.ui.sphereTable)
    blending.set_strength(nodes.denoised, 0.0)
    host.wait_until(lambda: rows(widget.ui.sphereTable) != first, 10)
    second = rows(widget.ui.sphereTable)
    assert second[1] == first[1] and second[2][2:] == second[1][2:] != first[2][2:]
    (node,) = spheres.spheres_of(nodes.input)
    right, anterior, superior = center_of_view()
    node.SetNthControlPointPositionWorld(0, right + 15, anterior, superior)
    host.wait_until(lambda: rows(widget.ui.sphereTable)[1] != second[1], 10)


def test_the_table_is_copied_for_a_spreadsheet(panel):
    host, widget, _ = panel
    place(host, widget.ui)
    host.click(widget.ui.copySpheresButton)
    head, *lines = [line.split("\t") for line in QtWidgets.QApplication.clipboard().text().splitlines()]
    assert head[0] == "Sphere" and head[-1] == "Volume above half contrast (mm³)"
    assert [line[5] for line in lines] == ["Input", "Result"]
    numbers = [[float(text) for text in line[1:5] + line[6:9]] for line in lines]
    assert numbers[0][0] == 6 and numbers[0][1:4] == pytest.approx(center_of_view(), abs=2)
    assert numbers[0][4] == pytest.approx(2 * (numbers[1][4] + 300), abs=0.5)  # the result is half the input - 300


def test_every_volume_has_its_own_spheres(panel):
    host, widget, nodes = panel
    place(host, widget.ui)
    other = slicer.util.getNode("NDCT")
    widget._parameterNode.inputVolume = other
    host.wait_until(lambda: not widget.ui.sphereTable.isVisible(), 10)
    widget._parameterNode.inputVolume = nodes.input
    host.wait_until(lambda: len(rows(widget.ui.sphereTable)) == 3, 10)
    host.click(widget.ui.removeSpheresButton)
    host.wait_until(lambda: not widget.ui.sphereTable.isVisible(), 10)
    assert spheres.all_spheres(nodes.input) == []


def test_a_sphere_that_is_never_placed_leaves_nothing(panel):
    host, widget, nodes = panel
    host.click(widget.ui.placeSphereButton)
    host.press("M")
    assert len(spheres.all_spheres(nodes.input)) == 1 and not widget.ui.sphereTable.isVisible()
    widget.exit()
    assert spheres.all_spheres(nodes.input) == []
    interaction = slicer.app.applicationLogic().GetInteractionNode()
    assert interaction.GetCurrentInteractionMode() == interaction.ViewTransform


def test_without_a_result_the_input_is_measured(host):
    widget, uldct, _ = open_panel(host)
    expand(host, widget.ui.lookCollapsibleButton)
    node = spheres.add_sphere(uldct, 6.0)
    node.AddControlPointWorld([0.0, 0.0, 2.5])
    host.wait_until(lambda: len(rows(widget.ui.sphereTable)) == 3, 10)
    _, before, after = rows(widget.ui.sphereTable)
    assert before[2] != "–" and after[2:] == ["–"] * 4


def test_spheres_come_back_with_a_scene(panel, tmp_path):
    host, widget, _ = panel
    widget.ui.sphereDiameterSpinBox.setValue(9)
    place(host, widget.ui)
    said = rows(widget.ui.sphereTable)
    path = str(tmp_path / "scene.mrb")
    assert slicer.util.saveScene(path)
    slicer.mrmlScene.Clear()
    host.wait_until(lambda: not widget.ui.sphereTable.isVisible(), 10)
    slicer.util.loadScene(path)
    host.wait_until(lambda: rows(widget.ui.sphereTable) == said, 10)
