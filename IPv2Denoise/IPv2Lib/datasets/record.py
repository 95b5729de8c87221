"""What a data set consists of while it is prepared: written after every shard, so that a stop loses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..io import outputs
from ..parallel import cluster
from . import owner_files
from .cases import Case
from .orders import Order
from .patients import key_mark
from .settings import PreparationSettings
from .shards import DATASET_FILE, FORMAT, SHARDS_FOLDER, THUMBNAIL_FILE, read_shard

KEY = "patients_key"
"""Says in `DATASET_FILE` with which key patients are hidden."""


@dataclass(frozen=True)
class Prepared:
    """What became of a case.

    Attributes
    ----------
    case : Case
        With patient and split filled in.
    status : "purified", "cached" (nothing had to be done) or "failed"
    message : why it failed, or what to know about it; else empty
    keys : of its shards
    thumbnail : of the first of them; None if it failed
    """

    case: Case
    status: str
    message: str = ""
    keys: tuple[str, ...] = ()
    thumbnail: Path | None = None


def common_facts(settings: PreparationSettings) -> dict[str, Any]:
    """What the record says of the data set as a whole."""
    facts = {
        "format": FORMAT,
        "split": {"fractions": list(settings.fractions), "seed": settings.seed},
        "settings": asdict(settings.purification),
        "split_projections": settings.split_projections,
        KEY: key_mark(),
    }
    return outputs.provenance("prepare", facts)


class Record:
    """What the data set consists of by now, written after every shard."""

    def __init__(self, folder: Path, cases: Sequence[Case], orders: dict[str, list[Order]], head: dict[str, Any]):
        self.folder, self.cases, self.orders, self.head = folder, cases, orders, head
        self.have: set[str] = set()
        self.failed: dict[str, str] = {}
        self.notes: dict[str, str] = {}
        for case_orders in orders.values():
            for order in case_orders:
                with suppress(InputError):
                    read_shard(order.folder / order.key)
                    self.have.add(order.key)
        self.cached = frozenset(self.have)

    def missing(self) -> list[Order]:
        """What is to be made, of cases that have not failed."""
        return [
            order
            for case in self.cases
            if case.name not in self.failed
            for order in self.orders[case.name]
            if order.key not in self.have
        ]

    def examined(self, outcome: cluster.Outcome) -> None:
        kind = self.failed if outcome.error else self.notes
        kind[outcome.item.name] = outcome.error or outcome.value

    def made(self, outcome: cluster.Outcome) -> None:
        order = outcome.item
        if outcome.error:
            self.failed[order.case.name] = outcome.error
        else:
            self.have.add(order.key)
        self.write()

    def write(self) -> None:
        if not self.have:
            return
        shards = [
            {"key": order.key, "case": case.name, "patient": case.patient, "split": case.split}
            for case in self.cases
            for order in self.orders[case.name]
            if order.key in self.have
        ]
        failed = [{"case": name} for name in self.failed]
        owner_files.write_cases(self.cases, self.folder)
        owner_files.write_failures(self.failed, self.folder)
        outputs.write_json(self.folder / DATASET_FILE, {**self.head, "shards": shards, "failed": failed})

    def outcome(self, case: Case) -> Prepared:
        keys = [order.key for order in self.orders[case.name] if order.key in self.have]
        thumbnail = self.folder / SHARDS_FOLDER / keys[0] / THUMBNAIL_FILE if keys else None
        if case.name in self.failed:
            return Prepared(case, "failed", self.failed[case.name], tuple(keys), thumbnail)
        status = "cached" if set(keys) <= self.cached else "purified"
        return Prepared(case, status, self.notes.get(case.name, ""), tuple(keys), thumbnail)
