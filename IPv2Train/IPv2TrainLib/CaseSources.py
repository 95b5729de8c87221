"""Where new cases come from: files, folders, tables, the scene. Asks for them; writes nothing but scans of a scene."""

import itertools
from pathlib import Path

import qt
import slicer
from IPv2Lib.cases import Case, cases_from_paths, read_table
from IPv2Lib.errors import InputError
from slicer.i18n import tr as _

_VOLUMES = "(*.nrrd *.nhdr *.nii *.nii.gz *.mha *.mhd)"


def askForFiles() -> list[Case]:
    """NDCT files, each a case; none if the user thinks better of it."""
    paths = qt.QFileDialog.getOpenFileNames(
        slicer.util.mainWindow(), _("Normal-dose CTs in HU"), "", _("Volumes {suffixes}").format(suffixes=_VOLUMES)
    )
    return cases_from_paths(paths) if paths else []


def askForPair() -> list[Case]:
    """A uLDCT and an NDCT file of one patient."""
    paths = []
    for title in (_("Ultra-low-dose CT of the pair"), _("Normal-dose CT of the pair")):
        path = qt.QFileDialog.getOpenFileName(
            slicer.util.mainWindow(), title, "", _("Volumes {suffixes}").format(suffixes=_VOLUMES)
        )
        if not path:
            return []
        paths.append(Path(path))
    uldct, ndct = paths
    return [Case(ndct.name.partition(".")[0], ndct=ndct, uldct=uldct)]


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
        No NDCT, twice the same volume, or one that is no CT in HU.
    """
    from IPv2Lib import ct, scene

    if ndctNode is None:
        raise InputError(_("no NDCT is chosen: choose the normal-dose CT of the case"))
    if uldctNode is ndctNode:
        raise InputError(f"uLDCT and NDCT are both '{ndctNode.GetName()}': choose two scans of one patient")
    nodes = [node for node in (ndctNode, uldctNode) if node is not None]
    volumes = [scene.node_to_volume(node) for node in nodes]
    for node, volume in zip(nodes, volumes, strict=True):
        try:
            ct.check_ct(volume)
        except InputError as error:
            raise InputError(f"'{node.GetName()}': {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    paths = [_write(volume, folder, node.GetName()) for node, volume in zip(nodes, volumes, strict=True)]
    name = "".join(letter if letter.isalnum() or letter in " -_." else "_" for letter in ndctNode.GetName())
    return Case(name, ndct=paths[0], uldct=(*paths, None)[1], patient=_patientId(ndctNode))


def _write(volume, folder: Path, name: str) -> Path:
    from IPv2Lib import ct

    stem = "".join(letter if letter.isalnum() or letter in "-_" else "-" for letter in name) or "scan"
    names = itertools.chain([f"{stem}.nrrd"], (f"{stem}-{number}.nrrd" for number in itertools.count(2)))
    return Path(ct.write(volume, next(folder / each for each in names if not (folder / each).exists())))


def _patientId(node) -> str:
    """What the subject hierarchy knows of the patient of a volume that came from DICOM; else empty."""
    tree = slicer.mrmlScene.GetSubjectHierarchyNode()
    constants = slicer.vtkMRMLSubjectHierarchyConstants
    return tree.GetAttributeFromItemAncestor(
        tree.GetItemByDataNode(node), constants.GetDICOMPatientIDAttributeName(), constants.GetDICOMLevelPatient()
    )
