"""What the module adds to Slicer: a data set in Sample Data, an action in the menu of volumes in Data, layouts."""

from pathlib import Path

import IPv2Lib
import slicer
from slicer.i18n import tr as _

from .Messages import errorsShown

SAMPLE_CATEGORY = "IPv2"
SAMPLE_NAME = "IPv2ChestPair"
SAMPLE_SIZE, SAMPLE_SLICES = 256, 24
"""Rows and columns, and slices: made in about ten seconds."""

_SCANS = ("uLDCT", "NDCT")
_SCHEME = "ipv2:"


def registerSampleData() -> None:
    """Offer the synthetic pair in the module Sample Data; it is made here, nothing is downloaded."""
    import SampleData

    icons = Path(__file__).resolve().parents[1] / "Resources" / "Icons"
    names = [f"{SAMPLE_NAME}-{IPv2Lib.__version__}-{scan}.nrrd" for scan in _SCANS]
    # A script gets what the addresses lead to, Slicer calls a customDownloader for its button only.
    SampleData.SampleDataLogic.registerUrlRewriteRule("IPv2", _addressOfMadeFile)
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=SAMPLE_CATEGORY,
        sampleName=SAMPLE_NAME,
        uris=[_SCHEME + name for name in names],
        fileNames=names,
        nodeNames=[f"Phantom {scan}" for scan in _SCANS],
        thumbnailFileName=str(icons / f"{SAMPLE_NAME}.png"),
        customDownloader=loadSamplePair,
    )


def loadSamplePair(source) -> list:
    """What a click on the data set does: uLDCT and NDCT, or nothing after a message that says why."""
    import SampleData

    with errorsShown():
        pair = SampleData.SampleDataLogic().downloadFromSource(source)
        slicer.util.setSliceViewerLayers(background=pair[0], fit=True)
        return pair
    return []


def _addressOfMadeFile(address: str) -> str:
    """For one of our addresses that of the file in the cache of Sample Data, made where it is not there."""
    if not address.startswith(_SCHEME):
        return address
    cache = slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory()
    wanted = Path(f"{cache}/{address.removeprefix(_SCHEME)}")  # as Slicer puts it together
    if not wanted.exists():
        _makePair(wanted)
    return wanted.as_uri()


def _makePair(wanted: Path) -> None:
    """Make both scans, of which `wanted` is one."""
    from IPv2Lib.io import files

    from .Logic import IPv2DenoiseLogic
    from .Tasks import phantomTask

    task = phantomTask(_("Make a sample pair"), size=SAMPLE_SIZE, slices=SAMPLE_SLICES)
    pair = IPv2DenoiseLogic().run("sample pair", task).onProgress(_showProgress).wait()
    stem = wanted.stem.rpartition("-")[0]
    for scan, volume in zip(_SCANS, pair, strict=True):
        files.write(volume, wanted.with_name(f"{stem}-{scan}.nrrd"))


def _showProgress(fraction: float, message: str) -> None:
    slicer.util.showStatusMessage(f"{SAMPLE_NAME}: {message}", 3000)


def registerLayouts() -> None:
    """Let Slicer know the layouts, for scenes that were saved with one: their views would be missing otherwise."""
    from IPv2SlicerLib.scene.layouts import all_layouts

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
        from IPv2SlicerLib.scene.display import refresh_legends

        refresh_legends(caller)


def registerSubjectHierarchyPlugin() -> None:
    """Offer "Denoise with IPv2" for volumes in the module Data, where there is a subject hierarchy with plugins."""
    if not hasattr(slicer, "qSlicerSubjectHierarchyScriptedPlugin"):
        return
    plugin = slicer.qSlicerSubjectHierarchyScriptedPlugin(None)
    plugin.setPythonSource(str(Path(__file__).with_name("IPv2DenoiseSubjectHierarchyPlugin.py")))
