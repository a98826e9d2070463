"""Settings at their ends, on real servers: served, or refused in one line at once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import grpc
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.running_server import StartServer, environment

from corral.settings import Option, options
from corral_protos import open_inference_pb2 as pb

PIXELS = np.zeros((1, 224, 224, 3), np.uint8)

#: their ends need thousands of CPUs, or certain ports
_OTHERWISE = {"workers", "cores_per_worker", "cells", "port", "http_port", "metrics_port"}
#: what they ask for is a wait of years
_SLOW = {"null_batch_ms", "null_item_ms", "max_queue_delay_ms", "drain_delay_s"}
#: never ready, never old enough, or asked to go at once: what they ask for
_SHORT = {"boot_timeout_s", "hang_floor_s", "max_connection_age_s", "max_connection_idle_s"}
#: a request of the test has one picture of 224 x 224, and a head
_TIGHT = {"max_message_bytes", "max_requests"}
_NUMBERS = [o for o in options().values() if o.kind in {int, float} and o.flat not in _OTHERWISE]
_REFUSED_WITHIN_S = 5.0


def _most() -> list[str]:
    return [f"--{o.name}={o.most!r}" for o in _NUMBERS if o.flat not in _SLOW]


def _least() -> list[str]:
    found = []
    for option in _NUMBERS:
        if option.flat not in _SHORT | _TIGHT:
            least = 1e-9 if option.above else option.least
            found.append(f"--{option.name}={least!r}")
    return found


def _answers(port: int) -> None:
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="input", datatype="UINT8", shape=PIXELS.shape
    )
    request = pb.ModelInferRequest(
        model_name="resnet50", inputs=[tensor], raw_input_contents=[PIXELS.tobytes()]
    )
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=pb.ModelInferRequest.SerializeToString,
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        answer = call(request, timeout=20, wait_for_ready=True)
    assert len(answer.raw_output_contents) == 1


@pytest.mark.parametrize("arguments", [_most(), _least()], ids=["most", "least"])
def test_numbers_at_their_ends_are_served(server: StartServer, arguments: list[str]) -> None:
    # A rate of traces is refused without a collector; this one is not there.
    with server(*arguments, "--otlp-endpoint=http://127.0.0.1:9") as s:
        _answers(s.port)
        assert s.stop() == 0
        assert "Traceback" not in s.stderr


@pytest.mark.parametrize(
    "argument", ["--max-connection-age-s=2592000", "--max-connection-idle-s=2592000"]
)
def test_a_month_is_served(server: StartServer, argument: str) -> None:
    with server(argument) as s:
        _answers(s.port)


def _refusal(*arguments: str) -> str:
    """What ``corral serve`` says instead of starting."""
    command = [sys.executable, "-m", "corral", "serve", "--backend", "null"]
    ports = ["--port=0", "--metrics-port=0"]
    began_s = time.monotonic()
    done = subprocess.run(
        [*command, *ports, *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environment(),
        timeout=60,
    )
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1, done.stderr
    assert time.monotonic() - began_s < _REFUSED_WITHIN_S
    return done.stderr


@pytest.mark.parametrize(
    ("argument", "named"),
    [
        ("--grace-s=inf", "--grace-s"),
        ("--grace-s=nan", "--grace-s"),
        ("--max-queue=1e20", "--max-queue"),
        ("--max-queue=100000000000000000000", "--max-queue"),
        ("--max-streams=4294967296", "--max-streams"),
        ("--max-connection-idle-s=1e20", "--max-connection-idle-s"),
        ("--workers=9223372036854775808", "--workers"),
        ("--cache-dir=", "--cache-dir"),
    ],
)
def test_what_cannot_be_is_refused(argument: str, named: str) -> None:
    assert f"{named}: " in _refusal(argument)


def test_infinity_is_refused_in_words() -> None:
    words = "a finite number of seconds, 0 or more, is needed, not inf"
    assert _refusal("--grace-s=inf") == f"corral: --grace-s: {words}\n"


def test_a_file_s_infinity_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "corral.toml"
    file.write_text("hang-floor-s = inf\n")
    assert "--hang-floor-s: " in _refusal("--config", str(file))


def _beyond(option: Option) -> st.SearchStrategy[str]:
    assert option.least is not None
    assert option.most is not None
    words = st.sampled_from(["", " ", "nan", "inf", "-inf", "1e400", "NaN%"])
    below = st.integers(max_value=int(max(option.least, -1e300)) - 1)
    # twice, because the largest float takes what is added to it without a change
    above = st.integers(min_value=2 * int(option.most) + 1)
    numbers = above if option.least < -1 else below | above
    return words | numbers.map(str)


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(argument=st.sampled_from(_NUMBERS).flatmap(
    lambda option: _beyond(option).map(lambda text: (option.name, text))
))  # fmt: skip
def test_beyond_its_range_every_number_is_refused(argument: tuple[str, str]) -> None:
    name, text = argument
    assert f"--{name}" in _refusal(f"--{name}={text}")


def _write_large(path: Path) -> None:
    """A model of one picture of 3 x 2400 x 2400, 69 MB an item, with one number out."""
    from onnx import TensorProto, helper, save

    node = helper.make_node("ReduceMean", ["pixels"], ["mean"], axes=[1, 2, 3], keepdims=0)
    cast = helper.make_node("Unsqueeze", ["mean", "axes"], ["one"])
    tile = helper.make_node("Concat", ["one", "one", "one"], ["scores"], axis=1)
    graph = helper.make_graph(
        [node, cast, tile],
        "g",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 2400, 2400])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    opset = [helper.make_opsetid("", 17)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)


def test_a_model_whose_largest_request_is_beyond_2_gib_is_served(
    server: StartServer, tmp_path: Path
) -> None:
    path = tmp_path / "large.onnx"
    _write_large(path)
    with server("--model", str(path)) as s:
        assert s.stop() == 0
        assert "Traceback" not in s.stderr


def test_batches_beyond_the_memory_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "large.onnx"
    _write_large(path)
    said = _refusal("--model", str(path), "--max-batch=256", "--workers=64", "--oversubscribe")
    assert "--max-batch 256: " in said
    assert "memory" in said
