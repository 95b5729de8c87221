"""What the file of a node says: who may call, where results go, and what becomes of which series.

Owns the file's form, TOML, and what it may hold. Which rule fits a series is `rules`' matter.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from .. import packages
from ..errors import InputError, reason
from ..inference.options import DenoiseOptions
from ..io import settings_file
from ..options import check, option

DENOISE, FORWARD, KEEP = "denoise", "forward", "keep"
"""What becomes of a series: it is denoised, sent on as it is, or kept here and not sent."""

ACTIONS = (DENOISE, FORWARD, KEEP)

_AE_TITLE = re.compile(r"(?! )[\x20-\x5b\x5d-\x7e]{1,16}(?<! )")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Tls:
    """Encryption of what comes in; none without a certificate."""

    certificate: str = option("", "PEM of this node's certificate, with those that lead to its root", flag="-")
    key: str = option("", "PEM of its key", flag="-", default="in the file of the certificate")
    ca: str = option("", "PEM of who signed the callers' certificates", flag="-", default="callers need none")


@dataclass(frozen=True)
class Destination:
    """Where results are sent."""

    name: str = option("", "by which rules call it: letters, digits, - and _", flag="-")
    ae_title: str = option("", "its AE title", flag="-")
    address: str = option("127.0.0.1", "its address", flag="-")
    port: int = option(104, "its port", flag="-", unit="", low=1, high=65535)
    tls: bool = option(False, "encrypt", flag="-")
    ca: str = option("", "PEM of who signed its certificate", flag="-", default="those that this computer trusts")
    certificate: str = option("", "PEM of this node's certificate for it", flag="-", default="none")
    key: str = option("", "PEM of that certificate's key", flag="-", default="in the file of the certificate")

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class Rule:
    """What becomes of the series that it fits. Patterns know * and ?, and no capitals; an empty one fits all."""

    description: str = option("", "pattern of the series description", flag="-")
    kernel: str = option("", "pattern of the convolution kernel", flag="-")
    image_type: str = option("", "pattern of the image type, such as *LOCALIZER*", flag="-")
    thickness: tuple[float, float] | None = option(
        None, "lowest and highest slice thickness", flag="-", unit="mm", low=0, interval=True, none="any, or none",
        label="slice thickness",
    )  # fmt: skip
    action: str = option(DENOISE, "what becomes of the series", flag="-", choices=ACTIONS)
    denoise: DenoiseOptions = option(DenoiseOptions, "how, as the options of 'ipv2 denoise'", flag="-")
    label: str = option(
        "", "what the description of a result begins with; 'not for diagnosis' follows", flag="-",
        default="IPv2, the model and the strength",
    )  # fmt: skip
    destinations: tuple[str, ...] = option(tuple, "names of destinations", flag="-", default="none")
    urgent: bool = option(False, "before all others", flag="-")
    forward_failed: bool = option(False, "send on as it is what cannot be denoised", flag="-")

    def __post_init__(self):
        check(self)


@dataclass(frozen=True)
class NodeSettings:
    """A node."""

    folder: str = option("", "folder of its queue, for nobody else; relative to this file", flag="-", required=True)
    ae_title: str = option("IPV2", "its AE title; one who calls another is refused", flag="-")
    address: str = option("127.0.0.1", "address that it listens on; 0.0.0.0 is every one", flag="-")
    port: int = option(11112, "port; 0 is any that is free", flag="-", unit="", low=0, high=65535)
    callers: tuple[str, ...] = option(
        tuple, "who may call: AE titles, or TITLE@ADDRESS; nobody else gets an association", flag="-", required=True
    )
    quiet_seconds: float = option(
        30.0, "a series is complete when no slice of it came for so long", flag="-", unit="s", low=0
    )
    complete_at_release: bool = option(
        False, "and when its sender releases the association, for senders that use one for a series", flag="-"
    )
    retention_days: float = option(
        7.0, "how long slices and results stay when all was sent", flag="-", unit="days", low=0
    )
    least_free_mb: float = option(
        1024.0, "space on the disk below which slices are refused", flag="-", unit="MB", low=0
    )
    largest_mb: float = option(1024.0, "largest instance that is taken", flag="-", unit="MB", above=0)
    most_associations: int = option(32, "associations at once", flag="-", unit="", low=1, high=1000)
    timeout_seconds: float = option(60.0, "how long a peer may keep silent", flag="-", unit="s", above=0)
    retry_seconds: tuple[float, float] = option(
        (5.0, 600.0), "first and longest pause before a destination is tried again", flag="-", unit="s", above=0,
        interval=True, label="pauses",
    )  # fmt: skip
    tls: Tls = option(Tls, "encryption of what comes in", flag="-")
    destinations: tuple[Destination, ...] = option(tuple, "where results are sent", flag="-", default="none")
    rules: tuple[Rule, ...] = option(tuple, "the first that fits a series counts", flag="-", required=True)

    def __post_init__(self):
        check(self)


def read(path: Path) -> NodeSettings:
    """Read the file of a node.

    Raises
    ------
    InputError
        It cannot be read; it names what does not exist, or is out of range; it lacks what a node needs.
    """
    if sys.version_info < (3, 11):
        packages.need("tomli", "reading the file of a node")
    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        values = toml.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): give the TOML file of a node") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is no TOML ({error})") from error
    try:
        settings = settings_file.from_dict(values, NodeSettings())
        _check(settings)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    here = path.absolute().parent
    return replace(
        settings,
        folder=str(here / settings.folder),
        tls=_placed(settings.tls, here),
        destinations=tuple(_placed(each, here) for each in settings.destinations),
    )


def may_call(settings: NodeSettings, ae_title: str, address: str) -> bool:
    """Whether a node gives an association to who calls with this title from there.

    Examples
    --------
    >>> node = NodeSettings(callers=("CT1", "PACS@10.0.0.2"))
    >>> [may_call(node, *who) for who in (("CT1", "10.0.0.9"), ("PACS", "10.0.0.2"), ("PACS", "10.0.0.9"))]
    [True, True, False]
    """
    return ae_title in settings.callers or f"{ae_title}@{address}" in settings.callers


def _placed(settings, here: Path):
    """With the paths of PEM files relative to the node's file."""
    paths = {name: str(here / value) for name, value in vars(settings).items() if name in vars(Tls()) and value}
    return replace(settings, **paths)


def _check(settings: NodeSettings) -> None:
    if not settings.folder:
        raise InputError('it names no folder for the queue: write e.g. folder = "/var/lib/ipv2-node"')
    if not settings.callers:
        raise InputError('it names nobody who may call: write e.g. callers = ["CT1", "PACS@10.0.0.2"]')
    if not settings.rules:
        raise InputError("it has no rule, so nothing would become of any series: add a table [[rules]]")
    titles = [settings.ae_title, *(each.ae_title for each in settings.destinations)]
    for title in [*titles, *(caller.partition("@")[0] for caller in settings.callers)]:
        if not _AE_TITLE.fullmatch(title):
            raise InputError(f"{title!r} is no AE title: 1 to 16 ASCII characters, no backslash, no space at the ends")
    names = [each.name for each in settings.destinations]
    for name, count in Counter(names).items():
        if not _NAME.fullmatch(name) or count > 1:
            what = "the name of two destinations" if count > 1 else "no name of a destination"
            raise InputError(f"{name!r} is {what}: give each its own, of letters, digits, - and _")
    for number, rule in enumerate(settings.rules):
        where = f"rules[{number}]"
        if unknown := [name for name in rule.destinations if name not in names]:
            raise InputError(f"{where} names the destination {unknown[0]!r}: use {', '.join(names) or 'none'}")
        if rule.action == KEEP and rule.destinations:
            raise InputError(f"{where} keeps series and names destinations: leave these out, or say action = 'forward'")
        if rule.action != KEEP and not rule.destinations:
            raise InputError(f"{where} names no destination: add e.g. destinations = ['pacs'], or say action = 'keep'")
