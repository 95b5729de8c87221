"""A denoised scan in the scene: the result beside its source, what was removed, and the table of its regions.

Owns which nodes make up a result of a volume, or of a sequence (4-D CT), and showing input, result and difference. How
they find each other is `result_nodes`' matter, changing the strength `blending`'s; nodes are made by `volume_nodes`,
views by `display`, numbers by `denoise` and `regions`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import slicer
import vtk
from IPv2Lib.analysis.region_statistics import StrengthStatistics
from IPv2Lib.colors import nice_limit
from IPv2Lib.errors import InputError
from IPv2Lib.hounsfield import LUNG_LEVEL, LUNG_WINDOW
from IPv2Lib.inference.blending import Blended, blend_and_subtract, check_strength
from IPv2Lib.io.volume import Volume, same_grid

from .blending import keep_stamp, keep_statistics
from .changes import place_beside, remove_whole, undoable_step, unique_name
from .display import show_compare, show_difference
from .result_nodes import (
    IS_DIFFERENCE,
    IS_OUTPUT,
    IS_TABLE,
    OUTPUT_ROLE,
    ROLES,
    DenoisedNodes,
    belongings,
    disown,
    forget,
    hidden_output,
    inherit,
    inherit_source,
    mark_result,
    nodes_of,
    own_part,
    referring,
)
from .sequences import (
    add_sequence,
    browse,
    fill_sequence,
    frame_name,
    frames,
    leave_browser,
    shown,
)
from .volume_nodes import adopt_volume, fill_volume, node_view, nodes_of_class, set_provenance, set_window, show_window
from .volume_nodes import (
    provenance as stored_provenance,
)


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
        Kept on the denoised node, see `volume_nodes.set_provenance`; its key `strength` is set here.
    output_node : vtkMRMLScalarVolumeNode, optional
        Gets the result instead of a new node. Whatever it was before, it belongs to its input from now on: its name,
        its place and all that it says are those of a new one. Of an earlier result of the same input, name,
        difference and table are used again; what it was to another input is forgotten, and its difference and table
        are removed.
    blended : Blended, optional
        `blending.blend_and_subtract` of input and output at this strength, if another thread has computed it already;
        its memory is kept. Used only if it is of this strength.

    Returns
    -------
    DenoisedNodes
        Named "<input> denoised", "<input> difference" and "<input> regions", with a number where that name is taken,
        beside the input, and so in its patient's study.

    Raises
    ------
    InputError
        The input is no volume (`volume_nodes.node_view`), the strength is out of range, the result lies on another
        grid, or the output node is the input, or no scalar volume.
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
    blended = _blended(before, network_output, strength, blended)
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
            keep_statistics(table, statistics, strength)
        output = old_output or _hidden_node(target, "vtkMRMLScalarVolumeNode")
        fill_volume(output, before.with_array(network_output.array))
        nodes = DenoisedNodes(input_node, denoised_node, difference_node, table)
        _forget_provenance(denoised_node)
        set_provenance(denoised_node, {**provenance, "strength": float(strength)})
        _link(nodes, output)
        place_beside(_parts(nodes), input_node)
        for node in (denoised_node, difference_node):
            inherit(node, input_node)
        if table is None and old_table is not None:
            stale.append(old_table)  # it describes the earlier result
        for node in stale:  # last: nothing fails any more
            remove_whole(node)
    return nodes


def add_denoised_sequence(
    sequence_node: slicer.vtkMRMLSequenceNode,
    outputs: Sequence[Volume],
    strength: float,
    statistics: Sequence[StrengthStatistics] | None,
    provenances: Sequence[Mapping[str, object]],
    *,
    output_node: slicer.vtkMRMLSequenceNode | None = None,
    blended: Sequence[Blended | None] | None = None,
) -> DenoisedNodes:
    """Put the result of a sequence into the scene, as `add_denoised` does with that of a volume.

    Result, difference and tables are sequences with the index values and the unit of the source, in its browser, or in
    a new one if it had none: what shows their frames follows it. With what the network said, which is hidden, they
    take three times the memory of the source.

    Parameters
    ----------
    sequence_node : vtkMRMLSequenceNode
        Of scalar volumes.
    outputs : sequence of Volume
        What the network said for each frame, at strength 1; their memory is kept.
    strength : float
        0 to 1.
    statistics : sequence of StrengthStatistics, optional
        For the table of each frame.
    provenances : sequence of mapping
        Of each frame, kept on it; what is the same for all is kept on the new sequence, too.
    output_node : vtkMRMLSequenceNode, optional
        An earlier result of the same sequence, which the new one replaces, under its names.
    blended : sequence of Blended, optional
        As for `add_denoised`, of each frame.

    Raises
    ------
    InputError
        As `frames`; a wrong number of outputs; one that does not lie on the grid of its frame; or an output node that
        is something else.
    """
    check_strength(strength)
    sources = frames(sequence_node)
    if len(outputs) != len(sources):
        raise InputError(
            f"the sequence '{sequence_node.GetName()}' has {len(sources)} frames, {len(outputs)} were denoised: "
            "denoise it again"
        )
    earlier = nodes_of(output_node)
    if output_node is not None and (earlier is None or earlier.input is not sequence_node):
        raise InputError(
            f"'{output_node.GetName()}' is no result of '{sequence_node.GetName()}': leave the output empty"
        )
    results = []
    for index, (source, output) in enumerate(zip(sources, outputs, strict=True)):
        before = node_view(source)
        if not same_grid(before, output):
            raise InputError(
                f"{frame_name(sequence_node, index)} was changed while the sequence was denoised: denoise it again"
            )
        results.append(_blended(before, output, strength, blended[index] if blended else None))
    limit = nice_limit(*(each.removed.array for each in results))
    parts = {
        "denoised": [partial(fill_volume, volume=each.denoised) for each in results],
        "difference": [partial(fill_volume, volume=each.removed) for each in results],
    }
    if statistics is not None:
        parts["table"] = [partial(keep_statistics, statistics=each, strength=strength) for each in statistics]
    target = sequence_node.GetScene()
    names = {field: unique_name(target, f"{sequence_node.GetName()} {_NAMES[field]}") for field in parts}
    old: list[slicer.vtkMRMLNode] = []
    if earlier is not None:
        own = (own_part(output_node, part) for part in (earlier.difference, earlier.table, hidden_output(output_node)))
        old = [each for each in (output_node, *own) if each is not None]
        old += [shown(each) for each in old if shown(each) is not None]
        names |= {field: getattr(earlier, field).GetName() for field in parts if getattr(earlier, field) is not None}
    added: dict[str, slicer.vtkMRMLSequenceNode] = {}
    with undoable_step(target):
        try:
            for field, fill in parts.items():
                class_name = "vtkMRMLTableNode" if field == "table" else "vtkMRMLScalarVolumeNode"
                added[field] = add_sequence(sequence_node, names[field], class_name, fill)
            output = _hidden_node(target, "vtkMRMLSequenceNode")
            fill = [partial(fill_volume, volume=each) for each in outputs]
            fill_sequence(output, sequence_node, "vtkMRMLScalarVolumeNode", fill)
            nodes = DenoisedNodes(sequence_node, added["denoised"], added["difference"], added.get("table"))
            for source, denoised, difference, facts in zip(
                sources, frames(nodes.denoised), frames(nodes.difference), provenances, strict=True
            ):
                set_provenance(denoised, {**facts, "strength": float(strength)})
                inherit_source(denoised, source)
                inherit_source(difference, source)
            set_provenance(nodes.denoised, {**_common(provenances), "strength": float(strength)})
            _link(nodes, output)
            browse(sequence_node, list(added.values()))
            _show_frames(nodes, limit)
        except BaseException:
            leave_browser(added.values())
            raise
        if target.GetUndoFlag() and target not in _followed:
            _followed.add(target)
            for event in (target.StartUndoEvent, target.StartRedoEvent):
                target.AddObserver(event, _leave_browsers)
            for event in (target.EndUndoEvent, target.EndRedoEvent):
                target.AddObserver(event, _return_to_browsers)
        leave_browser(old)  # last: nothing fails any more
        for part in old:
            remove_whole(part)
    return nodes


def remove_unused_outputs(target: slicer.vtkMRMLScene) -> None:
    """Take what the network said out of a scene where its result is gone: it is hidden, and as large as a volume.

    Nothing happens while Undo may bring results back.
    """
    if target.GetUndoFlag():
        return
    nodes = [
        *nodes_of_class(target, "vtkMRMLScalarVolumeNode"),
        *nodes_of_class(target, "vtkMRMLSequenceNode"),
    ]
    used = {node.GetNodeReferenceID(OUTPUT_ROLE) for node in nodes}
    for node in nodes:
        if node.GetAttribute(IS_OUTPUT) and node.GetID() not in used:
            target.RemoveNode(node)


def show_denoised(nodes: DenoisedNodes, *, slice_index: int | None = None) -> list[slicer.vtkMRMLSliceNode]:
    """Show input, denoised and difference side by side, linked: scroll, zoom, and window/level of the first two.

    Parameters
    ----------
    nodes : DenoisedNodes
        What was removed from the scene is left out. Of sequences the selected frame is shown, which follows their
        browser.
    slice_index : int, optional
        Of the input; default: the middle.

    Returns
    -------
    list of vtkMRMLSliceNode
    """
    volumes = [shown(node) for node in (nodes.input, nodes.denoised, nodes.difference)]
    views = show_compare([node for node in volumes if node is not None], slice_index=slice_index)
    link_result(nodes)
    return views


def link_result(nodes: DenoisedNodes) -> None:
    """Show input and result with the same window from now on, and let those of the result before go their own ways."""
    global _shown_link
    before, after = shown(nodes.input), shown(nodes.denoised)
    if _shown_link is not None:
        _shown_link.release()
        _shown_link = None
    if before is not None and after is not None:
        _shown_link = link_windows(before, after)


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


_NAMES = {"denoised": "denoised", "difference": "difference", "table": "regions"}
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


def _hidden_node(target, class_name: str):
    """A new node for what the network said, out of sight and not saved."""
    node = target.CreateNodeByClass(class_name)
    node.UnRegister(None)
    node.SetName("IPv2 network output")
    # Before it is in the scene: Slicer looks at these when a node is added.
    node.SetHideFromEditors(True)
    node.SetSaveWithScene(False)
    node.SetAttribute(IS_OUTPUT, "1")
    return target.AddNode(node)


def _blended(before: Volume, output: Volume, strength: float, blended: Blended | None) -> Blended:
    """What was blended already, if it is that."""
    if blended is None or blended.strength != strength or not same_grid(before, blended.denoised):
        return blend_and_subtract(before, output, strength)
    return blended


def _link(nodes: DenoisedNodes, output) -> None:
    """Let the nodes of a result find each other."""
    for field, role in ROLES.items():
        node = getattr(nodes, field)
        nodes.denoised.SetNodeReferenceID(role, node and node.GetID())
    nodes.denoised.SetNodeReferenceID(OUTPUT_ROLE, output.GetID())
    mark_result(nodes.denoised)
    nodes.difference.SetAttribute(IS_DIFFERENCE, "1")
    if nodes.table is not None:
        nodes.table.SetAttribute(IS_TABLE, "1")
    set_provenance(nodes.difference, {"difference": f"{nodes.input.GetName()} - {nodes.denoised.GetName()}"})
    keep_stamp(output, nodes.input)


def _common(provenances: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """What is the same for all frames."""
    first, *others = provenances
    return {key: value for key, value in first.items() if all(each.get(key) == value for each in others)}


def _show_frames(nodes: DenoisedNodes, limit_hu: float) -> None:
    """Give what shows the frames of a result its window, its colours and its place."""
    before, after = shown(nodes.input), shown(nodes.denoised)
    for node in (before, after):
        if node.GetDisplayNode() is None:
            node.CreateDefaultDisplayNodes()
            show_window(node)
    _copy_window(before, after)
    show_difference(shown(nodes.difference), limit_hu, "Removed (HU)")
    _place_frames(nodes)


def _place_frames(nodes: DenoisedNodes) -> None:
    """Put the sequences of a result beside their source, and what shows their frames beside what shows its."""
    before = shown(nodes.input)
    place_beside(_parts(nodes), nodes.input)
    place_beside([shown(node) for node in _parts(nodes)], before)
    for node in (nodes.denoised, nodes.difference):
        if node is not None:
            inherit(shown(node), before)


_followed: set[slicer.vtkMRMLScene] = set()


def _leave_browsers(target, event) -> None:
    """Undo or Redo begins, and removes nodes one by one: a browser would show anew what is to go."""
    for nodes in _results_of_sequences(target):
        leave_browser(_parts(nodes))


def _return_to_browsers(target, event) -> None:
    """Undo or Redo is over. Browsers, which Slicer cannot copy, and the tree are not among what it brings back."""
    for nodes in _results_of_sequences(target):
        browse(nodes.input, _parts(nodes))
        _place_frames(nodes)


def _results_of_sequences(target) -> list[DenoisedNodes]:
    found = [nodes_of(node) for node in nodes_of_class(target, "vtkMRMLSequenceNode")]
    return [nodes for nodes in found if nodes is not None and nodes.input is not None]


def _parts(nodes: DenoisedNodes) -> list[slicer.vtkMRMLNode]:
    """The nodes that make up a result, without its input."""
    return [node for node in (nodes.denoised, nodes.difference, nodes.table) if node is not None]


def _copy_window(source, target) -> None:
    """Window and level of one volume for another; nothing happens if they are the same."""
    shown, display = source.GetDisplayNode(), target.GetDisplayNode()
    if display is None:
        return
    window, level = (LUNG_WINDOW, LUNG_LEVEL) if shown is None else (shown.GetWindow(), shown.GetLevel())
    if (display.GetWindow(), display.GetLevel(), display.GetAutoWindowLevel()) != (window, level, 0):
        set_window(display, window, level)
