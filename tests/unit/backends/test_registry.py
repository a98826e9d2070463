"""The registry: every engine's row is whole, and a new engine is a folder and a row."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from corral.artifacts import build
from corral.backends import registry
from corral.backends.engine import Arithmetic, ArtifactForm, Engine
from corral.backends.registry import ENGINES, WIDE_SUMS, create, runs
from corral.errors import ConfigError
from corral.models import registry as models
from corral.settings import BackendName, Precision, Settings
from corral.tuning.candidates import candidates

_RUNTIME = """
from corral.backends.null.runtime import NullBackend

class EchoBackend(NullBackend):
    '''Reads its artefact, then computes nothing.'''

    def load(self, boot):
        super().load(boot)
        self.content = open(boot.model.artefact).read()
"""
_BUILD = """
def write(job):
    job.file.write_text(f"{job.spec.name} {job.precision} {job.narrow_sums}")
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    """An engine in a folder of its own, its row under the name of another."""
    folder = tmp_path / "echo_engine"
    folder.mkdir()
    for name, text in {"__init__": "", "runtime": _RUNTIME, "build": _BUILD}.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    row = Engine(
        name=BackendName.NULL,
        runtime="echo_engine.runtime:EchoBackend",
        builder="echo_engine.build",
        distribution="corral",
        revision=1,
        arithmetic={Precision.FP32: Arithmetic(quick=True), Precision.INT8: Arithmetic()},
        artifact=ArtifactForm(
            engine="echo",
            format=1,
            made_with=(),
            quantized_with=(),
            files=("model.echo",),
            int8_files=("model.echo",),
        ),
    )
    monkeypatch.setitem(registry.ENGINES, BackendName.NULL, row)
    return row


def test_a_new_engine_is_a_folder_and_a_row(echo: Engine, tmp_path: Path) -> None:
    settings = Settings.flat(
        backend=echo.name,
        precision=Precision.INT8,
        weights="synthetic",
        offline=True,
        cache_dir=str(tmp_path / "cache"),
    )
    made = build.prepare(settings, lambda step, share: None, frozenset({"avx2"}))
    assert made.path.name == "model.echo"
    assert made.path.read_text() == "resnet50 int8 True"
    assert type(create(echo.name)).__name__ == "EchoBackend"
    found = candidates(BackendName.AUTO, Precision.AUTO, set(), set())
    assert [option.name for option in found] == ["null fp32"]


def test_options_and_rows_name_the_same_engines() -> None:
    assert set(ENGINES) == set(BackendName) - {BackendName.AUTO}
    assert all(name is row.name for name, row in ENGINES.items())


@pytest.mark.parametrize("row", ENGINES.values(), ids=lambda row: row.name.value)
def test_a_row_names_modules_that_are_there(row: Engine) -> None:
    assert hasattr(create(row.name), "describe")
    assert (row.builder is None) == (row.artifact is None) == (not row.computes)
    if row.builder is not None:
        assert callable(importlib.import_module(row.builder).write)
        assert next(iter(row.arithmetic)) is Precision.FP32


def test_the_registry_imports_no_engine() -> None:
    code = "import sys, corral.backends.registry; print(*sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    modules = {row.runtime.partition(":")[0] for row in ENGINES.values()}
    assert not {*modules, "torch", "openvino", "onnxruntime", "corral.models.spec"} & set(found)


def test_bf16_that_was_named_runs_where_it_works_and_auto_measures_where_it_pays() -> None:
    arm, x86 = frozenset({"bf16"}), frozenset({"avx512_bf16"})
    for isa, precision, measured in [
        (arm, Precision.BF16, True),
        (arm, Precision.AUTO, False),
        (x86, Precision.AUTO, True),
        (WIDE_SUMS, Precision.BF16, False),
    ]:
        found = candidates(BackendName.OPENVINO, precision, isa, {"openvino"})
        assert (Precision.BF16 in {option.precision for option in found}) is measured
    assert runs(Precision.BF16, arm)
    assert not runs(Precision.BF16, WIDE_SUMS)


def test_what_a_start_cannot_do_without_is_kept() -> None:
    needing = {row.name for row in ENGINES.values() if row.needs_code}
    assert needing == {BackendName.TORCH, BackendName.IPEX}
    assert all(ENGINES[name].keeps_code for name in needing)


def test_ipex_needs_torch_too() -> None:
    found = candidates(
        BackendName.AUTO, Precision.FP32, set(), {"intel_extension_for_pytorch"}, every=True
    )
    assert not found


@pytest.mark.parametrize("is_own", [True, False])
def test_users_files_that_are_read_otherwise_are_prepared_anew(
    monkeypatch: pytest.MonkeyPatch, is_own: bool
) -> None:
    spec = models.get("resnet50")
    weights = spec.find_weights("synthetic", Path("unused"), True)
    if is_own:
        spec = dataclasses.replace(spec, file=Path("own.onnx"))
    row = ENGINES[BackendName.ONNXRUNTIME]

    def key() -> str:
        return build.make_order(spec, weights, "fp32", frozenset(), row.name).key

    before = key()
    assert row.artifact
    changed = dataclasses.replace(row.artifact, reading=row.artifact.reading + 1)
    monkeypatch.setattr(build, "engine", lambda name: dataclasses.replace(row, artifact=changed))
    assert (key() != before) is is_own


def test_nothing_is_built_for_an_engine_that_loads_nothing() -> None:
    spec = dataclasses.replace(models.get("resnet50"))
    weights = spec.find_weights("synthetic", Path("unused"), True)
    with pytest.raises(ConfigError, match="loads no artefact"):
        build.make_order(spec, weights, "fp32", frozenset(), BackendName.NULL)
