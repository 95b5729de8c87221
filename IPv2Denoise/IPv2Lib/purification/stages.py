"""Every image that purification makes of a pair, with names, labels and colours.

How they are made is in `purification`, how they are kept in `stage_files`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..analysis.region_labels import Region
from ..colors import BLUE, GREEN, ORANGE, PURPLE
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
        for name, title in _TITLES.items():
            image = getattr(self, name)
            if image is not None:
                yield name, title, image

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


_TITLES = {
    "uldct": "uLDCT",
    "ndct": "NDCT",
    "dark_uldct": "Dark mask of the uLDCT",
    "dark_ndct": "Dark mask of the NDCT",
    "cm1": "Common mask of IPv1",
    "background": "Background",
    "cm2": "Common mask of IPv2",
    "simulated": "NDCT with simulated noise",
    "weakly_denoised": "uLDCT weakly denoised",
    "training_input": "Training input",
    "test_label": "Test label",
    "labels": "Regions",
}
