"""HU that move: the bias of what is uniform, and how even water is from its centre to its edge."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def bias(images: np.ndarray, truth: np.ndarray, mask: np.ndarray) -> tuple[float, float]:
    """Mean of images (realisations, rows, columns) less the ground truth within a mask, HU; and its standard error."""
    values = np.array([float((image - truth)[mask].mean(dtype=np.float64)) for image in images])
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(error)


def uniformity(images: np.ndarray, masks: Mapping[str, np.ndarray]) -> float:
    """Mean HU of the ``edge`` less that of the ``centre``."""
    mean = images.mean(0, dtype=np.float64)
    return float(mean[masks["edge"]].mean() - mean[masks["centre"]].mean())
