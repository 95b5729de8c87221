"""Everything that a user can set in the module; saved with the scene."""

import enum
from typing import Annotated

from IPv2Lib.training.settings import Ranges, TrainingSettings
from IPv2SlicerLib.widgets.Options import withOptions
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper

OPTIONS = TrainingSettings, Ranges
"""Dataclasses whose options the panel shows."""


class Simulator(enum.Enum):
    """How the noise of a lower dose is made; the values are those of `cases.Case.method`."""

    PHYSICAL = "physical"
    PUBLISHED = "published"

    def label(self) -> str:
        """Text in the selector."""
        return _("Physical") if self is Simulator.PHYSICAL else _("As published")


class Strategy(enum.Enum):
    """How pairs are purified; the values are those of `shards.STRATEGIES`."""

    NONE = "none"
    IPV1 = "ipv1"
    REMOVE_BACKGROUND = "ipv1+remove-background"
    ADD_NOISE = "ipv1+add-noise"
    IPV2 = "ipv2"
    DIRECT = "direct"
    NOISE2INVERSE = "noise2inverse"

    def label(self) -> str:
        """Text in the selector."""
        return {
            Strategy.NONE: _("No purification"),
            Strategy.IPV1: "IPv1",
            Strategy.REMOVE_BACKGROUND: _("IPv1 + Remove Background"),
            Strategy.ADD_NOISE: _("IPv1 + Add noise"),
            Strategy.IPV2: _("IPv2 (both modules)"),
            Strategy.DIRECT: _("Direct: the truth as target"),
            Strategy.NOISE2INVERSE: _("Noise2Inverse: split projections"),
        }[self]


class Pairs(enum.Enum):
    """Where training pairs come from; the values are those of `TrainingSettings.pairs`."""

    PURIFIED = "purified"
    DRAWN = "drawn"

    def label(self) -> str:
        """Text in the selector."""
        return _("Purified, as they are") if self is Pairs.PURIFIED else _("Drawn anew all the time")


class LengthUnit(enum.Enum):
    """What the length of a run counts; the values are names of `TrainingSettings`."""

    STEPS = "steps"
    EPOCHS = "epochs"
    MINUTES = "minutes"

    def label(self) -> str:
        """Text in the selector."""
        return {LengthUnit.STEPS: _("steps"), LengthUnit.EPOCHS: _("epochs"), LengthUnit.MINUTES: _("minutes")}[self]


class Split(enum.Enum):
    """Parts of a data set; the values are those of `shards.SPLITS`."""

    TEST = "test"
    VALIDATION = "validation"
    TRAIN = "train"

    def label(self) -> str:
        """Text in the selector."""
        return {Split.TEST: _("Test"), Split.VALIDATION: _("Validation"), Split.TRAIN: _("Training")}[self]


@parameterNodeWrapper
@withOptions(*OPTIONS)
class IPv2TrainParameterNode:
    """Everything that a user can set; saved with the scene. The options of the library are added to what is here.

    Data:
    dataset - Folder of the purified data set.
    cases - The table of cases as JSON, see CaseTable.casesToText.
    ndctVolume, uldctVolume - What "Add" adds from the scene.
    neutralNames - Name new cases case-001 and so on, not after their files.
    dosePercent ... realisations - Of new cases, see IPv2Lib.datasets.cases.Case.
    trainPercent, validationPercent, splitSeed - How patients are split; the rest is the test.
    splitProjections, workers - See IPv2Lib.datasets.preparation.prepare.

    Train:
    runsFolder - Folder of the runs; empty: the folder "runs" of the data set.
    run - Name of the run that is shown, in that folder.
    newRun - Name of the run that Start begins; empty: a proposed one.
    networkArguments - Keyword arguments of the network as JSON; empty: the usual ones.
    length, lengthUnit - How long to train: steps, epochs or minutes.

    Evaluate:
    testSplit, slicesPerCase, features - See IPv2Lib.evaluation.comparison.compare.
    methods - What is compared: "input", models, names or folders of runs.
    comparison - Name of the comparison's folder; empty: a proposed one.
    ablationSeeds, ablationSteps - See IPv2Lib.evaluation.ablation.

    Publish:
    publishedRun - Name of the run.
    modelName, modelTitle, modelDescription, modelLimits - Of the model; empty: from the run.
    """

    dataset: str = ""
    cases: str = ""
    ndctVolume: vtkMRMLScalarVolumeNode
    uldctVolume: vtkMRMLScalarVolumeNode
    neutralNames: bool = False
    dosePercent: Annotated[float, WithinRange(0.1, 100)] = 2.0
    doseHighPercent: Annotated[float, WithinRange(0, 100)] = 0.0
    simulator: Simulator = Simulator.PHYSICAL
    kernel: Annotated[str, Choice(["soft", "hann", "ramp", "sharp", "matched"])] = "hann"
    breathMm: Annotated[float, WithinRange(0, 50)] = 6.0
    realisations: Annotated[int, WithinRange(1, 100)] = 1
    trainPercent: Annotated[int, WithinRange(0, 100)] = 70
    validationPercent: Annotated[int, WithinRange(0, 100)] = 15
    splitSeed: Annotated[int, WithinRange(0, 999999)] = 0
    splitProjections: bool = False
    workers: Annotated[int, WithinRange(1, 64)] = 1

    runsFolder: str = ""
    run: str = ""
    newRun: str = ""
    strategy: Strategy
    pairs: Pairs
    networkArguments: str = ""
    length: Annotated[float, WithinRange(0.1, 10000000)] = 2000.0
    lengthUnit: LengthUnit = LengthUnit.STEPS

    testSplit: Split = Split.TEST
    methods: list[str]
    slicesPerCase: Annotated[int, WithinRange(0, 10000)] = 0
    features: str = ""
    comparison: str = ""
    ablationSeeds: Annotated[int, WithinRange(1, 100)] = 3
    ablationSteps: Annotated[int, WithinRange(1, 10000000)] = 600

    publishedRun: str = ""
    modelName: str = ""
    modelTitle: str = ""
    modelDescription: str = ""
    modelLimits: str = ""
