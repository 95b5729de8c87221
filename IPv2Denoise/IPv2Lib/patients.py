"""Who a scan is of: one text for a patient, from whatever a DICOM header or Slicer's subject hierarchy says.

Owns which attributes tell patients apart. Two scans of one patient must get the same text, or one is trained on and the
other tested; two patients of one name must not.
"""

from __future__ import annotations

import re
from pathlib import Path

from .dicom import is_dicom
from .dicom_file import quiet

_TAGS = ["PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID"]
_OF_STUDY = "Patient-"  # as Slicer calls patients without an ID
_NO_NAME = ("", "no name")  # the latter in Slicer's subject hierarchy


def patient_label(patient_id: str = "", name: str = "", birth_date: str = "", study_uid: str = "") -> str:
    """A text for a patient: the PatientID; else name and date of birth, of which neither is enough; else the study.

    Parameters
    ----------
    patient_id, name, birth_date, study_uid : str
        Values of DICOM; empty where there are none. IDs that Slicer made of the study count as none.

    Examples
    --------
    >>> patient_label("17", "DOE^JANE"), patient_label("", "DOE^JANE", "19500101")
    ('17', 'DOE^JANE 19500101')
    >>> patient_label("", "DOE^JANE", "", "1.2.3"), patient_label()
    ('Patient-1.2.3', '')
    """
    patient_id, name, birth_date, study_uid = (text.strip() for text in (patient_id, name, birth_date, study_uid))
    made = re.fullmatch(rf"{_OF_STUDY}([0-9.]+)", patient_id)
    if patient_id and not made:
        return patient_id
    if name.rstrip("^").lower() not in _NO_NAME and birth_date:
        return f"{name.rstrip('^')} {birth_date}"
    study_uid = study_uid or (made[1] if made else "")
    return f"{_OF_STUDY}{study_uid}" if study_uid else ""


def patient_of(path: Path) -> str:
    """Who a DICOM file, or the first DICOM image of a folder, is of; empty where there is none."""
    import pydicom

    try:
        files = sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path]
        file = next((item for item in files if is_dicom(item)), None)
        if file is None:
            return ""
        with quiet:
            header = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS)
            return patient_label(*(str(header.get(tag) or "") for tag in _TAGS))
    except Exception:  # pydicom raises errors of many kinds on damaged files, which reading them will name
        return ""
