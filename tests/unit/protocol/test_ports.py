"""Requests to a model of several inputs and outputs, as bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from corral.errors import InvalidRequest, Unsupported
from corral.protocol import response
from corral.protocol.contents import Limits
from corral.protocol.head import Head
from corral.protocol.request import RequestReader
from corral.protocol.response import Answer, Output
from corral.protocol.several import Several
from corral.tensors import Datatype, Signature, TensorSpec, View
from corral_protos import open_inference_pb2 as pb

_INTS = ("INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64")
_SIGNATURE = Signature(
    {Datatype.INT64: (2,)},
    (3,),
    None,
    inputs=(TensorSpec("a", Datatype.INT64, (2,)), TensorSpec("b", Datatype.BOOL, (1, 2))),
    outputs=(TensorSpec("x", Datatype.FP32, (3,)), TensorSpec("y", Datatype.INT32, ())),
)
_LIMITS = Limits(max_items=8, max_image_bytes=100, classes=3)


def _reader(signature: Signature = _SIGNATURE) -> RequestReader:
    return RequestReader(signature, _LIMITS, lambda name, version: View.TENSOR)


def _request(*order: str, **fields: Any) -> pb.ModelInferRequest:
    message = pb.ModelInferRequest(model_name="m", **fields)
    for name in order or ("a", "b"):
        kind, shape, raw = {
            "a": ("INT64", [2, 2], np.arange(4, dtype=np.int64).tobytes()),
            "b": ("BOOL", [2, 1, 2], b"\1\0\0\1"),
        }[name]
        message.inputs.add(name=name, datatype=kind, shape=shape)
        message.raw_input_contents.append(raw)
    return message


def _read(message: pb.ModelInferRequest) -> tuple[Head, list[bytes]]:
    head, data = _reader().read(message.SerializeToString())
    assert isinstance(data, Several)
    return head, [bytes(part) for part in data.parts if isinstance(part, memoryview)]


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_tensors_come_in_the_models_order_whatever_the_requests(order: tuple[str, str]) -> None:
    head, parts = _read(_request(*order))
    assert (head.datatype, head.count) == (Datatype.INT64, 2)
    assert np.frombuffer(parts[0], np.int64).tolist() == [0, 1, 2, 3]
    assert parts[1] == b"\1\0\0\1"
    assert [(wanted.index, wanted.name) for wanted in head.wanted] == [(0, "x"), (1, "y")]


def test_pieces_and_typed_contents_say_the_same() -> None:
    message = _request()
    whole = message.SerializeToString()
    _, data = _reader().read_pieces([whole[:30], whole[30:77], whole[77:]])
    assert isinstance(data, Several)
    wanted = [bytes(part) for part in data.parts]  # type: ignore[arg-type]
    del message.raw_input_contents[:]
    message.inputs[0].contents.int64_contents.extend([0, 1, 2, 3])
    message.inputs[1].contents.bool_contents.extend([True, False, False, True])
    assert _read(message)[1] == wanted
    # One typed, the other raw.
    mixed = _request()
    mixed.inputs[0].contents.int64_contents.extend([0, 1, 2, 3])
    del mixed.raw_input_contents[0]
    assert _read(mixed)[1] == wanted


def test_large_typed_contents_are_cut_out_of_each() -> None:
    signature = Signature(
        {Datatype.FP32: (20_000,)},
        (3,),
        None,
        inputs=(
            TensorSpec("a", Datatype.FP32, (20_000,)),
            TensorSpec("b", Datatype.UINT16, (20_000,)),
        ),
    )
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="b", datatype="UINT16", shape=[1, 20_000])
    message.inputs[0].contents.uint_contents.extend(range(20_000))
    message.inputs.add(name="a", datatype="FP32", shape=[1, 20_000])
    message.inputs[1].contents.fp32_contents.extend([0.5] * 20_000)
    _, data = _reader(signature).read(message.SerializeToString())
    assert isinstance(data, Several)
    first, second = data.parts
    assert np.frombuffer(first, np.float32).tolist() == [0.5] * 20_000  # type: ignore[arg-type]
    assert np.frombuffer(second, np.uint16).tolist() == list(range(20_000))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", _INTS)
def test_typed_integers_beyond_their_range_are_refused(name: str) -> None:
    datatype = Datatype[name]
    limits = np.iinfo(datatype.numpy.name)
    reader = _reader(Signature({datatype: (2,)}, (3,), None))
    field = {"I": "int", "U": "uint"}[name[0]] + ("64" if "64" in name else "") + "_contents"
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="input", datatype=name, shape=[1, 2])
    getattr(message.inputs[0].contents, field).extend([limits.min, limits.max])
    _, data = reader.read(message.SerializeToString())
    assert np.frombuffer(data, datatype.numpy).tolist() == [limits.min, limits.max]  # type: ignore[arg-type]
    if limits.bits < 32:
        getattr(message.inputs[0].contents, field)[1] = int(limits.max) + 1
        with pytest.raises(InvalidRequest, match=f"above {limits.max}; a {name} ends there"):
            reader.read(message.SerializeToString())


@pytest.mark.parametrize("name", ["FP16", "BF16"])
def test_halves_are_sent_raw_only(name: str) -> None:
    reader = _reader(Signature({Datatype[name]: (2,)}, (3,), None))
    message = pb.ModelInferRequest(model_name="m")
    message.inputs.add(name="input", datatype=name, shape=[1, 2])
    message.inputs[0].contents.fp32_contents.extend([1, 2])
    with pytest.raises(InvalidRequest, match=f"{name} values are sent as raw_input_contents"):
        reader.read(message.SerializeToString())
    message.inputs[0].ClearField("contents")
    message.raw_input_contents.append(b"1234")
    assert reader.read(message.SerializeToString())[0].datatype is Datatype[name]


def _without(message: pb.ModelInferRequest, index: int) -> pb.ModelInferRequest:
    del message.inputs[index], message.raw_input_contents[index]
    return message


def _twice() -> pb.ModelInferRequest:
    message = _request()
    message.inputs.append(message.inputs[0])
    message.raw_input_contents.append(message.raw_input_contents[0])
    return message


def _renamed() -> pb.ModelInferRequest:
    message = _request()
    message.inputs[1].name = "c"
    return message


def _surplus_raw() -> pb.ModelInferRequest:
    message = _request()
    message.raw_input_contents.append(b"1234")
    return message


def _short() -> pb.ModelInferRequest:
    message = _request()
    message.raw_input_contents[1] = b"123"
    return message


def _shared() -> pb.ModelInferRequest:
    message = _request()
    message.inputs[0].parameters["shared_memory_region"].string_param = "r"
    return message


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (_without(_request(), 1), "2 inputs, 'a', 'b'; missing: 'b'"),
        (pb.ModelInferRequest(model_name="m"), "missing: 'a', 'b'"),
        (_renamed(), "missing: 'b'; unknown: 'c'"),
        (_twice(), "given twice: 'a'"),
        (_surplus_raw(), "2 inputs need as many entries of raw_input_contents, there are 3"),
        (_short(), r"the input 'b' has 3 bytes; BOOL \[2,1,2\] is 4"),
        (_request(outputs=[{"name": "z"}]), "2 outputs, 'x', 'y'; unknown: 'z'"),
        (_request(outputs=[{"name": "x"}] * 2), "one is asked for twice"),
        (_request(parameters={"classification": {"int64_param": 2}}), "name the one that"),
    ],
)
def test_what_does_not_fit_is_told_with_the_names(message: pb.ModelInferRequest, text: str) -> None:
    with pytest.raises(InvalidRequest, match=text):
        _reader().read(message.SerializeToString())


def test_what_is_wrong_with_one_input_of_several_begins_with_its_name() -> None:
    message = _request("b", "a")
    del message.raw_input_contents[:]
    with pytest.raises(InvalidRequest, match=r"2 inputs .*: 'b', 'a'$"):
        _read(message)
    message.inputs[0].contents.bool_contents.extend([True] * 4)
    message.inputs[1].contents.int64_contents.extend([1, 2, 3])
    with pytest.raises(InvalidRequest, match=r"^the input 'a': int64_contents has 3 values"):
        _read(message)


def test_shared_memory_that_is_off_is_told() -> None:
    with pytest.raises(Unsupported, match="--client-shared-memory"):
        _reader().read(_shared().SerializeToString())


def test_classification_is_of_one_output() -> None:
    head, _ = _read(
        _request(outputs=[{"name": "x", "parameters": {"classification": {"int64_param": 9}}}])
    )
    (wanted,) = head.wanted
    assert (wanted.index, wanted.classification) == (0, 3)


def test_an_answer_of_several_is_what_protobuf_reads() -> None:
    outputs = (Output("x", "FP32", (1, 3), b"123456789012"), Output("y", "INT32", (1,), b"1234"))
    answer = pb.ModelInferResponse.FromString(response.encoded(Answer.of("m", "seven", outputs)))
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "1", "seven")
    assert [(o.name, o.datatype, list(o.shape)) for o in answer.outputs] == [
        ("x", "FP32", [1, 3]),
        ("y", "INT32", [1]),
    ]
    assert list(answer.raw_output_contents) == [b"123456789012", b"1234"]
