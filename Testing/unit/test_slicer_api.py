"""Every Slicer, ctk and Qt name that the modules use exists, with that many arguments, in Slicer 5.10 and later.

What the `slicer-core` wheel and PySide6 have is looked up there, in a process of its own, since other tests put
stand-ins in place; the rest in `slicer_api.json`, which says where in Slicer's sources (branches 5.10 and 5.12) each
name is declared.
"""

import ast
import inspect
import json
import subprocess
import sys
import unittest
from pathlib import Path

import pytest
from slicer_uses import Use, uses, widget_classes

REPOSITORY = Path(__file__).resolve().parents[2]
MODULES = [REPOSITORY / "IPv2Denoise", REPOSITORY / "IPv2Train"]
UI_FILES = [path for module in MODULES for path in module.glob("Resources/UI/*.ui")]
TABLE = json.loads(Path(__file__).with_name("slicer_api.json").read_text(encoding="utf-8"))

LOOK_UP = """
import inspect, json, sys
import slicer, vtk
from PySide6 import QtCore, QtGui, QtWidgets

def signature(found):
    try:
        return str(inspect.signature(found)) if inspect.isfunction(found) or inspect.isclass(found) else None
    except (TypeError, ValueError):
        return None

def qt(name):
    for module in (QtCore, QtGui, QtWidgets):
        if hasattr(module, name):
            return getattr(module, name)

methods = {
    member
    for module, start in ((slicer, "vtk"), (vtk, "vtk"), (QtCore, "Q"), (QtGui, "Q"), (QtWidgets, "Q"))
    for name in dir(module)
    if name.startswith(start)
    for member in dir(getattr(module, name))
}
answers = {}
for name in json.load(sys.stdin):
    if name.startswith("."):
        answers[name] = [name[1:] in methods, None]
        continue
    first, *rest = name.split(".")
    if first == "qt":
        found, rest = qt(rest[0]) if rest else QtCore, rest[1:]
    elif first.startswith("Q"):
        found = qt(first)
    else:
        found = {"slicer": slicer, "vtk": vtk}.get(first)
        if name.startswith("vtk.util."):
            import vtk.util.numpy_support
        if name.startswith("slicer.mrmlScene"):
            found, rest = slicer.vtkMRMLScene, rest[1:]
    for part in rest:
        found = getattr(found, part, None)
    answers[name] = [found is not None, signature(found)]
json.dump(answers, sys.stdout)
"""


@pytest.fixture(scope="module")
def all_uses() -> list[Use]:
    pytest.importorskip("slicer", reason="pip install slicer-core")
    ours = own_names()
    return [use for module in MODULES for use in module_uses(module) if use.name[1:] not in ours]


def module_uses(module: Path) -> list[Use]:
    """Every use in a module's own files and in those that it shares with others."""
    patterns = (f"{module.name}.py", f"{module.name}Lib/*.py", "IPv2SlicerLib/**/*.py")
    files = [path for pattern in patterns for path in module.glob(pattern)]
    return list(uses(files, list(module.glob("Resources/UI/*.ui"))))


def own_names() -> set[str]:
    """What the project and the standard library define and call by such names: no business of Slicer's."""
    names = {"Popen", "Process", "TemporaryDirectory", "Thread", "ThreadPoolExecutor", *dir(unittest.TestCase)}
    for path in (path for module in MODULES for path in module.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                names.add(node.target.id)
            elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
                names.add(node.attr)
    return names


@pytest.fixture(scope="module")
def known(all_uses) -> dict[str, tuple[bool, str | None]]:
    """Whether slicer-core and PySide6 have a name, and the signature where Python tells it."""
    return look_up({use.name for use in all_uses})


def look_up(names: set[str]) -> dict[str, tuple[bool, str | None]]:
    run = subprocess.run(
        [sys.executable, "-c", LOOK_UP], input=json.dumps(sorted(names)), capture_output=True, text=True, check=True
    )
    return {name: tuple(answer) for name, answer in json.loads(run.stdout).items()}


def table_entry(name: str) -> dict | None:
    """The entry of a name; a widget's member may be that of a class that it inherits from."""
    if name in TABLE["names"]:
        return TABLE["names"][name]
    kind, _, member = name.partition(".")
    while kind in TABLE["inherits"]:
        kind = TABLE["inherits"][kind]
        if f"{kind}.{member}" in TABLE["names"]:
            return TABLE["names"][f"{kind}.{member}"]
    return None


def qt_base(name: str) -> str | None:
    """The name as a member of the Qt class that a ctk or MRML widget inherits from."""
    kind, _, member = name.partition(".")
    while kind in TABLE["inherits"]:
        kind = TABLE["inherits"][kind]
    return f"{kind}.{member}" if kind.startswith("Q") and member else None


def test_every_name_exists(all_uses, known):
    bases = {base for use in all_uses if (base := qt_base(use.name))}
    inherited = {name for name, (there, _) in look_up(bases).items() if there}
    missing = {
        f"{use.name} ({use.place})"
        for use in all_uses
        if not known[use.name][0] and not table_entry(use.name) and qt_base(use.name) not in inherited
    }
    assert not missing, "not in slicer-core, PySide6 or slicer_api.json:\n" + "\n".join(sorted(missing))


def test_every_call_fits_the_signature(all_uses, known):
    wrong = []
    for use in all_uses:
        entry = table_entry(use.name)
        text = entry["signature"] if entry else known[use.name][1]
        if text and use.arguments is not None and not fits(text, use):
            wrong.append(f"{use.place}: {use.name}{text} is called with {use.arguments} and {use.keywords}")
    assert not wrong, "\n".join(wrong)


def fits(signature: str, use: Use) -> bool:
    """Whether a call binds to a signature; annotations and defaults do not matter."""
    scope: dict = {}
    exec(f"def function({parameters(signature)}): pass", scope)
    if use.arguments == -1:
        return True
    try:
        inspect.signature(scope["function"]).bind(*range(use.arguments), **dict.fromkeys(use.keywords))
    except TypeError:
        return False
    return True


def parameters(signature: str) -> str:
    """`(a: int, b=[...], *, c=None) -> X` as `a, b=None, *, c=None`."""
    inner = signature[1 : signature.rindex(")")]
    names, depth, piece = [], 0, ""
    for letter in f"{inner},":
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            name, equals, _ = piece.strip().partition("=")
            name = name.partition(":")[0].strip()
            names.append(f"{name}=None" if equals else name)
            piece = ""
        else:
            piece += letter
    return ", ".join(name for name in names if name)


def test_every_qt_class_is_wrapped_for_python(all_uses):
    """PySide6 has classes that PythonQt lacks."""
    used = {use.name.split(".")[1] for use in all_uses if use.name.startswith("qt.")}
    assert used == set(TABLE["qt"]["classes"]), "compare with the classes in the source that the table names"


def test_the_table_is_sourced_and_holds_nothing_else(all_uses, known):
    used = {use.name for use in all_uses}
    for name, entry in TABLE["names"].items():
        assert entry["source"], name
        children = [kind for kind in TABLE["inherits"] if name.partition(".")[0] == TABLE["inherits"][kind]]
        names = {name, *(f"{kind}.{name.partition('.')[2]}" for kind in children)}
        assert names & used, f"{name} is not used any more: take it out"


def test_every_widget_class_of_the_ui_files_is_known():
    classes = {kind for path in UI_FILES for kind in widget_classes(path).values()}
    assert {kind for kind in classes if not kind.startswith("Q")} <= set(TABLE["inherits"])


@pytest.mark.parametrize(
    ("source", "name", "arguments"),
    [
        ("import slicer\nslicer.util.errorDisplay('a', windowTitle='b')", "slicer.util.errorDisplay", 1),
        ("import qt\nqt.QTimer.singleShot(0, f)", "qt.QTimer.singleShot", 2),
        ("from slicer.i18n import tr as _\n_('a')", "slicer.i18n.tr", 1),
        ("def f(node):\n    node.GetParent().SetName('a')", ".SetName", 1),
    ],
)
def test_uses_are_found(tmp_path, source, name, arguments):
    path = tmp_path / "module.py"
    path.write_text(source)
    assert any(use.name == name and use.arguments == arguments for use in uses([path]))


def test_a_call_with_too_many_arguments_does_not_fit():
    assert fits("(text, windowTitle=None, parent=None, **kwargs)", Use("x", "", 1, ("windowTitle",)))
    assert fits("(a: int, b: dict[str, int] = {}, *, c=None) -> None", Use("x", "", 1, ("c",)))
    assert not fits("(path)", Use("x", "", 2))
    assert not fits("(path)", Use("x", "", 1, ("mode",)))
