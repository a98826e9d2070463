"""Served against raw: ratios, bars and the table."""

from __future__ import annotations

import pytest

from corral_loadtest.engines.served import (
    CASES,
    DEFAULT_CASES,
    Row,
    model_options,
    name_of,
    table,
)


def _row(served_per_s: list[float], served_p50_ms: list[float]) -> Row:
    return Row(
        name="torch-int8",
        raw_per_s=[10.0, 20.0, 40.0],
        raw_p50_ms=[50.0, 60.0, 70.0],
        served_per_s=served_per_s,
        served_p50_ms=served_p50_ms,
        start_s=7.5,
        memory_mib=512.0,
    )


def test_the_median_round_counts_not_the_ratio_of_medians() -> None:
    row = _row([9.6, 24.0, 20.0], [51.0, 60.5, 90.0])
    assert row.share == pytest.approx(0.96)
    assert row.added_ms == pytest.approx(1.0)
    assert row.kept


@pytest.mark.parametrize(
    ("served_per_s", "served_p50_ms"),
    [([9.0, 18.0, 36.0], [50.0, 60.0, 70.0]), ([10.0, 20.0, 40.0], [53.0, 63.0, 73.0])],
)
def test_either_bar_can_be_missed(served_per_s: list[float], served_p50_ms: list[float]) -> None:
    row = _row(served_per_s, served_p50_ms)
    assert not row.kept
    assert "**missed**" in table([row])


def test_a_row_that_did_not_run_says_why_and_fits_the_table() -> None:
    lines = table([_row([9.6] * 3, [51.0] * 3), Row(name="ipex", reason="no AVX2")]).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "not run: no AVX2" in lines[-1]


def test_a_file_of_ones_own_has_its_weights_and_its_files_name() -> None:
    assert model_options("resnet50") == ["--model", "resnet50", "--weights", "synthetic"]
    file = "examples/detector/yolo.onnx"
    assert model_options(file) == ["--model", file, "--model-name", "yolo"]
    assert (name_of("resnet50"), name_of(file)) == ("resnet50", "yolo")


def test_what_is_measured_by_default_is_known() -> None:
    assert set(DEFAULT_CASES) < set(CASES)
    engines = {CASES[name][1] for name in DEFAULT_CASES}
    assert engines == {"openvino", "onnxruntime", "torch", "ipex"}
