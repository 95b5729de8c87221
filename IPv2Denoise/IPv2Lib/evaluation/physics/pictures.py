"""Small pictures of slices, for reports."""

from __future__ import annotations

import base64
import io

import numpy as np

LUNG_HU = (-1100.0, -200.0)


def lung(image: np.ndarray) -> str:
    """A slice (rows, columns) in a lung window, as PNG in base64."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, image, cmap="gray", vmin=LUNG_HU[0], vmax=LUNG_HU[1], format="png")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
