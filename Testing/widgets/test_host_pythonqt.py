"""The stand-in holds code of a module to what means the same in PythonQt and PySide6."""

import pytest
from example_module import PATH, copied
from host import HostError, Message


@pytest.fixture
def ask(host, tmp_path):
    """Run a line of code as part of a module, on its widget."""

    def run(line: str):
        name = f"    def onLine(self):\n        {line}\n"
        path = copied(tmp_path, source=lambda text: text.replace("    def onWrong", f"{name}\n    def onWrong"))
        return host.load_module(path).onLine()

    return run


@pytest.mark.parametrize(
    "line",
    [
        "self.ui.inputLabel.text()",
        "self.ui.inputLabel.text",
        "self.ui.applyButton.text = 'Go'",
        "self.ui.applyButton.enabled = False",
        "self.ui.roundsBox.value()",
        "self.ui.methodBox.currentText()",
        "self.ui.methodBox.count()",
        "self.ui.strengthSlider.toolTip = 'x'",
        "qt.QTimer().interval()",
    ],
)
def test_a_form_of_one_binding_only_is_refused(ask, line):
    with pytest.raises(HostError):
        ask(line)


def test_connecting_by_text_is_refused(ask):
    with pytest.raises(TypeError):
        ask("self.ui.applyButton.connect('clicked()', self.onApply)")


@pytest.mark.parametrize(
    ("line", "result"),
    [
        ("return self.ui.inputLabel.property('text')", "Input:"),
        ("return self.ui.carefulBox.isChecked()", True),
        ("self.ui.applyButton.setText('Go'); return self.ui.applyButton.property('text')", "Go"),
        ("return self.ui.methodBox.itemText(1)", "slow"),
        ("return self.ui.advancedButton.collapsed", True),
        ("self.ui.advancedButton.collapsed = False; return self.ui.hiddenButton.isVisible()", True),
        ("return qt.Qt.AlignLeft == qt.Qt.AlignLeft", True),
    ],
)
def test_a_common_form_works(ask, line, result):
    assert ask(line) == result


@pytest.mark.parametrize("name", ["setCollapsed", "collapse", "setText2"])
def test_only_slots_of_a_stand_in_exist(ask, name):
    with pytest.raises(AttributeError, match=name):
        ask(f"self.ui.advancedButton.{name}(False)")


def test_scoped_enumerators_are_refused(host, tmp_path):
    path = copied(tmp_path, source=lambda text: text + "\nLEFT = qt.Qt.AlignmentFlag.AlignLeft\n")
    with pytest.raises(HostError, match="leave out AlignmentFlag"):
        host.load_module(path)


def test_an_unknown_class_is_refused(ask):
    with pytest.raises(AttributeError, match="ctkNothing"):
        ask("import ctk; ctk.ctkNothing()")
    import slicer

    with pytest.raises(AttributeError, match="noSuchModule"):
        slicer.modules.noSuchModule  # noqa: B018


def test_code_outside_of_modules_uses_pyside(host):
    widget = host.load_module(PATH)
    assert widget.ui.inputLabel.text() == "Input:"


def test_messages_are_kept_and_answered(host):
    import slicer

    slicer.util.errorDisplay("It broke", windowTitle="Title", detailedText="why")
    assert host.messages == [Message("error", "It broke", "Title", "why")]
    assert slicer.util.confirmOkCancelDisplay("Sure?") is True
    host.answers.extend([False, True, False])
    assert slicer.util.confirmOkCancelDisplay("Sure?") is False
    assert slicer.util.confirmYesNoDisplay("Sure?") is True
    assert slicer.util.confirmYesNoDisplay("Sure?") is False
    assert slicer.util.confirmRetryCloseDisplay("Again?") is False
    assert [each.kind for each in host.messages] == ["error", *["question"] * 4, "error"]


def test_in_testing_mode_slicer_shows_no_dialogs(make_host):
    import slicer

    host = make_host(testing=True)
    slicer.util.confirmYesNoDisplay("Sure?")
    slicer.util.errorDisplay("It broke")
    assert host.messages == []


def test_file_dialogs_return_texts(host, tmp_path):
    import qt

    assert qt.QFileDialog.getOpenFileName(None, "Load") == ""
    host.answers.extend([tmp_path / "a.nrrd", [tmp_path], tmp_path])
    assert qt.QFileDialog.getSaveFileName(None, "Save") == str(tmp_path / "a.nrrd")
    assert qt.QFileDialog.getOpenFileNames(None, "Load") == [str(tmp_path)]
    assert qt.QFileDialog.getExistingDirectory(None, "Folder") == str(tmp_path)


def test_message_boxes_of_qt_do_not_wait(host):
    import qt

    host.answers.append(False)
    assert qt.QMessageBox.question(None, "T", "Sure?", qt.QMessageBox.Yes | qt.QMessageBox.No) == qt.QMessageBox.No
    box = qt.QMessageBox()
    box.setText("Hello")
    box.setStandardButtons(qt.QMessageBox.Ok)
    assert box.exec_() == qt.QMessageBox.Ok
    assert [each.text for each in host.messages] == ["Sure?", "Hello"]


def test_settings_come_back_as_texts(host):
    import qt
    import slicer

    qt.QSettings().setValue("IPv2/flag", True)
    qt.QSettings().setValue("IPv2/count", 3)
    assert slicer.app.userSettings().value("IPv2/count") == "3"
    assert slicer.util.settingsValue("IPv2/flag", False, converter=slicer.util.toBool) is True
    assert qt.QSettings().value("IPv2/other", 7) == 7


def test_slicer_util_works_as_in_slicer(host):
    """Slicer's own functions, written for PythonQt, find the properties that they read."""
    import slicer

    widget = host.load_module(PATH)
    assert slicer.util.findChild(widget.parent, "applyButton") is widget.ui.applyButton
    assert slicer.util.findChildren(widget.parent, text="Appl*") == [widget.ui.applyButton]
    assert slicer.util.showStatusMessage("Ready") is True
    assert host.window.statusBar().currentMessage() == "Ready"
    assert slicer.util.tempDirectory().startswith(slicer.app.temporaryPath)
