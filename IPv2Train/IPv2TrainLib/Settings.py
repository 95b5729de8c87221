"""What the panel's parameters mean: settings of the library for preparing, training and evaluating."""

import json

from IPv2Lib.datasets.settings import PreparationSettings
from IPv2Lib.errors import InputError
from IPv2Lib.evaluation.physics.settings import PhysicsSettings
from IPv2Lib.evaluation.settings import AblationSettings, ComparisonSettings
from IPv2Lib.networks import registry
from IPv2Lib.training.settings import Ranges, TrainingSettings
from IPv2SlicerLib.widgets.Options import optionsOf, valuesOf
from slicer.i18n import tr as _

from .Parameters import LengthUnit, Pairs


def fractions(parameterNode) -> tuple[float, float, float]:
    """Of the patients, for training, validation and test; below 0 where the first two are more than all."""
    train, validation = parameterNode.trainPercent, parameterNode.validationPercent
    return train / 100, validation / 100, (100 - train - validation) / 100


def preparationSettings(parameterNode) -> PreparationSettings:
    """The settings with which "Purify" makes the data set."""
    return optionsOf(parameterNode, PreparationSettings, fractions=fractions(parameterNode))


def comparisonSettings(parameterNode) -> ComparisonSettings:
    """The settings of the comparison that "Compare" begins."""
    return optionsOf(parameterNode, ComparisonSettings, device=parameterNode.device)


def ablationSettings(parameterNode) -> AblationSettings:
    """The settings of "Run ablation": the network and the budget of section Train, and steps of its own."""
    training = valuesOf(parameterNode, TrainingSettings)
    budget = {name: training[name] for name in ("batch", "patch", "learning_rate", "device")}
    return optionsOf(
        parameterNode,
        AblationSettings,
        networks=(parameterNode.network,),
        arguments=networkArguments(parameterNode.networkArguments),
        slices_per_case=valuesOf(parameterNode, ComparisonSettings)["slices_per_case"],
        **budget,
    )


def physicsSettings(parameterNode) -> PhysicsSettings:
    """The settings with which "Measure" measures."""
    return optionsOf(parameterNode, PhysicsSettings, device=parameterNode.device)


def trainingSettings(parameterNode) -> TrainingSettings:
    """The settings of the run that "Start" begins.

    Parameters
    ----------
    parameterNode : IPv2TrainParameterNode

    Raises
    ------
    IPv2Lib.errors.InputError
        For values that are out of range or do not go together.
    """
    parameters, others = parameterNode, {}
    length = {parameters.lengthUnit.value: parameters.length}
    if parameters.lengthUnit is LengthUnit.STEPS:
        length = {"steps": max(1, round(parameters.length))}
    if registry.summary(parameters.network).generative:  # those have a loss of their own
        others["loss"] = TrainingSettings.loss
    if parameters.pairs is Pairs.SIMULATED:
        others["ranges"] = optionsOf(parameters, Ranges)
    arguments = networkArguments(parameters.networkArguments)
    return optionsOf(parameters, TrainingSettings, arguments=arguments, **length, **others)


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
