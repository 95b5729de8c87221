"""Noise that `ipv2net` leaves on purpose."""

import pytest
import torch
from IPv2Lib import networks

SIDE = 128


def pair(kept_noise_hu: float):
    """A network that removes much, and one with its weights that keeps some of it."""
    arguments = {"channels": (8, 16), "blocks": (1, 1)}
    torch.manual_seed(0)
    plain = networks.build("ipv2net", **arguments).eval().requires_grad_(False)
    torch.nn.init.normal_(plain.tail.weight, std=0.3)
    keeping = networks.build("ipv2net", **arguments, kept_noise_hu=kept_noise_hu).eval().requires_grad_(False)
    keeping.load_state_dict(plain.state_dict())
    return plain, keeping


def removed(network, x):
    """HU, of the slice in the middle."""
    return (x[:, 1, None] - network(x)) * networks.HU_PER_UNIT


def noise(sigma_hu: float) -> torch.Tensor:
    return sigma_hu / networks.HU_PER_UNIT * torch.randn(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


def test_of_strong_noise_as_much_is_kept_as_was_asked_for():
    plain, keeping = pair(10.0)
    x = noise(400.0)
    whole, part = removed(plain, x), removed(keeping, x)
    assert whole.std() > 50  # or nothing is tested
    assert (whole - part).std() == pytest.approx(10, rel=0.1)
    # A part of what was removed, and nothing else: it has its spectrum.
    assert torch.corrcoef(torch.stack([whole.flatten(), (whole - part).flatten()]))[0, 1] > 0.98


def test_noise_that_is_weaker_than_what_is_kept_stays_as_it_is():
    plain, keeping = pair(20.0)
    x = noise(1.0)
    assert 1 < removed(plain, x).std() < 8
    assert removed(keeping, x).abs().max() < 1e-3


def test_while_training_all_noise_is_removed():
    plain, keeping = pair(10.0)
    x = noise(100.0)
    assert torch.equal(keeping.train()(x), plain.train()(x))
    assert not torch.equal(keeping.eval()(x), plain(x))
