"""What the networks are built of, against the formulas and sizes of the papers."""

import pytest
import torch
from IPv2Lib.networks import registry
from IPv2Lib.networks.denomamba import ChannelSSM, selective_scan
from IPv2Lib.networks.scunet import WindowAttention
from IPv2Lib.networks.structkpn import StructKPN
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

random = torch.randn


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def size(name: str, **arguments) -> tuple[int, float]:
    """Parameters, and operations for one evaluation of 512², without computing anything."""
    with FakeTensorMode(), torch.no_grad():
        network = registry.build(name, **arguments)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        with FlopCounterMode(display=False) as counter:
            network(torch.zeros(1, network.context, 512, 512))
    return parameters, counter.get_total_flops()


def test_published_sizes():
    # DnCNN-S: 64 filters in, 15 times 64 x 64 with two numbers each for normalisation, one out; two biases.
    assert size("dncnn")[0] == 2 * 64 * 9 + 15 * (64 * 64 * 9 + 2 * 64) + 64 + 1
    # SCUNet (Zhang et al. 2023): 17.9 M.
    assert size("scunet", width=64, blocks=4, head=32)[0] == pytest.approx(17.94e6, rel=0.005)
    # StructKPN: two grouped convolutions in each of 24 blocks, 441 numbers per kernel.
    blocks = 24 * 2 * (88 * 44 * 9 + 88)
    ends = 88 * 10 + 88 * (88 * 9 + 1) + 441 * 89 + 441 * 442
    assert size("structkpn", filters=88, blocks=24, kernel=21)[0] == blocks + ends
    # FFM: 39.5 M parameters, 893 GFLOP per evaluation.
    parameters, operations = size("ffm-published", steps=1)
    assert parameters == pytest.approx(39.5e6, rel=0.02)
    assert operations == pytest.approx(893e9, rel=0.03)


@pytest.mark.parametrize("steps", [1, 7, 50])
def test_euler_steps_add_up(steps):
    network = registry.build("ffm", width=16, multipliers=(1, 2), blocks=1, steps=steps).eval()
    x = random(2, 1, 20, 23)
    torch.testing.assert_close(network(x), x, atol=1e-6, rtol=0)  # an untrained velocity is 0
    with torch.no_grad():
        network.tail[-1].bias.fill_(0.25)  # the same velocity everywhere and at all times
    torch.testing.assert_close(network(x), x + 0.25, atol=1e-5, rtol=0)


def test_the_velocity_changes_with_time_and_steps_can_be_set():
    network = registry.build("ffm", width=16, multipliers=(1, 2), blocks=1).eval()
    torch.nn.init.normal_(network.tail[-1].weight, std=0.1)
    x = random(1, 1, 16, 16)
    early, late = (network.velocity(x, torch.tensor([t])) for t in (0.0, 0.5))
    assert (early - late).abs().max() > 1e-3
    network.steps = 1
    torch.testing.assert_close(network(x), x + early)
    network.steps = 2
    middle = x + early / 2
    torch.testing.assert_close(network(x), middle + network.velocity(middle, torch.tensor([0.5])) / 2)
    with pytest.raises(ValueError, match="steps is 0; it must be from 1 to 50"):
        network.steps = 0


def test_the_training_error_of_the_flow():
    network = registry.build("ffm", width=16, multipliers=(1, 2), blocks=1).eval()
    x, target = random(2, 1, 16, 16), random(2, 1, 16, 16)
    # An untrained network stands still: what it misses is the whole way, at any time.
    torch.testing.assert_close(network.training_error(x, target, torch.tensor([0.0, 0.9])), x - target)
    torch.nn.init.normal_(network.tail[-1].weight, std=0.1)
    halfway = network.velocity((x + target) / 2, torch.full((2,), 0.5)) - (target - x)
    torch.testing.assert_close(network.training_error(x, target, torch.full((2,), 0.5)), halfway)


@pytest.mark.parametrize("length", [1, 2, 5, 64, 101])
def test_the_selective_scan_is_the_recurrence(length):
    batch, channels, states = 2, 3, 4
    u, b, c = random(batch, channels, length), random(batch, states, length), random(batch, states, length)
    step = functional.softplus(random(batch, channels, length))
    step[..., ::7] *= 30.0  # forgets everything
    decay = -torch.exp(random(channels, states))
    arguments = [x.requires_grad_() for x in (u, step, decay, b, c)]
    state = torch.zeros(batch, channels, states)
    expected = []
    for t in range(length):
        state = (step[..., t, None] * decay).exp() * state + (step * u)[..., t, None] * b[:, None, :, t]
        expected.append((state * c[:, None, :, t]).sum(-1))
    expected = torch.stack(expected, -1)
    scanned = selective_scan(*arguments)
    torch.testing.assert_close(scanned, expected, atol=1e-5, rtol=1e-4)
    weight = random(*scanned.shape)
    for ours, naive in zip(
        torch.autograd.grad((scanned * weight).sum(), arguments),
        torch.autograd.grad((expected * weight).sum(), arguments),
        strict=True,
    ):
        torch.testing.assert_close(ours, naive, atol=1e-4, rtol=1e-3)


def test_the_matrix_of_channels_is_their_scan():
    model = ChannelSSM(channels=6, states=3).requires_grad_(False)
    torch.nn.init.normal_(model.through)
    x = random(2, 6, 4, 5)
    step, b, c = model.selected(x)
    decay = -model.log_decay.exp()
    state = torch.zeros(2, 3, 4, 5)
    for i in range(6):
        kept = (step[:, i, None] * decay).exp()[..., None, None]
        state = kept * state + (step[:, i, None] * b[:, i])[..., None, None] * x[:, i, None]
        expected = (c[:, i, :, None, None] * state).sum(1) + model.through[i] * x[:, i]
        torch.testing.assert_close(model(x)[:, i], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("shifted", [False, True])
def test_window_attention_pixel_by_pixel(shifted):
    window, channels, head, rows, columns = 4, 6, 3, 8, 12
    attention = WindowAttention(channels, head, window, shifted).requires_grad_(False)
    torch.nn.init.normal_(attention.position)
    x = random(1, channels, rows, columns)
    q, k, v = attention.qkv(x)[0].unflatten(0, (3, channels // head, head))
    shift = window // 2 if shifted else 0
    pixels = [(i, j) for i in range(rows) for j in range(columns)]

    def block(pixel):  # windows begin half a window earlier, and are cut where the slice ends
        return [(p + window - shift) // window for p in pixel]

    expected = torch.zeros(channels, rows, columns)
    for i, j in pixels:
        near = [p for p in pixels if block(p) == block((i, j))]
        for n in range(channels // head):
            scores = torch.stack(
                [
                    q[n, :, i, j] @ k[n, :, a, b] / head**0.5
                    + attention.position[n, (i - a + window - 1) * (2 * window - 1) + j - b + window - 1]
                    for a, b in near
                ]
            )
            values = torch.stack([v[n, :, a, b] for a, b in near])
            expected[n * head : (n + 1) * head, i, j] = scores.softmax(0) @ values
    torch.testing.assert_close(attention(x), attention.project(expected[None]), atol=1e-5, rtol=1e-4)


def test_kernels_average_what_was_measured():
    network = StructKPN(filters=8, blocks=1, kernel=5).requires_grad_(False)
    torch.nn.init.normal_(network.predictor[-1].weight)
    x = random(1, 1, 150, 130)  # more than one strip
    kernels = network.kernels(network.features(network.encoder(x)))
    assert (kernels >= 0).all()
    torch.testing.assert_close(kernels.sum(1), torch.ones(1, 150, 130))
    output = network(x)
    padded = functional.pad(x, (2, 2, 2, 2), mode="replicate")[0, 0]
    for i, j in ((0, 0), (17, 129), (127, 64), (149, 3)):
        neighbours = padded[i : i + 5, j : j + 5]
        torch.testing.assert_close(output[0, 0, i, j], (kernels[0, :, i, j] * neighbours.flatten()).sum())
        assert neighbours.min() <= output[0, 0, i, j] <= neighbours.max()
