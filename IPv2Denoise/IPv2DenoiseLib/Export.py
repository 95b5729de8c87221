"""Results as files: a volume with its provenance beside it, and a derived DICOM series."""

import itertools
import json
from pathlib import Path

import slicer
from IPv2Lib.errors import OutputError
from slicer.i18n import tr as _


def saveVolume(node, path: str | Path) -> Path:
    """Write a volume, and beside it, as `<name>.json`, how it was made.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode
    path : path
        A name that ends in .nrrd, .nii, .nii.gz, .mha or .mhd.

    Raises
    ------
    IPv2Lib.errors.OutputError
        An unknown suffix, no permission, a full disk.
    """
    from IPv2Lib import ct, outputs, scene

    path = Path(path)
    if not path.name.lower().endswith(outputs.SUFFIXES):
        raise OutputError(f"{path.name} has no known suffix: end the name in {', '.join(outputs.SUFFIXES)}")
    ct.write(scene.node_to_volume(node), path)
    outputs.write_json(outputs.sidecar_path(path), provenanceOf(node))
    return path


def exportDicom(node, sourceNode, folder: str | Path) -> Path:
    """Write a volume as a derived DICOM series into a new subfolder; patient and study are those of the source.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode
    sourceNode : vtkMRMLScalarVolumeNode or None
        What it was computed from. Loaded from DICOM, it lends patient and study.
    folder : path
        An existing folder.

    Returns
    -------
    Path
        The subfolder, named after the node.

    Raises
    ------
    IPv2Lib.errors.OutputError
        No permission, a full disk.
    IPv2Lib.errors.InputError
        The source's DICOM files are not on the grid of the volume.
    """
    from IPv2Lib import ct, outputs, scene

    facts = provenanceOf(node)
    target = newFolder(folder, node.GetName())
    description = f"IPv2 {facts.get('model', '')} strength {facts.get('strength', '')}"
    ct.write(scene.node_to_volume(node), target, template=dicomFile(sourceNode), description=description)
    outputs.write_json(outputs.sidecar_path(target), facts)
    return target


def newFolder(folder: str | Path, name: str) -> Path:
    """Path of a folder that does not exist yet, in a folder, named after a node."""
    name = "".join(letter if letter.isalnum() or letter in " -_." else "_" for letter in name)
    names = (name if number == 1 else f"{name} {number}" for number in itertools.count(1))
    return next(path for path in (Path(folder) / each for each in names) if not path.exists())


def dicomFile(node) -> Path | None:
    """A file of the DICOM series that a node was loaded from, if Slicer's DICOM database still has it."""
    uids = (node.GetAttribute("DICOM.instanceUIDs") or "").split() if node else []
    database = getattr(slicer, "dicomDatabase", None)
    if not uids or database is None:
        return None
    path = database.fileForInstance(uids[0])
    return Path(path) if path and Path(path).exists() else None


def provenanceOf(node) -> dict:
    """What the node's attributes say about how it was made, as it was before it became text."""
    from IPv2Lib import scene

    facts = {}
    for key, text in scene.provenance(node).items():
        try:
            facts[key] = json.loads(text)
        except ValueError:
            facts[key] = text
    return facts


def fileFilter() -> str:
    """For a file dialog that asks where to save a volume."""
    return _("NRRD (*.nrrd);;NIfTI (*.nii.gz *.nii);;MetaImage (*.mha *.mhd)")
