"""From nothing to a model that denoises in Slicer, as a researcher would do it, on synthetic chests.

    python Testing/end_to_end/training_path.py FOLDER [--steps 1300] [--size 256] [--slices 16] [--dose 0.005]

Scans of six synthetic patients, one of them without a uLDCT → purified data set → training (about two minutes), once
in one go and once killed in the middle and resumed, which must give the same weights → comparison with the input and
the bundled model → publishing → the new model, chosen in IPv2 Denoise in the stand-in for Slicer's application,
denoises a scan that it never saw. Every step but the last is a command, and one that is killed a process; prints what
came out. `test_training_path.py` does the same in small.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
sys.path[:0] = [str(REPOSITORY / "IPv2Denoise"), str(HERE.parent)]

from IPv2Lib.cli.commands import main  # noqa: E402
from IPv2Lib.io import files  # noqa: E402
from IPv2Lib.simulation import phantom  # noqa: E402
from IPv2Lib.training.run_folder import read_run  # noqa: E402
from IPv2SlicerLib.jobs.processes import end_process_tree  # noqa: E402

PATIENTS = 6
MODEL = "phantom-model"


@dataclass(frozen=True)
class Found:
    """What came out: the largest difference between the weights of the two runs, the rows of the comparison, and errors
    (RMSE to the ground truth, HU) of a new scan before and after it was denoised in IPv2 Denoise."""

    weights_differ_by: float
    table: list[dict[str, str]]
    rmse_before: float
    rmse_after: float


def run(folder: Path, *, steps: int, size: int, slices: int, dose: float, options: tuple[str, ...] = ()) -> Found:
    """Go the whole way in an empty folder; `options` are more ones for `ipv2 train`."""
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["IPV2_MODELS"] = str(folder / "models")
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "IPv2Denoise")}
    sources: list[str | Path] = []
    for seed in range(PATIENTS):
        pair = phantom.pair(seed=seed, size=size, slices=slices, dose=dose)
        ndct = files.write(pair.ndct, folder / f"patient{seed}-ndct.nrrd")
        if seed:
            sources += ["--pair", files.write(pair.uldct, folder / f"patient{seed}-uldct.nrrd"), ndct]
        else:
            sources += [ndct]  # its uLDCT is simulated

    def ipv2(*arguments: str | Path) -> None:
        if code := main([str(each) for each in arguments]):
            raise RuntimeError(f"ipv2 {arguments[0]} ended with {code}")

    data = folder / "dataset"
    ipv2("prepare", *sources, "--out", data, "--split", "60", "20", "20", "--seed", "1", "--dose", str(dose))
    training = ("--steps", str(steps), "--batch", "4", "--patch", "64", *options)
    whole, killed = folder / "runs" / "whole", folder / "runs" / "killed"
    ipv2("train", data, "--out", whole, *training)
    command = [sys.executable, "-m", "IPv2Lib", "train", data, "--out", killed, *training]
    kill_halfway(command, environment, killed, steps)
    ipv2("train", "--out", killed, "--resume")

    ipv2("compare", data, "--models", "input", whole, "ipv2-fast", "--out", folder / "comparison")
    with open(folder / "comparison" / "table.csv", newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    ipv2("publish", killed, "--out", folder / "models" / MODEL, "--title", "Trained on synthetic chests")
    new = phantom.pair(seed=PATIENTS, size=size, slices=4, dose=dose)
    before, after = denoise_in_slicer(new)
    return Found(_difference(whole, killed), table, before, after)


def kill_halfway(command: list[str | Path], environment: dict[str, str], run_folder: Path, steps: int) -> None:
    """Start a training and end it, as a power cut would, after the first checkpoint past a third of its steps."""
    with open(run_folder.parent / "killed.log", "w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        while process.poll() is None:
            if (run_folder / "checkpoint.pt").exists() and read_run(run_folder).step >= steps // 3:
                break
            time.sleep(0.02)
        if process.poll() is not None:
            raise RuntimeError(f"the training ended before it could be killed: see {log.name}")
        end_process_tree(process.pid, grace=0.0)
        process.wait()


def denoise_in_slicer(pair: phantom.Pair) -> tuple[float, float]:
    """Click Denoise in the module with the new model; RMSE to the ground truth before and after, HU."""
    from host import Host

    with Host() as host:
        import slicer
        from IPv2SlicerLib.scene import volume_nodes

        node = volume_nodes.volume_to_node(pair.uldct, "New patient")
        slicer.util.setSliceViewerLayers(background=node, fit=True)
        widget = host.load_module(REPOSITORY / "IPv2Denoise" / "IPv2Denoise.py")
        selector = widget.ui.modelSelector
        selector.setCurrentIndex(next(i for i in range(selector.count()) if MODEL in selector.itemText(i)))
        host.click(widget.ui.denoiseButton)
        host.wait_until(lambda: not widget.logic.runner.state.active, 600)
        host.process_events(0.1)
        result = slicer.util.getNode("New patient denoised")
        assert result.GetAttribute("IPv2.model") == MODEL, result.GetAttribute("IPv2.model")
        after = volume_nodes.node_to_volume(result).array
    return _rmse(pair.uldct.array, pair.ground_truth.array), _rmse(after, pair.ground_truth.array)


def _difference(first: Path, second: Path) -> float:
    from safetensors.numpy import load_file

    one, two = (load_file(run / "best.safetensors") for run in (first, second))
    return max(float(np.abs(one[name] - two[name]).max()) for name in one)


def _rmse(image: np.ndarray, ground_truth: np.ndarray) -> float:
    difference = np.asarray(image, np.float32) - np.asarray(ground_truth, np.float32)
    return float(np.sqrt(np.mean(difference**2)))


def report() -> None:
    """Run it and print what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=1300)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--slices", type=int, default=16)
    parser.add_argument(
        "--dose", type=float, default=0.005, help="fraction; coarse pixels are less noisy than a scan's"
    )
    options = parser.parse_args()
    began = time.monotonic()
    found = run(options.folder, steps=options.steps, size=options.size, slices=options.slices, dose=options.dose)
    print(f"weights of the killed and resumed run differ by at most {found.weights_differ_by:.2g}")
    for row in found.table:
        shown = {name: value for name, value in row.items() if value and not name.endswith((" low", " high"))}
        print(", ".join(f"{name} {value}" for name, value in shown.items()))
    print(f"a new scan in IPv2 Denoise: RMSE {found.rmse_before:.1f} -> {found.rmse_after:.1f} HU")
    seconds = read_run(options.folder / "runs" / "whole").log["seconds"][-1]
    print(f"training took {seconds:.0f} s, everything {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    report()
