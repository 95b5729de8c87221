"""The strength of a result: between a volume and the network's answer, without the network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..io.volume import Volume
from ..options import check_value
from ..parallel.threads import over_slices
from .options import DenoiseOptions


def blend(volume: Volume, network_output: Volume, strength: float) -> Volume:
    """`volume + strength · (network_output − volume)`, in the type of `volume`.

    At strength 0 this is `volume` itself, at 1 `network_output` itself.

    Raises
    ------
    InputError
        If the strength is not from 0 to 1, or the shapes differ.
    """
    check_strength(strength)
    check_same_shape(volume, network_output)
    if strength in (0, 1):
        return network_output if strength else volume
    blended = np.empty_like(volume.array)
    blend_into(volume.array, network_output.array, strength, blended)
    return volume.with_array(blended)


@dataclass(frozen=True, eq=False)
class Blended:
    """A volume at a strength, and what was removed from it: `volume - denoised`; made by `blend_and_subtract`."""

    strength: float
    denoised: Volume
    removed: Volume


def blend_and_subtract(volume: Volume, network_output: Volume, strength: float) -> Blended:
    """`blend` into memory of its own, and the difference.

    Raises
    ------
    InputError
        As `blend`.
    """
    check_strength(strength)
    check_same_shape(volume, network_output)
    denoised, removed = np.empty_like(volume.array), np.empty_like(volume.array)
    blend_into(volume.array, network_output.array, strength, denoised, removed)
    return Blended(float(strength), volume.with_array(denoised), volume.with_array(removed))


def blend_into(
    before: np.ndarray, output: np.ndarray, strength: float, blended: np.ndarray, removed: np.ndarray | None = None
) -> None:
    """`blend` into arrays that exist, and what it removed; two cores need 0.2 s for 300 slices of 512×512 in int16.

    Parameters
    ----------
    before, output : ndarray, shape (slices, rows, columns)
        HU at strength 0 and 1.
    strength : float
    blended, removed : ndarray, same shape
        Written: HU at this strength, and `before - blended`; rounded and clipped if of an integer type.
    """

    def work(index: int) -> None:
        if strength in (0, 1):
            blended[index] = (output if strength else before)[index]
        else:
            start = before[index].astype(np.float32)
            change = output[index] - start
            change *= np.float32(strength)
            start += change
            store(blended[index], start)
        if removed is not None:
            store(removed[index], np.subtract(before[index], blended[index], dtype=np.float32))

    over_slices(work, len(before))


def store(target: np.ndarray, values: np.ndarray) -> None:
    """Copy float HU into an array of any type, rounded and within its range if that is an integer type."""
    if np.issubdtype(target.dtype, np.integer):
        limits = np.iinfo(target.dtype)
        np.rint(values, out=values)
        np.clip(values, limits.min, limits.max, out=values)
    target[...] = values


def check_same_shape(volume: Volume, network_output: Volume) -> None:
    """Refuse two volumes of which one cannot be made of the other (`InputError`)."""
    if volume.array.shape != network_output.array.shape:
        raise InputError(
            f"volume and network output have the shapes {volume.array.shape} and {network_output.array.shape}; "
            "blend a volume with its own result"
        )


def check_strength(strength: float) -> None:
    """Refuse a strength that is not from 0 to 1 (`InputError`)."""
    check_value(DenoiseOptions, "strength", strength)
