"""Everything that a user can set in the module; saved with the scene."""

import enum
from typing import Annotated

from IPv2Lib.datasets.cases import Case
from IPv2Lib.datasets.settings import PreparationSettings
from IPv2Lib.datasets.strategies import BY_NAME
from IPv2Lib.evaluation.physics.settings import PhysicsSettings
from IPv2Lib.evaluation.settings import AblationSettings, ComparisonSettings
from IPv2Lib.training.settings import Ranges, TrainingSettings
from IPv2SlicerLib.widgets.Options import Simulator, withOptions
from slicer import vtkMRMLScalarVolumeNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper

OPTIONS = Case, PreparationSettings, TrainingSettings, Ranges, ComparisonSettings, AblationSettings, PhysicsSettings
"""Dataclasses whose options the panel shows."""


class _Strategy(enum.Enum):
    """How pairs are purified."""

    def label(self) -> str:
        """Text in the selector."""
        return _(BY_NAME[self.value].label)


# Scenes keep the names of the members.
Strategy = _Strategy("Strategy", {name.removeprefix("ipv1+").replace("-", "_").upper(): name for name in BY_NAME})


class Pairs(enum.Enum):
    """Where training pairs come from; the values are those of `TrainingSettings.pairs`."""

    PURIFIED = "purified"
    SIMULATED = "simulated"

    def label(self) -> str:
        """Text in the selector."""
        return _("Purified, as they are") if self is Pairs.PURIFIED else _("Simulated on the fly")


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
    trainPercent, validationPercent - How patients are split; the rest is the test.

    Train:
    runsFolder - Folder of the runs; empty: the folder "runs" of the data set.
    run - Name of the run that is shown, in that folder.
    newRun - Name of the run that Start begins; empty: a proposed one.
    networkArguments - Keyword arguments of the network as JSON; empty: the usual ones.
    length, lengthUnit - How long to train: steps, epochs or minutes.

    Evaluate:
    methods - What is compared and measured: "input", models, names or folders of runs.
    comparison - Name of the comparison's folder; empty: a proposed one.
    physicsFolder - Folder of image physics; empty: the folder "physics" of the data set.

    Publish:
    publishedRun - Name of the run.
    modelName, modelTitle, modelDescription, modelLimits - Of the model; empty: from the run.
    """

    dataset: str = ""
    cases: str = ""
    ndctVolume: vtkMRMLScalarVolumeNode
    uldctVolume: vtkMRMLScalarVolumeNode
    neutralNames: bool = False
    simulator: Simulator
    trainPercent: Annotated[int, WithinRange(0, 100)] = 70
    validationPercent: Annotated[int, WithinRange(0, 100)] = 15

    runsFolder: str = ""
    run: str = ""
    newRun: str = ""
    strategy: Strategy
    pairs: Pairs
    networkArguments: str = ""
    length: Annotated[float, WithinRange(0.1, 10000000)] = 2000.0
    lengthUnit: LengthUnit = LengthUnit.STEPS

    testSplit: Split
    methods: list[str]
    comparison: str = ""
    physicsFolder: str = ""

    publishedRun: str = ""
    modelName: str = ""
    modelTitle: str = ""
    modelDescription: str = ""
    modelLimits: str = ""
