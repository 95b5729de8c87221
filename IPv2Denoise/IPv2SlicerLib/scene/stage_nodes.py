"""The stages of a purification in the scene: one node each, in a folder of the subject hierarchy, and their display.

Owns how the nodes of one purification find each other, also after the scene was saved and loaded. Which stages there
are is `stages`' matter, their files `stage_files`'.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import slicer
from IPv2Lib.colors import nice_limit
from IPv2Lib.errors import InputError
from IPv2Lib.hounsfield import LUNG_LEVEL, LUNG_WINDOW
from IPv2Lib.io.volume import Volume, same_grid
from IPv2Lib.purification import stage_files
from IPv2Lib.purification.settings import Settings
from IPv2Lib.purification.stages import STAGES as stages_table
from IPv2Lib.purification.stages import Stage, Stages

from .changes import parent_of, remove_whole, subject_hierarchy, undoable_step
from .display import center_view, show_compare, show_difference, show_overlay, view_of_name
from .volume_nodes import (
    adopt_labels,
    adopt_volume,
    fill_labels,
    fill_volume,
    node_array,
    node_view,
    nodes_of_class,
    provenance,
    set_provenance,
    show_window,
)

STAGES = tuple(dict.fromkeys(stage.shown_in or stage for stage in stages_table))
"""What people see, in the order of the method; the key "dark" stands for both dark masks."""

# Node attributes and the reference that tie the nodes of one purification together; they are no provenance.
_KEY, _NAME, _SOURCE = "IPv2Stage", "IPv2Stages", "IPv2Uldct"
_SETTINGS = "settings"


@dataclass(frozen=True, eq=False)
class StageNodes:
    """The nodes of one purification.

    Attributes
    ----------
    name : str
        Of the folder that holds them.
    source : vtkMRMLScalarVolumeNode or None
        The uLDCT that was purified; None once it is removed from the scene.
    nodes : dict
        Volume or label map node by key of the stage. The stage "uldct" is the source itself, unless only a part of
        it was purified.
    """

    name: str
    source: slicer.vtkMRMLScalarVolumeNode | None
    nodes: dict[str, slicer.vtkMRMLScalarVolumeNode]

    @property
    def stages(self) -> list[Stage]:
        """Those that are in the scene, in the order of the method."""
        return [stage for stage in STAGES if stage.key in self.nodes and self.nodes[stage.key].GetScene() is not None]


def stage_list(stages: Stages) -> list[Stage]:
    """The stages that were made with the settings, in the order of the method."""
    return [stage for stage in STAGES if stage.key == "dark" or getattr(stages, stage.key) is not None]


def add_stages(stages: Stages, uldct_node: slicer.vtkMRMLScalarVolumeNode, *, name: str | None = None) -> StageNodes:
    """Put every stage into the scene, in one undoable step; if it fails, nothing has changed.

    The nodes share the memory of the stages. Stages of the same name that were made from this uLDCT before are
    replaced; their nodes stay, with new images, if the stages are the same.

    Parameters
    ----------
    stages : Stages
        Of all or of some slices of the uLDCT.
    uldct_node : vtkMRMLScalarVolumeNode
        What was purified: images get its window and level, and the folder its place in the subject hierarchy.
    name : str, optional
        Of the folder; default: "<uLDCT> purification".

    Raises
    ------
    InputError
        The node is no volume (`volume_nodes.node_view`).
    """
    whole = node_view(uldct_node)
    target = uldct_node.GetScene()
    name = name or f"{uldct_node.GetName()} purification"
    earlier = [found for found in find_stages(target) if (found.name, found.source) == (name, uldct_node)]
    facts = {_SETTINGS: asdict(stages.settings)}
    if len(earlier) == 1 and _has_nodes_for(earlier[0], stages, whole):
        _refill(target, earlier[0], stages, facts)
        return earlier[0]
    nodes = {}
    with undoable_step(target):
        for old in earlier:
            _remove(target, old)
        tree = subject_hierarchy(target)
        folder = tree.CreateFolderItem(parent_of(uldct_node), name)
        for stage in stage_list(stages):
            if stage.key == "uldct" and same_grid(whole, stages.uldct):
                nodes[stage.key] = uldct_node
                continue
            node = _add_node(target, stages, stage, f"{name}: {stage.title}", uldct_node)
            node.SetAttribute(_KEY, stage.key)
            node.SetAttribute(_NAME, name)
            node.SetNodeReferenceID(_SOURCE, uldct_node.GetID())
            set_provenance(node, facts)
            tree.CreateItem(folder, node)
            nodes[stage.key] = node
    return StageNodes(name, uldct_node, nodes)


def find_stages(target: slicer.vtkMRMLScene) -> list[StageNodes]:
    """The purifications that are in a scene, also in one that was loaded, in the order in which they were added."""
    found: dict[tuple, StageNodes] = {}
    for node in nodes_of_class(target, "vtkMRMLScalarVolumeNode"):
        if not node.GetAttribute(_KEY):
            continue
        name, source = node.GetAttribute(_NAME), node.GetNodeReference(_SOURCE)
        which = (name, source and source.GetID())
        if which not in found:
            found[which] = StageNodes(name, source, {})
        found[which].nodes[node.GetAttribute(_KEY)] = node
    for each in found.values():
        if each.source is not None:
            each.nodes.setdefault("uldct", each.source)
    return list(found.values())


def stages_of(stage_nodes: StageNodes) -> Stages:
    """The stages out of the scene, masks copied and images shared: do not write to them.

    Raises
    ------
    InputError
        A node was removed or is no volume any more.
    """
    needed = [stage for stage in STAGES if stage.kind != "difference" and not stage.module]
    missing = [stage.title for stage in needed if _node(stage_nodes, stage.key) is None]
    if missing:
        raise InputError(f"of '{stage_nodes.name}', {', '.join(missing)} is not in the scene any more: purify again")
    images = {stage.key: node_view(_node(stage_nodes, stage.key)) for stage in stage_nodes.stages if not stage.entries}
    masks = {stage.key: node_array(_node(stage_nodes, stage.key)) for stage in stage_nodes.stages if stage.entries}
    if any(mask.shape != images["uldct"].array.shape for mask in masks.values()):
        raise InputError(f"a mask of '{stage_nodes.name}' was changed: purify again")
    return Stages(
        **{stage.key: images.get(stage.key) for stage in STAGES if stage.kind == "image"},
        **{stage.key: masks[stage.key] != 0 for stage in STAGES if stage.kind == "mask"},
        dark_uldct=(masks["dark"] & 1) != 0,
        dark_ndct=(masks["dark"] & 2) != 0,
        labels=masks["labels"].astype(np.uint8),
        settings=Settings(**json.loads(provenance(stage_nodes.nodes["labels"])[_SETTINGS])),
    )


def export_stages(stage_nodes: StageNodes, folder: str | Path, *, compress: bool = True) -> Path:
    """Write all stages into a new folder, as `ipv2 purify` does: volumes for everybody, an item for a dataset.

    Raises
    ------
    InputError
        As `stages_of`, or the folder is not empty.
    OutputError
        It cannot be written; nothing is left behind.
    """
    source = stage_nodes.source.GetName() if stage_nodes.source is not None else stage_nodes.name
    return stage_files.export_stages(stages_of(stage_nodes), Path(folder), compress=compress, uldct=source)


def show_stage(
    stage_nodes: StageNodes,
    key: str,
    views: str | Sequence[slicer.vtkMRMLSliceNode] = "Red",
    opacity: float = 0.45,
) -> None:
    """Show a stage: an image or a difference by itself, a mask over its image. The view stays where it is.

    Below a part of the slices lies the whole uLDCT, so that a view can be scrolled out of them.

    Parameters
    ----------
    stage_nodes : StageNodes
    key : str
        Of the stage.
    views : str or sequence of vtkMRMLSliceNode
        Name of a slice view, or the views.
    opacity : float
        Of a mask, 0 (hidden) to 1.

    Raises
    ------
    InputError
        The stage is not in the scene, or there is no such view.
    """
    image, labels = _layers(stage_nodes, key)
    if isinstance(views, str):
        views = [view_of_name(image.GetScene(), views)]
    for view in views:
        center_view(view, image)
    _show_layers(stage_nodes, image, labels, opacity, views)


def show_stages_side_by_side(
    stage_nodes: StageNodes, key_a: str, key_b: str, *, slice_index: int | None = None, opacity: float = 0.45
) -> list[slicer.vtkMRMLSliceNode]:
    """Show two stages in two linked views.

    Parameters
    ----------
    stage_nodes : StageNodes
    key_a, key_b : str
        Of the stages, left and right.
    slice_index : int, optional
        Of the stages' volumes; default: the middle.
    opacity : float
        Of masks.

    Returns
    -------
    list of vtkMRMLSliceNode

    Raises
    ------
    InputError
        A stage is not in the scene, or there is no such slice.
    """
    layers = [_layers(stage_nodes, key) for key in (key_a, key_b)]
    views = show_compare([image for image, _ in layers], slice_index=slice_index)
    for view, (image, labels) in zip(views, layers, strict=True):
        _show_layers(stage_nodes, image, labels, opacity, [view])
    return views


def _show_layers(stage_nodes: StageNodes, image, labels, opacity: float, views) -> None:
    source = stage_nodes.source
    if source is None or source.GetScene() is None or _node(stage_nodes, "uldct") in (None, source):
        show_overlay(image, labels, opacity, views)
    else:  # only some slices
        show_overlay(source, labels, opacity, views, foreground=image)


def _has_nodes_for(stage_nodes: StageNodes, stages: Stages, whole: Volume) -> bool:
    """Whether the stages in the scene are those of `stages`, each with a node of its own or the uLDCT's."""
    shares_uldct = stage_nodes.nodes.get("uldct") is stage_nodes.source
    return {key for key in stage_nodes.nodes if _node(stage_nodes, key)} == {
        stage.key for stage in stage_list(stages)
    } and shares_uldct == same_grid(whole, stages.uldct)


def _refill(target, stage_nodes: StageNodes, stages: Stages, facts: dict) -> None:
    own = {stage: node for stage in stage_list(stages) if (node := stage_nodes.nodes[stage.key]).GetAttribute(_KEY)}
    with undoable_step(target, list(own.values())):
        for stage, node in own.items():
            if stage.entries:
                fill_labels(node, _labels(stages, stage.key), stages.uldct)
            else:
                fill_volume(node, getattr(stages, stage.key))
            if stage.kind == "difference":
                node.GetDisplayNode().SetWindowLevel(2 * nice_limit(getattr(stages, stage.key).array), 0)
            set_provenance(node, facts)


def _add_node(target, stages: Stages, stage: Stage, name: str, uldct_node):
    if stage.entries:
        return adopt_labels(_labels(stages, stage.key), stages.uldct, name, stage.entries, scene=target)
    volume: Volume = getattr(stages, stage.key)
    node = adopt_volume(volume, name, scene=target)
    if stage.kind == "difference":
        show_difference(node, nice_limit(volume.array))
    else:
        display = uldct_node.GetDisplayNode()
        show_window(node, *((display.GetWindow(), display.GetLevel()) if display else (LUNG_WINDOW, LUNG_LEVEL)))
    return node


def _labels(stages: Stages, key: str) -> np.ndarray:
    if key == "dark":
        return stages.dark_uldct.view(np.uint8) | (stages.dark_ndct.view(np.uint8) << 1)
    return getattr(stages, key).view(np.uint8)


def _node(stage_nodes: StageNodes, key: str):
    node = stage_nodes.nodes.get(key)
    return None if node is None or node.GetScene() is None else node


def _layers(stage_nodes: StageNodes, key: str):
    """The image and the labels of a stage."""
    stage = next((stage for stage in STAGES if stage.key == key), None)
    node = _node(stage_nodes, key)
    if stage is None or node is None:
        there = ", ".join(each.key for each in stage_nodes.stages) or "none"
        raise InputError(f"'{stage_nodes.name}' has no stage {key!r} in the scene: choose one of {there}")
    if not stage.entries:
        return node, None
    background = _node(stage_nodes, stage.over)
    if background is None:
        raise InputError(f"the image under '{stage.title}' is not in the scene any more: purify again")
    return background, node


def _remove(target, stage_nodes: StageNodes) -> None:
    """Nodes with what belongs to them alone, then the folder if nothing else is in it."""
    tree = subject_hierarchy(target)
    folders = set()
    for node in stage_nodes.nodes.values():
        if node.GetScene() is None or not node.GetAttribute(_KEY):
            continue
        item = tree.GetItemByDataNode(node)
        if item != tree.GetInvalidItemID():
            folders.add(tree.GetItemParent(item))
        displays = [node.GetNthDisplayNode(index) for index in range(node.GetNumberOfDisplayNodes())]
        colors = [display.GetColorNode() for display in displays if node.IsA("vtkMRMLLabelMapVolumeNode")]
        remove_whole(node)
        for color in colors:
            if color is not None and color.GetScene() is not None:
                target.RemoveNode(color)
    for folder in folders:
        if tree.GetItemName(folder) == stage_nodes.name and tree.GetNumberOfItemChildren(folder) == 0:
            tree.RemoveItem(folder, False, False)
