"""Imports point one way; torch and Slicer's core come in only when something is done with them."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import IPv2Lib
import pytest

LIBRARY = Path(IPv2Lib.__file__).parent
ON_SLICER = {
    "scene.py", "scene_changes.py", "scene_denoised.py", "scene_layouts.py", "scene_results.py", "scene_sequences.py",
    "scene_stages.py", "scene_strength.py", "scene_training.py",
    "pictures.py",
}  # fmt: skip
"""What touches MRML, and what draws with it."""
SLICER = {"slicer", "vtk", "vtkmodules", "qt", "ctk", "mrml"}
LATER = {
    "torch", "skimage", "safetensors", "psutil", "torchmetrics", "dask", "distributed", "matplotlib", "nibabel", "nrrd",
}  # fmt: skip
"""What a module installs after it was opened."""
ENTRY_POINTS = {*ON_SLICER, "jobs.py", "cli.py", "__main__.py"}
SOURCES = sorted(path.relative_to(LIBRARY).as_posix() for path in LIBRARY.rglob("*.py"))


def imported(source: str) -> set[str]:
    """Top-level packages and sibling modules that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse((LIBRARY / source).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
        elif isinstance(node, ast.ImportFrom):
            found |= {f".{node.module}"} if node.module else {f".{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("source", [name for name in SOURCES if name not in ON_SLICER])
def test_only_the_scene_and_its_pictures_import_slicer(source):
    assert not imported(source) & SLICER


@pytest.mark.parametrize("source", [name for name in SOURCES if name not in ENTRY_POINTS])
def test_nothing_below_imports_the_entry_points(source):
    assert not imported(source) & {".cli", ".jobs"}


def test_modules_open_before_anything_is_installed_and_without_slicer():
    names = [
        "IPv2Lib." + source.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        for source in SOURCES
        if source not in {*ON_SLICER, "__main__.py"}
        and (not source.startswith("networks/") or source.endswith("__init__.py"))
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
