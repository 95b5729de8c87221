"""Where new cases come from: files, folders, tables, the scene. Asks for them; writes nothing but scans of a scene."""

from pathlib import Path

import qt
import slicer
from IPv2Lib.datasets.cases import Case, cases_from_paths, read_table
from IPv2Lib.errors import InputError
from IPv2Lib.io.formats import WILDCARDS
from IPv2Lib.io.outputs import file_name
from IPv2SlicerLib.scene.ScenePatients import patientOf, whyNotOnePatient
from slicer.i18n import tr as _


def askForFiles() -> list[Case]:
    """NDCT files, each a case; none if the user thinks better of it."""
    paths = qt.QFileDialog.getOpenFileNames(
        slicer.util.mainWindow(), _("Normal-dose CTs in HU"), "", _("Volumes {suffixes}").format(suffixes=WILDCARDS)
    )
    return cases_from_paths(paths) if paths else []


def askForPair() -> list[Case]:
    """A uLDCT and an NDCT file of one patient."""
    paths = []
    for title in (_("Ultra-low-dose CT of the pair"), _("Normal-dose CT of the pair")):
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), title, "", _("Volumes {suffixes}").format(suffixes=WILDCARDS)
        )
        if not path:
            return []
        paths.append(Path(path))
    uldct, ndct = paths
    return [Case("", ndct=ndct, uldct=uldct)]


def askForFolder(title: str) -> list[Case]:
    """All that a folder holds: DICOM series, stages, files named uldct and ndct, NDCT files."""
    path = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title)
    return cases_from_paths([path]) if path else []


def askForTable() -> list[Case]:
    """The rows of a CSV file."""
    path = qt.QFileDialog.getOpenFileName(
        slicer.util.mainWindow(), _("A table of cases"), "", _("Tables (*.csv);;All files (*)")
    )
    return read_table(path) if path else []


def fromScene(ndctNode, uldctNode, folder: Path) -> Case:
    """A case of volumes of the scene, which are written into a folder as NRRD.

    Parameters
    ----------
    ndctNode : vtkMRMLScalarVolumeNode or None
    uldctNode : vtkMRMLScalarVolumeNode or None
        None: it is to be simulated.
    folder : Path

    Raises
    ------
    IPv2Lib.errors.InputError
        What `whyNot` says, or a volume that is no CT in HU.
    """
    from IPv2Lib.datasets.owner_files import make_folder
    from IPv2Lib.io.volume import check_ct
    from IPv2SlicerLib.scene import volume_nodes

    if reason := whyNot(ndctNode, uldctNode):
        raise InputError(reason)
    nodes = [node for node in (ndctNode, uldctNode) if node is not None]
    volumes = [volume_nodes.node_to_volume(node) for node in nodes]
    for node, volume in zip(nodes, volumes, strict=True):
        try:
            check_ct(volume)
        except InputError as error:
            raise InputError(f"'{node.GetName()}': {error}") from error
    make_folder(folder.parent)
    make_folder(folder)
    paths = [_write(volume, folder) for volume in volumes]
    patient = next((found for node in nodes if (found := patientOf(node))), "")
    return Case(file_name(ndctNode.GetName()), ndct=paths[0], uldct=(*paths, None)[1], patient=patient)


def whyNot(ndctNode, uldctNode) -> str:
    """Why no case can be made of two volumes of the scene, of which the second may be None; empty if one can."""
    if ndctNode is None:
        return _("no NDCT is chosen: choose the normal-dose CT of the case")
    if uldctNode is ndctNode:
        return f"uLDCT and NDCT are both '{ndctNode.GetName()}': choose two scans of one patient"
    nodes = [node for node in (ndctNode, uldctNode) if node is not None]
    for node in nodes:
        if isMade(node):
            return f"'{node.GetName()}' was made by IPv2: choose a scan, a model would learn from its own results"
    return whyNotOnePatient(ndctNode, uldctNode) if uldctNode is not None else ""


def isMade(node) -> bool:
    """Whether a volume is no scan, but a result, a stage, or an image of a run or of a case that is there already."""
    from IPv2SlicerLib.scene.result_nodes import kind_of
    from IPv2SlicerLib.scene.training_nodes import shows_folder

    return bool(kind_of(node)) or shows_folder(node)


_DIGITS = 12  # of the hash of a scan in the name of its file


def _write(volume, folder: Path) -> Path:
    """The file of a scan, found again by its content. Its name says nothing of whose it is."""
    from IPv2Lib.io import files

    content = volume.sha256()[:_DIGITS]
    known = next(folder.glob(f"*-{content}.nrrd"), None)
    if known is not None:
        return known
    return Path(files.write(volume, folder / f"scan-{content}.nrrd"))
