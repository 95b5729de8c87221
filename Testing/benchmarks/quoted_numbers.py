"""Writes docs/numbers.json: what README and documentation may quote, from the benchmarks' results and the cards.

A quotation is a number with a comment behind it that names the entry: `36.8<!--=ipv2-fast, lungdx_A0002-->`.
Run this after the results have changed; `Testing/unit/test_numbers.py` then says which quotations are stale.
"""

import itertools
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = ROOT / "docs" / "numbers.json"
_NUMBER = re.compile(r"[-−+]?\d+(?:\.\d+)?")


def collect() -> dict[str, float]:
    """Every number by what it is."""
    benchmarks = ROOT / "Testing" / "benchmarks"
    found = _tables((benchmarks / "README.md").read_text(encoding="utf-8"))
    found |= _rows((benchmarks / "quality.md").read_text(encoding="utf-8"))
    for card in sorted((ROOT / "Resources" / "Models").glob("*/model.json")):
        model = json.loads(card.read_text(encoding="utf-8"))
        for case, scores in model["metrics"].items():
            if isinstance(scores, dict):
                found |= {f"card of {model['name']}, {case}, {name}": value for name, value in scores.items()}
    return found


def _tables(text: str) -> dict[str, float]:
    """Cells of Markdown tables that begin with a number: "row, column"."""
    found, header = {}, []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            header = []
        elif not header:
            header = cells
        else:
            for column, cell in zip(header[1:], cells[1:], strict=False):
                if number := _NUMBER.match(cell):
                    found[f"{cells[0]}, {column}"] = _value(number[0])
    return found


def _rows(text: str) -> dict[str, float]:
    """Rows of the table of `quality.py`: "method, what, case"."""
    header, *lines = text.partition("```text\n")[2].partition("```")[0].splitlines()
    starts = [header.index(name) for name in ("method", "what", "case", "value", "bar")]
    found = {}
    for line in lines:
        method, what, case, value = (line[a:b].strip() for a, b in itertools.pairwise(starts))
        if number := _NUMBER.match(value):
            found[", ".join(filter(None, (method, what, case)))] = _value(number[0])
    return found


def _value(text: str) -> float:
    return float(text.replace("−", "-"))


if __name__ == "__main__":
    NUMBERS.write_text(json.dumps(collect(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
