"""The slices of one DICOM series: found, told from what else lies there, checked, and put in order.

A slice is a file, or a frame of an enhanced (multi-frame) file. What lies in a folder and cannot be told to be
no slice is an error; what is left out is named in the notes of the series.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset

from ..errors import InputError, reason
from .dicom_file import ENHANCED_CT, Elements, guard, read_header, sop_class_uid, starts_as_dicom
from .dicom_pixels import PixelFormat, pixel_format
from .formats import BESIDE, BY_SUFFIX
from .volume import Volume

PLACE_TOLERANCE_MM = 0.1
"""Every slice lies so close to the place that even steps from the first to the last slice give it: positions are
rounded to 0.1 mm or better, and tables move no worse."""

_SPACING_TOLERANCE_MM = 1e-4  # 0.05 mm at the last of 512 pixels
_SUFFIXES = (".dcm", ".ima", ".dic", ".dicom")
_OTHER_NAMES = ("dicomdir", "thumbs.db", "desktop.ini", "lockfile", "version", "readme", "license")
_OTHER_SUFFIXES = (
    *(".txt", ".csv", ".tsv", ".json", ".xml", ".html", ".htm", ".pdf", ".md", ".log", ".ini", ".inf", ".yaml", ".yml"),
    *(".doc", ".docx", ".xls", ".xlsx", ".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".vtk"),
    *(".gz", ".zip", ".tar", ".7z", ".h5", ".npy", ".npz", ".stl", *BY_SUFFIX, *BESIDE),
    *(".mrml", ".mrb", ".lnk", ".db", ".exe", ".bat", ".sh", ".py", ".sha256", ".md5"),
)
_OTHER_STARTS = (
    *(b"%PDF", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"PK\x03\x04", b"\x1f\x8b"),
    *(b"\x89HDF", b"SQLite", b"\xd0\xcf\x11\xe0", b"\0\0\0\x01Bud1", b"\x7fELF", b"MZ", b"NRRD"),
)
_SCREEN_CAPTURES = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True)
class Slice:
    """One slice: its file and frame (0 in a file of one slice), its place in mm (LPS) and its pixels' format."""

    path: Path
    frame: int
    header: Elements
    position: np.ndarray
    orientation: np.ndarray
    pixel_spacing: tuple[float, ...]
    form: PixelFormat


@dataclass(frozen=True)
class Series:
    """A checked series.

    Attributes
    ----------
    name : str
        For messages: description, modality, number of slices, UID.
    slices : list of Slice
        In the order of their positions along the normal.
    frames : dict of Path to int
        How many frames each file has.
    grid : Volume
        Has the shape of the series and no memory.
    notes : list of str
        What was left out, and positions that contradict other elements.
    """

    name: str
    slices: list[Slice]
    frames: dict[Path, int]
    grid: Volume
    notes: list[str]


@dataclass(frozen=True)
class _Image:
    path: Path
    frame: int
    frames: int
    header: Elements
    uid: str
    sop_class: str

    @property
    def where(self) -> str:
        return self.path.name if self.frames == 1 else f"{self.path.name}, frame {self.frame + 1}"


def find_series(source: Path | Sequence[Path]) -> Series:
    """Find, check and sort the slices of one series by their headers.

    Parameters
    ----------
    source : path, or sequence of paths
        As for `dicom.read_series`.
    """
    files, chosen = _files(source)
    what = str(source) if isinstance(source, Path) else f"the list of {len(files)} files"
    series, others, damaged = _images(files, not isinstance(source, Path))
    for path, error in damaged.items():
        if chosen in (None, path):
            raise error
    alike: list[_Image] = []
    if chosen is not None:
        every = [item for images in series.values() for item in images]
        series = {uid: images for uid, images in series.items() if chosen in [item.path for item in images]}
        alike = _alike(every, series)
    if not series:
        raise InputError(
            f"{what} holds no DICOM image: give the folder of a CT series (subfolders are not searched), or one of "
            "its files"
        )
    if not isinstance(source, Path) and others:
        raise InputError(f"{others[0]} is no DICOM file: give the files of one CT series")
    images, left = _chosen(series, what, chosen)
    name = _name(images)
    notes = {item.path: _aside(item) for item in left}
    notes |= {item.path: "of another series by its UID alone" for item in alike}
    shapes = {_shape(item.path) for item in images}
    for path, error in damaged.items():
        if _shape(path) in shapes:  # named like a slice of this series, not like one of another
            raise error
        notes[path] = "damaged"
    notes |= _unknown(others, shapes, () if chosen else _SUFFIXES)
    found = _checked(images, name)
    if notes:
        found.notes.append(_left_out(notes, name))
    return found


def _alike(every: Sequence[_Image], series: dict[str, list[_Image]]) -> list[_Image]:
    """Images that all but the UID of their series makes slices of a chosen one: that may be damaged."""

    def rest(item: _Image) -> tuple[str, ...]:
        keywords = ("StudyInstanceUID", "SeriesNumber", "SeriesDescription", "Modality", "ImageOrientationPatient")
        return (_shape(item.path), *map(item.header.text, keywords))

    own = {rest(item) for images in series.values() for item in images}
    return [item for item in every if item.uid not in series and rest(item) in own]


def _left_out(notes: dict[Path, str], name: str) -> str:
    texts = []
    for why in dict.fromkeys(notes.values()):
        names = [path.name for path, each in notes.items() if each == why]
        more = f" and {len(names) - 20} more" if len(names) > 20 else ""
        texts.append(f"{', '.join(names[:20])}{more} ({why})")
    count = "1 file was" if len(notes) == 1 else f"{len(notes)} files were"
    return f"{count} left out of {name}: {'; '.join(texts)}"


def _chosen(series: dict[str, list[_Image]], what: str, chosen: Path | None) -> tuple[list[_Image], list[_Image]]:
    """The slices of the one CT series, and the images that are left out."""
    kept = {uid: slices for uid, images in series.items() if (slices := [i for i in images if not _aside(i)])}
    wanted = kept or series
    if len(wanted) > 1:
        names = "; ".join(f"{_name(images)}, e.g. {images[0].path.name}" for images in wanted.values())
        raise InputError(
            f"{what} holds {len(wanted)} series: {names}. Choose one by giving the path of one of its files"
        )
    (images,) = wanted.values()
    left = [item for each in series.values() for item in each if _aside(item)]
    refused = next((item for item in left if not kept or item.path == chosen), None)
    if refused is not None:
        raise InputError(f"{_name(images)} is {_aside(refused)} ({refused.path.name}): give the slices of a CT series")
    return images, left


def _files(source: Path | Sequence[Path]) -> tuple[list[Path], Path | None]:
    if not isinstance(source, Path):
        return list(dict.fromkeys(source)), None
    folder = source if source.is_dir() else source.parent
    try:
        files = sorted(item for item in folder.iterdir() if _is_file(item))
    except OSError as error:
        raise InputError(f"cannot read {folder}: {reason(error)}") from error
    return files, None if source == folder else source


def _is_file(path: Path) -> bool:
    return path.is_file() or (path.is_symlink() and not path.exists())  # a link to nothing may be a lost slice


def _images(files: Sequence[Path], listed: bool) -> tuple[dict[str, list[_Image]], list[Path], dict[Path, InputError]]:
    """Images by series instance UID, the files that are not DICOM, and those that are damaged with the reason.

    In a folder, names tell some of those that are not DICOM; a file that was listed, somebody meant.
    """
    series: dict[str, list[_Image]] = {}
    others: list[Path] = []
    damaged: dict[Path, InputError] = {}
    for path in files:
        other = not listed and _is_other_by_name(path)
        try:
            start = _start(path)
            if path.name.lower() == "dicomdir" or not starts_as_dicom(start) or (other and start[128:] != b"DICM"):
                others.append(path)
            elif (header := read_header(path)) is not None:
                images = _frames(path, header)
                series.setdefault(images[0].uid, []).extend(images)
        except InputError as error:
            if not other:
                damaged[path] = error
    return series, others, damaged


def _start(path: Path) -> bytes:
    with guard(path), open(path, "rb") as file:
        return file.read(132)


def _is_other_by_name(path: Path) -> bool:
    name = path.name.lower()
    return name.startswith(".") or name in _OTHER_NAMES or path.suffix.lower() in _OTHER_SUFFIXES


def _unknown(others: Sequence[Path], shapes: set[str], suffixes: Sequence[str]) -> dict[Path, str]:
    """Files that may be anything; one that is named as slices are is refused."""
    notes = {}
    for path in others:
        start = _start(path)
        kind = "not DICOM" if start else "empty"
        if path.suffix.lower() in suffixes or _shape(path) in shapes:
            raise InputError(f"{path} is named like a slice of the series, but is {kind}: copy it again or remove it")
        if not (_is_other_by_name(path) or (start and _is_other_by_content(start))):
            notes[path] = kind
    return notes


def _shape(path: Path) -> str:
    """What is alike in the names of a series' files."""
    return re.sub(r"\d+", "#", path.name.lower())


def _is_other_by_content(start: bytes) -> bool:
    if start.startswith(_OTHER_STARTS):
        return True
    return not any(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in start)  # text


def _frames(path: Path, header: Dataset) -> list[_Image]:
    """One image for an ordinary file, one per frame for an enhanced one."""
    top = Elements([header], path.name)
    uid, sop_class = top.text("SeriesInstanceUID"), sop_class_uid(header)
    if "\\" in uid or " " in uid:
        raise InputError(f'{path} has "{uid}" as SeriesInstanceUID, which must be one: export it again')
    if sop_class not in ENHANCED_CT:
        return [_Image(path, 0, 1, top, uid, sop_class)]
    count = top.integer("NumberOfFrames")
    per_frame = top.items("PerFrameFunctionalGroupsSequence")
    if count is None or count < 1 or count != len(per_frame):
        raise InputError(
            f"{path} contradicts itself: NumberOfFrames {count}, but {len(per_frame)} frames are described; export "
            "it again"
        )
    shared = [macro for item in top.items("SharedFunctionalGroupsSequence") for macro in _macros(item, path)]
    images = []
    for index, item in enumerate(per_frame):
        elements = Elements([*_macros(item, path), *shared, header], f"{path.name}, frame {index + 1}")
        images.append(_Image(path, index, count, elements, uid, sop_class))
    for keyword, kind in (("StackID", "stacks"), ("TemporalPositionIndex", "points in time")):
        values = dict.fromkeys(image.header.text(keyword) for image in images)
        if len(values) > 1:
            raise InputError(
                f"{path} holds {len(values)} {kind} ({keyword} {', '.join(list(values)[:5])}): give one, e.g. saved "
                "as NRRD"
            )
    return images


def _macros(groups: Dataset, path: Path) -> list[Dataset]:
    """The items of the functional groups of one frame, or of those that all frames share."""
    elements = Elements([groups], path.name)
    return [
        item
        for keyword in (
            "PlanePositionSequence",
            "PlaneOrientationSequence",
            "PixelMeasuresSequence",
            "PixelValueTransformationSequence",
            "FrameContentSequence",
            "CTImageFrameTypeSequence",
        )
        for item in elements.items(keyword)[:1]
    ]


def _name(images: Sequence[_Image]) -> str:
    header = images[0].header
    description, modality = header.text("SeriesDescription"), header.text("Modality") or "no modality"
    count = f"{len(images)} slice{'s' if len(images) > 1 else ''}"
    return f'series "{description}" ({modality}, {count}, UID {images[0].uid})'


def _aside(image: _Image) -> str:
    """Why an image is no slice of a CT; empty where it is one."""
    header = image.header
    types = {value.upper() for keyword in ("FrameType", "ImageType") for value in header.texts(keyword)}
    if header.text("Modality") != "CT":
        return "not CT"
    if header.text("SamplesPerPixel") not in ("", "1"):
        return "in colour, a screenshot or a report"
    if "LOCALIZER" in types:
        return "a localizer (scout)"
    placed = header.text("ImagePositionPatient")
    if not placed and (image.sop_class.startswith(_SCREEN_CAPTURES) or "SCREEN SAVE" in types):
        return "a screen capture"
    return ""


def _checked(images: list[_Image], name: str) -> Series:
    for keyword in ("PatientID", "StudyInstanceUID", "FrameOfReferenceUID"):
        values = {image.header.text(keyword): image for image in images}
        if len(values) > 1:
            texts = " and ".join(f"{value!r} ({image.where})" for value, image in list(values.items())[:2])
            raise InputError(f"{name} mixes slices of different {keyword}, such as {texts}; keep those of one kind")
    slices = [_slice(image, name) for image in images]
    for what, numbers, tolerance in (
        ("Rows", [[item.form.rows] for item in slices], 0),
        ("Columns", [[item.form.columns] for item in slices], 0),
        ("PixelSpacing", [item.pixel_spacing for item in slices], _SPACING_TOLERANCE_MM),
        ("ImageOrientationPatient", [item.orientation for item in slices], 1e-3),
    ):
        _check_uniform(slices, name, what, np.array(numbers, dtype=float), tolerance)

    row, column = slices[0].orientation.reshape(2, 3)
    normal = np.cross(row, column)
    lengths = [np.linalg.norm(vector) for vector in (row, column, normal)]
    row_spacing, column_spacing = slices[0].pixel_spacing
    if not np.allclose(lengths, 1, atol=0.01) or min(row_spacing, column_spacing) <= 0:
        geometry = f"orientation {_text(slices[0].orientation)}, pixel spacing {_text(slices[0].pixel_spacing)}"
        raise InputError(f"{name} has a geometry that cannot be used: {geometry}; export it again")
    direction = np.stack([row / lengths[0], column / lengths[1], normal / lengths[2]], axis=1)

    slices = sorted(slices, key=lambda item: float(item.position @ direction[:, 2]))
    z = np.array([float(item.position @ direction[:, 2]) for item in slices])
    _check_steps(slices, z, name)
    _check_tilt(slices, z, direction[:, 2], name)
    shape = (len(slices), slices[0].form.rows, slices[0].form.columns)
    grid = Volume(
        np.broadcast_to(np.int16(0), shape),
        spacing=(column_spacing, row_spacing, _slice_spacing(slices[0], z)),
        origin=tuple(slices[0].position),
        direction=tuple(direction.ravel()),
    )
    files = {image.path: image.frames for image in images}
    return Series(name, slices, files, grid, _contradictions(slices, z, name))


def _slice(image: _Image, name: str) -> Slice:
    header = image.header
    frames = header.text("NumberOfFrames")
    if image.sop_class not in ENHANCED_CT and frames not in ("", "1"):
        raise InputError(
            f"{name} is multi-frame ({image.path.name}: NumberOfFrames {frames}) without a place for each frame: save "
            "it as one file per slice, or as NRRD, first"
        )
    places = []
    for keyword, count in (("PixelSpacing", 2), ("ImageOrientationPatient", 6), ("ImagePositionPatient", 3)):
        reason = ""
        try:
            values = header.numbers(keyword, count)
        except InputError as error:
            values, reason = None, f" ({error})"
        if values is None:
            raise InputError(
                f"{name} has no usable {keyword} in {image.where}{reason}, so the slice has no place: export it again"
            )
        places.append(values)
    spacing, orientation, position = places
    form = pixel_format(header)
    return Slice(image.path, image.frame, header, np.array(position), np.array(orientation), spacing, form)


def _check_uniform(slices: list[Slice], name: str, what: str, values: np.ndarray, tolerance: float) -> None:
    others = np.flatnonzero((np.abs(values - values[0]) > tolerance).any(axis=1))
    if len(others):
        raise InputError(
            f"{name} mixes slices of different {what}: {_text(values[0])} in {len(slices) - len(others)}, e.g. "
            f"{slices[0].path.name}, another in {len(others)}, e.g. {_text(values[others[0]])} in "
            f"{slices[others[0]].path.name}; keep those of one kind in the folder"
        )


def _text(numbers: Iterable[float]) -> str:
    texts = [f"{number:.6g}" for number in numbers]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def _check_steps(slices: list[Slice], z: np.ndarray, name: str) -> None:
    if len(slices) < 2:
        return
    steps = np.diff(z)

    def pairs(wrong: np.ndarray) -> str:
        texts = [
            f"{z[i]:.2f} and {z[i + 1]:.2f} mm ({_where(slices[i])}, {_where(slices[i + 1])})"
            for i in np.flatnonzero(wrong)
        ]
        return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")

    if (doubled := steps < 1e-3).any():
        raise InputError(f"{name} has several slices at one position: {pairs(doubled)}; keep one of each")
    off = np.abs(z - np.linspace(z[0], z[-1], len(z)))
    if off.max() <= PLACE_TOLERANCE_MM + 1e-6:
        return
    usual = np.percentile(steps, 50, method="lower")  # where gaps are half of the steps, they are not usual
    if (gap := steps > 1.5 * usual).any():
        raise InputError(
            f"{name} has gaps: slices are usually {usual:.2f} mm apart, but farther between {pairs(gap)}; add the "
            "missing slices"
        )
    if (close := steps < 0.75 * usual).any():
        raise InputError(
            f"{name} is uneven: slices are usually {usual:.2f} mm apart, but closer between {pairs(close)}; keep "
            "one regular set of slices in the folder"
        )
    worst = int(off.argmax())
    raise InputError(
        f"{name} is uneven: its slices are {steps.min():.2f} to {steps.max():.2f} mm apart, so that "
        f"{_where(slices[worst])} at {z[worst]:.2f} mm is {off[worst]:.2f} mm from where even steps would put it "
        f"({PLACE_TOLERANCE_MM} mm are allowed); reconstruct it with even steps"
    )


def _where(item: Slice) -> str:
    return item.header.where


def _check_tilt(slices: list[Slice], z: np.ndarray, normal: np.ndarray, name: str) -> None:
    offsets = np.array([item.position for item in slices]) - slices[0].position
    lateral = np.linalg.norm(offsets - np.outer(z - z[0], normal), axis=1)
    if lateral.max() <= 0.5 * min(slices[0].pixel_spacing):
        return
    angle = np.degrees(np.arctan2(lateral[-1], z[-1] - z[0]))
    raise InputError(
        f"{name} is sheared: from {z[0]:.2f} to {z[-1]:.2f} mm its slices shift sideways by {lateral.max():.1f} mm "
        f"(gantry tilt of {angle:.1f}°?); resample it to a straight grid first, e.g. in Slicer, and save it as NRRD"
    )


def _slice_spacing(first: Slice, z: np.ndarray) -> float:
    if len(z) > 1:
        return (z[-1] - z[0]) / (len(z) - 1)
    stated = (first.header.number("SpacingBetweenSlices"), first.header.number("SliceThickness"))
    return next((value for value in stated if value and value > 0), 1.0)


def _contradictions(slices: list[Slice], z: np.ndarray, name: str) -> list[str]:
    """Positions decide; what contradicts them may show that slices are lost or positions are wrong."""
    found: list[str] = []
    if len(slices) < 2:
        return found
    step = (z[-1] - z[0]) / (len(z) - 1)
    stated = slices[0].header.number("SpacingBetweenSlices")
    if stated and abs(abs(stated) - step) > PLACE_TOLERANCE_MM:
        found.append(
            f"{name}: positions are {step:.2f} mm apart, SpacingBetweenSlices says {stated:g} mm; positions were "
            "taken. Are slices missing?"
        )
    locations = [item.header.number("SliceLocation") for item in slices]
    if None not in locations:
        wrong = np.abs(np.abs(np.diff(np.array(locations, dtype=float))) - np.diff(z)) > PLACE_TOLERANCE_MM
        if wrong.any():
            index = int(np.flatnonzero(wrong)[0])
            found.append(
                f"{name}: SliceLocation contradicts ImagePositionPatient, e.g. {locations[index]:g} and "
                f"{locations[index + 1]:g} mm for slices at {z[index]:.2f} and {z[index + 1]:.2f} mm; positions "
                "were taken"
            )
    return found
