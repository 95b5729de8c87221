"""Compare denoisers on the test scans of a purified data set.

Owns the order of the work, and what is kept so that an interrupted comparison goes on. What is measured and how it is
averaged belongs to `scores`, what a name stands for to `methods`, the files to `comparison_files`, the picture to
`comparison_plot`.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from .. import packages
from ..datasets.shards import REFERENCES, SHARDS_FOLDER, PurifiedDataset, Shard
from ..errors import InputError
from ..io import atomic, outputs
from ..io.locks import exclusive
from ..io.volume import Volume
from ..progress import NO_PROGRESS, Progress
from . import comparison_files
from .comparison_files import OWN
from .measures import SUMS
from .methods import find_denoisers
from .scores import Origin, Pool, Reference, SliceSums
from .settings import ComparisonSettings

if TYPE_CHECKING:
    from ..inference.denoisers import Denoiser
    from .distances import Features

_FORMAT = 1  # of the parts; another number where anything is measured in another way
_MOST_PART_BYTES = 1 << 30  # far more than the sums and features of a scan need


@dataclass(frozen=True)
class Comparison:
    """What a comparison found.

    Attributes
    ----------
    folder : Path
    rows : list of dict
        As in table.csv: method, reference, patients, slices, resampled; and for each of `measures.MEASURES` its name,
        name + " low" and name + " high", the limits of the 95 % interval. None where nothing could be measured.
    files : dict of str to Path
        See `comparison_files`.
    notes : list of str
        What a reader should know, such as intervals from few patients.

    Examples
    --------
    ::

        found = compare("dataset", ["input", "runs/ipv1", "runs/ipv2", "ipv2-fast"], "comparison")
        found.row("ipv2", "ground_truth")["rmse_lung_hu"]
    """

    folder: Path
    rows: list[dict[str, Any]]
    files: dict[str, Path]
    notes: list[str]

    def row(self, method: str, reference: str) -> dict[str, Any]:
        """The row of a method (`KeyError` if there is none)."""
        for row in self.rows:
            if (row["method"], row["reference"]) == (method, reference):
                return row
        raise KeyError((method, reference))


@exclusive("compare")
def compare(
    dataset: PurifiedDataset | Path | str,
    methods: Sequence[str | Path],
    folder: Path | str,
    *,
    progress: Progress = NO_PROGRESS,
    **options: Any,
) -> Comparison:
    """Denoise the scans of a split with each method, measure what came out, and write it into a folder.

    The same call again measures only what is new: more methods, changed weights, what an interruption left.

    Parameters
    ----------
    dataset : PurifiedDataset or path
    methods : sequence of str or path
        See `methods.find_denoisers`.
    folder : path
        Where the files go; new, empty, or that of an earlier comparison.
    progress : Progress
        What was measured before a stop is kept.
    **options
        Fields of `settings.ComparisonSettings`.

    Raises
    ------
    InputError
        No such data set, option or method; nothing to score against; a folder that holds something else; a package that
        is missing.
    OutputError
        The folder cannot be written.
    IPv2Error
        As `denoise.denoise`.
    Cancelled
        If `progress` was cancelled.
    """
    from ..inference.denoise import choose_device
    from .distances import load_features

    check_packages()
    settings = ComparisonSettings(**options)
    folder = Path(folder)
    dataset = dataset if isinstance(dataset, PurifiedDataset) else PurifiedDataset.read(dataset)
    shards = scans_to_score(dataset, settings.split)
    references = _references(shards, settings.reference)
    outputs.check_folder(folder, "compare", True, dataset.folder / SHARDS_FOLDER)
    device = choose_device(settings.device)
    network = load_features(settings.features)
    kept = {name: value for name, value in asdict(settings).items() if name not in ("reference", "flow_steps")}
    kept |= {"references": references, "features": network.name, "device": device}

    with atomic.temporary_folder() as temporary:
        found = find_denoisers(methods, temporary, settings.flow_steps, device)
        parts = outputs.resumable_folder(folder, "compare", kept)
        scans = [
            _Scan(shard, references, settings.slices_per_case, settings.label_strategy, network) for shard in shards
        ]
        results: dict[str, list[dict[str, SliceSums]]] = {}
        for part, scan, method in _all(scans, found, progress.part(0.0, 0.97)):
            sums = scan.measured(method, parts, part)
            results.setdefault(OWN if method is None else method.name, []).append(sums)
    progress.report(0.97, "intervals and picture")
    pools = _pools(results, scans, references, settings.bootstrap, settings.seed)
    data = {
        "folder": dataset.folder.resolve().name,
        "settings": dataset.settings,
        "shards": [scan.shard.key for scan in scans],
    }
    facts = kept | {"dataset": data, "methods": {method.name: method.facts for method in found}}
    with atomic.changed_folder(folder) as changed:  # no table of one comparison beside the scores of another
        rows, notes = comparison_files.write(changed, pools, facts)
    progress.report(1.0, "compared")
    return Comparison(folder, rows, comparison_files.paths(folder), notes)


def scans_to_score(dataset: PurifiedDataset, split: str) -> list[Shard]:
    """The shards of a split; `InputError` if there are none."""
    shards = dataset.split(split)
    if not shards:
        raise InputError(
            f"{dataset.folder} has no scans for {split}: prepare it with more patients, or give another split"
        )
    return shards


def check_packages() -> None:
    """Refuse (`InputError`) before long work what lacks a package after it."""
    for name in ("torch", "torchmetrics", "matplotlib"):
        packages.need(name, "comparing")


class _Scan:
    """The scan of a shard, what it is measured against, and in which slices."""

    def __init__(
        self, shard: Shard, references: Sequence[str], most: int | None, label_strategy: str, features: Features
    ):
        self.shard = shard
        self.references = [name for name in references if name == "label" or shard.has("ground_truth")]
        count = shard.shape[0]
        most = count if most is None else min(most, count)
        self.slices = [int((index + 0.5) * count / most) for index in range(most)]
        self._label_strategy = label_strategy
        self._features = features

    @property
    def origin(self) -> Origin:
        return Origin(self.shard.case, self.shard.patient, self.shard.key, tuple(self.slices))

    def measured(self, method: Denoiser | None, parts: Path, progress: Progress) -> dict[str, SliceSums]:
        """What a method, or the reference itself, gives by reference; read where it was measured before."""
        path = parts / f"{self._key(method)}.npz"
        sums = _read_part(path, self.references)
        if sums is None:
            if method is None:
                sums = {name: reference.measure(reference.image) for name, reference in self._prepared.items()}
            else:
                result = method.denoise(self._volume, slices=self.slices, progress=progress)
                images = result.array[self.slices]
                sums = {name: reference.measure(images) for name, reference in self._prepared.items()}
            _write_part(path, sums)
        return sums

    def release(self) -> None:
        """Forget the images."""
        for name in ("_prepared", "_volume"):
            vars(self).pop(name, None)

    @cached_property
    def _volume(self) -> Volume:
        return Volume(self.shard.scan(np.s_[:]), self.shard.spacing)

    @cached_property
    def _prepared(self) -> dict[str, Reference]:
        images = {
            "ground_truth": lambda: cast(np.ndarray, self.shard.ground_truth)[self.slices],
            "label": lambda: self.shard.test_label(self.slices, self._label_strategy),
        }
        labels = np.asarray(self.shard.regions[self.slices])
        return {
            name: Reference(images[name](), labels, self.shard.spacing[0], self._features) for name in self.references
        }

    def _key(self, method: Denoiser | None) -> str:
        facts = [
            _FORMAT, self.shard.key, self.slices, self.references, self._label_strategy, self._features.key,
            OWN if method is None else method.key,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]


def _all(
    scans: Sequence[_Scan],
    methods: Sequence[Denoiser],
    progress: Progress,
) -> Iterator[tuple[Progress, _Scan, Denoiser | None]]:
    """Every method on every scan, the reference itself first; with the share of the progress of each."""
    whole = len(scans) * (len(methods) + 1)
    for number, scan in enumerate(scans):
        for place, method in enumerate([None, *methods]):
            progress.check("stopped; the same command again goes on with what was measured")
            done = number * (len(methods) + 1) + place
            text = f"{OWN if method is None else method.name}, {scan.shard.case} ({number + 1} of {len(scans)})"
            progress.report(done / whole, text)
            yield progress.part(done / whole, (done + 1) / whole, text), scan, method
        scan.release()


def _pools(
    results: dict[str, list[dict[str, SliceSums]]],
    scans: Sequence[_Scan],
    references: Sequence[str],
    bootstrap: int,
    seed: int,
) -> dict[tuple[str, str], Pool]:
    """By method and reference."""
    pools = {}
    for name in references:
        having = [index for index, scan in enumerate(scans) if name in scan.references]
        origins = [scans[index].origin for index in having]
        for method, sums in results.items():
            pools[method, name] = Pool([sums[index][name] for index in having], origins, bootstrap, seed)
    return pools


def _references(shards: Sequence[Shard], reference: str) -> list[str]:
    has_ground_truth = any(shard.has("ground_truth") for shard in shards)
    if reference == "ground_truth" and not has_ground_truth:
        raise InputError("no scan of this split has a ground truth, as all are real: score against the label")
    return [name for name in REFERENCES if reference in ("both", name) and (name == "label" or has_ground_truth)]


def _read_part(path: Path, references: Sequence[str]) -> dict[str, SliceSums] | None:
    """What `_write_part` wrote; None if it is not there or damaged."""
    try:
        with zipfile.ZipFile(path) as packed:
            if sum(each.file_size for each in packed.infolist()) > _MOST_PART_BYTES:
                return None
        with np.load(path, allow_pickle=False) as file:
            found = {}
            for name in references:
                own = {key.removeprefix(f"{name}/"): file[key] for key in file.files if key.startswith(f"{name}/")}
                if not own.keys() >= SUMS.keys():
                    return None  # there are more measures now
                arrays = {key: own.pop(key) for key in ("features", "reference_features", "feature_slices")}
                found[name] = SliceSums(own, **arrays)
            return found
    except (OSError, KeyError, ValueError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error):
        return None


def _write_part(path: Path, sums: dict[str, SliceSums]) -> None:
    arrays: dict[str, Any] = {}
    for name, one in sums.items():
        more = {key: getattr(one, key) for key in ("features", "reference_features", "feature_slices")}
        arrays |= {f"{name}/{key}": value for key, value in (one.sums | more).items()}
    with atomic.new_file(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
