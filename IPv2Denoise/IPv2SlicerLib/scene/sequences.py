"""Frames: what a sequence of the scene (4-D CT) consists of, and which one is shown; a volume is one frame.

Owns the only contact with Slicer's sequences and their browsers. A sequence keeps copies of volumes that are not in
the scene; a browser selects one of each of its sequences, and shows it by a node that is in the scene, the proxy. What
the frames of a result hold is `denoised_nodes`'s matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import slicer
from IPv2Lib.errors import InputError

from .volume_nodes import application_logic, node_view, nodes_of_class

# Reference of a sequence that IPv2 made to what shows its frames, so that Undo can bring both back.
_PROXY_ROLE = "IPv2Proxy"
# References of Slicer's browsers: one of each for every sequence, with the same ending.
_BROWSED, _SHOWN = "sequenceNodeRef", "dataNodeRef"


def is_sequence(node: slicer.vtkMRMLNode | None) -> bool:
    """Whether a node is a sequence, of whatever."""
    return node is not None and node.IsA("vtkMRMLSequenceNode")


def data_nodes(node: slicer.vtkMRMLNode) -> list[slicer.vtkMRMLNode]:
    """What a sequence holds, in order; any other node is all that it holds."""
    if not is_sequence(node):
        return [node]
    return [node.GetNthDataNode(index) for index in range(node.GetNumberOfDataNodes())]


def frames(sequence_node: slicer.vtkMRMLSequenceNode | None) -> list[slicer.vtkMRMLScalarVolumeNode]:
    """The volumes of a sequence in order; `volume_nodes.node_to_volume` reads them.

    Raises
    ------
    InputError
        No sequence, an empty one, or one of other things than scalar volumes; names the frame.
    """
    if not is_sequence(sequence_node):
        raise InputError("no sequence is chosen: load a 4-D CT and choose its sequence")
    found = data_nodes(sequence_node)
    if not found:
        raise InputError(f"the sequence '{sequence_node.GetName()}' is empty: load its volumes first")
    for index, node in enumerate(found):
        try:
            node_view(node)
        except InputError as error:
            raise InputError(f"{frame_name(sequence_node, index)}: {error}") from error
    return found


def frame_name(node: slicer.vtkMRMLNode, index: int) -> str:
    """A frame as errors name it: "'4D', frame 3 (time 20 s)"; a volume by its name alone."""
    if not is_sequence(node):
        return f"'{node.GetName()}'"
    place = f"{node.GetIndexName()} {node.GetNthIndexValue(index)} {node.GetIndexUnit()}"
    return f"'{node.GetName()}', frame {index + 1} ({place.strip()})"


def content_stamp(node: slicer.vtkMRMLNode) -> tuple[int, ...]:
    """Another one whenever the voxels of a volume, or of a frame, have been changed or replaced."""
    images = [each.GetImageData() for each in data_nodes(node)]
    scalars = [image and image.GetPointData().GetScalars() for image in images]
    return tuple(each.GetMTime() if each is not None else 0 for each in scalars)


def browser_of(sequence_node: slicer.vtkMRMLSequenceNode) -> slicer.vtkMRMLSequenceBrowserNode | None:
    """The first browser that steps through a sequence, or None."""
    for browser in _browsers(sequence_node):
        if browser.IsSynchronizedSequenceNode(sequence_node, True):
            return browser
    return None


def sequence_of(node: slicer.vtkMRMLNode) -> slicer.vtkMRMLSequenceNode | None:
    """The sequence whose selected frame a node shows; None for what is no proxy."""
    for browser in _browsers(node):
        for sequence_id, proxy_id in _pairs(browser).items():
            if proxy_id == node.GetID():
                return node.GetScene().GetNodeByID(sequence_id)
    return None


def shown(node: slicer.vtkMRMLNode | None) -> slicer.vtkMRMLNode | None:
    """What can be shown of a node: itself, or of a sequence the proxy in its browser; None if there is none."""
    if not is_sequence(node):
        return node
    browser = browser_of(node)
    proxy_id = browser and _pairs(browser)[node.GetID()]
    return node.GetScene().GetNodeByID(proxy_id) if proxy_id else None


def frame_on_display(node: slicer.vtkMRMLNode) -> int:
    """Number of the frame that the browser of a sequence has selected, from 0; 0 for a volume."""
    browser = browser_of(node) if is_sequence(node) else None
    master = browser and _master(browser)
    selected = browser.GetSelectedItemNumber() if master else -1
    if not 0 <= selected < (master.GetNumberOfDataNodes() if master else 0):
        return 0
    return max(0, node.GetItemNumberFromIndexValue(master.GetNthIndexValue(selected), False))


def add_sequence(
    source: slicer.vtkMRMLSequenceNode, name: str, class_name: str, fill: Iterable[Callable[[slicer.vtkMRMLNode], None]]
) -> slicer.vtkMRMLSequenceNode:
    """Add a sequence with the index values of another one; each function fills the node of one frame.

    Raises
    ------
    InputError
        Index values that name no frame for certain: twice the same, or numbers that are out of order.
    """
    node = source.GetScene().AddNewNodeByClass("vtkMRMLSequenceNode", name)
    fill_sequence(node, source, class_name, fill)
    return node


def fill_sequence(
    node: slicer.vtkMRMLSequenceNode,
    source: slicer.vtkMRMLSequenceNode,
    class_name: str,
    fill: Iterable[Callable[[slicer.vtkMRMLNode], None]],
) -> None:
    """As `add_sequence`, but with a sequence that is there, and empty."""
    node.SetIndexName(source.GetIndexName())
    node.SetIndexUnit(source.GetIndexUnit())
    node.SetIndexType(source.GetIndexType())
    node.SetNumericIndexValueTolerance(source.GetNumericIndexValueTolerance())
    values = [source.GetNthIndexValue(index) for index in range(source.GetNumberOfDataNodes())]
    for value, fill_frame in zip(values, fill, strict=True):
        # The sequence copies what it is given, so it gets an empty node, whose copy is filled.
        empty = source.GetScene().CreateNodeByClass(class_name)
        empty.UnRegister(None)
        fill_frame(node.SetDataNodeAtValue(empty, value))
    if values != [node.GetNthIndexValue(index) for index in range(node.GetNumberOfDataNodes())]:
        raise InputError(
            f"the index values of '{source.GetName()}' are not in order, or one is there twice: correct them in the "
            "module Sequences"
        )


def browse(sequence_node: slicer.vtkMRMLSequenceNode, others: Sequence[slicer.vtkMRMLSequenceNode]) -> None:
    """Let one browser step through a sequence and others like it; one is made where the sequence has none.

    What showed the frames of the others before, as when Undo brings them back, does so again.
    """
    target = sequence_node.GetScene()
    application_logic(target)
    browser = browser_of(sequence_node)
    if browser is None:
        browser = target.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{sequence_node.GetName()} browser")
        browser.SetAndObserveMasterSequenceNodeID(sequence_node.GetID())
    browser.SetPlaybackActive(False)  # as Slicer does
    browser.SetRecordingActive(False)
    state = browser.StartModify()
    for node in others:
        browser.AddSynchronizedSequenceNode(node)
        browser.SetOverwriteProxyName(node, browser.GetOverwriteProxyName(sequence_node))
        if node.GetNodeReference(_PROXY_ROLE) is not None:
            browser.AddProxyNode(node.GetNodeReference(_PROXY_ROLE), node, False)
    browser.EndModify(state)
    update_proxies(sequence_node)
    for node in others:
        node.SetNodeReferenceID(_PROXY_ROLE, shown(node).GetID())


def update_proxies(sequence_node: slicer.vtkMRMLSequenceNode) -> None:
    """Show what the selected frame holds by now, of all sequences of the browser."""
    browser = browser_of(sequence_node)
    if browser is not None:
        browser.Modified()  # what Slicer's own logic listens to


def leave_browser(nodes: Iterable[slicer.vtkMRMLNode]) -> None:
    """Take sequences out of their browsers; what showed their frames stays in the scene."""
    for node in nodes:
        browser = browser_of(node) if is_sequence(node) else None
        if browser is not None:
            browser.RemoveSynchronizedSequenceNode(node.GetID())


def _browsers(node) -> list[slicer.vtkMRMLSequenceBrowserNode]:
    target = node.GetScene()
    return [] if target is None else nodes_of_class(target, "vtkMRMLSequenceBrowserNode")


def _pairs(browser: slicer.vtkMRMLSequenceBrowserNode) -> dict[str, str | None]:
    """Of each sequence of a browser its ID, and the ID of its proxy.

    By IDs alone: asked for a node that is just being removed from the scene, a browser forgets it without taking it
    off its list, and soon reads past the end of that list, which ends Slicer.
    """
    roles = [browser.GetNthNodeReferenceRole(index) for index in range(browser.GetNumberOfNodeReferenceRoles())]
    endings = [role.removeprefix(_BROWSED) for role in roles if role.startswith(_BROWSED)]
    ids = {browser.GetNodeReferenceID(_BROWSED + each): browser.GetNodeReferenceID(_SHOWN + each) for each in endings}
    return {sequence_id: proxy_id for sequence_id, proxy_id in ids.items() if sequence_id}


def _master(browser: slicer.vtkMRMLSequenceBrowserNode) -> slicer.vtkMRMLSequenceNode | None:
    """The sequence whose items a browser counts."""
    ids = [each for each in _pairs(browser) if not browser.IsSynchronizedSequenceNode(each, False)]
    return browser.GetScene().GetNodeByID(ids[0]) if ids else None
