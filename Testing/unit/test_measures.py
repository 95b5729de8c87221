"""The table of measures: whole, and shown wherever measures are listed after an entry was added to it."""

import csv
import importlib
import math

import numpy as np
import pytest
from IPv2Lib.analysis.regions import Region
from IPv2Lib.evaluation import measures, scores
from IPv2Lib.evaluation.measures import BY_NAME, EVALUATE, MEASURES, PLOT, SUMS, TERMINAL, Block, Measure, shown_in

NAMES = (
    "psnr_db", "ssim", "gmsd", "rmse_body_hu",
    *(f"{name}_{region}_hu" for name in ("rmse", "bias", "sigma")
      for region in ("lung", "soft_tissue", "bone", "background")),
    "nps_variance_hu2", "nps_frequency_per_mm",
    *(f"f50_{border}_{what}" for border in ("lung", "bone") for what in ("per_mm", "ratio")), "fid", "kid",
)  # fmt: skip
"""Of columns in files that people have."""


@pytest.fixture
def block() -> Block:
    labels = np.full((2, 64, 64), Region.SOFT_TISSUE, np.uint8)
    labels[:, :20] = Region.LUNG
    reference = np.where(labels == Region.LUNG, -850, 40).astype(np.float32)
    return Block(reference, reference + 3, labels, 0.7)


def test_columns_keep_their_names():
    assert sorted(BY_NAME) == sorted(NAMES) and len(MEASURES) == len(BY_NAME)


def test_each_measure_is_whole():
    for measure in MEASURES:
        assert measure.title and measure.better in ("higher", "lower", "reference")
        assert (measure.sums in SUMS and measure.finish) if measure.sums else measure.between
        assert not measure.region or (measure.short and measure.key)


def test_values_of_a_block(block):
    assert BY_NAME["rmse_body_hu"].of(block) == pytest.approx(3, abs=1e-4)
    assert BY_NAME["bias_lung_hu"].of(block) == pytest.approx(3, abs=1e-4)
    assert math.isnan(BY_NAME["rmse_bone_hu"].of(block))
    assert BY_NAME["psnr_db"].of(block) == pytest.approx(20 * math.log10(1624 / 3), abs=1e-3)


def test_numbers_for_people():
    assert BY_NAME["rmse_body_hu"].text(12.34) == "12.3 HU" and BY_NAME["ssim"].text(0.98765) == "0.988"
    assert BY_NAME["psnr_db"].text(math.inf) == "∞ dB" and BY_NAME["ssim"].text(None) == "–"


def test_what_is_shown_is_in_the_order_of_the_table():
    assert [measure.name for measure in shown_in(EVALUATE)][:3] == ["rmse_body_hu", "psnr_db", "ssim"]
    assert {measure.name for measure in shown_in(PLOT)} == {
        "rmse_body_hu", "rmse_lung_hu", "ssim", "gmsd", "sigma_lung_hu", "sigma_background_hu", "f50_lung_ratio", "fid",
    }  # fmt: skip


def test_a_new_entry_is_shown_everywhere(block, tmp_path, monkeypatch):
    # Adding a measure touches the table alone: its sums are measured, its column is written, its panel drawn.
    mean = Measure(
        "mae_hu", "Mean absolute error", "HU", "lower", 1, "absolute", lambda sums: sums[..., 0] / sums[..., 1],
        shown=frozenset({EVALUATE, TERMINAL, PLOT}),
    )  # fmt: skip
    monkeypatch.setattr(measures, "MEASURES", (*MEASURES, mean))
    monkeypatch.setitem(SUMS, "absolute", lambda b: np.array([abs(b.result - b.reference).sum(), b.result.size]))
    from IPv2Lib.cli import comparison, demo, report
    from IPv2Lib.evaluation import agreement, comparison_files
    from IPv2Lib.io.volume import Volume

    try:
        for module in (agreement, comparison_files, report, demo):
            importlib.reload(module)
        volumes = [Volume(array, (0.7, 0.7, 1.0)) for array in (block.result, block.reference)]
        found = agreement.compare(*volumes, block.labels)
        assert found.as_dict()["mae_hu"] == pytest.approx(3)
        for text in (agreement.table(found), demo.table({"a": found}), report.page("t", [], [("a", found)], [], {})):
            assert "Mean absolute error" in text and "3.0" in text
        sums = scores.Reference(block.reference, block.labels, 0.7).measure(block.result)
        pool = scores.Pool([sums], [scores.Origin("case", "patient", "key", (0, 1))], 10)
        facts = {"features": "random-conv"}
        (tmp_path / "out").mkdir()
        rows, _ = comparison_files.write(
            tmp_path / "out", {("reference", "ground_truth"): pool, ("a", "ground_truth"): pool}, facts
        )
        assert rows[0]["mae_hu"] is None and rows[1]["mae_hu"] == pytest.approx(3)
        with open(tmp_path / "out" / "table.csv", encoding="utf-8") as file:
            assert {"mae_hu", "mae_hu low", "mae_hu high"} <= set(next(csv.reader(file)))
        assert "Mean absolute error, HU" in comparison._comparison_text(rows)
    finally:
        monkeypatch.undo()
        for module in (agreement, comparison_files, report, demo):
            importlib.reload(module)
