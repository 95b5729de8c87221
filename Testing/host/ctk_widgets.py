"""Module `ctk`: the CTK widgets that scripted modules use, with the properties, slots and signals of the real ones."""

from __future__ import annotations

from types import ModuleType

from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Qt, Signal, Slot

from . import dialogs
from .errors import HostError
from .stand_in import StandIn, stored_property

_SLIDER_STEPS = 10_000


class ctkCollapsibleButton(StandIn, QtWidgets.QAbstractButton):
    """A heading that folds the widgets under it away; they lie in a layout of the button itself."""

    contentsCollapsed = Signal(bool)

    def __init__(self, *arguments):
        parent = next((each for each in arguments if isinstance(each, QtWidgets.QWidget)), None)
        super().__init__(parent)
        text = next((each for each in arguments if isinstance(each, str)), "")
        self._collapsed, self._busy, self._shown = False, False, {}
        self.setText(text)
        self.setCheckable(True)
        self.setChecked(True)
        self.setSizePolicy(QtWidgets.QSizePolicy.Preferred, QtWidgets.QSizePolicy.Preferred)
        self.setContentsMargins(0, self._header_height(), 0, 0)
        self.toggled.connect(lambda checked: self._collapse(not checked))

    flat = stored_property(bool, False, changed="update")
    collapsedHeight = stored_property(int, 10)
    contentsLineWidth = stored_property(int, 1)
    contentsMidLineWidth = stored_property(int, 0)

    def _get_collapsed(self) -> bool:
        return self._collapsed

    def _set_collapsed(self, collapsed: bool) -> None:
        self.setChecked(not collapsed)

    collapsed = QtCore.Property(bool, _get_collapsed, _set_collapsed)

    def _set_designer_text(self, name: str, text: str) -> None:
        if name not in ("contentsFrameShape", "contentsFrameShadow", "buttonTextAlignment", "indicatorAlignment"):
            super()._set_designer_text(name, text)

    def _collapse(self, collapsed: bool) -> None:
        if collapsed == self._collapsed:
            return
        self._collapsed = collapsed
        self._busy = True
        for child in self._contents():
            if collapsed:
                self._shown[child] = not child.isHidden()
                child.hide()
                child.setAttribute(Qt.WA_WState_ExplicitShowHide, False)  # else hide() by others would be no event
            elif self._shown.pop(child, True):
                child.show()
        self._busy = False
        self.setMaximumHeight(self._header_height() if collapsed else 16777215)
        self.updateGeometry()
        self.update()
        self.contentsCollapsed.emit(collapsed)

    def _contents(self) -> list[QtWidgets.QWidget]:
        return [child for child in self.children() if isinstance(child, QtWidgets.QWidget) and not child.isWindow()]

    def childEvent(self, event) -> None:
        if event.added() and event.child().isWidgetType():
            event.child().installEventFilter(self)
        super().childEvent(event)

    def eventFilter(self, watched, event) -> bool:
        if self._collapsed and not self._busy and event.type() == QtCore.QEvent.HideToParent:
            self._shown[watched] = False
        if self._collapsed and not self._busy and event.type() == QtCore.QEvent.ShowToParent:
            self._busy = True
            self._shown[watched] = True
            watched.hide()
            watched.setAttribute(Qt.WA_WState_ExplicitShowHide, False)
            self._busy = False
        return super().eventFilter(watched, event)

    def hitButton(self, position) -> bool:
        return position.y() < self._header_height()

    def sizeHint(self):
        layout = self.layout()
        return self._with_header(layout.totalSizeHint() if layout and not self._collapsed else QtCore.QSize())

    def minimumSizeHint(self):
        layout = self.layout()
        return self._with_header(layout.totalMinimumSize() if layout and not self._collapsed else QtCore.QSize())

    def heightForWidth(self, width: int) -> int:
        return self._header_height() if self._collapsed else super().heightForWidth(width)

    def _with_header(self, contents):
        header = self._header_option()
        wanted = header.fontMetrics.horizontalAdvance(header.text) + 40
        return QtCore.QSize(max(wanted, contents.width()), max(self._header_height(), contents.height()))

    def _header_height(self) -> int:
        return self.fontMetrics().height() + 10

    def _header_option(self):
        option = QtWidgets.QStyleOptionButton()
        option.initFrom(self)
        option.state |= QtWidgets.QStyle.State_Raised
        option.text = self.text()
        option.rect = QtCore.QRect(0, 0, self.width(), self._header_height())
        return option

    def paintEvent(self, _event) -> None:
        painter = QtWidgets.QStylePainter(self)
        option = self._header_option()
        palette = self.palette()
        if not self._collapsed:
            frame = palette.color(QtGui.QPalette.WindowText)
            frame.setAlpha(60)
            painter.setPen(frame)
            painter.drawRect(self.rect().adjusted(0, self._header_height() - 1, -1, -1))
        painter.drawPrimitive(QtWidgets.QStyle.PE_PanelButtonCommand, option)
        arrow = QtWidgets.QStyleOption()
        arrow.initFrom(self)
        arrow.rect = QtCore.QRect(8, (self._header_height() - 10) // 2, 10, 10)
        shape = QtWidgets.QStyle.PE_IndicatorArrowRight if self._collapsed else QtWidgets.QStyle.PE_IndicatorArrowDown
        painter.drawPrimitive(shape, arrow)
        painter.setPen(palette.color(QtGui.QPalette.ButtonText))
        painter.drawText(
            option.rect.adjusted(24, 0, -6, 0), Qt.AlignLeft | Qt.AlignVCenter | Qt.TextShowMnemonic, option.text
        )
        painter.end()


class _DoubleValue(StandIn):
    """Range, steps and value that the widgets for a float share. Subclasses show them in `_show`."""

    def _init_value(self) -> None:
        self._value, self._minimum, self._maximum, self._showing = 0.0, 0.0, 99.0, False

    def _get_value(self) -> float:
        return self._value

    def setValue(self, value: float) -> None:
        """Slot: the value, cut to the range."""
        value = min(max(float(value), self._minimum), self._maximum)
        changed = value != self._value
        self._value = value
        self._refresh()
        if changed:
            self.valueChanged.emit(value)

    def _get_minimum(self) -> float:
        return self._minimum

    def _set_minimum(self, minimum: float) -> None:
        self._minimum, self._maximum = minimum, max(minimum, self._maximum)
        self.setValue(self._value)

    def _get_maximum(self) -> float:
        return self._maximum

    def _set_maximum(self, maximum: float) -> None:
        self._minimum, self._maximum = min(self._minimum, maximum), maximum
        self.setValue(self._value)

    def _refresh(self) -> None:
        self._showing = True
        self._show()
        self._showing = False

    def _fraction(self) -> float:
        span = self._maximum - self._minimum
        return (self._value - self._minimum) / span if span else 0.0

    def _show(self) -> None:
        raise NotImplementedError


class ctkDoubleSlider(_DoubleValue, QtWidgets.QWidget):
    """A slider for floats."""

    valueChanged = Signal(float)
    sliderMoved = Signal(float)
    sliderPressed = Signal()
    sliderReleased = Signal()
    rangeChanged = Signal(float, float)

    def __init__(self, *arguments):
        parent = next((each for each in arguments if isinstance(each, QtWidgets.QWidget)), None)
        super().__init__(parent)
        self._init_value()
        self._slider = QtWidgets.QSlider(Qt.Horizontal)
        self._slider.setRange(0, _SLIDER_STEPS)
        box = QtWidgets.QHBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.addWidget(self._slider)
        self._slider.valueChanged.connect(self._moved)

    singleStep = stored_property(float, 1.0)
    pageStep = stored_property(float, 10.0)
    tracking = stored_property(bool, True)
    value = QtCore.Property(float, _DoubleValue._get_value, _DoubleValue.setValue, user=True)
    minimum = QtCore.Property(float, _DoubleValue._get_minimum, _DoubleValue._set_minimum)
    maximum = QtCore.Property(float, _DoubleValue._get_maximum, _DoubleValue._set_maximum)

    @Slot(Qt.Orientation)
    def setOrientation(self, orientation) -> None:
        self._slider.setOrientation(orientation)

    def _set_designer_text(self, name: str, text: str) -> None:
        if name != "orientation":
            super()._set_designer_text(name, text)
        self.setOrientation(Qt.Vertical if text.endswith("Vertical") else Qt.Horizontal)

    def _moved(self, position: int) -> None:
        if not self._showing:
            self.setValue(self._minimum + (self._maximum - self._minimum) * position / _SLIDER_STEPS)
            self.sliderMoved.emit(self._value)

    def _show(self) -> None:
        self._slider.setValue(round(self._fraction() * _SLIDER_STEPS))


class ctkDoubleSpinBox(StandIn, QtWidgets.QWidget):
    """A spin box for floats in a widget of its own."""

    valueChanged = Signal(float)
    decimalsChanged = Signal(int)
    editingFinished = Signal()

    def __init__(self, parent=None):
        super().__init__(parent)
        self._spin = QtWidgets.QDoubleSpinBox()
        box = QtWidgets.QHBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.addWidget(self._spin)
        self._spin.valueChanged.connect(self.valueChanged)
        self._spin.editingFinished.connect(self.editingFinished)

    def _get(name):
        return lambda self: getattr(self._spin, name)()

    def _put(name):
        return lambda self, value: getattr(self._spin, name)(value)

    value = QtCore.Property(float, _get("value"), _put("setValue"), user=True)
    minimum = QtCore.Property(float, _get("minimum"), _put("setMinimum"))
    maximum = QtCore.Property(float, _get("maximum"), _put("setMaximum"))
    singleStep = QtCore.Property(float, _get("singleStep"), _put("setSingleStep"))
    decimals = QtCore.Property(int, _get("decimals"), _put("setDecimals"))
    prefix = QtCore.Property(str, _get("prefix"), _put("setPrefix"))
    suffix = QtCore.Property(str, _get("suffix"), _put("setSuffix"))
    readOnly = QtCore.Property(bool, _get("isReadOnly"), _put("setReadOnly"))

    @Slot(float)
    def setValue(self, value: float) -> None:
        self._spin.setValue(value)

    @Slot(int)
    def setDecimals(self, decimals: int) -> None:
        self._spin.setDecimals(decimals)
        self.decimalsChanged.emit(decimals)

    @Slot(bool)
    def setReadOnly(self, read_only: bool) -> None:
        self._spin.setReadOnly(read_only)


class ctkSliderWidget(_DoubleValue, QtWidgets.QWidget):
    """A slider with a spin box."""

    valueChanged = Signal(float)
    valueIsChanging = Signal(float)
    decimalsChanged = Signal(int)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._init_value()
        self._slider = QtWidgets.QSlider(Qt.Horizontal)
        self._slider.setRange(0, _SLIDER_STEPS)
        self._spin = QtWidgets.QDoubleSpinBox()
        box = QtWidgets.QHBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.addWidget(self._slider)
        box.addWidget(self._spin)
        self._slider.valueChanged.connect(self._moved)
        self._slider.sliderReleased.connect(self._released)
        self._spin.valueChanged.connect(self._typed)
        self._refresh()

    def _spin_property(kind, getter, setter):
        return QtCore.Property(
            kind, lambda self: getattr(self._spin, getter)(), lambda self, value: getattr(self._spin, setter)(value)
        )

    def _get_decimals(self) -> int:
        return self._spin.decimals()

    @Slot(int)
    def setDecimals(self, decimals: int) -> None:
        self._spin.setDecimals(decimals)
        self._refresh()
        self.decimalsChanged.emit(decimals)

    def _get_single_step(self) -> float:
        return self._spin.singleStep()

    def _set_single_step(self, step: float) -> None:
        self._spin.setSingleStep(step)

    value = QtCore.Property(float, _DoubleValue._get_value, _DoubleValue.setValue, user=True)
    minimum = QtCore.Property(float, _DoubleValue._get_minimum, _DoubleValue._set_minimum)
    maximum = QtCore.Property(float, _DoubleValue._get_maximum, _DoubleValue._set_maximum)
    decimals = QtCore.Property(int, _get_decimals, setDecimals)
    singleStep = QtCore.Property(float, _get_single_step, _set_single_step)
    pageStep = stored_property(float, 10.0)
    prefix = _spin_property(str, "prefix", "setPrefix")
    suffix = _spin_property(str, "suffix", "setSuffix")
    tickInterval = stored_property(float, 0.0)
    tracking = stored_property(bool, True)
    invertedAppearance = stored_property(bool, False)
    invertedControls = stored_property(bool, False)
    popupSlider = stored_property(bool, False)

    def _is_spin_box_visible(self) -> bool:
        return not self._spin.isHidden()

    @Slot(bool)
    def setSpinBoxVisible(self, visible: bool) -> None:
        self._spin.setVisible(visible)

    spinBoxVisible = QtCore.Property(bool, _is_spin_box_visible, setSpinBoxVisible)

    @Slot()
    def reset(self) -> None:
        """Back to the value before the last change of the slider; here there is none to go back to."""
        raise HostError("ctkSliderWidget.reset() is not known to the stand-in")

    def _moved(self, position: int) -> None:
        if self._showing:
            return
        raw = self._minimum + (self._maximum - self._minimum) * position / _SLIDER_STEPS
        step = self._spin.singleStep()
        value = round((raw - self._minimum) / step) * step + self._minimum if step > 0 else raw
        self.valueIsChanging.emit(value)
        if self.property("tracking") or not self._slider.isSliderDown():
            self.setValue(value)

    def _released(self) -> None:
        if not self.property("tracking"):
            self._moved(self._slider.value())

    def _typed(self, value: float) -> None:
        if not self._showing:
            self.setValue(value)

    def _show(self) -> None:
        self._spin.setRange(self._minimum, self._maximum)
        self._spin.setValue(self._value)
        self._slider.setValue(round(self._fraction() * _SLIDER_STEPS))


class ctkPathLineEdit(StandIn, QtWidgets.QWidget):
    """A path with a history and a button that opens a file dialog."""

    currentPathChanged = Signal(str)
    validInputChanged = Signal(bool)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._filters = {"Files", "Executable", "NoDot", "NoDotDot", "AllEntries"}
        self._is_valid = False
        self._combo = QtWidgets.QComboBox()
        self._combo.setEditable(True)
        self._combo.setSizePolicy(QtWidgets.QSizePolicy.Ignored, QtWidgets.QSizePolicy.Fixed)
        self._button = QtWidgets.QToolButton()
        self._button.setText("…")
        box = QtWidgets.QHBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.addWidget(self._combo)
        box.addWidget(self._button)
        self._button.clicked.connect(self.browse)
        self._combo.editTextChanged.connect(self._edited)

    label = stored_property(str, "")
    settingKey = stored_property(str, "")
    nameFilters = stored_property("QStringList", [])
    minimumContentsLength = stored_property(int, 0)

    def _get_current_path(self) -> str:
        return self._combo.currentText()

    @Slot(str)
    def setCurrentPath(self, path: str) -> None:
        self._combo.setEditText(path)

    currentPath = QtCore.Property(str, _get_current_path, setCurrentPath, user=True)

    def _is_button_shown(self) -> bool:
        return not self._button.isHidden()

    def _show_button(self, shown: bool) -> None:
        self._button.setVisible(shown)

    showBrowseButton = QtCore.Property(bool, _is_button_shown, _show_button)
    showHistoryButton = stored_property(bool, True)

    def _set_designer_text(self, name: str, text: str) -> None:
        if name == "filters":
            self._filters = {each.rpartition("::")[2] for each in text.split("|")}
        elif name not in ("options", "sizeAdjustPolicy"):
            super()._set_designer_text(name, text)

    @Slot()
    def browse(self) -> None:
        """Ask for a path, see `dialogs`."""
        if "Files" in self._filters:
            path = dialogs.QFileDialog.getOpenFileName(self, "", self._combo.currentText(), ";;".join(self.nameFilters))
        else:
            path = dialogs.QFileDialog.getExistingDirectory(self, "", self._combo.currentText())
        if path:
            self.setCurrentPath(path)

    def _edited(self, path: str) -> None:
        was_valid, self._is_valid = self._is_valid, bool(path)  # no text at all is no input
        if self._is_valid:
            self.currentPathChanged.emit(path)
        if self._is_valid != was_valid:
            self.validInputChanged.emit(self._is_valid)


class ctkDirectoryButton(StandIn, QtWidgets.QPushButton):
    """A button that shows a folder and opens a dialog to choose another."""

    directoryChanged = Signal(str)
    directorySelected = Signal(str)

    def __init__(self, *arguments):
        super().__init__(next((each for each in arguments if isinstance(each, QtWidgets.QWidget)), None))
        self._directory = ""
        self.clicked.connect(self.browse)

    caption = stored_property(str, "")

    def _get_directory(self) -> str:
        return self._directory

    def _set_directory(self, directory: str) -> None:
        self.setText(directory)
        if directory != self._directory:
            self._directory = directory
            self.directoryChanged.emit(directory)

    directory = QtCore.Property(str, _get_directory, _set_directory, user=True)

    def browse(self) -> str:
        directory = dialogs.QFileDialog.getExistingDirectory(self, "", self._directory)
        if directory:
            self._set_directory(directory)
            self.directorySelected.emit(directory)
        return directory


class ctkComboBox(StandIn, QtWidgets.QComboBox):
    """A combo box with a text for "nothing chosen"."""

    def _show_default(self) -> None:
        self.setPlaceholderText(self.property("defaultText"))

    defaultText = stored_property(str, "", changed="_show_default")
    currentUserDataAsString = QtCore.Property(
        str,
        lambda self: str(self.currentData() or ""),
        lambda self, data: self.setCurrentUserDataAsString(data),
    )

    @Slot(str)
    def setCurrentUserDataAsString(self, data: str) -> None:
        self.setCurrentIndex(self.findData(data))


class ctkCheckBox(StandIn, QtWidgets.QCheckBox):
    """A check box."""


class ctkMessageBox(dialogs.QMessageBox):
    """A message box; it is answered as every dialog here."""


WIDGETS = {
    each.__name__: each
    for each in (
        ctkCheckBox,
        ctkCollapsibleButton,
        ctkComboBox,
        ctkDirectoryButton,
        ctkDoubleSlider,
        ctkDoubleSpinBox,
        ctkPathLineEdit,
        ctkSliderWidget,
    )
}


def make_module() -> ModuleType:
    """Module `ctk`."""
    module = ModuleType("ctk", "CTK as Slicer's Python sees it.")
    for name, cls in {**WIDGETS, "ctkMessageBox": ctkMessageBox}.items():
        setattr(module, name, cls)

    def missing(name: str):
        raise AttributeError(f"module ctk: the stand-in for Slicer does not know '{name}'")

    module.__getattr__ = missing
    return module
