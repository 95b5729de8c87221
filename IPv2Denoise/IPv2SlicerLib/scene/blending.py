"""The strength of a result in the scene, changed at once and without the network; and the table of its regions.

Works frame by frame: a volume is a result of one frame. Who the nodes of a result are is `result_nodes`' matter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence

import slicer
import vtk
from IPv2Lib.analysis.region_statistics import RegionStatistics, StrengthStatistics
from IPv2Lib.errors import InputError
from IPv2Lib.inference.blending import blend_into, check_strength
from IPv2Lib.io.volume import same_grid

from .result_nodes import DenoisedNodes, hidden_output, nodes_of
from .sequences import content_stamp, data_nodes, frame_name, frame_on_display, is_sequence, update_proxies
from .volume_nodes import node_array, node_view, set_provenance

COLUMNS = (
    "Region",
    "Mean before (HU)",
    "Mean after (HU)",
    "σ before (HU)",
    "σ after (HU)",
    "Noise reduction (%)",
)
"""Of the table of regions."""

_STATISTICS = "IPv2StrengthStatistics"  # attribute of each table
_STAMPS = "IPv2InputStamps"  # attribute of the hidden node: what the input was
_NOTHING = "–"


def set_strength(denoised_node: slicer.vtkMRMLNode, strength: float) -> None:
    """Blend a result again, at once: volumes, differences, tables and provenance. The colour range stays.

    Parameters
    ----------
    denoised_node : vtkMRMLScalarVolumeNode or vtkMRMLSequenceNode
        From `denoised_nodes.add_denoised` or `add_denoised_sequence`.
    strength : float
        0 to 1.

    Raises
    ------
    InputError
        The strength is out of range, or what the network said is not in the scene, or volumes were changed since.
    """
    for _ in strength_steps(denoised_node, strength):
        pass


def strength_steps(denoised_node: slicer.vtkMRMLNode, strength: float) -> Iterator[None]:
    """`set_strength` in pieces of one frame, between which a user can go on: the frame on display, then the others.

    Each piece raises what `set_strength` does, the first one before anything is changed. Whoever stops on the way
    leaves frames of different strengths: until the end is reached, nothing else may be done with the result.
    """
    check_strength(strength)
    waiting: list[int] | None = None
    while waiting is None or waiting:
        reason = why_not_strength(denoised_node)
        if reason is not None:
            raise InputError(reason)
        nodes = nodes_of(denoised_node)
        if waiting is None:
            waiting = list(range(len(data_nodes(denoised_node))))
        on_display = frame_on_display(denoised_node)
        index = on_display if on_display in waiting else waiting[0]
        waiting.remove(index)
        _blend_frame(nodes, index, strength)
        set_provenance(denoised_node, {"strength": float(strength)})
        if is_sequence(denoised_node):
            for node in (nodes.denoised, nodes.difference, nodes.table):
                if node is not None:
                    node.StorableModified()
            if index == on_display:
                update_proxies(denoised_node)
        yield


def keep_statistics(table_node: slicer.vtkMRMLTableNode, statistics: StrengthStatistics, strength: float) -> None:
    """Fill a table, and keep what it takes to fill it for any other strength."""
    table_node.SetAttribute(_STATISTICS, json.dumps(statistics.as_dict()))
    fill_region_table(table_node, statistics.at(strength))


def keep_stamp(output_node: slicer.vtkMRMLNode, input_node: slicer.vtkMRMLNode) -> None:
    """Let what the network said be of the input as it is now: of another one it would say something else."""
    output_node.SetAttribute(_STAMPS, json.dumps(content_stamp(input_node)))


def fill_region_table(table_node: slicer.vtkMRMLTableNode, rows: Sequence[RegionStatistics]) -> None:
    """Write one row per region into a table with `COLUMNS`, as texts with one decimal; "–" is not measurable."""
    texts = [
        (
            row.region.label,
            *(
                _number(value)
                for value in (
                    row.mean_before,
                    row.mean_after,
                    row.sigma_before,
                    row.sigma_after,
                    100 * row.noise_reduction,
                )
            ),
        )
        for row in rows
    ]
    table = vtk.vtkTable()
    for name, values in zip(COLUMNS, zip(*texts, strict=True) if texts else [()] * len(COLUMNS), strict=True):
        column = vtk.vtkStringArray()
        column.SetName(name)
        for value in values:
            column.InsertNextValue(value)
        table.AddColumn(column)
    state = table_node.StartModify()
    table_node.SetAndObserveTable(table)
    table_node.SetUseColumnTitleAsColumnHeader(True)
    table_node.SetLocked(True)
    table_node.EndModify(state)


def _blend_frame(nodes: DenoisedNodes, index: int, strength: float) -> None:
    """Blend one frame of a result, and fill its table."""
    parts = (nodes.input, hidden_output(nodes.denoised), nodes.denoised, nodes.difference)
    before, output, *results = (data_nodes(part)[index] for part in parts if part is not None)
    states = [node.StartModify() for node in results]
    try:
        blend_into(node_array(before), node_array(output), strength, *(node_array(node) for node in results))
        for node in results:
            node.GetImageData().GetPointData().GetScalars().Modified()
            node.GetImageData().Modified()
        set_provenance(results[0], {"strength": float(strength)})
    finally:
        for node, state in zip(results, states, strict=True):
            node.EndModify(state)
    tables = data_nodes(nodes.table) if nodes.table is not None else []
    if index < len(tables) and tables[index].GetAttribute(_STATISTICS):
        statistics = StrengthStatistics.from_dict(json.loads(tables[index].GetAttribute(_STATISTICS)))
        fill_region_table(tables[index], statistics.at(strength))


def why_not_strength(denoised_node) -> str | None:
    """Why the strength of a result cannot be set: it was saved and loaded, or changed since; None if it can."""
    nodes = nodes_of(denoised_node)
    if nodes is None:
        return "this volume is no result of denoising: denoise a volume first"
    name = denoised_node.GetName()
    output = hidden_output(denoised_node)
    if output is None:
        return f"what the network said for '{name}' is not saved with a scene: denoise again to change its strength"
    if nodes.input is None:
        return f"the input of '{name}' is not in the scene any more: denoise again to change its strength"
    changed = f"'{name}' or its input was changed since it was denoised: denoise again to change its strength"
    if json.dumps(content_stamp(nodes.input)) != output.GetAttribute(_STAMPS):
        return changed
    parts = [data_nodes(part) for part in (output, nodes.input, denoised_node, nodes.difference) if part is not None]
    if len({len(part) for part in parts}) > 1:
        return changed
    for index, frame in enumerate(zip(*parts, strict=True)):
        try:
            views = [node_view(node) for node in frame]
        except InputError as error:
            return str(error) if not is_sequence(denoised_node) else f"{frame_name(denoised_node, index)}: {error}"
        if not all(same_grid(view, views[0]) for view in views[1:]):
            return changed
    return None


def _number(value: float) -> str:
    return _NOTHING if math.isnan(value) else f"{value + 0.0:.1f}"
