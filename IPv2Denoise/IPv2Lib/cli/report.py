"""A report of a run as one HTML page that needs nothing else: text, a table of scores, pictures.

Owns the page's structure; its looks are `pages`'. Which scores and pictures there are is for the caller to say.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ..evaluation.agreement import OVERALL, Evaluation, of_region
from ..evaluation.measures import REPORT, Measure
from ..io import pages


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes
    ----------
    title : str
        Heading above it.
    caption : str
        What can be seen, below it.
    png : bytes
        The content of a PNG file.
    """

    title: str
    caption: str
    png: bytes


def page(
    title: str,
    paragraphs: Sequence[str],
    scores: Sequence[tuple[str, Evaluation]],
    pictures: Sequence[Picture],
    provenance: dict[str, Any],
) -> str:
    """Return the HTML of a report.

    Parameters
    ----------
    title : str
    paragraphs : sequence of str
        Plain text that says what was done and what came out.
    scores : sequence of (name, Evaluation)
        Rows of the table, all against the same reference.
    pictures : sequence of Picture
        Embedded into the page.
    provenance : dict
        Shown at the end as JSON.

    Returns
    -------
    str
        A whole HTML document, without scripts or references to other files.
    """
    body = "\n".join(
        [
            f"<header><h1>{escape(title)}</h1>",
            f"{pages.WARNING}</header>",
            *(f"<p>{escape(text)}</p>" for text in paragraphs),
            "<h2>Scores</h2>",
            _table(scores),
            *(_figure(picture) for picture in pictures),
            "<h2>Where this came from</h2>",
            f'<pre tabindex="0">{escape(json.dumps(provenance, indent=2, ensure_ascii=False, default=str))}</pre>',
        ]
    )
    return pages.document(title, body)


def _table(scores: Sequence[tuple[str, Evaluation]]) -> str:
    regions = {region: [each for each in of_region(region) if REPORT in each.shown] for region in scores[0][1].voxels}
    head = "".join(f'<th scope="col" rowspan="2">{_titled(each.title, each, "<br>")}</th>' for each in OVERALL)
    second = ""
    for region, measures in regions.items():
        head += f'<th scope="colgroup" colspan="{len(measures)}">{escape(region.label)}</th>'
        second += "".join(f'<th scope="col">{_titled(each.short, each, " ")}</th>' for each in measures)
    shown = [*OVERALL, *(measure for measures in regions.values() for measure in measures)]
    rows = []
    for name, evaluation in scores:
        numbers = "".join(f"<td>{measure.number(evaluation[measure.name])}</td>" for measure in shown)
        rows.append(f'<tr><th scope="row">{escape(name)}</th>{numbers}</tr>')
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="Scores"><table class="last">'
        "<caption>Against the noise-free ground truth. RMSE: root mean square error inside the body, values clipped to "
        "−1024 to 600 HU. σ: noise. Bias: mean difference from the ground truth.</caption>"
        f'<thead><tr><td rowspan="2"></td>{head}</tr><tr>{second}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _titled(title: str, measure: Measure, between: str) -> str:
    return escape(title) + (f"{between}<small>{escape(measure.unit)}</small>" if measure.unit else "")


def _figure(picture: Picture) -> str:
    return f"<h2>{escape(picture.title)}</h2>\n{pages.figure(picture.png, picture.title, picture.caption)}"
