"""What `import IPv2Lib` offers: quickly, and the same functions as in their rooms."""

import subprocess
import sys
from pathlib import Path

import IPv2Lib
import numpy as np
import pytest
from IPv2Lib.inference.denoise import denoise
from IPv2Lib.models import bundle


def test_every_public_name_is_there_and_documented():
    assert set(IPv2Lib.__all__) <= set(dir(IPv2Lib))
    assert all(getattr(IPv2Lib, name).__doc__ for name in IPv2Lib.__all__)
    assert IPv2Lib.denoise is denoise


def test_importing_the_library_imports_nothing_else():
    code = "import sys, IPv2Lib; assert not {'numpy', 'torch', 'SimpleITK'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(IPv2Lib.__file__).parents[1])


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'denoize'"):
        IPv2Lib.denoize  # noqa: B018


def test_from_file_to_file(tmp_path):
    noise = np.random.default_rng(0).normal(40, 60, (2, 32, 32)).astype(np.float32)
    IPv2Lib.write(IPv2Lib.Volume(noise), tmp_path / "scan.nrrd")
    model = IPv2Lib.load_model()
    assert model.name == bundle.default_name()
    result = IPv2Lib.denoise(IPv2Lib.read(tmp_path / "scan.nrrd"), model, strength=0.9)
    assert result.volume.array.std() < noise.std() / 2
    assert IPv2Lib.blend(IPv2Lib.read(tmp_path / "scan.nrrd"), result.network_output, 0).array == pytest.approx(noise)
