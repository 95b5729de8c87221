"""Everything that a user can set in the module; saved with the scene."""

import enum
from typing import Annotated, Union

from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSequenceNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import Choice, WithinRange, parameterNodeWrapper


class Strategy(enum.Enum):
    """The published strategies: what they set is `IPv2Lib.purification.strategies.IPV1` and `IPV2`."""

    IPV1 = "IPv1"
    IPV2 = "IPv2"

    def label(self) -> str:
        """Text in the selector."""
        return self.value


class Threshold(enum.Enum):
    """How the masks find what is dark."""

    OTSU = "otsu"
    FIXED = "fixed"

    def label(self) -> str:
        """Text in the selector."""
        return _("Otsu, each slice") if self is Threshold.OTSU else _("Fixed value")


class Simulator(enum.Enum):
    """How the noise of a lower dose is made; the values are those of `strategies.Settings.method`."""

    PHYSICAL = "physical"
    PUBLISHED = "published"

    def label(self) -> str:
        """Text in the selector."""
        return _("Physical") if self is Simulator.PHYSICAL else _("As published")


@parameterNodeWrapper
class IPv2DenoiseParameterNode:
    """Everything that a user can set; saved with the scene.

    inputVolume - Chest CT in HU, or a sequence of them.
    strengthPercent - Part of the noise that is removed, 0 to 100 %.
    model - Name of the model; empty: the default one of the device.
    device - Where the network runs: auto, cpu, cuda:0, mps.
    outputVolume - Receives the result; none: a new volume.
    keepOutsideBody - HU outside the body come back exactly.
    keptNoiseHu - Noise that is left for its texture; negative: as the card of the model says.
    selfEnsemble - Mean of the results for slices turned and mirrored in eight ways.
    furtherVolumes - Denoised in the same run.
    uldctVolume, ndctVolume - The pair that is purified.
    strategy ... weakStrength - See IPv2Lib.purification.strategies.Settings.
    stage, secondStage - Keys of the stages that are shown; empty: none.
    showOverlay, overlayOpacityPercent - How masks are drawn over the image.
    """

    inputVolume: Union[vtkMRMLScalarVolumeNode, vtkMRMLSequenceNode, None]  # noqa: UP007 (Slicer 5.10 knows no other)
    strengthPercent: Annotated[float, WithinRange(0, 100)] = 100.0
    model: str = ""
    device: str = "auto"
    outputVolume: vtkMRMLScalarVolumeNode
    keepOutsideBody: bool = False
    keptNoiseHu: Annotated[float, WithinRange(-1, 100)] = -1.0
    selfEnsemble: bool = False
    furtherVolumes: list[vtkMRMLScalarVolumeNode]
    uldctVolume: vtkMRMLScalarVolumeNode
    ndctVolume: vtkMRMLScalarVolumeNode
    strategy: Strategy = Strategy.IPV2
    removeBackground: bool = True
    addNoise: bool = True
    removeNoise: bool = True
    dropEnclosedAir: bool = True
    thresholdMethod: Threshold = Threshold.OTSU
    thresholdHu: Annotated[float, WithinRange(-1024, 400)] = -400.0
    blendPercent: Annotated[float, WithinRange(0, 100)] = 0.0
    dosePercent: Annotated[float, WithinRange(0.1, 100)] = 2.0
    simulator: Simulator = Simulator.PHYSICAL
    kernel: Annotated[str, Choice(["soft", "hann", "ramp", "sharp", "matched"])] = "hann"
    seed: Annotated[int, WithinRange(0, 999999)] = 0
    weakStrength: Annotated[float, WithinRange(0, 5)] = 1.0
    stage: str = ""
    secondStage: str = ""
    showOverlay: bool = True
    overlayOpacityPercent: Annotated[float, WithinRange(0, 100)] = 45.0
