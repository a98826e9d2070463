"""Preparing artefacts: a small network all the way through torch, OpenVINO and NNCF."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from corral.artifacts.build import make_order, prepare
from corral.artifacts.store import Artefact
from corral.errors import ConfigError, ModelError
from corral.models import registry
from corral.models.spec import ModelSpec, Recipe, Weights
from corral.settings import BackendName, Precision, Settings

_NO_VNNI = frozenset({"avx2"})
_VNNI = frozenset({"avx2", "avx512_vnni"})
_WEIGHTS = Weights(source="synthetic", description="made up", path=None, digest="tiny 1")

Prepare = Callable[..., Artefact]


def _build(_: Weights) -> object:
    import torch
    from torch import nn

    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    ).eval()


def _spec(build: Callable[[Weights], object] = _build, *, transformer: bool = False) -> ModelSpec:
    return ModelSpec(
        name="tiny",
        recipe=Recipe(resize=36, crop=32),
        classes=10,
        find_weights=lambda choice, cache_dir, offline: _WEIGHTS,
        build=build,
        transformer=transformer,
    )


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """prepare() of the small network, with a cache folder of this test's own."""

    def run(
        precision: Precision = Precision.FP32,
        isa: frozenset[str] = _NO_VNNI,
        build: Callable[[Weights], object] = _build,
        progress: Callable[[str, float], None] = lambda step, share: None,
        *,
        backend: BackendName = BackendName.OPENVINO,
        transformer: bool = False,
    ) -> Artefact:
        monkeypatch.setattr(
            registry, "get", lambda name, shapes=None: _spec(build, transformer=transformer)
        )
        settings = Settings.flat(
            model="tiny",
            backend=backend,
            precision=precision,
            cache_dir=str(tmp_path),
        )
        return prepare(settings, progress, isa)

    return run


def _must_not_build(_: Weights) -> object:
    raise AssertionError("built again")


def _weights_in_int8(xml: Path) -> list[np.ndarray]:
    import openvino as ov

    constants = [
        op for op in ov.Core().read_model(xml).get_ops() if op.get_type_name() == "Constant"
    ]
    return [op.data for op in constants if op.get_element_type() == ov.Type.i8]


def test_fp32_artefact_has_the_promised_signature_and_logits(make: Prepare) -> None:
    made = make()
    import openvino as ov
    import torch

    model = ov.Core().read_model(made.path)
    (input_,), (output,) = model.inputs, model.outputs
    assert (input_.get_any_name(), output.get_any_name()) == ("input", "output")
    assert str(input_.partial_shape) == "[?,3,32,32]"
    assert str(output.partial_shape) == "[?,10]"
    assert input_.element_type == output.element_type == ov.Type.f32
    assert not any(op.get_element_type() == ov.Type.f16 for op in model.get_ops() if op.outputs())
    x = np.random.default_rng(0).normal(size=(3, 3, 32, 32)).astype(np.float32)
    expected = _build(_WEIGHTS)(torch.from_numpy(x)).detach().numpy()  # type: ignore[operator]
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    logits = ov.compile_model(model, "CPU", hint)(x)[0]
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    assert (made.precision, made.synthetic, made.weights) == ("fp32", True, "made up")


def test_second_time_it_is_found(make: Prepare) -> None:
    made = make()
    stamp = made.path.stat().st_mtime_ns
    assert make(build=_must_not_build) == made
    assert made.path.stat().st_mtime_ns == stamp


def test_auto_is_fp32(make: Prepare) -> None:
    assert make(Precision.AUTO) == make(Precision.FP32, build=_must_not_build)


def test_damaged_artefact_is_made_again(make: Prepare, caplog: pytest.LogCaptureFixture) -> None:
    made = make()
    weights = made.path.with_suffix(".bin")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with caplog.at_level(logging.WARNING):
        assert make() == made
    assert "damaged" in caplog.text
    assert weights.read_bytes() == whole


#: IPEX's needs an environment of its own; tests/unit/test_damaged_caches.py has its form, too
_MADE_HERE = [
    (backend, precision)
    for backend in (BackendName.OPENVINO, BackendName.ONNXRUNTIME, BackendName.TORCH)
    for precision in (Precision.FP32, Precision.INT8)
]


@pytest.mark.parametrize(("backend", "precision"), _MADE_HERE)
def test_every_engines_damaged_artefact_is_made_again(
    make: Prepare,
    caplog: pytest.LogCaptureFixture,
    backend: BackendName,
    precision: Precision,
) -> None:
    made = make(precision, backend=backend)
    made.path.write_bytes(made.path.read_bytes()[:-1])
    with caplog.at_level(logging.WARNING):
        assert make(precision, backend=backend) == made
    assert f"damaged ({made.path.name} has another size): it is prepared again" in caplog.text
    caplog.clear()
    assert make(precision, backend=backend, build=_must_not_build) == made
    assert "damaged" not in caplog.text


def test_int8_keeps_the_answers_and_progress_moves(
    make: Prepare, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, float]] = []
    made = make(Precision.INT8, progress=lambda step, share: seen.append((step, share)))
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert shares[0] == 0
    assert seen[-1] == ("ready", 1.0)
    assert [step for step, _ in seen[-3:]] == ["correct biases", "save", "ready"]
    assert len({share for step, share in seen if step == "calibrate"}) > 50
    assert capsys.readouterr().out == ""

    import openvino as ov

    core = ov.Core()
    fp32 = core.compile_model(make().path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    int8 = core.compile_model(made.path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    from corral.models import pictures

    pixels = pictures.draw_pictures(16, 7, 32)
    x = pictures.normalise(pixels, _spec().recipe)
    expected = fp32(x)[0]
    # Pictures that are brighter than calibration's are clipped, so it is the mean that counts.
    error = np.sqrt(np.mean((int8(x)[0] - expected) ** 2)) / expected.std()
    assert 0 < error < 0.2
    assert made.precision == "int8"
    assert _weights_in_int8(made.path)


def test_overflow_fix_halves_the_weights_where_there_is_no_vnni(make: Prepare) -> None:
    fixed, full = make(Precision.INT8, _NO_VNNI), make(Precision.INT8, _VNNI)
    assert fixed.key != full.key
    assert max(np.abs(w.astype(int)).max() for w in _weights_in_int8(fixed.path)) <= 64
    assert max(np.abs(w.astype(int)).max() for w in _weights_in_int8(full.path)) > 120


@pytest.mark.parametrize("transformer", [True, False])
def test_a_transformer_is_quantized_as_one(
    make: Prepare, monkeypatch: pytest.MonkeyPatch, transformer: bool
) -> None:
    import nncf

    whole, seen = nncf.quantize, []

    def quantize(*given: object, **options: object) -> object:
        seen.append(options["model_type"])
        return whole(*given, **options)

    monkeypatch.setattr(nncf, "quantize", quantize)
    made = make(Precision.INT8, transformer=transformer)
    assert seen == [nncf.ModelType.TRANSFORMER if transformer else None]
    assert _weights_in_int8(made.path)


def test_cpu_flags_do_not_matter_to_fp32(make: Prepare) -> None:
    assert make(isa=_NO_VNNI) == make(isa=_VNNI, build=_must_not_build)


def test_bf16_is_the_fp32_file_with_another_arithmetic(make: Prepare) -> None:
    made = make()
    bf16 = make(Precision.BF16, frozenset({"avx512_bf16"}), build=_must_not_build)
    assert bf16.path == made.path
    assert bf16.precision == "bf16"


def test_bf16_is_refused_where_the_cpu_has_none(make: Prepare) -> None:
    with pytest.raises(ConfigError, match="BF16"):
        make(Precision.BF16)


def test_failing_builder_is_one_line_and_leaves_nothing(make: Prepare, tmp_path: Path) -> None:
    def fail(_: Weights) -> object:
        raise RuntimeError("size mismatch for fc.weight\nand much more")

    with pytest.raises(ModelError, match=r"^tiny cannot be prepared: size mismatch for fc.weight$"):
        make(build=fail)
    assert not list((tmp_path / "artefacts").glob("*/"))


def test_missing_framework_says_what_to_install(make: Prepare) -> None:
    def fail(_: Weights) -> object:
        raise ModuleNotFoundError("No module named 'torch'")

    with pytest.raises(ModelError, match=r"preparing tiny needs the extras: .*\[openvino,torch\]"):
        make(build=fail)


def test_other_weights_are_another_artefact() -> None:
    other = Weights(source="file", description="made up", path=None, digest="tiny 2")
    first = make_order(_spec(), _WEIGHTS, "fp32", _NO_VNNI)
    assert make_order(_spec(), other, "fp32", _NO_VNNI).key != first.key
    assert make_order(_spec(), _WEIGHTS, "fp32", _NO_VNNI).key == first.key


_FIND = """
import sys
from pathlib import Path
from corral.artifacts import build
from corral.models import registry
from corral.settings import BackendName, Precision, Settings
from corral.models.spec import ModelSpec, Recipe, Weights
weights = Weights(source="synthetic", description="made up", path=None, digest="tiny 1")
registry.get = lambda name, shapes=None: ModelSpec(
    name="tiny", recipe=Recipe(resize=36, crop=32), classes=10,
    find_weights=lambda *_: weights, build=None,
)
settings = Settings.flat(
    model="tiny", backend=BackendName.OPENVINO, precision=Precision.FP32, cache_dir=sys.argv[1]
)
print(build.prepare(settings, lambda *_: None, frozenset()).path)
print(*sys.modules)
"""


def test_finding_one_imports_no_framework(make: Prepare, tmp_path: Path) -> None:
    made = make()
    found, imported = _python(_FIND, str(tmp_path), home=tmp_path).splitlines()
    assert found == str(made.path)
    assert not set(imported.split()) & {"torch", "openvino", "nncf", "onnxruntime", "grpc"}


_IMPORT = """
import sys
from corral.backends.telemetry import silence_telemetry
silence_telemetry()
import openvino, nncf
print(*(name for name in sys.modules if name.startswith("openvino_telemetry.")))
"""


def test_frameworks_do_not_report_home(tmp_path: Path) -> None:
    assert not _python(_IMPORT, home=tmp_path).strip()
    assert not (tmp_path / "intel").exists()


def _python(code: str, *arguments: str, home: Path) -> str:
    environment = {**os.environ, "HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
