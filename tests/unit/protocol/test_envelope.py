"""Messages that are small to send and large to hold: refused before they are held."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from corral.errors import InvalidRequest
from corral.protocol import envelope
from corral_protos import open_inference_pb2 as pb

#: what a message may cost besides itself
_MOST_BYTES = 100_000


@pytest.mark.parametrize(
    "field", [b"\x3a\x00", b"\x2a\x00", b"\x0a\x00", b"\x08\x01", b"\xfa\x7f\x00"]
)
def test_millions_of_tiny_fields_cost_nothing(field: bytes) -> None:
    message = field * 2_000_000
    tracemalloc.start()
    began_s = time.perf_counter()
    with pytest.raises(InvalidRequest, match="more than 256 fields"):
        envelope.split(message)
    seconds = time.perf_counter() - began_s
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < _MOST_BYTES
    assert seconds < 0.1, "all of them take a second"


def test_as_many_fields_as_there_may_be() -> None:
    assert envelope.split(b"\x3a\x00" * envelope.MAX_FIELDS)[0] == b""
    with pytest.raises(InvalidRequest):
        envelope.split(b"\x3a\x00" * (envelope.MAX_FIELDS + 1))


@given(st.binary(max_size=40) | st.builds(bytes.__mul__, st.binary(max_size=3), st.just(300)))
def test_what_begins_hopelessly_is_refused_whatever_follows(message: bytes) -> None:
    hopeless = [end for end in range(len(message)) if envelope.is_hopeless(message[:end])]
    event(f"{bool(hopeless)}")
    if hopeless:
        with pytest.raises(InvalidRequest):
            envelope.split(message)


def test_a_request_is_hopeful_wherever_it_is_cut() -> None:
    whole = head_with(pb.InferTensorContents(fp32_contents=[1.0] * 9), id="1", model_version="1")
    whole.raw_input_contents.append(bytes(300))
    message = whole.SerializeToString()
    assert not any(envelope.is_hopeless(message[:end]) for end in range(len(message) + 1))
    assert envelope.is_hopeless(bytes(2**16))


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**32, 2**63])
def test_varints_are_protobufs(value: int) -> None:
    parameter = pb.InferParameter(uint64_param=value)
    assert parameter.SerializeToString().endswith(envelope.varint(value))


def head_with(contents: pb.InferTensorContents, **fields: Any) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="input", contents=contents)
    return pb.ModelInferRequest(model_name="m", inputs=[tensor], **fields)


def test_large_typed_contents_are_cut_out_whole() -> None:
    contents = pb.InferTensorContents(fp32_contents=[1.5] * 50_000)
    request = head_with(contents, id="seven")
    small, found = envelope.split_contents(request.SerializeToString())
    assert pb.InferTensorContents.FromString(found) == contents
    request.inputs[0].ClearField("contents")
    assert pb.ModelInferRequest.FromString(small) == request


@pytest.mark.parametrize(
    "request_",
    [
        pb.ModelInferRequest(id="x" * 100_000),
        pb.ModelInferRequest(inputs=[pb.ModelInferRequest.InferInputTensor(shape=[1] * 100_000)]),
        head_with(pb.InferTensorContents(fp32_contents=[1.0] * 50_000), id="x" * 100_000),
        pb.ModelInferRequest(
            inputs=[pb.ModelInferRequest.InferInputTensor(name="x" * 50_000)] * 2,
        ),
    ],
    ids=["id", "shape", "contents and id", "two inputs"],
)
def test_nothing_but_contents_makes_a_head_large(request_: pb.ModelInferRequest) -> None:
    with pytest.raises(InvalidRequest, match="besides its tensor"):
        envelope.split_contents(request_.SerializeToString())
