"""R8 with a real engine: other weights, and another mode, under load."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
from onnx import TensorProto, helper, numpy_helper
from support.running_server import StartServer, wait_until
from support.scenarios.reload import CapacityWatch, ask_admin, serving, status_of
from support.server_counters import Scrape

MODEL = "efficientnet_lite0"


@pytest.mark.long
@pytest.mark.timeout(400)
def test_r8_new_weights_and_another_mode_cost_no_request(
    real_server: StartServer, tmp_path: Path
) -> None:
    config = tmp_path / "corral.toml"
    config.write_text('weights = "synthetic"\n')
    pixels = np.random.default_rng(1).integers(0, 256, (1, 224, 224, 3), np.uint8)
    tensor = triton.InferInput("input", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels)
    stop = threading.Event()

    def ask_on(client: triton.InferenceServerClient) -> list[np.ndarray[Any, Any]]:
        answers = []
        # The rest of the machine is the reload's.
        while not stop.wait(0.03):
            answers.append(client.infer(MODEL, [tensor]).as_numpy("output"))
        return answers

    args = ("--model", MODEL, "--config", str(config), "--workers", "2", "--max-batch", "2")
    pens = ("--cores-per-worker", "1", "--oversubscribe")
    with real_server(*args, *pens, ready=False) as server, ThreadPoolExecutor(2) as pool:
        server.wait_until_ready(timeout_s=180)
        wait_until(lambda: serving(server) == 2, "both workers")
        with (
            triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client,
            CapacityWatch(server, every_s=0.1) as watch,
        ):
            before = client.infer(MODEL, [tensor]).as_numpy("output")
            loops = [pool.submit(ask_on, client) for _ in range(2)]
            try:
                config.write_text('weights = "auto"\n')
                reply = ask_admin(server, "reload")
                assert reply.exit_code == 0, reply.text
                after = client.infer(MODEL, [tensor]).as_numpy("output")
                reply = ask_admin(server, "mode", "throughput")
                assert reply.exit_code == 0, reply.text
            finally:
                stop.set()
            answers = [answer for loop in loops for answer in loop.result()]
            parameters = client.get_model_config(MODEL, as_json=True)["config"]["parameters"]
            told = {name: value["string_value"] for name, value in parameters.items()}
        assert watch.least >= 1
        assert not np.allclose(before, after), "other weights, other answers"
        assert all(
            np.allclose(answer, before, atol=1e-3) or np.allclose(answer, after, atol=1e-3)
            for answer in answers
        ), "every answer is of one model or of the other"
        assert status_of(server).synthetic is False
        assert (told["synthetic"], told["mode"]) == ("false", "throughput")
        scrape = Scrape(server.metrics_port)
        for outcome in ("failed", "refused", "unavailable", "expired"):
            assert scrape.total("corral_requests_total", outcome=outcome) == 0
        assert scrape.total("corral_items_retried_total") == 0
        assert server.stop() == 0


_SIDE = 256
_ITEMS = 6


def _write_constant(path: Path, value: float) -> None:
    """A product that takes a while, whose every value is ``value``."""
    weights = numpy_helper.from_array(np.full((_SIDE, _SIDE), value / _SIDE, np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["s"]),
        helper.make_node("ReduceMean", ["s"], ["y"], axes=[1], keepdims=0),
    ]
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", _SIDE, _SIDE])]
    answer = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", _SIDE])
    opset = [helper.make_opsetid("", 17)]
    graph = helper.make_graph(nodes, "g", ports, [answer], [weights])
    path.with_suffix(".new").write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
    )
    path.with_suffix(".new").rename(path)


def test_all_items_of_a_request_are_answered_by_the_same_weights(
    real_server: StartServer, tmp_path: Path
) -> None:
    path = tmp_path / "m.onnx"
    _write_constant(path, 1)
    items = np.ones((_ITEMS, _SIDE, _SIDE), np.float32)
    stop = threading.Event()

    def ask_on(port: int) -> list[np.ndarray[Any, Any]]:
        tensor = triton.InferInput("x", list(items.shape), "FP32")
        tensor.set_data_from_numpy(items)
        answers = []
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
            while not stop.is_set():
                answers.append(client.infer("m", [tensor]).as_numpy("output"))
        return answers

    args = ("--model", str(path), "--backend", "openvino", "--precision", "fp32", "--workers", "3")
    pens = ("--cores-per-worker", "1", "--oversubscribe", "--max-batch", "1")
    with real_server(*args, *pens) as server, ThreadPoolExecutor(3) as pool:
        wait_until(lambda: serving(server) == 3, "all workers")
        loops = [pool.submit(ask_on, server.port) for _ in range(3)]
        try:
            for value in (2, 3, 4):
                _write_constant(path, value)
                reply = ask_admin(server, "reload")
                assert reply.exit_code == 0, reply.text
        finally:
            stop.set()
        answers = [answer for loop in loops for answer in loop.result()]
        scrape = Scrape(server.metrics_port)
        for outcome in ("failed", "refused", "unavailable", "expired"):
            assert scrape.total("corral_requests_total", outcome=outcome) == 0
        assert server.stop() == 0
    values = [set(np.round(answer).ravel().tolist()) for answer in answers]
    assert set.union(*values) == {1.0, 2.0, 3.0, 4.0}
    assert [found for found in values if len(found) > 1] == []
