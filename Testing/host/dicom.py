"""`slicer.dicomDatabase` and `DICOMLib`: a database by reference, and volumes loaded from it with patient and study.

Files stay where they are: one that is moved, removed or replaced later is what the database believes it to be.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pydicom
import slicer
from PySide6 import QtCore

from .stand_in import StandIn, stored_property

_UID = "DICOM"
_SERIES = ("Modality", "SeriesNumber", "FrameOfReferenceUID", "SeriesDescription", "SeriesDate", "SeriesTime",
           "ContentDate", "ContentTime", "Manufacturer")  # fmt: skip
_PATIENT = ("PatientName", "PatientID", "PatientSex", "PatientBirthDate", "PatientComments")
_STUDY = ("StudyInstanceUID", "StudyID", "StudyDescription", "StudyDate", "StudyTime")


class DicomDatabase(StandIn, QtCore.QObject):
    """Knows the headers of files as they were when they were added."""

    isOpen = stored_property(bool, True)

    def __init__(self):
        super().__init__()
        self._headers: dict[str, pydicom.Dataset] = {}  # by path

    def _add(self, path: Path) -> None:
        try:
            header = pydicom.dcmread(path, stop_before_pixels=True)
        except Exception:  # no DICOM file, or a damaged one
            return
        known = self.fileForInstance(str(header.get("SOPInstanceUID")))
        if header.get("SeriesInstanceUID") and not (known and Path(known).exists()):
            self._headers.pop(known, None)
            self._headers[str(path)] = header

    def fileForInstance(self, uid: str) -> str:
        """Path of an instance, empty where it is not known; the file may be gone."""
        return next((path for path, header in self._headers.items() if header.SOPInstanceUID == uid), "")

    def filesForSeries(self, uid: str, hits: int = -1) -> list[str]:
        found = [path for path, header in self._headers.items() if header.SeriesInstanceUID == uid]
        return found if hits < 0 else found[:hits]

    def seriesForFile(self, path: str) -> str:
        header = self._headers.get(str(path))
        return str(header.SeriesInstanceUID) if header is not None else ""


def make_modules() -> dict[str, ModuleType]:
    """The package DICOMLib with DICOMUtils, as far as scripts load series with it."""
    package, utils = ModuleType("DICOMLib", "Slicer's DICOM library."), ModuleType("DICOMLib.DICOMUtils")
    utils.importDicom, utils.loadSeriesByUID = import_dicom, load_series
    package.DICOMUtils = utils
    return {package.__name__: package, utils.__name__: utils}


def import_dicom(dicomDataDir: str, dicomDatabase=None, copyFiles: bool = False) -> bool:
    """Add every DICOM file below a folder, subfolders included."""
    database = dicomDatabase or slicer.dicomDatabase
    for path in sorted(Path(dicomDataDir).rglob("*")):
        if path.is_file():
            database._add(path)
    return True


def load_series(seriesUIDs: list[str], messages=None, progressCallback=None, enabledPluginClassNames=None) -> list[str]:
    """Load each series as a volume; IDs of the nodes.

    Raises
    ------
    ValueError, OSError
        As in Slicer: no list, nothing in it, no database.
    """
    if not isinstance(seriesUIDs, list) or not seriesUIDs:
        raise ValueError("SeriesUIDs must contain a list")
    if not slicer.dicomDatabase.property("isOpen"):
        raise OSError("DICOM module or database cannot be accessed")
    nodes = [_load(uid) for uid in seriesUIDs]
    return [node.GetID() for node in nodes if node is not None]


def _load(uid: str):
    headers = slicer.dicomDatabase._headers
    files = slicer.dicomDatabase.filesForSeries(uid)
    if not files or any(not Path(path).exists() for path in files):
        return None
    files.sort(key=lambda path: float(headers[path].get("ImagePositionPatient", [0, 0, 0])[2]))
    first = headers[files[0]]
    description = str(first.get("SeriesDescription") or "") or "Unnamed Series"
    number = first.get("SeriesNumber")
    name = description if number in (None, "") else f"{number}: {description}"
    instances = " ".join(str(headers[path].SOPInstanceUID) for path in files)
    node = slicer.util.loadVolume(files[0], {"fileNames": files, "name": name})
    node.SetAttribute("DICOM.instanceUIDs", instances)
    _file(node, first, instances)
    return node


def load_volume_sequence(series_uid: str, tag: str):
    """Load a 4-D series as MultiVolumeImporter does, Slicer's importer of such series; the sequence.

    One frame for each value of a tag (keyword), in their order. Index values are numbers from 0, without name and unit;
    changes of what is shown go into the sequence, and its name tells the frame. It, not the sequence, is filed under
    the patient.
    """
    headers = slicer.dicomDatabase._headers
    files = slicer.dicomDatabase.filesForSeries(series_uid)
    first = headers[files[0]]
    name = f"{first.SeriesNumber}: {first.SeriesDescription}"
    scene = slicer.mrmlScene
    sequence = scene.AddNewNodeByClass("vtkMRMLSequenceNode", scene.GenerateUniqueName(name))
    sequence.SetIndexName("")
    sequence.SetIndexUnit("")
    for number, value in enumerate(sorted({float(headers[path][tag].value) for path in files})):
        paths = [path for path in files if float(headers[path][tag].value) == value]
        paths.sort(key=lambda path: float(headers[path].ImagePositionPatient[2]))
        frame = slicer.util.loadVolume(paths[0], {"fileNames": paths, "name": name, "show": False})
        frame.SetAttribute("DICOM.instanceUIDs", " ".join(str(headers[path].SOPInstanceUID) for path in paths))
        empty = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        sequence.SetDataNodeAtValue(empty, str(number))
        sequence.UpdateDataNodeAtValue(frame, str(number), True)
        for node in (empty, frame.GetDisplayNode(), frame.GetStorageNode(), frame):
            if node is not None:
                scene.RemoveNode(node)
    browser = scene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", scene.GenerateUniqueName(f"{name} browser"))
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.SetSaveChanges(sequence, True)
    browser.SetOverwriteProxyName(sequence, True)
    proxy = browser.GetProxyNode(sequence)
    slicer.app.applicationLogic().GetSelectionNode().SetActiveVolumeID(proxy.GetID())
    slicer.app.applicationLogic().PropagateVolumeSelection()
    _file(proxy, first, " ".join(str(headers[path].SOPInstanceUID) for path in files))
    return sequence


def _file(node, header, instances: str) -> None:
    """Put a volume under its study and patient, made where they are missing."""
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient_id = str(header.get("PatientID") or "") or f"Patient-{header.StudyInstanceUID}"
    patient = tree.GetItemByUID(_UID, patient_id)
    if not patient:
        patient = tree.CreateSubjectItem(tree.GetSceneItemID(), str(header.get("PatientName") or "No name"))
        tree.SetItemUID(patient, _UID, patient_id)
        _set_attributes(tree, patient, header, _PATIENT)
    study = tree.GetItemByUID(_UID, str(header.StudyInstanceUID))
    if not study:
        study = tree.CreateStudyItem(patient, str(header.get("StudyDescription") or "No study description"))
        tree.SetItemUID(study, _UID, str(header.StudyInstanceUID))
        _set_attributes(tree, study, header, _STUDY)
    item = tree.CreateItem(study, node)
    tree.SetItemUID(item, _UID, str(header.SeriesInstanceUID))
    tree.SetItemUID(item, "DICOMInstanceUID", instances)
    _set_attributes(tree, item, header, _SERIES)


def _set_attributes(tree, item: int, header, keywords) -> None:
    for keyword in keywords:
        value = header.get(keyword)
        tree.SetItemAttribute(item, f"DICOM.{keyword}", "" if value is None else str(value))


def export_tags(node) -> dict[str, str]:
    """What Slicer's own DICOM export would write: patient and study are the two items above, whatever they are."""
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    item = tree.GetItemByDataNode(node)
    study = tree.GetItemParent(item)
    found = {}
    for each in (tree.GetItemParent(study), study, item):
        names = [name for name in tree.GetItemAttributeNames(each) if name.startswith("DICOM.")]
        found |= {name.removeprefix("DICOM."): tree.GetItemAttribute(each, name) for name in names}
    return found
