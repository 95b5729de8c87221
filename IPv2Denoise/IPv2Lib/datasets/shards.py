"""A purified data set on disk, as training and scoring read it.

Owns the layout of the folder, the names of its files, and how a window of a shard becomes input and target. Needs
numpy only, so that it works on a bare GPU machine. What goes into the files is made by `preparation`.

A shard is one purified pair of scans: a folder of int16 HU arrays (slices, rows, columns), mapped into memory, of
which a patch costs what its pixels cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, reason
from ..hounsfield import AIR_HU
from ..io.file_names import within
from ..io.json_files import read_object
from ..purification.mixing import mix_test_label, mix_training_input
from ..purification.settings import Settings
from .strategies import BY_NAME, PURIFIED, check_strategy

FORMAT = 1
"""Of the folder; another number is another layout."""

DATASET_FILE, TABLE_FILE, SHARDS_FOLDER = "dataset.json", "cases.csv", "shards"
SHARD_FILE, THUMBNAIL_FILE = "shard.json", "thumbnail.png"

PRIVATE_FOLDER = "private"
"""What only the owner of a data set needs, and nobody else is to get: see `owner_files`."""

SCANS_FOLDER = "scans"
"""Where scans may lie in the folder before the data set is made, such as those that IPv2 Train takes from a scene."""

IMAGES = ("uldct", "ndct", "simulated", "weak", "ground_truth", "half_a", "half_b")
"""int16 HU arrays of a shard, each in NAME.npy; the last three are not in every one."""

LABELS = ("masks", "regions")
"""uint8 arrays, likewise."""

_NO_HALVES = "has no split projections: prepare it again with --split-projections"
_OPTIONAL = {
    "ground_truth": "has a real uLDCT and so no ground truth: train by ipv2, or simulate its uLDCT",
    "half_a": _NO_HALVES,
    "half_b": _NO_HALVES,
}
"""What may not have been made, and then why not and what to do."""

REFERENCES = {"ground_truth": "ground truth", "label": "test label"}
"""What results are scored against: the scan before its dose was lowered, and what the purification makes; titles."""

CM1, CM2, OUTSIDE = 1, 2, 4
"""Bits of `Shard.masks`: the common masks of IPv1 and IPv2, and what lies outside the field of view of either scan."""


SPLITS = ("train", "validation", "test")


def is_dataset(path: str | Path) -> bool:
    """Whether a path is the folder of a purified data set (which may be damaged all the same)."""
    return (Path(path) / DATASET_FILE).is_file()


@dataclass(frozen=True, eq=False)
class Shard:
    """One purified pair.

    The arrays are opened when they are first used and stay on disk. A shard can be sent to another process.

    Attributes
    ----------
    key : str
        Name of its folder.
    case, patient, split : str
    folder : Path
    facts : dict
        What `shard.json` says.

    Examples
    --------
    A patch of three slices::

        shard = PurifiedDataset.read("dataset").split("train")[0]
        source, target = shard.pair(np.s_[0:3, 64:128, 64:128], "ipv2")
    """

    key: str
    case: str
    patient: str
    split: str
    folder: Path
    facts: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Slices, rows, columns."""
        return tuple(self.facts["shape"])

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm between columns, rows and slices."""
        return tuple(self.facts["spacing"])

    @property
    def dose(self) -> float:
        """Dose fraction of the simulated scans."""
        return self.facts["dose"]

    @cached_property
    def uldct(self) -> np.ndarray:
        """L."""
        return self._array("uldct")

    @cached_property
    def ndct(self) -> np.ndarray:
        """N, on the grid of L."""
        return self._array("ndct")

    @cached_property
    def simulated(self) -> np.ndarray:
        """S(N)."""
        return self._array("simulated")

    @cached_property
    def weak(self) -> np.ndarray:
        """W(L)."""
        return self._array("weak")

    @cached_property
    def ground_truth(self) -> np.ndarray | None:
        """L before its dose was lowered; None where L is a real scan."""
        return self._array("ground_truth") if self.has("ground_truth") else None

    @cached_property
    def half_a(self) -> np.ndarray | None:
        """L from every other view only; None where the views were not split."""
        return self._array("half_a") if self.has("half_a") else None

    @cached_property
    def half_b(self) -> np.ndarray | None:
        """L from the views that `half_a` lacks."""
        return self._array("half_b") if self.has("half_b") else None

    @cached_property
    def masks(self) -> np.ndarray:
        """Bits `CM1`, `CM2` and `OUTSIDE`, uint8."""
        return self._array("masks")

    @cached_property
    def regions(self) -> np.ndarray:
        """Values of `Region` in the ground truth where there is one, else in N; 0 outside the field of view."""
        return self._array("regions")

    def has(self, image: str) -> bool:
        """Whether one of `IMAGES` was made for this shard."""
        return image not in _OPTIONAL or image in self.facts["images"]

    def lacks(self, strategy: str) -> str:
        """Why this shard has nothing to train on by a strategy; empty if it has."""
        needed = BY_NAME[strategy].source, BY_NAME[strategy].target
        return next((f"case {self.case!r} {_OPTIONAL[image]}" for image in needed if not self.has(image)), "")

    def pair(
        self, where: Any, strategy: str, blend: float | None = None, swap: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """Input and target of a window.

        ============================= ============================================== ======
        strategy                      input                                          target
        ============================= ============================================== ======
        none                          L, whose anatomy is elsewhere                  N
        ipv1, ipv1+..., ipv2          the training input of the method               N
        direct                        L                                              ground truth
        noise2inverse                 L from half of the views                       L from the other half
        ============================= ============================================== ======

        Parameters
        ----------
        where : index expression
            Slices, rows and columns, such as ``np.s_[3:6, :64, :64]``.
        strategy : str
            One of `strategies.STRATEGIES`.
        blend : float, optional
            T, 0 to 1, of the training input outside the common mask. Default: 0.1 for ipv1, as published, else 0.
        swap : bool
            Exchange input and target where the strategy allows it, the halves of noise2inverse.

        Returns
        -------
        input, target : ndarray of float32
            HU; `AIR_HU` outside the field of view.

        Raises
        ------
        InputError
            An unknown strategy, one that this shard has no images for, a blend out of range or for a strategy
            that mixes nothing.

        References
        ----------
        Gong & Yu, arXiv 2510.07492 (ipv1) and 2602.19314 (ipv2). Hendriksen, Pelt & Batenburg, IEEE Trans. Comput.
        Imaging 6, 2020 (noise2inverse).
        """
        check_strategy(strategy, blend)
        if reason := self.lacks(strategy):
            raise InputError(reason)
        declared = BY_NAME[strategy]
        source, target = (_hu(getattr(self, name), where) for name in (declared.source, declared.target))
        if declared.purification:
            inside = _hu(self.simulated, where) if declared.purification.add_noise else target
            share = np.float32(declared.blend if blend is None else blend)
            source = mix_training_input(source, target, inside, self._common(declared.purification, where), share)
        if swap and declared.symmetric:
            source, target = target, source
        outside = self.masks[where] & OUTSIDE != 0
        for image in (source, target):
            image[outside] = AIR_HU
        return source, target

    def test_label(self, where: Any, strategy: str = "ipv2") -> np.ndarray:
        """What the output for `scan` is scored against: M · (W(L) or L) + (1 - M) · N, float32 HU.

        The rows of the ablation have the M that their modules give, and L inside it; ipv2 has CM2 and W(L).

        Parameters
        ----------
        where : index expression
        strategy : str
            One of `strategies.PURIFIED`.

        Raises
        ------
        InputError
            For another strategy.
        """
        settings = BY_NAME[strategy].purification if strategy in BY_NAME else None
        if settings is None:
            raise InputError(f"there is no test label by {strategy!r}: use one of {', '.join(PURIFIED)}")
        inside = self.weak if settings.remove_noise else self.uldct
        return mix_test_label(_hu(inside, where), _hu(self.ndct, where), self._common(settings, where))

    def scan(self, where: Any) -> np.ndarray:
        """L, float32 HU: what is denoised when a model is scored."""
        return _hu(self.uldct, where)

    def _common(self, settings: Settings, where: Any) -> np.ndarray:
        return self.masks[where] & (CM2 if settings.remove_background else CM1) != 0

    def _array(self, name: str) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        try:
            array = np.load(path, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise InputError(f"{path} cannot be read ({error}): remove {self.folder} and prepare again") from error
        expected = np.uint8 if name in LABELS else np.int16
        if array.shape != self.shape or array.dtype != expected:
            raise InputError(
                f"{path} holds {array.dtype} of shape {array.shape}, not {np.dtype(expected)} of shape {self.shape}: "
                f"remove {self.folder} and prepare again"
            )
        return array

    def __getstate__(self) -> dict[str, Any]:
        # A map into memory would be sent as all of its bytes.
        return {name: value for name, value in vars(self).items() if name not in (*IMAGES, *LABELS)}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)


@dataclass(frozen=True, eq=False)
class PurifiedDataset:
    """A purified data set.

    Attributes
    ----------
    folder : Path
    settings : dict
        Of the purification (`settings.Settings`); dose, kernel, method and seed are those of each shard.
    shards : tuple of Shard
    """

    folder: Path
    settings: dict[str, Any]
    shards: tuple[Shard, ...]

    @classmethod
    def read(cls, folder: str | Path) -> PurifiedDataset:
        """Read what `ipv2 prepare` wrote.

        Raises
        ------
        InputError
            No data set, one of another format, or one of which a file is missing or cut short.
        """
        folder = Path(folder)
        content = _json(folder / DATASET_FILE, "give the folder that 'ipv2 prepare' made")
        if content.get("format") != FORMAT:
            raise InputError(
                f"{folder} is a data set of format {content.get('format')!r}, this version reads {FORMAT}: prepare it "
                "again"
            )
        try:
            shards = tuple(
                read_shard(within(folder / SHARDS_FOLDER, entry["key"]), entry["split"], entry["patient"])
                for entry in content["shards"]
            )
            return cls(folder, content["settings"], shards)
        except (KeyError, TypeError) as error:
            raise InputError(f"{folder / DATASET_FILE} is damaged ({error!r}): prepare the data set again") from error

    def split(self, name: str) -> list[Shard]:
        """The shards of "train", "validation" or "test".

        Raises
        ------
        InputError
            For another name.
        """
        if name not in SPLITS:
            raise InputError(f"there is no split {name!r}: use {', '.join(SPLITS)}")
        return [shard for shard in self.shards if shard.split == name]


def read_shard(folder: Path, split: str = "", patient: str = "") -> Shard:
    """Read one shard; its arrays are opened later, but must be there and complete.

    Split and patient are what the data set says: the shard itself does not know them.

    Raises
    ------
    InputError
        Something is missing or damaged.
    """
    facts = _json(folder / SHARD_FILE, "prepare the data set again")
    try:
        size = int(np.prod(facts["shape"], dtype=np.int64))
        expected = {name: 2 * size for name in IMAGES if name not in _OPTIONAL or name in facts["images"]}
        expected |= {name: size for name in LABELS}
        shard = Shard(folder.name, facts["case"], patient, split, folder, facts)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise InputError(f"{folder / SHARD_FILE} is damaged ({error!r}): remove {folder} and prepare again") from error
    for name, least in expected.items():
        path = within(folder, f"{name}.npy")
        if not path.is_file() or path.stat().st_size < least:
            state = "is cut short" if path.is_file() else "is missing"
            raise InputError(f"{path} {state}: remove {folder} and prepare again")
    return shard


def _hu(array: np.ndarray | None, where: Any) -> np.ndarray:
    assert array is not None  # or the strategy would have been refused
    return np.array(array[where], np.float32)


def _json(path: Path, advice: str) -> dict[str, Any]:
    try:
        return read_object(path)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({reason(error)}): {advice}") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged ({error}): {advice}") from error
