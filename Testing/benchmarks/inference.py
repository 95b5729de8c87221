"""How fast and how large denoising is: engines against each other, and the whole command against its network.

    python Testing/benchmarks/inference.py [CT VOLUME] [--only PART ...] [--slices N] [--repeats N]

Prints one table: what, its value, its bar. Times are medians of turns in which everything that is compared takes part,
so that all meet the same machine; state what else ran on it. Without a volume, the synthetic chest is used. The parts:
agreement, network, command, memory, start, rivals, gpu.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "IPv2Denoise"))
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as the command line has it

from IPv2Lib.inference.denoise import denoise  # noqa: E402
from IPv2Lib.inference.engines import ENGINES  # noqa: E402
from IPv2Lib.io import files  # noqa: E402
from IPv2Lib.io.volume import Volume  # noqa: E402
from IPv2Lib.models import bundle  # noqa: E402
from IPv2Lib.networks import registry  # noqa: E402
from IPv2Lib.parallel.threads import cores  # noqa: E402

MODELS = ("ipv2-fast", "ipv2-quality")
CARD = {
    "title": "Untrained", "description": "For measuring speed.", "hu_range": [-1024, 3071], "metrics": {},
    "training": {"data": [], "settings": {}, "seed": 0}, "intended_use": "Benchmarks.", "limits": "Everything else.",
}  # fmt: skip
Row = tuple[str, str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("volume", nargs="?", type=Path)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Work(Path(folder), slices_of(options.volume), options.slices, options.repeats)
        print(f"{cores()} cores, load {os.getloadavg()[0]:.1f}, {versions()}")
        for name in options.only:
            for what, value, bar in PARTS[name](work):
                print(f"{what:70} {value:>28}   {bar}", flush=True)


@dataclasses.dataclass(frozen=True)
class Work:
    """What is measured on, and how often."""

    folder: Path
    example: Volume
    slices: int
    repeats: int

    def scan(self, slices: int) -> Path:
        """A file of so many slices, compressed: those of the example, forwards and backwards."""
        path = self.folder / f"scan-{slices}.nrrd"
        if not path.exists():
            there = self.example.array
            order = np.resize(np.concatenate([np.arange(len(there)), np.arange(len(there))[::-1]]), slices)
            files.write(self.example.with_array(there[order]), path)
        return path


def slices_of(path: Path | None) -> Volume:
    if path:
        return files.read(path)
    from IPv2Lib.simulation.phantom import pair

    return pair(size=512).uldct


def versions() -> str:
    found = []
    for name in ENGINES[1:]:
        try:
            found.append(f"{name} {__import__(name).__version__}")
        except ImportError:
            found.append(f"no {name}")
    return ", ".join(found)


def agreement(work: Work) -> Iterator[Row]:
    """The largest difference between the engines, HU."""
    middle = len(work.example.array) // 2
    few = work.example.array[middle - 1 : middle + 2]
    cases = [
        ("whole slices, float32", few.astype(np.float32), {}),
        ("whole slices, int16", few.astype(np.int16), {}),
        ("tiles of 128", few.astype(np.float32), {"tile": 128}),
        ("odd size", few[:, 3:290, 7:342].astype(np.float32), {}),
        ("test-time augmentation", few[:, 100:260, 100:290].astype(np.float32), {"test_time_augmentation": True}),
    ]
    for name in MODELS:
        model = bundle.load(name)
        for what, array, how in cases:
            volume = work.example.with_array(array)
            first, second = (
                denoise(volume, model, device="cpu", engine=engine, **how).volume.array.astype(float)
                for engine in ENGINES[1:]
            )
            off = np.abs(first - second)
            if array.dtype == np.float32:
                yield f"engines, {name}, {what}", f"{off.max():.4f} HU", "≤ 0.01 HU"
            else:  # what lies between two whole numbers can be rounded either way
                yield f"engines, {name}, {what}", f"{off.max():g} HU in {off.mean():.5%}", "≤ 1 HU in 0.01 %"


def network(work: Work) -> Iterator[Row]:
    """Seconds per slice, as `denoise` runs it, on either engine."""
    chest = work.example.with_array(work.example.array[: 2 * cores()])
    for name, bar in zip(MODELS, (1.8, 1.4), strict=True):
        model = bundle.load(name)
        calls = {engine: partial(network_seconds, chest, model, engine) for engine in ENGINES[1:]}
        found = in_turns(work.repeats, calls)
        for engine, seconds in found.items():
            yield f"{name}, network, {engine}, per slice of 512²", f"{seconds:.3f} s", ""
        yield f"{name}, ONNX Runtime against PyTorch", f"{found['torch'] / found['onnxruntime']:.2f} ×", f"≥ {bar} ×"


def network_seconds(volume: Volume, model: bundle.Bundle, engine: str) -> float:
    return denoise(volume, model, device="cpu", engine=engine).provenance["network_seconds"] / len(volume.array)


def command(work: Work) -> Iterator[Row]:
    """The whole command on a compressed file, then at another strength."""
    scan, cache = work.scan(work.slices), work.folder / "cache"
    whole, again, ratio = [], [], []
    for turn in range(max(1, work.repeats // 2)):
        environment = {"IPV2_CACHE": str(cache / str(turn))}
        ran = ipv2("denoise", scan, work.folder / "a.nrrd", "--device", "cpu", "--overwrite", **environment)
        whole.append(ran.seconds)
        ratio.append(ran.seconds / ran.result["provenance"]["network_seconds"])
        other = ipv2("denoise", scan, work.folder / "b.nrrd", "--strength", "0.6", "--overwrite", **environment)
        again.append(other.seconds)
        assert other.result["provenance"]["from_cache"]
    text = f"ipv2 denoise, {work.slices} slices, compressed"
    yield text, f"{median(whole):.1f} s", "≤ 45 s on two cores"
    yield f"{text}, against its network", f"{median(ratio):.2f} ×", "≤ 1.10 ×"
    yield f"{text}, another strength", f"{median(again):.1f} s", "≤ 6 s"


def memory(work: Work) -> Iterator[Row]:
    """Peak of the process."""
    for slices in (work.slices, 1000):
        scan = work.scan(slices)
        voxels = slices * work.example.array[0].size
        bar = 0.6e9 + 4 * voxels
        ran = ipv2("denoise", scan, work.folder / "m.nrrd", "--device", "cpu", "--overwrite", "--strength", "0.5")
        yield f"peak memory, {slices} slices, strength 0.5", f"{ran.peak / 1e9:.2f} GB", f"≤ {bar / 1e9:.2f} GB"
        scan.unlink()


def start(work: Work) -> Iterator[Row]:
    """How long until something happens."""
    scan = work.scan(3)
    helped = [ipv2("--help").seconds for _ in range(work.repeats)]
    line = ("denoise", scan, work.folder / "s.nrrd", "--overwrite", "--device", "cpu")
    first = [ipv2(*line).first_slice for _ in range(work.repeats)]
    yield "ipv2 --help", f"{median(helped):.2f} s", "≤ 0.1 s"
    yield "ipv2 denoise, until the first slice is done", f"{median(first):.2f} s", "≤ 2 s"


def rivals(work: Work) -> Iterator[Row]:
    """RED-CNN of the usual size on the same engine, and Open Image Denoise where it is installed."""
    network = registry.build("redcnn")
    rival = bundle.save(work.folder / "redcnn", "redcnn", {}, network.state_dict(), CARD, with_graph=True)
    models = {"ipv2-fast": bundle.load("ipv2-fast"), "redcnn": rival}
    chest = work.example.with_array(work.example.array[:4])
    calls: dict[str, Callable[[], float]] = {
        name: partial(network_seconds, chest, model, "onnxruntime") for name, model in models.items()
    }
    with contextlib.suppress(ImportError):  # pip install pyoidn
        import pyoidn

        grey = np.clip((chest.array + 1024) / 4095, 0, 1).astype(np.float32)
        coloured = np.repeat(grey[..., None], 3, axis=3)  # all that it takes

        def other() -> float:
            began = time.perf_counter()
            for image in coloured:
                pyoidn.denoise(image, quality="fast")
            return (time.perf_counter() - began) / len(coloured)

        calls["oidn"] = other
    found = in_turns(max(1, work.repeats // 2), calls)
    yield "redcnn, network, onnxruntime, per slice of 512²", f"{found['redcnn']:.2f} s", ""
    yield "ipv2-fast against it", f"{found['redcnn'] / found['ipv2-fast']:.1f} ×", "≥ 25 ×"
    if "oidn" not in found:
        yield "Open Image Denoise, fast filter", "not measured: pip install pyoidn", "level"
        return
    yield "Open Image Denoise, fast filter, per slice of 512²", f"{found['oidn']:.3f} s", ""
    yield "ipv2-fast against it", f"{found['oidn'] / found['ipv2-fast']:.2f} ×", "level"


def gpu(work: Work) -> Iterator[Row]:
    """A whole volume on an NVIDIA GPU, and its network by precision; nothing where there is none."""
    import torch

    if not torch.cuda.is_available():
        yield "GPU", "not measured: there is none", "300 slices < 4 s, network < 1.5 s"
        return
    print(torch.cuda.get_device_name())
    volume = files.read(work.scan(work.slices))
    for name in MODELS:
        model = bundle.load(name)
        runs = [denoise(volume, model, device="cuda").provenance for _ in range(work.repeats + 1)][1:]
        for key, what, bar in (("seconds", "whole", "< 4 s"), ("network_seconds", "network", "< 1.5 s")):
            yield f"{name}, {work.slices} slices, {what}", f"{median(run[key] for run in runs):.2f} s", bar
        yield from precisions(work, model, "cuda")


def precisions(work: Work, model: bundle.Bundle, device: str) -> Iterator[Row]:
    """The network alone, eager and as CUDA graphs: seconds for all slices, operations a second, difference."""
    import torch

    network = model.network().to(device).eval()
    few = np.resize(work.example.array, (16, network.context, *work.example.array.shape[1:])) / 1000
    x = torch.from_numpy(few.astype(np.float32)).to(device)
    operations = 0.0
    with torch.profiler.profile(with_flops=True) as profile, torch.inference_mode():
        exact = network(x)
    operations = sum(event.flops for event in profile.key_averages())
    ways = {"eager": network, "CUDA graphs": torch.compile(network, mode="reduce-overhead")}
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        for way, run in ways.items():
            with torch.inference_mode(), torch.autocast(device, dtype, enabled=dtype != torch.float32):
                found = [timed_on_device(run, x, device) for _ in range(work.repeats + 2)][2:]
                off = 1000 * (run(x).float() - exact).abs().max().item()
            seconds = median(found)
            value = f"{seconds * work.slices / len(x):.2f} s, {operations / seconds / 1e12:.1f} TFLOP/s, {off:.2g} HU"
            yield f"{model.name}, network, {dtype}, {way}, {work.slices} slices", value, "≤ 1 HU"


def timed_on_device(run: Callable, x: object, device: str) -> float:
    import torch

    began = time.perf_counter()
    run(x)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


PARTS: dict[str, Callable[[Work], Iterator[Row]]] = {
    each.__name__: each for each in (agreement, network, command, memory, start, rivals, gpu)
}


def in_turns(repeats: int, calls: dict[str, Callable[[], float]]) -> dict[str, float]:
    """The median of what each call returns, after one round that does not count."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            value = call()
            if turn:
                found[name].append(value)
    return {name: median(values) for name, values in found.items()}


@dataclasses.dataclass
class Ran:
    """A command that ended well."""

    seconds: float
    peak: int
    first_slice: float
    result: dict


PEAK = """import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, file=sys.stderr)
sys.exit(code)"""
"""Runs a command and says how much memory it had; a process of its own, since Linux counts what the parent had."""


def ipv2(*line: object, **environment: str) -> Ran:
    """Run the command line in a process of its own."""
    asks = "denoise" in line
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "IPv2Denoise"), "IPV2_CACHE": "off", **environment}
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-IS", "-c", PEAK, sys.executable, "-m", "IPv2Lib", *map(str, line),
         *(["--json"] if asks else [])],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    first, last = 0.0, "{}"
    for last in process.stdout:
        if not first and "denoising slice" in last and "slice 1 of" not in last:
            first = time.perf_counter() - began
    said = process.stderr.read()
    if process.wait():
        sys.exit(f"{' '.join(map(str, line))} failed: {said}")
    seconds = time.perf_counter() - began
    return Ran(seconds, int(said.splitlines()[-1]), first, json.loads(last) if asks else {})


if __name__ == "__main__":
    main()
