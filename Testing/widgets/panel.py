"""The module IPv2 Denoise in the stand-in, with a small synthetic chest: what its tests share."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

from IPv2Lib.simulation import phantom
from IPv2SlicerLib.scene import volume_nodes

MODULE = Path(__file__).resolve().parents[2] / "IPv2Denoise" / "IPv2Denoise.py"


@lru_cache(maxsize=4)
def small_pair(size: int = 96, slices: int = 4, seed: int = 0) -> phantom.Pair:
    """uLDCT and NDCT, fast to make and to denoise."""
    return phantom.pair(seed=seed, size=size, slices=slices)


def open_panel(host, *, size: int = 96, slices: int = 4):
    """The module with a uLDCT, which is shown and so chosen, and an NDCT in the scene.

    Returns
    -------
    widget, uldct, ndct
    """
    import slicer

    pair = small_pair(size, slices)
    uldct, ndct = volume_nodes.volume_to_node(pair.uldct, "CTChest"), volume_nodes.volume_to_node(pair.ndct, "NDCT")
    slicer.util.setSliceViewerLayers(background=uldct, fit=True)
    return host.load_module(MODULE), uldct, ndct


def expand(host, *buttons) -> None:
    """Fold sections of the panel open."""
    for button in buttons:
        button.setProperty("collapsed", False)
    host.process_events()


def finish_job(host, widget, timeout: float = 90.0) -> None:
    """Let events run until the job is over, and what follows from it is done."""
    host.wait_until(lambda: not widget.logic.runner.state.active, timeout)
    host.process_events(0.1)


def node_names(target) -> list[str]:
    """Of the volumes and tables of a scene: what must not change when something fails."""
    nodes = [target.GetNthNode(index) for index in range(target.GetNumberOfNodes())]
    return [node.GetName() for node in nodes if node.IsA("vtkMRMLVolumeNode") or node.IsA("vtkMRMLTableNode")]


def view_names() -> list[str]:
    """Of the slice views that the present layout has, from left to right."""
    import slicer

    layout = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    return re.findall(r'class="vtkMRMLSliceNode" singletontag="(\w+)"', layout.GetCurrentLayoutDescription())
