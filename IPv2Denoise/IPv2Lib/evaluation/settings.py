"""How to compare models, and how to run an ablation: every choice, checked, and as a file holds it."""

from __future__ import annotations

from dataclasses import dataclass

from ..datasets.shards import REFERENCES, SPLITS
from ..datasets.strategies import PURIFIED, STRATEGIES
from ..options import check, like, option
from ..training.settings import TrainingSettings

_DEVICE = "auto, cpu, cuda (or cuda:1, ...) or mps; auto takes the fastest there is"
_BUDGET = "budget, the same for every run"


@dataclass(frozen=True)
class ComparisonSettings:
    """Options of `comparison.compare`.

    Raises
    ------
    InputError
        For a value that is unknown or out of range.
    """

    split: str = option(
        "test", "cases of the data set that are scored; only the test tells how a model does on new patients",
        choices=SPLITS, panel="testSplit",
    )  # fmt: skip
    slices_per_case: int | None = option(
        None, "evenly spaced slices of each scan; fewer are faster", unit="", low=1, none="all", flag="--slices",
        none_value=0, panel=True, usual=(1, 10_000),
    )  # fmt: skip
    reference: str = option(
        "both", "what results are scored against: the scan before its dose was lowered, or the test label",
        choices=("both", *REFERENCES),
    )  # fmt: skip
    label_strategy: str = option("ipv2", "whose test label, a row of the ablation", choices=PURIFIED)
    features: str | None = option(
        None, "TorchScript network for Fréchet and kernel distances; (N, 3, 224, 224) from 0 to 1 to (N, features); "
        "it is a program, so give only what you trust", none="a fixed random one", metavar="FILE", panel=True,
    )  # fmt: skip
    flow_steps: int | None = option(None, "steps of networks that go in steps", unit="", low=1, none="theirs")
    bootstrap: int = option(1000, "resamples for the intervals; 0: no intervals", unit="", low=0)
    seed: int = option(0, "seed of the resamples", unit="", low=0)
    device: str = like(TrainingSettings, "device", group="", help=_DEVICE)

    def __post_init__(self):
        check(self)


def _budget(name: str, *value):
    return like(TrainingSettings, name, *value, group=_BUDGET, exclusive="")


@dataclass(frozen=True)
class AblationSettings:
    """Options of `ablation.ablate`.

    Raises
    ------
    InputError
        For a value that is unknown or out of range.
    """

    strategies: tuple[str, ...] = option(PURIFIED, "how scans become pairs", choices=STRATEGIES)
    networks: tuple[str, ...] = option(("unet",), "names of networks", flag="--networks --network")
    arguments: dict = like(TrainingSettings, "arguments", group="")
    seeds: int = option(
        3, "runs of each strategy and network, each with its own seed", unit="", low=1, panel="ablationSeeds",
        usual=(1, 100),
    )  # fmt: skip
    steps: int = like(
        TrainingSettings, "steps", 600, group=_BUDGET, exclusive="", panel="ablationSteps", usual=(1, 10_000_000)
    )
    batch: int = _budget("batch")
    patch: int = _budget("patch", 64)
    learning_rate: float = _budget("learning_rate")
    device: str = like(ComparisonSettings, "device")
    split: str = like(ComparisonSettings, "split", help="cases of the data set that are scored")
    slices_per_case: int | None = like(
        ComparisonSettings, "slices_per_case", 10, none_flag=True, help="evenly spaced slices of each scan; 0: all"
    )

    def __post_init__(self):
        check(self)
