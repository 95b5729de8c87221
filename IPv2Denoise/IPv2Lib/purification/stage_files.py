"""The stages of a purification as a folder of files: what `ipv2 purify` writes and a dataset item is.

Owns the names of the files. Each volume is written and read by `io.files`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, reason
from ..io import files, outputs
from ..io.volume import Volume, same_grid
from ..progress import NO_PROGRESS, Progress
from .settings import Settings
from .stages import STAGES, Stages

_IMAGES, _MASKS = ([stage.key for stage in STAGES if stage.kind == kind] for kind in ("image", "mask"))


def stage_file(name: str) -> str:
    """File name of a stage, given the name of its attribute of `stages.Stages`.

    Slicer takes a file whose name has "label" as a word for a label map.

    Examples
    --------
    >>> stage_file("cm2"), stage_file("training_input"), stage_file("test_label")
    ('cm2-label.nrrd', 'training-input.nrrd', 'test-reference.nrrd')
    """
    if name == "test_label":
        return "test-reference.nrrd"
    stem = name.replace("_", "-")
    return f"{stem}-label.nrrd" if name in _MASKS else f"{stem}.nrrd"


def write_stages(
    stages: Stages, folder: Path, *, compress: bool = True, progress: Progress = NO_PROGRESS
) -> dict[str, str]:
    """Write every stage that was made into an existing folder.

    Returns
    -------
    dict
        Titles by file name.

    Raises
    ------
    OutputError
        A file cannot be written.
    """
    titles = {}
    steps = list(stages.steps())
    for index, (name, title, image) in enumerate(steps):
        progress.report(index / len(steps), f"writing {title}")
        volume = image if isinstance(image, Volume) else stages.uldct.with_array(image)
        files.write(volume, folder / stage_file(name), compress=compress)
        titles[stage_file(name)] = title
    return titles


def export_stages(stages: Stages, folder: Path, *, compress: bool = True, **facts: Any) -> Path:
    """Make a folder of the stages with its provenance, as `ipv2 purify` does: complete or not at all.

    Parameters
    ----------
    stages : Stages
    folder : path
        New or empty.
    compress : bool
        Smaller files, written more slowly.
    **facts
        More for `provenance.json`, such as the names of the scans.

    Raises
    ------
    InputError
        The folder is not empty.
    OutputError
        It cannot be written.
    """
    folder = Path(folder)
    with outputs.new_folder(folder, "purify", False) as fresh:
        written = write_stages(stages, fresh, compress=compress)
        provenance = outputs.provenance("purify", settings=asdict(stages.settings), files=written, **facts)
        outputs.write_json(fresh / outputs.PROVENANCE_FILE, provenance)
    return folder


def read_stages(folder: str | Path) -> Stages:
    """Read back what `ipv2 purify` or `export_stages` wrote, and compute the two differences that are not in files.

    Raises
    ------
    InputError
        A file is missing or damaged, the files do not lie on one grid, or the settings are of another version.
    """
    folder = Path(folder)
    settings = _read_settings(folder / outputs.PROVENANCE_FILE)
    found = {
        stage.key: files.read(folder / stage_file(stage.key))
        for stage in STAGES
        if stage.kind != "difference" and (not stage.module or getattr(settings, stage.module))
    }
    for name, volume in found.items():
        if not same_grid(volume, found["uldct"]):
            raise InputError(f"{folder / stage_file(name)} does not lie on the grid of the uLDCT: purify again")
    made: dict[str, Any] = {name: found.get(name) for name in _IMAGES}
    made |= {name: found[name].array != 0 for name in _MASKS}
    stages = Stages(**made, labels=found["labels"].array.astype(np.uint8), settings=settings)
    _ = stages.training_input_difference, stages.test_label_difference  # here, where it keeps nobody waiting
    return stages


def _read_settings(path: Path) -> Settings:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))["settings"]
        known = {field.name for field in fields(Settings)}
        return Settings(**{name: value for name, value in values.items() if name in known})
    except OSError as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): give a folder that 'ipv2 purify' made") from error
    except (ValueError, KeyError, TypeError, AttributeError, InputError) as error:
        raise InputError(f"{path} holds no settings of a purification ({error!r}): purify again") from error
