"""A small scan, a small model and the command line, for the end-to-end tests."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from IPv2Lib.cli.commands import main
from IPv2Lib.io import files
from IPv2Lib.models import bundle
from IPv2Lib.networks import registry
from samples import CARD
from small_chest import small_chest, without_notes


@dataclass(frozen=True)
class Outcome:
    """What a command left behind: exit code, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict]:
        """The JSON lines on stdout."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def said(self) -> str:
        """Stderr without notes: the synthetic chests are coarser than what models are made for."""
        return without_notes(self.err)


@pytest.fixture
def ipv2(capfd) -> Callable[..., Outcome]:
    """Run a command in this process."""

    def run(*arguments: object) -> Outcome:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture
def scan(tmp_path) -> Path:
    """A small noisy chest CT as NRRD, alone in its folder."""
    return files.write(small_chest(), tmp_path / "scan.nrrd")


@pytest.fixture
def clean(tmp_path) -> Path:
    """The same chest on the same grid with little noise."""
    return files.write(small_chest(sigma=5.0, seed=1), tmp_path / "clean.nrrd")


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    """A tiny untrained model that changes its input."""
    import torch

    arguments = {"channels": [4, 8], "blocks": [1, 1]}
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: value + 0.02 * torch.randn(value.shape, generator=generator)
        for name, value in registry.build("unet", **arguments).state_dict().items()
    }
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return bundle.save(folder, "unet", arguments, weights, CARD).folder


@pytest.fixture
def contents(tmp_path) -> Callable[[], set[str]]:
    """What lies in the test's folder, hidden files included, with the size and time of each file."""

    def look() -> set[str]:
        return {
            f"{path.relative_to(tmp_path)} {path.stat().st_size} {path.stat().st_mtime_ns}" if path.is_file()
            else f"{path.relative_to(tmp_path)}/"
            for path in tmp_path.rglob("*")
        }  # fmt: skip

    return look
