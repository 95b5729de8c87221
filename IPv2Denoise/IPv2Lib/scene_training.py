"""A training run and a comparison of models in the scene: tables, curves in plot views, a validation slice.

Owns which nodes show them and how. What they show lies in folders, which `training_run` and `comparison` know: the
nodes are a view of it, and are filled again whenever it changes.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import slicer
import vtk
from vtk.util.numpy_support import numpy_to_vtk

from .ct import Volume
from .errors import InputError
from .layouts import comparison_layout, training_layout
from .scene import adopt_volume, fill_volume, nodes_of_class, set_layout, set_provenance, show_compare
from .scene_changes import undoable_step, unique_name
from .shards import Shard
from .training_run import RunState

COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (230, 159, 0), (0, 0, 0))
"""Of curves: told apart by colour-blind people, too (Okabe & Ito)."""

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
        The columns of `training_run.LOG_COLUMNS` and, of those of numbers, `VALIDATION_COLUMNS`.
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
        See `training_run.validation_slice`.
    """
    nodes = find_run(target, run.folder)
    if nodes is None:
        name = run.folder.name
        log, validation = (_table_node(target, f"{name} {what}", what, run.folder) for what in ("log", "validation"))
        loss_chart = _chart(target, f"{name} loss", "loss chart", run.folder, "step", "loss")
        loss_chart.SetYAxisLogScale(True)
        error_chart = _chart(target, f"{name} error", "error chart", run.folder, "step", "RMSE (HU)")
        nodes = RunNodes(run.folder, log, validation, loss_chart, error_chart, {})
    update_run(nodes, run, picture)
    return nodes


def find_run(target: slicer.vtkMRMLScene, folder: Path) -> RunNodes | None:
    """What shows a run in the scene, also in one that was saved and loaded; None if a part of it is missing."""
    found = {
        node.GetAttribute(_ROLE): node
        for kind in ("vtkMRMLTableNode", "vtkMRMLPlotChartNode", "vtkMRMLScalarVolumeNode")
        for node in nodes_of_class(target, kind)
        if node.GetAttribute(_ROLE) and node.GetAttribute(_FOLDER) == str(folder)
    }
    parts = [found.get(role) for role in ("log", "validation", "loss chart", "error chart")]
    if None in parts:
        return None
    return RunNodes(folder, *parts, {name: found[name] for name in IMAGES if name in found})


def update_run(nodes: RunNodes, run: RunState, picture: Mapping[str, np.ndarray] | None) -> None:
    """Let the nodes say what the folder says now."""
    _fill_table(nodes.log, run.log)
    _fill_table(nodes.validation, {name: column for name, column in run.validation.items() if name != "reference"})
    if not nodes.loss_chart.GetNumberOfPlotSeriesNodes() and _is_line(run.log["loss"]):
        _add_series(nodes.loss_chart, nodes.log, "loss", "step", "loss", COLORS[0])
    if not nodes.error_chart.GetNumberOfPlotSeriesNodes() and _is_line(run.validation["rmse_hu"]):
        _add_series(nodes.error_chart, nodes.validation, "body", "step", "rmse_hu", COLORS[0], marked=True)
        if _is_line(run.validation["rmse_lung_hu"]):
            _add_series(nodes.error_chart, nodes.validation, "lung", "step", "rmse_lung_hu", COLORS[1], marked=True)
    reference = {"truth": "the truth", "label": "the purified label"}.get(next(iter(run.validation["reference"]), ""))
    nodes.error_chart.SetTitle(f"Validation error to {reference}" if reference else "Validation error")
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
    have = {
        node.GetAttribute(_ROLE): node
        for node in nodes_of_class(target, "vtkMRMLScalarVolumeNode")
        if node.GetAttribute(_FOLDER) == str(shard.folder)
    }
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
        errors in the lung. None of an ablation.
    """

    table: slicer.vtkMRMLTableNode
    charts: tuple[slicer.vtkMRMLPlotChartNode, ...]


def add_comparison(target: slicer.vtkMRMLScene, folder: Path, name: str) -> ComparisonNodes:
    """Put the tables that `ipv2 compare` or `ipv2 ablation` wrote into the scene, in one step of Undo.

    Parameters
    ----------
    target : vtkMRMLScene
    folder : Path
        With table.csv or ablation.csv, and perhaps nps.csv.
    name : str
        Of the nodes; a number is added where it is taken.

    Raises
    ------
    InputError
        The folder holds no table.
    """
    rows = _read_rows(folder, "table.csv", "ablation.csv")
    if not rows:
        raise InputError(f"{folder} holds no table.csv or ablation.csv: compare first")
    spectra = _read_rows(folder, "nps.csv")
    with undoable_step(target):
        name = unique_name(target, name)
        table = _table_node(target, name, "comparison", folder)
        _fill_scores(table, rows)
        charts = []
        if "method" in rows[0]:
            charts.append(_error_chart(target, name, folder, rows, "body"))
            charts.append(
                _spectrum_chart(target, name, folder, spectra)
                if len({row["frequency_per_mm"] for row in spectra}) > 1
                else _error_chart(target, name, folder, rows, "lung")
            )
    return ComparisonNodes(table, tuple(charts))


def show_comparison(nodes: ComparisonNodes) -> None:
    """The table over the plots, in a layout of their own."""
    target, layout = nodes.table.GetScene(), comparison_layout()
    set_layout(target, layout)
    view = target.GetSingletonNode(layout.tables[0], "vtkMRMLTableViewNode")
    if view is not None:
        view.SetTableNodeID(nodes.table.GetID())
    _show_charts(target, layout.plots, nodes.charts)


# --- nodes ------------------------------------------------------------------------------------------------------


def _table_node(target, name: str, role: str, folder: Path) -> slicer.vtkMRMLTableNode:
    return _marked(target.AddNewNodeByClass("vtkMRMLTableNode", name), role, folder)


def _marked(node, role: str, folder: Path):
    node.SetAttribute(_ROLE, role)
    node.SetAttribute(_FOLDER, str(folder))
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


def _chart(target, name: str, role: str, folder: Path, x_title: str, y_title: str) -> slicer.vtkMRMLPlotChartNode:
    chart = _marked(target.AddNewNodeByClass("vtkMRMLPlotChartNode", name), role, folder)
    chart.SetTitle(name)
    chart.SetTitleFontSize(14)
    chart.SetAxisTitleFontSize(13)
    chart.SetAxisLabelFontSize(11)
    chart.SetLegendFontSize(12)
    chart.SetXAxisTitle(x_title)
    chart.SetYAxisTitle(y_title)
    return chart


def _add_series(chart, table, name: str, x: str, y: str, color: Sequence[int], *, marked: bool = False) -> None:
    series = chart.GetScene().AddNewNodeByClass("vtkMRMLPlotSeriesNode", name)
    series.SetAndObserveTableNodeID(table.GetID())
    series.SetXColumnName(x)
    series.SetYColumnName(y)
    series.SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeScatter)
    series.SetLineStyle(slicer.vtkMRMLPlotSeriesNode.LineStyleSolid)
    series.SetLineWidth(2)
    markers = slicer.vtkMRMLPlotSeriesNode.MarkerStyleCircle, slicer.vtkMRMLPlotSeriesNode.MarkerStyleNone
    series.SetMarkerStyle(markers[0] if marked else markers[1])
    series.SetMarkerSize(6)
    series.SetColor(*(value / 255 for value in color))
    chart.AddAndObservePlotSeriesNodeID(series.GetID())


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


def _cell(text: str) -> float | str | None:
    try:
        return float(text)
    except ValueError:
        return text or None


def _fill_scores(node: slicer.vtkMRMLTableNode, rows: Sequence[Mapping[str, float | str | None]]) -> None:
    """A column for each measure; its limits are behind the value, for people."""
    from .scores import MEASURES, spread

    limits = next(pair for pair in _LIMITS if any(name.endswith(pair) for name in rows[0]))
    measures = {measure.name: measure for measure in MEASURES}
    others = [name for name in rows[0] if name not in measures and not name.endswith(limits)]
    columns = {name: [_text(row[name]) for row in rows] for name in others}
    columns |= {name: [spread(row, measures[name], *limits) for row in rows] for name in measures if name in rows[0]}
    _fill_table(node, {name: np.array(texts, object) for name, texts in columns.items()})
    for name, measure in measures.items():
        if name in columns:
            node.SetColumnTitle(name, measure.title)
            node.SetColumnUnitLabel(name, measure.unit)
    node.SetUseColumnTitleAsColumnHeader(True)
    node.SetUseFirstColumnAsRowHeader(True)
    node.SetLocked(True)


def _text(value: float | str | None) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:g}"


def _reference(rows: Sequence[Mapping[str, float | str | None]]) -> str:
    """What a chart is about: the truth where there is one."""
    references = [row["reference"] for row in rows]
    return "truth" if "truth" in references else references[0]


def _error_chart(target, name: str, folder: Path, rows, region: str) -> slicer.vtkMRMLPlotChartNode:
    """A bar for each method: its error in the body or the lung, to the truth where there is one."""
    reference, column = _reference(rows), f"rmse_{region}_hu"
    chart = _chart(target, f"{name} errors, {region}", "error bars", folder, "", "RMSE (HU)")
    chart.SetTitle(f"Error in the {region} to the {reference}")
    bars = _table_node(target, f"{name} errors, {region}", "bars", folder)
    bars.SetHideFromEditors(True)
    values = {row["method"]: row[column] for row in rows if row["reference"] == reference and row[column] is not None}
    _fill_table(bars, {method: np.array([value]) for method, value in values.items()})
    for number, method in enumerate(values):
        _add_series(chart, bars, method, "", method, COLORS[number % len(COLORS)])
        chart.GetNthPlotSeriesNode(number).SetPlotType(slicer.vtkMRMLPlotSeriesNode.PlotTypeBar)
    chart.SetXAxisRangeAuto(False)  # an automatic range begins inside the first bar
    chart.SetXAxisRange(*_BARS_RANGE)
    return chart


def _spectrum_chart(target, name: str, folder: Path, rows) -> slicer.vtkMRMLPlotChartNode:
    """Noise power over spatial frequency, a curve for each method."""
    chart = _chart(target, f"{name} noise", "noise spectra", folder, "frequency (1/mm)", "noise power (HU² mm²)")
    chart.SetTitle("Noise power in soft tissue")
    chart.SetYAxisLogScale(True)
    reference = _reference(rows)
    for number, method in enumerate(dict.fromkeys(row["method"] for row in rows)):
        columns = {
            key: np.array([row[key] for row in rows if (row["method"], row["reference"]) == (method, reference)], float)
            for key in ("frequency_per_mm", "power_hu2_mm2")
        }
        if not _is_line(columns["power_hu2_mm2"]):
            continue
        table = _table_node(target, f"{name} noise {method}", "spectrum", folder)
        table.SetHideFromEditors(True)
        _fill_table(table, columns)
        _add_series(chart, table, method, "frequency_per_mm", "power_hu2_mm2", COLORS[number % len(COLORS)])
    return chart
