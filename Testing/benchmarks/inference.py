"""How fast and how large inference is: the networks against each other, the whole command against its network.

    python Testing/benchmarks/inference.py [CT VOLUME]

Bars: `unet` at least 20 times faster per 512² slice than `redcnn` on the same cores; the `denoise` command at
most 1.3 times the network's own time plus start-up; peak memory at most three times the float32 volume plus
1 GB. Without a volume a synthetic one of 48 slices is used; without an installed model, untrained weights, whose
speed is the same.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# Threads that spin while they wait make a network of many small layers several times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "IPv2Denoise"))

from IPv2Lib.errors import BundleError  # noqa: E402
from IPv2Lib.io import files  # noqa: E402
from IPv2Lib.io.volume import Volume  # noqa: E402
from IPv2Lib.models import bundle  # noqa: E402
from IPv2Lib.networks import registry  # noqa: E402

UNTRAINED = {
    "title": "Untrained",
    "description": "For measuring speed.",
    "hu_range": [-1024, 3071],
    "training": {"data": [], "settings": {}, "seed": 0},
    "metrics": {},
    "intended_use": "Benchmarks.",
    "limits": "Everything else.",
}


def main() -> None:
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    compare_networks()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        path = Path(sys.argv[1]) if len(sys.argv) > 1 else synthetic(folder / "scan.nrrd")
        measure_command(path, model(folder), folder)


def compare_networks(rounds: int = 4, seconds_per_turn: float = 3.0) -> None:
    """Best time of each network over some seconds, in turns, so that both meet the same machine."""
    ready = {}
    for name in ("redcnn", "unet"):
        network = registry.build(name).eval().to(memory_format=torch.channels_last)
        x = torch.randn(1, network.context, 512, 512).contiguous(memory_format=torch.channels_last)
        ready[name] = network, x
    best = dict.fromkeys(ready, float("inf"))
    with torch.inference_mode():
        for _ in range(rounds):
            for name, (network, x) in ready.items():
                turn = time.perf_counter()
                while (began := time.perf_counter()) - turn < seconds_per_turn:
                    network(x)
                    best[name] = min(best[name], time.perf_counter() - began)
    for name, seconds in best.items():
        print(f"{name:8} {seconds:8.4f} s per 512² slice")
    print(f"unet is {best['redcnn'] / best['unet']:.0f} times faster than redcnn (bar: 20)")


def measure_command(path: Path, model_name: str, folder: Path) -> None:
    """Run `ipv2 denoise` in its own process, and the start of one for comparison."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "IPv2Denoise")}
    starting = "import torch, IPv2Lib.cli.commands, IPv2Lib.inference.denoise"
    start_up = min(timed([sys.executable, "-c", starting], environment)[0] for _ in range(2))
    output = folder / "denoised.nrrd"
    command = [sys.executable, "-m", "IPv2Lib", "denoise", str(path), str(output)]
    seconds, text = timed([*command, "--model", model_name, "--device", "cpu", "--json"], environment)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    provenance = json.loads(text.splitlines()[-1])["provenance"]
    network = provenance["network_seconds"]
    volume = files.read(path)
    size = volume.array.size * 4
    print(f"denoise {path.name}, {volume.array.shape}, {provenance['model']}: {seconds:.1f} s;", end=" ")
    print(f"start-up {start_up:.1f} s, network {network:.1f} s, {network / len(volume.array):.4f} s per slice")
    print(f"command without start-up / network: {(seconds - start_up) / network:.2f} (bar: 1.3)")
    print(f"peak memory {peak / 2**20:.0f} MB (bar: {(3 * size + 2**30) / 2**20:.0f} MB)")


def timed(command: list[str], environment: dict[str, str]) -> tuple[float, str]:
    began = time.perf_counter()
    run = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - began, run.stdout


def model(folder: Path) -> str:
    try:
        return bundle.default_name()
    except BundleError:
        network = registry.build("unet")
        return str(bundle.save(folder / "untrained", "unet", {}, network.state_dict(), UNTRAINED).folder)


def synthetic(path: Path) -> Path:
    rng = np.random.default_rng(0)
    array = rng.normal(-900, 80, (48, 512, 512))
    array[:, 128:384, 96:416] += 940
    return files.write(Volume(array.astype(np.int16)), path)


if __name__ == "__main__":
    main()
