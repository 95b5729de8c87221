"""The table of training strategies: what a network sees, and what it is to make of it.

Owns their names, in settings and for people. Images come from `shards`, or while a network trains from `on_the_fly`.
Needs the standard library only, so that panels open at once.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import InputError
from ..purification.settings import ABLATION, IPV1, Settings


@dataclass(frozen=True)
class Strategy:
    """How scans become input and target.

    Attributes
    ----------
    name : str
        In settings and on the command line.
    label, title : str
        For people: in a selector, and in a picture with little room.
    source, target : str
        Which images of a shard, see `shards.IMAGES`, the input is (made of) and the target is.
    purification : Settings, optional
        What makes the training input of the source, and the test label.
    blend : float
        T of the training input outside the common mask, unless chosen otherwise.
    symmetric : bool
        Source and target may be exchanged.
    only_prepared : str
        Why pairs cannot be simulated on the fly; empty: they can.
    help : str
        What it does, after its name; empty where that is known.
    """

    name: str
    label: str
    title: str
    source: str = "uldct"
    target: str = "ndct"
    purification: Settings | None = None
    blend: float = 0.0
    symmetric: bool = False
    only_prepared: str = ""
    help: str = ""


BY_NAME = {
    each.name: each
    for each in (
        Strategy("none", "No purification", "not purified"),
        Strategy("ipv1", "IPv1", "IPv1", purification=ABLATION["ipv1"], blend=IPV1.blend),
        Strategy(
            "ipv1+remove-background", "IPv1 + Remove Background", "+ Remove Background",
            purification=ABLATION["ipv1+remove-background"],
        ),
        Strategy("ipv1+add-noise", "IPv1 + Add noise", "+ Add noise", purification=ABLATION["ipv1+add-noise"]),
        Strategy("ipv2", "IPv2 (both modules)", "IPv2 (both)", purification=ABLATION["ipv2"]),
        Strategy(
            "direct", "Direct: the ground truth as target", "direct", target="ground_truth",
            help="aims at the ground truth of simulated scans",
        ),
        Strategy(
            "noise2inverse", "Noise2Inverse: split projections", "Noise2Inverse", "half_a", "half_b", symmetric=True,
            only_prepared="needs split projections: train on a data set prepared with --split-projections",
            help="at the other half of the views",
        ),
    )
}  # fmt: skip

STRATEGIES = tuple(BY_NAME)
"""How scans become pairs, see `Shard.pair`."""

PURIFIED = tuple(name for name, each in BY_NAME.items() if each.purification)
"""The strategies that purify, and so have a test label: the rows of the paper's ablation, in its order."""


def check_strategy(strategy: str, blend: float | None = None, on_the_fly: bool = False) -> None:
    """Refuse (`InputError`) an unknown strategy, one that needs prepared data, a blend out of range, or one for a
    strategy that mixes nothing."""
    if strategy not in BY_NAME:
        raise InputError(f"unknown strategy {strategy!r}: use one of {', '.join(BY_NAME)}")
    if on_the_fly and (reason := BY_NAME[strategy].only_prepared):
        raise InputError(f"{strategy} {reason}")
    if blend is None:
        return
    if not BY_NAME[strategy].purification:
        raise InputError(f"strategy {strategy!r} mixes nothing: leave the blend T out")
    if not 0 <= blend <= 1:
        raise InputError(f"blend T is {blend:g}; use 0 (only uLDCT outside the mask) to 1 (only NDCT)")
