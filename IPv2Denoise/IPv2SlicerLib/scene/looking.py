"""Looking at a result: its input, itself and what was removed at one place of one view, or of three planes; windows.

Flipping and windows change display nodes only, nothing is computed: what a result consists of is `result_nodes`'
matter, what views show `display`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

import slicer
from IPv2Lib.errors import InputError
from IPv2Lib.hounsfield import WINDOWS

from .denoised_nodes import link_result
from .display import composite_of, exchange, is_difference, show_compare, show_planes, views_of
from .layouts import compare_layout, planes_layout
from .result_nodes import DenoisedNodes
from .sequences import shown
from .volume_nodes import nodes_of_class, set_window

PARTS = ("input", "denoised", "difference")
"""What can be looked at, fields of `DenoisedNodes`."""

LAYOUTS = {"one": compare_layout(1), "planes": planes_layout()}
"""The ways of looking."""


def look(nodes: DenoisedNodes, way: str, part: str = "denoised", *, slice_index: int | None = None) -> None:
    """Show one part of a result in one view, or in three planes.

    Parameters
    ----------
    nodes : DenoisedNodes
        Of sequences the selected frame is shown.
    way : {'one', 'planes'}
    part : {'input', 'denoised', 'difference'}
    slice_index : int, optional
        Of the result; default: the middle.

    Raises
    ------
    InputError
        The part was removed from the scene.
    """
    volume = _volume(nodes, part)
    others = [each for each in parts(nodes).values() if each is not volume]
    if way == "one":
        show_compare([volume], slice_index=slice_index, layout=LAYOUTS[way], also=others)
    else:
        show_planes(volume, slice_index=slice_index, also=others)
    link_result(nodes)


def flip(nodes: DenoisedNodes, part: str) -> None:
    """Let the views of `look` show another part of the result, at the same place and in the same window.

    Raises
    ------
    InputError
        The part was removed from the scene.
    """
    exchange(_views(nodes), _volume(nodes, part))


def way_of(target: slicer.vtkMRMLScene) -> str | None:
    """How a scene is looked at: "one", "planes", or None where another layout is shown."""
    return next((way for way, layout in LAYOUTS.items() if views_of(target, layout)), None)


def part_of(nodes: DenoisedNodes) -> str | None:
    """The part of a result that the views of `look` show; None where they show something else, or are not there."""
    views = _views(nodes)
    background = composite_of(views[0]).GetBackgroundVolumeID() if views else None
    return next((part for part, volume in parts(nodes).items() if volume.GetID() == background), None)


def parts(nodes: DenoisedNodes) -> dict[str, slicer.vtkMRMLScalarVolumeNode]:
    """The volumes of a result that are in the scene, by the names of `PARTS`."""
    found = {part: shown(getattr(nodes, part)) for part in PARTS}
    return {part: volume for part, volume in found.items() if volume is not None}


def show_in_window(name: str, volumes: Sequence[slicer.vtkMRMLScalarVolumeNode]) -> None:
    """Show volumes in one of `IPv2Lib.hounsfield.WINDOWS`; differences keep their colours."""
    for volume in volumes:
        display = volume.GetDisplayNode()
        if display is not None and not is_difference(volume):
            set_window(display, *WINDOWS[name])


def volumes_in_views(target: slicer.vtkMRMLScene) -> list[slicer.vtkMRMLScalarVolumeNode]:
    """The grey-value volumes that any slice view shows, each once."""
    ids = [
        each
        for composite in nodes_of_class(target, "vtkMRMLSliceCompositeNode")
        for each in (composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID())
        if each
    ]
    nodes = [target.GetNodeByID(each) for each in dict.fromkeys(ids)]
    return [node for node in nodes if node is not None and node.GetClassName() == "vtkMRMLScalarVolumeNode"]


def _views(nodes: DenoisedNodes) -> list[slicer.vtkMRMLSliceNode]:
    target = nodes.denoised.GetScene()
    return next((found for layout in LAYOUTS.values() if (found := views_of(target, layout))), [])


def _volume(nodes: DenoisedNodes, part: str) -> slicer.vtkMRMLScalarVolumeNode:
    found = parts(nodes)
    if part not in found:
        raise InputError(f"the {part} of '{nodes.denoised.GetName()}' is not in the scene any more: denoise again")
    return found[part]
