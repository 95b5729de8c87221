"""Who a scan is of: one label for a patient, from whatever a DICOM header or Slicer's subject hierarchy says.

Owns which attributes tell patients apart, and the key that hides them. Two scans of one patient must get the same
label, or one is trained on and the other tested; two patients of one name must not. A label is a hash with a secret
key, so that a data set says which scans belong together and not whose they are, to nobody who tries IDs either.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import tempfile
from pathlib import Path

from ..errors import InputError, OutputError, reason
from ..io import user_folders

KEY_VARIABLE = "IPV2_PATIENT_KEY"
"""Names the file of the key in place of `key_file`'s default: for several users, or machines, with one key."""

_TAGS = ["PatientID", "PatientName", "PatientBirthDate", "StudyInstanceUID"]
_OF_STUDY = "Patient-"  # as Slicer calls patients without an ID
_NO_NAME = ("", "no name")  # the latter in Slicer's subject hierarchy
_LABEL = re.compile(r"P-[0-9a-f]{16}")
_KEY_BYTES = 32


def hidden(patient: str) -> str:
    """The label of a patient: the same for one text and one key, and a label's own.

    Parameters
    ----------
    patient : str
        What tells the patient apart, see `patient_label`.

    Raises
    ------
    InputError, OutputError
        The key is damaged, or cannot be made.
    """
    if _LABEL.fullmatch(patient):
        return patient
    return "P-" + hmac.digest(_key(), b"patient " + patient.encode(errors="surrogatepass"), "sha256").hex()[:16]


def key_mark() -> str:
    """What tells keys apart and nothing of them: labels of two keys cannot be compared."""
    return hmac.digest(_key(), b"key", "sha256").hex()[:16]


def key_file() -> Path:
    """Where the key of this user is; it is made when it is first needed, readable by its owner only."""
    if given := os.environ.get(KEY_VARIABLE):
        return Path(given)
    try:
        return user_folders.settings() / "patients.key"
    except RuntimeError as error:
        raise OutputError(f"there is no home folder for the key that hides patients: set {KEY_VARIABLE}") from error


def _key() -> bytes:
    path = key_file()
    try:
        if not path.exists():
            _make_key(path)
        text = path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise OutputError(
            f"the key that hides patients, {path}, cannot be made or read ({reason(error)}): set {KEY_VARIABLE} to a "
            "file of your own"
        ) from error
    if not re.fullmatch(rf"[0-9a-f]{{{2 * _KEY_BYTES}}}", text):
        raise InputError(f"the key that hides patients, {path}, is damaged: restore it, or remove it for a new one")
    return bytes.fromhex(text)


def _make_key(path: Path) -> None:
    """Make a key, whole; if another process was sooner, its key stays."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=".ipv2-", dir=path.parent)  # which only its owner can read
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
        try:
            (os.rename if os.name == "nt" else os.link)(temporary, path)  # neither replaces a file
        except FileExistsError:
            return
    finally:
        Path(temporary).unlink(missing_ok=True)


def patient_label(patient_id: str = "", name: str = "", birth_date: str = "", study_uid: str = "") -> str:
    """What tells a patient apart, to be `hidden`: the PatientID; else name and date of birth; else the study.

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
    """The label of who a DICOM file, or the first DICOM image of a folder, is of; empty where there is none."""
    text = _of_header(path)
    return hidden(text) if text else ""


def check_pair(uldct: Path, ndct: Path) -> None:
    """Refuse (`InputError`) two DICOM series, files or folders, that are of two patients by their headers."""
    one, other = _of_header(uldct), _of_header(ndct)
    if one and other and one != other:
        raise InputError(f"the uLDCT {uldct} and the NDCT {ndct} are of two patients: give two scans of one patient")


def _of_header(path: Path) -> str:
    from ..io.dicom import is_dicom  # pydicom is slow to import
    from ..io.dicom_file import read_dataset

    try:
        files = sorted(item for item in path.iterdir() if item.is_file()) if path.is_dir() else [path]
        file = next((item for item in files if is_dicom(item)), None)
        if file is None:
            return ""
        header = read_dataset(file, _TAGS)
        return patient_label(*(str(header.get(tag) or "") for tag in _TAGS))
    except Exception:  # pydicom raises errors of many kinds on damaged files, which reading them will name
        return ""
