"""Loading scans with Slicer's own loaders, which give them their patient, study and DICOM attributes."""

from pathlib import Path

import slicer
from IPv2Lib.errors import InputError
from slicer.i18n import tr as _


def loadScan(path: str | Path):
    """Load one volume.

    Parameters
    ----------
    path : path
        A file; or a folder with one CT series, subfolders not searched; or one file of a series. Series go through
        Slicer's DICOM database, which learns where their files are.

    Returns
    -------
    vtkMRMLScalarVolumeNode

    Raises
    ------
    InputError
        No series or several, no DICOM database, or Slicer cannot load it.
    """
    from IPv2Lib.io.dicom import is_dicom

    path = Path(path)
    nodes = _loadSeries(path) if path.is_dir() or is_dicom(path) else _loadFile(path)
    volumes = [node for node in nodes if node is not None and node.IsA("vtkMRMLScalarVolumeNode")]
    if not volumes:
        raise InputError(_("{path} could not be loaded; the application's log says why").format(path=path))
    if len(volumes) > 1:
        names = ", ".join(node.GetName() for node in volumes)
        raise InputError(
            _("{path} holds several volumes, now in the scene ({names}): choose one").format(path=path, names=names)
        )
    return volumes[0]


def _loadFile(path: Path) -> list:
    try:
        found = slicer.util.loadVolume(str(path))
    except RuntimeError:
        return []
    return found if isinstance(found, list) else [found]


def _loadSeries(path: Path) -> list:
    series = ctSeries(path)
    if not series:
        raise InputError(_("{path} holds no DICOM image of CT: choose the folder of a series").format(path=path))
    if len(series) > 1:
        text = _("{path} holds {n} CT series ({names}): choose one file of the one that you want")
        raise InputError(text.format(path=path, n=len(series), names="; ".join(series.values())))
    database = getattr(slicer, "dicomDatabase", None)
    if database is None or not database.property("isOpen"):
        raise InputError(_("Slicer's DICOM database is not open: open the module DICOM once, and try again"))
    from DICOMLib import DICOMUtils

    if not DICOMUtils.importDicom(str(path if path.is_dir() else path.parent)):
        return []
    return [slicer.mrmlScene.GetNodeByID(each) for each in DICOMUtils.loadSeriesByUID(list(series))]


def ctSeries(path: str | Path) -> dict[str, str]:
    """The CT series of a folder, or of a file: UID, and number and description for people."""
    import pydicom
    from IPv2Lib.io.dicom import is_dicom

    path, found = Path(path), {}
    files = sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path]
    for file in filter(is_dicom, files):
        try:
            tags = ["Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription"]
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=tags)
            if header.get("Modality") == "CT" and header.get("SeriesInstanceUID"):
                name = f"{header.get('SeriesNumber') or '?'}: {header.get('SeriesDescription') or _('no description')}"
                found.setdefault(str(header.SeriesInstanceUID), name)
        except Exception:  # pydicom raises errors of many kinds; what Slicer cannot load, it says itself
            continue
    return found
