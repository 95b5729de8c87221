"""How the bundled model was trained: `python Testing/benchmarks/train_bundled.py RUN [MODEL]`.

Trains in the folder RUN, or goes on there, and packs the result as MODEL. Needs the training volumes in the folder
that IPV2_DATA names, or ../shared/data. What was tried, and what came of it, is in models.md.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from IPv2Lib import ct, phantom
from IPv2Lib.publishing import publish
from IPv2Lib.training import train
from IPv2Lib.training_settings import Ranges, TrainingSettings

FOLDER = Path(os.environ.get("IPV2_DATA") or Path(__file__).resolve().parents[3] / "shared" / "data")
VOLUMES = ("lungdx_A0001", "lidc_0001", "acrin_042", "fda_phantom")
# The last stage of the bundled weights, from those of the stage before; models.md has the others. Nobody has trained
# it in one piece from random weights yet.
SETTINGS = TrainingSettings(
    arguments={"channels": [32, 64, 128, 128], "blocks": [1, 2, 2, 2]},
    start_from="ipv2-unet",
    minutes=31,
    batch=5,
    learning_rate=1e-4,
    average=0.9985,
    bias_weight=4.0,
    variance_weight=2.5,
    pool=20,
    steps_per_case=14,
    precision="bfloat16",
    ranges=Ranges(dose=(0.01, 0.7), zoom=(0.8, 1.8)),
    seed=6,
)


def main() -> None:
    run = Path(sys.argv[1])
    volumes = [ct.read(FOLDER / f"{name}.nrrd") for name in VOLUMES]
    # Without noise of their own: they teach to remove all of it, where real scans teach to keep theirs.
    volumes += [phantom.chest(seed=seed, size=512, slices=16) for seed in range(101, 107)]
    train(volumes, run, SETTINGS, resume=(run / "checkpoint.pt").exists(), progress=print)
    if len(sys.argv) > 2:
        card = json.loads((Path(__file__).parent / "train_bundled.json").read_text())
        publish(run, sys.argv[2], card)


if __name__ == "__main__":
    main()
