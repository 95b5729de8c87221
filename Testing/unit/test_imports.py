"""Imports point one way; torch and what a module installs later come in only when something is done with them."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import IPv2Lib
import pytest

LIBRARY = Path(IPv2Lib.__file__).parent
REPOSITORY = LIBRARY.parents[1]
SLICER = {"slicer", "vtk", "vtkmodules", "qt", "ctk", "mrml"}
LATER = {
    "torch", "skimage", "safetensors", "psutil", "torchmetrics", "dask", "distributed", "matplotlib", "nibabel", "nrrd",
}  # fmt: skip
"""What a module installs after it was opened."""


def test_imports_keep_the_contracts_of_the_project():
    pytest.importorskip("importlinter", reason="import-linter comes with the test extra")
    paths = os.pathsep.join(str(REPOSITORY / module) for module in ("IPv2Denoise", "IPv2Train"))
    command = [Path(sysconfig.get_path("scripts"), "lint-imports"), "--no-cache"]
    environment = {**os.environ, "PYTHONPATH": paths, "PYTHONIOENCODING": "utf-8"}
    run = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, encoding="utf-8", env=environment)
    assert run.returncode == 0, run.stdout + run.stderr


def test_modules_open_before_anything_is_installed_and_without_slicer():
    sources = sorted(path.relative_to(LIBRARY) for path in LIBRARY.rglob("*.py"))
    names = [
        ".".join(("IPv2Lib", *source.with_suffix("").parts)).removesuffix(".__init__")
        for source in sources
        if source.name != "__main__.py" and (source.parts[0] != "networks" or source.name == "__init__.py")
    ]
    code = (
        "import importlib, sys\n"
        f"for name in {names!r}:\n"
        "    importlib.import_module(name)\n"
        f"    assert not {SLICER | LATER!r} & set(sys.modules), name\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(LIBRARY.parent)}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr
