"""Whose a volume of the scene is: the nodes of a result, how they find each other, and what tells a patient's scan.

Owns the attributes and references behind that, also after the scene was saved and loaded, and taking them from a volume
that gets another owner; the same for sequences. What a result consists of, and making one, is `denoised_nodes`'s
matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import slicer

from .changes import subject_hierarchy
from .sequences import sequence_of
from .volume_nodes import nodes_of_class, show_window

# Roles of the references of a denoised node; the first three are fields of `DenoisedNodes`.
ROLES = {"input": "IPv2Input", "difference": "IPv2Difference", "table": "IPv2Regions"}
OUTPUT_ROLE = "IPv2NetworkOutput"
# Node attributes that are no provenance.
IS_RESULT = "IPv2Denoised"  # a number, the higher the later made; in scenes of earlier versions "1" for all
IS_DIFFERENCE = "IPv2Difference"
IS_TABLE = "IPv2Regions"
IS_OUTPUT = "IPv2NetworkOutput"  # after a reload, another node may have the ID of the hidden one
_SOURCE_UIDS = "IPv2SourceInstanceUIDs"
_KINDS = {
    IS_RESULT: "denoised",
    IS_DIFFERENCE: "difference",
    IS_TABLE: "regions",
    IS_OUTPUT: "network output",
    "IPv2Stage": "stage",
}
_DICOM_UIDS = "DICOM.instanceUIDs"  # Slicer's own, of a volume that was loaded from DICOM
# What Slicer's own export asks the item of a series for, as far as it is the same for what was made from the series.
_SERIES_FACTS = ("DICOM.Modality", "DICOM.FrameOfReferenceUID")


@dataclass(frozen=True, eq=False)
class DenoisedNodes:
    """The nodes of a result: four sequences of such nodes where the input is a sequence.

    Attributes
    ----------
    input, denoised, difference : vtkMRMLScalarVolumeNode or vtkMRMLSequenceNode
        `difference` is input - denoised: what was removed.
    table : vtkMRMLTableNode, vtkMRMLSequenceNode or None
        Means and noise per region, None where none were measured.

    A node that somebody removed from the scene is None.
    """

    input: slicer.vtkMRMLNode | None
    denoised: slicer.vtkMRMLNode
    difference: slicer.vtkMRMLNode | None
    table: slicer.vtkMRMLNode | None


def nodes_of(denoised_node: slicer.vtkMRMLNode | None) -> DenoisedNodes | None:
    """The nodes of a result, found from its denoised node; None for any other node."""
    if denoised_node is None or not denoised_node.GetAttribute(IS_RESULT):
        return None
    found = {field: denoised_node.GetNodeReference(role) for field, role in ROLES.items()}
    return DenoisedNodes(denoised=denoised_node, **found)


def newest_result(input_node: slicer.vtkMRMLNode) -> DenoisedNodes | None:
    """The nodes of the result of a volume or sequence that was made last, or None; its node may be an older one."""
    found = [nodes_of(node) for node in reversed(_candidates(input_node)) if node is not input_node]
    own = [nodes for nodes in found if nodes is not None and nodes.input is input_node]
    return max(
        own, key=lambda nodes: _made(nodes.denoised), default=None
    )  # of several the first: the last in the scene


def mark_result(node: slicer.vtkMRMLNode) -> None:
    """Make a node the newest result in its scene."""
    node.SetAttribute(IS_RESULT, str(1 + max(_made(each) for each in _candidates(node))))


def hidden_output(denoised_node: slicer.vtkMRMLNode) -> slicer.vtkMRMLNode | None:
    """The hidden volume or sequence with what the network said, or None."""
    node = denoised_node.GetNodeReference(OUTPUT_ROLE)
    return node if node is not None and node.GetAttribute(IS_OUTPUT) else None


def kind_of(node: slicer.vtkMRMLNode) -> str:
    """What IPv2 made a node for: "denoised", "difference", "regions", "network output", "stage"; empty if it did not.

    What shows a frame of a sequence is of the kind of the sequence. Volumes of older scenes are known by what they are
    to a result, too.
    """
    node = sequence_of(node) or node
    found = next((kind for name, kind in _KINDS.items() if node.GetAttribute(name)), "")
    if not found and any(_refers(each, "difference", node) for each in _candidates(node)):
        return "difference"
    return found


def why_not_output(node: slicer.vtkMRMLScalarVolumeNode, input_node: slicer.vtkMRMLNode) -> str:
    """What would be lost if a result of `input_node` went into a volume; empty where nothing would.

    Nothing is lost with an empty volume, or an earlier result of the same input.
    """
    name, kind = f"'{node.GetName()}'", kind_of(node)
    if kind == "denoised":
        owner = nodes_of(node).input
        if owner is input_node:
            return ""
        whose = f"'{owner.GetName()}'" if owner is not None else "a volume that is not in the scene any more"
        return f"{name} is the result of {whose}"
    if kind:
        return f"{name} is a part of another result ({kind})"
    if node.GetAttribute(_DICOM_UIDS):
        return f"{name} is a scan from DICOM"
    image, storage = node.GetImageData(), node.GetStorageNode()
    has_image = image is not None and image.GetNumberOfPoints() > 0
    if has_image and storage is not None and storage.GetFileName():
        return f"{name} was loaded from a file, or saved to one"
    if any(_refers(each, "input", node) for each in _candidates(node)):
        return f"{name} has a result of its own"
    return f"{name} holds an image that is in no file" if has_image else ""


def source_instance_uids(node: slicer.vtkMRMLScalarVolumeNode | None) -> list[str]:
    """SOP instance UIDs of the DICOM series that a volume was loaded from, or computed from.

    Empty where there is no such series. Also found for the result of a result, and when the input was removed.
    """
    seen: list[slicer.vtkMRMLNode] = []
    while node is not None and node not in seen:
        found = node.GetAttribute(_DICOM_UIDS) or node.GetAttribute(_SOURCE_UIDS)
        if found:
            return found.split()
        seen.append(node)
        result = nodes_of(node)
        node = result and result.input  # in scenes of earlier versions
    return []


def belongings(node: slicer.vtkMRMLScalarVolumeNode) -> list[slicer.vtkMRMLNode]:
    """What a volume has of its own and a result of another input must not inherit: to be removed.

    A storage node is among it: it names the file that would be overwritten. What another result holds, too, is not.
    """
    found = [node.GetStorageNode()]
    found += [node.GetNthDisplayNode(number) for number in range(1, node.GetNumberOfDisplayNodes())]
    result = nodes_of(node)
    if result is not None:
        found += [own_part(node, part) for part in (result.difference, result.table, hidden_output(node))]
    return [each for each in found if each is not None]


def own_part(result: slicer.vtkMRMLNode, part: slicer.vtkMRMLNode | None) -> slicer.vtkMRMLNode | None:
    """A part of a result, or None where another result holds it, too, as the copy of a result does."""
    return part if part is not None and referring(part) == [result] else None


def referring(node: slicer.vtkMRMLNode) -> list[slicer.vtkMRMLNode]:
    """Results and stages to which a node is the input or another part."""
    return [
        each
        for each in _candidates(node)
        if each is not node and any(each.GetNodeReferenceID(role) == node.GetID() for role in _own_roles(each))
    ]


def forget(result: slicer.vtkMRMLScalarVolumeNode, node: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Let a result not hold a volume for its input or another part any more: it is about to become something else."""
    for role in _own_roles(result):
        if result.GetNodeReferenceID(role) == node.GetID():
            result.SetNodeReferenceID(role, None)


def disown(node: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Take everything from a volume that says whose it is: as if it had just been made.

    Its image, its place in the subject hierarchy and its `belongings` are the caller's business.
    """
    for name in node.GetAttributeNames():
        node.RemoveAttribute(name)
    for role in _roles(node):
        if role not in ("display", "storage"):
            node.RemoveNodeReferenceIDs(role)
    node.SetDescription("")
    display = node.GetDisplayNode()
    if display is not None:
        display.CopyContent(display.NewInstance())
        display.SetVisibility(True)
        show_window(node)


def inherit(node: slicer.vtkMRMLScalarVolumeNode, source: slicer.vtkMRMLScalarVolumeNode) -> None:
    """Let a volume that is in its place say of which series it is a result.

    For `source_instance_uids`, and for Slicer's own export, which takes patient and study from the place.
    """
    tree = subject_hierarchy(node.GetScene())
    item, source_item = tree.GetItemByDataNode(node), tree.GetItemByDataNode(source)
    for name in _SERIES_FACTS:
        if source_item and tree.HasItemAttribute(source_item, name):
            tree.SetItemAttribute(item, name, tree.GetItemAttribute(source_item, name))
    tree.SetItemAttribute(item, "DICOM.SeriesDescription", node.GetName())
    inherit_source(node, source)


def inherit_source(node: slicer.vtkMRMLScalarVolumeNode, source: slicer.vtkMRMLScalarVolumeNode) -> None:
    """As `inherit`, for a volume that has no place: the frame of a sequence."""
    node.SetAttribute(_SOURCE_UIDS, " ".join(source_instance_uids(source)) or None)
    node.SetVoxelValueQuantity(source.GetVoxelValueQuantity())
    node.SetVoxelValueUnits(source.GetVoxelValueUnits())


def _made(node) -> int:
    """When a result was made, as a number that is higher for later ones; 0 for any other node."""
    text = node.GetAttribute(IS_RESULT) or ""
    return int(text) if text.isdecimal() else 0


def _refers(result, field: str, node) -> bool:
    return bool(result.GetAttribute(IS_RESULT)) and result.GetNodeReferenceID(ROLES[field]) == node.GetID()


def _roles(node) -> list[str]:
    return [node.GetNthNodeReferenceRole(number) for number in range(node.GetNumberOfNodeReferenceRoles())]


def _own_roles(node) -> list[str]:
    return [role for role in _roles(node) if role.startswith("IPv2")]


def _candidates(node) -> list[slicer.vtkMRMLNode]:
    """What may be a result or a stage, in the scene of a node."""
    target = node.GetScene()
    return [*nodes_of_class(target, "vtkMRMLScalarVolumeNode"), *nodes_of_class(target, "vtkMRMLSequenceNode")]
