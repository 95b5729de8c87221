"""The labels of the regions of a chest CT, with their names and colours.

How they are found is in `regions`. Needs nothing, since training from prepared data runs where scipy is not installed.
"""

from __future__ import annotations

from enum import IntEnum


class Region(IntEnum):
    """Label values of `regions.segment`.

    Examples
    --------
    >>> Region.LUNG.value, Region.LUNG.label
    (2, 'Lung and airways')
    """

    OUTSIDE = 0
    BACKGROUND = 1
    LUNG = 2
    SOFT_TISSUE = 3
    BONE = 4

    @property
    def label(self) -> str:
        """Name for people."""
        return _APPEARANCE[self][0]

    @property
    def color(self) -> tuple[int, int, int]:
        """Red, green, blue, 0 to 255."""
        return _APPEARANCE[self][1]


_APPEARANCE = {
    Region.OUTSIDE: ("Outside the field of view", (0, 0, 0)),
    Region.BACKGROUND: ("Outside the body", (70, 90, 120)),
    Region.LUNG: ("Lung and airways", (90, 180, 230)),
    Region.SOFT_TISSUE: ("Soft tissue", (220, 130, 100)),
    Region.BONE: ("Bone", (245, 230, 180)),
}
