"""What torch computes on: the device that a name means, if it is there.

Which devices there are and how fast they are is `devices`' matter. Needs nothing but torch, since training from
prepared data runs where no image library is installed.
"""

from __future__ import annotations

from ..errors import InputError


def choose_device(name: str = "auto") -> str:
    """The torch device for a name, checked to be present.

    `auto` is an NVIDIA or ROCm GPU if torch sees one, else the CPU; `mps` (Apple) is used when asked for.

    Raises
    ------
    InputError
        For another name, or a device that is absent.

    Examples
    --------
    >>> choose_device("cpu")
    'cpu'
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return name
    if name == "mps":
        if not torch.backends.mps.is_available():
            raise InputError("device 'mps' is absent: it needs an Apple GPU; choose 'auto' or 'cpu'")
        return name
    kind, _, number = name.partition(":")
    if kind != "cuda" or name == "cuda:" or not (number.isdecimal() or name == "cuda"):
        raise InputError(f"unknown device {name!r}: choose 'auto', 'cpu', 'cuda', 'cuda:0' or 'mps'")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= count:
        raise InputError(f"device {name!r} is absent: torch sees {count} CUDA devices; choose 'auto' or 'cpu'")
    return name
