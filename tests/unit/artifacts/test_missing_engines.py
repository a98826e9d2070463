"""What is not installed: one line that says what brings it."""

from __future__ import annotations

import importlib.util

import pytest

from corral import extras
from corral.artifacts.build import check_engine
from corral.backends.registry import ENGINES
from corral.errors import ConfigError
from corral.models import registry
from corral.settings import BackendName, Settings
from corral.tuning.prepare_entry import explain

_MISSING = [
    (BackendName.OPENVINO, "fp32", "openvino"),
    (BackendName.OPENVINO, "int8", "nncf"),
    (BackendName.ONNXRUNTIME, "fp32", "onnxruntime"),
    (BackendName.ONNXRUNTIME, "int8", "onnx"),
    (BackendName.TORCH, "fp32", "torch"),
    (BackendName.TORCH, "int8", "torchao"),
    (BackendName.IPEX, "fp32", "intel_extension_for_pytorch"),
]


@pytest.mark.parametrize(("backend", "precision", "package"), _MISSING)
def test_an_engine_that_is_not_installed_says_what_brings_it(
    monkeypatch: pytest.MonkeyPatch, backend: BackendName, precision: str, package: str
) -> None:
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == package else object()
    )
    with pytest.raises(ConfigError) as caught:
        check_engine(Settings.flat(backend=backend), registry.get("resnet50"), precision)
    remedy = extras.install(backend.value)
    assert remedy.endswith(f"[{backend.value}]'")
    if backend is BackendName.IPEX:
        remedy = "make ipex, then --worker-python .venv-ipex/bin/python"
    assert str(caught.value) == f"--backend {backend}: {package} is not installed; {remedy}"
    assert caught.value.exit_code == 2


def test_every_engine_is_among_them() -> None:
    assert {backend for backend, _, _ in _MISSING} == {
        name for name, row in ENGINES.items() if row.packages
    }


def test_what_only_int8_needs_is_not_missed_by_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in {"nncf", "torchao"} else object()
    )
    for backend in (BackendName.OPENVINO, BackendName.TORCH):
        check_engine(Settings.flat(backend=backend), registry.get("resnet50"), "fp32")


def test_what_only_makes_an_artefact_is_not_missed_where_it_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An image has the artefact, and not what made it."""
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name in {"nncf", "torchao"} else object()
    )
    spec = registry.get("resnet50")
    check_engine(Settings.flat(backend=BackendName.OPENVINO), spec, "int8", is_made=True)
    with pytest.raises(ConfigError, match="torchao is not installed"):
        # It loads what torchao has made.
        check_engine(Settings.flat(backend=BackendName.TORCH), spec, "int8", is_made=True)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ModuleNotFoundError("No module", name="rich"), "'rich' is not installed there; /p/python"),
        (ImportError("cannot import name 'StrEnum'\nfrom enum"), "there: cannot import name"),
        (SyntaxError("invalid syntax"), "corral does not run there: invalid syntax"),
        (ImportError(), "corral does not run there: ImportError"),
    ],
)
def test_an_interpreter_that_cannot_run_corral_is_named(
    error: ImportError | SyntaxError, words: str
) -> None:
    said = explain(error, "/p/python")
    assert said.startswith("--worker-python /p/python: ")
    assert words in said
    assert "\n" not in said
