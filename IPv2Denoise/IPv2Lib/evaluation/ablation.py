"""What each module of the purification is worth: the same network trained on each kind of pairs, and compared.

Owns which runs are trained, that they differ in nothing but what is asked, and how seeds become a mean with a spread.
Training is `training`'s, scoring `comparison`'s, the picture `ablation_plot`'s.

====================== ==========================================================================================
ablation.csv           a row per network, strategy and reference: mean, lowest and highest of the seeds
ablation.png           the main measures
provenance.json        data, settings, and what came out in words
NETWORK-STRATEGY-SEED/ a training run each
comparison/            the scores of every run, see `comparison_files`
====================== ==========================================================================================
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..datasets.shards import REFERENCES, SHARDS_FOLDER, PurifiedDataset
from ..datasets.strategies import PURIFIED
from ..errors import Cancelled, InputError
from ..inference.denoisers import INPUT
from ..io import atomic, outputs
from ..io.locks import exclusive
from ..networks import registry
from ..progress import NO_PROGRESS, Progress
from ..training.run_folder import COMPLETED, is_run, read_run
from . import ablation_plot
from .comparison import Comparison, check_packages, compare, scans_to_score
from .measures import BY_NAME, MEASURES, spread
from .settings import AblationSettings

if TYPE_CHECKING:
    from ..training.settings import TrainingSettings

ROWS = PURIFIED
"""The strategies of the paper's ablation, in its order: the last one is to be best, the first one worst."""

JUDGED = ("sigma_background_hu", "rmse_lung_hu")
"""The measures by which the order is judged, lower ones better: the noise that *Remove Background* is to take away, and
the error that *Add noise* is to."""

FILES = {"table": "ablation.csv", "plot": "ablation.png", "provenance": outputs.PROVENANCE_FILE}

_BUDGET = ("steps", "batch", "patch", "learning_rate")  # of `AblationSettings`: what all runs have in common
_TRAINED = 0.9  # of the progress, when all runs are


@dataclass(frozen=True)
class Ablation:
    """What an ablation found.

    Attributes
    ----------
    folder : Path
    rows : list of dict
        As in ablation.csv: network, strategy, reference, seeds; and for each of `measures.MEASURES` its name (the mean
        over seeds), name + " min" and name + " max". None where nothing could be measured.
    verdicts : list of str
        The order that was found by each of `JUDGED`, as measured, and whether it is the paper's.
    files : dict of str to Path
    comparison : Comparison
        Of every single run.
    """

    folder: Path
    rows: list[dict[str, Any]]
    verdicts: list[str]
    files: dict[str, Path]
    comparison: Comparison

    def row(self, strategy: str, reference: str, network: str | None = None) -> dict[str, Any]:
        """A row (`KeyError` if there is none); the network may be left out where there is only one."""
        for row in self.rows:
            if (row["strategy"], row["reference"]) == (strategy, reference) and network in (None, row["network"]):
                return row
        raise KeyError((strategy, reference, network))


@exclusive("ablation")
def ablate(
    dataset: PurifiedDataset | Path | str,
    folder: Path | str,
    *,
    progress: Progress = NO_PROGRESS,
    late: Callable[[str], None] | None = None,
    **options: Any,
) -> Ablation:
    """Train every network by every strategy with seeds 0, 1, ..., and compare.

    All runs have the same budget, and runs of one seed see the same patches in the same order; the blend T is 0. The
    weights after the last step count, not the best ones of a validation. The same call again goes on after a stop:
    finished runs are not trained again, interrupted ones are resumed; strategies, networks and seeds may be added.

    Parameters
    ----------
    dataset : PurifiedDataset or path
        With scans for training and for `split`.
    folder : path
        New, empty, or of an earlier ablation of this data set with this budget.
    progress : Progress
    late
        As for `training.train`.
    **options
        Fields of `settings.AblationSettings`; steps, batch, patch and learning rate are the budget.

    Raises
    ------
    InputError
        What `training.train` and `comparison.compare` refuse; a folder that holds something else.
    Cancelled
        If `progress` was cancelled.
    """
    from ..training.loop import train

    check_packages()
    folder = Path(folder)
    settings = AblationSettings(**options)
    dataset = dataset if isinstance(dataset, PurifiedDataset) else PurifiedDataset.read(dataset)
    scans_to_score(dataset, settings.split)
    plan = _plan(dataset, settings)
    _begin(folder, dataset, settings)
    training = progress.part(0.0, _TRAINED)
    for place, (name, of_run) in enumerate(plan.items()):
        run = folder / name
        text = f"training {name} ({place + 1} of {len(plan)})"
        training.report(place / len(plan), text)
        if is_run(run):
            _check_run(run, of_run, dataset)
            if read_run(run).state == COMPLETED:
                continue
        try:
            train(
                dataset, run, of_run, resume=is_run(run),
                progress=training.part(place / len(plan), (place + 1) / len(plan), text),
                late=late,
            )  # fmt: skip
        except Cancelled as stop:
            raise Cancelled("stopped; the same command again goes on with what was trained") from stop
    found = compare(
        dataset, [INPUT, *(folder / name for name in plan)], folder / "comparison", split=settings.split,
        slices_per_case=settings.slices_per_case, bootstrap=0, device=settings.device,
        progress=progress.part(_TRAINED, 1.0, "comparing"),
    )  # fmt: skip
    rows = _rows(found, plan)
    return _written(folder, rows, found, plan)


def verdicts(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The order of the strategies by each network and each of `JUDGED`, best first, and whether it is the paper's.

    Parameters
    ----------
    rows : sequence of dict
        Of an ablation; those of the first reference count.
    """
    reference = rows[0]["reference"]
    found = []
    for network in dict.fromkeys(row["network"] for row in rows if row["network"]):
        own = [row for row in rows if (row["network"], row["reference"]) == (network, reference)]
        for name in JUDGED:
            known = sorted((row for row in own if row[name] is not None), key=lambda row: row[name])
            if len(known) > 1:
                order = ", ".join(f"{row['strategy']} {spread(row, BY_NAME[name], ' min', ' max')}" for row in known)
                head = f"{network}, {BY_NAME[name].title_with_unit}, against the {REFERENCES[reference]}"
                found.append(f"{head}, best first: {order}. {_judged(known, name)}.")
    return found


def _plan(dataset: PurifiedDataset, ablation: AblationSettings) -> dict[str, TrainingSettings]:
    """Settings by the name of the run, seed by seed, so that a stop leaves whole comparisons."""
    from ..training.settings import TrainingSettings

    strategies, names, arguments = ablation.strategies, ablation.networks, ablation.arguments
    if not strategies or not names:
        raise InputError("there is nothing to train: name at least one strategy and one network")
    for kind, given in (("strategy", strategies), ("network", names)):
        if len(set(given)) < len(given):
            raise InputError(f"a {kind} is given twice: {', '.join(given)}")
    if arguments and len(names) > 1:
        raise InputError("arguments are those of one network: give a single one with them")
    plan = {}
    for seed in range(ablation.seeds):
        for network in names:
            registry.build(network, **arguments)
            for strategy in strategies:
                plan[f"{network}-{strategy}-{seed}"] = TrainingSettings(
                    network=network, arguments=arguments, strategy=strategy, seed=seed, device=ablation.device,
                    blend=0.0 if strategy in ROWS else None, validate_every=ablation.steps,
                    **{name: getattr(ablation, name) for name in _BUDGET},
                )  # fmt: skip
    for shard in dataset.split("train"):
        for strategy in strategies:
            if reason := shard.lacks(strategy):
                raise InputError(reason)
    return plan


def _begin(folder: Path, dataset: PurifiedDataset, settings: AblationSettings) -> None:
    """Refuse a folder with runs of other data or another budget; leave a mark for the next time."""
    outputs.check_folder(folder, "ablation", True, dataset.folder / SHARDS_FOLDER)
    keys = sorted((shard.key, shard.split) for shard in dataset.shards)
    same = {
        "data": hashlib.sha256(json.dumps(keys).encode()).hexdigest(),
        **{name: getattr(settings, name) for name in _BUDGET},
        "arguments": json.loads(json.dumps(settings.arguments)),
    }
    path = folder / outputs.PROVENANCE_FILE
    if path.is_file():
        before = json.loads(path.read_text(encoding="utf-8")).get("same", {})
        for name, value in same.items():
            if before.get(name) != value:
                what = "of other data" if name == "data" else f"with {name} {before.get(name)}, not {value}"
                raise InputError(f"{folder} holds an ablation {what}: give another folder")
        return
    facts = outputs.provenance("ablation", same=same, dataset=dataset.folder.resolve().name, split=settings.split)
    with atomic.new_folder(Path(os.path.realpath(folder))) as fresh:
        outputs.write_json(fresh / outputs.PROVENANCE_FILE, facts)


def _check_run(run: Path, settings: TrainingSettings, dataset: PurifiedDataset) -> None:
    """Refuse a run that is in the place of one of ours: with other settings, or on other data."""
    from ..training.settings import check_same

    check_same(run, settings)
    data = read_run(run).data
    for split in ("train", "validation"):
        keys = sorted(entry["shard"] for entry in data.get(split, []))
        if keys != sorted(shard.key for shard in dataset.split(split)):
            raise InputError(f"{run} was trained on other data than {dataset.folder}: give another folder")


def _rows(found: Comparison, plan: dict[str, TrainingSettings]) -> list[dict[str, Any]]:
    references = dict.fromkeys(row["reference"] for row in found.rows)
    kinds = dict.fromkeys((settings.network, settings.strategy) for settings in plan.values())
    rows = []
    for reference in references:
        rows.append(_row("", INPUT, reference, [found.row(INPUT, reference)], 0))
        for network, strategy in kinds:
            names = [n for n, s in plan.items() if (s.network, s.strategy) == (network, strategy)]
            rows.append(_row(network, strategy, reference, [found.row(name, reference) for name in names], len(names)))
    return rows


def _row(network: str, strategy: str, reference: str, runs: Sequence[dict[str, Any]], seeds: int) -> dict[str, Any]:
    row: dict[str, Any] = {"network": network, "strategy": strategy, "reference": reference, "seeds": seeds}
    for measure in MEASURES:
        values = [run[measure.name] for run in runs if run[measure.name] is not None]
        for name, of in (("", np.mean), (" min", np.min), (" max", np.max)):
            row[f"{measure.name}{name}"] = float(of(values)) if values else None
    return row


def _judged(known: Sequence[dict[str, Any]], name: str) -> str:
    """What the order, best first, says of the paper's claim; a difference within the spread of the seeds is none."""
    strategies = [row["strategy"] for row in known]
    if "ipv2" not in strategies:
        return f"{strategies[0]} is best"
    if strategies[0] != "ipv2":
        best, both = known[0], known[strategies.index("ipv2")]
        apart = both[f"{name} min"] > best[f"{name} max"]
        return f"{strategies[0]} is best, not ipv2" + ("" if apart else ", within the spread of the seeds")
    apart = known[1][f"{name} min"] > known[0][f"{name} max"]
    text = "ipv2 is best" + ("" if apart else ", within the spread of the seeds")
    if "ipv1" in strategies[:-1]:
        text += f"; {strategies[-1]} is worst, not ipv1"
    return text


def _written(
    folder: Path, rows: list[dict[str, Any]], found: Comparison, plan: dict[str, TrainingSettings]
) -> Ablation:
    judged = verdicts(rows)
    files = {key: folder / name for key, name in FILES.items()}
    columns = list(rows[0])
    cells = (["" if row[c] is None else _rounded(row[c]) for c in columns] for row in rows)
    outputs.write_csv(files["table"], columns, cells)
    seeds = {(s.network, s.strategy, s.seed): name for name, s in plan.items()}
    runs = {key: found.row(n, rows[0]["reference"]) for key, n in seeds.items()}
    ablation_plot.draw(files["plot"], rows, runs, JUDGED)
    before = json.loads(files["provenance"].read_text(encoding="utf-8"))
    more = {"runs": list(plan), "verdicts": judged, "notes": found.notes}
    outputs.write_json(files["provenance"], before | more)
    return Ablation(folder, rows, judged, files, found)


def _rounded(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value
