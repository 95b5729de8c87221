"""The card of a model that is for tests, and small purified data sets."""

from pathlib import Path

from IPv2Lib.datasets.cases import Case
from IPv2Lib.datasets.preparation import prepare
from IPv2Lib.io import files
from IPv2Lib.simulation import phantom

CARD = {
    "title": "Untrained", "description": "For tests.", "intended_use": "Tests.", "limits": "Of no use.",
    "hu_range": [-1024, 3071], "training": {"data": [], "settings": {}, "seed": 0}, "metrics": {},
}  # fmt: skip


def simulated_dataset(folder: Path, *cases: dict, size: int = 48, slices: int = 2) -> Path:
    """A data set of synthetic chests whose uLDCTs are simulated; each case has a split, and what else it says."""
    found = []
    for seed, case in enumerate(cases):
        ndct = files.write(phantom.chest(seed=seed, size=size, slices=slices), folder / f"n{seed}.nrrd")
        found.append(Case(f"case{seed}", ndct=ndct, patient=f"p{seed}", **case))
    prepare(found, folder / "dataset")
    return folder / "dataset"
