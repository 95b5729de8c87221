"""The table of cases as it is seen: rows, colours, what is selected, what was edited."""

from collections.abc import Callable, Mapping, Sequence

import qt
from IPv2Lib.datasets.cases import Case
from IPv2SlicerLib.widgets.Style import isDark
from slicer.i18n import tr as _

from .Cases import CHANGED, FAILED, PURIFIED, WAITING, CaseState

NAME, STATE, SPLIT, PATIENT, ULDCT, DOSE, MOTION = range(7)
"""Columns."""

_FAILED_ON_LIGHT, _FAILED_ON_DARK = "#b00020", "#ff8a80"


class CaseTable:
    """Shows cases in a QTableWidget.

    Parameters
    ----------
    widget : QTableWidget
    edited : callable
        ``edited(name, column, text)`` when a user has typed something else into `NAME` or `PATIENT`.
    selected : callable
        Called without arguments when other rows are selected.
    """

    def __init__(self, widget, edited: Callable[[str, int, str], None], selected: Callable[[], None]):
        self._widget, self._edited, self._selected = widget, edited, selected
        self._names: list[str] = []  # by row
        self._shown: object = None
        self._filling = False
        heads = [_("Name"), _("State"), _("Split"), _("Patient"), _("uLDCT"), _("Dose"), _("Motion")]
        widget.setColumnCount(len(heads))
        widget.setHorizontalHeaderLabels(heads)
        widget.verticalHeader().setVisible(False)
        widget.itemChanged.connect(self._onItemChanged)
        widget.itemSelectionChanged.connect(self._onSelection)

    def show(self, cases: Sequence[Case], assigned: Sequence[Case], states: Mapping[str, CaseState]) -> None:
        """Show cases.

        Parameters
        ----------
        cases : sequence of Case
        assigned : sequence of Case
            The same with every split filled in.
        states : mapping
            How far each case is, by its name.
        """
        shown = tuple(cases), tuple(assigned), dict(states), failedColor()
        if shown == self._shown:
            return
        self._shown = shown
        selected = set(self.selectedNames())
        self._filling = True
        self._names = [case.name for case in cases]
        self._widget.setRowCount(len(cases))
        for row, (case, withSplit) in enumerate(zip(cases, assigned, strict=True)):
            for column, item in enumerate(self._items(case, withSplit, states[case.name])):
                self._widget.setItem(row, column, item)
        self._widget.resizeColumnsToContents()
        self._widget.clearSelection()
        model, selection = self._widget.model(), self._widget.selectionModel()
        for row, name in enumerate(self._names):
            if name in selected:
                selection.select(model.index(row, 0), qt.QItemSelectionModel.Select | qt.QItemSelectionModel.Rows)
        self._filling = False
        if selected - set(self._names):
            self._selected()

    def selectedNames(self) -> list[str]:
        """Names of the cases whose rows are selected."""
        rows = sorted({item.row() for item in self._widget.selectedItems()})
        return [self._names[row] for row in rows if row < len(self._names)]

    def forget(self) -> None:
        """Show everything anew the next time, as after an edit that was refused."""
        self._shown = None

    def _items(self, case: Case, assigned: Case, state: CaseState) -> list:
        dose, motion = f"{100 * case.dose:g} %", ""  # of a pair, the noise that Add noise adds
        if not case.paired:
            if case.dose_high:
                dose = f"{100 * case.dose:g}–{100 * case.dose_high:g} %"
            if case.realisations > 1:
                dose = f"{case.realisations}× {dose}"
            motion = f"{case.motion_mm:g} mm"
        uldct = _("scan") if case.paired else _("simulated")
        items = [
            qt.QTableWidgetItem(text)
            for text in (case.name, stateText(state), assigned.split, assigned.patient, uldct, dose, motion)
        ]
        tip = "\n".join(str(path) for path in case.sources)
        for column, item in enumerate(items):
            item.setToolTip(tip)
            if column not in (NAME, PATIENT):
                item.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
            if state.state == FAILED:
                item.setToolTip(state.message)
                item.setForeground(qt.QBrush(qt.QColor(failedColor())))
        if not case.split:
            items[SPLIT].setToolTip(_("Assigned at random; it is kept once the case is purified."))
            font = items[SPLIT].font()
            font.setItalic(True)
            items[SPLIT].setFont(font)
        return items

    def _onItemChanged(self, item) -> None:
        if self._filling or item.row() >= len(self._names):
            return
        self._edited(self._names[item.row()], item.column(), item.text().strip())

    def _onSelection(self) -> None:
        if not self._filling:
            self._selected()


def failedColor() -> str:
    """A red that can be read on the rows of tables, in a light and in a dark style."""
    return _FAILED_ON_DARK if isDark() else _FAILED_ON_LIGHT


def stateText(state: CaseState) -> str:
    """How far a case is, in a word."""
    return {
        WAITING: _("to do"),
        PURIFIED: _("purified"),
        CHANGED: _("changed"),
        FAILED: _("failed"),
    }[state.state]
