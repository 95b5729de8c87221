"""The registry and the contract that every network keeps."""

import subprocess
import sys
from pathlib import Path

import IPv2Lib
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from IPv2Lib.errors import InputError
from IPv2Lib.networks import registry as networks

SMALL = {
    "denomamba": {"width": 4, "blocks": (1, 1), "refinement": 1, "states": 2},
    "dncnn": {"filters": 4, "depth": 4},
    "ffm": {"width": 16, "multipliers": (1, 2), "blocks": 1, "steps": 2},
    "ffm-published": {"width": 16, "multipliers": (1, 2), "blocks": 1, "steps": 2},
    "implicit": {"steps": 3, "width": 4},
    "ipv2net": {"channels": (4, 8), "blocks": (1, 1), "kernel": 3},
    "redcnn": {"filters": 4},
    "scunet": {"width": 8, "blocks": 2, "head": 4, "window": 2},
    "structkpn": {"filters": 4, "blocks": 1, "kernel": 5},
    "unet": {"channels": (4, 8), "blocks": (1, 1)},
}
TRAINED = [name for name in networks.names() if not networks.summary(name).zero_shot]


def randomised(name: str, seed: int = 0) -> torch.nn.Module:
    network = networks.build(name, **SMALL[name]).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


def random(*shape: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_names_are_those_that_build():
    assert set(networks.names()) == set(SMALL)


def test_a_summary_says_what_a_network_is_and_needs_no_torch():
    for name in networks.names():
        summary = networks.summary(name)
        network = networks.build(name, **SMALL[name])
        assert summary.name == name
        assert summary.title and summary.reference
        assert summary.zero_shot == (not list(network.parameters()))
        assert summary.generative == hasattr(network, "training_error")
    with pytest.raises(InputError, match="unknown network 'resnet'"):
        networks.summary("resnet")
    code = (
        "import sys; from IPv2Lib.networks import registry; [registry.summary(name) for name in registry.names()]; "
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(IPv2Lib.__file__).parents[1])


@pytest.mark.parametrize("name", networks.names())
@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 3), rows=st.integers(2, 70), columns=st.integers(2, 70))
def test_any_size_of_slices_goes_in_and_comes_out(name, batch, rows, columns):
    network = randomised(name)
    assert network.context % 2 == 1
    output = network(torch.zeros(batch, network.context, rows, columns))
    assert output.shape == (batch, 1, rows, columns)
    assert output.dtype == torch.float32
    assert output.isfinite().all()


@pytest.mark.parametrize("name", networks.names())
def test_slices_of_a_batch_do_not_mix(name):
    network = randomised(name)
    x = random(3, network.context, 40, 37)
    alone = torch.cat([network(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(x), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", networks.names())
def test_the_same_slice_gives_the_same_bytes_and_nothing_is_drawn(name):
    network = randomised(name)
    x = random(2, network.context, 33, 50)
    first = network(x)
    state = torch.get_rng_state()
    with torch.inference_mode():
        assert torch.equal(network(x), first)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", [name for name in TRAINED if name != "redcnn"])
def test_an_untrained_network_keeps_the_values(name):
    """Kernels average equal values, the others return their input; RED-CNN alone starts at random, as published."""
    torch.manual_seed(0)
    network = networks.build(name, **SMALL[name]).eval()
    x = torch.full((1, network.context, 30, 41), -0.85)
    torch.testing.assert_close(network(x), x[:, :1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_reach_every_weight(name):
    network = randomised(name).requires_grad_(True).train()
    x, target = random(2, network.context, 32, 32), random(2, 1, 32, 32, seed=2)
    if networks.summary(name).generative:
        error = network.training_error(x, target, torch.tensor([0.2, 0.7]))
        assert error.shape == target.shape
    else:
        error = network(x) - target
    error.square().mean().backward()
    silent = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


@pytest.mark.parametrize("name", networks.names())
def test_half_precision_changes_little(name):
    network = randomised(name)
    x = 0.3 * random(1, network.context, 40, 40)
    exact = network(x)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = network(x)
    assert (rounded.float() - exact).abs().max() < 0.05 * (1 + exact.abs().max())


@pytest.mark.parametrize("name", [name for name in networks.names() if name != "ffm-published"])
def test_default_sizes_are_compact_but_for_published_references(name):
    parameters = sum(parameter.numel() for parameter in networks.build(name).parameters())
    # RED-CNN: 2 layers of 96 and 1 filters to one channel, 8 of 96 x 96, all 5x5, each with biases.
    assert parameters == 2 * 96 * 25 + 8 * 96 * 96 * 25 + 9 * 96 + 1 if name == "redcnn" else parameters < 4e6


@pytest.mark.parametrize("name", ["redcnn", "dncnn", "structkpn"])
def test_convolutions_see_their_halo_and_no_farther(name):
    network = randomised(name)
    x = random(1, 1, 64, 64)
    y = x.clone()
    y[0, 0, 32, 32] += 1
    changed = (network(x) != network(y))[0, 0].nonzero()
    assert (changed - 32).abs().max() == network.halo


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("ipv2net", {"channels": (4, 8), "blocks": (1,)}, "ipv2net"),
        ("ipv2net", {"kernel": 4}, "kernel is 4"),
        ("ipv2net", {"context": 2}, "context is 2"),
        ("resnet", {}, r"unknown network 'resnet': choose one of denomamba, .*, unet"),
        ("redcnn", {"width": 3}, "redcnn.*width"),
        ("redcnn", {"filters": 0}, "filters is 0"),
        ("redcnn", {"filters": "many"}, "many"),
        ("unet", {"channels": 3}, "unet"),
        ("dncnn", {"depth": 1}, "depth"),
        ("structkpn", {"kernel": 4}, "kernel 4"),
        ("scunet", {"width": 8, "head": 16}, "head 16 must divide"),
        ("ffm", {"width": 20}, "width is 20"),
        ("ffm", {"steps": 51}, "steps is 51"),
        ("ffm-published", {"steps": 0}, "steps is 0"),
        ("denomamba", {"width": 5}, "width is 5"),
        ("denomamba", {"blocks": ()}, "denomamba"),
        ("implicit", {"smoothness": -1.0}, "smoothness is -1"),
    ],
)
def test_what_cannot_be_built_says_why(name, arguments, message):
    with pytest.raises(InputError, match=message):
        networks.build(name, **arguments)
