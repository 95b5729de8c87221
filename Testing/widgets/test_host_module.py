"""The stand-in loads, shows, reloads, tests and ends a scripted module as Slicer does."""

import pytest
from example_module import PATH, calls, copied
from host import Host, HostError


def test_a_module_is_loaded_entered_and_left(host):
    import slicer

    widget = host.load_module(PATH)
    assert calls() == ["startupCompleted", "setup", "enter"]
    assert slicer.modules.hostexample.title == "Host Example"
    assert slicer.util.modulePath("HostExample") == str(PATH)
    assert slicer.util.getModuleWidget("HostExample") is widget is slicer.modules.HostExampleWidget
    assert slicer.util.getModuleLogic("HostExample") is widget.logic
    assert slicer.util.selectedModule() == "HostExample"
    assert widget.parent.isEntered
    host.quit()
    assert calls()[3:] == ["cleanup"]


def test_a_click_reaches_the_module(host):
    widget = host.load_module(PATH)
    host.click(widget.ui.applyButton)
    host.press("Ctrl+Shift+R")
    host.press("Ctrl+Shift+L")
    assert widget.clicks == 2


def test_nobody_can_click_what_is_hidden_or_disabled(host):
    widget = host.load_module(PATH)
    with pytest.raises(HostError, match="'hiddenButton' is hidden"):
        host.click(widget.ui.hiddenButton)
    widget.ui.advancedButton.setProperty("collapsed", False)
    host.click(widget.ui.hiddenButton)
    widget.ui.applyButton.setEnabled(False)
    with pytest.raises(HostError, match="'applyButton' is disabled"):
        host.click(widget.ui.applyButton)


def test_what_a_slot_raises_is_raised_here(host):
    widget = host.load_module(PATH)
    widget.ui.applyButton.clicked.connect(widget.onWrong)
    with pytest.raises(ValueError, match="from a slot"):
        host.click(widget.ui.applyButton)
    host.process_events()


def test_what_an_observer_raises_is_raised_here(host):
    import slicer

    def wrong(caller, event):
        raise ValueError("from an observer")

    tag = slicer.mrmlScene.AddObserver(slicer.mrmlScene.NodeAddedEvent, wrong)
    slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTextNode")
    slicer.mrmlScene.RemoveObserver(tag)
    with pytest.raises(ValueError, match="from an observer"):
        host.process_events()


def test_reload_takes_the_changed_file(host, tmp_path):
    import slicer

    path = copied(tmp_path)
    old = host.load_module(path)
    old_calls = calls()
    path.write_text(path.read_text().replace("VERSION = 1", "VERSION = 20"))  # of another size: compiled anew
    module = slicer.util.reloadScriptedModule("HostExample")
    host.process_events()
    new = slicer.modules.HostExampleWidget
    assert module.VERSION == 20
    assert new is not old
    assert new.parent is old.parent
    assert old_calls[-1] == "cleanup"
    assert calls() == ["setup"]
    assert not old.ui.applyButton.isVisible()
    host.click(new.ui.applyButton)
    assert (old.clicks, new.clicks) == (0, 1)


def test_reload_and_test_of_developer_mode(make_host):
    host = make_host(developer=True)
    widget = host.load_module(PATH)
    host.click(widget.reloadTestMenuButton)
    assert calls() == ["setup", *["StartCloseEvent", "EndCloseEvent", "test_first"],
                       *["StartCloseEvent", "EndCloseEvent", "test_second"]]  # fmt: skip


def test_no_developer_section_for_users(host):
    assert not hasattr(host.load_module(PATH), "reloadButton")


def test_a_failing_self_test_is_an_error(host, tmp_path):
    path = copied(tmp_path, source=lambda text: text.replace('"vtkMRMLScalarVolumeNode"), 0)', '"vtkMRMLNode"), 0)'))
    host.load_module(path)
    with pytest.raises(AssertionError):
        host.run_self_test("HostExample")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('class="QCheckBox"', 'class="ctkMagicBox"', "ctkMagicBox, which the stand-in does not know"),
        ('name="noneEnabled"', 'name="nonEnabled"', "qMRMLNodeComboBox 'inputSelector' has no property 'nonEnabled'"),
        ("mrmlSceneChanged(", "sceneChanged(", "qMRMLWidget 'HostExample' has no sceneChanged"),
        ("setMRMLScene(", "setScene(", "qMRMLNodeComboBox 'inputSelector' has no setScene"),
        ("<receiver>inputSelector", "<receiver>outputSelector", "no object 'outputSelector'"),
    ],
)
def test_a_ui_file_with_something_unknown_is_refused(host, tmp_path, old, new, message):
    path = copied(tmp_path, ui=lambda text: text.replace(old, new))
    with pytest.raises(HostError, match=message):
        host.load_module(path)


def test_a_parameter_that_the_widget_cannot_show_is_refused(host, tmp_path):
    path = copied(tmp_path, ui=lambda text: text.replace('"QSpinBox" name="roundsBox"', '"QLineEdit" name="roundsBox"'))
    with pytest.raises(RuntimeError, match="Unable to create GUI connector"):
        host.load_module(path)
    import slicer

    slicer.modules.HostExampleWidget.removeObservers()


def test_one_host_at_a_time(host):
    with pytest.raises(HostError, match="close it first"):
        Host()


def test_nothing_is_left_after_closing():
    import sys

    import slicer
    import slicer.util

    before = (slicer.util.messageBox, slicer.util.mainWindow, sys.excepthook, list(sys.path))
    with Host() as host:
        host.load_module(PATH)
    assert not hasattr(slicer, "app")
    assert not hasattr(slicer, "modules")
    assert "qt" not in sys.modules
    assert "slicer.ScriptedLoadableModule" not in sys.modules
    assert (slicer.util.messageBox, slicer.util.mainWindow, sys.excepthook, list(sys.path)) == before


def test_quitting_tells_the_application(host):
    import slicer

    told = []
    slicer.app.aboutToQuit.connect(lambda: told.append(True))
    host.quit()
    assert told == [True]


def test_there_is_no_packaging_in_slicer_5_10(make_host):
    make_host(packaging=False)
    with pytest.raises(ImportError):
        from slicer import packaging  # noqa: F401


def test_packages_are_checked_and_noted(host, tmp_path):
    from slicer import packaging

    listed = tmp_path / "requirements.txt"
    listed.write_text("numpy>=1.0  # is there\nno-such-package>=2\nalso-not; sys_platform == 'nowhere'\n")
    host.answers.append(False)
    with pytest.raises(RuntimeError, match="declined"):
        packaging.pip_ensure(packaging.load_requirements(listed))
    assert host.installed_packages == []
    assert host.messages[-1].detail == "- no-such-package>=2"
    packaging.pip_ensure(packaging.load_requirements(listed))
    assert host.installed_packages == ["no-such-package>=2"]
