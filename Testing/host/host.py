"""`Host`: Slicer's desktop application, as far as the tests of scripted modules need it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import slicer
import slicer.util
import vtk
from PySide6 import QtCore, QtGui, QtTest, QtWidgets

from . import (
    application,
    ctk_widgets,
    dialogs,
    dicom,
    mrml_widgets,
    overlays,
    packages,
    parameter_node,
    pythonqt,
    sample_data,
    scripted_modules,
    settings,
    style,
    ui_loader,
)
from .errors import HostError
from .event_loop import EventLoop, waits_counted
from .layout import qSlicerLayoutManager
from .main_window import qSlicerMainWindow
from .observation import end_all
from .subject_hierarchy import (
    SubjectHierarchy,
    context_menu,
    make_modules,
    qSlicerSubjectHierarchyPluginHandler,
    qSlicerSubjectHierarchyScriptedPlugin,
)

_PANEL_WIDTH, _WINDOW_SIZE = 380, (1400, 800)
_PATIENCE_SECONDS = 2.0
_missing = object()


class Host:
    """A running Slicer with an empty scene. One at a time per process; close it, or use it in a `with` statement.

    Parameters
    ----------
    dark : bool
        Dark appearance.
    panel_width : int
        Of the module panel, in pixels.
    size : (width, height)
        Of the window, in pixels.
    version : (major, minor)
        What `slicer.app` says.
    packaging : bool
        Whether there is `slicer.packaging`, which Slicer 5.10 has not.
    pytorch_extension : bool
        Whether the extension PyTorch is installed.
    testing : bool
        Whether Slicer runs with --testing, where `slicer.util` shows no dialogs.
    developer : bool
        Developer mode: the section "Reload & Test" at the top of the panel.
    keep_lock : bool
        Whether Python threads starve while events run, as in Slicer.

    Examples
    --------
    A module is loaded from its file, its widgets are used as a user would::

        with Host() as host:
            widget = host.load_module("IPv2Denoise/IPv2Denoise.py")
            host.click(widget.ui.applyButton)
            host.wait_until(lambda: done, timeout=60)
            host.screenshot("panel.png")
    """

    _running: Host | None = None

    def __init__(
        self,
        *,
        dark: bool = False,
        panel_width: int = _PANEL_WIDTH,
        size: tuple[int, int] = _WINDOW_SIZE,
        version: tuple[int, int] = (5, 10),
        packaging: bool = True,
        pytorch_extension: bool = True,
        testing: bool = False,
        developer: bool = False,
        keep_lock: bool = True,
    ):
        if Host._running is not None:
            raise HostError("a host is running already: close it first")
        self.app = application.make_application()
        Host._running = self
        self.errors: list[BaseException] = []
        self._replaced: list[tuple[object, str, object]] = []
        self._imported: dict[str, object] = {}
        self._search_path = list(sys.path)
        self._modules: list[str] = []
        self._clicked: dict[int, float] = {}  # button to when
        self._loop = EventLoop(keep_lock)
        for each in (dialogs, settings, packages):
            each.reset()
        settings.QSettings().setValue("Developer/DeveloperMode", developer)
        style.apply(self.app, dark)
        self.scene = slicer.vtkMRMLScene()
        self._install(packaging, pytorch_extension)
        self.app._start(self.scene, version, testing)
        application.add_core_modules(self.app)
        self._hierarchy = SubjectHierarchy(self.scene)
        self.window = qSlicerMainWindow(self.app.moduleManager(), panel_width, size)
        self.app._layout_manager = qSlicerLayoutManager(self.window._viewport, self.scene, self.app.applicationLogic())
        self.window.show()
        self.process_events()

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def messages(self) -> list[dialogs.Message]:
        """What dialogs said, in order."""
        return dialogs.messages

    @property
    def answers(self) -> deque:
        """What the next dialogs return, see `dialogs.answers`."""
        return dialogs.answers

    @property
    def installed_packages(self) -> list[str]:
        """Python packages that would have been installed."""
        return packages.installed

    @property
    def absent_packages(self) -> set[str]:
        """Names of Python packages that are not there until they are installed; to be filled by a test."""
        return packages.absent

    @property
    def pip_failure(self) -> list[str]:
        """What pip prints before it fails; to be filled by a test."""
        return packages.failure

    def load_module(self, path: str | Path, *, select: bool = True):
        """Load a scripted module and enter it.

        Parameters
        ----------
        path : path
            The module's Python file; code in its folder is held to PythonQt's rules from now on.
        select : bool
            Whether to show its panel. Without that its widget is not made.

        Returns
        -------
        object
            The module's Python widget, or the module (as in `slicer.modules`) if it was not selected.

        Raises
        ------
        HostError
            The module's code uses what Slicer does not have, or a module that it depends on is not loaded. Other errors
            as the module raises them.
        """
        path = Path(path).resolve()
        pythonqt.watch(path.parent)
        for source in [path, *path.parent.glob("*Lib/**/*.py")]:
            pythonqt.check_enums(source)
        module = scripted_modules.qSlicerScriptedLoadableModule(path)
        missing = set(module.dependencies) - set(self.app.moduleManager().modulesNames())
        if missing:
            raise HostError(f"module {path.stem} depends on {', '.join(sorted(missing))}: load that first")
        self.app.moduleManager()._add(path.stem, module)
        self.window.moduleSelector()._add(module)
        self.app.startupCompleted.emit()
        if select:
            slicer.util.selectModule(path.stem)
        self._modules.append(path.stem)
        self.process_events()
        if not select:
            return module
        return module.widgetRepresentation().self() if module.widgetRepresentation() else None

    def process_events(self, seconds: float = 0.05) -> None:
        """Run Qt's events for a time.

        Raises
        ------
        BaseException
            The first that a slot, a timer or an observer raised meanwhile; Slicer would print it.
        """
        self._loop.run(seconds)
        self.raise_errors()

    def wait_until(self, condition: Callable[[], object], timeout: float = 30.0) -> None:
        """Run events until a function returns true.

        Raises
        ------
        TimeoutError
            It did not in `timeout` seconds.
        BaseException
            As `process_events`.
        """
        done = self._loop.run(timeout, until=lambda: bool(self.errors) or condition())
        self.raise_errors()
        if not done:
            raise TimeoutError(f"nothing happened in {timeout:g} s")

    def click(self, button: QtWidgets.QAbstractButton) -> None:
        """Click a button from within the event loop, as a user does, and let its slots run.

        Clicks on one button are single clicks: the next one waits until it would not make a double click.

        Raises
        ------
        HostError
            The button is hidden or disabled, so nobody could click it.
        """
        if not (button.isEnabled() and button.isVisible()):
            raise HostError(f"button '{button.objectName()}' is {'hidden' if button.isEnabled() else 'disabled'}")
        since, now = self._clicked.get(id(button), float("-inf")), time.monotonic()
        self.process_events(max(0.0, since + self.app.doubleClickInterval() / 1000 + 0.05 - now))
        QtCore.QTimer.singleShot(0, button.click)
        self.process_events()
        self._clicked[id(button)] = time.monotonic()

    def double_click(self, button: QtWidgets.QAbstractButton) -> None:
        """Click a button twice at once; the second click does nothing where the first has disabled it.

        Raises
        ------
        HostError
            As `click`.
        """
        if not (button.isEnabled() and button.isVisible()):
            raise HostError(f"button '{button.objectName()}' is {'hidden' if button.isEnabled() else 'disabled'}")
        for _ in range(2):
            QtCore.QTimer.singleShot(0, button.click)  # which a disabled button ignores
        self.process_events()
        self._clicked[id(button)] = time.monotonic()

    def click_cell(self, view: QtWidgets.QAbstractItemView, row: int, column: int = 0, *, keys: str = "") -> None:
        """Click a cell of a table or an entry of a list or tree, scrolled to where needed.

        Parameters
        ----------
        view : QAbstractItemView
        row, column : int
        keys : str
            "Ctrl" or "Shift", held meanwhile.

        Raises
        ------
        HostError
            The view is hidden or disabled, or there is no such cell.
        """
        place = _cell_center(view, row, column)
        held = {"": QtCore.Qt.NoModifier, "Ctrl": QtCore.Qt.ControlModifier, "Shift": QtCore.Qt.ShiftModifier}[keys]
        QtCore.QTimer.singleShot(0, lambda: QtTest.QTest.mouseClick(view.viewport(), QtCore.Qt.LeftButton, held, place))
        self.process_events()

    def click_view(self, name: str, ras: Sequence[float]) -> None:
        """Click a slice view at a place in the patient (mm, RAS), which has to be in its plane."""
        widget = self.app.layoutManager().sliceWidget(name)
        view, to_view = widget.sliceView(), vtk.vtkMatrix4x4()
        vtk.vtkMatrix4x4.Invert(widget.mrmlSliceNode().GetXYToRAS(), to_view)
        x, y, depth, _ = to_view.MultiplyPoint([*ras, 1.0])
        place = QtCore.QPoint(round(x), view.height() - 1 - round(y))
        if abs(depth) > 0.5 or not view.isVisible() or not view.rect().contains(place):
            raise HostError(f"view '{name}' is hidden, or does not show the place {tuple(ras)}")
        QtCore.QTimer.singleShot(0, lambda: QtTest.QTest.mouseClick(view, QtCore.Qt.LeftButton, pos=place))
        self.process_events()

    def press(self, keys: str) -> None:
        """Press a key combination such as "Ctrl+Shift+N": shortcuts and the focused widget react as to a keyboard."""
        self.window.activateWindow()
        target = self.app.focusWidget() or self.window
        QtCore.QTimer.singleShot(0, lambda: QtTest.QTest.keySequence(target, QtGui.QKeySequence(keys)))
        self.process_events()

    def context_menu(self, node) -> list[str]:
        """What scripted plugins offer on a right click on a node in the module Data."""
        return list(context_menu(node))

    def choose_from_context_menu(self, node, text: str) -> None:
        """Right-click on a node in the module Data and choose an action by its text."""
        actions = context_menu(node)
        if text not in actions:
            raise HostError(f"the menu of '{node.GetName()}' offers no '{text}': {list(actions)}")
        QtCore.QTimer.singleShot(0, actions[text].trigger)
        self.process_events()

    def raise_errors(self) -> None:
        """Raise the first recorded error of a slot or observer, and forget all."""
        if self.errors:
            first = self.errors[0]
            self.errors.clear()
            raise first

    def reset_block_timer(self) -> None:
        """Start measuring `longest_block` anew."""
        self._loop.reset()

    def longest_block(self) -> float:
        """The longest time, in seconds, for which the user interface stood still while events ran."""
        return self._loop.longest()

    def smallest_panel_width(self) -> int:
        """How narrow Slicer's panel can be made with this module, in pixels: its contents and a scroll bar."""
        bar = QtWidgets.QScrollBar(QtCore.Qt.Horizontal)
        return self.window._holder.minimumSizeHint().width() + bar.sizeHint().width()

    def set_dark(self, dark: bool) -> None:
        """Change the appearance."""
        style.apply(self.app, dark)
        self.process_events()

    def screenshot(self, path: str | Path, widget: QtWidgets.QWidget | None = None, scale: float = 1.0) -> Path:
        """Save a picture of the window or of one widget as PNG.

        Parameters
        ----------
        path : path
        widget : QWidget, optional
            Default: the window.
        scale : float
            Pixels per point; 2 gives a picture for high-resolution screens.
        """
        self.process_events(0.2)
        widget = widget or self.window
        image = QtGui.QImage(widget.size() * scale, QtGui.QImage.Format_RGB32)
        image.setDevicePixelRatio(scale)
        widget.render(image)
        path = Path(path)
        if not image.save(str(path), "PNG"):
            raise HostError(f"cannot write {path}")
        return path

    def panel_screenshot(self, path: str | Path, scale: float = 1.0) -> Path:
        """Save a picture of the whole module panel, scrolled-away parts included, at the panel's width."""
        self.process_events(0.2)
        return self.screenshot(path, self.window._scroll.widget(), scale)

    def cut_off_texts(self) -> list[str]:
        """Texts of labels, buttons and heads of tables in the panel that are wider than the room they have."""
        return [text for widget in self.window._holder.findChildren(QtWidgets.QWidget) for text in _cut_off(widget)]

    def run_self_test(self, name: str) -> None:
        """Run class `<Module>Test` as the button Test does, without the error dialog.

        Raises
        ------
        BaseException
            What the test raises.
        """
        slicer.selfTests[name](msec=0)
        self.process_events()

    def load_sample(self, name: str):
        """What the button of a registered data set in the module Sample Data does."""
        return sample_data.click(name)

    def import_dicom(self, folder: str | Path) -> list:
        """What happens when a folder is dropped on the module DICOM: every CT series in it is loaded.

        Returns
        -------
        list of vtkMRMLScalarVolumeNode, in the order of the names of their files
        """
        from DICOMLib import DICOMUtils

        DICOMUtils.importDicom(str(folder))
        files = [str(path) for path in sorted(Path(folder).rglob("*")) if path.is_file()]
        series = list(dict.fromkeys(filter(None, map(slicer.dicomDatabase.seriesForFile, files))))
        nodes = [slicer.mrmlScene.GetNodeByID(each) for each in DICOMUtils.loadSeriesByUID(series)]
        self.process_events()
        return nodes

    def import_4d(self, folder: str | Path, tag: str = "AcquisitionTime"):
        """What happens when the one series of a folder is loaded as a volume sequence, a frame for each value of a tag.

        Returns
        -------
        vtkMRMLSequenceNode
        """
        from DICOMLib import DICOMUtils

        from .dicom import load_volume_sequence

        DICOMUtils.importDicom(str(folder))
        file = next(path for path in sorted(Path(folder).rglob("*")) if path.is_file())
        sequence = load_volume_sequence(slicer.dicomDatabase.seriesForFile(str(file)), tag)
        self.process_events()
        return sequence

    def quit(self) -> None:
        """End the application as a user does: modules clean up. The host still has to be closed.

        Raises
        ------
        HostError
            Somebody waited for longer than a user would: he sees a dead window, and ends Slicer by force.
        """
        with waits_counted() as waits:
            self.app.aboutToQuit.emit()
            for name in self._modules:
                self.app.moduleManager().moduleAboutToBeUnloaded.emit(name)
        self._modules.clear()
        self._loop.run(0.02)
        if sum(waits) > _PATIENCE_SECONDS:
            raise HostError(f"quitting waited for {sum(waits):.1f} s in the thread of the user interface")

    def close(self) -> None:
        """Quit, take everything out of Python that the constructor put there, and raise what was not yet raised."""
        if Host._running is not self:
            return
        try:
            self.quit()
        finally:
            self.window.close()
            self._hierarchy.close()
            self.app.layoutManager()._retire()
            overlays.close_all()
            self.scene.Clear(True)
            self._let_go()
            self.window.deleteLater()
            self._loop.run(0.02)
            self._uninstall()
            Host._running = None
        self.raise_errors()

    def _let_go(self) -> None:
        """Cut MRML off from Python: logics that end call observers, maybe amid a garbage collection."""
        end_all()
        for each in (self.scene, *(self.scene.GetNthNode(index) for index in range(self.scene.GetNumberOfNodes()))):
            each.RemoveAllObservers()

    # --- What Python sees -------------------------------------------------------------------------------------

    def _install(self, packaging: bool, pytorch_extension: bool) -> None:
        qt = pythonqt.make_module(
            {**dialogs.REPLACEMENTS, "QSettings": settings.QSettings, "QUiLoader": ui_loader.QUiLoader}
        )
        modules = {
            "qt": qt,
            "ctk": ctk_widgets.make_module(),
            "SampleData": sample_data.make_module(),
            "slicer.ScriptedLoadableModule": scripted_modules.make_module(),
            "slicer.parameterNodeWrapper": parameter_node.make_module(),
            "slicer.i18n": _i18n(),
            **make_modules(),
            **dicom.make_modules(),
        }
        if packaging:
            modules["slicer.packaging"] = packages.make_module()
        if pytorch_extension:
            modules["PyTorchUtils"] = packages.make_torch_module()
        for name, module in modules.items():
            self._imported[name] = sys.modules.get(name, _missing)
            sys.modules[name] = module
            if name.startswith("slicer."):
                self._set(slicer, name.removeprefix("slicer."), module)
        self._set(slicer, "app", self.app)
        self._set(slicer, "mrmlScene", self.scene)
        self._set(slicer, "modules", scripted_modules.Modules())
        self._set(slicer, "selfTests", {})
        self._set(slicer, "dicomDatabase", dicom.DicomDatabase())
        for name, cls in mrml_widgets.WIDGETS.items():
            self._set(slicer, name, cls)
        qSlicerSubjectHierarchyPluginHandler._instance = None
        for cls in (qSlicerSubjectHierarchyPluginHandler, qSlicerSubjectHierarchyScriptedPlugin):
            self._set(slicer, cls.__name__, cls)
        self._set(slicer, "qSlicerScriptedLoadableModule", scripted_modules.qSlicerScriptedLoadableModule)
        self._set(slicer, "qSlicerScriptedLoadableModuleWidget", scripted_modules.qSlicerScriptedLoadableModuleWidget)
        self._set(slicer.util, "messageBox", _message_box)
        self._set(slicer.util, "mainWindow", lambda: self.window)
        self._set(slicer.util, "pip_install", packages.pip_install if packaging else packages.pip_install_of_5_10)
        self._set(importlib.metadata, "version", packages.version)
        self._set(slicer.util, "childWidgetVariables", _child_widget_variables)
        self._set(sys, "excepthook", self._caught)
        self._set(sys, "unraisablehook", lambda e: self._caught(e.exc_type, e.exc_value, e.exc_traceback))

    def _set(self, owner, name: str, value) -> None:
        self._replaced.append((owner, name, vars(owner).get(name, _missing)))
        setattr(owner, name, value)

    def _uninstall(self) -> None:
        pythonqt.unwatch_all()
        for owner, name, value in reversed(self._replaced):
            if value is _missing:
                with contextlib.suppress(AttributeError):
                    delattr(owner, name)
            else:
                setattr(owner, name, value)
        for name, module in self._imported.items():
            if module is _missing:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
        sys.path[:] = self._search_path

    def _caught(self, kind, error, trace) -> None:
        logging.getLogger("host").error("%s", "".join(traceback.format_exception(kind, error, trace)))
        self.errors.append(error)


def _message_box(text, parent=None, **options):
    """In place of `slicer.util.messageBox`."""
    buttons = options.get("standardButtons", dialogs.QMessageBox.Ok)
    kind = dialogs._KINDS.get(options.get("icon"), "dialog")
    answer = dialogs.say(kind, text, options.get("windowTitle", ""), options.get("detailedText", ""))
    return dialogs.button_for(answer, buttons)


def _child_widget_variables(widget):
    """As `slicer.util.childWidgetVariables`: every named object below a widget, and the widget, as an attribute."""
    found = type("", (), {})()
    for each in [widget, *widget.findChildren(QtCore.QObject)]:
        name = each.objectName()
        if name and not name.startswith("qt_"):
            setattr(found, name, each)
    return found


def _i18n() -> ModuleType:
    module = ModuleType("slicer.i18n", "Translation; here into the language that it comes in.")
    module.tr = lambda text: text
    module.translate = lambda context, text: text
    return module


def _cut_off(widget: QtWidgets.QWidget) -> list[str]:
    if not widget.isVisible():
        return []
    if isinstance(widget, QtWidgets.QLabel) and not widget.wordWrap() and widget.text():
        return [widget.text()] if widget.sizeHint().width() > widget.width() else []
    if isinstance(widget, (QtWidgets.QAbstractButton,)) and widget.text():
        return [widget.text()] if widget.minimumSizeHint().width() > widget.width() else []
    if isinstance(widget, QtWidgets.QHeaderView) and widget.orientation() == QtCore.Qt.Horizontal:
        return _cut_off_heads(widget)
    return []


def _cut_off_heads(header: QtWidgets.QHeaderView) -> list[str]:
    shown = [section for section in range(header.count()) if not header.isSectionHidden(section)]
    texts = {section: header.model().headerData(section, header.orientation()) for section in shown}
    return [texts[section] for section in shown if header.sectionSizeHint(section) > header.sectionSize(section)]


def _cell_center(view: QtWidgets.QAbstractItemView, row: int, column: int) -> QtCore.QPoint:
    """Where in the viewport a cell is."""
    if not (view.isEnabled() and view.isVisible()):
        raise HostError(f"view '{view.objectName()}' is {'hidden' if view.isEnabled() else 'disabled'}")
    index = view.model().index(row, column)
    if not index.isValid():
        raise HostError(f"view '{view.objectName()}' has no row {row}, column {column}")
    view.scrollTo(index)
    return view.visualRect(index).center()
