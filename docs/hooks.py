"""What mkdocs does beyond `mkdocs.yml`: pages and pictures that lie outside `docs/`, and the command line's reference.

The address of the repository comes from `Homepage.py`, the only place that has it.
"""

import argparse
import os
import re
import sys
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]
SHOWN = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "Testing/benchmarks/README.md": "benchmarks/index.md",
    "Testing/benchmarks/models.md": "benchmarks/",
    "Testing/benchmarks/quality.md": "benchmarks/",
    "Testing/benchmarks/weak_denoiser.md": "benchmarks/",
    "Testing/benchmarks/quality/*.png": "benchmarks/quality/",
    "Testing/benchmarks/physics/*.png": "benchmarks/physics/",
    "Resources/Screenshots/*.png": "screenshots/",
}
"""Files of the repository, and where the site has them."""

LINK = re.compile(r"(?<=\]\()([^)\s#:]+)(?=[)#])")


def on_config(config):
    """Set the address of the repository."""
    text = (ROOT / "IPv2Denoise" / "IPv2SlicerLib" / "Homepage.py").read_text(encoding="utf-8")
    config.repo_url = re.search(r'^HOMEPAGE = "(.+)"$', text, re.MULTILINE)[1]
    return config


def on_files(files, config):
    """Add the files of `SHOWN`."""
    for path, uri in _shown().items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown, page, config, files):
    """Turn links that are right in the repository into links that are right in the site."""
    source = Path(page.file.abs_src_path)

    def address(match):
        target = (source.parent / match[1]).resolve()
        if not target.is_relative_to(ROOT) or not target.exists():
            return match[1]  # mkdocs warns
        path = target.relative_to(ROOT).as_posix()
        uri = path.removeprefix("docs/") if path.startswith("docs/") else _shown().get(path)
        if uri is None:
            return f"{config.repo_url}/blob/HEAD/{path}"
        return os.path.relpath(uri, os.path.dirname(page.file.src_uri)).replace(os.sep, "/")

    text = LINK.sub(address, markdown)
    for place, made in (("<!-- commands -->", _commands), ("<!-- node settings -->", _node_settings)):
        if place in text:
            text = text.replace(place, made())
    return text


def _shown() -> dict[str, str]:
    found = {}
    for pattern, uri in SHOWN.items():
        for path in sorted(ROOT.glob(pattern)):
            found[path.relative_to(ROOT).as_posix()] = uri + path.name if uri.endswith("/") else uri
    return found


def _commands() -> str:
    """Every command, from the parsers themselves."""
    sys.path.insert(0, str(ROOT / "IPv2Denoise"))
    from IPv2Lib.cli.commands import _parser

    (commands,) = (action for action in _parser()._actions if isinstance(action, argparse._SubParsersAction))
    rows = [f"| [`{action.dest}`](#{action.dest}) | {_escaped(action.help)} |" for action in commands._choices_actions]
    overview = "\n".join(["## Commands", "", "| command | does |", "|---|---|", *rows])
    return "\n\n".join([overview, *(_command(name, parser) for name, parser in commands.choices.items())])


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    formatter = parser._get_formatter()
    parts = [f"## {name}", parser.description or ""]
    for group in parser._action_groups:
        rows = [
            # Markdown takes a bar in code for what it is, and one in text for the end of a cell.
            f"| `{formatter._format_action_invocation(action)}` | {_escaped(formatter._expand_help(action))} |"
            for action in group._group_actions
            if action.help and action.dest != "help"
        ]
        if rows:
            title = {"positional arguments": "arguments"}.get(group.title, group.title)
            table = "\n".join([f"| {title if title == 'arguments' else 'options'} | |", "|---|---|", *rows])
            parts += [f"**{title[0].upper()}{title[1:]}**", _escaped(group.description or ""), table]
    if parser.epilog:
        title, _, lines = parser.epilog.partition("\n")
        parts += [f"**{title.rstrip(':').capitalize()}**", f"```sh\n{_dedented(lines)}\n```"]
    return "\n\n".join(part for part in parts if part)


def _node_settings() -> str:
    """Every setting of a node's file, from its declaration; those of `denoise` are that command's."""
    sys.path.insert(0, str(ROOT / "IPv2Denoise"))
    from IPv2Lib.node.settings import NodeSettings
    from IPv2Lib.options import reference

    rows = [f"| `{name}` | {_escaped(text)} |" for name, flag, text in reference(NodeSettings) if not flag]
    return "\n".join(["| setting | |", "|---|---|", *rows])


def _escaped(text: str) -> str:
    return re.sub(r"([|*_<])", r"\\\1", text)


def _dedented(text: str) -> str:
    return "\n".join(re.sub(r"   +(?=\S)", "  # ", line.strip()) for line in text.splitlines())
