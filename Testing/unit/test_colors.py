"""The colours of differences: told apart by everybody, in a light and in a dark room."""

import numpy as np
import pytest
from IPv2Lib.colors import difference_colors

# Machado, Oliveira & Fernandes 2009, severity 1, of linear RGB; numbers of the paper.
VISION = {
    "trichromat": np.eye(3),
    "protanope": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranope": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanope": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(colors, vision: str = "trichromat") -> np.ndarray:
    """CIE L*a*b* of sRGB colours as somebody sees them."""
    part = np.asarray(colors) / 255
    linear = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    seen = np.clip(linear @ np.array(VISION[vision]).T, 0, 1)
    x, y, z = (seen @ TO_XYZ.T / (0.9505, 1, 1.089)).T
    fx, fy, fz = (np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116) for t in (x, y, z))
    return np.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)], axis=1)


@pytest.mark.parametrize("dark", [False, True])
def test_luminance_runs_from_the_middle_to_both_ends_which_differ(dark):
    light = lab(difference_colors(dark))[:, 0]
    middle, steps = light[127], np.diff(light)[:254]
    assert middle < 5 if dark else middle > 99
    outwards = 1 if dark else -1
    assert (steps[127:] * outwards >= 0).all() and (steps[:127] * outwards <= 0).all()
    assert abs(light[0] - light[-1]) > 25 and min(abs(light[[0, -1]] - middle)) > 50


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("dark", [False, True])
def test_everybody_tells_the_signs_apart(dark, vision):
    seen = lab(difference_colors(dark), vision)
    negative, positive = seen[126::-1], seen[128:255]
    apart = np.linalg.norm(negative - positive, axis=1)
    assert apart[11] > 10 and apart[31:].min() > 30  # from a tenth and a quarter of the range on


def test_the_middle_is_where_vtk_looks_for_zero():
    for dark in (False, True):
        colors = difference_colors(dark)
        assert colors.shape == (256, 3) and colors.dtype == np.uint8
        assert len({tuple(color) for color in colors.tolist()}) > 240
        np.testing.assert_array_equal(colors[254], colors[255])
