"""Phantom, purified data, training killed and resumed, comparison, publishing, denoising in Slicer: in small."""

import pytest

pytest.importorskip("slicer", reason="MRML needs Slicer or its wheel: pip install slicer-core")
pytest.importorskip("PySide6", reason="widgets need Qt: pip install PySide6-Essentials")

from training_path import run


def test_from_scans_to_a_model_that_denoises_in_slicer(tmp_path, monkeypatch):
    monkeypatch.setenv("IPV2_MODELS", "")  # is set on the way, and as before after that
    found = run(
        tmp_path, steps=120, size=96, slices=3, dose=0.001,
        options=(
            "--argument", "channels=[16,32]", "--argument", "blocks=[1,1]", "--lr", "0.003", "--loss", "l1",
            "--checkpoint-minutes", "0.001", "--validate-every", "30",
        ),
    )  # fmt: skip
    assert found.weights_differ_by < 1e-6
    rows = {row["method"]: row for row in found.table}
    assert {"input", "whole", "ipv2-fast"} <= set(rows)
    assert found.rmse_after < 0.8 * found.rmse_before
