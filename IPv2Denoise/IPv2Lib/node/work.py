"""What is done with one complete series: the pipeline of `ipv2 denoise`, as the rule that fits it says."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import Cancelled, InputError, IPv2Error, OutputError
from ..inference.options import DenoiseOptions
from ..io import atomic, files
from ..io.dicom_file import Elements, read_dataset
from ..progress import Progress
from .queue import ASIDE, DENOISED, FORWARDED, KEPT, NO_RULE, Queue, State
from .rules import of_series
from .settings import DENOISE, KEEP, Rule

if TYPE_CHECKING:
    from ..models.bundle import Bundle

MOST_ATTEMPTS = 5
"""How often the work on a series may end the node, e.g. for want of memory, before it is put aside."""

NOT_FOR_DIAGNOSIS = "not for diagnosis"

_LONGEST_LABEL = 64 - len(f", {NOT_FOR_DIAGNOSIS}")  # of a series description


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
    with queue.snapshot(key) as (folder, revision), queue.attempt(key, revision) as attempt:
        before = queue.state(key)
        work = _Work(queue, key, folder, revision, before.result, attempt, progress)
        done = work.done(rules)
        queue.promise(done.result, done.destinations, done.urgent)
        queue.write_state(key, State(revision, done.outcome, done.reason, done.result or before.result))
    return done


@dataclass(frozen=True)
class _Work:
    """On the slices that lie in a folder; `earlier` is the name of an earlier result of the series."""

    queue: Queue
    key: str
    folder: Path
    revision: str
    earlier: str
    attempt: int
    progress: Progress

    def done(self, rules: Sequence[Prepared]) -> Done:
        slices = len(list(self.folder.iterdir()))
        try:
            number = of_series([each.rule for each in rules], self.folder)[1]
        except InputError as error:
            return Done(ASIDE, slices, None, reason=str(error))
        if number is None:
            return Done(NO_RULE, slices, None)
        rule, outcome, why = rules[number].rule, FORWARDED, ""
        if rule.action == KEEP:
            return Done(KEPT, slices, number)
        if rule.action == DENOISE:
            try:
                result, outcome = self._denoised(rules[number]), DENOISED
            except (Cancelled, OutputError):
                raise
            except IPv2Error as error:
                outcome, why = ASIDE, str(error)
                if not rule.forward_failed:
                    return Done(outcome, slices, number, reason=why)
        if outcome != DENOISED:
            result = self._as_it_is()
        return Done(outcome, slices, number, result, why, rule.destinations, rule.urgent)

    def _as_it_is(self) -> str:
        name = f"{self.key}-{self.revision[:16]}"
        if not self.queue.result(name).exists():
            with self.queue.new_result(name) as place:
                place.mkdir()
                for path in self.folder.iterdir():
                    atomic.linked(path, place / path.name)
        return name

    def _denoised(self, chosen: Prepared) -> str:
        """The name of the result, which is made unless it is there: the same input and options have the same name."""
        from ..analysis import suitability
        from ..inference.cohort import deciding, denoise_to_file, described, identity

        if self.attempt > MOST_ATTEMPTS:
            raise InputError(f"work on it was begun {MOST_ATTEMPTS} times, and each time the node ended")
        model, options = chosen.model, chosen.options
        assert model is not None
        volume, notes = files.read_noted(self.folder)
        label = f"{(chosen.rule.label or described(model, options))[:_LONGEST_LABEL]}, {NOT_FOR_DIAGNOSIS}"
        decided = identity(deciding(volume.sha256(), model, options))
        name = f"{self.key}-{hashlib.sha256(f'{decided} {label}'.encode()).hexdigest()[:16]}"
        if self.queue.result(name).exists():
            return name
        if self.earlier and (uid := _series_uid(self.queue.names_of(self.earlier))):
            label += f"; replaces series {uid}"
        with self.queue.new_result(name) as place:
            denoise_to_file(
                volume, self.folder, f"{place}/", model, options,
                concerns=[*notes, *suitability.concerns(volume, model.card)], description=label,
                progress=self.progress,
            )  # fmt: skip
        return name


def _series_uid(paths: Sequence[Path]) -> str:
    if not paths:
        return ""
    return Elements([read_dataset(paths[0], ["SeriesInstanceUID"])], "").text("SeriesInstanceUID")
