"""ModelStreamInfer, the repository's calls, and packed messages, with tritonclient unmodified."""

from __future__ import annotations

import contextlib
import json
import queue
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from support.requests_by_hand import INFER, infer
from support.running_server import Server, StartServer
from support.server_counters import Scrape
from tritonclient.utils import InferenceServerException

from corral_protos import open_inference_pb2 as pb

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"


def tensor(value: float, shape: tuple[int, ...] = (1, 3, 224, 224)) -> triton.InferInput:
    array = np.zeros(shape, np.float32)
    array.flat[0] = value
    found = triton.InferInput("input", list(shape), "FP32")
    found.set_data_from_numpy(array)
    return found


@contextlib.contextmanager
def stream(
    server: Server, packed: str | None = None
) -> Iterator[tuple[Any, queue.Queue[tuple[Any, Any]]]]:
    """A client whose stream is open, and what comes back: a result or an error."""
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        client.start_stream(
            lambda result, error: answers.put((result, error)), compression_algorithm=packed
        )
        yield client, answers
        client.stop_stream()


def test_every_request_of_a_stream_is_answered_with_its_id(server: StartServer) -> None:
    # All that are sent may wait: how fast they are sent beside how fast they are run is not asked.
    options = ("--workers", "2", "--oversubscribe", "--max-queue", "200")
    with server(*options) as s, stream(s) as (client, answers):
        for number in range(200):
            client.async_stream_infer("resnet50", [tensor(float(number))], request_id=str(number))
        found = {}
        for _ in range(200):
            result, error = answers.get(timeout=20)
            assert error is None
            found[int(result.get_response().id)] = float(result.as_numpy("output")[0, 0])
        assert found == {number: float(number) for number in range(200)}
        assert Scrape(s.metrics_port).total("nv_inference_request_success_total") == 200


@pytest.mark.parametrize("packed", ["gzip", "deflate"])
def test_a_packed_stream_is_answered_packed(server: StartServer, packed: str) -> None:
    with server("--workers", "1") as s, stream(s, packed) as (client, answers):
        for number in range(3):
            client.async_stream_infer("resnet50", [tensor(float(number))], request_id=str(number))
        for _ in range(3):
            result, error = answers.get(timeout=20)
            assert error is None
            assert float(result.as_numpy("output")[0, 0]) == int(result.get_response().id)


def test_every_answer_of_a_stream_says_that_it_is_its_requests_last(server: StartServer) -> None:
    """By that parameter clients of decoupled models know when a request is done."""
    with server("--workers", "1") as s, stream(s) as (client, answers):
        client.async_stream_infer(
            "resnet50", [tensor(4.0)], request_id="four", enable_empty_final_response=True
        )
        result, error = answers.get(timeout=20)
        assert error is None
        response = result.get_response()
        assert response.parameters["triton_final_response"].bool_param
        assert (response.id, result.as_numpy("output")[0, 0]) == ("four", 4.0)


def test_answers_come_as_they_are_done(server: StartServer) -> None:
    with (
        server("--workers", "1", "--null-item-ms", "300") as s,
        stream(s) as (client, answers),
    ):
        client.async_stream_infer("resnet50", [tensor(1.0)], request_id="slow")
        client.async_stream_infer("nobody", [tensor(2.0)], request_id="refused at once")
        _, error = answers.get(timeout=20)
        assert "no model 'nobody'" in str(error)
        result, _ = answers.get(timeout=20)
        assert result.get_response().id == "slow"


def test_an_error_is_its_requests_alone(server: StartServer) -> None:
    with server("--workers", "1") as s, stream(s) as (client, answers):
        client.async_stream_infer("nobody", [tensor(1.0)], request_id="wrong")
        _, error = answers.get(timeout=20)
        assert isinstance(error, InferenceServerException)
        assert "no model 'nobody'" in str(error)
        client.async_stream_infer("resnet50", [tensor(3.0)], request_id="right")
        result, error = answers.get(timeout=20)
        assert error is None
        assert result.as_numpy("output")[0, 0] == 3.0


@pytest.fixture
def channel(server: StartServer) -> Iterator[tuple[Server, grpc.Channel]]:
    with (
        server("--workers", "1", "--max-message-bytes", "1000000") as s,
        grpc.insecure_channel(f"127.0.0.1:{s.port}") as made,
    ):
        yield s, made


def streamed(made: grpc.Channel, *messages: bytes) -> list[pb.ModelStreamInferResponse]:
    answers = made.stream_stream(STREAM)(iter(messages), timeout=20)
    return [pb.ModelStreamInferResponse.FromString(answer) for answer in answers]


def test_what_an_error_says_of_its_request(channel: tuple[Server, grpc.Channel]) -> None:
    _, made = channel
    named = pb.ModelInferRequest(model_name="nobody", id="seven").SerializeToString()
    garbage, named_one = streamed(made, b"\xff" * 9, named)
    assert garbage.error_message == "the message is no inference.ModelInferRequest"
    assert named_one.error_message.startswith("no model 'nobody'")
    assert (named_one.infer_response.id, named_one.infer_response.model_name) == (
        "seven",
        "nobody",
    )
    assert streamed(made) == []


def test_a_stream_ends_with_a_message_that_is_too_large(
    channel: tuple[Server, grpc.Channel],
) -> None:
    s, made = channel
    with pytest.raises(grpc.RpcError) as refusal:
        streamed(made, infer(), bytes(1_000_001))
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "--max-message-bytes" in refusal.value.details()
    assert Scrape(s.metrics_port).total("nv_inference_request_failure_total") == 1


def test_a_stream_that_says_nothing_holds_nobodys_place(
    channel: tuple[Server, grpc.Channel],
) -> None:
    _, made = channel
    stop: queue.Queue[bytes] = queue.Queue()
    calls = [made.stream_stream(STREAM)(iter(stop.get, b""), timeout=60) for _ in range(100)]
    try:
        for _ in range(20):
            made.unary_unary(INFER)(infer(), timeout=20)
    finally:
        for call in calls:
            call.cancel()
        for _ in calls:
            stop.put(b"")


def test_a_message_above_the_limit_is_sent_once_and_counted(
    channel: tuple[Server, grpc.Channel],
) -> None:
    s, made = channel
    with pytest.raises(grpc.RpcError) as refusal:
        made.unary_unary(INFER)(bytes(1_000_001), timeout=20)
    assert refusal.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "1000000 bytes (--max-message-bytes)" in refusal.value.details()
    assert dict(refusal.value.trailing_metadata())["grpc-retry-pushback-ms"] == "-1"
    assert Scrape(s.metrics_port).total("nv_inference_request_failure_total") == 1


@pytest.mark.parametrize("name", ["Gzip", "Deflate"])
def test_packed_requests_are_answered(channel: tuple[Server, grpc.Channel], name: str) -> None:
    _, made = channel
    answer = made.unary_unary(INFER)(
        infer(b"\7" * 150528), timeout=20, compression=getattr(grpc.Compression, name)
    )
    raw = pb.ModelInferResponse.FromString(answer).raw_output_contents[0]
    assert np.frombuffer(raw, np.float32)[0] == 7


def test_the_repository_as_tritons_client_sees_it(server: StartServer) -> None:
    with (
        server("--workers", "1") as s,
        triton.InferenceServerClient(f"127.0.0.1:{s.port}") as client,
    ):
        index = client.get_model_repository_index().models
        assert [(m.name, m.version, m.state) for m in index] == [
            ("resnet50", "1", "READY"),
            ("resnet50_uint8", "1", "READY"),
            ("resnet50_image", "1", "READY"),
        ]
        client.load_model("resnet50")
        # Model Analyzer reads the configuration, and loads the model with what it read.
        served = client.get_model_config("resnet50", as_json=True)["config"]
        client.load_model("resnet50", config=json.dumps(served))
        with pytest.raises(InferenceServerException, match="not changed by a call"):
            client.load_model("resnet50", config=json.dumps({**served, "max_batch_size": 3}))
        with pytest.raises(InferenceServerException, match="never unloaded"):
            client.unload_model("resnet50")
        assert client.is_model_ready("resnet50")
        # Off, and said so; what clients look at first is an empty list.
        assert not client.get_system_shared_memory_status().regions
        assert not client.get_cuda_shared_memory_status().regions
        with pytest.raises(InferenceServerException, match="--client-shared-memory"):
            client.unregister_system_shared_memory()
