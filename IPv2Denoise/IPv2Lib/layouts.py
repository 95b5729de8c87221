"""The layouts that compare volumes side by side: number, description and names of the views.

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
    """

    number: int
    description: str
    views: tuple[str, ...]


def compare_layout(count: int) -> Layout:
    """Some slice views in a row, 1 to `MOST_VIEWS`. They are a view group: Red, Yellow and Green do not follow them.

    Examples
    --------
    >>> compare_layout(2).views
    ('IPv2View1', 'IPv2View2')
    """
    names = tuple(f"IPv2View{number}" for number in range(1, count + 1))
    views = "".join(
        f'<item><view class="vtkMRMLSliceNode" singletontag="{name}">'
        '<property name="orientation" action="default">Axial</property>'
        f'<property name="viewlabel" action="default">{number}</property>'
        f'<property name="viewgroup" action="default">{_FIRST}</property>'
        '<property name="viewcolor" action="default">#5A8FBF</property></view></item>'
        for number, name in enumerate(names, 1)
    )
    return Layout(_FIRST + count, f'<layout type="horizontal" split="true">{views}</layout>', names)
