"""What the panel's parameters mean for a training: `IPv2Lib.training_settings.TrainingSettings`."""

import json

from IPv2Lib import networks
from IPv2Lib.errors import InputError
from IPv2Lib.training_settings import Ranges, TrainingSettings
from slicer.i18n import tr as _

from .Parameters import LengthUnit, Pairs


def trainingSettings(parameterNode, steps: int | None = None) -> TrainingSettings:
    """The settings of the run that "Start" begins.

    Parameters
    ----------
    parameterNode : IPv2TrainParameterNode
    steps : int, optional
        Instead of the length that was set.

    Raises
    ------
    IPv2Lib.errors.InputError
        For values that are out of range or do not go together.
    """
    parameters = parameterNode
    length = {parameters.lengthUnit.value: parameters.length}
    if parameters.lengthUnit is LengthUnit.STEPS or steps:
        length = {"steps": steps or max(1, round(parameters.length))}
    given = {
        **length,
        "network": parameters.network,
        "arguments": networkArguments(parameters.networkArguments),
        "start_from": parameters.startFrom or None,
        "strategy": parameters.strategy.value,
        "pairs": parameters.pairs.value,
        "batch": parameters.batch,
        "patch": parameters.patch,
        "learning_rate": parameters.learningRate,
        "seed": parameters.seed,
        "device": parameters.device,
        "precision": parameters.precision,
        "compile": parameters.compileNetwork,
        "validate_every": parameters.validateEvery,
    }
    if not networks.summary(parameters.network).generative:  # those have a loss of their own
        given["loss"] = parameters.loss
    if parameters.pairs is Pairs.DRAWN:
        given["ranges"] = Ranges(
            dose=(parameters.drawnDoseLowPercent / 100, parameters.drawnDoseHighPercent / 100),
            sharpness=(parameters.drawnKernelLow, parameters.drawnKernelHigh),
        )
    return TrainingSettings(**given)


def networkArguments(text: str) -> dict:
    """Keyword arguments of a network, as JSON; none of an empty text.

    Raises
    ------
    IPv2Lib.errors.InputError
        The text is no JSON object.
    """
    if not text.strip():
        return {}
    try:
        arguments = json.loads(text)
    except ValueError as error:
        raise InputError(f"the network's arguments are no JSON ({error}): write {{}} or leave them empty") from error
    if not isinstance(arguments, dict):
        raise InputError(_('the network\'s arguments are no JSON object: write {"name": value, ...}'))
    return arguments
