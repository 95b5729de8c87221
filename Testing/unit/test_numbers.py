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


def quotations() -> list:
    return [
        pytest.param(text, name, id=f"{page.name}: {name}")
        for page in PAGES
        for text, name in QUOTED.findall(page.read_text(encoding="utf-8"))
    ]


def test_the_numbers_are_those_of_the_results():
    script = runpy.run_path(str(REPOSITORY / "Testing" / "benchmarks" / "quoted_numbers.py"))
    assert script["collect"]() == NUMBERS, "run Testing/benchmarks/quoted_numbers.py"


def test_every_mark_follows_a_number():
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        assert text.count("<!--=") == len(QUOTED.findall(text)), page
    assert len(QUOTED.findall(PAGES[0].read_text(encoding="utf-8"))) >= 8


@pytest.mark.parametrize("text, name", quotations())
def test_a_quoted_number_is_the_one_that_was_measured(text, name):
    assert name in NUMBERS, f"nothing is called {name!r}"
    digits = len(text.partition(".")[2])
    measured = NUMBERS[name] if text[0] in "-−+" else abs(NUMBERS[name])
    assert float(text.replace("−", "-")) == pytest.approx(measured, abs=0.5 * 10**-digits + 1e-9)
