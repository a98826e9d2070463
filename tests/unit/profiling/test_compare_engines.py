"""Profiles of two engines, or two models: kinds of operators are compared, and not their names."""

from __future__ import annotations

import io

import msgspec
import pytest
from rich.console import Console

from corral.backends.operators import Operator
from corral.profiling.compare import compare
from corral.profiling.kinds import kind_of
from corral.profiling.report import EngineFigures, ProfileReport, Span
from corral.profiling.rows import make_rows
from corral.profiling.threads import ThreadUse
from corral.profiling.view import render_comparison

_USE = ThreadUse(
    span_s=1.0, computing=2, balance_percent=90.0, waited_percent=0.0, voluntary_per_s=1.0,
    involuntary_per_s=0.0, migrations=0,
)  # fmt: skip


def operator(name: str, kind: str, us: float, flop: float = 0.0) -> Operator:
    return Operator(name=name, type=kind, kernel="", precision="fp32", calls=1, us=us, flop=flop)


def report(engine: str, operators: list[Operator], batch_us: float = 9e3) -> ProfileReport:
    figures = EngineFigures(
        described={"engine": engine}, batch=1, cpus=[0, 1], profiler_percent=3.0,
        operators=make_rows(operators, []), threads=_USE, peaks=[], bandwidth_gb_s=20.0,
        inference=Span(name="inference", p50_us=batch_us, p99_us=batch_us, mean_us=batch_us),
    )  # fmt: skip
    return ProfileReport(
        cpu="a CPU", model="m", mode="rti", served_by="a server of its own", workers=1, seconds=1.0,
        engine=figures,
    )  # fmt: skip


OPENVINO = report(
    "openvino",
    [
        operator("layer1", "Convolution", 2000.0, 1e9),
        operator("layer2", "Convolution", 3000.0, 1e9),
        operator("head", "FullyConnected", 400.0, 1e8),
        operator("in", "Reorder", 100.0),
    ],
    6000.0,
)
ONNX = report(
    "onnxruntime",
    [
        operator("/layer1/Conv", "FusedConv", 4000.0, 1e9),
        operator("/layer2/Conv", "NhwcFusedConv", 5000.0, 1e9),
        operator("/head/Gemm", "Gemm", 300.0, 1e8),
        operator("ReorderOutput", "ReorderOutput", 100.0),
    ],
    9600.0,
)
_WHY = "operators: two engines have other names for them, so that they are compared by kind"


def test_of_two_engines_kinds_of_operators_are_compared() -> None:
    found = compare(OPENVINO, ONNX)
    assert found.differences == ["engine: onnxruntime instead of openvino", _WHY]
    said = [
        (change.kind, change.sentence().replace(" \N{MICRO SIGN}s", "")) for change in found.changes
    ]
    assert said == [
        ("kind", "convolutions: 9,000 instead of 5,000 (+80 %)"),
        ("operators", "all operators: 9,400 instead of 5,500 (+71 %)"),
        ("inference", "the whole batch: 9,600 instead of 6,000 (+60 %)"),
        ("kind", "matrix products: 300 instead of 400 (-25 %)"),
    ]
    text = io.StringIO()
    Console(width=120, file=text).print(render_comparison(found, ("a", "b")))
    assert f"\n  {_WHY}\n" in text.getvalue()
    assert "layer1" not in text.getvalue()


def test_of_two_models_likewise() -> None:
    other = msgspec.structs.replace(OPENVINO, model="n")
    assert compare(OPENVINO, other).differences == [
        "model: n instead of m",
        "operators: two models have none in common, so that they are compared by kind",
    ]
    assert compare(OPENVINO, other).changes == []


def test_what_one_engine_fuses_otherwise_likewise() -> None:
    fused = report("openvino", [operator("fused", "Subgraph", 5500.0)], 6000.0)
    found = compare(OPENVINO, fused)
    assert found.differences == [
        "operators: most have names that only one of both has, so that they are compared by kind"
    ]
    assert [change.name for change in found.changes] == [
        "other", "reorders", "matrix products", "convolutions"
    ]  # fmt: skip


def test_without_an_engines_part_there_is_nothing_to_tell() -> None:
    requests = msgspec.structs.replace(OPENVINO, engine=None)
    assert compare(requests, requests).differences == []


@pytest.mark.parametrize(
    ("types", "kind"),
    [
        (
            ("Convolution", "FusedConv", "NhwcFusedConv", "QLinearConv", "mkldnn_convolution",
             "convolution", "GroupConvolution", "_convolution_pointwise", "ConvInteger"),
            "convolutions",
        ),
        (
            ("FullyConnected", "Gemm", "FusedGemm", "MatMul", "QLinearMatMul", "addmm", "mm", "bmm",
             "_linear_pointwise", "inner_product", "matmul", "mkldnn_linear",
             "MatMulIntegerToFloat", "DynamicQuantizeMatMul"),
            "matrix products",
        ),
        (("Pooling", "MaxPool", "GlobalAveragePool", "max_pool2d_with_indices", "mean",
          "ReduceMean", "pooling_v2", "AdaptivePooling"), "pooling"),
        (("LayerNormalization", "native_layer_norm", "batch_norm", "MVN", "InstanceNormalization"),
         "normalization"),
        (("Softmax", "_softmax", "softmax_v2"), "softmax"),
        (("ScaledDotProductAttention", "_scaled_dot_product_flash_attention_for_cpu"), "attention"),
        (("Eltwise", "eltwise", "Add", "add_", "Relu", "clamp_min_", "QuantizeLinear",
          "FakeQuantize", "binary", "Clip", "hardtanh_", "Math"), "one value at a time"),
        (("Reorder", "ReorderOutput", "Transpose", "copy_", "Convert", "reorder", "contiguous"),
         "reorders"),
        (("Subgraph", "call", "NonMaxSuppression", "Input"), "other"),
    ],
)  # fmt: skip
def test_every_engines_word_has_its_kind(types: tuple[str, ...], kind: str) -> None:
    rows = make_rows([operator(type_, type_, 1.0) for type_ in types], [])
    assert {row.type: kind_of(row) for row in rows} == dict.fromkeys(types, kind)
