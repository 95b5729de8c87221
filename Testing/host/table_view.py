"""Tables of the scene: `qMRMLTableView` for panels, and the table view of a layout."""

from __future__ import annotations

import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Qt, Signal, Slot

from .observation import Observation
from .stand_in import StandIn, WithScene
from .view_bar import ViewBar

_COLOR = "#e1ba3c"
_MINIMUM_SECTION = 60


class qMRMLTableModel(StandIn, QtGui.QStandardItemModel):
    """The cells of a table node.

    The node says what serves as heads: unless it uses the columns' titles, these are A, B, C, ... and the first row,
    bold, has the columns' names.
    """

    def __init__(self, parent=None):
        super().__init__(parent)
        self._node, self._observation, self._filling = None, None, False
        self._is_transposed = False
        self.itemChanged.connect(self._edited)

    def mrmlTableNode(self):
        """The shown node, or None."""
        return self._node

    def setMRMLTableNode(self, node) -> None:
        """Slot: show a table node, or nothing."""
        if self._node is not None:
            self._observation.end()
        self._node = node
        if node is not None:
            self._observation = Observation(self, node, vtk.vtkCommand.ModifiedEvent, self.updateModelFromMRML)
        self.updateModelFromMRML()

    @Slot()
    def updateModelFromMRML(self) -> None:
        """Read the node again."""
        self._filling = True
        table = self._node.GetTable() if self._node is not None else None
        if table is not None and table.GetNumberOfColumns():
            self._fill(table)
        else:
            self.clear()
        self._filling = False

    def _transpose(self, transposed: bool) -> None:
        self._is_transposed = transposed
        self.updateModelFromMRML()

    def _offsets(self) -> tuple[int, int]:
        """Row and column of the table that the first cell shows; row -1 stands for the columns' names."""
        return (
            0 if self._node.GetUseColumnTitleAsColumnHeader() else -1,
            1 if self._node.GetUseFirstColumnAsRowHeader() else 0,
        )

    def _fill(self, table) -> None:
        first_row, first_column = self._offsets()
        rows = range(first_row, table.GetNumberOfRows())
        columns = range(first_column, table.GetNumberOfColumns())
        row_heads = [self._row_head(table, row, number) for number, row in enumerate(rows)]
        column_heads = [self._column_head(table, column, number) for number, column in enumerate(columns)]
        if self._is_transposed:
            row_heads, column_heads = column_heads, row_heads
        self.setRowCount(len(row_heads))
        self.setColumnCount(len(column_heads))
        self.setHorizontalHeaderLabels(column_heads)
        self.setVerticalHeaderLabels(row_heads)
        for number, row in enumerate(rows):
            for other, column in enumerate(columns):
                place = (other, number) if self._is_transposed else (number, other)
                # The item there is used again: it may be the one whose change is just being told.
                item = self.item(*place) or QtGui.QStandardItem()
                self._fill_item(item, table, row, column)
                if item.model() is None:
                    self.setItem(*place, item)

    def _row_head(self, table, row: int, number: int) -> str:
        if not self._node.GetUseFirstColumnAsRowHeader():
            return str(number + 1)
        return table.GetColumnName(0) if row < 0 else table.GetValue(row, 0).ToString()

    def _column_head(self, table, column: int, number: int) -> str:
        if not self._node.GetUseColumnTitleAsColumnHeader():
            return _letters(number)
        name = table.GetColumnName(column)
        unit = self._node.GetColumnUnitLabel(name)
        return (self._node.GetColumnTitle(name) or name) + (f" [{unit}]" if unit else "")

    def _fill_item(self, item: QtGui.QStandardItem, table, row: int, column: int) -> None:
        is_bit = row >= 0 and isinstance(table.GetColumn(column), vtk.vtkBitArray)
        font = QtGui.QFont()
        font.setBold(row < 0)
        item.setData(font, Qt.FontRole)
        item.setCheckable(is_bit)
        if is_bit:
            item.setText("")
            item.setCheckState(Qt.Checked if table.GetValue(row, column).ToInt() else Qt.Unchecked)
        else:
            item.setText(table.GetColumnName(column) if row < 0 else table.GetValue(row, column).ToString())
            item.setData(None, Qt.CheckStateRole)
        item.setEditable(not self._node.GetLocked() and not is_bit)

    def _edited(self, item: QtGui.QStandardItem) -> None:
        """What a user typed goes into the node, which then tells what it became."""
        if self._filling:
            return
        first_row, first_column = self._offsets()
        place = (item.column(), item.row()) if self._is_transposed else (item.row(), item.column())
        row, column = place[0] + first_row, place[1] + first_column
        if row < 0:
            self._node.RenameColumn(column, item.text())
        else:
            table = self._node.GetTable()
            value = int(item.checkState() == Qt.Checked) if item.isCheckable() else item.text()
            table.SetValue(row, column, vtk.vtkVariant(value))
            table.Modified()


class qMRMLTableView(WithScene, QtWidgets.QTableView):
    """Shows a table node: one given to it, or the one of a table view node."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent=None):
        super().__init__(parent)
        self._view_node, self._observation = None, None
        proxy = QtCore.QSortFilterProxyModel(self)
        proxy.setSourceModel(qMRMLTableModel(self))
        self.setModel(proxy)
        self.setSizePolicy(QtWidgets.QSizePolicy.Expanding, QtWidgets.QSizePolicy.Expanding)

    def tableModel(self) -> qMRMLTableModel:
        return self.model().sourceModel()

    def sortFilterProxyModel(self) -> QtCore.QSortFilterProxyModel:
        return self.model()

    def mrmlTableNode(self):
        """The shown node, or None."""
        return self.tableModel().mrmlTableNode()

    def setMRMLTableNode(self, node) -> None:
        """Slot: show a table node, or nothing."""
        self.tableModel().setMRMLTableNode(node)
        self.horizontalHeader().setMinimumSectionSize(_MINIMUM_SECTION)
        self.resizeColumnsToContents()

    def mrmlTableViewNode(self):
        """The view node that says what is shown, or None."""
        return self._view_node

    def setMRMLTableViewNode(self, node) -> None:
        """Slot: show what a table view node says."""
        if self._view_node is not None:
            self._observation.end()
        self._view_node = node
        if node is not None:
            self._observation = Observation(self, node, vtk.vtkCommand.ModifiedEvent, self._follow)
        self._follow()

    def _get_transposed(self) -> bool:
        return self.tableModel()._is_transposed

    @Slot(bool)
    def setTransposed(self, transposed: bool) -> None:
        self.tableModel()._transpose(transposed)

    def _is_first_row_locked(self) -> bool:
        return self._heads("row")[0]

    @Slot(bool)
    def setFirstRowLocked(self, locked: bool) -> None:
        """Use the columns' titles as heads; it is the node that keeps this."""
        self._heads("row")[1](locked)
        self.resizeColumnsToContents()

    def _is_first_column_locked(self) -> bool:
        return self._heads("column")[0]

    @Slot(bool)
    def setFirstColumnLocked(self, locked: bool) -> None:
        """Use the first column as heads of the rows; it is the node that keeps this."""
        self._heads("column")[1](locked)
        self.resizeColumnsToContents()

    transposed = QtCore.Property(bool, _get_transposed, setTransposed)
    firstRowLocked = QtCore.Property(bool, _is_first_row_locked, setFirstRowLocked)
    firstColumnLocked = QtCore.Property(bool, _is_first_column_locked, setFirstColumnLocked)

    def _heads(self, which: str) -> tuple:
        """Whether the first row or column serves as heads, and the function of the node that decides it."""
        node = self.mrmlTableNode()
        if node is None:
            return False, lambda locked: None
        if (which == "row") != self._get_transposed():
            return node.GetUseColumnTitleAsColumnHeader(), node.SetUseColumnTitleAsColumnHeader
        return node.GetUseFirstColumnAsRowHeader(), node.SetUseFirstColumnAsRowHeader

    def _follow(self) -> None:
        node = self._view_node
        shown = node.GetTableNode() if node is not None and node.GetScene() is not None else None
        if shown is not self.mrmlTableNode():
            self.setMRMLTableNode(shown)


class qMRMLTableWidget(StandIn, QtWidgets.QWidget):
    """A table view of the layout with its bar."""

    def __init__(self, node):
        super().__init__()
        self._view = qMRMLTableView()
        self._bar = ViewBar(node, _COLOR, node.GetTableNode)
        box = QtWidgets.QVBoxLayout(self)
        box.setContentsMargins(0, 0, 0, 0)
        box.setSpacing(0)
        box.addWidget(self._bar)
        box.addWidget(self._view, 1)
        self._view.setMRMLScene(node.GetScene())
        self._view.setMRMLTableViewNode(node)

    def mrmlTableViewNode(self):
        return self._view.mrmlTableViewNode()

    def mrmlAbstractViewNode(self):
        return self._view.mrmlTableViewNode()

    def tableView(self) -> qMRMLTableView:
        return self._view

    def viewWidget(self) -> qMRMLTableView:
        return self._view

    def tableController(self) -> ViewBar:
        return self._bar

    def controllerWidget(self) -> ViewBar:
        return self._bar


def _letters(number: int) -> str:
    """A, B, ..., Z, AA, AB, ... as in a spreadsheet."""
    text = ""
    while number >= 0:
        text = chr(ord("A") + number % 26) + text
        number = number // 26 - 1
    return text
