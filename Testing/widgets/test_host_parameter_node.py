"""Parameter nodes of the stand-in: what is kept, what is refused, and how they follow widgets and back."""

import enum
import gc
from pathlib import Path
from typing import Annotated, Optional, Union

import pytest
from example_module import PATH, calls


@pytest.fixture
def wrap(host):
    """Make a wrapped parameter node from annotations and defaults."""
    import slicer
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    def make(annotations: dict, node=None, **defaults):
        cls = parameterNodeWrapper(type("Parameters", (), {"__annotations__": annotations, **defaults}))
        return cls(node or slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode"))

    return make


class Color(enum.Enum):
    RED = 1
    BLUE = 2


@pytest.mark.parametrize(
    ("kind", "default", "value"),
    [
        (bool, False, True),
        (int, 0, -3),
        (float, 0.0, 0.1 + 0.2),
        (str, "", "Ä, b: c; d=e"),
        (Path, Path(), Path("a/b")),
        (Color, Color.RED, Color.BLUE),
        (Optional[int], None, 4),  # noqa: UP045 (as modules for Slicer 5.10 write it)
        (Union[int, str], 0, "text"),  # noqa: UP007
        (list[str], [], ["a", "b"]),
    ],
)
def test_values_are_kept_as_text(wrap, kind, default, value):
    parameters = wrap({"x": kind})
    assert parameters.x == default
    parameters.x = value
    assert parameters.x == value
    assert wrap({"x": kind}, parameters.parameterNode).x == value


def test_a_list_changed_in_place_is_kept(wrap):
    parameters = wrap({"x": list[int]})
    parameters.x.append(3)
    parameters.x.extend([4, 5])
    del parameters.x[0]
    assert wrap({"x": list[int]}, parameters.parameterNode).x == [4, 5]


def test_nodes_are_references(wrap):
    import slicer

    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    parameters = wrap({"x": slicer.vtkMRMLScalarVolumeNode})
    assert parameters.x is None
    parameters.x = volume
    assert parameters.x is volume
    assert parameters.parameterNode.GetNodeReferenceID("x") == volume.GetID()
    with pytest.raises(TypeError):
        parameters.x = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")


def test_what_does_not_fit_is_refused(wrap):
    from slicer.parameterNodeWrapper import Choice, Maximum, Minimum, WithinRange

    parameters = wrap(
        {
            "within": Annotated[float, WithinRange(0, 1)],
            "between": Annotated[int, Minimum(2), Maximum(3)],
            "choice": Annotated[str, Choice(["a", "b"])],
            "text": str,
        },
        between=2,
        choice="a",
    )
    for name, value, error in [
        ("within", 1.1, ValueError),
        ("between", 4, ValueError),
        ("choice", "c", ValueError),
        ("text", 3, TypeError),
        ("text", None, ValueError),
    ]:
        with pytest.raises(error):
            setattr(parameters, name, value)
    with pytest.raises(ValueError, match="must be one of"):
        wrap({"choice": Annotated[str, Choice(["a"])]})


def test_unknown_types_and_reserved_names_are_refused(wrap):
    from host import HostError

    with pytest.raises(HostError, match="does not know how to keep"):
        wrap({"x": complex})
    with pytest.raises(ValueError, match="connectGui"):
        wrap({"connectGui": int}, connectGui=3)


def test_observers_are_told_once_and_see_the_new_value(wrap):
    parameters = wrap({"x": int, "y": int})
    seen = []
    parameters.AddObserver("ModifiedEvent", lambda *_: seen.append((parameters.x, parameters.y)))
    parameters.x = 1
    was_modifying = parameters.StartModify()
    parameters.x, parameters.y = 2, 3
    parameters.EndModify(was_modifying)
    assert seen == [(1, 0), (2, 3)]


def test_widgets_follow_whatever_was_collected_in_between(host, wrap):
    """Observers need not be called in the order in which they were added, once one of them was removed."""
    import qt
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")
    earlier = wrap({"x": int}, node)
    parameters = wrap({"x": int}, node)
    del earlier
    gc.collect()
    box = qt.QSpinBox()
    parameters.connectParametersToGui({"x": box})
    wrap({"x": int}, node).x = 7
    assert box.value() == 7


@pytest.mark.parametrize(
    ("name", "value", "widget", "shown"),
    [
        ("strength", 12.0, "strengthSlider", ("value", 12.0)),
        ("rounds", 7, "roundsBox", ("value", 7)),
        ("careful", False, "carefulBox", ("checked", False)),
        ("title", "T", "titleEdit", ("text", "T")),
        ("method", "fast", "methodBox", ("currentText", "fast")),
        ("folder", Path("b"), "folderEdit", ("currentPath", "b")),
    ],
)
def test_parameter_and_widget_follow_each_other(host, name, value, widget, shown):
    panel = host.load_module(PATH)
    parameters, control = panel.logic.getParameterNode(), getattr(panel.ui, widget)
    before_value, before_shown = getattr(parameters, name), control.property(shown[0])
    setattr(parameters, name, value)
    assert control.property(shown[0]) == shown[1]
    control.setProperty(shown[0], before_shown)
    assert getattr(parameters, name) == before_value


def test_an_enumeration_shows_its_labels(host):
    panel = host.load_module(PATH)
    box = panel.ui.sideBox
    assert [box.itemText(index) for index in range(box.count())] == ["Left", "Right"]
    assert box.currentText() == "Right"
    box.setCurrentIndex(0)
    assert panel.logic.getParameterNode().side.name == "LEFT"


def test_widgets_take_their_bounds_from_the_annotations(host):
    panel = host.load_module(PATH)
    assert (panel.ui.strengthSlider.minimum, panel.ui.strengthSlider.maximum) == (0, 100)
    assert (panel.ui.roundsBox.minimum(), panel.ui.roundsBox.maximum()) == (1, 9)


def test_disconnected_widgets_do_not_follow(host):
    panel = host.load_module(PATH)
    parameters = panel._parameterNode
    parameters.disconnectGui(panel._guiTag)
    parameters.rounds = 8
    panel.ui.carefulBox.setChecked(False)
    assert panel.ui.roundsBox.value() == 3
    assert parameters.careful is True


@pytest.mark.parametrize(
    ("kind", "widget", "shown", "values"),
    [
        (float, "ctkDoubleSpinBox", "value", (1.5, 2.0)),
        (float, "ctkDoubleSlider", "value", (1.5, 2.0)),
        (Path, "ctkDirectoryButton", "directory", (Path("a"), Path("b"))),
    ],
)
def test_less_common_widgets_follow_as_well(wrap, kind, widget, shown, values):
    import ctk
    from slicer.parameterNodeWrapper import WithinRange

    if widget == "ctkDoubleSlider":
        kind = Annotated[float, WithinRange(0, 9)]
    parameters, control = wrap({"x": kind}), getattr(ctk, widget)()
    parameters.connectParametersToGui({"x": control})
    parameters.x = values[0]
    assert str(getattr(control, shown)) == str(values[0])
    control.setProperty(shown, str(values[1]) if isinstance(values[1], Path) else values[1])
    assert parameters.x == values[1]


@pytest.mark.parametrize("widget", ["QSlider", "ctkSliderWidget"])
def test_sliders_need_bounds(wrap, widget):
    import ctk
    import qt

    kind = int if widget == "QSlider" else float
    control = getattr(ctk if widget.startswith("ctk") else qt, widget)()
    with pytest.raises(RuntimeError, match="unbounded"):
        wrap({"x": kind}).connectParametersToGui({"x": control})


def test_a_combo_box_needs_choices(wrap):
    import qt

    with pytest.raises(RuntimeError, match="Choice"):
        wrap({"x": str}).connectParametersToGui({"x": qt.QComboBox()})


def test_a_widget_class_has_to_match_exactly(wrap):
    import qt

    class MyLineEdit(qt.QLineEdit):
        pass

    with pytest.raises(RuntimeError, match="Unable to create"):
        wrap({"x": str}).connectParametersToGui({"x": MyLineEdit()})
    with pytest.raises(ValueError, match="Cannot find a param"):
        wrap({"x": str}).connectParametersToGui({"y": qt.QLineEdit()})


def test_a_scene_brings_all_parameters_back(host, tmp_path):
    import slicer

    panel = host.load_module(PATH)
    volume = slicer.util.addVolumeFromArray(__import__("numpy").zeros((2, 3, 4)), name="scan")
    parameters = panel._parameterNode
    values = {"strength": 7.0, "rounds": 9, "careful": False, "title": "x", "method": "fast", "marks": [1, 2]}
    for name, value in values.items():
        setattr(parameters, name, value)
    parameters.inputVolume = volume
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))

    slicer.mrmlScene.Clear()
    host.process_events()
    assert calls()[-2:] == ["StartCloseEvent", "EndCloseEvent"]
    assert panel.ui.inputSelector.currentNode() is None
    assert panel.ui.titleEdit.text() == "none"

    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    host.process_events()
    parameters = panel._parameterNode
    assert {name: getattr(parameters, name) for name in values} == values
    assert parameters.inputVolume.GetName() == "scan"
    assert panel.ui.inputSelector.currentNode() is parameters.inputVolume
    assert panel.ui.titleEdit.text() == "x"
