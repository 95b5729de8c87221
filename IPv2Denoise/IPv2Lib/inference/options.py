"""How to denoise: every choice, checked."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import check, option

ENGINES = ("auto", "onnxruntime", "torch")
"""What can compute a network, see `engines`."""

SMALLEST_TILE = 64
"""Pixels per side."""


@dataclass(frozen=True)
class DenoiseOptions:
    """How to denoise; see `denoise.denoise`. With `statistics`, the regions are measured before and after;
    with `reliability`, so is what to expect of the error.

    Raises
    ------
    InputError
        For a value out of range.
    """

    strength: float = option(
        1.0, "part of the noise that is removed", unit="", low=0, high=1, percent=True, metavar="S", panel=True
    )
    device: str = option(
        "auto", "auto, cpu, cuda (or cuda:1, ...) or mps; auto takes the fastest there is", metavar="DEVICE",
        panel=True, decides=False,
    )  # fmt: skip
    engine: str = option(
        "auto", "what computes the network: onnxruntime on CPUs, torch on any device; auto takes the faster one",
        choices=ENGINES, panel=True, decides=False,
    )  # fmt: skip
    keep_outside_body: bool = option(False, "leave the HU of room, table and clothes exactly as they are", panel=True)
    residual_noise_hu: float | None = option(
        None, "residual noise (σ) that keeps the texture of the scan; 0 is smoothest, 5 to 10 HU look like normal dose",
        unit="HU", low=0, label="residual noise", none="as the model says", flag="--residual-noise", metavar="HU",
        none_value=-1, panel=True, usual=(0, 100),
    )  # fmt: skip
    test_time_augmentation: bool = option(
        False, "test-time augmentation: mean over eight rotations and reflections of each slice; about 2 % less error, "
        "eight times as long", flag="--tta", panel=True,
    )  # fmt: skip
    statistics: bool = option(
        False, "show mean and noise of lung, soft tissue, bone and air before and after", decides=False
    )
    reliability: bool = option(
        False, "also map the expected error of each voxel, into OUTPUT-reliability; up to three times as long",
        decides=False,
    )  # fmt: skip
    compress: bool = option(True, "compress files; without, they are larger, and written much faster", decides=False)
    cache: bool = option(
        True, "keep what the network answers: the same scan at another strength then takes seconds (see 'ipv2 cache')",
        decides=False,
    )  # fmt: skip
    model: str | None = option(
        None, "name of an installed model (see 'ipv2 models'), or a model's folder", none="the one for the device",
        metavar="NAME|FOLDER", panel=True, decides=False,
    )  # fmt: skip
    batch: int | None = option(None, "slices at once", unit="", low=1, none="as many as fit the device", decides=False)
    tile: int | None = option(
        None, "side of the tiles into which slices are cut, to save memory", unit="px", low=SMALLEST_TILE,
        none="whole slices, unless they are very large", decides=False,
    )  # fmt: skip

    def __post_init__(self):
        check(self)
