"""A denoised scan in the scene: the result beside its source, what was removed, and the table of its regions.

Owns which nodes make up a result and how they find each other, also after the scene was saved and loaded; changing
the strength of a result that is in the scene; showing input, result and difference; and the same for sequences
(4-D CT). Nodes, colours and views are made by `scene`, numbers by `denoise` and `regions`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import slicer
import vtk

from .ct import Volume, same_grid
from .denoise import Blended, blend, blend_and_subtract, blend_into, check_strength
from .errors import InputError
from .regions import RegionStatistics, StrengthStatistics
from .scene import (
    LUNG_LEVEL,
    LUNG_WINDOW,
    adopt_volume,
    application_logic,
    fill_volume,
    nice_limit,
    node_array,
    node_view,
    nodes_of_class,
    set_provenance,
    show_compare,
    show_difference,
    show_window,
)
from .scene import (
    provenance as stored_provenance,
)
from .scene_changes import place_beside, undoable_step, unique_name
from .scene_results import (
    IS_DIFFERENCE,
    IS_OUTPUT,
    IS_RESULT,
    OUTPUT_ROLE,
    ROLES,
    DenoisedNodes,
    belongings,
    disown,
    forget,
    hidden_output,
    inherit,
    nodes_of,
    own_part,
    referring,
)

COLUMNS = (
    "Region",
    "Mean before (HU)",
    "Mean after (HU)",
    "σ before (HU)",
    "σ after (HU)",
    "Noise reduction (%)",
)
"""Of the table of regions."""

_STATISTICS = "IPv2StrengthStatistics"  # node attribute of the table
_NOTHING = "–"


def add_denoised(
    input_node: slicer.vtkMRMLScalarVolumeNode,
    network_output: Volume,
    strength: float,
    statistics: StrengthStatistics | None,
    provenance: Mapping[str, object],
    *,
    output_node: slicer.vtkMRMLScalarVolumeNode | None = None,
    blended: Blended | None = None,
) -> DenoisedNodes:
    """Put a result into the scene beside its source, in one undoable step; if it fails, nothing has changed.

    Parameters
    ----------
    input_node : vtkMRMLScalarVolumeNode
        What was denoised.
    network_output : Volume
        At strength 1, on the grid of the input. Its memory is kept, so that `set_strength` needs no network: in a
        hidden node that is not saved with the scene. Do not change it afterwards.
    strength : float
        0 to 1.
    statistics : StrengthStatistics, optional
        For the table.
    provenance : mapping
        Kept on the denoised node, see `scene.set_provenance`; its key `strength` is set here.
    output_node : vtkMRMLScalarVolumeNode, optional
        Gets the result instead of a new node. Whatever it was before, it belongs to its input from now on: its name,
        its place and all that it says are those of a new one. Of an earlier result of the same input, name,
        difference and table are used again; what it was to another input is forgotten, and its difference and table
        are removed.
    blended : Blended, optional
        `denoise.blend_and_subtract` of input and output at this strength, if another thread has computed it already;
        its memory is kept. Used only if it is of this strength.

    Returns
    -------
    DenoisedNodes
        Named "<input> denoised", "<input> difference" and "<input> regions", with a number where that name is taken,
        beside the input, and so in its patient's study.

    Raises
    ------
    InputError
        The input is no volume (`scene.node_view`), the strength is out of range, the result lies on another grid,
        or the output node is the input, or no scalar volume.
    """
    check_strength(strength)
    before = node_view(input_node)
    if not same_grid(before, network_output):
        raise InputError(
            f"the result does not lie on the grid of '{input_node.GetName()}' any more: the volume was changed while "
            "it was denoised; denoise it again"
        )
    if output_node is not None:
        _check_output(input_node, output_node)
    target = input_node.GetScene()
    if blended is None or blended.strength != strength or not same_grid(before, blended.denoised):
        blended = blend_and_subtract(before, network_output, strength)
    limit = nice_limit(blended.removed.array)
    name = input_node.GetName()
    earlier = None if output_node is None else nodes_of(output_node)
    own = earlier if earlier is not None and earlier.input is input_node else None
    foreign = output_node is not None and own is None
    stale, holders = (belongings(output_node), referring(output_node)) if foreign else ([], [])
    parts = (own.difference, own.table, hidden_output(output_node)) if own is not None else (None, None, None)
    old_difference, old_table, old_output = (own_part(output_node, part) for part in parts)
    changed = [output_node, output_node and output_node.GetDisplayNode(), *stale, *holders]
    changed += [old_difference, old_difference and old_difference.GetDisplayNode(), old_table, old_output]
    with undoable_step(target, changed):
        for node in holders:
            forget(node, output_node)
        if foreign:
            disown(output_node)
            output_node.SetName(unique_name(target, f"{name} denoised", output_node))
        denoised_node = _volume_node(target, output_node, blended.denoised, f"{name} denoised")
        difference_node = _volume_node(target, old_difference, blended.removed, f"{name} difference")
        _copy_window(input_node, denoised_node)
        show_difference(difference_node, limit, "Removed (HU)")
        table = None
        if statistics is not None:
            table = old_table or target.AddNewNodeByClass("vtkMRMLTableNode", unique_name(target, f"{name} regions"))
        output = _hidden_node(target, old_output, before.with_array(network_output.array))
        nodes = DenoisedNodes(input_node, denoised_node, difference_node, table)
        for field, role in ROLES.items():
            node = getattr(nodes, field)
            denoised_node.SetNodeReferenceID(role, node and node.GetID())
        denoised_node.SetNodeReferenceID(OUTPUT_ROLE, output.GetID())
        denoised_node.SetAttribute(IS_RESULT, "1")
        difference_node.SetAttribute(IS_DIFFERENCE, "1")
        _forget_provenance(denoised_node)
        set_provenance(denoised_node, {**provenance, "strength": float(strength)})
        set_provenance(difference_node, {"difference": f"{name} - {denoised_node.GetName()}"})
        if table is not None:
            _fill_table(table, statistics, strength)
        place_beside([node for node in vars(nodes).values() if node not in (None, input_node)], input_node)
        for node in (denoised_node, difference_node):
            inherit(node, input_node)
        if table is None and old_table is not None:
            stale.append(old_table)  # it describes the earlier result
        for node in stale:  # last: nothing fails any more
            target.RemoveNode(node)
    return nodes


def can_set_strength(denoised_node: slicer.vtkMRMLNode | None) -> bool:
    """Whether `set_strength` works: not after the scene was saved and loaded, nor after input or result changed."""
    return _why_not(denoised_node) is None


def remove_unused_outputs(target: slicer.vtkMRMLScene) -> None:
    """Take what the network said out of a scene where its result is gone: it is hidden, and as large as a volume.

    Nothing happens while Undo may bring results back.
    """
    if target.GetUndoFlag():
        return
    volumes = nodes_of_class(target, "vtkMRMLScalarVolumeNode")
    used = {node.GetNodeReferenceID(OUTPUT_ROLE) for node in volumes}
    for node in volumes:
        if node.GetAttribute(IS_OUTPUT) and node.GetID() not in used:
            target.RemoveNode(node)


def set_strength(denoised_node: slicer.vtkMRMLScalarVolumeNode, strength: float) -> None:
    """Blend a result again, at once: volume, difference, table and provenance. The colour range stays.

    Parameters
    ----------
    denoised_node : vtkMRMLScalarVolumeNode
        From `add_denoised`.
    strength : float
        0 to 1.

    Raises
    ------
    InputError
        The strength is out of range, or what the network said is not in the scene, or volumes were changed since.
    """
    check_strength(strength)
    reason = _why_not(denoised_node)
    if reason is not None:
        raise InputError(reason)
    nodes = nodes_of(denoised_node)
    before, output = node_view(nodes.input), node_view(hidden_output(denoised_node))
    volumes = [node for node in (nodes.denoised, nodes.difference) if node is not None]
    states = [node.StartModify() for node in volumes]
    try:
        blend_into(before.array, output.array, strength, *(node_array(node) for node in volumes))
        for node in volumes:
            node.GetImageData().GetPointData().GetScalars().Modified()
            node.GetImageData().Modified()
        set_provenance(denoised_node, {"strength": float(strength)})
    finally:
        for node, state in zip(volumes, states, strict=True):
            node.EndModify(state)
    if nodes.table is not None and nodes.table.GetAttribute(_STATISTICS):
        statistics = StrengthStatistics.from_dict(json.loads(nodes.table.GetAttribute(_STATISTICS)))
        fill_region_table(nodes.table, statistics.at(strength))


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


def show_denoised(nodes: DenoisedNodes, *, slice_index: int | None = None) -> list[slicer.vtkMRMLSliceNode]:
    """Show input, denoised and difference side by side, linked: scroll, zoom, and window/level of the first two.

    Parameters
    ----------
    nodes : DenoisedNodes
        What was removed from the scene is left out.
    slice_index : int, optional
        Of the input; default: the middle.

    Returns
    -------
    list of vtkMRMLSliceNode
    """
    global _shown_link
    volumes = [node for node in (nodes.input, nodes.denoised, nodes.difference) if node is not None]
    views = show_compare(volumes, slice_index=slice_index)
    if _shown_link is not None:
        _shown_link.release()
        _shown_link = None
    if nodes.input is not None:
        _shown_link = link_windows(nodes.input, nodes.denoised)
    return views


class WindowLink:
    """Two volumes that are shown with the same window and level, whichever is changed; made by `link_windows`."""

    def __init__(self, a: slicer.vtkMRMLScalarVolumeNode, b: slicer.vtkMRMLScalarVolumeNode):
        self._ends = []
        for node, other in ((a, b), (b, a)):
            # Weak: a link must not keep the images of a closed scene.
            weak_node, weak_other = vtk.vtkWeakReference(), vtk.vtkWeakReference()
            weak_node.Set(node)
            weak_other.Set(other)

            def follow(caller, event, weak_other=weak_other):
                if weak_other.Get() is not None:
                    _copy_window(caller, weak_other.Get())

            self._ends.append((weak_node, node.AddObserver(node.DisplayModifiedEvent, follow)))

    def release(self) -> None:
        """Let both go their own way; again is harmless."""
        for weak_node, tag in self._ends:
            node = weak_node.Get()
            if node is not None:
                node.RemoveObserver(tag)
        self._ends.clear()


def link_windows(a: slicer.vtkMRMLScalarVolumeNode, b: slicer.vtkMRMLScalarVolumeNode) -> WindowLink:
    """Give `b` the window and level of `a`, and let each follow the other until the link is released."""
    _copy_window(a, b)
    return WindowLink(a, b)


@dataclass(frozen=True, eq=False)
class DenoisedSequence:
    """A denoised sequence.

    Attributes
    ----------
    sequence : vtkMRMLSequenceNode
        The denoised frames.
    browser : vtkMRMLSequenceBrowserNode
        Steps through source and result together.
    input, denoised : vtkMRMLScalarVolumeNode
        What the browser shows of the two at the moment.
    """

    sequence: slicer.vtkMRMLSequenceNode
    browser: slicer.vtkMRMLSequenceBrowserNode
    input: slicer.vtkMRMLScalarVolumeNode
    denoised: slicer.vtkMRMLScalarVolumeNode


def frames(sequence_node: slicer.vtkMRMLSequenceNode | None) -> list[slicer.vtkMRMLScalarVolumeNode]:
    """The volumes of a sequence in order; `scene.node_to_volume` reads them.

    Raises
    ------
    InputError
        No sequence, an empty one, or one of other things than scalar volumes.
    """
    if sequence_node is None or not sequence_node.IsA("vtkMRMLSequenceNode"):
        raise InputError("no sequence is chosen: load a 4-D CT and choose its sequence")
    name = f"'{sequence_node.GetName()}'"
    found = [sequence_node.GetNthDataNode(index) for index in range(sequence_node.GetNumberOfDataNodes())]
    if not found:
        raise InputError(f"the sequence {name} is empty: load its volumes first")
    for node in found:
        node_view(node)
    return found


def add_denoised_sequence(
    sequence_node: slicer.vtkMRMLSequenceNode,
    outputs: Sequence[Volume],
    strength: float,
    provenance: Mapping[str, object],
) -> DenoisedSequence:
    """Put a denoised sequence into the scene, in one undoable step; if it fails, nothing has changed.

    Parameters
    ----------
    sequence_node : vtkMRMLSequenceNode
        Of scalar volumes.
    outputs : sequence of Volume
        What the network said for each frame, at strength 1.
    strength : float
        0 to 1.
    provenance : mapping
        Kept on the new sequence node.

    Returns
    -------
    DenoisedSequence
        With the index values and the unit of the source; in its browser, or in a new one if it had none.

    Raises
    ------
    InputError
        As `frames`; a wrong number of outputs; or one that does not lie on the grid of its frame.
    """
    sources = frames(sequence_node)
    check_strength(strength)
    if len(outputs) != len(sources):
        raise InputError(
            f"the sequence '{sequence_node.GetName()}' has {len(sources)} frames, {len(outputs)} were denoised: "
            "denoise it again"
        )
    results = []
    for number, (source, output) in enumerate(zip(sources, outputs, strict=True), 1):
        before = node_view(source)
        if not same_grid(before, output):
            raise InputError(f"frame {number} was changed while the sequence was denoised: denoise it again")
        results.append(blend(before, before.with_array(output.array), strength))
    target = sequence_node.GetScene()
    application_logic(target)
    browser = _browser_of(sequence_node)
    with undoable_step(target):
        name = unique_name(target, f"{sequence_node.GetName()} denoised")
        denoised = target.AddNewNodeByClass("vtkMRMLSequenceNode", name)
        denoised.CopySequenceIndex(sequence_node)
        for index, result in enumerate(results):
            _add_frame(denoised, result, sequence_node.GetNthIndexValue(index))
        set_provenance(denoised, {**provenance, "strength": float(strength)})
        if browser is None:
            browser = target.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{sequence_node.GetName()} browser")
            browser.SetAndObserveMasterSequenceNodeID(sequence_node.GetID())
        browser.AddSynchronizedSequenceNode(denoised)
        slicer.vtkSlicerSequencesLogic().UpdateProxyNodesFromSequences(browser)
        shown, shown_denoised = browser.GetProxyNode(sequence_node), browser.GetProxyNode(denoised)
        shown_denoised.SetName(unique_name(target, f"{shown.GetName()} denoised"))
        for node in (shown, shown_denoised):
            if node.GetDisplayNode() is None:
                node.CreateDefaultDisplayNodes()
                show_window(node)
        _copy_window(shown, shown_denoised)
        place_beside([denoised], sequence_node)
        place_beside([shown_denoised], shown)
    return DenoisedSequence(denoised, browser, shown, shown_denoised)


_shown_link: WindowLink | None = None


def _check_output(input_node, output_node) -> None:
    name = output_node.GetName()
    if output_node is input_node:
        raise InputError(f"'{name}' is the input: choose another output volume, inputs are never changed")
    if not output_node.IsA("vtkMRMLScalarVolumeNode") or output_node.IsA("vtkMRMLLabelMapVolumeNode"):
        raise InputError(f"'{name}' is a {output_node.GetNodeTagName()} node: choose a scalar volume for the output")


def _volume_node(target, existing, volume: Volume, name: str):
    """A new node, or an existing one with a new image."""
    if existing is None:
        return adopt_volume(volume, unique_name(target, name), scene=target)
    existing.SetAndObserveTransformNodeID(None)
    if existing.GetDisplayNode() is None:
        existing.CreateDefaultDisplayNodes()
    fill_volume(existing, volume)
    return existing


def _forget_provenance(node) -> None:
    for key in stored_provenance(node):
        node.RemoveAttribute(f"IPv2.{key}")


def _hidden_node(target, existing, volume: Volume):
    """What the network said, out of sight and not saved."""
    if existing is not None:
        fill_volume(existing, volume)
        return existing
    node = slicer.vtkMRMLScalarVolumeNode()
    node.SetName("IPv2 network output")
    # Before it is in the scene: Slicer looks at these when a node is added.
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetAttribute(IS_OUTPUT, "1")
    fill_volume(node, volume)
    return target.AddNode(node)


def _fill_table(table, statistics: StrengthStatistics, strength: float) -> None:
    table.SetAttribute(_STATISTICS, json.dumps(statistics.as_dict()))
    fill_region_table(table, statistics.at(strength))


def _why_not(denoised_node) -> str | None:
    """Why the strength of a node cannot be set."""
    nodes = nodes_of(denoised_node)
    if nodes is None:
        return "this volume is no result of denoising: denoise a volume first"
    name = denoised_node.GetName()
    output = hidden_output(denoised_node)
    if output is None:
        return f"what the network said for '{name}' is not saved with a scene: denoise again to change its strength"
    if nodes.input is None:
        return f"the input of '{name}' is not in the scene any more: denoise again to change its strength"
    try:
        views = [node_view(node) for node in (output, nodes.input, denoised_node)]
        views += [node_view(nodes.difference)] if nodes.difference is not None else []
    except InputError as error:
        return str(error)
    if not all(same_grid(view, views[0]) for view in views[1:]):
        return f"'{name}' or its input was changed since it was denoised: denoise again to change its strength"
    return None


def _copy_window(source, target) -> None:
    """Window and level of one volume for another; nothing happens if they are the same."""
    shown, display = source.GetDisplayNode(), target.GetDisplayNode()
    if display is None:
        return
    window, level = (LUNG_WINDOW, LUNG_LEVEL) if shown is None else (shown.GetWindow(), shown.GetLevel())
    if (display.GetWindow(), display.GetLevel(), display.GetAutoWindowLevel()) == (window, level, 0):
        return
    state = display.StartModify()
    display.AutoWindowLevelOff()
    display.SetWindowLevel(window, level)
    display.EndModify(state)


def _browser_of(sequence_node):
    for browser in nodes_of_class(sequence_node.GetScene(), "vtkMRMLSequenceBrowserNode"):
        if browser.IsSynchronizedSequenceNode(sequence_node, True):
            return browser
    return None


def _add_frame(sequence, volume: Volume, index_value: str) -> None:
    # The sequence copies what it is given, so it gets an empty node, whose copy is filled.
    empty = slicer.vtkMRMLScalarVolumeNode()
    frame = sequence.SetDataNodeAtValue(empty, index_value)
    fill_volume(frame, volume)


def _number(value: float) -> str:
    return _NOTHING if math.isnan(value) else f"{value + 0.0:.1f}"
