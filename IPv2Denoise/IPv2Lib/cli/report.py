"""A report of a run as one HTML page that needs nothing else: text, a table of scores, pictures.

Owns the page's structure and looks. Which scores and pictures there are is for the caller to say.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from ..evaluation.agreement import OVERALL, Evaluation, of_region
from ..evaluation.measures import REPORT, Measure


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
            '<p class="warning"><strong>Not for diagnosis.</strong> IPv2 is research software.</p></header>',
            *(f"<p>{escape(text)}</p>" for text in paragraphs),
            "<h2>Scores</h2>",
            _table(scores),
            *(_figure(picture) for picture in pictures),
            "<h2>Where this came from</h2>",
            f'<pre tabindex="0">{escape(json.dumps(provenance, indent=2, ensure_ascii=False, default=str))}</pre>',
        ]
    )
    return _DOCUMENT.format(title=escape(title), style=_STYLE, body=body)


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
        '<div class="wide" tabindex="0" role="region" aria-label="Scores"><table>'
        "<caption>Against the noise-free ground truth. RMSE: root mean square error inside the body, values clipped to "
        "−1024 to 600 HU. σ: noise. Bias: mean difference from the ground truth.</caption>"
        f'<thead><tr><td rowspan="2"></td>{head}</tr><tr>{second}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _titled(title: str, measure: Measure, between: str) -> str:
    return escape(title) + (f"{between}<small>{escape(measure.unit)}</small>" if measure.unit else "")


def _figure(picture: Picture) -> str:
    data = base64.b64encode(picture.png).decode("ascii")
    return (
        f"<h2>{escape(picture.title)}</h2>\n"
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(picture.title)}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


_DOCUMENT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

_STYLE = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; --accent: #0b63b5; }
@media (prefers-color-scheme: dark) { :root { --accent: #7db8f0; } }
body { margin: 0; font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .75rem; }
h2 { font-size: 1.2rem; margin: 2.5rem 0 .75rem; }
p { max-width: 46rem; }
.warning { display: inline-block; margin: 0 0 1rem; padding: .4rem .8rem; border-left: 4px solid #c77700;
  background: var(--soft); }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
caption { caption-side: bottom; text-align: left; padding-top: .6rem; font-size: .875rem; opacity: .8; }
th, td { padding: .4rem .7rem; text-align: right; white-space: nowrap; }
thead th { vertical-align: bottom; font-weight: 600; font-size: .875rem; }
thead th[scope=colgroup] { text-align: center; }
tbody tr, thead tr:last-child { border-top: 1px solid var(--line); }
tbody th { text-align: left; }
tbody tr:last-child > * { color: var(--accent); font-weight: 600; }
small { font-weight: 400; opacity: .75; }
figure { margin: 0; }
img { display: block; max-width: 100%; height: auto; background: #000; border-radius: 4px; }
figcaption { max-width: 46rem; margin-top: .5rem; font-size: .9rem; opacity: .85; }
pre { overflow: auto; max-height: 24rem; padding: 1rem; background: var(--soft); border-radius: 4px;
  font-size: .8rem; }
@media print { pre { max-height: none; white-space: pre-wrap; } h2, figure { break-inside: avoid; } }
"""
