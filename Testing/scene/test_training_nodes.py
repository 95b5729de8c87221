"""A training run, a purified case and a comparison in the scene: real MRML nodes, filled from files."""

import csv
from pathlib import Path

import numpy as np
import pytest
import vtk
from IPv2Lib.errors import InputError
from IPv2Lib.training.run_folder import RunWriter, read_run, validation_slice, write_json

slicer = pytest.importorskip("slicer", reason="MRML needs Slicer or its wheel: pip install slicer-core")

from IPv2Lib.datasets.shards import PurifiedDataset  # noqa: E402
from IPv2Lib.evaluation.measures import MEASURES  # noqa: E402
from IPv2SlicerLib.scene import training_nodes, volume_nodes  # noqa: E402
from IPv2SlicerLib.scene.layouts import comparison_layout, training_layout  # noqa: E402


@pytest.fixture
def fresh():
    return slicer.vtkMRMLScene()


def write_run(folder: Path, steps=(10, 20), pictured: bool = True) -> Path:
    """A run as `ipv2 train` leaves it, with loss 1 / step and an error of 100 / step HU."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "settings.json", {"network": "unet", "loss": "relative", "strategy": "ipv2"})
    writer = RunWriter(folder, steps[0] - 1)
    for step in steps:
        writer.log(step, step / 10, 1e-3, 1 / step, 0.0)
        writer.validation(step, step / 10, 100 / step, 200 / step, "ground_truth")
    if pictured:
        ramp = np.arange(20, dtype=np.float32).reshape(4, 5)
        images = {"input": ramp + steps[-1], "output": ramp, "label": -ramp}
        writer.slice(**images, step=steps[-1], spacing=np.array([0.7, 0.8]), case="a")
    writer.status("paused", step=steps[-1], steps=100, fraction=steps[-1] / 100)
    writer.close()
    return folder


def column(table, name: str) -> list[float]:
    array = table.GetTable().GetColumnByName(name)
    return [array.GetValue(row) for row in range(array.GetNumberOfValues())]


def series_of(chart) -> dict:
    found = [chart.GetNthPlotSeriesNode(number) for number in range(chart.GetNumberOfPlotSeriesNodes())]
    return {each.GetName(): (each.GetTableNode(), each.GetXColumnName(), each.GetYColumnName()) for each in found}


def add(target, folder):
    return training_nodes.add_run(target, read_run(folder), validation_slice(folder))


def test_curves_and_slice_of_a_run(fresh, tmp_path):
    nodes = add(fresh, write_run(tmp_path / "first"))
    assert nodes.log.GetName() == "first log"
    np.testing.assert_allclose(column(nodes.log, "loss"), [0.1, 0.05])
    assert series_of(nodes.loss_chart) == {"loss": (nodes.log, "step", "loss")}
    assert nodes.loss_chart.GetYAxisLogScale()
    errors = series_of(nodes.error_chart)
    assert {name: column(table, y) for name, (table, x, y) in errors.items()} == {"body": [10, 5], "lung": [20, 10]}
    assert "ground truth" in nodes.error_chart.GetTitle()
    array, volume = volume_nodes.node_array(nodes.images["input"]), volume_nodes.node_to_volume(nodes.images["input"])
    np.testing.assert_array_equal(array[0], np.arange(20).reshape(4, 5) + 20)
    assert volume.spacing[:2] == pytest.approx((0.7, 0.8))
    assert volume_nodes.provenance(nodes.images["label"])["step"] == "20"


def test_a_run_that_goes_on_changes_its_nodes_and_adds_none(fresh, tmp_path):
    folder = write_run(tmp_path / "first", pictured=False)
    nodes = add(fresh, folder)
    assert nodes.images == {}
    write_run(folder, (30, 40))
    training_nodes.update_run(nodes, read_run(folder), validation_slice(folder))
    count = fresh.GetNumberOfNodes()
    assert column(nodes.log, "step") == [10, 20, 30, 40] and set(nodes.images) == {"input", "output", "label"}
    write_run(folder, (50,))
    training_nodes.update_run(nodes, read_run(folder), validation_slice(folder))
    assert fresh.GetNumberOfNodes() == count
    assert volume_nodes.node_array(nodes.images["input"])[0, 0, 0] == 50
    assert add(fresh, folder).log is nodes.log and fresh.GetNumberOfNodes() == count
    other = add(fresh, write_run(tmp_path / "second"))
    assert other.log is not nodes.log and other.log.GetName() == "second log"


def test_a_run_without_validation_or_log(fresh, tmp_path):
    write_json(tmp_path / "settings.json", {"network": "unet"})
    nodes = add(fresh, tmp_path)
    assert nodes.log.GetNumberOfRows() == 0 and nodes.images == {} and nodes.present
    assert series_of(nodes.loss_chart) == series_of(nodes.error_chart) == {}
    fresh.RemoveNode(nodes.loss_chart)
    assert not nodes.present


def test_the_layout_of_a_run_shows_its_charts_and_images(tmp_path):
    target = volume_nodes.scene()
    target.Clear()
    nodes = add(target, write_run(tmp_path / "first"))
    training_nodes.show_run(nodes)
    layout = training_layout()
    assert target.GetFirstNodeByClass("vtkMRMLLayoutNode").GetViewArrangement() == layout.number
    plots = [target.GetSingletonNode(name, "vtkMRMLPlotViewNode").GetPlotChartNode() for name in layout.plots]
    assert plots == [nodes.loss_chart, nodes.error_chart]
    shown = {each.GetLayoutName(): each for each in volume_nodes.nodes_of_class(target, "vtkMRMLSliceCompositeNode")}
    assert [shown[name].GetBackgroundVolumeID() for name in layout.views] == [
        nodes.images[name].GetID() for name in ("input", "output", "label")
    ]


def write_table(path: Path, rows: list[dict]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def score(method: str, reference: str, value: float, limits=(" low", " high")) -> dict:
    row = {"method": method, "reference": reference, "patients": 5}
    for number, measure in enumerate(MEASURES):
        row |= {measure.name: value + number, f"{measure.name}{limits[0]}": value, f"{measure.name}{limits[1]}": 99}
    return row


def write_comparison(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [score("input", "ground_truth", 20.0), score("mine", "ground_truth", 10.0), score("mine", "label", 15.0)]
    rows[0]["ssim"] = rows[0]["ssim low"] = rows[0]["ssim high"] = ""
    write_table(folder / "table.csv", rows)
    spectrum = [
        {"method": method, "reference": "ground_truth", "frequency_per_mm": f, "power_hu2_mm2": power / (1 + f)}
        for method, power in (("input", 100), ("mine", 10)) for f in (0.1, 0.2, 0.4)
    ]  # fmt: skip
    write_table(folder / "nps.csv", spectrum)
    return folder


def test_a_comparison_is_a_table_and_two_charts(fresh, tmp_path):
    nodes = training_nodes.add_comparison(fresh, write_comparison(tmp_path), "scores")
    place = [measure.name for measure in MEASURES].index("rmse_body_hu")
    assert column(nodes.table, "method") == ["input", "mine", "mine"]
    assert column(nodes.table, "rmse_body_hu")[1] == f"{10 + place:.1f} (10.0 to 99.0)"
    assert column(nodes.table, "patients") == ["5", "5", "5"] and "rmse_body_hu low" not in column_names(nodes.table)
    assert not any(character.isdigit() for character in column(nodes.table, "ssim")[0])
    assert nodes.table.GetColumnTitle("rmse_body_hu") == "RMSE in the body"
    assert nodes.table.GetColumnUnitLabel("rmse_body_hu") == "HU"
    errors, noise = nodes.charts
    bars = {name: column(table, y) for name, (table, x, y) in series_of(errors).items()}
    assert bars == {"input": [20.0 + place], "mine": [10.0 + place]} and "ground truth" in errors.GetTitle()
    curves = {name: column(table, y) for name, (table, x, y) in series_of(noise).items()}
    np.testing.assert_allclose(curves["mine"], np.array(curves["input"]) / 10)
    other = training_nodes.add_comparison(fresh, write_comparison(tmp_path / "other"), "scores")
    assert other.table is not nodes.table and other.table.GetName() == "scores_1"


def everything(target) -> list[tuple[str, str, str]]:
    """Class, ID and name of all nodes."""
    return sorted(
        (node.GetClassName(), node.GetID(), node.GetName())
        for node in volume_nodes.nodes_of_class(target, "vtkMRMLNode")
    )


def saved_and_loaded(target, folder: Path):
    """The scene after it was saved and loaded."""
    (folder / "saved").mkdir()
    for node in volume_nodes.nodes_of_class(target, "vtkMRMLStorableNode"):
        if node.GetSaveWithScene() and not node.GetStorageNode():
            node.AddDefaultStorageNode()
        if node.GetStorageNode():
            node.GetStorageNode().SetFileName(
                str(folder / "saved" / f"{node.GetID()}.{'tsv' if node.IsA('vtkMRMLTableNode') else 'nrrd'}")
            )
            assert node.GetStorageNode().WriteData(node)
    target.SetURL(str(folder / "saved" / "scene.mrml"))
    target.SetRootDirectory(str(folder / "saved"))
    target.Commit()
    loaded = slicer.vtkMRMLScene()
    loaded.SetURL(target.GetURL())
    loaded.Connect()
    return loaded


def test_shown_again_a_comparison_has_the_same_nodes_filled_anew(fresh, tmp_path, monkeypatch):
    folder = write_comparison(tmp_path / "compared")
    nodes = training_nodes.add_comparison(fresh, folder, "scores")
    nodes.table.SetName("My table")
    before = everything(fresh)
    monkeypatch.chdir(tmp_path)
    for path in (folder, Path("compared"), tmp_path / "compared" / ".." / "compared"):
        again = training_nodes.add_comparison(fresh, path, "scores")
        assert everything(fresh) == before and (again.table, again.charts) == (nodes.table, nodes.charts)

    # another run more, and one less
    write_table(folder / "table.csv", [score("mine", "ground_truth", 5.0), score("new", "ground_truth", 7.0)])
    again = training_nodes.add_comparison(fresh, folder, "scores")
    assert (again.table, again.charts[0]) == (nodes.table, nodes.charts[0])
    assert column(again.table, "method") == ["mine", "new"]
    assert set(series_of(again.charts[0])) == {"mine", "new"}
    assert len(everything(fresh)) == len(before)

    # without spectra: another chart in place of theirs
    (folder / "nps.csv").unlink()
    again = training_nodes.add_comparison(fresh, folder, "scores")
    charts = volume_nodes.nodes_of_class(fresh, "vtkMRMLPlotChartNode")
    assert charts == list(again.charts) and "lung" in charts[1].GetTitle()
    assert len(volume_nodes.nodes_of_class(fresh, "vtkMRMLTableNode")) == 3
    assert len(volume_nodes.nodes_of_class(fresh, "vtkMRMLPlotSeriesNode")) == 4


def test_a_part_that_somebody_removed_comes_back_alone(fresh, tmp_path):
    nodes = training_nodes.add_comparison(fresh, write_comparison(tmp_path), "scores")
    before = len(everything(fresh))
    fresh.RemoveNode(nodes.table)
    again = training_nodes.add_comparison(fresh, tmp_path, "scores")
    assert again.charts == nodes.charts and len(everything(fresh)) == before
    run = add(fresh, write_run(tmp_path / "run"))
    before = len(everything(fresh))
    fresh.RemoveNode(run.log)
    again = add(fresh, tmp_path / "run")
    assert again.loss_chart is run.loss_chart and len(everything(fresh)) == before
    assert series_of(again.loss_chart)["loss"][0] is again.log


def test_shown_in_a_loaded_scene_everything_is_found_again(fresh, tmp_path):
    training_nodes.add_comparison(fresh, write_comparison(tmp_path / "compared"), "scores")
    row = score("", "ground_truth", 3.0, (" min", " max"))
    row = {"network": "unet", "strategy": "ipv1"} | {name: value for name, value in row.items() if name != "method"}
    (tmp_path / "ablation").mkdir()
    write_table(tmp_path / "ablation" / "ablation.csv", [row])
    training_nodes.add_comparison(fresh, tmp_path / "ablation", "ablation")
    add(fresh, write_run(tmp_path / "run"))
    loaded = saved_and_loaded(fresh, tmp_path)
    volume_nodes.application_logic(loaded)  # adds its own nodes once
    before = everything(loaded)
    for name in ("compared", "ablation"):
        nodes = training_nodes.add_comparison(loaded, tmp_path / name, "scores")
        assert nodes.table.GetNumberOfRows() >= 1
    run = add(loaded, tmp_path / "run")
    assert everything(loaded) == before and set(run.images) == {"input", "output", "label"}


def test_showing_again_can_be_undone_and_a_failure_leaves_what_was_there(fresh, tmp_path, monkeypatch):
    folder = write_comparison(tmp_path)
    nodes = training_nodes.add_comparison(fresh, folder, "scores")
    fresh.SetUndoOn()
    write_table(folder / "table.csv", [score("mine", "ground_truth", 5.0)])
    before, methods = everything(fresh), column(nodes.table, "method")
    with monkeypatch.context() as patched:
        patched.setattr(training_nodes, "_spectrum_chart", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            training_nodes.add_comparison(fresh, folder, "scores")
    assert column(nodes.table, "method") == methods == ["input", "mine", "mine"]
    training_nodes.add_comparison(fresh, folder, "scores")
    assert column(nodes.table, "method") == ["mine"]
    fresh.Undo()
    assert column(nodes.table, "method") == methods and everything(fresh) == before
    assert set(series_of(nodes.charts[0])) == {"input", "mine"}


def test_without_spectra_the_second_chart_is_about_the_lung(fresh, tmp_path):
    (write_comparison(tmp_path) / "nps.csv").unlink()
    nodes = training_nodes.add_comparison(fresh, tmp_path, "scores")
    place = [measure.name for measure in MEASURES].index("rmse_lung_hu")
    bars = {name: column(table, y) for name, (table, x, y) in series_of(nodes.charts[1]).items()}
    assert bars == {"input": [20.0 + place], "mine": [10.0 + place]}


@pytest.mark.parametrize("count", [1, 2, 7])
def test_every_bar_of_a_chart_is_within_its_axis(fresh, tmp_path, count):
    write_table(
        tmp_path / "table.csv", [score(f"model {number}", "ground_truth", 10.0 + number) for number in range(count)]
    )
    errors = training_nodes.add_comparison(fresh, tmp_path, "scores").charts[0]
    chart, bars = vtk.vtkChartXY(), []
    for table, _x, y in series_of(errors).values():
        bars.append(vtk.vtkPlotBar())  # drawn at its row's number, 0, as by Slicer
        bars[-1].SetUseIndexForXSeries(True)
        bars[-1].SetInputData(table.GetTable(), y, y)
        chart.AddPlot(bars[-1])
    chart.Update()
    reach = max(abs(bar.GetOffset()) + bar.GetWidth() / 2 for bar in bars)
    low, high = errors.GetXAxisRange()
    assert len(bars) == count and not errors.GetXAxisRangeAuto()
    assert low < -reach < reach < high and high - low < 3 * reach


def column_names(table) -> list[str]:
    return [table.GetColumnName(number) for number in range(table.GetNumberOfColumns())]


def test_an_ablation_has_the_spread_of_its_seeds(fresh, tmp_path):
    row = score("", "ground_truth", 3.0, (" min", " max"))
    row = {"network": "unet", "strategy": "ipv1"} | {name: value for name, value in row.items() if name != "method"}
    write_table(tmp_path / "ablation.csv", [row])
    nodes = training_nodes.add_comparison(fresh, tmp_path, "ablation")
    place = [measure.name for measure in MEASURES].index("psnr_db")
    assert column(nodes.table, "psnr_db") == [f"{3 + place:.2f} (3.00 to 99.00)"] and nodes.charts == ()


def test_a_comparison_is_one_step_of_undo_and_a_folder_without_one_is_refused(fresh, tmp_path):
    fresh.SetUndoOn()
    with pytest.raises(InputError, match="compare or measure first"):
        training_nodes.add_comparison(fresh, tmp_path, "scores")
    before = fresh.GetNumberOfNodes()
    training_nodes.add_comparison(fresh, write_comparison(tmp_path), "scores")
    assert fresh.GetNumberOfNodes() > before
    fresh.Undo()
    assert not volume_nodes.nodes_of_class(fresh, "vtkMRMLTableNode")


def test_the_layout_of_a_comparison_shows_table_and_charts(tmp_path):
    target = volume_nodes.scene()
    target.Clear()
    nodes = training_nodes.add_comparison(target, write_comparison(tmp_path), "scores")
    training_nodes.show_comparison(nodes)
    layout = comparison_layout()
    assert target.GetSingletonNode(layout.tables[0], "vtkMRMLTableViewNode").GetTableNode() is nodes.table
    plots = [target.GetSingletonNode(name, "vtkMRMLPlotViewNode").GetPlotChartNode() for name in layout.plots]
    assert plots == list(nodes.charts)


def write_physics(folder: Path) -> Path:
    """What `ipv2 physics` writes, as far as the scene shows it: "half" takes half of the noise."""

    def rows(denoiser: str, left: float):
        water = {"size_cm": 22, "texture": "A"}
        for sigma in (20.0, 10.0):
            condition = {"experiment": "response", "sigma_hu": sigma} | water
            yield {"denoiser": denoiser, "condition": condition, "values": {"taken": 1 - left}}
        for dose in (0.05, 0.25):
            condition = {"experiment": "noise", "dose": dose, "kernel": "hann"}
            power = [left**2 * each / dose for each in (4.0, 3.0, 1.0)]
            values = {"frequency": [0.1, 0.2, 0.4], "power_out": power}
            yield {"denoiser": denoiser, "condition": condition, "values": values}

    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "summary.csv", [{"what": "half", "noise": "−50 % at 25 % dose", "task": ""}])
    results = [*rows("input", 1.0), *rows("half", 0.5)]
    write_json(folder / "results.json", {"sentences": ["half takes 50 %."], "results": results})
    return folder


def test_image_physics_are_a_table_two_charts_and_sentences(fresh, tmp_path):
    nodes = training_nodes.add_comparison(fresh, write_physics(tmp_path), "physics")
    assert column(nodes.table, "noise") == ["−50 % at 25 % dose"] and nodes.sentences == ("half takes 50 %.",)
    response, noise = (
        {name: (column(table, x), column(table, y)) for name, (table, x, y) in series_of(chart).items()}
        for chart in nodes.charts
    )
    assert response == {"half": ([10, 20], [50, 50])}
    assert noise == {"input": ([0.1, 0.2, 0.4], [16, 12, 4]), "half": ([0.1, 0.2, 0.4], [4, 3, 1])}
    assert "25 % dose" in nodes.charts[1].GetTitle()
    before = everything(fresh)
    again = training_nodes.add_comparison(fresh, tmp_path, "physics")
    assert again == nodes and everything(fresh) == before

    (tmp_path / "results.json").write_text("{")
    with pytest.raises(InputError, match="measure again"):
        training_nodes.add_comparison(fresh, tmp_path, "physics")
    write_json(tmp_path / "results.json", {"sentences": [], "results": []})
    assert training_nodes.add_comparison(fresh, tmp_path, "physics").charts == ()


def test_a_case_is_four_volumes_that_are_used_again(fresh, tmp_path):
    from IPv2Lib.datasets import cases, preparation
    from IPv2Lib.io import files
    from IPv2Lib.io.volume import same_grid
    from IPv2Lib.simulation import phantom

    pair = phantom.pair(size=48, slices=2)
    case = cases.Case(
        "a", ndct=files.write(pair.ndct, tmp_path / "n.nrrd"), uldct=files.write(pair.uldct, tmp_path / "u.nrrd")
    )
    preparation.prepare([case], tmp_path / "data")
    shard = PurifiedDataset.read(tmp_path / "data").shards[0]
    nodes = training_nodes.add_case(fresh, shard)
    assert [node.GetName() for node in nodes] == ["a uLDCT", "a NDCT", "a training input", "a test label"]
    volumes = [volume_nodes.node_to_volume(node) for node in nodes]
    np.testing.assert_array_equal(volumes[0].array, shard.uldct)
    np.testing.assert_array_equal(volumes[2].array, shard.pair(np.s_[:], "ipv2")[0])
    assert all(same_grid(volume, pair.uldct) for volume in volumes)
    assert training_nodes.add_case(fresh, shard) == nodes
