"""Damaged files by the thousand: is each one read right or refused in one line?

    python Testing/benchmarks/fuzz.py [--cases 20000] [--seed 0] [--minutes 30] [--only nrrd nifti ...] [--workers 2]

Small files of every format are mutated: bits flipped, blocks zeroed, bytes cut off or put in, and fields of the header
replaced by numbers that are negative, huge, NaN, by nothing, by text, repeated or left out. DICOM comes in several
transfer syntaxes, as single slices, series with one damaged file, and multi-frame. Each goes through `files.read`;
every fiftieth also through the command line. Bar: 0 tracebacks, crashes, hangs and changed.

- tracebacks: an exception that is no `InputError`, or one of more than one line, or an exit code other than 0 and 2
- crashes: the process of the user died
- hangs: it gave no answer
- changed: read, although the voxels differ from the original in a way that the file's own checksums or lengths could
  have told: the mutation hit the voxels and they are compressed with a checksum (gzip, zlib, bzip2), or changed their
  length, or the header now tells of another number of voxels; in DICOM also where slices are lost without a note

Refusals count again where the process that reads DICOM died, or had to be ended, which the user survives.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import random
import select
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY / "IPv2Denoise"), str(REPOSITORY / "Testing" / "unit")]

from IPv2Lib.cli import commands as cli  # noqa: E402
from IPv2Lib.errors import InputError  # noqa: E402
from IPv2Lib.io import files, reading  # noqa: E402
from IPv2Lib.io.volume import Volume  # noqa: E402

HANG_SECONDS = 20.0
COMMAND_EVERY = 50
OUTCOMES = ("read right", "refused", "tracebacks", "crashes", "hangs", "changed")
BARRED = OUTCOMES[2:]
NUMBERS = (
    "-1", "0", "1", "2", "3", "4", "7", "1000000", "-2147483649", "2147483648", "4294967296", "9223372036854775808",
    "99999999999999999999999", "1e308", "-1e308", "1e-308", "nan", "-nan", "inf", "0.5", "1,5", "0x10", "1_000", "١",
)  # fmt: skip
TEXTS = (
    "",
    " ",
    "text",
    "\\",
    "a\\b",
    "%s%s%n",
    "../../etc",
    "/dev/zero",
    "LIST",
    "(1,0,0)",
    "none",
    '"mm"',
    "é\0",
    "A" * 5000,
)


@dataclass(frozen=True)
class Original:
    """A sound file.

    Attributes
    ----------
    kind : row of the table
    name : of the file that is read
    content : of that file
    beside : further files, by name
    target : name of the file that is mutated
    voxels : where the voxels lie in the target, (start, end)
    checked : whether the voxels have a checksum
    counted : whether bytes that are lost or put in must be noticed; not where numbers are written as text
    others : further files that stay as they are, by name
    read : name of what is read instead of the file, empty for its folder
    """

    kind: str
    name: str
    content: bytes
    beside: dict[str, bytes]
    voxels: tuple[int, int]
    checked: bool
    edit: Callable[[bytes, random.Random], bytes]
    counted: bool = True
    others: dict[str, bytes] = field(default_factory=dict)
    read: str | None = None

    @property
    def target(self) -> str:
        return next(iter(self.beside), self.name)


@dataclass(frozen=True)
class Mutation:
    header: bytes
    target: bytes
    hits_voxels: bool
    changes_length: bool
    what: str


def volume() -> Volume:
    array = np.random.default_rng(0).integers(-1000, 1000, (5, 24, 28)).astype(np.int16)
    return Volume(array, (0.7, 0.8, 2.5), (-10.5, 20.25, 30), (0.8, -0.6, 0, 0.6, 0.8, 0, 0, 0, 1))


def originals() -> list[Original]:
    """One or more of each format."""
    import bz2
    import gzip
    import zlib

    found: list[Original] = []
    scan = volume()
    raw = scan.array.tobytes()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for suffix, kind in ((".nrrd", "NRRD"), (".nii", "NIfTI"), (".nii.gz", "NIfTI"), (".mha", "MetaImage")):
            for compress in (True, False):
                if kind == "NIfTI" and compress != (suffix == ".nii.gz"):
                    continue
                content = files.write(scan, folder / f"a{suffix}", compress=compress).read_bytes()
                checked = compress if kind != "NIfTI" else suffix == ".nii.gz"
                start = {"NRRD": content.find(b"\n\n") + 2, "MetaImage": content.find(b"LOCAL\n") + 6}.get(kind, 352)
                start = 0 if suffix == ".nii.gz" else start
                edit = edit_nifti if kind == "NIfTI" else edit_text
                found.append(Original(kind, f"a{suffix}", content, {}, (start, len(content)), checked, edit))
    header = found[0].content[: found[0].voxels[0] - 1].decode().replace("NRRD0004\n", "")
    lines = [line for line in header.splitlines() if not line.startswith("encoding")]
    for encoding, data, checked in (
        ("gzip", gzip.compress(raw, mtime=0), True), ("bzip2", bz2.compress(raw), True), ("raw", raw, False),
        ("ascii", " ".join(map(str, scan.array.ravel())).encode(), False), ("hex", raw.hex().encode(), False),
    ):  # fmt: skip
        text = "\n".join(["NRRD0004", *lines, f"encoding: {encoding}", "data file: a.dat"]) + "\n"
        counted = encoding != "ascii"
        found.append(
            Original("nhdr", "a.nhdr", text.encode(), {"a.dat": data}, (0, len(data)), checked, edit_text, counted)
        )
    meta = found[4].content[: found[4].voxels[0]].decode()
    data = zlib.compress(raw)
    meta = "".join(f"{line}\n" for line in meta.splitlines() if not line.startswith(("Compressed", "ElementDataFile")))
    for text, voxels, checked in (
        (f"{meta}CompressedData = True\nCompressedDataSize = {len(data)}\nElementDataFile = a.dat\n", data, True),
        (f"{meta}CompressedData = False\nElementDataFile = a.dat\n", raw, False),
    ):
        found.append(
            Original("MetaImage", "a.mhd", text.encode(), {"a.dat": voxels}, (0, len(voxels)), checked, edit_text)
        )
    return found + dicom_originals(scan)


def dicom_originals(scan: Volume) -> list[Original]:
    """Single slices and multi-frame files in several transfer syntaxes, and series of which one file is damaged."""
    from dicom_samples import write_enhanced

    contents: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        series = files.write(scan, folder / "series")
        slices = {path.name: path.read_bytes() for path in sorted(series.iterdir())}
        for label, path in (
            ("slice", series / "0001.dcm"),
            ("multi-frame", write_enhanced(folder / "enhanced.dcm", scan.array.astype(int))),
        ):
            contents |= {f"{label} {syntax}": content for syntax, content in _in_syntaxes(path).items()}
        contents |= {label: content for label, content in _compressed(scan, folder).items()}
    plain = contents["slice implicit"]
    contents["MONOCHROME1"] = contents["slice explicit"].replace(b"MONOCHROME2", b"MONOCHROME1")
    contents["no preamble"] = contents["slice explicit"][132:]
    contents["no meta"] = plain[144 + int.from_bytes(plain[140:144], "little") :]
    found = []
    for label, content in contents.items():
        found.append(Original("DICOM", "a.dcm", content, {}, _dicom_voxels(label, content), False, edit_dicom))
    for damaged, read in (("0001.dcm", ""), ("0003.dcm", ""), ("0005.dcm", ""), ("0005.dcm", "0001.dcm")):
        others = {name: content for name, content in slices.items() if name != damaged}
        voxels = _dicom_voxels("explicit", slices[damaged])
        found.append(
            Original("DICOM", damaged, slices[damaged], {}, voxels, False, edit_dicom, others=others, read=read)
        )
    return found


def _dicom_voxels(label: str, content: bytes) -> tuple[int, int]:
    if "deflated" in label:  # which has no checksum
        return len(content), len(content)
    start = max(content.rfind(b"\xe0\x7f\x10\x00"), content.rfind(b"\x7f\xe0\x00\x10"))
    return start, len(content)


def _in_syntaxes(path: Path) -> dict[str, bytes]:
    """The same file in the transfer syntaxes that pydicom can write."""
    import pydicom
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

    found = {"explicit": path.read_bytes()}
    for label, syntax in (
        ("implicit", ImplicitVRLittleEndian), ("big endian", ExplicitVRBigEndian),
        ("deflated", DeflatedExplicitVRLittleEndian), ("RLE", RLELossless),
    ):  # fmt: skip
        dataset = pydicom.dcmread(path)
        if label == "RLE":
            dataset.compress(RLELossless, generate_instance_uid=False)
        if label == "big endian":
            dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").byteswap().tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
        found[label] = _written(dataset, label == "implicit", label != "big endian")
    return found


def _compressed(scan: Volume, folder: Path) -> dict[str, bytes]:
    """Slices as GDCM compresses them, and pydicom's own files, made CT."""
    import pydicom
    import SimpleITK as sitk
    from pydicom.data import get_testdata_file

    plain = pydicom.dcmread(folder / "series" / "0001.dcm")
    found = {}
    for label in ("JPEG", "JPEG2000"):
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(folder / f"{label}.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor(label)
        writer.Execute(sitk.GetImageFromArray(scan.array[:1]))
        found[label] = folder / f"{label}.dcm"
    for label, file in (
        ("uncompressed of a scanner", "CT_small.dcm"), ("JPEG-LS", "MR_small_jpeg_ls_lossless.dcm"),
        ("JPEG 2000 of an archive", "MR_small_jp2klossless.dcm"), ("lossy JPEG", "JPGExtended.dcm"),
    ):  # fmt: skip
        with contextlib.suppress(ValueError):  # where the package does not hold it
            if path := get_testdata_file(file, download=False):
                found[label] = Path(path)
    contents = {}
    for label, path in found.items():
        dataset = pydicom.dcmread(path)
        if label != "uncompressed of a scanner":
            for element in plain:
                if element.tag.group != 0x7FE0 and element.tag.group != 0x0028:
                    dataset[element.tag] = element
            dataset.PixelSpacing, dataset.RescaleSlope, dataset.RescaleIntercept = [0.7, 0.8], 1, -1024
            dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
        contents[label] = _written(dataset, *dataset.original_encoding)
    return contents


def _written(dataset, implicit: bool, little_endian: bool) -> bytes:
    import pydicom

    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=implicit, little_endian=little_endian, force_encoding=True)
    return buffer.getvalue()


# --- mutations ------------------------------------------------------------------------------------------------------


def mutated(original: Original, dice: random.Random) -> Mutation:
    """One mutation, sometimes two."""
    target = original.beside.get(original.target, original.content)
    header = original.content
    hits, lengthened, what = False, 0, []
    for _ in range(dice.choice((1, 1, 1, 2))):
        way = dice.choice(("flip", "zero", "cut", "insert", "edit", "edit", "edit", "edit"))
        what.append(way)
        if way == "edit":
            header = original.edit(header, dice)
            if not original.beside:
                target = header
            continue
        before = len(target)
        target, place = damaged(target, way, dice)
        if place[1] > original.voxels[0]:
            hits, lengthened = True, lengthened + len(target) - before
        if not original.beside:
            header = target
    return Mutation(header, target, hits, lengthened != 0, "+".join(what))


def damaged(data: bytes, way: str, dice: random.Random) -> tuple[bytes, tuple[int, int]]:
    """Bytes after damage, and the place that was hit."""
    start = dice.randrange(max(1, len(data)) if dice.random() < 0.6 else min(max(1, len(data)), 1000))
    if way == "flip":
        changed = bytearray(data)
        for place in {start, *(min(len(data) - 1, start + dice.randrange(40)) for _ in range(dice.choice((0, 0, 3))))}:
            if changed:
                changed[place] ^= 1 << dice.randrange(8)
        return bytes(changed), (start, start + 40)
    size = dice.choice((1, 2, 4, 64, 512))
    if way == "zero":
        return data[:start] + bytes(len(data[start : start + size])) + data[start + size :], (start, start + size)
    if way == "cut":
        end = start + size if dice.random() < 0.3 else len(data)
        return data[:start] + data[end:], (start, end)
    return data[:start] + dice.randbytes(size) + data[start:], (start, start + size)


def edit_text(content: bytes, dice: random.Random) -> bytes:
    """Change one field of a header of lines."""
    end = (
        content.find(b"\n\n") if content.startswith(b"NRRD") else content.find(b"\n", content.find(b"ElementDataFile"))
    )
    end = end if end > 0 else len(content)
    lines = content[:end].split(b"\n")
    if len(lines) < 2:
        return content
    number = dice.randrange(1, len(lines))
    separator = b": " if content.startswith(b"NRRD") else b" = "
    name, _, value = lines[number].partition(separator)
    way = dice.choice(("number", "number", "number", "text", "drop", "repeat", "word", "swap", "more"))
    words = value.split(b" ")
    new = dice.choice(NUMBERS).encode()
    if way == "number":
        place = dice.randrange(len(words))
        words[place] = _like(words[place], new, dice)
        value = b" ".join(words)
    elif way == "text":
        value = dice.choice(TEXTS).encode()
    elif way == "word":
        value = b" ".join(words[:-1])
    elif way == "more":
        value += b" " + new
    elif way == "swap":
        value = lines[dice.randrange(1, len(lines))].partition(separator)[2]
    lines[number] = name + separator + value
    if way == "drop":
        del lines[number]
    elif way == "repeat":
        lines.insert(number, lines[number])
    return b"\n".join(lines) + content[end:]


def _like(word: bytes, new: bytes, dice: random.Random) -> bytes:
    """`new` in the place of a word, inside of its brackets."""
    if not word.startswith(b"("):
        return new
    parts = word.strip(b"()").split(b",")
    parts[dice.randrange(len(parts))] = new
    return b"(" + b",".join(parts) + b")"


def edit_nifti(content: bytes, dice: random.Random) -> bytes:
    """Change a number of a NIfTI-1 header, also of a compressed one."""
    import gzip

    compressed = content[:2] == b"\x1f\x8b"
    try:
        data = bytearray(gzip.decompress(content) if compressed else content)
        form, place = dice.choice(
            [("h", 40 + 2 * i) for i in range(8)] + [("h", 70), ("h", 72), ("h", 252), ("h", 254), ("B", 123), ("i", 0)]
            + [("f", 76 + 4 * i) for i in range(8)] + [("f", 108), ("f", 112), ("f", 116)]
            + [("f", 256 + 4 * i) for i in range(18)]
        )  # fmt: skip
        if form == "f":
            value = dice.choice((0.0, -1.0, 1.0, 2.0, 0.5, 352.5, 1e30, -1e30, 3e38, 1e-40, math.nan, math.inf, 1e9))
            struct.pack_into("<f", data, place, value)
        else:
            low, high = {"h": (-(2**15), 2**15 - 1), "B": (0, 255), "i": (-(2**31), 2**31 - 1)}[form]
            value = dice.choice((0, 1, 2, 3, 4, 5, 8, 16, 64, 128, 512, low, high, dice.randint(low, high)))
            struct.pack_into(f"<{form}", data, place, max(low, min(high, value)))
    except Exception:  # it was damaged before
        return content
    return gzip.compress(bytes(data), 1, mtime=0) if compressed else bytes(data)


def edit_dicom(content: bytes, dice: random.Random) -> bytes:
    """Replace the value of an element, often one inside a sequence, by other bytes, or leave it out."""
    import warnings

    import pydicom
    from pydicom.dataelem import RawDataElement

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(io.BytesIO(content), force=True)
            implicit, little_endian = dataset.original_encoding
            where = dataset.file_meta if dataset.file_meta and dice.random() < 0.1 else dataset
            while (inner := _sequences(where)) and dice.random() < 0.5:
                where = dice.choice(inner)
            tag = dice.choice([tag for tag in where.keys() if tag.group > 2 or where is not dataset])  # noqa: SIM118
            if dice.random() < 0.15:
                del where[tag]
            else:
                element = where.get_item(tag)
                old = element.value if isinstance(element.value, bytes) else str(element.value).encode()
                value = dice.choice(
                    (dice.choice(NUMBERS).encode(), dice.choice(TEXTS).encode(), old[: len(old) // 2], old + b"\\1",
                     b"\\".join([dice.choice(NUMBERS).encode()] * 3), old.replace(b".", b","), dice.randbytes(4))
                )  # fmt: skip
                value += b" " * (len(value) % 2)
                vr = dice.choice(("DS", "IS", "UI", "LO", "US", "SQ", "UN")) if dice.random() < 0.1 else element.VR
                where._dict[tag] = RawDataElement(tag, vr, len(value), value, 0, implicit, little_endian)
            return _written(dataset, implicit, little_endian)
    except Exception:
        return content


def _sequences(dataset) -> list:
    """The items of all sequences of a data set."""
    return [item for element in dataset if element.VR == "SQ" for item in element.value]


# --- one case -------------------------------------------------------------------------------------------------------


def place_case(folder: Path, original: Original, mutation: Mutation) -> Path:
    """Write the mutated file into an empty folder."""
    for file in folder.iterdir():
        file.unlink()
    (folder / original.name).write_bytes(mutation.header)
    for name in original.beside:
        (folder / name).write_bytes(mutation.target)
    for name, content in original.others.items():
        (folder / name).write_bytes(content)
    return folder / (original.name if original.read is None else original.read)


def judged(path: Path, original: Original, mutation: Mutation, sound: Volume | None) -> tuple[str, str]:
    """An outcome, and what was said."""
    try:
        found, notes = files.read_noted(path)
    except InputError as error:
        text = str(error)
        if "\n" in text or not text.strip():
            return "tracebacks", repr(text)
        if "no end after" in text:
            return "reader hung", text
        return ("reader died" if "reader crash" in text else "refused"), text
    except Exception as error:
        return "tracebacks", f"{type(error).__name__}: {error}"
    if sound is None or (found.array.shape == sound.array.shape and np.array_equal(found.array, sound.array)):
        return "read right", ""
    told = mutation.hits_voxels and (original.checked or (mutation.changes_length and original.counted))
    told |= original.kind != "DICOM" and found.array.size != sound.array.size
    if (told and "edit" not in mutation.what) or (
        original.kind == "DICOM" and not notes and found.array.size < sound.array.size
    ):
        return "changed", f"{found.array.shape} {mutation.what}"
    return "read right", ""


def command(path: Path) -> str:
    """What is wrong with how the command line takes a file; empty if nothing is."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main(["evaluate", str(path), str(path)])
    lines = [line for line in err.getvalue().splitlines() if not line.startswith("ipv2: note: ")]
    if code not in (0, 2) or len(lines) != (code == 2):
        return f"code {code}: {err.getvalue()[-300:]}"
    return ""


def work(seed: int, first: int, last: int, only: list[str]) -> None:
    """Cases of one seed, each told in two lines on stdout: that it begins, and what came out."""
    reading.SECONDS = reading.WORK_SECONDS = HANG_SECONDS / 2
    kinds = [each for each in originals() if not only or each.kind.lower() in only]
    by_kind: dict[str, list[Original]] = {}
    for each in kinds:
        by_kind.setdefault(each.kind, []).append(each)
    sound: dict[int, Volume | None] = {}
    with tempfile.TemporaryDirectory(prefix="ipv2-fuzz-") as name:
        folder = Path(name)
        for number in range(first, last):
            dice = random.Random(f"{seed} {number}")
            original = dice.choice(by_kind[list(by_kind)[number % len(by_kind)]])
            if id(original) not in sound:
                same = Mutation(
                    original.content, original.beside.get(original.target, original.content), False, False, ""
                )
                with contextlib.suppress(InputError):
                    sound[id(original)] = files.read(place_case(folder, original, same))
                sound.setdefault(id(original))
            mutation = mutated(original, dice)
            path = place_case(folder, original, mutation)
            _say(number=number, kind=original.kind)
            start = time.monotonic()
            outcome, text = judged(path, original, mutation, sound[id(original)])
            seconds = time.monotonic() - start
            if number % COMMAND_EVERY == 0 and (problem := command(path)):
                outcome, text = "tracebacks", problem
            _say(outcome=outcome, seconds=seconds, text=text[:500], what=mutation.what)


def _say(**facts: object) -> None:
    os.write(_STDOUT, json.dumps(facts).encode() + b"\n")


_STDOUT = 1


# --- the whole ------------------------------------------------------------------------------------------------------


class Worker:
    """A process that does a share of the cases; started again behind a case that it did not survive."""

    def __init__(self, options: argparse.Namespace, first: int, last: int):
        self._options, self._next, self._last = options, first, last
        self.rows: list[tuple[str, str, float, str, int]] = []
        self._begun: tuple[int, str] | None = None
        self._start()

    def _start(self) -> None:
        self._rest, self._heard = b"", time.monotonic()
        arguments = [str(self._options.seed), str(self._next), str(self._last), *self._options.only]
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--work", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def poll(self) -> bool:
        """Listen for a moment; false once all is done."""
        if select.select([self._process.stdout], [], [], 0.1)[0]:
            data = os.read(self._process.stdout.fileno(), 1 << 16)
            if not data:
                return self._ended("crashes")
            self._heard = time.monotonic()
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in map(json.loads, lines):
                if "kind" in line:
                    self._begun = (line["number"], line["kind"])
                else:
                    number, kind = self._begun
                    self.rows.append((kind, line["outcome"], line["seconds"], line["text"], number))
                    self._begun, self._next = None, number + 1
        elif time.monotonic() - self._heard > 3 * HANG_SECONDS:
            self._process.kill()
            return self._ended("hangs")
        return True

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def _ended(self, why: str) -> bool:
        code = self._process.wait()
        if self._begun is None and code == 0:
            return False
        number, kind = self._begun or (self._next, "?")
        self.rows.append((kind, why, time.monotonic() - self._heard, f"exit code {code}", number))
        self._begun, self._next = None, number + 1
        self._start()
        return True


def table(rows: list[tuple[str, str, float, str, int]]) -> str:
    """Counts by format."""
    columns = (*OUTCOMES, "reader died", "reader hung")
    lines = [f"{'':10}{'cases':>8}" + "".join(f"{name:>13}" for name in columns) + f"{'max s':>8}"]
    kinds = sorted({row[0] for row in rows})
    for kind in [*kinds, "all"]:
        own = [row for row in rows if kind in ("all", row[0])]
        counts = Counter(row[1] for row in own)
        counts["refused"] += counts["reader died"] + counts["reader hung"]
        lines.append(
            f"{kind:10}{len(own):8}" + "".join(f"{counts[name]:13}" for name in columns)
            + f"{max((row[2] for row in own), default=0):8.2f}"
        )  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[], metavar="FORMAT", help="nrrd, nhdr, nifti, metaimage, dicom")
    parser.add_argument("--show", type=int, default=20, metavar="N", help="of the cases that miss the bar")
    options = parser.parse_args()
    options.only = [name.lower() for name in options.only]
    share = -(-options.cases // options.workers)
    shares = [(first, min(first + share, options.cases)) for first in range(0, options.cases, share)]
    workers = [Worker(options, *each) for each in shares]
    until = time.monotonic() + 60 * options.minutes
    going = list(workers)
    while going and time.monotonic() < until:
        going = [worker for worker in going if worker.poll()]
    for worker in going:
        worker.stop()
    rows = [row for worker in workers for row in worker.rows]
    print(f"seed {options.seed}{', stopped by the time' if going else ''}\n{table(rows)}")
    bad = [row for row in rows if row[1] in BARRED]
    for kind, outcome, seconds, text, number in bad[: options.show]:
        print(f"{kind} case {number}: {outcome} after {seconds:.1f} s: {text}")
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--work"]:
        _STDOUT = os.dup(1)
        os.dup2(2, 1)  # what commands print is not for the process that counts
        work(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
    else:
        sys.exit(main())
