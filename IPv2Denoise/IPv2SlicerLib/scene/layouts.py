"""The layouts: volumes side by side, planes of one, curves over volumes, a table over curves.

A layout is its number, its description and the names of its views. Every part of it gets an equal share: a splitter
without sizes goes by what its views would like, which for plots is nothing.

Text only, so that Slicer can be told of them when it starts: a scene that was saved with such a layout would open
with empty views where the layout is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

MOST_VIEWS = 9
MOST_IN_A_ROW = 3
"""The window cannot be narrower than the bars of the slice views of a row, some 320 pixels each."""

# Numbers above vtkMRMLLayoutNode.SlicerLayoutUserView belong to extensions; n views take the n-th.
_FIRST = 26020


@dataclass(frozen=True)
class Layout:
    """One layout.

    Attributes
    ----------
    number : int
        For `vtkMRMLLayoutNode.SetViewArrangement`.
    description : str
        XML.
    views : tuple of str
        Layout names of the slice views, from left to right.
    plots, tables : tuple of str
        Names (singleton tags) of the plot and table views, likewise.
    """

    number: int
    description: str
    views: tuple[str, ...] = ()
    plots: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()


def compare_layout(count: int) -> Layout:
    """Some slice views in rows, 1 to `MOST_VIEWS`. They are a view group: Red, Yellow and Green do not follow them.

    Examples
    --------
    >>> compare_layout(2).views
    ('IPv2View1', 'IPv2View2')
    """
    names = _slice_view_names(count)
    views = [_slice_view(name, number) for number, name in enumerate(names, 1)]
    rows = -(-count // MOST_IN_A_ROW)
    bounds = [-(-count * row // rows) for row in range(rows + 1)]  # earlier rows are the longer ones
    return Layout(
        _FIRST + count,
        _vertical([_horizontal(views[start:stop]) for start, stop in pairwise(bounds)]),
        names,
    )


def training_layout() -> Layout:
    """Two plots over three slice views: what shows a training run."""
    names, plots = _slice_view_names(3), _plot_names(2)
    slices = [_slice_view(name, number) for number, name in enumerate(names, 1)]
    description = _vertical([_horizontal(_plot_views(plots)), _horizontal(slices)])
    return Layout(_FIRST + MOST_VIEWS + 1, description, names, plots)


def comparison_layout() -> Layout:
    """A table over two plots: what shows a comparison of models."""
    plots, table = _plot_names(2), "IPv2Table1"
    description = _vertical([_view("vtkMRMLTableViewNode", table, viewlabel="T"), _horizontal(_plot_views(plots))])
    return Layout(_FIRST + MOST_VIEWS + 2, description, plots=plots, tables=(table,))


def red_layout() -> Layout:
    """Slicer's Red view alone: what shows a stage where the layout before had no Red view."""
    view = _view("vtkMRMLSliceNode", "Red", orientation="Axial", viewlabel="R", viewcolor="#F34A33")
    return Layout(_FIRST + MOST_VIEWS + 3, _vertical([view]), ("Red",))


def planes_layout() -> Layout:
    """An axial view beside a coronal over a sagittal one."""
    orientations = {"IPv2Axial": "Axial", "IPv2Coronal": "Coronal", "IPv2Sagittal": "Sagittal"}
    axial, *others = (
        _slice_view(name, orientation[0], orientation, group=_FIRST + 1) for name, orientation in orientations.items()
    )
    return Layout(_FIRST + MOST_VIEWS + 4, _horizontal([axial, _vertical(others)]), tuple(orientations))


def all_layouts() -> list[Layout]:
    """Every layout there is."""
    comparisons = [compare_layout(count) for count in range(1, MOST_VIEWS + 1)]
    return [*comparisons, training_layout(), comparison_layout(), red_layout(), planes_layout()]


def is_ours(number: int) -> bool:
    """Whether a view arrangement is one of these layouts."""
    return any(layout.number == number for layout in all_layouts())


def _slice_view_names(count: int) -> tuple[str, ...]:
    return tuple(f"IPv2View{number}" for number in range(1, count + 1))


def _plot_names(count: int) -> tuple[str, ...]:
    return tuple(f"IPv2Plot{number}" for number in range(1, count + 1))


def _slice_view(name: str, label: object, orientation: str = "Axial", group: int = _FIRST) -> str:
    look = {"orientation": orientation, "viewlabel": label, "viewgroup": group, "viewcolor": "#5A8FBF"}
    return _view("vtkMRMLSliceNode", name, **look)


def _plot_views(names: Sequence[str]) -> list[str]:
    return [_view("vtkMRMLPlotViewNode", name, viewlabel=f"P{number}") for number, name in enumerate(names, 1)]


def _view(class_name: str, name: str, **properties: object) -> str:
    texts = (f'<property name="{key}" action="default">{value}</property>' for key, value in properties.items())
    return f'<view class="{class_name}" singletontag="{name}">{"".join(texts)}</view>'


def _vertical(parts: Sequence[str]) -> str:
    return _split("vertical", parts)


def _horizontal(parts: Sequence[str]) -> str:
    return _split("horizontal", parts)


def _split(kind: str, parts: Sequence[str]) -> str:
    items = "".join(f'<item splitSize="500">{part}</item>' for part in parts)
    return f'<layout type="{kind}" split="true">{items}</layout>'
