"""Results as files: what a volume's file is called, how it was made, and the DICOM series that it is a result of."""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path

import slicer
from IPv2Lib.errors import InputError
from IPv2Lib.io.formats import FORMATS
from slicer.i18n import tr as _


@dataclass(frozen=True)
class Source:
    """The DICOM series that a volume was computed from, as far as Slicer's DICOM database still has it.

    Attributes
    ----------
    files : tuple of Path
        One for each instance UID in `uids`, in that order; empty if some lack.
    uids : tuple of str
        SOP instance UIDs.
    lacking : str
        Why the series cannot lend its patient and study, a sentence for people; empty if it can.
    """

    files: tuple[Path, ...]
    uids: tuple[str, ...]
    lacking: str


def dicomSources(node) -> list[Source]:
    """Look for the series that a volume was loaded from, or is a result of, or of whose result it is one.

    Parameters
    ----------
    node : vtkMRMLScalarVolumeNode or vtkMRMLSequenceNode
        Of a sequence, each frame has a source of its own.
    """
    from IPv2SlicerLib.scene.sequences import data_nodes, frame_name

    return [_dicomSource(each, frame_name(node, index)) for index, each in enumerate(data_nodes(node))]


def _dicomSource(node, name: str) -> Source:
    from IPv2SlicerLib.scene.result_nodes import source_instance_uids

    uids = tuple(source_instance_uids(node))
    if not uids:
        return Source((), (), _("{name} does not come from a DICOM series.").format(name=name))
    database = getattr(slicer, "dicomDatabase", None)
    if database is None or not database.property("isOpen"):
        return Source((), uids, _("Slicer's DICOM database is not open, so the patient is not known."))
    paths = [Path(text) for uid in uids if (text := database.fileForInstance(uid)) and Path(text).is_file()]
    if len(paths) < len(uids):
        text = _(
            "{lacking} of the {count} DICOM files that {name} was made from are not in Slicer's DICOM database, or not "
            "on disk any more."
        )
        return Source((), uids, text.format(lacking=len(uids) - len(paths), count=len(uids), name=name))
    return Source(tuple(paths), uids, "")


def checkSource(source: Source) -> None:
    """Make sure that the files are still those that were loaded; takes a millisecond each.

    Raises
    ------
    InputError
        A file was replaced by another one since the database learned of it, perhaps by another patient's.
    """
    import pydicom

    for path, uid in zip(source.files, source.uids, strict=True):
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"])
            found = str(header.get("SOPInstanceUID"))
        except Exception as error:  # pydicom raises errors of many kinds
            raise InputError(f"{path} cannot be read any more ({error}): import the series again") from error
        if found != uid:
            raise InputError(
                f"{path} is not the file any more that was loaded, but that of another image: import the series again"
            )


def provenanceOf(node) -> dict:
    """What the node's attributes say about how it was made, as it was before it became text."""
    from IPv2SlicerLib.scene import volume_nodes

    facts = {}
    for key, text in volume_nodes.provenance(node).items():
        try:
            facts[key] = json.loads(text)
        except ValueError:
            facts[key] = text
    return facts


def framesOf(sequence) -> list[tuple[str, object, dict]]:
    """Of each frame of a sequence its name in a folder, without suffix, its node, and how it was made.

    Names are numbers of one length from 1 on, so that every program sorts them right.
    """
    from IPv2Lib.io import outputs
    from IPv2SlicerLib.scene.sequences import frames

    nodes = frames(sequence)
    stem, width = outputs.file_name(sequence.GetName()), max(2, len(str(len(nodes))))
    found = []
    for index, node in enumerate(nodes):
        place = {
            "frame": index + 1,
            "frames": len(nodes),
            "index": sequence.GetNthIndexValue(index),
            "index_name": sequence.GetIndexName(),
            "index_unit": sequence.GetIndexUnit(),
        }
        facts = {**provenanceOf(sequence), **provenanceOf(node), "sequence": place}
        found.append((f"{stem} {index + 1:0{width}d}", node, facts))
    return found


def newFolder(folder: str | Path, name: str) -> Path:
    """Path of a folder that does not exist yet, in a folder, named after a node as every system takes it."""
    from IPv2Lib.io import outputs

    stem = outputs.file_name(name)
    names = (stem if number == 1 else f"{stem} {number}" for number in itertools.count(1))
    return next(path for path in (Path(folder) / each for each in names) if not path.exists())


FILTERS = {each.filter: each.suffixes[0] for each in FORMATS}
"""Of a dialog that asks where to save a volume: filter to the suffix of a name that has none."""
