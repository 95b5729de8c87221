"""Everything that a user can set in the module; saved with the scene."""

import enum
from typing import Annotated, Union

from IPv2Lib.analysis.spheres import SphereOptions
from IPv2Lib.inference.options import DenoiseOptions
from IPv2Lib.purification.settings import Settings
from IPv2SlicerLib.widgets.Options import Simulator, withOptions
from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSequenceNode
from slicer.i18n import tr as _
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


class Strategy(enum.Enum):
    """The published strategies: what they set is `IPv2Lib.purification.settings.IPV1` and `IPV2`."""

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


class Engine(enum.Enum):
    """What computes the network; the values are those of `DenoiseOptions.engine`."""

    AUTO = "auto"
    ONNX_RUNTIME = "onnxruntime"
    PYTORCH = "torch"

    def label(self) -> str:
        """Text in the selector."""
        return {"auto": _("Automatic"), "onnxruntime": "ONNX Runtime", "torch": "PyTorch"}[self.value]


OPTIONS = DenoiseOptions, Settings, SphereOptions
"""Dataclasses whose options the panel shows."""


@parameterNodeWrapper
@withOptions(*OPTIONS)
class IPv2DenoiseParameterNode:
    """Everything that a user can set; saved with the scene. The options of the library are added to what is here.

    inputVolume - Chest CT in HU, or a sequence of them.
    model - Name of the model; empty: the default one of the device.
    outputVolume - Receives the result; none: a new volume.
    furtherVolumes - Denoised in the same run.
    uldctVolume, ndctVolume - The pair that is purified.
    strategy - What sets the modules of the purification.
    thresholdMethod, thresholdHu - What counts as dark.
    stage, secondStage - Keys of the stages that are shown; empty: none.
    showOverlay, overlayOpacityPercent - How masks are shown over the image.
    """

    inputVolume: Union[vtkMRMLScalarVolumeNode, vtkMRMLSequenceNode, None]  # noqa: UP007 (Slicer 5.10 knows no other)
    outputVolume: vtkMRMLScalarVolumeNode
    furtherVolumes: list[vtkMRMLScalarVolumeNode]
    uldctVolume: vtkMRMLScalarVolumeNode
    ndctVolume: vtkMRMLScalarVolumeNode
    engine: Engine
    strategy: Strategy = Strategy.IPV2
    thresholdMethod: Threshold = Threshold.OTSU
    thresholdHu: Annotated[float, WithinRange(-1024, 400)] = -400.0
    simulator: Simulator
    stage: str = ""
    secondStage: str = ""
    showOverlay: bool = True
    overlayOpacityPercent: Annotated[float, WithinRange(0, 100)] = 45.0
