"""The guard and the search in real servers: a spoiled quantization, and the fastest that passes."""

from __future__ import annotations

import shutil
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from running_server import Server, StartServer

from corral import models, optimize, topology
from corral.artefact import store
from corral.config import BackendName, Precision, Settings
from corral.optimize import prepare
from corral_client import Client

_MODEL = "efficientnet_lite0"


def _spoil(xml: Path, fp32: Path) -> None:
    """Writes an IR with the right shapes and a quarter of noise on every weight."""
    import openvino as ov

    model = ov.Core().read_model(fp32)
    random = np.random.default_rng(1)
    for op in model.get_ops():
        if op.get_type_name() == "Constant" and len(op.get_output_shape(0)) == 4:
            data = op.data
            noisy = data + 0.5 * data.std() * random.standard_normal(data.shape)
            constant = ov.opset13.constant(noisy.astype(np.float32))
            op.output(0).replace(constant.output(0))
    ov.save_model(model, xml, compress_to_fp16=False)


@pytest.fixture(scope="module")
def spoiled_cache(artefact_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache whose INT8 artefact was quantized badly."""
    cache = tmp_path_factory.mktemp("spoiled")
    settings = Settings(
        model=_MODEL,
        backend=BackendName.OPENVINO,
        precision=Precision.FP32,
        cache_dir=str(artefact_cache),
    )
    isa = topology.read_machine().isa
    exact = prepare(settings, lambda step, share: None, isa)
    shutil.copytree(exact.path.parent, cache / "artefacts" / exact.path.parent.name)
    spec = models.get(_MODEL)
    weights = spec.find_weights("auto", cache, True)
    order = optimize.make_order(spec, weights, "int8", isa)
    store(cache, order, lambda xml: _spoil(xml, exact.path))
    return cache


def _metrics(server: Server) -> str:
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as page:
        return str(page.read().decode())


def _properties(server: Server) -> dict[str, str]:
    with Client(f"127.0.0.1:{server.port}", model=_MODEL) as client:
        return dict(client.metadata(_MODEL).properties)


def test_a_spoiled_quantization_falls_back_to_fp32_and_says_so(
    real_server: StartServer, spoiled_cache: Path
) -> None:
    asked = ("--model", _MODEL, "--backend", "auto", "--precision", "int8")
    with real_server(*asked, "--cache-dir", str(spoiled_cache), ready=False) as server:
        server.wait_until_ready(timeout_s=120)
        server.wait_for_line("int8 is not close enough to FP32 .* FP32 serves in its place")
        found = _properties(server)
        assert (found["precision"], found["guard"]) == ("fp32", "fell back")
        assert float(found["guard_snr_db"]) < 8.5
        page = _metrics(server)
    assert "corral_precision_fallback 1.0" in page
    assert 'corral_precision_guard_passed{candidate="openvino int8"} 0.0' in page


def test_asked_for_by_name_a_spoiled_quantization_serves_with_a_warning(
    real_server: StartServer, spoiled_cache: Path
) -> None:
    asked = ("--model", _MODEL, "--backend", "openvino", "--precision", "int8")
    with real_server(*asked, "--cache-dir", str(spoiled_cache), ready=False) as server:
        server.wait_until_ready(timeout_s=120)
        server.wait_for_line("WARNING .* it serves because it was asked for")
        found = _properties(server)
        assert (found["precision"], found["guard"]) == ("int8", "failed")
        assert "corral_precision_fallback 0.0" in _metrics(server)


@pytest.mark.timeout(400)
def test_auto_chooses_once_and_remembers(real_server: StartServer, prepared_cache: Path) -> None:
    asked = ("--model", _MODEL, "--backend", "auto", "--precision", "auto")
    where = ("--cache-dir", str(prepared_cache))
    with real_server(*asked, *where, ready=False) as server:
        server.wait_until_ready(timeout_s=240)
        chosen = server.wait_for_line(r"^chosen +(\S+ \S+), .*over").group(1)
        assert "measuring" in server.stderr
        backend, precision = chosen.split()
        assert _properties(server)["precision"] == precision
        assert _properties(server)["backend"] == backend
    with real_server(*asked, *where, ready=False) as again:
        again.wait_until_ready(timeout_s=60)
        assert again.wait_for_line(r"^chosen +(\S+ \S+), .*over").group(1) == chosen
        assert "measuring" not in again.stderr
