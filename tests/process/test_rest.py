"""The REST form of a real server, with the clients that people have."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from support.http_by_hand import connect, listen
from support.http_requests import ask
from support.running_server import Server, StartServer, null_server, stopped_workers, wait_until
from support.server_counters import Scrape

from corral_client import HttpClient, Overloaded

PIXELS = np.full((2, 224, 224, 3), 7, np.uint8)
CAT = Path(__file__).parents[1] / "data" / "pictures" / "cat.jpg"
COMMAND = str(Path(sys.executable).with_name("corral-client"))


@pytest.fixture(scope="module")
def null() -> Iterator[Server]:
    with null_server("--workers", "1") as server:
        yield server


@pytest.fixture
def client(null: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{null.http_port}") as client:
        yield client


def tensor(array: np.ndarray[Any, Any], *, binary: bool = True) -> Any:
    datatype = {"float32": "FP32", "uint8": "UINT8", "object": "BYTES"}[array.dtype.name]
    made = triton.InferInput("input", list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_infers(client: Any, binary: bool, packed: str | None) -> None:
    asked = triton.InferRequestedOutput("output", binary_data=binary)
    for array in (PIXELS, np.full((1, 3, 224, 224), 0.5, np.float32)):
        result = client.infer(
            "resnet50",
            [tensor(array, binary=binary)],
            outputs=[asked],
            request_id="seven",
            timeout=20_000_000,
            request_compression_algorithm=packed,
            response_compression_algorithm=packed,
        )
        found = result.as_numpy("output")
        assert found.shape == (len(array), 1000)
        assert set(found[:, 0].tolist()) == {float(array.flat[0])}
        assert result.get_response()["id"] == "seven"


def test_tritonclient_infers_in_the_background(client: Any) -> None:
    requests = [client.async_infer("resnet50_uint8", [tensor(PIXELS)]) for _ in range(8)]
    for request in requests:
        assert request.get_result().as_numpy("output")[0, 0] == 7


def test_tritonclient_classifies(client: Any) -> None:
    pictures = np.array([CAT.read_bytes()], np.object_)
    asked = triton.InferRequestedOutput("output", class_count=3)
    result = client.infer("resnet50_image", [tensor(pictures)], outputs=[asked])
    labels = [entry.decode().split(":") for entry in result.as_numpy("output")[0]]
    assert len(labels) == 3
    # The null backend's scores are the picture's first and last samples.
    assert float(labels[0][0]) > float(labels[1][0])
    assert all(len(entry) == 3 for entry in labels)


def test_tritonclient_reads_the_pages(client: Any, null: Server) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("resnet50", "1")
    assert not client.is_model_ready("nothing")
    assert client.get_server_metadata()["name"] == "corral"
    assert client.get_model_metadata("resnet50")["inputs"][0]["shape"] == [-1, 3, 224, 224]
    assert client.get_model_config("resnet50_image")["input"][0]["data_type"] == "TYPE_STRING"
    names = [model["name"] for model in client.get_model_repository_index()]
    assert names == ["resnet50", "resnet50_uint8", "resnet50_image"]
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{null.port}") as grpc_client:
        over_grpc = grpc_client.get_inference_statistics("resnet50", as_json=True)
    (over_http,) = client.get_inference_statistics("resnet50")["model_stats"]
    assert str(over_http["inference_count"]) == over_grpc["model_stats"][0]["inference_count"]
    with pytest.raises(triton.InferenceServerException, match="this server has: resnet50"):
        client.get_model_config("nothing")
    with pytest.raises(triton.InferenceServerException, match="takes UINT8"):
        client.infer("resnet50_uint8", [tensor(np.zeros((1, 3, 224, 224), np.float32))])
    with pytest.raises(triton.InferenceServerException, match="never unloaded"):
        client.unload_model("resnet50")


def test_a_load_over_http_changes_nothing_or_is_refused(client: Any) -> None:
    served = client.get_model_config("resnet50")
    client.load_model("resnet50")
    client.load_model("resnet50", config=json.dumps(served))
    with pytest.raises(triton.InferenceServerException, match="not changed by a call"):
        client.load_model("resnet50", config=json.dumps({**served, "max_batch_size": 3}))
    with pytest.raises(triton.InferenceServerException, match="not changed by a call"):
        client.load_model("resnet50", config="{}", files={"file:1/model.onnx": bytes(200_000)})


async def test_tritonclients_asyncio_form_reads_the_pages(null: Server) -> None:
    """It asks for packed answers, and unpacks those of inferences only."""
    async with triton_aio.InferenceServerClient(f"127.0.0.1:{null.http_port}") as client:
        assert (await client.get_server_metadata())["name"] == "corral"
        assert (await client.get_model_config("resnet50"))["name"] == "resnet50"
        assert (await client.get_model_metadata("resnet50"))["name"] == "resnet50"
        assert len((await client.get_inference_statistics())["model_stats"]) == 3
        assert len(await client.get_model_repository_index()) == 3
        found = await client.infer("resnet50_uint8", [tensor(PIXELS)])
        assert found.as_numpy("output")[0, 0] == 7


def test_both_ports_speak_both(null: Server) -> None:
    with triton.InferenceServerClient(f"127.0.0.1:{null.port}") as client:
        assert client.infer("resnet50", [tensor(PIXELS)]).as_numpy("output")[0, 0] == 7
    with triton_grpc.InferenceServerClient(f"127.0.0.1:{null.http_port}") as grpc_client:
        made = triton_grpc.InferInput("input", [2, 224, 224, 3], "UINT8")
        made.set_data_from_numpy(PIXELS)
        assert grpc_client.infer("resnet50", [made]).as_numpy("output")[0, 0] == 7


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
@pytest.mark.parametrize("http2", [False, True])
def test_curl_classifies_a_picture(null: Server, http2: bool) -> None:
    address = f"http://127.0.0.1:{null.http_port}"
    options = ["--http2-prior-knowledge"] if http2 else []
    for sent in (["--data-binary", f"@{CAT}"], ["--form", f"picture=@{CAT}"]):
        url = f"{address}/v2/models/resnet50/classify?k=2"
        done = subprocess.run(
            ["curl", "-sS", *options, *sent, url], capture_output=True, timeout=30, check=True
        )
        assert len(json.loads(done.stdout)["labels"]) == 2


def test_the_client_over_http(null: Server) -> None:
    with HttpClient(f"127.0.0.1:{null.http_port}") as client:
        client.wait_until_ready(20)
        assert client.metadata().classes == 1000
        assert client.infer(PIXELS)[0, 0] == 7
        assert len(client.classify(CAT, 3)) == 3
        assert {model.name for model in client.statistics()} >= {"resnet50"}
    done = subprocess.run(
        [COMMAND, "classify", "--http", "--url", f"127.0.0.1:{null.http_port}", str(CAT), "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert len(json.loads(done.stdout)["labels"]) == 5


def test_what_http_counts(server: StartServer) -> None:
    """The same counters as over gRPC, refusals included."""
    with server("--workers", "1") as s:
        with HttpClient(f"127.0.0.1:{s.http_port}") as client:
            client.infer(PIXELS)
            client.classify(CAT, 1)
        picture = CAT.read_bytes()
        assert ask(s, "POST", "/v2/models/resnet50_image/classify", picture)[0] == 200
        assert ask(s, "POST", "/v2/models/resnet50/infer", b"{")[0] == 400
        assert ask(s, "POST", "/v2/models/resnet50_uint8/classify", picture)[0] == 400
        assert ask(s, "POST", "/v2/models/resnet50_image/classify", b"GIF89a")[0] == 400
        scrape = Scrape(s.metrics_port)
        for model, answered, refused in (
            ("resnet50", 2, 1),
            ("resnet50_uint8", 0, 1),
            ("resnet50_image", 1, 1),
        ):
            named = {"model": model}
            assert scrape.total("nv_inference_request_success_total", **named) == answered, model
            assert scrape.total("nv_inference_request_failure_total", **named) == refused, model


def test_a_full_queue_and_a_deadline(server: StartServer) -> None:
    with server("--workers", "1", "--max-queue", "1", "--null-batch-ms", "300") as s:
        statuses: list[int] = []

        def send() -> None:
            picture = CAT.read_bytes()
            statuses.append(ask(s, "POST", "/v2/models/resnet50/classify", picture)[0])

        threads = [threading.Thread(target=send) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200, 429}
        path = "/v2/models/resnet50/classify"
        status, page = ask(s, "POST", path, CAT.read_bytes(), grpc_timeout="1000u")
        assert status == 504
        # As in Triton it is a bound on the wait in the queue, and no policy asks for one.
        assert ask(s, "POST", f"{path}?timeout=1", CAT.read_bytes())[0] == 200
        assert len(page["error"]) > 10
        busy = [threading.Thread(target=send) for _ in range(2)]
        before = Scrape(s.metrics_port).total("corral_requests_received_total")
        with HttpClient(f"127.0.0.1:{s.http_port}") as client, stopped_workers(s):
            busy[0].start()
            wait_until(partial(received, s, before + 1), "one")
            busy[1].start()
            wait_until(lambda: Scrape(s.metrics_port).total("corral_queue_depth") == 1, "a queue")
            with pytest.raises(Overloaded) as refusal:
                client.infer(PIXELS)
        for thread in busy:
            thread.join()
        assert refusal.value.retry_after_ms


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_a_client_that_leaves_is_never_run(server: StartServer) -> None:
    """Over HTTP/2, where leaving is said."""
    with server("--workers", "1") as s:
        url = f"http://127.0.0.1:{s.http_port}/v2/models/resnet50/classify"
        command = ["curl", "-s", "--http2-prior-knowledge", "--data-binary", f"@{CAT}", url]
        with stopped_workers(s):
            first = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            wait_until(partial(received, s, 1), "one")
            second = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            wait_until(lambda: Scrape(s.metrics_port).total("corral_queue_depth") == 1, "a queue")
            second.kill()
            second.wait()
            wait_until(
                lambda: (
                    Scrape(s.metrics_port).total("corral_requests_total", outcome="cancelled") == 1
                ),
                "the request that is no longer wanted to end",
            )
        assert first.wait(20) == 0
        assert Scrape(s.metrics_port).total("nv_inference_count_total") == 1


def received(server: Server, count: float) -> bool:
    return Scrape(server.metrics_port).total("corral_requests_received_total") >= count


def classify_by_hand(picture: bytes) -> bytes:
    head = b"POST /v2/models/resnet50/classify HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
    return head % len(picture) + picture


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_closes_its_connection_is_never_run(server: StartServer, reset: bool) -> None:
    """HTTP/1.1 does not say so: the kernel does, to who looks."""
    waiting = 5
    with server("--workers", "1") as s, contextlib.ExitStack() as stack:
        picture = CAT.read_bytes()
        connections = [stack.enter_context(connect(s.http_port)) for _ in range(waiting + 1)]
        with stopped_workers(s):
            for number, connection in enumerate(connections, 1):
                connection.sendall(classify_by_hand(picture))
                wait_until(partial(received, s, number), "the requests, one after another")
            last = connections.pop()
            if reset:
                last.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            last.close()
            wait_until(
                lambda: Scrape(s.metrics_port).total("corral_requests_total", outcome="cancelled"),
                "the client's leave to be noticed",
            )
        for connection in connections:
            assert listen(connection, answers=1, within_s=20).statuses == [200]
        scrape = Scrape(s.metrics_port)
        assert scrape.total("corral_requests_total", outcome="cancelled") == 1
        assert scrape.total("nv_inference_count_total") == waiting
        assert not [line for line in s.lines if "Traceback" in line or "ERROR" in line]
