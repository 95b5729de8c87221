"""`slicer.app`: the application object."""

from __future__ import annotations

import ctypes
import os
import sys
import tempfile
from pathlib import Path

import slicer
import vtk
from PySide6 import QtCore, QtWidgets
from PySide6.QtCore import Signal

from . import settings
from .errors import HostError
from .file_io import CoreIOManager
from .scripted_modules import ModuleManager
from .stand_in import StandIn, stored_property


class CommandOptions:
    """What was given on the command line."""

    def __init__(self):
        self.runPythonAndExit = False
        self.noMainWindow = False


class qSlicerApplication(StandIn, QtWidgets.QApplication):
    """One per process; `start` gives it a new scene."""

    startupCompleted = Signal()
    mrmlSceneChanged = Signal(object)
    renderPaused = Signal(bool)

    def __init__(self):
        super().__init__(["Slicer"])
        self.setApplicationName("Slicer")
        self.setQuitOnLastWindowClosed(False)
        self._scene = self._logic = self._manager = self._layout_manager = None

    slicerHome = QtCore.Property(str, lambda self: self._home.name)
    majorVersion = stored_property(int, 5)
    minorVersion = stored_property(int, 10)
    revision = stored_property(str, "stand-in")
    documentationBaseUrl = stored_property(str, "https://slicer.readthedocs.io/en/latest/")
    os = stored_property(str, "linux")

    @property
    def temporaryPath(self) -> str:
        """A folder of Slicer's own in a place that is a user's and has a user's name; made again where it vanished."""
        os.makedirs(self._temporary_path, exist_ok=True)
        return self._temporary_path

    @temporaryPath.setter
    def temporaryPath(self, path: str) -> None:
        self._temporary_path = path

    def setTemporaryPath(self, path: str) -> None:
        """Slot: use another folder."""
        self._temporary_path = path

    def _start(self, scene, version: tuple[int, int], testing: bool) -> None:
        self.majorVersion, self.minorVersion = version
        self.setApplicationVersion(f"{version[0]}.{version[1]}.0")
        self._testing, self._options, self._io = testing, CommandOptions(), CoreIOManager()
        self._scene, self._manager = scene, ModuleManager()
        self._logic = slicer.vtkSlicerApplicationLogic()
        # Slicer's own colour files are not part of slicer-core; an empty folder keeps it from complaining.
        self._home = tempfile.TemporaryDirectory(prefix="slicer-host-")
        (Path(self._home.name) / "share" / "ColorFiles").mkdir(parents=True)
        self._temporary_path = str(Path(self._home.name) / "Jürgen O'Neill 100%" / "Slicer-tmp")
        self._logic.SetHomeDirectory(self._home.name)
        self._logic.SetShareDirectory("share")
        colors = slicer.vtkSlicerColorLogic()
        colors.SetMRMLApplicationLogic(self._logic)
        self._logic.SetColorLogic(colors)
        self._logic.SetMRMLScene(scene)
        colors.SetMRMLScene(scene)
        self._logic.SetSliceLogics(vtk.vtkCollection())
        self._logic.SetViewLogics(vtk.vtkCollection())
        self._logic.SetTemporaryPath(self.temporaryPath)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(scene)
        self._remote = slicer.vtkMRMLRemoteIOLogic()
        self._data_io = slicer.vtkDataIOManagerLogic()
        self._data_io.SetMRMLApplicationLogic(self._logic)
        self._logic.SetMRMLSceneDataIO(scene, self._remote, self._data_io)
        self._remote.GetCacheManager().SetRemoteCacheDirectory(self.cachePath)

    @property
    def cachePath(self) -> str:
        """Where Sample Data keeps what it has downloaded."""
        return str(Path(self._home.name) / "cache")

    def mrmlScene(self):
        return self._scene

    def applicationLogic(self):
        return self._logic

    def moduleManager(self) -> ModuleManager:
        return self._manager

    def layoutManager(self):
        return self._layout_manager

    def coreIOManager(self) -> CoreIOManager:
        return self._io

    def commandOptions(self) -> CommandOptions:
        return self._options

    def testingEnabled(self) -> bool:
        """Whether Slicer runs with --testing: dialogs are skipped."""
        return self._testing

    def settings(self) -> settings.QSettings:
        return settings.QSettings()

    def userSettings(self) -> settings.QSettings:
        return settings.QSettings()

    def moduleDocumentationUrl(self, module: str) -> str:
        return f"{self.documentationBaseUrl}user_guide/modules/{module.lower()}.html"

    def setRenderPaused(self, paused: bool) -> None:
        self.renderPaused.emit(paused)

    def pauseRender(self) -> None:
        self.setRenderPaused(True)

    def resumeRender(self) -> None:
        self.setRenderPaused(False)

    def restart(self) -> None:
        raise HostError("the stand-in cannot restart")


class CoreModule:
    """A module of Slicer written in C++, of which there is only the logic."""

    def __init__(self, name: str, logic):
        self.name, self.title, self._logic = name, name, logic

    def logic(self):
        return self._logic

    def widgetRepresentation(self):
        raise HostError(f"the stand-in has no user interface of module {self.name}")


CORE_MODULES = {
    "Volumes": "vtkSlicerVolumesLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "Colors": "vtkSlicerColorLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Units": "vtkSlicerUnitsLogic",
}
"""Name of a module to class of its logic."""


def add_core_modules(application: qSlicerApplication) -> None:
    """Make `slicer.modules.volumes.logic()` and the like work."""
    for name, class_name in CORE_MODULES.items():
        if name == "Colors":
            logic = application.applicationLogic().GetColorLogic()
        else:
            logic = getattr(slicer, class_name)()
            logic.SetMRMLApplicationLogic(application.applicationLogic())
            logic.SetMRMLScene(application.mrmlScene())
        module = CoreModule(name, logic)
        application.applicationLogic().SetModuleLogic(name, logic)
        application.moduleManager()._add(name, module)
        setattr(slicer.modules, name.lower(), module)


def make_application() -> qSlicerApplication:
    """The application of this process.

    Raises
    ------
    HostError
        Somebody else made a Qt application before.
    """
    existing = QtCore.QCoreApplication.instance()
    _make_constants_immortal()
    if existing is None:
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
        if sys.platform.startswith("linux"):  # else VTK looks for a screen first, and says that there is none
            os.environ.setdefault("VTK_DEFAULT_OPENGL_WINDOW", "vtkEGLRenderWindow")
        QtCore.qInstallMessageHandler(_say)
        return qSlicerApplication()
    if not isinstance(existing, qSlicerApplication):
        raise HostError("this process has a Qt application already: start the stand-in first")
    return existing


def _say(_kind, _context, text: str) -> None:
    """Print Qt's warnings, but not that there is no window manager."""
    if "propagateSizeHints" not in text:
        print(text, file=sys.stderr)


def _make_constants_immortal() -> None:
    """PySide6 6.12 takes None, True and False for immortal, as they are since Python 3.12, and loses references to
    them with every call: older Pythons would end with a fatal error."""
    if sys.version_info < (3, 12):
        for constant in (None, True, False):
            ctypes.c_ssize_t.from_address(id(constant)).value += 1 << 40
