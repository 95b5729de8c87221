"""What the worker process is asked to do, as tasks of `IPv2SlicerLib.jobs.job_runner`: no widgets, and no nodes.

A task gets volumes that were copied out of the scene, and gives volumes to `finish`, which puts them into the scene.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from IPv2Lib.analysis.region_statistics import StrengthStatistics
from IPv2Lib.cli import convert_frames
from IPv2Lib.inference.blending import Blended, blend_and_subtract
from IPv2Lib.inference.options import DenoiseOptions
from IPv2Lib.io import files, formats, outputs, settings_file
from IPv2Lib.io.volume import Volume
from IPv2Lib.purification.settings import Settings
from IPv2Lib.purification.stage_files import read_stages
from IPv2Lib.purification.stages import Stages
from IPv2SlicerLib.jobs.job_runner import Task

from .Export import Source, checkSource


@dataclass(frozen=True, eq=False)
class Denoised:
    """One result: what the network says of a volume, the region table for any strength, and where it came from."""

    networkOutput: Volume
    statistics: StrengthStatistics
    provenance: dict[str, Any]
    blended: Blended  # computed in the job's thread, where it keeps nobody waiting


def denoiseTask(
    title: str,
    volumes: Sequence[Volume],
    titles: Sequence[str],
    names: Sequence[str],
    finish: Callable[[list[Denoised]], Any],
    options: DenoiseOptions,
) -> Task:
    """Denoise volumes in a row, at full strength: other strengths follow without the network.

    Parameters
    ----------
    title : str
        For people.
    volumes : sequence of Volume
        At least one, HU.
    titles : sequence of str
        What messages call each of them.
    names : sequence of str
        Of the node of each, for the provenance.
    finish : callable
        Gets one `Denoised` per volume, in their order.
    options : DenoiseOptions
        The results are blended with their strength.
    """

    inside = [f"{number:04d}.nrrd" for number in range(len(volumes))]

    def prepare(folder: Path) -> list[str | Path]:
        inputs = [folder / name for name in inside]
        for volume, path in zip(volumes, inputs, strict=True):
            files.write(volume, path, compress=False)
        output = _outputs(folder, len(volumes))
        asked = replace(options, strength=1.0, statistics=True, compress=False)
        settings_file.write(asked, folder / "settings.json")
        return ["denoise", *inputs, output[0] if len(volumes) == 1 else output[0].parent, "--settings", "settings.json"]

    def collect(folder: Path, result: dict[str, Any]) -> list[Denoised]:
        found = []
        for volume, name, path, one in zip(
            volumes, names, _outputs(folder, len(volumes)), result.get("results", [result]), strict=True
        ):
            output = files.read(path)
            statistics = StrengthStatistics.from_dict(one["statistics"])
            blended = blend_and_subtract(volume, output, options.strength)
            found.append(Denoised(output, statistics, {**one["provenance"], "input": name}, blended))
        return found

    return Task(title, prepare, collect, finish, titles=dict(zip(inside, titles, strict=True)))


def _outputs(folder: Path, count: int) -> list[Path]:
    if count == 1:
        return [folder / "denoised.nrrd"]
    return [folder / "denoised" / f"{number:04d}.nrrd" for number in range(count)]


def purifyTask(
    title: str,
    uldct: Volume,
    ndct: Volume,
    settings: Settings,
    finish: Callable[[Stages], Any],
    *,
    firstSlice: int = 0,
) -> Task:
    """Compute every stage of a pair; `finish` gets `stages.Stages`. `firstSlice`: see `purification.purify`."""

    def prepare(folder: Path) -> list[str | Path]:
        files.write(uldct, folder / "uldct.nrrd", compress=False)
        files.write(ndct, folder / "ndct.nrrd", compress=False)
        settings_file.write(settings, folder / "settings.json")
        return [
            "purify", folder / "uldct.nrrd", folder / "ndct.nrrd", folder / "stages",
            "--settings", "settings.json", "--first-slice", str(firstSlice), "--no-compress", "--no-pictures",
        ]  # fmt: skip

    def collect(folder: Path, result: dict[str, Any]) -> Stages:
        return read_stages(folder / "stages")

    return Task(title, prepare, collect, finish)


def convertTask(
    title: str,
    volume: Volume,
    target: Path,
    facts: dict[str, Any],
    source: Source | None,
    overwrite: bool,
) -> Task:
    """Write a volume as a file or as a DICOM series, and beside it how it was made; gives the path.

    Parameters
    ----------
    title : str
        For people.
    volume : Volume
        HU.
    target : Path
        A file with a suffix that `ipv2 convert` knows, or for a DICOM series a folder that does not exist.
    facts : dict
        How the volume was made.
    source : Source or None
        Lends a DICOM series its patient and study; None: a new study of nobody.
    overwrite : bool
        Whether a file may be replaced that is no earlier output.
    """

    def prepare(folder: Path) -> list[str | Path]:
        _stage(folder, volume, facts, source)
        # A slash makes every name a folder's, also one with a dot.
        output = target if formats.suffix(target) in formats.SUFFIXES else f"{target}/"
        like = ["--like", folder / SOURCE] if source is not None else []
        return ["convert", folder / VOLUME, output, *like, *(["--overwrite"] if overwrite else [])]

    return Task(title, prepare, lambda folder, result: target, target=target.parent)


def convertFramesTask(
    title: str,
    frames: Sequence[tuple[str, Volume, dict[str, Any], Source | None]],
    target: Path,
) -> Task:
    """Write the frames of a sequence into a folder that does not exist: as `convertTask`, all of them or none.

    Parameters
    ----------
    title : str
        For people.
    frames : sequence of tuple
        Of each the name in the folder, the volume, how it was made, and what lends it patient and study.
    target : Path
        A folder that does not exist.
    """

    def prepare(folder: Path) -> list[str | Path]:
        listed = []
        for number, (name, volume, facts, source) in enumerate(frames):
            place = folder / f"{number:04d}"
            place.mkdir()
            _stage(place, volume, facts, source)
            like = None if source is None else f"{place.name}/{SOURCE}"
            listed.append(convert_frames.Frame(f"{place.name}/{VOLUME}", name, like))
        convert_frames.write_list(listed, folder / "frames.json")
        return ["convert-frames", folder / "frames.json", target]

    return Task(title, prepare, lambda folder, result: target, target=target.parent)


VOLUME, SOURCE = "volume.nrrd", "source"


def _stage(folder: Path, volume: Volume, facts: dict[str, Any], source: Source | None) -> None:
    """Put what is to be converted into a folder of the job: the volume, its history, copies of its DICOM files."""
    files.write(volume, folder / VOLUME, compress=False)
    outputs.write_json(outputs.sidecar_path(folder / VOLUME), facts)
    if source is not None:
        checkSource(source)
        (folder / SOURCE).mkdir()
        for number, file in enumerate(source.files):  # whatever they are called and wherever they lie
            shutil.copyfile(file, folder / SOURCE / f"{number:05d}.dcm")


def phantomTask(
    title: str, *, size: int, slices: int, finish: Callable[[tuple[Volume, Volume]], Any] = lambda pair: pair
) -> Task:
    """Make the synthetic pair; `finish` gets uLDCT and NDCT."""

    def prepare(folder: Path) -> list[str | Path]:
        return ["phantom", folder / "pair", "--size", str(size), "--slices", str(slices)]

    def collect(folder: Path, result: dict[str, Any]) -> tuple[Volume, Volume]:
        return files.read(folder / "pair" / "uldct.nrrd"), files.read(folder / "pair" / "ndct.nrrd")

    return Task(title, prepare, collect, finish)


def devicesTask(title: str, *, model: str | None, engine: str = "auto") -> Task:
    """Look for devices and time the model, or the default one of each; gives what `ipv2 devices` says."""
    arguments = ["devices", "--engine", engine, *(["--model", model] if model else [])]
    return Task(title, lambda folder: arguments, lambda folder, result: result["devices"])
