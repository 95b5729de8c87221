"""Weights of a network in 8 bits each: half the file of float16, for an error that is small beside that of the network.

Every filter, or row of a matrix, is a whole number from -127 to 127 times one step of its own; vectors, such as biases,
stay float16. `Testing/benchmarks/models.md` says what that does to the bundled models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

_MOST = 127
_STEP = ".step"  # what follows a weight's name in that of its steps


def pack(weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Round the weights of a network.

    Parameters
    ----------
    weights : mapping of str to Tensor
        As `state_dict` gives them.

    Returns
    -------
    dict of str to Tensor
        What `unpack` takes.

    Examples
    --------
    >>> import torch
    >>> packed = pack({"weight": torch.tensor([[1.0, -0.5], [0.02, 0.0]])})
    >>> packed["weight"]
    tensor([[127, -64],
            [127,   0]], dtype=torch.int8)
    >>> weights = unpack({name: tensor.numpy() for name, tensor in packed.items()})
    >>> round(float(weights["weight"][0, 1]), 4)
    -0.5039
    """
    import torch

    packed = {}
    for name, weight in weights.items():
        if not weight.is_floating_point() or weight.ndim < 2:
            packed[name] = weight.half() if weight.is_floating_point() else weight
            continue
        step = weight.float().abs().flatten(1).amax(1) / _MOST
        beside = step.clamp(min=torch.finfo(torch.float32).tiny).reshape(-1, *[1] * (weight.ndim - 1))
        whole = weight.float() / beside
        packed[name], packed[name + _STEP] = whole.round().to(torch.int8), step
    return packed


def unpack(packed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights from what `pack` returned; others as they are.

    Raises
    ------
    ValueError
        The steps of a weight are missing, or are not one number for each of its rows.
    """
    weights = dict(packed)
    for name, array in packed.items():
        if array.dtype == np.int8:
            step = weights.pop(name + _STEP, None)
            if array.ndim < 2 or step is None or step.dtype != np.float32 or step.shape != array.shape[:1]:
                raise ValueError(f"weight {name!r} is in 8 bits and has not one step, {name + _STEP!r}, for each row")
            with np.errstate(over="ignore"):  # who reads them looks whether they are finite
                weights[name] = array.astype(np.float32) * step.reshape(-1, *[1] * (array.ndim - 1))
    return weights
