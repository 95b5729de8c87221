"""Fixtures shared by every test."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of real chest CT volumes, or a skip that says how to provide one."""
    folder = Path(os.environ.get("IPV2_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "nlst_101287.nrrd").exists():
        pytest.skip(f"no real CT volumes in {folder}: set IPV2_DATA to a folder that holds them")
    return folder
