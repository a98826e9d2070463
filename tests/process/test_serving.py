"""The whole server on the null backend, with tritonclient, unmodified, as the client."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from support.running_server import Server, StartServer, wait_until
from tritonclient.utils import InferenceServerException

from corral_protos import open_inference_pb2 as pb

INFER = "/inference.GRPCInferenceService/ModelInfer"


def tensor(array: np.ndarray[Any, Any], datatype: str) -> triton.InferInput:
    found = triton.InferInput("input", list(array.shape), datatype)
    found.set_data_from_numpy(array)
    return found


def marked(value: float, count: int = 1) -> np.ndarray[Any, Any]:
    """FP32 items that begin with value, value + 1 …: the null backend's outputs say so."""
    array = np.zeros((count, 3, 224, 224), np.float32)
    array[:, 0, 0, 0] = value + np.arange(count)
    return array


def connect(server: Server) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(f"127.0.0.1:{server.port}")


def ask(client: triton.InferenceServerClient, value: float, count: int = 1) -> list[float]:
    answer = client.infer("resnet50", [tensor(marked(value, count), "FP32")])
    return [float(v) for v in answer.as_numpy("output")[:, 0]]


def page(server: Server) -> str:
    url = f"http://127.0.0.1:{server.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=5) as response:
        text: str = response.read().decode()
        return text


def metrics(server: Server) -> dict[str, float]:
    """Samples of /metrics by name, labels summed; names as they stand there."""
    found: dict[str, float] = {}
    for line in page(server).splitlines():
        if not line.startswith("#"):
            name = line.partition("{")[0].partition(" ")[0]
            found[name] = found.get(name, 0.0) + float(line.rpartition(" ")[2])
    return found


def test_every_datatype_and_view_is_answered(server: StartServer) -> None:
    picture = (Path(__file__).parents[1] / "data/pictures/cat.jpg").read_bytes()
    with server() as s, connect(s) as client:
        assert ask(client, 3.0, count=5) == [3.0, 4.0, 5.0, 6.0, 7.0]
        pixels = np.full((2, 224, 224, 3), 9, np.uint8)
        pictures = np.array([[picture]], dtype=np.object_)
        for model, array, datatype in (
            ("resnet50", pixels, "UINT8"),
            ("resnet50_uint8", pixels, "UINT8"),
            ("resnet50", pictures, "BYTES"),
            ("resnet50_image", pictures, "BYTES"),
            ("resnet50_image", pictures[0], "BYTES"),
        ):
            answer = client.infer(model, [tensor(array, datatype)], request_id="abc")
            output = answer.as_numpy("output")
            assert output.shape == (array.shape[0] if datatype == "UINT8" else 1, 1000)
            assert output[0, 2] == 2.0, "the engine saw UINT8"
            assert answer.get_response().id == "abc"
        stats = client.get_inference_statistics("resnet50_image").model_stats[0]
        assert (stats.inference_count, stats.inference_stats.success.count) == (2, 2)
        assert client.get_model_config("resnet50").config.max_batch_size == 32


def test_classification_as_triton_asks_for_it(server: StartServer) -> None:
    with server() as s, connect(s) as client:
        wanted = triton.InferRequestedOutput("output", class_count=3)
        answer = client.infer("resnet50", [tensor(marked(5.0), "FP32")], outputs=[wanted])
        rows = answer.as_numpy("output")
        assert rows.shape == (1, 3)
        assert rows[0, 0] == b"5.000000:0:tench"


def test_a_worker_killed_under_load_fails_no_request(server: StartServer) -> None:
    with server("--workers", "2", "--oversubscribe", "--null-item-ms", "5") as s:
        stop = threading.Event()
        answered: list[int] = []

        def client_loop(number: int) -> int:
            with connect(s) as client:
                count = 0
                while not stop.is_set():
                    value = float(number * 1000 + count % 1000)
                    assert ask(client, value) == [value]
                    count += 1
                    answered.append(1)
                return count

        with ThreadPoolExecutor(4) as pool:
            loops = [pool.submit(client_loop, n) for n in range(4)]
            for _ in range(4):
                before = len(answered)
                wait_until(lambda b=before: len(answered) > b + 50, "requests")  # type: ignore[misc]
                victim = s.workers()[0]
                os.kill(victim, signal.SIGKILL)
                wait_until(
                    lambda v=victim: v not in s.workers() and len(s.workers()) == 2,  # type: ignore[misc]
                    "the slot to be filled again",
                )
            stop.set()
            total = sum(loop.result() for loop in loops)
        found = metrics(s)
        assert found["nv_inference_request_success"] == total
        assert found["nv_inference_request_failure"] == 0
        assert found["nv_inference_count"] == total
        assert found["corral_worker_restarts_total"] == 4


@pytest.mark.timing
def test_one_connection_keeps_all_workers_equally_busy(server: StartServer) -> None:
    async def load(port: int) -> None:
        async with triton_aio.InferenceServerClient(f"127.0.0.1:{port}") as client:
            array = tensor(np.zeros((1, 224, 224, 3), np.uint8), "UINT8")

            async def loop() -> None:
                for _ in range(50):
                    await client.infer("resnet50", [array])

            await asyncio.gather(*(loop() for _ in range(12)))

    with server("--workers", "4", "--oversubscribe", "--null-item-ms", "10") as s:
        # Ready is one worker; this is about all four.
        wait_until(lambda: metrics(s)["corral_worker_up"] == 4, "all workers")
        # A machine that others keep busy may favour a worker once, and not every time.
        for _ in range(3):
            before = items_by_worker(s)
            asyncio.run(load(s.port))
            counts = [now - then for now, then in zip(items_by_worker(s), before, strict=True)]
            assert len(counts) == 4
            assert sum(counts) == 600
            if max(counts) <= min(counts) * 1.05:
                break
        assert max(counts) <= min(counts) * 1.05


def items_by_worker(server: Server) -> list[float]:
    """How many items each worker has answered."""
    return [
        float(line.rpartition(" ")[2])
        for line in page(server).splitlines()
        if line.startswith("corral_worker_items_total{")
    ]


def raw_request(
    datatype: str = "FP32",
    shape: tuple[int, ...] = (1, 3, 224, 224),
    raw: bytes = bytes(602112),
    model: str = "resnet50",
) -> bytes:
    found = pb.ModelInferRequest.InferInputTensor(name="input", datatype=datatype, shape=shape)
    return pb.ModelInferRequest(
        model_name=model, inputs=[found], raw_input_contents=[raw]
    ).SerializeToString()


def test_a_full_queue_says_when_to_come_again(server: StartServer) -> None:
    with (
        server("--max-queue", "2", "--null-batch-ms", "200") as s,
        grpc.insecure_channel(f"127.0.0.1:{s.port}") as channel,
    ):
        infer = channel.unary_unary(INFER)
        calls = [infer.future(raw_request(), timeout=10) for _ in range(8)]
        codes = [call.code() for call in calls]
        assert set(codes) == {grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED}
        refused = next(c for c in calls if c.code() is grpc.StatusCode.RESOURCE_EXHAUSTED)
        trailers = {item.key: item.value for item in refused.trailing_metadata()}
        assert 1 <= int(trailers["grpc-retry-pushback-ms"]) <= 2000


def test_a_deadline_that_passes_in_the_queue_is_never_run(server: StartServer) -> None:
    with server("--null-batch-ms", "300") as s, connect(s) as client:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(ask, client, 1.0)
            wait_until(lambda: metrics(s)["corral_requests_inflight"] == 1, "a running request")
            with connect(s) as other, pytest.raises(InferenceServerException) as late:
                other.infer("resnet50", [tensor(marked(2.0), "FP32")], client_timeout=0.35)
            assert late.value.status() in {
                "StatusCode.DEADLINE_EXCEEDED",
                "StatusCode.RESOURCE_EXHAUSTED",
            }
            assert running.result() == [1.0]
        assert ask(client, 3.0) == [3.0]
        assert metrics(s)["nv_inference_count"] == 2


def test_sigterm_answers_everything_that_was_accepted(server: StartServer) -> None:
    with server("--hang-floor-s", "600") as s, connect(s) as client:
        (worker,) = s.workers()
        # Nothing is answered while it stands still, however long the others take to arrive.
        os.kill(worker, signal.SIGSTOP)
        with ThreadPoolExecutor(5) as pool:
            calls = [pool.submit(ask, client, float(n)) for n in range(5)]
            wait_until(lambda: metrics(s)["corral_requests_inflight"] == 5, "accepted requests")
            s.signal(signal.SIGTERM)
            s.wait_for_line("draining")
            os.kill(worker, signal.SIGCONT)
            assert [call.result() for call in calls] == [[float(n)] for n in range(5)]
        assert s.wait() == 0


def test_a_frontend_that_dies_comes_back_and_counts_on(server: StartServer) -> None:
    with server("--workers", "2", "--oversubscribe") as s:
        with connect(s) as client:
            ask(client, 1.0)
        os.kill(s.frontends()[0], signal.SIGKILL)

        def answered() -> bool:
            try:
                with connect(s) as client:
                    return ask(client, 2.0) == [2.0]
            except InferenceServerException:
                return False

        wait_until(answered, "an answer from the new frontend")
        assert metrics(s)["nv_inference_count"] == 2
        assert metrics(s)["nv_inference_pending_request_count"] == 0


def test_two_cells_share_the_port_and_the_statistics(server: StartServer) -> None:
    with server("--workers", "2", "--cells", "2", "--oversubscribe") as s:
        assert len(s.frontends()) == 2
        for value in range(16):
            # A new connection each time: the kernel gives it to either cell.
            with connect(s) as client:
                assert ask(client, float(value)) == [float(value)]
        with connect(s) as client:
            stats = client.get_inference_statistics("resnet50").model_stats[0]
            assert stats.inference_count == 16
        assert metrics(s)["nv_inference_count"] == 16


@pytest.mark.parametrize(
    "arguments",
    [
        ["--workers", "999"],
        ["--port", "70000"],
        ["--model", "resnet999"],
        ["--mode", "turbo"],
        ["--config", "/nowhere/corral.toml"],
        ["--max-batch", "0"],
        ["--weights", "/nowhere/weights.pt", "--backend", "openvino"],
    ],
)
def test_a_bad_option_is_one_line_and_exit_code_2(
    server: StartServer, arguments: list[str]
) -> None:
    with server(*arguments, ready=False) as s:
        assert s.wait() == 2
        assert "Traceback" not in s.stderr
        assert len([line for line in s.lines if line.strip()]) == 1
