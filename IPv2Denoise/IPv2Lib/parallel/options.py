"""Who works through many cases: processes of this machine, or the workers of a Dask scheduler."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import check, option

GROUP = "many cases"
"""Heading of these options."""


@dataclass(frozen=True)
class Workers:
    """Arguments of `cluster.run`.

    Raises
    ------
    InputError
        For a value out of range.
    """

    workers: int = option(1, "processes of this machine", unit="", low=0, group=GROUP, usual=(1, 64))
    scheduler: str | None = option(
        None, "address of a Dask scheduler whose workers do it instead; tls://host:8786 with its certificates, "
        "tcp://host:8786 only in a network where you trust everybody", none="this machine", metavar="ADDRESS",
        group=GROUP,
    )  # fmt: skip
    retries: int = option(1, "how often a case that failed is tried again", unit="", low=0, metavar="K", group=GROUP)

    def __post_init__(self):
        check(self)
