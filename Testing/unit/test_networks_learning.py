"""Every network learns: it overfits one noisy slice; the zero-shot one denoises it without having learned."""

import pytest
import torch
from IPv2Lib.networks import registry
from IPv2Lib.simulation import phantom

NOISE_HU = 100.0
SMALL = {  # arguments and steps
    "denomamba": ({"width": 8, "blocks": (1, 1), "refinement": 0, "states": 4}, 30),
    "dncnn": ({"filters": 16, "depth": 6}, 80),
    "ffm": ({"width": 16, "multipliers": (1, 2), "blocks": 1}, 40),
    "ffm-published": ({"width": 16, "multipliers": (1, 2), "blocks": 1, "steps": 3}, 60),
    "ipv2net": ({"channels": (16, 32), "blocks": (1, 1)}, 40),
    "redcnn": ({"filters": 16}, 160),
    "scunet": ({"width": 16, "blocks": 2, "head": 8, "window": 2}, 50),
    "structkpn": ({"filters": 16, "blocks": 2, "kernel": 7}, 60),
    "unet": ({"channels": (16, 32), "blocks": (1, 1)}, 60),
}


@pytest.fixture(scope="module")
def chest() -> torch.Tensor:
    """A slice through lung, vessels and chest wall, HU / 1000."""
    return torch.from_numpy(phantom.chest(0, 256, 1).array[0]).float() / registry.HU_PER_UNIT


def noisy(ground_truth: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return ground_truth + NOISE_HU / registry.HU_PER_UNIT * torch.randn(ground_truth.shape, generator=generator)


def error_hu(output: torch.Tensor, ground_truth: torch.Tensor) -> float:
    return float((output - ground_truth).square().mean().sqrt()) * registry.HU_PER_UNIT


def test_every_network_that_has_weights_is_trained_here():
    assert set(SMALL) == {name for name in registry.names() if not registry.summary(name).zero_shot}


@pytest.mark.parametrize("name", SMALL)
def test_one_slice_is_learned(chest, name):
    arguments, steps = SMALL[name]
    torch.manual_seed(0)
    network = registry.build(name, **arguments)
    ground_truth = chest[None, None, 108:124, 64:80]
    x = noisy(ground_truth)
    before = error_hu(x, ground_truth)
    x = x.expand(1, network.context, -1, -1)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(steps):
        generative = registry.summary(name).generative
        error = network.training_error(x, ground_truth, torch.rand(1)) if generative else network(x) - ground_truth
        optimizer.zero_grad()
        error.square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        assert error_hu(network.eval()(x), ground_truth) < 0.4 * before


def test_an_implicit_representation_denoises_without_training(chest):
    ground_truth = chest[None, None, 60:188, 40:168]
    x = noisy(ground_truth)
    with torch.inference_mode():
        output = registry.build("implicit")(x)
    step = (ground_truth[..., 1:, :-1] - ground_truth[..., :-1, :-1]).abs() + (
        ground_truth[..., :-1, 1:] - ground_truth[..., :-1, :-1]
    ).abs()
    flat, edges = step < 0.02, step > 0.2
    inner = (..., slice(None, -1), slice(None, -1))
    assert error_hu(output[inner][flat], ground_truth[inner][flat]) < 0.45 * NOISE_HU
    assert error_hu(output[inner][edges], ground_truth[inner][edges]) < 1.3 * NOISE_HU
    assert abs(float((output - ground_truth).mean())) * registry.HU_PER_UNIT < 3.0


def test_more_steps_of_an_implicit_representation_follow_more_detail(chest):
    ground_truth = chest[None, None, 60:124, 40:104]

    def fitted(**arguments):
        return error_hu(registry.build("implicit", width=16, **arguments)(ground_truth), ground_truth)

    assert fitted(steps=80) < 0.7 * fitted(steps=20)


def test_smoothness_holds_variation_back(chest):
    x = noisy(chest[None, None, 60:124, 40:104])

    def variation(smoothness):
        return registry.build("implicit", steps=60, width=16, smoothness=smoothness)(x).diff(dim=-1).abs().mean()

    assert variation(3.0) < 0.8 * variation(0.0)
