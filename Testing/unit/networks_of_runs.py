"""The network that a run has trained."""

from pathlib import Path

import torch
from IPv2Lib.networks import registry
from IPv2Lib.training.learner import load_weights
from IPv2Lib.training.settings import read_settings


def load_network(run: Path, *, last: bool = False) -> torch.nn.Module:
    """With its best averaged weights or those of the last checkpoint, in evaluation mode, on the CPU."""
    settings = read_settings(run)
    network = registry.build(settings.network, **settings.arguments)
    network.load_state_dict(load_weights(run, last=last)[0])
    return network.eval().requires_grad_(False)
