"""Tables of the scene in panels and layouts, as Slicer's table views show them."""

import pytest


@pytest.fixture
def node(host):
    """A table of regions."""
    import slicer
    import vtk

    table = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", "Regions")
    names, numbers = vtk.vtkStringArray(), vtk.vtkDoubleArray()
    names.SetName("region")
    numbers.SetName("mean")
    for name, number in (("Lung", -850.5), ("Bone", 300.0)):
        names.InsertNextValue(name)
        numbers.InsertNextValue(number)
    table.AddColumn(names)
    table.AddColumn(numbers)
    table.SetColumnTitle("mean", "Mean")
    table.SetColumnUnitLabel("mean", "HU")
    return table


@pytest.fixture
def view(host, node):
    """A table view of a panel with that table."""
    import slicer

    view = slicer.qMRMLTableView()
    view.setMRMLScene(slicer.mrmlScene)
    view.setMRMLTableNode(node)
    return view


def shown(view) -> list[list[str]]:
    model = view.model()
    return [[model.index(r, c).data() for c in range(model.columnCount())] for r in range(model.rowCount())]


def heads(view) -> tuple[list[str], list[str]]:
    """Of the columns and of the rows."""
    from PySide6.QtCore import Qt

    model = view.model()
    return (
        [model.headerData(index, Qt.Horizontal) for index in range(model.columnCount())],
        [model.headerData(index, Qt.Vertical) for index in range(model.rowCount())],
    )


def test_the_names_of_columns_are_a_row_unless_the_node_uses_titles(view, node):
    assert shown(view) == [["region", "mean"], ["Lung", "-850.5"], ["Bone", "300"]]
    assert heads(view) == (["A", "B"], ["1", "2", "3"])
    node.SetUseColumnTitleAsColumnHeader(True)
    assert shown(view) == [["Lung", "-850.5"], ["Bone", "300"]]
    assert heads(view) == (["region", "Mean [HU]"], ["1", "2"])
    node.SetUseFirstColumnAsRowHeader(True)
    assert shown(view) == [["-850.5"], ["300"]]
    assert heads(view) == (["Mean [HU]"], ["Lung", "Bone"])


def test_locking_a_row_is_kept_in_the_node(view, node):
    view.setFirstRowLocked(True)
    assert node.GetUseColumnTitleAsColumnHeader()
    assert view.firstRowLocked
    view.setTransposed(True)
    view.setFirstRowLocked(True)
    assert node.GetUseFirstColumnAsRowHeader()
    assert shown(view) == [["-850.5", "300"]]
    assert heads(view) == (["Lung", "Bone"], ["Mean [HU]"])


def test_changes_of_the_table_are_shown(view, node):
    node.SetCellText(1, 0, "Ribs")
    assert shown(view)[2][0] == "Ribs"
    view.setMRMLTableNode(None)
    assert shown(view) == []
    assert view.mrmlTableNode() is None


def test_what_is_typed_goes_into_the_table_if_it_fits(view, node):
    model = view.model()
    model.setData(model.index(1, 0), "Lungs")
    model.setData(model.index(1, 1), "-800")
    model.setData(model.index(2, 1), "much")
    assert [node.GetCellText(row, column) for row in (0, 1) for column in (0, 1)] == ["Lungs", "-800", "Bone", "300"]
    assert shown(view)[2] == ["Bone", "300"]
    model.setData(model.index(0, 0), "tissue")
    assert node.GetTable().GetColumnName(0) == "tissue"


def test_a_locked_table_cannot_be_edited(view, node):
    from PySide6.QtCore import Qt

    assert view.model().index(1, 0).flags() & Qt.ItemIsEditable
    node.SetLocked(True)
    assert not view.model().index(1, 0).flags() & Qt.ItemIsEditable


def test_a_layout_shows_the_table_of_its_view_node(host, node):
    import slicer

    manager = slicer.app.layoutManager()
    assert manager.tableViewCount == 0
    manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpTableView)
    host.process_events()
    widget = manager.tableWidget(0)
    assert (manager.tableViewCount, manager.tableWidget(1)) == (1, None)
    assert widget.isVisible()
    assert shown(widget.tableView()) == []
    widget.mrmlTableViewNode().SetTableNodeID(node.GetID())
    assert shown(widget.tableView())[1] == ["Lung", "-850.5"]
    slicer.mrmlScene.RemoveNode(node)
    assert shown(widget.tableView()) == []
