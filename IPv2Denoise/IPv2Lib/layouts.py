"""The layouts: volumes side by side, curves over volumes, a table over curves; number, description, names of views.

Text only, so that Slicer can be told of them when it starts: a scene that was saved with such a layout would open
with empty views where the layout is not known.
"""

from __future__ import annotations

from dataclasses import dataclass

MOST_VIEWS = 9

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
    """Some slice views in a row, 1 to `MOST_VIEWS`. They are a view group: Red, Yellow and Green do not follow them.

    Examples
    --------
    >>> compare_layout(2).views
    ('IPv2View1', 'IPv2View2')
    """
    names = _slice_view_names(count)
    return Layout(_FIRST + count, f'<layout type="horizontal" split="true">{_slice_views(names)}</layout>', names)


def training_layout() -> Layout:
    """Two plots over three slice views: what shows a training run."""
    names, plots = _slice_view_names(3), _plot_names(2)
    description = (
        '<layout type="vertical" split="true">'
        f'<item><layout type="horizontal" split="true">{_plot_views(plots)}</layout></item>'
        f'<item><layout type="horizontal" split="true">{_slice_views(names)}</layout></item></layout>'
    )
    return Layout(_FIRST + MOST_VIEWS + 1, description, names, plots)


def comparison_layout() -> Layout:
    """A table over two plots: what shows a comparison of models."""
    plots, table = _plot_names(2), "IPv2Table1"
    description = (
        '<layout type="vertical" split="true">'
        f'<item><view class="vtkMRMLTableViewNode" singletontag="{table}">'
        '<property name="viewlabel" action="default">T</property></view></item>'
        f'<item><layout type="horizontal" split="true">{_plot_views(plots)}</layout></item></layout>'
    )
    return Layout(_FIRST + MOST_VIEWS + 2, description, plots=plots, tables=(table,))


def all_layouts() -> list[Layout]:
    """Every layout there is."""
    return [*(compare_layout(count) for count in range(1, MOST_VIEWS + 1)), training_layout(), comparison_layout()]


def _slice_view_names(count: int) -> tuple[str, ...]:
    return tuple(f"IPv2View{number}" for number in range(1, count + 1))


def _slice_views(names: tuple[str, ...]) -> str:
    return "".join(
        f'<item><view class="vtkMRMLSliceNode" singletontag="{name}">'
        '<property name="orientation" action="default">Axial</property>'
        f'<property name="viewlabel" action="default">{number}</property>'
        f'<property name="viewgroup" action="default">{_FIRST}</property>'
        '<property name="viewcolor" action="default">#5A8FBF</property></view></item>'
        for number, name in enumerate(names, 1)
    )


def _plot_names(count: int) -> tuple[str, ...]:
    return tuple(f"IPv2Plot{number}" for number in range(1, count + 1))


def _plot_views(names: tuple[str, ...]) -> str:
    return "".join(
        f'<item><view class="vtkMRMLPlotViewNode" singletontag="{name}">'
        f'<property name="viewlabel" action="default">P{number}</property></view></item>'
        for number, name in enumerate(names, 1)
    )
