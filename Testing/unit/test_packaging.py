"""What a Slicer build packages: every file of the library and every file of every bundled model."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = REPOSITORY / "IPv2Denoise" / "IPv2Lib"

# The three places where Slicer's build system meets an extension, reduced to what they do with our files: scripts
# and resources go, under their relative paths, into the build folder's scripted modules (Slicer's
# CMake/SlicerMacroBuildScriptedModule.cmake and CTK's CMake/ctkMacroCompilePythonScript.cmake).
SLICER_STAND_IN = """
set(Slicer_USE_FILE ${CMAKE_CURRENT_LIST_DIR}/use.cmake)
set(Slicer_EXTENSION_GENERATE_CONFIG ${CMAKE_CURRENT_LIST_DIR}/end.cmake)
set(Slicer_EXTENSION_CPACK ${CMAKE_CURRENT_LIST_DIR}/end.cmake)
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


@pytest.mark.parametrize("file, section", [("requirements.txt", "dependencies"), ("requirements-train.txt", "train")])
def test_slicer_installs_what_the_package_needs_and_slicer_does_not_bring(file, section):
    project = (REPOSITORY / "pyproject.toml").read_text().partition(f"\n{section} = [")[2].partition("]")[0]
    needed = {name.lower() for name in re.findall(r'"([\w-]+)', project)}
    requirements = (REPOSITORY / "Resources" / file).read_text()
    installed = {name.lower() for name in re.findall(r"^([\w-]+)", requirements, re.MULTILINE)}
    assert installed == needed - {"torch", "numpy", "scipy", "simpleitk"}


@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("c++")), reason="no cmake or no C++ compiler")
def test_a_slicer_build_packages_library_models_and_requirements(tmp_path):
    source, build, stand_in = tmp_path / "source", tmp_path / "build", tmp_path / "Slicer"
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("IPv2Denoise", "IPv2Train", "Resources"):
        shutil.copytree(REPOSITORY / folder, source / folder, ignore=ignored)
    shutil.copy(REPOSITORY / "CMakeLists.txt", source)
    added = source / "Resources" / "Models" / "added later" / "model.json"
    added.parent.mkdir(parents=True)
    added.write_text("{}")
    stand_in.mkdir()
    (stand_in / "SlicerConfig.cmake").write_text(SLICER_STAND_IN)
    (stand_in / "use.cmake").write_text(USE_FILE)
    (stand_in / "end.cmake").write_text("")

    subprocess.run(
        ["cmake", "-S", source, "-B", build, f"-DSlicer_DIR={stand_in}"], check=True, capture_output=True, timeout=120
    )

    packaged = files_below(build / "lib" / "Slicer" / "qt-scripted-modules" / "IPv2Lib")
    models = {f"Resources/Models/{name}" for name in files_below(source / "Resources" / "Models")}
    requirements = {"Resources/requirements.txt", "Resources/requirements-train.txt"}
    assert "Resources/Models/added later/model.json" in models
    assert packaged == files_below(LIBRARY, "*.py") | models | requirements
