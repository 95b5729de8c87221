"""Every image that purification makes of a pair, and the table of them: names, kinds, labels and colours.

How they are made is in `purify`, how they are kept in `stage_files`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..analysis.region_labels import Region
from ..colors import BLUE, GREEN, ORANGE, PURPLE, Entry
from ..io.volume import Volume
from .mixing import mix_test_label, mix_training_input
from .settings import Settings

OUTSIDE, BACKGROUND, LUNG, BODY = 0, 1, 2, 3
LABELS = (
    (OUTSIDE, "Outside the field of view", Region.OUTSIDE.color),
    (BACKGROUND, "Background", Region.BACKGROUND.color),
    (LUNG, "Lung and airways", Region.LUNG.color),
    (BODY, "Body", Region.SOFT_TISSUE.color),
)
"""Value, name and colour (red, green, blue, 0 to 255) of each label of `Stages.labels`."""

DARK_ENTRIES = (
    (1, "Dark in the uLDCT only", BLUE),
    (2, "Dark in the NDCT only", ORANGE),
    (3, "Dark in both", GREEN),
)
CM1_ENTRIES = ((1, "Dark in uLDCT or NDCT", GREEN),)
BACKGROUND_ENTRIES = ((1, "Background", PURPLE),)
CM2_ENTRIES = ((1, "Lungs and airways", BLUE),)
"""Value, name and colour of the labels of the masks; the dark masks are D(L) + 2 · D(N)."""


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes
    ----------
    key : str
        Name of the attribute of `Stages`.
    title : str
        For people.
    kind : {"image", "mask", "labels", "difference"}
        Masks are boolean. Differences are in no file.
    over : str
        For a mask or labels: key of the image that it is shown over.
    entries : tuple of (value, name, (red, green, blue))
        And what its values mean.
    module : str
        Field of `Settings` without which it is not made; empty: it always is.
    shown_in : Stage, optional
        What people see instead, as the two dark masks in one.
    """

    key: str
    title: str
    kind: str
    over: str = ""
    entries: tuple[Entry, ...] = ()
    module: str = ""
    shown_in: Stage | None = None


DARK = Stage("dark", "Dark masks", "labels", "ndct", DARK_ENTRIES)

STAGES = (
    Stage("uldct", "uLDCT", "image"),
    Stage("ndct", "NDCT on the grid of the uLDCT", "image"),
    Stage("dark_uldct", "Dark mask of the uLDCT", "mask", shown_in=DARK),
    Stage("dark_ndct", "Dark mask of the NDCT", "mask", shown_in=DARK),
    Stage("cm1", "Common mask of IPv1", "mask", "uldct", CM1_ENTRIES),
    Stage("background", "Background", "mask", "uldct", BACKGROUND_ENTRIES),
    Stage("cm2", "Common mask of IPv2", "mask", "uldct", CM2_ENTRIES),
    Stage("simulated", "NDCT with simulated noise", "image", module="add_noise"),
    Stage("weakly_denoised", "uLDCT weakly denoised", "image", module="remove_noise"),
    Stage("training_input", "Training input", "image"),
    Stage("test_label", "Test label", "image"),
    Stage("training_input_difference", "Training input − that of IPv1", "difference"),
    Stage("test_label_difference", "Test label − that of IPv1", "difference"),
    Stage("labels", "Regions", "labels", "uldct", LABELS),
)
"""In the order of the method."""


@dataclass(frozen=True, eq=False)
class Stages:
    """Every image that purification makes, on the grid of the uLDCT; masks are boolean, images HU.

    Attributes
    ----------
    uldct, ndct : Volume
        L, and N on the grid of L (float32 if it had to be resampled).
    dark_uldct, dark_ndct, cm1, background, cm2 : ndarray of bool
        D(L), D(N), CM1, B and CM2.
    simulated : Volume or None
        S(N), None where *Add noise* is off.
    weakly_denoised : Volume or None
        W(L), None where *Remove noise* is off.
    training_input, test_label : Volume
        float32. The target of the training input, and the input that goes with the test label, are `ndct` and
        `uldct`.
    labels : ndarray of uint8
        `LABELS`. Where it is `OUTSIDE`, one of the scans has no data, and there is no pair to train on.
    settings : Settings
    """

    uldct: Volume
    ndct: Volume
    dark_uldct: np.ndarray
    dark_ndct: np.ndarray
    cm1: np.ndarray
    background: np.ndarray
    cm2: np.ndarray
    simulated: Volume | None
    weakly_denoised: Volume | None
    training_input: Volume
    test_label: Volume
    labels: np.ndarray
    settings: Settings

    def steps(self) -> Iterator[tuple[str, str, Volume | np.ndarray]]:
        """Attribute name, title and image of every stage that was made, in the order of the method."""
        for stage in STAGES:
            if stage.kind != "difference" and (image := getattr(self, stage.key)) is not None:
                yield stage.key, stage.title, image

    @cached_property
    def training_input_difference(self) -> Volume | None:
        """Training input minus that of IPv1, HU: what the modules changed; None if all of them are off.

        IPv1 here has the same masks and the same T.
        """
        if not self.settings.has_modules:
            return None
        low, normal = (np.asarray(volume.array, np.float32) for volume in (self.uldct, self.ndct))
        plain = mix_training_input(low, normal, normal, self.cm1, self.settings.blend)
        return self.uldct.with_array(self.training_input.array - plain)

    @cached_property
    def test_label_difference(self) -> Volume | None:
        """Test label minus that of IPv1, HU; None if all modules are off."""
        if not self.settings.has_modules:
            return None
        plain = mix_test_label(self.uldct.array, self.ndct.array, self.cm1)
        return self.uldct.with_array(self.test_label.array - plain)
