"""How large a network may be, found out before it is built: its arguments may come from a stranger's file.

Owns the limits. A network is built on PyTorch's device "meta", which has shapes and no memory, without initial values,
and given up there as soon as it has too many weights; so no class has to know limits of its own.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MOST_WEIGHTS = 250_000_000
"""Of a network, six times the largest one that was published for this; 1 GB as float32."""

MOST_TENSORS = 2_000
"""That the weights consist of."""

MOST_PIXELS = 1024
"""Sides of blocks in which a network sees pixels (`multiple`), or that matter around a tile (`halo`)."""

MOST_SLICES = 63
"""That a network reads at once (`context`)."""

_LARGEST, _LONGEST = 100_000, 32  # number and list in the arguments


def check_arguments(arguments: dict[str, Any]) -> None:
    """Refuse (`ValueError`) arguments that only computing with could take forever."""
    for name, value in arguments.items():
        for each in _leaves(name, value):
            if isinstance(each, (int, float)) and not abs(each) <= _LARGEST:
                raise ValueError(f"{name} has a number beyond ±{_LARGEST}")
            if isinstance(each, str) and len(each) > _LONGEST:
                raise ValueError(f"{name} has a text of more than {_LONGEST} letters")


def _leaves(name: str, value: Any) -> Iterator[Any]:
    if not isinstance(value, (list, tuple)):
        yield value
        return
    if len(value) > _LONGEST:
        raise ValueError(f"{name} has {len(value)} entries; it may have {_LONGEST}")
    for each in value:
        if isinstance(each, (list, tuple)):
            raise ValueError(f"{name} has a list in a list")
        yield each


def check_size(make: Callable[[], torch.nn.Module], most_weights: int) -> None:
    """Refuse (`ValueError`) a network with more weights than that, or one that looks too far; fast, and without memory.

    Parameters
    ----------
    make : callable
        Builds the network.
    most_weights : int
    """
    import torch

    with _counted(most_weights), torch.device("meta"), _without_values():
        network = make()
    for name, most in (("multiple", MOST_PIXELS), ("halo", MOST_PIXELS), ("context", MOST_SLICES)):
        if getattr(network, name, 0) > most:
            raise ValueError(f"its {name} would be {getattr(network, name)}; {most} is the limit")


@contextlib.contextmanager
def _counted(most_weights: int) -> Iterator[None]:
    """Raise `ValueError` where this thread gives a module too many weights."""
    from torch.nn.modules import module as modules

    weights, tensors, others, thread = 0, 0, 0, threading.get_ident()

    def count(module: Any, name: str, parameter: torch.nn.Parameter | None) -> None:
        nonlocal weights, tensors
        if parameter is None or threading.get_ident() != thread:
            return
        weights += math.prod(parameter.shape)
        tensors += 1
        if weights > most_weights:
            raise ValueError(f"it would have more than {most_weights:,} weights, which is the limit here")
        if tensors > MOST_TENSORS:
            raise ValueError(f"its weights would be more than {MOST_TENSORS:,} tensors, which is the limit")

    def count_others(module: Any, name: str, buffer: torch.Tensor | None) -> None:
        nonlocal others
        if buffer is None or threading.get_ident() != thread:
            return
        others += math.prod(buffer.shape)
        if others > MOST_WEIGHTS:
            raise ValueError(
                f"it would have more than {MOST_WEIGHTS:,} numbers besides its weights, which is the limit"
            )

    hooks = [
        modules.register_module_parameter_registration_hook(count),
        modules.register_module_buffer_registration_hook(count_others),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _without_values() -> contextlib.AbstractContextManager:
    """Leave out what gives tensors their first values, which takes by far the longest."""
    from torch.overrides import TorchFunctionMode

    class Mode(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            name, kwargs = getattr(func, "__name__", ""), kwargs or {}
            if name.endswith("_") and not name.endswith("__"):  # such as uniform_ and trunc_normal_
                return args[0] if args else kwargs["tensor"]
            return func(*args, **kwargs)

    return Mode()
