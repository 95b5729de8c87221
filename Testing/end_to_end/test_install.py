"""A wheel built from the checkout works away from it, with its models inside."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """Python of a new environment that holds the wheel, and borrows only the wheel's dependencies.

    Installing torch once more would take gigabytes, so the environment sees the packages of the one that runs the
    tests. An editable installation of IPv2Lib in there is not among them: Python follows no .pth file from a .pth
    file.
    """
    pytest.importorskip("hatchling", reason="hatchling comes with the test extra")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in ("IPv2Denoise/IPv2Lib", "Resources"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE.txt"):
        shutil.copy(REPOSITORY / name, source)
    added = source / "Resources" / "Models" / "added_later" / "model.json"
    added.parent.mkdir(parents=True)
    added.write_text("{}")

    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", source, "--no-deps", "--no-build-isolation", "--wheel-dir", folder]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")

    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    scripts = environment / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / Path(sys.executable).name
    install = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install", "--no-deps", "--no-index"]
    subprocess.run([*install, wheel], check=True, timeout=300)
    packages = sysconfig.get_path("purelib", vars={"base": environment, "platbase": environment})
    Path(packages, "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return python


def output_of(*command, cwd: Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "IPV2_MODELS")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_library_is_the_installed_one_with_its_models(installed, tmp_path):
    code = "import IPv2Lib, pathlib; print(pathlib.Path(IPv2Lib.__file__).parent)"
    library = Path(output_of(installed, "-c", code, cwd=tmp_path).strip())
    assert library.is_relative_to(installed.parent.parent)
    packaged = {path.name for path in (library / "Resources" / "Models").iterdir()}
    shipped = {path.parent.name for path in (REPOSITORY / "Resources" / "Models").glob("*/model.json")}
    assert packaged == shipped | {"added_later"}


def test_the_command_starts(installed, tmp_path):
    assert "denoise" in output_of(installed.parent / "ipv2", "--help", cwd=tmp_path)
    assert "denoise" in output_of(installed, "-m", "IPv2Lib", "--help", cwd=tmp_path)
