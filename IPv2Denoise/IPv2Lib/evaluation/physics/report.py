"""What `ipv2 physics` writes: a page for people, tables and JSON for programs.

================ ======================================================================================================
report.html      sentences, curves, tables beside published figures, what was simulated and what not
summary.csv      the first of these tables
results.json     every number
results.csv      the main numbers, a line each
curves.csv       spectra and transfer functions
*.png            the page's figures
provenance.json  settings, denoisers with the hashes of their weights, versions
parts/           what was measured so far; it may be removed
================ ======================================================================================================
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

from ...inference.denoisers import INPUT
from ...io import atomic, outputs, pages
from ..edges import FREQUENCIES
from ..measures import number
from . import figures, published, sentences
from .phantoms import RODS_HU, WATER_CM
from .results import Results, Row
from .sentences import nodule_summary, percent, signed

FILES = {
    "report": "report.html",
    "summary": "summary.csv",
    "results": "results.json",
    "table": "results.csv",
    "curves": "curves.csv",
    "provenance": outputs.PROVENANCE_FILE,
}

_MANY_ROWS = 20

Table = tuple[Sequence[str], Sequence[Sequence[str]], str]
"""Heads, rows, and what is to be known of them."""


def paths(folder: Path) -> dict[str, Path]:
    """The files in a folder, by what they hold."""
    return {key: folder / name for key, name in FILES.items()}


def write(folder: Path, rows: Sequence[Row], facts: dict[str, Any]) -> list[str]:
    """Write every file; return the sentences."""
    results = Results(rows)
    said = sentences.by_denoiser(results)
    says = [each for own in said.values() for each in own]
    drawn = figures.all_of(results)
    place = paths(folder)
    plain = [{**row, "values": {name: v for name, v in row["values"].items() if name != "picture"}} for row in rows]
    facts = outputs.provenance("physics", facts)
    outputs.write_json(place["results"], {"sentences": says, "results": plain, "provenance": facts})
    outputs.write_csv(
        place["table"], ("denoiser", "experiment", "condition", "measure", "value", "low", "high"), _numbers(rows)
    )
    heads, beside, _ = _beside(results)
    outputs.write_csv(place["summary"], heads, beside)
    outputs.write_csv(place["curves"], ("denoiser", "condition", "curve", "frequency_per_mm", "value"), _curves(rows))
    for name, png in drawn.items():
        with atomic.new_file(folder / f"{name}.png") as temporary:
            temporary.write_bytes(png)
    atomic.write_text(place["report"], _page(results, said, drawn, facts))
    outputs.write_json(place["provenance"], facts)
    return says


# --- the page ---


def _page(
    results: Results, said: Mapping[str, Sequence[str]], drawn: Mapping[str, bytes], facts: Mapping[str, Any]
) -> str:
    names = ", ".join(results.denoisers)
    body = [f"<header><h1>Image physics of {escape(names)}</h1>", f"{pages.WARNING}</header>"]
    body.append("<h2>In short</h2>")
    for name, own in said.items():
        body += [f"<h3>{escape(name)}</h3>", "<ul>", *(f"<li>{escape(each)}</li>" for each in own), "</ul>"]
    body += ["<h2>Beside published figures</h2>", _table(_beside(results), "words")]
    for title, table, figure, caption in _SECTIONS:
        made = table(results)
        if figure not in drawn and not made[1]:
            continue
        body.append(f"<h2>{escape(title)}</h2>")
        if figure in drawn:
            body.append(pages.figure(drawn[figure], title, caption))
        if made[1]:
            body.append(_table(made))
    body += _pictures(results)
    body += [
        "<h2>What was simulated, and what was not</h2>",
        *(f"<p>{escape(text)}</p>" for text in _method(facts)),
    ]
    body += ["<h2>Where this came from</h2>"]
    body += [f'<pre tabindex="0">{escape(json.dumps(facts, indent=2, ensure_ascii=False, default=str))}</pre>']
    return pages.document(f"Image physics of {names}", "\n".join(body))


def _table(table: Table, looks: str = "numbers") -> str:
    heads, rows, caption = table
    head = "".join(f'<th scope="col">{escape(each)}</th>' for each in heads)
    lines = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(each)}</td>" for each in others)}</tr>'
        for first, *others in rows
    )
    shown = (
        f'<div class="wide" tabindex="0" role="region" aria-label="Table"><table class="{looks}">'
        f"<caption>{escape(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table></div>"
    )
    if looks == "numbers" and len(rows) > _MANY_ROWS:
        return f"<details><summary>All {len(rows)} rows</summary>{shown}</details>"
    return shown


def _pictures(results: Results) -> list[str]:
    if (dose := results.usual_dose("lung", 0.05)) is None:
        return []
    found = [f"<h2>The lung at {percent(dose)} dose</h2>", '<div class="beside">']
    for name in [INPUT, *results.denoisers]:
        values = results.one("lung", name, dose=dose)
        if values and "picture" in values:
            found.append(pages.figure(base64.b64decode(values["picture"]), f"lung, {name}", name))
    return [*found, "</div>"]


def _method(facts: Mapping[str, Any]) -> list[str]:
    quick = " This was a quick run: its intervals are wide." if facts["settings"]["quick"] else ""
    return [text + quick if text == _METHOD[0] else text for text in _METHOD]


_METHOD = (
    "Nothing here was scanned, unless a scan is named. Phantoms are computed and blurred as the kernel blurs; their "
    "noise is that of photons counted behind them in parallel-beam geometry with 512 views, reconstructed by filtered "
    "back-projection. It was simulated at 25 % dose and scaled by 1/√dose, so that photon starvation, beam hardening, "
    "scatter, bowtie filters, helical geometry and iterative reconstruction are missing. 100 % are 150 000 photons per "
    "ray; the noise that they make is stated wherever it matters.",
    "Noise is measured without anatomy, in the difference of two realisations over √2 (AAPM report 233). Texture A is "
    "the simulator's with the Hann kernel, C with the plain ramp; B is white noise after a Gaussian of 0.7 pixels. "
    "Rods and disks have the noise of the water around them. In the chest, kernels shape the noise only. The pixels of "
    "the cylinders have 0.75 mm, their slices 2 mm; the chest is synthetic, in slices of 1.5 mm, and of it the left "
    "lung with nodules and emphysema.",
    "Task transfer functions come from the mean of all realisations; a frequency whose 95 % interval is wider than "
    "half of it is left out. Detectability is that of a channelised Hotelling observer with five Laguerre–Gauss "
    "channels and no internal noise, who knows the object's shape and place; people are no such observers. Its "
    "interval comes from images with and without the object in the same noise, and counts slices that were denoised "
    "together as fewer than they are. Denoisers are measured at full strength. None says how sure it is, so "
    "reliability is not measured.",
    "Published figures come from other phantoms, scanners and doses: they tell what is usual, not who is better.",
)


# --- tables ---


def _interval(low: float, high: float, digits: int = 0) -> str:
    return f"({number(low, digits)} to {number(high, digits)})"


def _beside(results: Results) -> Table:
    dose, kernel = results.usual_dose("noise"), results.kernel()
    rows = []
    for name in results.denoisers:
        values = results.one("noise", name, dose=dose, kernel=kernel)
        noise = texture = ""
        if values:
            noise = f"{signed(-values['taken'])} at {percent(dose)} dose"
            shift = signed(values["mean_out"] / values["mean_in"] - 1)
            texture = f"mean frequency {shift}; nNPS RMSD {number(values['rmsd'], 2)}"
        rows.append((name, noise, texture, _least_sharp(results, name), _task(results, name), "measured here"))
    return (
        published.COLUMNS,
        [*rows, *published.ROWS],
        "Published figures come from other phantoms, scanners and doses.",
    )


def _least_sharp(results: Results, name: str) -> str:
    dose, kernel = results.usual_dose("rods"), results.kernel("rods")
    kept = [results.sharpness(name, rod, dose=dose, kernel=kernel) for rod in RODS_HU] if dose else []
    known = [each[0] for each in kept if each]
    return f"TTF50 {signed(min(known) - 1)} to {signed(max(known) - 1)}" if known else ""


def _task(results: Results, name: str) -> str:
    dose = results.usual_dose("disks")
    equal = results.equivalent(name, sentences.DISK, dose) if dose else None
    return f"{sentences.DISK} mm disk at {percent(dose)}: as the input at {percent(equal)}" if equal else ""


def _response_table(results: Results) -> Table:
    keys = sorted(
        {(its["size_cm"], its["texture"]) for its, _ in results.of("response")}, key=lambda k: (k[0] != 22, k)
    )
    sigmas = results.values("sigma_hu", "response")
    rows = []
    for name in results.denoisers:
        for size, texture in keys:
            cells = [results.one("response", name, size_cm=size, texture=texture, sigma_hu=s) for s in sigmas]
            shifts = [signed(v["mean_out"] / v["mean_in"] - 1) if v else "–" for v in cells]
            taken = [percent(v["taken"]) if v else "–" for v in cells]
            rows.append(
                (f"{name}, {size:g} cm, {texture}", *(f"{a} ({b})" for a, b in zip(taken, shifts, strict=True)))
            )
    heads = ("σ that comes in", *(f"{each:g} HU" for each in sigmas))
    return heads, rows, "Noise taken, and the change of its mean frequency in parentheses."


def _noise_table(results: Results) -> Table:
    rows = []
    for name in results.denoisers:
        for its, v in results.of("noise", name):
            rows.append(
                (
                    f"{name}, {percent(its['dose'])}, {its['kernel']}", number(v["sigma_in"]), number(v["sigma_out"]),
                    f"{percent(v['taken'])} {_interval(*(100 * e for e in v['taken_interval']))}",
                    number(v["mean_in"], 3), number(v["mean_out"], 3),
                    number(v["peak_in"], 2), number(v["peak_out"], 2),
                    number(v["rmsd"], 2), number(v["bias"], 2), number(v["uniformity"], 2),
                )
            )  # fmt: skip
    heads = (
        "", "σ before, HU", "σ after, HU", "taken", "mean f before, 1/mm", "after", "peak f before, 1/mm", "after",
        "nNPS RMSD", "bias, HU", "edge − centre, HU",
    )  # fmt: skip
    return heads, rows, "Water of 22 cm; 95 % intervals. Edge − centre: how the denoiser changes the uniformity."


def _tradeoff_table(results: Results) -> Table:
    rows = []
    for name in results.denoisers:
        for dose in results.values("dose", "noise"):
            found = [
                results.tradeoff(name, taken, dose=dose, kernel=results.kernel()) for taken in sentences.NOISE_TAKEN
            ]
            cells = [f"{signed(each[0] - 1)}; {number(each[1], 2)}" if each else "–" for each in found]
            rows.append((f"{name}, {percent(dose)}", *cells))
    heads = ("", *(f"at {signed(-taken)} noise" for taken in sentences.NOISE_TAKEN))
    return heads, rows, "Mean frequency and nNPS RMSD where the strength takes so much. –: none does."


def _rods_table(results: Results) -> Table:
    rows = []
    for name in [INPUT, *results.denoisers]:
        for its, v in results.of("rods", name):
            cells = []
            for one in v["rods"].values():
                f50, f10 = number(one["f50"] or float("nan"), 3), number(one["f10"] or float("nan"), 3)
                cells.append(f"{f50}, {f10}; {number(one['bias'])}")
            rows.append((f"{name}, {percent(its['dose'])}, {its['kernel']}", *cells))
    first = next(iter(results.of("rods")), None)
    if first is None:
        return (), [], ""
    ideal = {its["kernel"]: v["rods"] for its, v in results.of("rods", INPUT)}
    for kernel, values in ideal.items():
        cells = [
            f"{number(o['truth']['f50'] or float('nan'), 3)}, {number(o['truth']['f10'] or float('nan'), 3)}"
            for o in values.values()
        ]
        rows.append((f"without noise, {kernel}", *cells))
    heads = ("", *(f"{rod}, {hu:+g} HU".replace("-", "−") for rod, hu in RODS_HU.items()))
    return heads, rows, "TTF50 and TTF10 in 1/mm; bias in HU. –: noise leaves it unknown, or it never falls so far."


def _detectability_table(results: Results, experiment: str) -> Table:
    rows, heads = [], [""]
    for name in [INPUT, *results.denoisers]:
        for its, v in results.of(experiment, name):
            cells = []
            for kind, one in v["disks"].items():
                equal = results.equivalent(name, kind, its["dose"], experiment) if name != INPUT else None
                same = f"; ≙ {percent(equal)}" if equal else ""
                low, high = one["d_interval"]
                cells.append(f"{number(one['d'], 2)} {_interval(low, high, 2)}, AUC {number(one['auc'], 2)}{same}")
            rows.append((f"{name}, {percent(its['dose'])}", *cells))
            heads = ["", *(f"{diameter} mm, {one['contrast']:g} HU" for diameter, one in v["disks"].items())]
    return heads, rows, "d′ with its 95 % interval, and after ≙ the dose at which the input alone would reach it."


def _chest_table(results: Results) -> Table:
    rows = []
    for name in results.denoisers:
        for experiment in ("chest", "lung"):
            for its, v in results.of(experiment, name):
                cells = [
                    f"{percent(r['taken'])} of {number(r['sigma_in'])}; {number(r['bias'])}"
                    for r in v["regions"].values()
                ]
                texture = v.get("texture")
                shift = (
                    f"{signed(texture['mean_out'] / texture['mean_in'] - 1)}; {number(texture['rmsd'], 2)}"
                    if texture
                    else ""
                )
                rows.append((f"{name}, {experiment}, {percent(its['dose'])}", *cells, shift))
    heads = (
        "", "parenchyma: noise taken, of HU; bias, HU", "soft tissue", "bone",
        "soft tissue: mean frequency; nNPS RMSD",
    )  # fmt: skip
    return heads, rows, "Noise behind anatomy, from the difference of two realisations of one slice."


def _lung_table(results: Results) -> Table:
    rows = []
    for name in [INPUT, *results.denoisers]:
        for its, v in results.of("lung", name):
            regions, nodules = v["regions"], nodule_summary(v)
            rows.append(
                (
                    f"{name}, {percent(its['dose'])}", number(v["rmse"]),
                    *(f"{number(each['sigma_out'])}; {number(each['bias'])}" for each in regions.values()),
                    f"{percent(nodules['mean'])}; {percent(nodules['least'])}",
                    f"{signed(nodules['error'])}; {percent(nodules['absolute'])}; {percent(nodules['volume'])}; "
                    f"{nodules['lost']}",
                    f"{percent(v['emphysema']['share'], 1)} ({percent(v['emphysema']['true'], 1)})",
                    "–" if v["structure"]["correlation"] is None else number(v["structure"]["correlation"], 2),
                )
            )  # fmt: skip
    heads = (
        "", "RMSE, HU", "parenchyma: σ; bias, HU", "soft tissue: σ; bias", "bone: σ; bias",
        "contrast of nodules: mean; least", "diameter: mean error, its size, that of the volume, not found",
        "below −950 HU (truth)", "structure in what was removed",
    )  # fmt: skip
    return (
        heads,
        rows,
        "σ from the difference of two realisations. Diameters: at half of the true contrast, in single scans.",
    )


def _invented_table(results: Results) -> Table:
    rows = [
        (
            f"{name}, {percent(its['dose'])}",
            str(v["patches"]),
            f"{v['invented']} {_interval(*(v['patches'] * each for each in sentences.invented_interval(v)))}",
            number(v["largest"], 0),
            number(v["limit"], 0),
        )
        for name in [INPUT, *results.denoisers]
        for its, v in results.of("invented", name)
    ]
    heads = ("", "patches", "with something like a nodule", "largest excess, HU", "limit, HU")
    return heads, rows, "The limit is half of what the faintest nodule of 3 mm shows."


def _own_table(results: Results) -> Table:
    rows = [
        (
            f"{name}, {' and '.join(its['scans'])}" + (f", {percent(its['dose'])}" if "dose" in its else ""),
            number(v["sigma_in"]), number(v["sigma_out"]),
            f"{percent(v['taken'])} {_interval(*(100 * e for e in v['taken_interval']))}",
            number(v["mean_in"], 3), number(v["mean_out"], 3), number(v["rmsd"], 2),
        )
        for experiment in ("scans", "series")
        for name in results.denoisers
        for its, v in results.of(experiment, name)
    ]  # fmt: skip
    heads = ("", "σ before, HU", "σ after, HU", "taken", "mean f before, 1/mm", "after", "nNPS RMSD")
    return (
        heads,
        rows,
        "In uniform soft tissue or water. Of a series, only the added noise is measured, which looks like its own.",
    )


_SECTIONS = (
    (
        "Noise taken by the noise that comes in", _response_table, "response",
        f"Water of {', '.join(map(str, WATER_CM[:-1]))} and {WATER_CM[-1]} cm, if measured; bands: 95 % intervals.",
    ),
    (
        "Noise and texture by dose", _noise_table, "texture",
        "Left: spectra that enclose the same area. Middle: below 0 where noise is removed. Bands: 95 % intervals.",
    ),
    (
        "Trade-off", _tradeoff_table, "tradeoff",
        "Each point is a strength; grey: what others publish for their products.",
    ),
    (
        "Sharpness and HU of rods", _rods_table, "sharpness",
        "Task transfer functions from the mean of all realisations; bars: 95 % intervals.",
    ),
    (
        "Low-contrast detectability", partial(_detectability_table, experiment="disks"), "disks",
        "Disks as in MITA CCT189; bars: 95 % intervals.",
    ),
    (
        "Noise in a patient", _chest_table, "patient",
        "Synthetic chest, whole and cut to one lung: noise taken in a tissue by the noise that comes in.",
    ),
    ("Lung", _lung_table, "nodules", "Each point is a nodule; on the right, in one realisation."),
    (
        "Detectability of faint nodules in a lung", partial(_detectability_table, experiment="faint"), "faint",
        "Nodules of ground glass in a lung of one HU; bars: 95 % intervals.",
    ),
    ("Nodules in a lung that has none", _invented_table, "", ""),
    ("Scans of one's own", _own_table, "own", "Spectra of uniform places."),
)  # fmt: skip
"""Title, table, figure and its caption."""


# --- files for programs ---


def _numbers(rows: Sequence[Row]) -> Iterator[tuple]:
    for row in rows:
        condition = json.dumps(row["condition"], ensure_ascii=False)
        for measure, value, low, high in _flat("", row["values"]):
            yield (
                row["denoiser"],
                row["condition"]["experiment"],
                condition,
                measure,
                _cell(value),
                _cell(low),
                _cell(high),
            )


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any, Any]]:
    """Numbers by name, with their intervals; curves and pictures are elsewhere."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{name}/", value)
        elif isinstance(value, (int, float)) or value is None:
            low, high = values.get(f"{name}_interval") or (None, None)
            yield f"{prefix}{name}", value, low, high


def _curves(rows: Sequence[Row]) -> Iterator[tuple]:
    for row in rows:
        condition, values = json.dumps(row["condition"], ensure_ascii=False), row["values"]
        for name in ("power_in", "power_out"):
            for f, value in zip(values.get("frequency", ()), values.get(name, ()), strict=False):
                yield row["denoiser"], condition, name, _cell(f), _cell(value)
        for rod, one in values.get("rods", {}).items():
            for f, value in zip(FREQUENCIES, one["transfer"], strict=False):
                yield row["denoiser"], condition, f"transfer of {rod}", _cell(float(f)), _cell(value)


def _cell(value: Any) -> Any:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else value
