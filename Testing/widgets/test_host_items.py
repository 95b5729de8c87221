"""Tables and lists of Qt as modules use them: clicked, edited, their texts checked for room."""

import pytest
from example_module import PATH, copied
from host import HostError

PANEL = """
        self.table = qt.QTableWidget(2, 2)
        self.table.setHorizontalHeaderLabels(["Case", "State"])
        for row in range(2):
            self.table.setItem(row, 0, qt.QTableWidgetItem(f"case {row}"))
            self.table.setCellWidget(row, 1, qt.QComboBox())
        self.table.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        self.table.horizontalHeader().setSectionResizeMode(qt.QHeaderView.ResizeToContents)
        self.list = qt.QListWidget()
        entry = qt.QListWidgetItem("model")
        entry.setFlags(entry.flags() | qt.Qt.ItemIsUserCheckable)
        entry.setCheckState(qt.Qt.Unchecked)
        self.list.addItem(entry)
        self.layout.addWidget(self.table)
        self.layout.addWidget(self.list)
"""


@pytest.fixture
def panel(host, tmp_path):
    """A module with a table of two cases and a list."""
    marker = "    def onWrong"

    def change(text: str) -> str:
        first, second = text.split(marker, 1)
        return f"{first}    def build(self):{PANEL}\n{marker}{second}"

    widget = host.load_module(copied(tmp_path, source=change))
    widget.build()
    host.process_events()
    return widget


def test_rows_of_a_table_are_selected_with_the_mouse(host, panel):
    host.click_cell(panel.table, 1)
    assert [index.row() for index in panel.table.selectionModel().selectedRows()] == [1]
    host.click_cell(panel.table, 0, keys="Ctrl")
    assert sorted(index.row() for index in panel.table.selectionModel().selectedRows()) == [0, 1]
    assert panel.table.item(1, 0).text() == "case 1"


def test_cells_that_nobody_could_click_are_an_error(host, panel):
    with pytest.raises(HostError, match="row 2"):
        host.click_cell(panel.table, 2)
    panel.table.setEnabled(False)
    with pytest.raises(HostError, match="disabled"):
        host.click_cell(panel.table, 0)
    panel.table.setEnabled(True)
    panel.table.hide()
    with pytest.raises(HostError, match="hidden"):
        host.click_cell(panel.table, 0)


def test_an_entry_of_a_list_is_ticked(host, panel):
    from PySide6.QtCore import Qt

    told = []
    panel.list.itemChanged.connect(lambda item: told.append(item.text()))
    panel.list.item(0).setCheckState(Qt.Checked)
    host.process_events()
    assert told == ["model"]


def test_heads_of_a_table_that_do_not_fit_are_found(host, panel):
    from PySide6.QtWidgets import QHeaderView

    assert host.cut_off_texts() == []
    header = panel.table.horizontalHeader()
    header.setMinimumSectionSize(5)
    header.setSectionResizeMode(QHeaderView.Fixed)
    header.resizeSection(1, 10)
    host.process_events()
    assert host.cut_off_texts() == ["State"]


def test_folders_are_not_opened(host, tmp_path):
    import qt

    assert qt.QDesktopServices.openUrl(qt.QUrl.fromLocalFile(str(tmp_path)))
    assert qt.QDesktopServices.openUrl(qt.QUrl("https://example.org/a"))
    assert [(each.kind, each.text) for each in host.messages] == [
        ("open", str(tmp_path)),
        ("open", "https://example.org/a"),
    ]


def test_a_module_needs_the_modules_that_it_depends_on(host, tmp_path):
    path = copied(
        tmp_path,
        source=lambda text: text.replace("parent.title =", 'parent.dependencies = ["IPv2Other"]; parent.title ='),
    )
    with pytest.raises(HostError, match="IPv2Other"):
        host.load_module(path)
    assert host.load_module(PATH) is not None
