"""How to compare models, and how to run an ablation: every choice, checked, and as a file holds it."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..datasets.shards import PURIFIED, SPLITS
from ..errors import InputError

_REFERENCES = ("both", "truth", "label")


@dataclass(frozen=True)
class ComparisonSettings:
    """What `comparison.compare` is told besides data set, methods and folder; its documentation explains each.

    Attributes
    ----------
    split : "train", "validation" or "test"
    slices_per_case : evenly spaced slices of each scan; None: all
    reference : "both", "truth" or "label"
    label_strategy : whose test label, one of `shards.PURIFIED`
    features : file of a TorchScript network for Fréchet and kernel distances; None: a fixed random one
    flow_steps : of networks that go in steps, 1 to 50; None: theirs
    bootstrap : resamples for the intervals; 0: none
    seed : of the resamples
    device : as for `denoise.choose_device`

    Raises
    ------
    InputError
        For a value that is unknown or out of range.
    """

    split: str = "test"
    slices_per_case: int | None = None
    reference: str = "both"
    label_strategy: str = "ipv2"
    features: str | None = None
    flow_steps: int | None = None
    bootstrap: int = 1000
    seed: int = 0
    device: str = "auto"

    def __post_init__(self):
        _check_known(self, split=SPLITS, reference=_REFERENCES, label_strategy=PURIFIED)
        _check_least(self, slices_per_case=1, flow_steps=1, bootstrap=0, seed=0)


@dataclass(frozen=True)
class AblationSettings:
    """What `ablation.ablate` is told besides data set and folder.

    Attributes
    ----------
    strategies : of `shards.STRATEGIES`
    networks : names in the registry
    arguments : keyword arguments of the network's class; of a single network only
    seeds : runs of each strategy and network
    steps, batch, patch, learning_rate, device : the budget of every run, see `training_settings.TrainingSettings`
    split : to score on
    slices_per_case : evenly spaced slices of each scan; None: all

    Raises
    ------
    InputError
        For a value that is unknown or out of range.
    """

    strategies: tuple[str, ...] = PURIFIED
    networks: tuple[str, ...] = ("unet",)
    arguments: dict = field(default_factory=dict)
    seeds: int = 3
    steps: int = 600
    batch: int = 8
    patch: int = 64
    learning_rate: float = 1e-3
    device: str = "auto"
    split: str = "test"
    slices_per_case: int | None = 10

    def __post_init__(self):
        _check_known(self, split=SPLITS)
        _check_least(self, seeds=1, steps=1, batch=1, patch=1, slices_per_case=1)


def _check_known(settings, **known: tuple[str, ...]) -> None:
    for name, words in known.items():
        if getattr(settings, name) not in words:
            raise InputError(f"unknown {name} {getattr(settings, name)!r}: use {', '.join(words)}")


def _check_least(settings, **least: int) -> None:
    for name, value in least.items():
        given = getattr(settings, name)
        if given is not None and given < value:
            raise InputError(f"{name} is {given}: use {value} or more")
