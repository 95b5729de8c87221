"""Numbers that took long, kept in a folder by what they depend on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import IPv2Lib

_DECIDING = ("anatomy", "cases", "filters", "limits", "measures", "nodules")
_LIBRARY = (
    "analysis/regions", "analysis/region_labels", "evaluation/edges", "evaluation/measures",
    "evaluation/physics/experiments", "evaluation/physics/hu", "evaluation/physics/noise",
    "evaluation/physics/phantoms", "evaluation/physics/realisations", "evaluation/similarity", "inference/filters",
    "simulation/dose", "simulation/phantom", "simulation/projection",
)  # fmt: skip


@lru_cache(maxsize=1)
def fingerprint() -> str:
    """Of the files that decide on cases, filters and measures: when one changes, what was kept no longer counts.

    How a network is run is not among them: its results are known by the hash of its weights.
    """
    here, library = Path(__file__).parent, Path(IPv2Lib.__file__).parent
    files = [*(here / f"quality_{name}.py" for name in _DECIDING), *(library / f"{name}.py" for name in _LIBRARY)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


class Cache:
    """JSON by key; nothing is kept without a folder.

    Examples
    --------
    >>> Cache(None).get(("a", 1), lambda: 2)
    2
    """

    def __init__(self, folder: Path | None):
        self.folder = folder
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def get(self, key: tuple[Any, ...], compute: Callable[[], Any]) -> Any:
        """What `compute` returned for this key before, or returns now; expressible in JSON."""
        if self.folder is None:
            return compute()
        text = json.dumps([fingerprint(), *key], default=str)
        path = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))["value"]
        value = compute()
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps({"key": text, "value": value}), encoding="utf-8")
        temporary.replace(path)
        return value
