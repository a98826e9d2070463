"""Every engine serves the same picture with the same logits; a stranger's ONNX file is served."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from support import same_answers
from support.running_server import Server, StartServer, wait_until
from support.same_answers import BATCHES, FIRST, Logits, Way

from corral.backends.registry import pays
from corral.planning import topology
from corral.settings import Precision
from corral_client import Client

MODEL = "efficientnet_lite0"
CAT = Path(__file__).parents[1] / "data" / "pictures" / "cat.jpg"
IPEX_PYTHON = Path(__file__).parents[2] / ".venv-ipex" / "bin" / "python"


#: compilers take a minute, and several on a busy machine
_PATIENCE_S = 600


def _noise() -> NDArray[np.float32]:
    return np.random.default_rng(8).normal(size=(1, 3, 224, 224)).astype(np.float32)


@pytest.fixture(scope="module")
def exact(cats: Server) -> NDArray[np.float32]:
    """OpenVINO's FP32 logits of noise."""
    with Client(f"127.0.0.1:{cats.port}", model=MODEL) as client:
        return np.asarray(client.infer(_noise()))


@dataclasses.dataclass(frozen=True)
class _OpenVINO:
    """What OpenVINO answers in FP32: to noise, [1,1000], and to photographs, by every way."""

    exact: NDArray[np.float32]
    ways: dict[Way, Logits]


@pytest.fixture(scope="module")
def openvino(exact: NDArray[np.float32], openvino_ways: dict[Way, Logits]) -> _OpenVINO:
    return _OpenVINO(exact, openvino_ways)


@pytest.fixture(scope="module")
def openvino_ways(cats: Server) -> dict[Way, Logits]:
    """OpenVINO's FP32 logits of photographs, by every way."""
    return same_answers.answers(cats)


def _check(server: Server, exact: NDArray[np.float32]) -> None:
    server.wait_until_ready(timeout_s=_PATIENCE_S)
    with Client(f"127.0.0.1:{server.port}", model=MODEL) as client:
        assert client.classify(CAT, k=1)[0].index == 282
        np.testing.assert_allclose(client.infer(_noise()), exact, atol=2e-3)


def test_every_way_into_openvino_answers_the_same(openvino_ways: dict[Way, Logits]) -> None:
    same_answers.check(openvino_ways)


def test_another_answer_by_one_way_is_noticed(openvino_ways: dict[Way, Logits]) -> None:
    for way in same_answers.WAYS:
        other = dict(openvino_ways)
        other[way] = other[way] * np.float32(1.001)
        with pytest.raises(AssertionError):
            same_answers.check(other)


@pytest.mark.long
@pytest.mark.parametrize(
    ("backend", "precision"),
    [
        ("openvino", "int8"),
        ("onnxruntime", "int8"),
        pytest.param(
            *("openvino", "bf16"),
            marks=pytest.mark.skipif(
                not pays(Precision.BF16, topology.read_machine().isa), reason="no BF16 here"
            ),
        ),
    ],
)
@pytest.mark.timeout(660)
def test_every_way_into_coarser_arithmetic_answers_the_same(
    real_server: StartServer, openvino_ways: dict[Way, Logits], backend: str, precision: str
) -> None:
    asked = ("--model", MODEL, "--backend", backend, "--precision", precision, *BATCHES)
    with real_server(*asked, ready=False) as server:
        # Where the cache has no INT8 yet, it is made.
        server.wait_until_ready(timeout_s=_PATIENCE_S)
        found = same_answers.answers(server)
        assert same_answers.largest_batch(server) == same_answers.PICTURES
    apart = same_answers.difference(openvino_ways[FIRST], found[FIRST])
    same_answers.check(found, apart.snr_db)


@pytest.mark.parametrize(
    "engine",
    [
        ["--backend", "onnxruntime", "--seccomp", *BATCHES],
        pytest.param(["--backend", "torch", "--torch-mode", "eager"], marks=pytest.mark.long),
        pytest.param(
            ["--backend", "torch", "--torch-mode", "traced", "--seccomp"], marks=pytest.mark.long
        ),
        # A graph for each batch size would be minutes of a compiler.
        [
            *("--backend", "torch", "--torch-mode", "compile"),
            *("--boot-timeout-s", "600", "--max-batch", "1"),
        ],
    ],
    ids=lambda engine: "-".join(engine[1:4:2]),
)
@pytest.mark.timeout(660)
def test_every_engine_agrees_with_openvino(
    real_server: StartServer,
    openvino: _OpenVINO,
    engine: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with real_server("--model", MODEL, "--workers", "1", *engine, ready=False) as server:
        _check(server, openvino.exact)
        found = same_answers.answers(server)
        same_answers.check(found)
        apart = same_answers.difference(openvino.ways[FIRST], found[FIRST])
        same_answers.hold(apart, f"{engine[1]} for OpenVINO")
        if "throughput" in engine:
            assert same_answers.largest_batch(server) == same_answers.PICTURES
        (pid,) = server.workers()
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert int(status["CapEff"], 16) == 0
        if "--seccomp" in engine:
            assert status["Seccomp"] == "2"
        # A worker that is killed has no more chance to clear up.
        assert list(tmp_path.glob("*inductor*")) == []


@pytest.mark.skipif(not IPEX_PYTHON.exists(), reason="make ipex has not been run")
@pytest.mark.parametrize(
    "mode",
    [
        "traced",
        # Compiling takes minutes.
        pytest.param("compile", marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
def test_a_worker_in_another_environment(
    real_server: StartServer, exact: NDArray[np.float32], mode: str
) -> None:
    ipex = ["--backend", "ipex", "--worker-python", str(IPEX_PYTHON), "--workers", "1"]
    with real_server("--model", MODEL, *ipex, "--torch-mode", mode, ready=False) as server:
        _check(server, exact)


_MATRIX = np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32)


def _scores(path: Path, batch: int | str) -> Path:
    """An ONNX file that multiplies rows of 5 by a matrix."""
    from onnx import TensorProto, helper, numpy_helper, save

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "w"], ["scores"])],
        "g",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 5])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 3])],
        [numpy_helper.from_array(_MATRIX, "w")],
    )
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_strangers_onnx_file_is_served(
    real_server: StartServer, tmp_path: Path, backend: str
) -> None:
    path = _scores(tmp_path / "iris.onnx", "batch")
    (tmp_path / "iris.toml").write_text('labels = ["setosa", "versicolor", "virginica"]\n')
    rows = np.random.default_rng(2).normal(size=(2, 5)).astype(np.float32)
    options = ["--model", str(path), "--backend", backend, "--workers", "1"]
    with real_server(*options, ready=False) as server:
        server.wait_until_ready(timeout_s=60)
        with Client(f"127.0.0.1:{server.port}", model="iris") as client:
            np.testing.assert_allclose(client.infer(rows), rows @ _MATRIX, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("backend", "batch"), [("openvino", 1), ("onnxruntime", 1), ("openvino", 4), ("onnxruntime", 4)]
)
def test_a_file_with_a_fixed_batch_is_served_one_by_one(
    real_server: StartServer, tmp_path: Path, backend: str, batch: int
) -> None:
    path = _scores(tmp_path / "fixed.onnx", batch)
    options = ["--model", str(path), "--backend", backend, "--mode", "throughput"]
    rows = np.random.default_rng(2).normal(size=(3, 5)).astype(np.float32)
    with real_server(*options, "--workers", "1", ready=False) as server:
        server.wait_until_ready(timeout_s=60)
        assert server.wait_for_line(f"WARNING.* fixed runs in batches of 1 at most: .* at {batch}")
        with Client(f"127.0.0.1:{server.port}", model="fixed") as client:
            np.testing.assert_allclose(client.infer(rows), rows @ _MATRIX, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "{tmp}/no.onnx"], "no such file"),
        (["--model", "{tmp}/four.onnx", "--max-batch", "8"], "in batches of one"),
        (["--model", "{tmp}/junk.onnx"], "not an ONNX file"),
        (["--backend", "ipex"], "make ipex"),
        (["--worker-python", "{tmp}/python"], "no such interpreter"),
    ],
)
def test_what_cannot_start_says_so_in_one_line(
    tmp_path: Path, options: list[str], words: str
) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    _scores(tmp_path / "four.onnx", 4)
    given = [option.format(tmp=tmp_path) for option in options]
    command = [sys.executable, "-m", "corral", "serve", "--port", "0", "--metrics-port", "0"]
    fixed = ["--backend", "openvino", "--precision", "fp32", "--cache-dir", str(tmp_path)]
    done = subprocess.run(
        [*command, *fixed, *given], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.long
def test_a_worker_that_is_ready_has_no_named_shared_memory(real_server: StartServer) -> None:
    """libiomp5's page would outlive a supervisor that is killed."""
    options = ["--backend", "torch", "--torch-mode", "eager", "--workers", "1"]
    with real_server("--model", "efficientnet_lite0", *options, ready=False) as server:
        server.wait_until_ready(timeout_s=300)
        (pid,) = server.workers()
        maps = Path(f"/proc/{pid}/maps").read_text()
        assert "libiomp5" in maps or "libgomp" in maps
        os.kill(server.pid, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the worker's end")
        assert not list(Path("/dev/shm").glob(f"*KMP*_{pid}_*"))
