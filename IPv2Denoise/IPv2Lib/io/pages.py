"""Reports as one HTML page that needs nothing else: its looks, warnings and embedded pictures."""

from __future__ import annotations

import base64
from html import escape

WARNING = '<p class="warning"><strong>Not for diagnosis.</strong> IPv2 is research software.</p>'


def document(title: str, body: str) -> str:
    """A whole HTML document, without scripts or references to other files."""
    return _DOCUMENT.format(title=escape(title), style=_STYLE, body=body)


def figure(png: bytes, alternative: str, caption: str, width: str = "") -> str:
    """A picture within the page, with what it shows below it."""
    data = base64.b64encode(png).decode("ascii")
    style = f' style="width: {width}"' if width else ""
    return (
        f'<figure><img src="data:image/png;base64,{data}" alt="{escape(alternative)}"{style}>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
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
table.last tbody tr:last-child > * { color: var(--accent); font-weight: 600; }
table.numbers thead th { white-space: normal; max-width: 9rem; }
summary { cursor: pointer; margin: .6rem 0; }
h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
table.words td, table.words th { white-space: normal; text-align: left; vertical-align: top; min-width: 7rem; }
li { max-width: 60rem; margin: .3rem 0; }
.beside { display: flex; flex-wrap: wrap; gap: 1rem; }
small { font-weight: 400; opacity: .75; }
figure { margin: 0; }
img { display: block; max-width: 100%; height: auto; background: #000; border-radius: 4px; }
figcaption { max-width: 46rem; margin-top: .5rem; font-size: .9rem; opacity: .85; }
pre { overflow: auto; max-height: 24rem; padding: 1rem; background: var(--soft); border-radius: 4px;
  font-size: .8rem; }
@media print { pre { max-height: none; white-space: pre-wrap; } h2, figure { break-inside: avoid; } }
"""
