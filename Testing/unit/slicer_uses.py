"""Which Slicer, ctk and Qt names some Python files use, and how: read from the syntax, nothing is imported."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOTS = ("slicer", "qt", "ctk", "vtk", "SampleData", "PyTorchUtils", "SubjectHierarchyPlugins")
_UI_NAMES = ("ui", "_ui")


@dataclass(frozen=True)
class Use:
    """One use of a name.

    Attributes
    ----------
    name : str
        Dotted, from one of `ROOTS`; `Class.member` for a widget of a .ui file; `.member` of an object whose class the
        syntax does not tell, if it is named as VTK (`GetName`) or Qt (`setText`) name theirs. Of a signal's
        `connect` it is the signal's name.
    place : str
        File and line.
    arguments : int or None
        Number of positional arguments if it is called, -1 if a starred one is among them.
    keywords : tuple of str
        Names of keyword arguments.
    """

    name: str
    place: str
    arguments: int | None = None
    keywords: tuple[str, ...] = ()


def uses(files: Sequence[Path], ui_files: Sequence[Path] = ()) -> Iterator[Use]:
    """Every use in some files; `ui.name` is a widget of the .ui files."""
    classes = {name: kind for path in ui_files for name, kind in widget_classes(path).items()}
    for path in files:
        yield from _Reader(path, classes).read()


def widget_classes(path: Path) -> dict[str, str]:
    """Class of each named widget of a .ui file."""
    return {widget.get("name"): widget.get("class") for widget in ElementTree.parse(path).iter("widget")}


class _Reader:
    def __init__(self, path: Path, classes: dict[str, str]):
        self.path, self.classes = path, classes
        self.imported: dict[str, str] = {}  # local name to dotted name

    def read(self) -> Iterator[Use]:
        tree = ast.parse(self.path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    if alias.name.partition(".")[0] in ROOTS:
                        self.imported[alias.asname or alias.name.partition(".")[0]] = (
                            alias.name if alias.asname else alias.name.partition(".")[0]
                        )
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module.partition(".")[0] in ROOTS:
                for alias in node.names:
                    self.imported[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                    yield Use(f"{node.module}.{alias.name}", self._place(node))
        yield from self._visit(tree, called=None)

    def _visit(self, node: ast.AST, called: ast.Call | None) -> Iterator[Use]:
        if isinstance(node, ast.Call):
            yield from self._visit(node.func, called=node)
            for child in [*node.args, *(keyword.value for keyword in node.keywords)]:
                yield from self._visit(child, None)
            return
        name = self._name(node) if isinstance(node, (ast.Attribute, ast.Name)) else None
        if name:
            yield self._use(name, node, called)
            return
        if isinstance(node, ast.Attribute) and called and _is_camel_case(node.attr):
            yield self._use(f".{node.attr}", node, called)
        for child in ast.iter_child_nodes(node):
            yield from self._visit(child, None)

    def _name(self, node: ast.AST) -> str | None:
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        parts.append(node.id if isinstance(node, ast.Name) else "")
        parts.reverse()
        if parts[0] in self.imported:
            return ".".join([self.imported[parts[0]], *parts[1:]])
        for index, part in enumerate(parts[:-1]):
            if part in _UI_NAMES and parts[index + 1] in self.classes:
                kind = self.classes[parts[index + 1]]
                return ".".join([kind, *parts[index + 2 :]]) if len(parts) > index + 2 else None
        return None

    def _use(self, name: str, node: ast.AST, called: ast.Call | None) -> Use:
        signal, _, member = name.rpartition(".")
        if member in ("connect", "disconnect", "emit") and signal:
            return Use(signal, self._place(node))
        if called is None:
            return Use(name, self._place(node))
        starred = any(isinstance(each, ast.Starred) for each in called.args) or any(
            keyword.arg is None for keyword in called.keywords
        )
        keywords = tuple(keyword.arg for keyword in called.keywords if keyword.arg)
        return Use(name, self._place(node), -1 if starred else len(called.args), keywords)

    def _place(self, node: ast.AST) -> str:
        return f"{self.path.name}:{node.lineno}"


def _is_camel_case(name: str) -> bool:
    return "_" not in name and any(letter.isupper() for letter in name)
