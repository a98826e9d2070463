"""Engines' own profilers on a small model: operators, kernels, operations."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.cli.command_line import settings_of
from corral.models import registry
from corral.planning import topology
from corral.planning.request import plan_for
from corral.profiling.engine_run import EngineOrder, run
from corral.profiling.process import EngineRun
from corral.tuning import prepare

MODEL = Path(__file__).parents[1] / "data" / "models" / "colours.onnx"


def _profiled(words: list[str], environ: dict[str, str], *, batch: int) -> EngineRun:
    """What the first worker of ``corral serve`` with these words does in 0.2 s."""
    settings = settings_of(["serve", *words, "--allocator", "system"], environ)
    order = EngineOrder(
        settings=settings,
        model=prepare.make_apart(settings),
        signature=registry.get(settings.model.name, settings.model.shape).signature,
        pen=plan_for(settings, topology.read_machine()).first_worker,
        batch=batch,
        seconds=0.2,
    )
    return run(order, environ)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_operators_of_an_engine_have_names_times_and_operations(
    backend: str, tmp_path: Path
) -> None:
    environ = {**os.environ, "CORRAL_CACHE": str(tmp_path)}
    words = ["--backend", backend, "--precision", "fp32", "--model", str(MODEL)]
    found = _profiled(words, environ, batch=2)
    assert found.plain_s
    assert found.profile.inferences
    assert found.threads.span_s > 0
    heavy = [operator for operator in found.profile.operators if operator.flop]
    assert {operator.type for operator in heavy} & {"Convolution", "Conv"}
    assert all(operator.us > 0 for operator in found.profile.operators)
    if backend == "openvino":
        assert any(operator.isa for operator in heavy)
        assert found.engine["isa"]


@pytest.mark.long
def test_torchs_convolutions_have_onednns_kernels(artefact_cache: Path) -> None:
    environ = {**os.environ, "CORRAL_CACHE": str(artefact_cache)}
    words = ["--backend", "torch", "--torch-mode", "eager", "--precision", "fp32"]
    words += ["--model", "efficientnet_lite0"]
    found = _profiled(words, environ, batch=1)
    rows = [row for row in found.profile.operators if row.name.startswith("convolution ")]
    assert rows
    assert all(row.kernel and row.flop and row.precision == "fp32" for row in rows)
    assert any(row.isa for row in rows)
    # Those of torch's own stay beside them.
    assert any(row.type == "native_batch_norm" for row in found.profile.operators)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_what_torch_has_compiled_is_seen_inside(artefact_cache: Path) -> None:
    """`corral profile --torch-mode compile`: oneDNN's kernels, and nothing that was folded away."""
    environ = {**os.environ, "CORRAL_CACHE": str(artefact_cache)}
    words = ["--backend", "torch", "--torch-mode", "compile", "--precision", "fp32"]
    words += ["--model", "efficientnet_lite0"]
    found = _profiled(words, environ, batch=1)
    assert found.engine["mode"] == "compile"
    assert found.plain_s
    types = {row.type for row in found.profile.operators}
    rows = [row for row in found.profile.operators if row.type == "convolution"]
    # 49 convolutions in each inference, of which some have the same sizes, and the last layer.
    calls = sum(row.calls for row in rows)
    assert calls
    assert calls % 49 == 0
    assert all(row.kernel and row.isa and row.flop and row.us for row in rows)
    assert "inner_product" in types
    assert not {kind for kind in types if "batch_norm" in kind}
