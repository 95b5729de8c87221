"""What is done with one complete series: the pipeline of `ipv2 denoise`, as the rule that fits it says."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..inference.options import DenoiseOptions
from ..io import atomic, files
from ..io.dicom_file import Elements, read_dataset
from ..progress import Progress
from .queue import ASIDE, DENOISED, FORWARDED, KEPT, NO_RULE, Queue, State
from .rules import of_series
from .settings import DENOISE, FORWARD, Rule

if TYPE_CHECKING:
    from ..models.bundle import Bundle

MOST_ATTEMPTS = 3
"""How often the work on a series may end the node, e.g. for want of memory, before it is put aside."""

NOT_FOR_DIAGNOSIS = "not for diagnosis"


@dataclass(frozen=True)
class Prepared:
    """A rule with the model and options that it means here."""

    rule: Rule
    model: Bundle | None
    options: DenoiseOptions


@dataclass(frozen=True)
class Done:
    """What became of a series: outcome, result and reason as in `State`; how many slices it has, the number of its
    rule, and who gets the result."""

    outcome: str
    slices: int
    rule: int | None
    result: str = ""
    reason: str = ""
    destinations: tuple[str, ...] = ()
    urgent: bool = False


def prepare(rules: Sequence[Rule]) -> list[Prepared]:
    """Load the models of rules; `InputError` if one is not there, or cannot run here."""
    from ..inference.denoise import choose_device, residual_noise_of
    from ..inference.engines import choose_engine
    from ..models import bundle

    prepared = []
    for rule in rules:
        how, model = rule.denoise, None
        if rule.action == DENOISE:
            device = choose_device(how.device, how.engine)
            model = bundle.load(how.model or bundle.default_name(device))
            choose_engine(model, how.engine, device)
            noise = residual_noise_of(model, how.residual_noise_hu)
            # Of so many scans, hardly one would still be in the cache.
            how = replace(how, device=device, residual_noise_hu=noise, cache=False)
        prepared.append(Prepared(rule, model, how))
    return prepared


def process(queue: Queue, key: str, rules: Sequence[Prepared], progress: Progress) -> Done:
    """Do with the slices of a series that are there now what a rule says, and promise the result.

    Raises
    ------
    OutputError
        The queue cannot be written; the series stays as it is.
    Cancelled
    """
    with queue.snapshot(key) as (folder, revision):
        before = queue.state(key)
        attempts = before.attempts + 1 if before.begun == revision else 1
        begun = replace(before, begun=revision, attempts=attempts)
        queue.write_state(key, begun)
        done = _done(queue, key, rules, folder, begun, progress)
        queue.promise(done.result, done.destinations, done.urgent)
        queue.write_state(key, State(revision, done.outcome, done.reason, done.result or before.result))
    return done


def _done(queue: Queue, key: str, rules: Sequence[Prepared], folder: Path, state: State, progress: Progress) -> Done:
    slices = len(list(folder.iterdir()))
    number: int | None = None
    try:
        number = of_series([each.rule for each in rules], folder)[1]
        if number is None:
            return Done(NO_RULE, slices, None)
        chosen = rules[number]
        if chosen.rule.action not in (DENOISE, FORWARD):
            return Done(KEPT, slices, number)
        if state.attempts > MOST_ATTEMPTS:
            raise InputError(f"work on it was begun {MOST_ATTEMPTS} times, and each time the node ended")
        if chosen.model is None:
            result, outcome = _as_it_is(queue, key, folder, state.begun), FORWARDED
        else:
            result, outcome = _denoised(queue, key, folder, state.result, chosen, progress), DENOISED
    except InputError as error:
        if number is None or not rules[number].rule.forward_failed:
            return Done(ASIDE, slices, number, reason=str(error))
        rule = rules[number].rule
        result = _as_it_is(queue, key, folder, state.begun)
        return Done(ASIDE, slices, number, result, str(error), rule.destinations, rule.urgent)
    return Done(outcome, slices, number, result, "", chosen.rule.destinations, chosen.rule.urgent)


def _as_it_is(queue: Queue, key: str, folder: Path, revision: str) -> str:
    name = f"{key}-{revision[:16]}"
    if not queue.result(name).exists():
        with queue.new_result(name) as place:
            place.mkdir()
            for path in folder.iterdir():
                atomic.linked(path, place / path.name)
    return name


def _denoised(queue: Queue, key: str, folder: Path, earlier: str, chosen: Prepared, progress: Progress) -> str:
    """The name of the result, which is made unless it is there: the same input and options have the same name."""
    from ..analysis import suitability
    from ..inference.cohort import deciding, denoise_to_file, described, identity

    model, options = chosen.model, chosen.options
    assert model is not None
    volume, notes = files.read_noted(folder)
    label = f"{chosen.rule.label or described(model, options)}, {NOT_FOR_DIAGNOSIS}"
    decided = identity(deciding(volume.sha256(), model, options))
    name = f"{key}-{hashlib.sha256(f'{decided} {label}'.encode()).hexdigest()[:16]}"
    if queue.result(name).exists():
        return name
    if earlier and (uid := _series_uid(queue.names_of(earlier))):
        label += f"; replaces series {uid}"
    with queue.new_result(name) as place:
        denoise_to_file(
            volume, folder, f"{place}/", model, options,
            concerns=[*notes, *suitability.concerns(volume, model.card)], description=label, progress=progress,
        )  # fmt: skip
    return name


def _series_uid(paths: Sequence[Path]) -> str:
    if not paths:
        return ""
    return Elements([read_dataset(paths[0], ["SeriesInstanceUID"])], "the result").text("SeriesInstanceUID")
