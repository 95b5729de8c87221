"""The experiments: phantoms with noise, denoised, and what is measured in them.

Owns how a stack is laid out for each; what is measured belongs to `noise`, `sharpness`, `hu`, `observer`, `nodules`,
`emphysema` and `structure`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...io.volume import Volume
from . import emphysema, hu, nodules, noise, observer, phantoms, pictures, sharpness, structure
from .protocol import Condition, Effort
from .realisations import CONTEXT, TEXTURES, Noise, stack, truth

Denoise = Callable[[Volume, Sequence[int]], np.ndarray]
"""A volume and the slices that are asked for, to these, denoised: (slices, rows, columns) HU."""

_SMALL_PATCH = 32  # pixels, between organs

_REGION_MM = 2.6
"""Side of the region that the observer sees, in diameters of the disk, at least."""


class Laboratory:
    """Noise and effort of one run.

    Parameters
    ----------
    noise : Noise
    effort : Effort
    seed : int
    lung_size : int
        Rows and columns of the chest that the lung is a part of.
    """

    def __init__(self, noise: Noise, effort: Effort, seed: int = 0, lung_size: int = 512):
        self.noise, self.effort, self.seed, self.lung_size = noise, effort, seed, lung_size

    def measure(self, condition: Condition, denoise: Denoise) -> dict[str, Any]:
        """One experiment on one denoiser; expressible in JSON."""
        return _EXPERIMENTS[condition.experiment](self, condition, denoise)


def _stacks(noise_: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise for two realisations of `count` slices each, and `CONTEXT` more at both ends."""
    length = count + 2 * CONTEXT
    if len(noise_) < 2 * length:
        raise ValueError(f"{len(noise_)} slices of noise are too few for twice {length}")
    return noise_[:length], noise_[length : 2 * length]


def _inner(count: int) -> list[int]:
    return list(range(CONTEXT, CONTEXT + count))


def _response(lab: Laboratory, condition: Condition, denoise: Denoise) -> dict[str, Any]:
    """Noise taken of a known σ in uniform water."""
    water = phantoms.water(condition.size_cm)
    count = 1
    if kernel := TEXTURES[condition.texture]:
        few = None if condition.size_cm == 22 else 2 * (count + 2 * CONTEXT)
        source = lab.noise.of(water, kernel, 1.0, few)
    else:
        source = lab.noise.white((2 * (count + 2 * CONTEXT), *water.source.shape), 1)
    mask = water.masks["inside"]
    patches = noise.cut(source, noise.places(mask))
    source = source * np.float32(condition.sigma_hu / np.sqrt(np.square(patches).mean()))
    return _compared(lab, water, source, count, "hann", denoise, mask)


def _noise(lab: Laboratory, condition: Condition, denoise: Denoise) -> dict[str, Any]:
    """Noise, texture and uniformity in water of 22 cm at a dose."""
    water = phantoms.water(22)
    source = lab.noise.of(water, condition.kernel, condition.dose)
    return _compared(lab, water, source, lab.effort.pairs, condition.kernel, denoise, water.masks["inside"])


def _compared(
    lab: Laboratory, water: phantoms.Phantom, source: np.ndarray, count: int, kernel: str, denoise: Denoise,
    mask: np.ndarray,
) -> dict[str, Any]:  # fmt: skip
    before, after = [], []
    for part in _stacks(source, count):
        volume = stack(water, part, kernel)
        before.append(volume.array[_inner(count)])
        after.append(denoise(volume, _inner(count)))
    found = noise.compared(before, after, mask, water.spacing[0], lab.seed)
    images, ideal = np.concatenate(after), truth(water, kernel)[0]
    found["bias"], found["bias_error"] = hu.bias(images, ideal, mask)
    found["uniformity"] = hu.uniformity(images, water.masks) - hu.uniformity(np.concatenate(before), water.masks)
    return found


def _rods(lab: Laboratory, condition: Condition, denoise: Denoise) -> dict[str, Any]:
    """Sharpness and HU of rods."""
    phantom, count = phantoms.rods(), lab.effort.slices
    part = lab.noise.of(phantom, condition.kernel, condition.dose)[: count + 2 * CONTEXT]
    images = denoise(stack(phantom, part, condition.kernel), _inner(count))
    ideal = truth(phantom, condition.kernel)[0]
    rows, columns = np.indices(ideal.shape)
    found = {}
    for place in phantom.places:
        border = sharpness.rod_border(
            ideal.shape, (place.row, place.column), place.diameter_mm / 2, phantom.spacing[0], place.hu > 0
        )
        one = sharpness.measured(images, border, lab.seed)
        one["truth"] = sharpness.measured(ideal[None], border, lab.seed)
        inside = np.hypot(rows - place.row, columns - place.column) * phantom.spacing[0] <= 0.35 * place.diameter_mm
        one["bias"], one["bias_error"] = hu.bias(images, ideal, inside)
        found[place.name] = one | {"hu": place.hu}
    return {"rods": found}


def _disks(lab: Laboratory, condition: Condition, denoise: Denoise) -> dict[str, Any]:
    """Detectability of low-contrast disks."""
    count = lab.effort.slices
    part = lab.noise.of(phantoms.disks(), condition.kernel, condition.dose)[: count + 2 * CONTEXT]
    images = {
        present: denoise(stack(phantoms.disks(present), part, condition.kernel), _inner(count))
        for present in (True, False)
    }
    found = {}
    spacing, every = phantoms.PIXEL_MM, phantoms.disks().places
    for diameter, contrast in phantoms.DISKS.items():
        places = [place for place in every if place.diameter_mm == diameter]
        size = 2 * int(np.ceil(max(_REGION_MM * diameter, 9) / spacing / 2)) + 1
        channels = observer.channels(size, diameter / spacing)
        present, absent = (_regions(images[each], places, size) @ channels for each in (True, False))
        noise_only = _regions(images[False], every, size) @ channels
        share = observer.independent_share(noise_only)
        p, a, n = (each.reshape(-1, channels.shape[1]) for each in (present, absent, noise_only))
        one = observer.detectability(p, a, n, share, lab.seed).as_dict()
        found[f"{diameter:g}"] = one | {"contrast": contrast, "images": present.shape[0] * present.shape[1]}
    return {"disks": found}


def _regions(images: np.ndarray, places: Sequence[phantoms.Place], size: int) -> np.ndarray:
    """Regions around places: (slices, places, size²)."""
    corners = [(int(place.row) - size // 2, int(place.column) - size // 2) for place in places]
    regions = [images[:, row : row + size, column : column + size] for row, column in corners]
    return np.stack(regions, 1).reshape(len(images), len(places), size * size).astype(np.float64)


def _of_anatomy(
    lab: Laboratory,
    phantom: phantoms.Phantom,
    condition: Condition,
    denoise: Denoise,
    count: int,
    wanted: Sequence[int],
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Realisations of anatomy as it is and denoised, the wanted slices; every slice has other noise in each."""
    slices = len(phantom.truth)
    bank = lab.noise.of(phantom, condition.kernel, condition.dose, slices)
    before, after = [], []
    for number in range(count):
        volume = stack(phantom, np.roll(bank, number * (slices // count), 0))
        before.append(volume.array[list(wanted)])
        after.append(denoise(volume, wanted))
    return before, after


def _by_region(
    before: Sequence[np.ndarray], after: Sequence[np.ndarray], ideal: np.ndarray, masks: dict[str, np.ndarray]
) -> dict[str, Any]:
    """Noise of two realisations by tissue, bias, error in the body and structure in what was removed."""
    found: dict[str, Any] = {"regions": {}}
    noise_in, noise_out = (noise.difference(*each[:2]) for each in (before, after))
    for name in ("parenchyma", "soft", "bone"):
        mask = masks[name]
        sigma_in, sigma_out = float(noise_in[mask].std()), float(noise_out[mask].std())
        error = [float((each - ideal)[mask].mean(dtype=np.float64)) for each in after]
        found["regions"][name] = {
            "sigma_in": sigma_in, "sigma_out": sigma_out, "taken": 1 - sigma_out / sigma_in,
            "bias": float(np.mean(error)),
        }  # fmt: skip
    body = ideal > -950
    found["rmse"] = _mean(np.sqrt(np.mean(np.square(each - ideal, dtype=np.float64)[body])) for each in after)
    removed = [a - b for a, b in zip(before, after, strict=True)]
    found["structure"] = {
        "correlation": _mean(structure.correlation(each, ideal, body) for each in removed),
        "noise": _mean(structure.correlation(each - ideal, ideal, body) for each in before),
    }
    return found


def _chest(lab: Laboratory, condition: Condition, denoise: Denoise) -> dict[str, Any]:
    """Noise by region in whole slices of a chest, and its spectrum behind the anatomy of soft tissue."""
    phantom = phantoms.anatomy(lab.effort.lung, lab.lung_size)
    wanted = [lab.effort.lung // 2 + step for step in range(lab.effort.pairs)]
    before, after = _of_anatomy(lab, phantom, condition, denoise, 2, wanted)
    masks = {name: mask[wanted] for name, mask in phantom.masks.items()}
    found = _by_region(before, after, phantom.truth[wanted], masks)
    uniform = np.asarray(masks["soft"].all(0))
    if len(noise.places(uniform, _SMALL_PATCH)):
        found["texture"] = noise.compared(
            before, after, uniform, phantom.spacing[0], lab.seed, _SMALL_PATCH, _SMALL_PATCH // 4
        )
    return found


def _lung(lab: Laboratory, condition: Condition, denoise: Denoise) -> dict[str, Any]:
    """Noise by region, nodules, emphysema and structure in what was removed."""
    phantom = phantoms.lung(lab.effort.lung, lab.lung_size)
    slices = range(len(phantom.truth))
    before, after = _of_anatomy(lab, phantom, condition, denoise, lab.effort.lungs, slices)
    masks, ideal, spacing = phantom.masks, phantom.truth, phantom.spacing
    found = _by_region(before, after, ideal, masks) | {"nodules": {}}
    for place in phantom.places:
        sizes = [nodules.diameter(each, place, spacing) for each in after]
        found["nodules"][place.name] = {
            "diameter_mm": place.diameter_mm,
            "hu": place.hu,
            "contrast_true": nodules.contrast(ideal, place, spacing),
            "contrast": float(np.mean([nodules.contrast(each, place, spacing) for each in after])),
            "diameter_true": nodules.diameter(ideal, place, spacing),
            "diameters": [None if np.isnan(each) else each for each in sizes],
        }
    found["emphysema"] = {
        "true": emphysema.share(ideal, masks["inner"]),
        "share": float(np.mean([emphysema.share(each, masks["inner"]) for each in after])),
    }
    found["picture"] = pictures.lung(after[0][len(slices) // 2])
    return found


def _faint(lab: Laboratory, condition: Condition, denoise: Denoise) -> dict[str, Any]:
    """Detectability of faint nodules in a lung of one HU."""
    kinds = {
        True: phantoms.faint(lab.effort.lung, lab.lung_size), False: phantoms.lung(lab.effort.lung, lab.lung_size, True)
    }  # fmt: skip
    wanted, count = phantoms.FAINT_SLICES, lab.effort.lungs
    images = {
        present: np.array(_of_anatomy(lab, phantom, condition, denoise, count, wanted)[1])
        for present, phantom in kinds.items()
    }
    found, every, spacing = {}, kinds[True].places, kinds[True].spacing[0]
    size = nodules.PATCH - 1
    for diameter, contrast in phantoms.FAINT.items():
        channels = observer.channels(size, diameter / spacing)
        places = [place for place in every if place.diameter_mm == diameter]
        present, absent, alone = (
            np.concatenate(
                [
                    _regions(images[which][:, at], [place for place in chosen if place.slice == k], size) @ channels
                    for at, k in enumerate(wanted)
                ],
                axis=1,
            ).reshape(-1, channels.shape[1])
            for which, chosen in ((True, places), (False, places), (False, every))
        )  # fmt: skip
        one = observer.detectability(present, absent, alone, seed=lab.seed).as_dict()
        found[f"{diameter:g}"] = one | {"contrast": contrast, "images": len(present)}
    return {"disks": found}


def _invented(lab: Laboratory, condition: Condition, denoise: Denoise) -> dict[str, Any]:
    """Patches of a lung with nothing in it that show something."""
    phantom = phantoms.lung(lab.effort.lung, lab.lung_size, flat=True)
    _, after = _of_anatomy(lab, phantom, condition, denoise, 1, range(len(phantom.truth)))
    patches = nodules.whole_patches(phantom.masks["inner"])
    limit = _faintest(phantom) / 2
    values = nodules.excess(after[0], patches, phantom.spacing[0])
    return {
        "patches": len(values),
        "limit": limit,
        "invented": int((values > limit).sum()),
        "largest": float(values.max()),
    }


def _faintest(phantom: phantoms.Phantom) -> float:
    """What the smallest and faintest nodule of the lung shows, measured as things invented are."""
    patch = np.full((nodules.PATCH, nodules.PATCH), float(np.median(phantom.truth[phantom.masks["inner"]])))
    middle = nodules.PATCH // 2
    rows, columns = np.indices(patch.shape)
    pixel = phantom.spacing[0]
    distance = np.hypot(rows - middle, columns - middle) * pixel
    covered = np.clip(0.5 + (phantoms.NODULES_MM[0] / 2 - distance) / max(pixel, 1.0), 0, 1)
    patch += covered * (phantoms.NODULES_HU[0] - patch)
    return float(nodules.excess(patch[None], [(0, 0, 0)], pixel)[0])


def _mean(values) -> float | None:
    found = [each for each in values if np.isfinite(each)]
    return float(np.mean(found)) if found else None


_EXPERIMENTS = {
    "response": _response, "noise": _noise, "rods": _rods, "disks": _disks, "chest": _chest, "lung": _lung,
    "faint": _faint, "invented": _invented,
}  # fmt: skip
