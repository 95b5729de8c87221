"""Widgets of the stand-in behave as CTK's and Slicer's."""

import pytest


@pytest.fixture
def volumes(host):
    """Two volumes, a label map and a hidden volume in the scene."""
    import slicer

    first, second = (slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name) for name in "ab")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    hidden = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "hidden")
    hidden.SetHideFromEditors(True)
    return first, second


@pytest.fixture
def selector(host):
    """A node selector for scalar volumes, with None, not yet connected with the scene."""
    import slicer

    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.noneEnabled = True
    return box


def offered(selector) -> list[str]:
    return [selector.nodeFromIndex(index).GetName() for index in range(selector.nodeCount())]


def test_a_selector_offers_nodes_of_its_types(selector, volumes):
    import slicer

    assert not selector.isEnabled()
    assert selector.nodeCount() == 0
    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.isEnabled()
    assert offered(selector) == ["a", "b", "labels"]  # a label map is a kind of scalar volume
    selector.showChildNodeTypes = False
    assert offered(selector) == ["a", "b"]
    selector.showHidden = True
    assert offered(selector) == ["a", "b", "hidden"]
    assert selector.currentNode() is None


def test_a_selector_tells_of_changes_once(selector, volumes):
    import slicer

    selector.setMRMLScene(slicer.mrmlScene)
    told = []
    selector.currentNodeChanged.connect(told.append)
    selector.setCurrentNode(volumes[1])
    selector.setCurrentNode(volumes[1])
    selector.setCurrentNodeID(volumes[0].GetID())
    selector.setCurrentNode(None)
    assert told == [volumes[1], volumes[0], None]


def test_a_selector_remembers_what_was_asked_for_before_it_had_a_scene(selector, volumes):
    import slicer

    selector.setCurrentNode(volumes[1])
    assert selector.currentNode() is None
    selector.setMRMLScene(slicer.mrmlScene)
    assert selector.currentNode() is volumes[1]


def test_without_none_a_selector_chooses_the_first_node(host):
    import slicer

    box = slicer.qMRMLNodeComboBox()
    box.nodeTypes = ["vtkMRMLScalarVolumeNode"]
    box.setMRMLScene(slicer.mrmlScene)
    first = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert box.currentNode() is first


def test_the_next_node_follows_a_removed_one(selector, volumes):
    import slicer

    selector.showChildNodeTypes = False
    selector.setMRMLScene(slicer.mrmlScene)
    selector.setCurrentNode(volumes[0])
    slicer.mrmlScene.RemoveNode(volumes[0])
    assert selector.currentNode() is volumes[1]
    slicer.mrmlScene.RemoveNode(volumes[1])
    assert selector.currentNode() is None


def test_a_selector_follows_names(selector, volumes):
    import slicer
    from PySide6.QtWidgets import QComboBox

    selector.setMRMLScene(slicer.mrmlScene)
    selector.setCurrentNode(volumes[0])
    volumes[0].SetName("renamed")
    assert selector.findChild(QComboBox).currentText() == "renamed"


def test_a_selector_makes_nodes(selector):
    import slicer

    selector.baseName = "Result"
    selector.setMRMLScene(slicer.mrmlScene)
    node = selector.addNode()
    assert node.GetName() == "Result"
    assert selector.currentNode() is node
    selector.removeCurrentNode()
    assert selector.currentNode() is None


def test_folding_hides_what_is_inside(host):
    import ctk
    import qt

    button = ctk.ctkCollapsibleButton("Section")
    box = qt.QVBoxLayout(button)
    inside, hidden = qt.QPushButton("inside"), qt.QPushButton("hidden")
    box.addWidget(inside)
    box.addWidget(hidden)
    hidden.hide()
    button.show()
    told = []
    button.contentsCollapsed.connect(told.append)
    button.collapsed = True
    assert not inside.isVisible()
    assert button.sizeHint().height() < 40
    hidden.show()  # as if it had been folded away
    assert not hidden.isVisible()
    button.collapsed = False
    assert inside.isVisible()
    assert hidden.isVisible()
    assert told == [True, False]


def test_a_slider_keeps_to_its_range_and_tells_once(host):
    import ctk

    slider = ctk.ctkSliderWidget()
    slider.minimum, slider.maximum, slider.decimals = -10.0, 10.0, 1
    told = []
    slider.valueChanged.connect(told.append)
    slider.setValue(3.25)
    slider.setValue(3.25)
    slider.setValue(99.0)
    slider.maximum = 5.0
    assert told == [3.25, 10.0, 5.0]
    assert slider.value == 5.0


def test_a_path_that_is_cleared_is_told_as_invalid_only(host):
    import ctk

    edit = ctk.ctkPathLineEdit()
    told = []
    edit.currentPathChanged.connect(told.append)
    edit.validInputChanged.connect(told.append)
    for path in ("/a", "/b", ""):
        edit.setCurrentPath(path)
    assert told == ["/a", True, "/b", False]


def test_a_path_is_chosen_in_a_dialog(host, tmp_path):
    import ctk

    edit = ctk.ctkPathLineEdit()
    told = []
    edit.currentPathChanged.connect(told.append)
    edit.setCurrentPath("/a")
    host.answers.append(tmp_path)
    edit.browse()
    edit.browse()  # closed without a choice
    assert told == ["/a", str(tmp_path)]
