"""The report is one well-formed page that needs nothing else, with every number and picture in it."""

import base64
import re
from html.parser import HTMLParser

import pytest
from IPv2Lib.analysis.region_labels import Region
from IPv2Lib.cli.report import Picture, page
from IPv2Lib.evaluation.agreement import OVERALL, Evaluation, of_region
from IPv2Lib.evaluation.measures import REPORT

PNG = b"\x89PNG not really"
LUNG = of_region(Region.LUNG)
VALUES = {measure.name: place / 7 - 1 for place, measure in enumerate([*OVERALL, *LUNG])}
SCORES = Evaluation(VALUES, {measure.name: 0.0 for measure in LUNG if measure.own}, {Region.LUNG: 10})


class Checker(HTMLParser):
    """Collects attributes and texts; every tag must be closed in order."""

    VOID = ("meta", "img", "br")

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def checked() -> Checker:
    pictures = [Picture("A <slice>", 'What "is" seen', PNG)]
    checker = Checker()
    checker.feed(page("Title & more", ["First <b>", "Second"], [("m&m", SCORES)], pictures, {"model": "</pre>"}))
    assert checker.open == []
    return checker


def test_texts_are_shown_as_they_are(checked):
    text = "".join(checked.text)
    for part in ("Title & more", "First <b>", "m&m", "A <slice>", 'What "is" seen', "</pre>", "Not for diagnosis"):
        assert part in text


def test_numbers_are_in_the_table(checked):
    shown = [measure for measure in [*OVERALL, *LUNG] if measure in OVERALL or REPORT in measure.shown]
    numbers = [piece for piece in map(str.strip, checked.text) if re.fullmatch(r"−?\d+\.\d+", piece)]
    assert numbers == [measure.number(VALUES[measure.name]) for measure in shown] and numbers[0] == "−1.0"
    headers = [attributes for tag, attributes in checked.tags if tag == "th"]
    assert headers and all(attributes.get("scope") for attributes in headers)


def test_pictures_are_embedded_and_described_and_nothing_is_loaded(checked):
    (attributes,) = [attributes for tag, attributes in checked.tags if tag == "img"]
    kind, data = attributes["src"].split(",")
    assert (kind, base64.b64decode(data)) == ("data:image/png;base64", PNG)
    assert attributes["alt"] == "A <slice>"
    assert not {tag for tag, _ in checked.tags} & {"script", "link", "iframe"}
    assert ("html", {"lang": "en"}) in checked.tags
