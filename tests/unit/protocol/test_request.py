"""Requests as real clients write them, and as nobody should."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.errors import InvalidRequest, NotFound, RequestError
from corral.protocol import envelope, response
from corral.protocol import request as wire
from corral.protocol.contents import Limits
from corral.protocol.head import Data, Head
from corral.protocol.scattered import Scattered
from corral.protocol.several import Several
from corral.protocol.shared_memory import ClientMemory, Tensor
from corral.tensors import Datatype, Signature, View
from corral_protos import open_inference_pb2 as pb

SIGNATURE = Signature({Datatype.FP32: (3, 4, 4), Datatype.UINT8: (4, 4, 3)}, (10,))
LIMITS = Limits(max_items=8, max_image_bytes=100, classes=10)
VIEWS = {f"m{view.suffix}": view for view in View}


def resolve(name: str, version: str) -> View:
    if name not in VIEWS or version not in {"", "1"}:
        raise NotFound("no such model")
    return VIEWS[name]


READER = wire.RequestReader(SIGNATURE, LIMITS, resolve)


def request(
    datatype: str = "FP32",
    shape: tuple[int, ...] = (1, 3, 4, 4),
    raw: bytes | None = bytes(192),
    model: str = "m",
    **fields: Any,
) -> pb.ModelInferRequest:
    tensor = pb.ModelInferRequest.InferInputTensor(name="input", datatype=datatype, shape=shape)
    message = pb.ModelInferRequest(model_name=model, inputs=[tensor], **fields)
    if raw is not None:
        message.raw_input_contents.append(raw)
    return message


def read(message: pb.ModelInferRequest) -> tuple[Head, memoryview | list[memoryview]]:
    head, data = READER.read(message.SerializeToString())
    assert not isinstance(data, Tensor | Scattered | Several)
    return head, data


def bytes_tensor(*pictures: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(p)) + p for p in pictures)


def test_the_tensor_is_found_in_place() -> None:
    pixels = bytes(range(192))
    message = request(raw=pixels, id="seven").SerializeToString()
    head, data = READER.read(message)
    assert isinstance(data, memoryview)
    assert data.obj is message
    assert bytes(data) == pixels
    assert (head.view, head.request_id, head.datatype, head.count) == (
        "tensor",
        "seven",
        Datatype.FP32,
        1,
    )


def test_tritonclient_is_understood() -> None:
    import tritonclient.grpc as triton
    from tritonclient.grpc._utils import _get_inference_request

    array = np.arange(96, dtype=np.uint8).reshape(2, 4, 4, 3)
    tensor = triton.InferInput("input", list(array.shape), "UINT8")
    tensor.set_data_from_numpy(array)
    message = _get_inference_request(
        model_name="m",
        inputs=[tensor],
        model_version="1",
        request_id="x",
        outputs=[triton.InferRequestedOutput("output", class_count=3)],
        sequence_id=0,
        sequence_start=False,
        sequence_end=False,
        priority=5,
        timeout=250_000,
        parameters=None,
    )
    head, data = READER.read(message.SerializeToString())
    assert isinstance(data, memoryview)
    assert bytes(data) == array.tobytes()
    assert (head.count, head.classification, head.timeout_s) == (2, 3, 0.25)


def test_a_raw_tensor_that_is_not_the_tail_is_found_too() -> None:
    message = request().SerializeToString() + pb.ModelInferRequest(id="late").SerializeToString()
    head, _ = READER.read(message)
    assert head.request_id == "late"


def test_typed_contents() -> None:
    message = request(raw=None)
    values = np.linspace(-2, 2, 48, dtype=np.float32)
    message.inputs[0].contents.fp32_contents.extend(values.tolist())
    assert bytes(read(message)[1]) == values.tobytes()  # type: ignore[arg-type]
    message = request("UINT8", (1, 4, 4, 3), None)
    message.inputs[0].contents.uint_contents.extend(range(48))
    assert bytes(read(message)[1]) == bytes(range(48))  # type: ignore[arg-type]
    message = request("BYTES", (2, 1), None)
    message.inputs[0].contents.bytes_contents.extend([b"ab", b"c"])
    assert [bytes(picture) for picture in read(message)[1]] == [b"ab", b"c"]


def test_pictures() -> None:
    head, pictures = read(request("BYTES", (2,), bytes_tensor(b"one", b"three")))
    assert head.datatype is None
    assert [bytes(picture) for picture in pictures] == [b"one", b"three"]


def test_a_picture_for_a_model_that_takes_none_is_told_what_it_needs() -> None:
    reader = wire.RequestReader(Signature({Datatype.FP32: (4,)}, (3,), None), LIMITS, resolve)
    message = request("BYTES", (1,), bytes_tensor(b"picture"))
    with pytest.raises(InvalidRequest, match=r"takes FP32, not 'BYTES': pictures need \[prep"):
        reader.read(message.SerializeToString())


def test_parameters() -> None:
    message = request()
    message.parameters["classification"].int64_param = 4
    message.parameters["anything"].string_param = "ignored"
    message.parameters["timeout"].int64_param = 0
    head, _ = read(message)
    assert (head.classification, head.timeout_s) == (4, None)


@pytest.mark.parametrize("top", [10, 11, 2**62])
def test_a_classification_has_no_more_than_all_classes(top: int) -> None:
    """Triton's rule; a client that asks for its usual five meets models of two classes."""
    head, _ = read(changed("parameter", ("classification", "int64_param", top)))
    assert head.classification == 10


def with_typed(message: pb.ModelInferRequest, values: list[int]) -> pb.ModelInferRequest:
    message.inputs[0].contents.uint_contents.extend(values)
    return message


def changed(path: str, value: Any) -> pb.ModelInferRequest:
    message = request()
    if path == "parameter":
        key, field, content = value
        setattr(message.parameters[key], field, content)
    elif path == "input":
        message.inputs[0].name = value
    elif path == "outputs":
        for name in value:
            message.outputs.add(name=name)
    return message


BAD = {
    "no input": pb.ModelInferRequest(model_name="m"),
    "two inputs": pb.ModelInferRequest(
        model_name="m", inputs=[request().inputs[0], request().inputs[0]]
    ),
    "wrong input name": changed("input", "data"),
    "unknown datatype": request("FP16"),
    "datatype of another view": request(model="m_image"),
    "wrong shape": request(shape=(1, 4, 4, 3)),
    "no batch dimension": request(shape=(3, 4, 4)),
    "no shape": request(shape=()),
    "no items": request(shape=(0, 3, 4, 4), raw=b""),
    "negative": request(shape=(-1, 3, 4, 4)),
    "too many items": request(shape=(9, 3, 4, 4), raw=bytes(192 * 9)),
    "a product that overflows": request(shape=(2**62, 3, 4, 4)),
    "too few bytes": request(raw=bytes(191)),
    "too many bytes": request(raw=bytes(193)),
    "empty tensor": request(raw=b""),
    "no tensor": request(raw=None),
    "two tensors": request(raw_input_contents=[bytes(192)]),
    "raw and typed": with_typed(request("UINT8", (1, 4, 4, 3), bytes(48)), [0] * 48),
    "typed, too few": with_typed(request("UINT8", (1, 4, 4, 3), None), [0] * 47),
    "typed, out of range": with_typed(request("UINT8", (1, 4, 4, 3), None), [256] * 48),
    "typed, wrong field": with_typed(request("FP32", raw=None), [0] * 48),
    "unknown output": changed("outputs", ["logits"]),
    "duplicate output": changed("outputs", ["output", "output"]),
    "classification 0": changed("parameter", ("classification", "int64_param", 0)),
    "classification below 0": changed("parameter", ("classification", "int64_param", -1)),
    "classification no number": changed("parameter", ("classification", "string_param", "5")),
    "negative timeout": changed("parameter", ("timeout", "int64_param", -1)),
    "a picture too few": request("BYTES", (2,), bytes_tensor(b"one")),
    "a picture too many": request("BYTES", (1,), bytes_tensor(b"one", b"two")),
    "a picture that claims more than is there": request("BYTES", (1,), b"\xff\xff\xff\x7fabc"),
    "half a length": request("BYTES", (1,), b"\x01\x00"),
    "an empty picture": request("BYTES", (1,), bytes_tensor(b"")),
    "a picture too large": request("BYTES", (1,), bytes_tensor(bytes(101))),
    "pictures of a wrong shape": request("BYTES", (1, 2), bytes_tensor(b"a", b"b")),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_requests_get_a_sentence(name: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read(BAD[name])
    assert len(str(refusal.value)) > 15


@pytest.mark.parametrize(("model", "version"), [("x", ""), ("m", "2"), ("../m", "")])
def test_unknown_models(model: str, version: str) -> None:
    with pytest.raises(NotFound):
        read(request(model=model, model_version=version))


@pytest.mark.parametrize(
    "message",
    [
        b"\x00",
        b"garbage",
        b"\x0b\x0c",
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x3a\x05ab",
    ],
)
def test_garbage_is_no_request(message: bytes) -> None:
    with pytest.raises(InvalidRequest):
        READER.read(message)


LARGE = Signature({Datatype.FP32: (3, 96, 96), Datatype.UINT8: (96, 96, 3)}, (10,))
LARGE_READER = wire.RequestReader(
    LARGE, Limits(max_items=8, max_image_bytes=200_000, classes=10), resolve
)
VALUES = 96 * 96 * 3


def typed(datatype: str, count: int, **contents: Any) -> bytes:
    """A request whose contents, typed, are more than a head may have otherwise."""
    shape = {"FP32": (count, 3, 96, 96), "UINT8": (count, 96, 96, 3), "BYTES": (count,)}[datatype]
    message = request(datatype, shape, None, id="large")
    message.inputs[0].contents.MergeFrom(pb.InferTensorContents(**contents))
    return message.SerializeToString()


def test_contents_that_hold_nothing_beside_a_raw_tensor() -> None:
    """MLServer's client sends them when it is told to send raw contents."""
    message = request()
    message.inputs[0].contents.SetInParent()
    assert message.inputs[0].HasField("contents")
    _, data = READER.read(message.SerializeToString())
    assert isinstance(data, memoryview)
    assert len(data) == 192
    del message.raw_input_contents[:]
    with pytest.raises(InvalidRequest, match="there are 0"):
        READER.read(message.SerializeToString())


def test_large_typed_contents() -> None:
    values = np.linspace(-2, 2, VALUES, dtype=np.float32)
    head, data = LARGE_READER.read(typed("FP32", 1, fp32_contents=values.tolist()))
    assert isinstance(data, memoryview)
    assert bytes(data) == values.tobytes()
    assert (head.request_id, head.count) == ("large", 1)
    pixels = [n % 256 for n in range(3 * VALUES)]
    _, data = LARGE_READER.read(typed("UINT8", 3, uint_contents=pixels))
    assert isinstance(data, memoryview)
    assert bytes(data) == bytes(pixels)
    _, pictures = LARGE_READER.read(typed("BYTES", 2, bytes_contents=[b"a" * 100_000, b"b"]))
    assert isinstance(pictures, list)
    assert [bytes(picture) for picture in pictures] == [b"a" * 100_000, b"b"]


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (typed("UINT8", 1, uint_contents=[0] * 70_000), "70000 values"),
        (typed("UINT8", 3, uint_contents=[256] * 3 * VALUES), "above 255"),
        (typed("FP32", 1, fp32_contents=[0.0] * 70_000), "70000 values"),
        (typed("UINT8", 1, int64_contents=[0] * 70_000), "belong into uint_contents"),
        (typed("BYTES", 8, bytes_contents=[b""] * 70_000), "more than 256 fields"),
        (typed("BYTES", 3, bytes_contents=[b"x" * 70_000] * 2), "2 elements, not 3"),
        (typed("FP32", 1, fp32_contents=[0.0] * VALUES) + bytes(request().SerializeToString()),
         "a request has one input"),
    ],
    ids=["too few", "too large", "too few floats", "another type", "a bomb", "pictures", "inputs"],
)  # fmt: skip
def test_large_typed_contents_that_do_not_fit(message: bytes, sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        LARGE_READER.read(message)


@pytest.mark.parametrize(
    "message",
    [
        request("BYTES", (1,), b"\x01\x00", model="m_image"),
        request("BYTES", (9,), b"", model="m_image"),
        request("FP32", (1, 3, 4, 4), model="m_image"),
        request("BYTES", (1,), None, model="m_image"),
    ],
    ids=["tensor", "shape", "datatype", "no tensor"],
)
def test_an_error_knows_the_view_that_was_asked_for(message: pb.ModelInferRequest) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        read(message)
    assert refusal.value.view == "image"
    with pytest.raises(NotFound) as unknown:
        read(request(model="x"))
    assert unknown.value.view == "tensor"


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_raise_anything_else(message: bytes) -> None:
    try:
        READER.read(message)
    except (InvalidRequest, NotFound) as error:
        assert error.view in VIEWS.values()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_mutated_request_raises_nothing_else(data: st.DataObject) -> None:
    message = bytearray(request(raw=bytes(192)).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(message)))
    for variant in (bytes(message), bytes(message[:cut])):
        try:
            READER.read(variant)
        except (InvalidRequest, NotFound):
            continue


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=300),
    st.lists(st.binary(max_size=300), max_size=3),
    st.dictionaries(st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), max_size=3),
)
def test_split_loses_nothing(
    request_id: str, raws: list[bytes], parameters: dict[str, int]
) -> None:
    message = pb.ModelInferRequest(model_name="m", id=request_id, raw_input_contents=raws)
    for key, value in parameters.items():
        message.parameters[key].int64_param = value
    data = message.SerializeToString()
    head, found = envelope.split(data)
    assert [data[start:end] for start, end in found] == raws
    del message.raw_input_contents[:]
    assert pb.ModelInferRequest.FromString(head) == message


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200), st.integers(1, 40), st.binary(max_size=5000))
def test_responses_are_what_protobuf_reads(request_id: str, count: int, content: bytes) -> None:
    parsed = pb.ModelInferResponse.FromString(
        response.encoded(response.Answer("m", request_id, "FP32", (count, 10), content))
    )
    assert (parsed.model_name, parsed.model_version, parsed.id) == ("m", "1", request_id)
    (output,) = parsed.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("output", "FP32", [count, 10])
    assert list(parsed.raw_output_contents) == [content]


def test_classification_is_what_triton_says() -> None:
    logits = np.array([[0.5, 2.0, -1.0], [3.0, 3.0, 4.5]], np.float32).tobytes()
    content = response.classification(logits, 3, 2, ("cat", "dog"))
    from tritonclient.utils import deserialize_bytes_tensor

    assert deserialize_bytes_tensor(content).tolist() == [
        b"2.000000:1:dog",
        b"0.500000:0:cat",
        b"4.500000:2",
        b"3.000000:0:cat",
    ]


@settings(max_examples=200, deadline=None)
@given(st.data(), st.sampled_from(["tail", "not the tail", "cut short", "typed", "pictures"]))
def test_a_request_in_pieces_is_read_as_in_one(given_data: st.DataObject, form: str) -> None:
    """However it is cut: the same head and tensor, or the same refusal."""
    pixels = bytes(range(192))
    if form == "typed":
        made = request(raw=None)
        made.inputs[0].contents.fp32_contents.extend([1.5] * 48)
    elif form == "pictures":
        made = request(datatype="BYTES", shape=(1,), raw=bytes_tensor(b"picture"))
    else:
        made = request(raw=pixels, id="seven")
    message = made.SerializeToString()
    if form == "not the tail":
        message += b"\x12\x011"
    elif form == "cut short":
        message = message[:-1]
    cuts = given_data.draw(st.lists(st.integers(0, len(message)), max_size=6).map(sorted))
    ends = [0, *cuts, len(message)]
    pieces: list[bytes | memoryview] = [message[a:b] for a, b in itertools.pairwise(ends) if b > a]

    def outcome(read: Callable[[], tuple[Head, Data]]) -> Any:
        try:
            head, data = read()
        except RequestError as error:
            return type(error), str(error)
        if isinstance(data, Scattered):
            target = memoryview(bytearray(len(data)))
            data.read_into(target, 0)
            data = target
        return head, [bytes(p) for p in data] if isinstance(data, list) else bytes(data)  # type: ignore[arg-type]

    assert outcome(lambda: READER.read_pieces(list(pieces))) == outcome(
        lambda: READER.read(message)
    )


@given(st.lists(st.binary(max_size=9), max_size=5), st.integers(0, 40), st.integers(0, 40))
def test_a_tensor_in_pieces_is_copied_from_anywhere(
    pieces: list[bytes], start: int, length: int
) -> None:
    whole = b"".join(pieces)
    start = min(start, len(whole))
    length = min(length, len(whole) - start)
    target = memoryview(bytearray(length))
    Scattered(pieces).read_into(target, start)
    assert bytes(target) == whole[start : start + length]


@pytest.mark.parametrize("choice", ["int64_param", "bool_param", "double_param", None])
def test_a_region_goes_by_a_name(choice: str | None) -> None:
    reader = wire.RequestReader(SIGNATURE, LIMITS, resolve, ClientMemory())
    message = request(raw=None)
    parameters = message.inputs[0].parameters
    parameters["shared_memory_byte_size"].int64_param = 192
    parameters["shared_memory_region"].SetInParent()
    if choice is not None:
        setattr(parameters["shared_memory_region"], choice, 1)
    with pytest.raises(InvalidRequest, match="shared_memory_region takes a region's name"):
        reader.read(message.SerializeToString())
    parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(NotFound):
        reader.read(message.SerializeToString())
