"""What OpenVINO is told to compute in."""

from __future__ import annotations

import pytest

from corral.backends.openvino.hints import inference_precision


@pytest.mark.parametrize(
    ("precision", "marked_bf16", "able", "wanted"),
    [
        ("fp32", False, ["FP32", "BF16", "INT8"], "f32"),
        ("bf16", False, ["FP32", "BF16", "INT8"], "bf16"),
        # All of it in INT8, or the others judged in FP32: that is what they run in.
        ("int8", False, ["FP32", "BF16", "INT8"], "f32"),
        ("int8", True, ["FP32", "BF16", "INT8"], "bf16"),
        ("int8", True, ["FP32", "INT8"], "f32"),
        ("fp32", True, ["FP32", "BF16", "INT8"], "f32"),
    ],
)
def test_layers_left_out_of_int8_are_in_bf16_where_that_was_judged(
    precision: str, marked_bf16: bool, able: list[str], wanted: str
) -> None:
    assert inference_precision(precision, marked_bf16=marked_bf16, able=able) == wanted
