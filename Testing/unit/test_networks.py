"""The registry and the contract that every network keeps."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from IPv2Lib import networks
from IPv2Lib.errors import InputError

SMALL = {"unet": {"channels": (4, 8), "blocks": (1, 1)}, "redcnn": {"filters": 4}}


def randomised(name: str, seed: int = 0) -> torch.nn.Module:
    network = networks.build(name, **SMALL[name]).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.parameters():
        parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
    return network


def test_names_are_those_that_build():
    assert set(networks.names()) == set(SMALL)


@pytest.mark.parametrize("name", networks.names())
@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 3), rows=st.integers(2, 70), columns=st.integers(2, 70))
def test_any_size_of_slices_goes_in_and_comes_out(name, batch, rows, columns):
    network = randomised(name)
    assert network.context % 2 == 1
    output = network(torch.zeros(batch, network.context, rows, columns))
    assert output.shape == (batch, 1, rows, columns)
    assert output.dtype == torch.float32


@pytest.mark.parametrize("name", networks.names())
def test_slices_of_a_batch_do_not_mix(name):
    network = randomised(name)
    x = torch.randn(3, network.context, 40, 37, generator=torch.Generator().manual_seed(1))
    alone = torch.cat([network(x[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(network(x), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", networks.names())
def test_full_size_networks_are_what_is_published_or_compact(name):
    parameters = sum(parameter.numel() for parameter in networks.build(name).parameters())
    # RED-CNN: 2 layers of 96 and 1 filters to one channel, 8 of 96 x 96, all 5x5, each with biases.
    assert parameters == 2 * 96 * 25 + 8 * 96 * 96 * 25 + 9 * 96 + 1 if name == "redcnn" else parameters < 4e6


def test_redcnn_sees_its_halo_and_no_farther():
    network = randomised("redcnn")
    x = torch.zeros(1, 1, 64, 64)
    y = x.clone()
    y[0, 0, 32, 32] = 1
    changed = (network(x) != network(y))[0, 0].nonzero()
    assert (changed - 32).abs().max() <= network.halo


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet", {}, r"unknown network 'resnet': choose one of redcnn, unet"),
        ("redcnn", {"width": 3}, "redcnn.*width"),
        ("redcnn", {"filters": 0}, "filters is 0"),
        ("redcnn", {"filters": "many"}, "many"),
        ("unet", {"channels": 3}, "unet"),
    ],
)
def test_what_cannot_be_built_says_why(name, arguments, message):
    with pytest.raises(InputError, match=message):
        networks.build(name, **arguments)
