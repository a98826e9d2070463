"""R16 without a server: hypothesis writes requests, wounded ones too; the readers must hold."""

from __future__ import annotations

import random
import tracemalloc
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import fuzzing

from corral.errors import InvalidRequest, RequestError
from corral.images import decode as images
from corral.models.spec import Recipe
from corral.protocol import request as wire
from corral.protocol.contents import Limits
from corral.protocol.metadata import resolve_view
from corral.tensors import Datatype, Signature, View
from corral_protos import open_inference_pb2 as pb

SIGNATURE = Signature({Datatype.FP32: (3, 4, 4), Datatype.UINT8: (4, 4, 3)}, (10,))
READER = wire.RequestReader(
    SIGNATURE,
    Limits(max_items=8, max_image_bytes=100_000, classes=10),
    lambda name, version: resolve_view(name, version, "m"),
)
SMALL = Recipe(resize=40, crop=32)

text = st.sampled_from(["", "m", "m_uint8", "m_image", "1", "input", "output", "../m"]) | st.text(
    max_size=20
)
parameter = st.one_of(
    st.integers(-(2**63), 2**63 - 1).map(lambda v: pb.InferParameter(int64_param=v)),
    st.integers(0, 2**64 - 1).map(lambda v: pb.InferParameter(uint64_param=v)),
    st.floats(allow_nan=True).map(lambda v: pb.InferParameter(double_param=v)),
    text.map(lambda v: pb.InferParameter(string_param=v)),
    st.just(pb.InferParameter()),
)
parameters = st.dictionaries(
    st.sampled_from(["classification", "timeout", "priority", "shared_memory_region", "x"]),
    parameter,
    max_size=3,
)
shape = st.one_of(
    st.sampled_from([(1, 4, 4, 3), (2, 4, 4, 3), (1, 3, 4, 4), (1,), (2, 1)]),
    st.lists(st.integers(-(2**63), 2**63 - 1), max_size=6).map(tuple),
)
contents = st.builds(
    pb.InferTensorContents,
    uint_contents=st.lists(st.integers(0, 2**32 - 1), max_size=60),
    fp32_contents=st.lists(st.floats(width=32), max_size=60),
    bytes_contents=st.lists(st.binary(max_size=20), max_size=4),
)


def _tensor(
    with_contents: bool, contents: pb.InferTensorContents, **fields: Any
) -> pb.ModelInferRequest.InferInputTensor:
    found = pb.ModelInferRequest.InferInputTensor(**fields)
    if with_contents:
        found.contents.CopyFrom(contents)
    return found


tensor = st.builds(
    _tensor,
    st.booleans(),
    contents,
    name=text,
    datatype=st.sampled_from(["UINT8", "FP32", "BYTES", "FP16", ""]),
    shape=shape,
    parameters=parameters,
)
output = st.builds(
    pb.ModelInferRequest.InferRequestedOutputTensor, name=text, parameters=parameters
)
raw = st.sampled_from([bytes(48), bytes(96), bytes(192), b"\3\0\0\0abc"]) | st.binary(max_size=200)
request = st.builds(
    pb.ModelInferRequest,
    model_name=text,
    model_version=st.sampled_from(["", "1", "2"]),
    id=text,
    parameters=parameters,
    inputs=st.lists(tensor, max_size=2),
    outputs=st.lists(output, max_size=2),
    raw_input_contents=st.lists(raw, max_size=2),
)


def holds(message: bytes) -> None:
    """The message is read, or refused in one short line."""
    try:
        head, data = READER.read(message)
    except RequestError as error:
        assert "\n" not in str(error)
        assert len(str(error)) < 400
        assert error.view in set(View)
        return
    assert 1 <= head.count <= 8
    if isinstance(data, memoryview):
        assert head.datatype is not None
        assert len(data) == SIGNATURE.input_bytes[head.datatype] * head.count
    else:
        assert isinstance(data, list), "nobody registered shared memory"
        assert len(data) == head.count
        assert all(1 <= len(picture) <= 100_000 for picture in data)
    assert head.timeout_s is None or head.timeout_s > 0
    assert 0 <= head.classification <= 10


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(request, st.integers(0, 2**32 - 1))
def test_r16_requests_of_every_kind_and_their_wounds_are_read_or_refused(
    message: pb.ModelInferRequest, seed: int
) -> None:
    serialised = message.SerializeToString()
    holds(serialised)
    holds(fuzzing.mutate(random.Random(seed), serialised))


@pytest.mark.parametrize("seed", range(4))
def test_r16_wounded_pictures_are_decoded_or_refused(seed: int) -> None:
    random_ = random.Random(seed)
    seeds = fuzzing.picture_seeds()
    decoded = 0
    tracemalloc.start()
    for _ in range(250):
        try:
            pixels = images.decode(fuzzing.mutate(random_, random_.choice(seeds)), SMALL, 10**6)
        except InvalidRequest as error:
            assert len(str(error)) < 200
        else:
            decoded += 1
            assert pixels.shape == (32, 32, 3)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert decoded > 10
    assert peak_bytes < 8e6, "Python's allocations; Pillow's are bound by the pixels"
