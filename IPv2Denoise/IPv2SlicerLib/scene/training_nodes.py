"""A training run, a comparison of models and their image physics in the scene: tables, curves, a validation slice.

Owns which nodes show them and how. What they show lies in folders, which `run_folder`, `comparison` and `physics`
know: the nodes are a view of it, and are filled again whenever it changes. A node is known by its role and its folder,
also after the scene was saved and loaded, so that nothing is added a second time.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import slicer
import vtk
from IPv2Lib.colors import BLACK, BLUE, GREEN, ORANGE, PURPLE, SKY_BLUE, VERMILION
from IPv2Lib.datasets.shards import REFERENCES, Shard
from IPv2Lib.errors import InputError
from IPv2Lib.io.volume import Volume
from IPv2Lib.training.run_folder import RunState
from vtk.util.numpy_support import numpy_to_vtk

from .changes import undoable_step, unique_name
from .display import set_layout, show_compare
from .layouts import comparison_layout, training_layout
from .volume_nodes import adopt_volume, fill_volume, nodes_of_class, set_provenance

COLORS = (BLUE, VERMILION, GREEN, PURPLE, SKY_BLUE, ORANGE, BLACK)
"""Of curves."""

IMAGES = ("input", "output", "label")
"""Of the validation slice, from left to right."""

_ROLE, _FOLDER = "IPv2.training", "IPv2.folder"  # attributes: which node it is, and of which folder
_BARS_RANGE = (-0.5, 0.5)  # VTK puts the bars of a group side by side around its position, here 0, less than 1 wide
_LIMITS = ((" low", " high"), (" min", " max"))  # behind a measure's name: of an interval, of several seeds


@dataclass
class RunNodes:
    """What shows a run in the scene.

    Attributes
    ----------
    folder : Path
        Of the run.
    log, validation : vtkMRMLTableNode
        The columns of `run_folder.LOG_COLUMNS` and, of those of numbers, `VALIDATION_COLUMNS`.
    loss_chart, error_chart : vtkMRMLPlotChartNode
    images : dict of str to vtkMRMLScalarVolumeNode
        By `IMAGES`; empty until there is a validation slice.
    """

    folder: Path
    log: slicer.vtkMRMLTableNode
    validation: slicer.vtkMRMLTableNode
    loss_chart: slicer.vtkMRMLPlotChartNode
    error_chart: slicer.vtkMRMLPlotChartNode
    images: dict[str, slicer.vtkMRMLScalarVolumeNode]

    @property
    def all(self) -> list[slicer.vtkMRMLNode]:
        """Every node but the series."""
        return [self.log, self.validation, self.loss_chart, self.error_chart, *self.images.values()]

    @property
    def present(self) -> bool:
        """Whether all of them are still in a scene."""
        return all(node.GetScene() is not None for node in self.all)


def add_run(target: slicer.vtkMRMLScene, run: RunState, picture: Mapping[str, np.ndarray] | None) -> RunNodes:
    """Put the curves and the validation slice of a run into the scene; those that are there already are used.

    Parameters
    ----------
    target : vtkMRMLScene
    run : RunState
    picture : mapping or None
        See `run_folder.validation_slice`.
    """
    name, own = run.folder.name, _own_nodes(target, run.folder)
    log, validation = (_table_node(own, f"{name} {what}", what) for what in ("log", "validation"))
    loss_chart = _chart(own, f"{name} loss", "loss chart", "step", "loss")
    error_chart = _chart(own, f"{name} error", "error chart", "step", "RMSE (HU)")
    images = {image: own.found[image] for image in IMAGES if image in own.found}
    nodes = RunNodes(run.folder, log, validation, loss_chart, error_chart, images)
    loss_chart.SetYAxisLogScale(True)
    update_run(nodes, run, picture)
    return nodes


def update_run(nodes: RunNodes, run: RunState, picture: Mapping[str, np.ndarray] | None) -> None:
    """Let the nodes say what the folder says now."""
    _fill_table(nodes.log, run.log)
    _fill_table(nodes.validation, {name: column for name, column in run.validation.items() if name != "reference"})
    if _is_line(run.log["loss"]):
        _set_series(nodes.loss_chart, nodes.log, "loss", "step", "loss", COLORS[0])
    for number, (name, column) in enumerate((("body", "rmse_hu"), ("lung", "rmse_lung_hu"))):
        if _is_line(run.validation[column]):
            _set_series(nodes.error_chart, nodes.validation, name, "step", column, COLORS[number], marked=True)
    reference = REFERENCES.get(next(iter(run.validation["reference"]), ""))
    nodes.error_chart.SetTitle(f"Validation error to the {reference}" if reference else "Validation error")
    nodes.loss_chart.SetTitle(f"Loss ({run.settings.get('loss', '')})")
    if picture is not None:
        _update_images(nodes, picture)


def show_run(nodes: RunNodes) -> None:
    """The curves over the validation slice, in a layout of their own."""
    target, layout = nodes.log.GetScene(), training_layout()
    if nodes.images:
        show_compare([nodes.images[name] for name in IMAGES], layout=layout)
    else:
        set_layout(target, layout)
    _show_charts(target, layout.plots, (nodes.loss_chart, nodes.error_chart))


def add_case(target: slicer.vtkMRMLScene, shard: Shard) -> list[slicer.vtkMRMLScalarVolumeNode]:
    """uLDCT, NDCT, training input and test label (IPv2) of a purified case, in one step of Undo.

    Volumes of the same shard that are in the scene already are used.

    Parameters
    ----------
    target : vtkMRMLScene
    shard : shards.Shard
    """
    every = np.s_[:]
    images = {
        "uLDCT": lambda: np.array(shard.uldct),
        "NDCT": lambda: np.array(shard.ndct),
        "training input": lambda: shard.pair(every, "ipv2")[0],
        "test label": lambda: shard.test_label(every),
    }
    have = _own_nodes(target, shard.folder).found
    geometry = {name: shard.facts[name] for name in ("origin", "direction") if name in shard.facts}
    nodes = []
    with undoable_step(target):
        for name, make in images.items():
            if name not in have:
                volume = Volume(make(), shard.spacing, **geometry)
                node = _marked(adopt_volume(volume, f"{shard.case} {name}", scene=target), name, shard.folder)
                set_provenance(node, {"case": shard.case, "image": name})
                have[name] = node
            nodes.append(have[name])
    return nodes


def show_case(nodes: Sequence[slicer.vtkMRMLScalarVolumeNode]) -> None:
    """The images of a case side by side."""
    show_compare(nodes)


@dataclass(frozen=True)
class ComparisonNodes:
    """What shows a comparison in the scene.

    Attributes
    ----------
    table : vtkMRMLTableNode
    charts : tuple of vtkMRMLPlotChartNode
        One of errors in the body, and one of noise power spectra or, where nothing was homogeneous enough for them, of
        errors in the lung. None of an ablation. Of image physics, the noise taken by the noise that comes in, and
        noise power spectra, as far as they were measured.
    sentences : tuple of str
        What image physics says in words.
    """

    table: slicer.vtkMRMLTableNode
    charts: tuple[slicer.vtkMRMLPlotChartNode, ...]
    sentences: tuple[str, ...] = ()


def add_comparison(target: slicer.vtkMRMLScene, folder: Path, name: str) -> ComparisonNodes:
    """Put the tables that `ipv2 compare`, `ipv2 ablation` or `ipv2 physics` wrote into the scene, in one step of Undo.

    Nodes that show this folder already are filled again, and those that it has no use for any more are removed.

    Parameters
    ----------
    target : vtkMRMLScene
    folder : Path
        With table.csv, ablation.csv or summary.csv, and perhaps nps.csv.
    name : str
        Of new nodes; a number is added where it is taken.

    Raises
    ------
    InputError
        The folder holds no table, or a damaged one.
    """
    rows = _read_rows(folder, "table.csv", "ablation.csv", "summary.csv")
    if not rows:
        raise InputError(f"{folder} holds no table.csv, ablation.csv or summary.csv: compare or measure first")
    spectra, physics = _read_rows(folder, "nps.csv"), _read_physics(folder) if "what" in rows[0] else None
    own = _own_nodes(target, folder)
    known = own.found.get("comparison")
    with undoable_step(target, [*own.found.values(), *_series(own.found.values())]):
        name = unique_name(target, name) if known is None else known.GetName()
        table = _table_node(own, name, "comparison")
        charts = []
        if physics is None:
            _fill_scores(table, rows)
        else:
            _fill_texts(table, {head: [_text(row[head]) for row in rows] for head in rows[0]})
            charts += _physics_charts(own, name, physics["results"])
        if "method" in rows[0]:
            charts.append(_error_chart(own, name, rows, "body"))
            charts.append(
                _spectrum_chart(own, name, spectra)
                if len({row["frequency_per_mm"] for row in spectra}) > 1
                else _error_chart(own, name, rows, "lung")
            )
        own.remove_unused()
    return ComparisonNodes(table, tuple(charts), tuple(physics["sentences"] if physics else ()))


def show_comparison(nodes: ComparisonNodes) -> None:
    """The table over the plots, in a layout of their own."""
    target, layout = nodes.table.GetScene(), comparison_layout()
    set_layout(target, layout)
    view = target.GetSingletonNode(layout.tables[0], "vtkMRMLTableViewNode")
    if view is not None:
        view.SetTableNodeID(nodes.table.GetID())
    _show_charts(target, layout.plots, nodes.charts)


def shows_folder(node: slicer.vtkMRMLNode) -> bool:
    """Whether a node is a view of a run, a comparison or a purified case."""
    return bool(node.GetAttribute(_ROLE))


# --- nodes ------------------------------------------------------------------------------------------------------


@dataclass
class _Own:
    """The nodes of a scene that show a folder.

    Attributes
    ----------
    target : vtkMRMLScene
    folder : Path
    found : dict of str to vtkMRMLNode
        By role.
    used : set of str
        Roles that were asked for.
    """

    target: slicer.vtkMRMLScene
    folder: Path
    found: dict[str, slicer.vtkMRMLNode]
    used: set[str]

    def node(self, class_name: str, name: str, role: str) -> slicer.vtkMRMLNode:
        """The node of a role, made if there is none."""
        self.used.add(role)
        if role not in self.found:
            self.found[role] = _marked(self.target.AddNewNodeByClass(class_name, name), role, self.folder)
        return self.found[role]

    def remove_unused(self) -> None:
        """Remove the nodes of roles that were not asked for, and the series of removed charts."""
        old = [node for role, node in self.found.items() if role not in self.used]
        for node in [*_series(old), *old]:
            self.target.RemoveNode(node)


def _own_nodes(target: slicer.vtkMRMLScene, folder: Path) -> _Own:
    found: dict[str, slicer.vtkMRMLNode] = {}
    for kind in ("vtkMRMLTableNode", "vtkMRMLPlotChartNode", "vtkMRMLScalarVolumeNode"):
        for node in nodes_of_class(target, kind):
            if node.GetAttribute(_ROLE) and node.GetAttribute(_FOLDER) == _key(folder):
                found.setdefault(node.GetAttribute(_ROLE), node)
    return _Own(target, folder, found, set())


def _key(folder: Path) -> str:
    """A folder as an attribute: the same text however it was written."""
    return os.path.abspath(folder)


def _table_node(own: _Own, name: str, role: str) -> slicer.vtkMRMLTableNode:
    return own.node("vtkMRMLTableNode", name, role)


def _marked(node, role: str, folder: Path):
    node.SetAttribute(_ROLE, role)
    node.SetAttribute(_FOLDER, _key(folder))
    return node


def _fill_table(node: slicer.vtkMRMLTableNode, columns: Mapping[str, np.ndarray]) -> None:
    table = vtk.vtkTable()
    for name, values in columns.items():
        if np.asarray(values).dtype.kind in "OSU":
            array = vtk.vtkStringArray()
            for value in values:
                array.InsertNextValue(str(value))
        else:
            array = numpy_to_vtk(np.ascontiguousarray(values, float), deep=True)
        array.SetName(name)
        table.AddColumn(array)
    node.SetAndObserveTable(table)


def _chart(own: _Own, name: str, role: str, x_title: str, y_title: str) -> slicer.vtkMRMLPlotChartNode:
    if role in own.found:  # as somebody may have changed it
        return own.node("vtkMRMLPlotChartNode", name, role)
    chart = own.node("vtkMRMLPlotChartNode", name, role)
    chart.SetTitle(name)
    chart.SetTitleFontSize(14)
    chart.SetAxisTitleFontSize(13)
    chart.SetAxisLabelFontSize(11)
    chart.SetLegendFontSize(12)
    chart.SetXAxisTitle(x_title)
    chart.SetYAxisTitle(y_title)
    return chart


def _series(nodes: Iterable[slicer.vtkMRMLNode]) -> list[slicer.vtkMRMLPlotSeriesNode]:
    """The series of the charts among some nodes."""
    charts = [node for node in nodes if node.IsA("vtkMRMLPlotChartNode")]
    every = [
        chart.GetNthPlotSeriesNode(number) for chart in charts for number in range(chart.GetNumberOfPlotSeriesNodes())
    ]
    return [series for series in every if series is not None]


def _set_series(chart, table, name: str, x: str, y: str, color: Sequence[int], *, marked: bool = False):
    """A series of a chart; if there is one of this name, it is kept as it looks and shows the table."""
    series = next((each for each in _series([chart]) if each.GetName() == name), None)
    known = series is not None
    if not known:
        series = chart.GetScene().AddNewNodeByClass("vtkMRMLPlotSeriesNode", name)
    if series.GetTableNode() is not table:
        series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName(x)
    series.SetYColumnName(y)
    if known:
        return series
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    series.SetLineStyle(slicer.vtkMRMLPlotSeriesNode.LineStyleSolid)
    series.SetLineWidth(2)
    markers = slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle, slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone
    series.SetMarkerStyle(markers[0] if marked else markers[1])
    series.SetMarkerSize(6)
    series.SetColor(*(value / 255 for value in color))
    chart.AddAndObservePlotSeriesNodeID(series.GetID())
    return series


def _keep_series(chart, names: Iterable[str]) -> None:
    """Remove the series of a chart that have other names."""
    for series in _series([chart]):
        if series.GetName() not in names:
            chart.GetScene().RemoveNode(series)


def _is_line(values: np.ndarray) -> bool:
    """Whether there are two points: VTK complains about a line of fewer."""
    return np.isfinite(values).sum() >= 2


def _show_charts(target, views: Sequence[str], charts: Sequence[slicer.vtkMRMLPlotChartNode]) -> None:
    for number, name in enumerate(views):
        view = target.GetSingletonNode(name, "vtkMRMLPlotViewNode")
        if view is not None:
            view.SetPlotChartNodeID(charts[number].GetID() if number < len(charts) else None)


# --- a run ------------------------------------------------------------------------------------------------------


def _update_images(nodes: RunNodes, picture: Mapping[str, np.ndarray]) -> None:
    step, spacing = int(picture["step"]), [float(value) for value in picture.get("spacing", (1.0, 1.0))[:2]]
    for name in IMAGES:
        volume = Volume(np.array(picture[name][None], np.float32), (*spacing, 1.0))
        if name in nodes.images:
            fill_volume(nodes.images[name], volume)
        else:
            node = adopt_volume(volume, f"{nodes.folder.name} {name}", scene=nodes.log.GetScene())
            nodes.images[name] = _marked(node, name, nodes.folder)
        set_provenance(nodes.images[name], {"run": nodes.folder.name, "step": step, "image": name})


# --- a comparison -----------------------------------------------------------------------------------------------


def _read_rows(folder: Path, *names: str) -> list[dict[str, float | str | None]]:
    """Rows of the first of some CSV files that is there: numbers, texts, and None for empty cells."""
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        return []
    try:
        with open(path, newline="", encoding="utf-8") as file:
            head, *rows = csv.reader(file)
            return [dict(zip(head, map(_cell, row), strict=True)) for row in rows]
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} cannot be read ({error}): compare again") from error


def _read_physics(folder: Path) -> dict[str, Any]:
    """What `ipv2 physics` measured, and its sentences."""
    from IPv2Lib.io.json_files import read_object

    path = folder / "results.json"
    try:
        return {"results": [], "sentences": []} | read_object(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}): measure again") from error


def _cell(text: str) -> float | str | None:
    try:
        return float(text)
    except ValueError:
        return text or None


def _fill_scores(node: slicer.vtkMRMLTableNode, rows: Sequence[Mapping[str, float | str | None]]) -> None:
    """A column for each measure; its limits are behind the value, for people."""
    from IPv2Lib.evaluation.measures import BY_NAME, spread

    limits = next(pair for pair in _LIMITS if any(name.endswith(pair) for name in rows[0]))
    others = [name for name in rows[0] if name not in BY_NAME and not name.endswith(limits)]
    columns = {name: [_text(row[name]) for row in rows] for name in others}
    columns |= {name: [spread(row, BY_NAME[name], *limits) for row in rows] for name in BY_NAME if name in rows[0]}
    _fill_texts(node, columns)
    for name, measure in BY_NAME.items():
        if name in columns:
            node.SetColumnTitle(name, measure.title)
            node.SetColumnUnitLabel(name, measure.unit)
    node.SetUseColumnTitleAsColumnHeader(True)


def _fill_texts(node: slicer.vtkMRMLTableNode, columns: Mapping[str, Sequence[str]]) -> None:
    """Columns of texts, to be read and not to be changed; the first one says what a row is about."""
    _fill_table(node, {name: np.array(texts, object) for name, texts in columns.items()})
    node.SetUseFirstColumnAsRowHeader(True)
    node.SetLocked(True)


def _text(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:g}"


def _reference(rows: Sequence[Mapping[str, float | str | None]]) -> str:
    """What a chart is about: the ground truth where there is one."""
    references = [row["reference"] for row in rows]
    return "ground_truth" if "ground_truth" in references else references[0]


def _error_chart(own: _Own, name: str, rows, region: str) -> slicer.vtkMRMLPlotChartNode:
    """A bar for each method: its error in the body or the lung, to the ground truth where there is one."""
    reference, column = _reference(rows), f"rmse_{region}_hu"
    chart = _chart(own, f"{name} errors, {region}", f"error bars {region}", "", "RMSE (HU)")
    chart.SetTitle(f"Error in the {region} to the {REFERENCES.get(reference, reference)}")
    bars = _table_node(own, f"{name} errors, {region}", f"bars {region}")
    bars.SetHideFromEditors(True)
    values = {row["method"]: row[column] for row in rows if row["reference"] == reference and row[column] is not None}
    _fill_table(bars, {method: np.array([value]) for method, value in values.items()})
    for number, method in enumerate(values):
        series = _set_series(chart, bars, method, "", method, COLORS[number % len(COLORS)])
        series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeBar)
    _keep_series(chart, values)
    chart.SetXAxisRangeAuto(False)  # an automatic range begins inside the first bar
    chart.SetXAxisRange(*_BARS_RANGE)
    return chart


def _spectrum_chart(own: _Own, name: str, rows) -> slicer.vtkMRMLPlotChartNode:
    """Noise power over spatial frequency, a curve for each method."""
    chart = _chart(own, f"{name} noise", "noise spectra", "frequency (1/mm)", "noise power (HU² mm²)")
    chart.SetTitle("Noise power in soft tissue")
    chart.SetYAxisLogScale(True)
    reference, columns = _reference(rows), ("frequency_per_mm", "power_hu2_mm2")
    curves: dict[str, list[list[float]]] = {}
    for row in rows:
        points = curves.setdefault(row["method"], [])
        if row["reference"] == reference:
            points.append([row[column] for column in columns])
    return _with_curves(own, chart, f"{name} noise", "spectrum", columns, curves)


def _physics_charts(own: _Own, name: str, rows) -> list[slicer.vtkMRMLPlotChartNode]:
    """What is taken of the noise that comes in, and noise power before and after; without what was not measured."""
    from IPv2Lib.evaluation.physics.results import Results

    results = Results(rows)
    dose, kernel = results.usual_dose("noise"), results.kernel()
    taken = {
        method: sorted([its["sigma_hu"], 100 * values["taken"]] for its, values in found)
        for method in results.denoisers
        if (found := list(results.of("response", method, size_cm=22, texture="A")))
    }
    spectra = {
        method: list(zip(values["frequency"], values["power_out"], strict=True))
        for method in ("input", *results.denoisers)
        if (values := results.one("noise", method, dose=dose, kernel=kernel))
    }
    charts = []
    if taken:
        chart = _chart(own, f"{name} response", "noise taken", "noise before (HU)", "noise taken (%)")
        chart.SetTitle("Noise taken in 22 cm of water")
        columns = "sigma_hu", "taken_percent"
        charts.append(_with_curves(own, chart, f"{name} response", "response", columns, taken))
    if spectra:
        chart = _chart(own, f"{name} noise", "noise spectra", "frequency (1/mm)", "noise power (HU² mm²)")
        chart.SetTitle(f"Noise power in 22 cm of water at {100 * dose:g} % dose")
        columns = "frequency_per_mm", "power_hu2_mm2"
        charts.append(_with_curves(own, chart, f"{name} noise", "spectrum", columns, spectra))
    return charts


def _with_curves(
    own: _Own, chart: slicer.vtkMRMLPlotChartNode, name: str, role: str, columns: tuple[str, str],
    curves: Mapping[str, Sequence[Sequence[float]]],
) -> slicer.vtkMRMLPlotChartNode:  # fmt: skip
    """A chart with a curve for each method, of points x, y; each has a table of its own."""
    plotted = []
    for number, (method, points) in enumerate(curves.items()):
        x, y = np.array(points, float).reshape(-1, 2).T
        if not _is_line(y):
            continue
        table = _table_node(own, f"{name} {method}", f"{role} {method}")
        table.SetHideFromEditors(True)
        _fill_table(table, dict(zip(columns, (x, y), strict=True)))
        _set_series(chart, table, method, *columns, COLORS[number % len(COLORS)])
        plotted.append(method)
    _keep_series(chart, plotted)
    return chart
