"""Long answers that clients do not take: what they hold is bounded, and others get theirs."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest
from support.broken_clients import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    SETTINGS,
    body,
    frame,
    held_open,
    idle_connection,
)
from support.hostile_h2 import fields, opened
from support.running_server import Server, StartServer, wait_until
from support.server_counters import Scrape

from corral.frontend.limits import OUTGOING_BYTES
from corral_protos import open_inference_pb2 as pb

MIB = 2**20
INFER = "/inference.GRPCInferenceService/ModelInfer"
STREAM_INFER = "/inference.GRPCInferenceService/ModelStreamInfer"
#: FP32, 4 MiB
VALUES = 2**20
ASKED = 180


def write_long_answers(path: Path) -> None:
    """A model from [n,1] to [n,VALUES], as an ONNX file."""
    from onnx import TensorProto, helper, numpy_helper, save

    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "ones"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", VALUES])],
        [numpy_helper.from_array(np.ones((1, VALUES), np.float32), "ones")],
    )
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


@pytest.fixture(scope="module")
def long_answers(
    real_server: StartServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    path = tmp_path_factory.mktemp("model") / "long.onnx"
    write_long_answers(path)
    options = ["--model", str(path), "--backend", "onnxruntime", "--workers", "1"]
    with real_server(
        *options, "--max-batch", "1", "--max-queue", "512", "--http-port", "0", ready=False
    ) as server:
        server.wait_until_ready(timeout_s=120)
        ask(server)
        yield server
        assert "Traceback" not in server.stderr


def request() -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=(1, 1))
    return pb.ModelInferRequest(
        model_name="long", inputs=[tensor], raw_input_contents=[struct.pack("<f", 3)]
    )


def ask(server: Server) -> None:
    """A client that takes its answer."""
    options = [("grpc.max_receive_message_length", 2**26)]
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options) as channel:
        message = channel.unary_unary(INFER)(request().SerializeToString(), timeout=30)
    (content,) = pb.ModelInferResponse.FromString(message).raw_output_contents
    assert content == struct.pack("<f", 3) * VALUES


def anonymous_bytes(pid: int) -> int:
    """What a process holds besides files and the workers' regions."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no RssAnon")


def unary(count: int) -> Iterator[bytes]:
    for stream in range(1, 2 * count, 2):
        yield opened(stream) + frame(DATA, END_STREAM, stream, body(request().SerializeToString()))


def streamed(count: int) -> Iterator[bytes]:
    """All on one stream."""
    yield opened(1, STREAM_INFER)
    for _ in range(count):
        yield frame(DATA, 0, 1, body(request().SerializeToString()))


def rest(count: int) -> Iterator[bytes]:
    header = b'{"inputs":[{"name":"x","shape":[1,1],"datatype":"FP32","data":[3]}],'
    header += b'"parameters":{"binary_data_output":true}}'
    for stream in range(1, 2 * count, 2):
        head = fields("/v2/models/long/infer", "application/json")
        yield frame(HEADERS, END_HEADERS, stream, head) + frame(DATA, END_STREAM, stream, header)


# A stream that makes room for another connection ends before all of its requests are computed.
@pytest.mark.parametrize(("attack", "connections"), [(unary, 3), (streamed, 1), (rest, 3)])
def test_what_untaken_answers_hold_is_bounded(
    long_answers: Server, attack: Callable[[int], Iterator[bytes]], connections: int
) -> None:
    server = long_answers
    (front,) = server.frontends()

    def computed() -> float:
        return Scrape(server.metrics_port).total("corral_requests_total", outcome="succeeded")

    assert ASKED * VALUES * 4 > 2 * OUTGOING_BYTES
    already, before = computed(), anonymous_bytes(front)
    peak = 0

    def all_are_computed() -> bool:
        nonlocal peak
        peak = max(peak, anonymous_bytes(front) - before)
        return computed() - already == ASKED

    attackers = [idle_connection(server.port) for _ in range(connections)]
    with held_open(attackers):
        for attacker in attackers:
            attacker.sendall(frame(SETTINGS, 0, 0, struct.pack(">HI", 4, 0)))
            for piece in attack(ASKED // connections):
                attacker.sendall(piece)
        wait_until(all_are_computed, "their answers", timeout_s=60)
        ask(server)
        all_are_computed()
        assert OUTGOING_BYTES // 2 < peak < 1.25 * OUTGOING_BYTES, f"{peak / MIB:.0f} MiB"
    ask(server)
