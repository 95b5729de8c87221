"""How training input and test label are composed of the two scans and what was made of them: two formulas, on arrays.

Owns nothing else, and needs numpy only, since training from prepared data runs where no image library is installed.
"""

from __future__ import annotations

import numpy as np


def mix_training_input(
    uldct: np.ndarray, ndct: np.ndarray, inside: np.ndarray, common: np.ndarray, blend: float
) -> np.ndarray:
    """M · inside + (1 - M) · ((1 - T) · L + T · N); `inside` is S(N) with *Add noise* and N without."""
    mixed = (1 - blend) * uldct + blend * ndct if blend else uldct
    return np.where(common, inside, mixed)


def mix_test_label(inside: np.ndarray, ndct: np.ndarray, common: np.ndarray) -> np.ndarray:
    """M · inside + (1 - M) · N; `inside` is W(L) with *Remove noise* and L without."""
    return np.where(common, inside, ndct)
