"""The command `ipv2 convert-frames`: the frames of a sequence (4-D CT) in another format, all of them or none."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..io import outputs
from ..io.formats import ENDINGS, SUFFIXES, suffix
from . import convert as cli_convert
from .options import add_compress, compress

if TYPE_CHECKING:
    from .console import Console


@dataclass(frozen=True)
class Frame:
    """One frame on its way into a folder.

    Attributes
    ----------
    input : str
        Path of a volume; a sidecar beside it says how it was made.
    name : str
        Of the file in the folder; without a suffix of `formats.SUFFIXES` that of the folder of a DICOM series.
    like : str or None
        Folder of the DICOM series that the frame was computed from; None: the frames become a new study of nobody.
    """

    input: str
    name: str
    like: str | None = None


def write_list(frames: list[Frame], path: Path) -> None:
    """Write what the command takes."""
    outputs.write_json(path, {"frames": [vars(frame) for frame in frames]})


def _options(command: argparse.ArgumentParser) -> None:
    command.description = (
        "Write the frames of a sequence in another format into a new folder, as 'ipv2 convert' does with one volume.\n"
        'LIST is a JSON file: {"frames": [{"input": PATH, "name": NAME, "like": FOLDER or null}, ...]}.\n'
        "A NAME without a known suffix is that of a DICOM series, with patient and study of the series in the folder\n"
        "LIKE; where that is null, the frames are one new study of nobody."
    )
    command.epilog = "examples:\n  ipv2 convert-frames frames.json denoised-4d"
    command.add_argument(
        "list", type=Path, metavar="LIST", help="what is written from what, in the order of the frames"
    )
    command.add_argument("folder", type=Path, metavar="FOLDER", help="new folder")
    add_compress(command)


def _run(options: argparse.Namespace, console: Console) -> None:
    from ..io import files

    frames = _read_list(options.list)
    written, history = [], []
    with outputs.new_folder(options.folder, "convert-frames", False) as folder:
        for number, frame in enumerate(frames, 1):
            console.progress.report((number - 1) / len(frames), f"writing frame {number} of {len(frames)}")
            source = Path(frame.input)
            volume = files.read(source)
            facts = cli_convert.history(source, volume, console)
            # With a slash every name is a folder's, also one with a dot.
            output = folder / frame.name
            target = str(output) if suffix(output) in SUFFIXES else f"{output}/"
            description = f"{cli_convert.description(facts)} frame {number}/{len(frames)}"
            like = None if frame.like is None else Path(frame.like)
            history.append(outputs.save(volume, target, facts, source, description, compress(options), template=like))
            written.append(frame.name)
            if output.is_dir() and frame.like is None and number > 1:
                _join_study(folder / frames[0].name, output)
    console.result(
        f"{options.folder}: {len(frames)} frames",
        command="convert-frames", folder=str(options.folder), written=written, results=history,
    )  # fmt: skip


def _read_list(path: Path) -> list[Frame]:
    try:
        frames = [Frame(**each) for each in json.loads(path.read_text(encoding="utf-8"))["frames"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no list of frames ({error}): see 'ipv2 convert-frames --help'") from error
    if not frames:
        raise InputError(f"{path} lists no frames: give at least one")
    names = [frame.name for frame in frames]
    if len({name.casefold() for name in names}) < len(names) or any(Path(name).name != name for name in names):
        raise InputError(f"{path} gives a name twice, or one with a folder in it: name every frame differently")
    if len({suffix(name) in SUFFIXES for name in names}) > 1:
        raise InputError(f"{path} names files and DICOM series: end all names in {ENDINGS}, or none")
    return frames


def _join_study(first: Path, series: Path) -> None:
    """Put a new series of nobody into the study of the first one: they are frames of one scan."""
    import pydicom

    study = pydicom.dcmread(next(iter(sorted(first.iterdir()))), stop_before_pixels=True)
    for path in series.iterdir():
        image = pydicom.dcmread(path)
        for keyword in ("PatientID", "StudyInstanceUID", "StudyDate", "StudyTime", "FrameOfReferenceUID"):
            setattr(image, keyword, study[keyword].value)
        image.save_as(path)


COMMANDS = {"convert-frames": ("write the frames of a sequence in another format", _options, _run)}
"""Name: one line of help, function that adds the options, function that runs the command."""
