"""How much of a training step is spent waiting for data: `python Testing/benchmarks/data_loading.py [STEPS]`.

Trains on a purified data set of synthetic chests, made in a temporary folder by `preparation.prepare`, and on pairs
simulated from their NDCTs; with the default network and with one so small that data could hardly keep up; with one
worker and with none. The first lines of the log, in which the workers start and the first blocks are simulated, do not
count.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "IPv2Denoise"))

from IPv2Lib.datasets.cases import Case
from IPv2Lib.datasets.preparation import prepare
from IPv2Lib.io import files
from IPv2Lib.simulation import phantom
from IPv2Lib.training.loop import train
from IPv2Lib.training.run_folder import read_run
from IPv2Lib.training.settings import TrainingSettings

PATIENTS, SIZE, SLICES = 3, 512, 8
NETWORKS = {
    "unet": {},
    "very small": {"arguments": {"channels": [8], "blocks": [1]}},
}
STEPS_LEFT_OUT = 20


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        dataset = make_dataset(folder)
        print(f"{'pairs':12}{'network':14}{'workers':>8}{'ms a step':>12}{'waiting':>10}")
        for pairs, network, workers in (
            ("purified", "unet", 1),
            ("purified", "unet", 0),
            ("purified", "very small", 1),
            ("purified", "very small", 0),
            ("simulated", "unet", 1),
        ):
            settings = TrainingSettings(pairs=pairs, steps=steps, validate_every=10**6, **NETWORKS[network])
            run = train(dataset, folder / f"{pairs}-{network}-{workers}", settings, workers=workers)
            milliseconds, share = waiting(run)
            print(f"{pairs:12}{network:14}{workers:8}{milliseconds:12.1f}{share:10.1%}", flush=True)


def make_dataset(folder: Path) -> Path:
    """Purified pairs of synthetic chests, all to train on."""
    cases = []
    for seed in range(PATIENTS):
        ndct = files.write(phantom.chest(seed=seed, size=SIZE, slices=SLICES), folder / f"{seed}.nrrd", compress=False)
        cases.append(Case(f"chest{seed}", ndct=ndct, patient=f"chest{seed}", seed=seed, split="train"))
    prepare(cases, folder / "dataset")
    return folder / "dataset"


def waiting(run: Path) -> tuple[float, float]:
    """Milliseconds a step took, and the share of it that was spent waiting for data."""
    log = read_run(run).log
    counted = log["step"] > STEPS_LEFT_OUT
    first = (log["step"] == STEPS_LEFT_OUT).argmax()
    seconds = log["seconds"][-1] - log["seconds"][first]
    steps = log["step"][-1] - log["step"][first]
    return 1000 * seconds / steps, log["waiting"][counted].sum() / seconds


if __name__ == "__main__":
    main()
