"""What OpenVINO is told to compute in."""

from __future__ import annotations

import pytest

from corral.backends.openvino.hints import inference_precision


@pytest.mark.parametrize(
    ("precision", "left_out", "able", "wanted"),
    [
        ("fp32", False, ["FP32", "BF16", "INT8"], "f32"),
        ("bf16", False, ["FP32", "BF16", "INT8"], "bf16"),
        # All of it in INT8 costs what was measured in FP32.
        ("int8", False, ["FP32", "BF16", "INT8"], "f32"),
        ("int8", True, ["FP32", "BF16", "INT8"], "bf16"),
        ("int8", True, ["FP32", "INT8"], "f32"),
        ("fp32", True, ["FP32", "BF16", "INT8"], "f32"),
    ],
)
def test_layers_left_out_of_int8_are_in_bf16_where_the_cpu_has_it(
    precision: str, left_out: bool, able: list[str], wanted: str
) -> None:
    assert inference_precision(precision, left_out=left_out, able=able) == wanted
