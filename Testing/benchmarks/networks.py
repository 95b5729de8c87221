"""What the networks cost: parameters, operations and time for a slice of 512×512 pixels.

    python Testing/benchmarks/networks.py [NAME...]

Operations are multiplications and additions of convolutions, matrix products and attention, counted by PyTorch
without computing anything. Fourier transforms are counted apart, 2.5·n·log2(n) per real transform of n pixels; the
scans of `denomamba` are elementwise and not counted. What goes in steps is counted and timed with its default number
of steps; `ffm-published` is timed for one of its 50, and `implicit` is a fit, whose operations are timed only.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
from pathlib import Path

# Threads that spin while they wait make a network of many small layers several times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "IPv2Denoise"))

from IPv2Lib.networks import registry

SIDE = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", default=registry.names(), metavar="NAME", help="default: all")
    names = parser.parse_args().names
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {SIDE}×{SIDE} pixels")
    print(f"{'network':15}{'steps':>6}{'parameters':>12}{'GFLOP':>9}{'FFT GFLOP':>11}{'seconds':>9}")
    for name in names:
        parameters, operations, transforms = cost(name)
        steps = getattr(registry.build(name), "steps", 1) if registry.summary(name).generative else 1
        timed_steps = 1 if name == "ffm-published" else steps
        elapsed = seconds(name, timed_steps) * steps / timed_steps
        counted = f"{operations / 1e9:9.1f}{transforms / 1e9:11.1f}" if parameters else f"{'-':>9}{'-':>11}"
        print(f"{name:15}{steps:6}{parameters / 1e6:10.2f} M{counted}{elapsed:9.2f}", flush=True)


def cost(name: str) -> tuple[int, float, float]:
    """Parameters, operations for one slice, and those of its Fourier transforms."""
    if registry.summary(name).zero_shot:
        return 0, 0.0, 0.0
    # Only the plain form of attention is made of operations that are counted.
    with FakeTensorMode(), torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        network = registry.build(name).eval()
        parameters = sum(parameter.numel() for parameter in network.parameters())
        with FlopCounterMode(display=False) as counter, _Transforms() as transforms:
            network(torch.zeros(1, network.context, SIDE, SIDE))
    return parameters, counter.get_total_flops(), transforms.operations


def seconds(name: str, steps: int) -> float:
    """Time for one slice, the better of two, the first of which also prepares the layers."""
    network = registry.build(name).eval().to(memory_format=torch.channels_last)
    if registry.summary(name).generative:
        network.steps = steps
    x = torch.randn(1, network.context, SIDE, SIDE).contiguous(memory_format=torch.channels_last)
    best = math.inf
    with torch.inference_mode():
        for _ in range(2):
            began = time.perf_counter()
            network(x)
            best = min(best, time.perf_counter() - began)
    return best


class _Transforms(TorchDispatchMode):
    """Adds up what the Fourier transforms of real images cost."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0.0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if "fft" in function.__name__:
            image = arguments[0] if not arguments[0].is_complex() else result
            rows, columns = image.shape[-2:]
            self.operations += 2.5 * image.numel() * math.log2(rows * columns)
        return result


if __name__ == "__main__":
    main()
