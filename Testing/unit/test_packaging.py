"""What a Slicer build packages: every file of the library and every file of every bundled model."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = REPOSITORY / "IPv2Denoise" / "IPv2Lib"

# The places where Slicer's build system meets an extension, reduced to what they do with our files: scripts and
# resources go, under their relative paths, into the build folder's scripted modules (Slicer's
# CMake/SlicerMacroBuildScriptedModule.cmake and CTK's CMake/ctkMacroCompilePythonScript.cmake). What the Extensions
# Index shows is written to a file. Slicer says its version in CMake/SlicerConfigVersion.cmake only.
SLICER_STAND_IN = """
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/use.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/end.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/describe.cmake)
set(Slicer_QTSCRIPTEDMODULES_LIB_DIR lib/Slicer/qt-scripted-modules)
"""
USE_FILE = """
macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(MY "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(MY_UNPARSED_ARGUMENTS OR NOT MY_NAME OR NOT MY_SCRIPTS)
    message(FATAL_ERROR "slicerMacroBuildScriptedModule(${ARGN})")
  endif()
  foreach(file IN LISTS MY_SCRIPTS MY_RESOURCES)
    configure_file(
      ${CMAKE_CURRENT_SOURCE_DIR}/${file} ${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${file} COPYONLY)
  endforeach()
endmacro()
"""


DESCRIBE_FILE = """
foreach(name HOMEPAGE ICONURL SCREENSHOTURLS DEPENDS CATEGORY DESCRIPTION CONTRIBUTORS LICENSE_FILE README_FILE)
  file(APPEND ${CMAKE_BINARY_DIR}/described.txt "${name}=${EXTENSION_${name}}\\n")
endforeach()
"""
HAS_CMAKE = shutil.which("cmake") and shutil.which("c++")
needs_cmake = pytest.mark.skipif(not HAS_CMAKE, reason="no cmake or no C++ compiler")


def files_below(folder: Path, pattern: str = "*") -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern) if path.is_file()}


@pytest.mark.parametrize("module", ["IPv2Denoise", "IPv2Train"])
def test_every_file_of_the_modules_is_listed(module):
    folder = REPOSITORY / module
    text = (folder / "CMakeLists.txt").read_text()
    listed = re.findall(r"^\s+((?:IPv2\w*Lib|Resources)/\S+)$", text, re.MULTILINE)
    there = [
        name for name in files_below(folder) if "__pycache__" not in name and name.endswith((".py", ".ui", ".png"))
    ]
    assert sorted(listed) == sorted(name for name in there if "/" in name)


def required(section: str) -> set[str]:
    """Packages that a section of pyproject.toml names."""
    project = (REPOSITORY / "pyproject.toml").read_text().partition(f"\n{section} = [")[2].partition("]")[0]
    return {name.lower() for name in re.findall(r'"([\w-]+)', project)}


@pytest.mark.parametrize(
    ("file", "needed"),
    [
        ("requirements.txt", required("dependencies")),
        ("requirements-train.txt", required("train") | {"matplotlib"}),
    ],
)
def test_slicer_installs_what_the_package_needs_and_slicer_does_not_bring(file, needed):
    requirements = (REPOSITORY / "Resources" / file).read_text()
    installed = {name.lower() for name in re.findall(r"^([\w-]+)", requirements, re.MULTILINE)}
    assert installed == needed - {"numpy", "scipy", "simpleitk"}


def configured(source: Path, folder: Path, version: str = "5.12") -> subprocess.CompletedProcess:
    """Configure the extension against a stand-in for a Slicer of some version; the build folder is `folder`/build."""
    stand_in = folder / "Slicer"
    stand_in.mkdir()
    (stand_in / "SlicerConfig.cmake").write_text(SLICER_STAND_IN)
    (stand_in / "SlicerConfigVersion.cmake").write_text(f'set(PACKAGE_VERSION "{version}")\n')
    (stand_in / "use.cmake").write_text(USE_FILE)
    (stand_in / "end.cmake").write_text("")
    (stand_in / "describe.cmake").write_text(DESCRIBE_FILE)
    command = ["cmake", "-S", source, "-B", folder / "build", f"-DSlicer_DIR={stand_in}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


@needs_cmake
def test_a_slicer_build_packages_library_models_and_requirements(tmp_path):
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("IPv2Denoise", "IPv2Train", "Resources"):
        shutil.copytree(REPOSITORY / folder, source / folder, ignore=ignored)
    shutil.copy(REPOSITORY / "CMakeLists.txt", source)
    added = source / "Resources" / "Models" / "added later" / "model.json"
    added.parent.mkdir(parents=True)
    added.write_text("{}")

    done = configured(source, tmp_path)
    assert done.returncode == 0, done.stderr

    packaged = files_below(tmp_path / "build" / "lib" / "Slicer" / "qt-scripted-modules" / "IPv2Lib")
    models = {f"Resources/Models/{name}" for name in files_below(source / "Resources" / "Models")}
    requirements = {"Resources/requirements.txt", "Resources/requirements-train.txt"}
    assert "Resources/Models/added later/model.json" in models
    assert packaged == files_below(LIBRARY, "*.py") | models | requirements


@needs_cmake
@pytest.mark.parametrize("version", ["4.11", "5.8", "5.9"])
def test_a_slicer_that_is_too_old_is_refused(tmp_path, version):
    done = configured(REPOSITORY, tmp_path, version)
    assert done.returncode != 0
    said = " ".join(done.stderr.split())
    assert f"IPv2 needs Slicer 5.10 or later, and {tmp_path / 'Slicer'} is Slicer {version}: set Slicer_DIR" in said


@needs_cmake
@pytest.mark.parametrize("version", ["5.10", "5.12", "6.0"])
def test_the_extensions_index_gets_what_it_shows(tmp_path, version):
    done = configured(REPOSITORY, tmp_path, version)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "build" / "described.txt").read_text().splitlines()
    shown = dict(line.split("=", 1) for line in lines)
    home = shown["HOMEPAGE"]
    assert re.fullmatch(r"https://[\w.-]+(/[\w.-]+)+", home)
    pictures = [shown["ICONURL"], *shown["SCREENSHOTURLS"].split()]
    assert len(pictures) >= 2
    for address in pictures:  # GitHub serves the files of a repository from there
        picture = REPOSITORY / address.removeprefix(f"{home}/raw/HEAD/")
        assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert png_size(REPOSITORY / "Resources" / "Icons" / "IPv2.png") == (128, 128)
    assert shown["DEPENDS"] == "PyTorch"
    assert (shown["LICENSE_FILE"], shown["README_FILE"]) == (f"{REPOSITORY}/LICENSE.txt", f"{REPOSITORY}/README.md")
    assert all(shown.values())


def png_size(path: Path) -> tuple[int, int]:
    return struct.unpack(">II", path.read_bytes()[16:24])


def test_the_address_of_the_repository_stands_in_one_place():
    paths = [REPOSITORY / name for name in ("CMakeLists.txt", "README.md", "pyproject.toml")]
    for module in ("IPv2Denoise", "IPv2Train"):
        paths += [path for path in (REPOSITORY / module).rglob("*") if path.suffix in (".py", ".txt", ".ui")]
    holder = LIBRARY.parent / "IPv2SlicerLib" / "Homepage.py"
    (address,) = re.findall(r'^HOMEPAGE = "(.+)"$', holder.read_text(), re.MULTILINE)
    assert [path for path in paths if address in path.read_text(encoding="utf-8")] == [holder]


def test_the_licence_is_where_everybody_looks():
    assert (REPOSITORY / "LICENSE.txt").read_text().strip().startswith("Apache License")
    assert 'license-files = ["LICENSE.txt"]' in (REPOSITORY / "pyproject.toml").read_text()
    assert not (REPOSITORY / "LICENSE").exists()
