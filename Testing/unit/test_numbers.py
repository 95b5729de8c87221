"""Numbers that the README and the documentation quote are those of the benchmarks and of the models' cards."""

import json
import re
import runpy
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
NUMBERS = json.loads((REPOSITORY / "docs" / "numbers.json").read_text(encoding="utf-8"))
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
QUOTED = re.compile(r"([-−+]?\d+(?:\.\d+)?)(?: %| HU)?\**<!--=(.+?)-->")


def test_the_numbers_are_those_of_the_results():
    script = runpy.run_path(str(REPOSITORY / "Testing" / "benchmarks" / "quoted_numbers.py"))
    assert script["collect"]() == NUMBERS, "run Testing/benchmarks/quoted_numbers.py"


def test_every_mark_follows_a_number():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("<!--=") == len(QUOTED.findall(text)), page
    assert len(QUOTED.findall(PAGES[0].read_text(encoding="utf-8"))) >= 8


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_quoted_numbers_are_those_that_were_measured(page):
    for text, name in QUOTED.findall(page.read_text(encoding="utf-8")):
        assert name in NUMBERS, f"nothing is called {name!r}"
        digits = len(text.partition(".")[2])
        measured = NUMBERS[name] if text[0] in "-−+" else abs(NUMBERS[name])
        assert float(text.replace("−", "-")) == pytest.approx(measured, abs=0.5 * 10**-digits + 1e-9), name
