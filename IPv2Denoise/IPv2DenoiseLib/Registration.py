"""What the module adds to Slicer: a data set in Sample Data, an action in the menu of volumes in Data, layouts."""

from pathlib import Path

import slicer

from .Messages import errorsShown

SAMPLE_CATEGORY = "IPv2"
SAMPLE_NAME = "IPv2ChestPair"
SAMPLE_SIZE, SAMPLE_SLICES = 256, 24
"""Rows and columns, and slices: made in about ten seconds."""


def registerSampleData() -> None:
    """Offer the synthetic pair in the module Sample Data; it is made here, nothing is downloaded."""
    import SampleData

    icons = Path(__file__).resolve().parents[1] / "Resources" / "Icons"
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=SAMPLE_CATEGORY,
        sampleName=SAMPLE_NAME,
        uris="",
        fileNames="",
        nodeNames="",
        thumbnailFileName=str(icons / f"{SAMPLE_NAME}.png"),
        customDownloader=makeSamplePair,
    )


def registerLayouts() -> None:
    """Let Slicer know the layouts, for scenes that were saved with one: their views would be missing otherwise."""
    from IPv2Lib.layouts import all_layouts

    node = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLLayoutNode")
    if node is None:  # Slicer without a main window
        return
    for layout in all_layouts():
        node.AddLayoutDescription(layout.number, layout.description)


def showLegendsOfLoadedScenes() -> None:
    """Let the views of a scene that was loaded show its colour legends, which are older than they."""
    # The end of batch processing, not of the import: it is then that the layout's views are made.
    slicer.mrmlScene.AddObserver(slicer.vtkMRMLScene.EndBatchProcessEvent, _showLegends)


def _showLegends(caller, event) -> None:
    if caller.GetNumberOfNodesByClass("vtkMRMLColorLegendDisplayNode"):
        from IPv2Lib.scene import refresh_legends

        refresh_legends(caller)


def makeSamplePair(source=None) -> list:
    """What a click on the data set does: uLDCT and NDCT, or nothing after a message that says why."""
    from .Logic import IPv2DenoiseLogic

    with errorsShown():
        pair = IPv2DenoiseLogic().makeSamplePair(SAMPLE_SIZE, SAMPLE_SLICES)
        slicer.util.setSliceViewerLayers(background=pair[0], fit=True)
        return list(pair)
    return []


def registerSubjectHierarchyPlugin() -> None:
    """Offer "Denoise with IPv2" for volumes in the module Data, where there is a subject hierarchy with plugins."""
    if not hasattr(slicer, "qSlicerSubjectHierarchyScriptedPlugin"):
        return
    plugin = slicer.qSlicerSubjectHierarchyScriptedPlugin(None)
    plugin.setPythonSource(str(Path(__file__).with_name("IPv2DenoiseSubjectHierarchyPlugin.py")))
