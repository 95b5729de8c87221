"""Networks that see only a neighbourhood give the same result in tiles as on whole slices."""

import numpy as np
import pytest
import torch
from IPv2Lib.inference.denoise import denoise
from IPv2Lib.io.volume import Volume
from IPv2Lib.models import bundle
from IPv2Lib.networks import registry
from samples import CARD

LOCAL = {
    "dncnn": {"filters": 8, "depth": 5},
    "ipv2net": {"channels": (8, 16), "blocks": (1, 1), "kernel": 3},
    "structkpn": {"filters": 8, "blocks": 2, "kernel": 7},
    "scunet": {"width": 8, "blocks": 2, "head": 4, "window": 4},
    "implicit": {"steps": 20, "width": 8},
}
WHOLE_SLICE = {
    "ffm": {"width": 16, "multipliers": [1, 2], "blocks": 1, "steps": 2},
    "denomamba": {"width": 4, "blocks": [1, 1], "refinement": 0, "states": 2},
}


def scan() -> Volume:
    rng = np.random.default_rng(0)
    array = np.full((1, 150, 141), -1000.0)
    array[:, 30:120, 20:130] = 40.0
    array[:, 50:90, 40:70] = -850.0
    return Volume((array + rng.normal(0, 60, array.shape)).astype(np.float32))


def model(folder, name: str, arguments: dict) -> bundle.Bundle:
    torch.manual_seed(0)
    network = registry.build(name, **arguments)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)  # the last layer, without which nothing else is seen
    return bundle.save(folder / name, name, arguments, network.state_dict(), CARD, bits=32)


@pytest.mark.parametrize("name", LOCAL)
def test_tiles_agree_with_whole_slices(tmp_path, name):
    saved = model(tmp_path, name, LOCAL[name])
    whole = denoise(scan(), saved, device="cpu").volume.array
    tiled = denoise(scan(), saved, device="cpu", tile=64).volume.array
    assert np.abs(whole - scan().array).max() > 1.0
    assert np.abs(tiled - whole).max() < 0.05  # HU


@pytest.mark.parametrize("name", WHOLE_SLICE)
def test_networks_that_see_the_whole_slice_work_in_tiles_all_the_same(tmp_path, name):
    saved = model(tmp_path, name, WHOLE_SLICE[name])
    whole = denoise(scan(), saved, device="cpu").volume.array
    tiled = denoise(scan(), saved, device="cpu", tile=64).volume.array
    change = np.std(whole - scan().array)
    assert change > 1.0
    assert np.std(tiled - whole) < 0.5 * change
