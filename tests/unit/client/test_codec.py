"""ModelInfer's messages as the client writes and reads them, against protobuf and tritonclient."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from tritonclient.grpc import InferInput, InferRequestedOutput, service_pb2
from tritonclient.grpc._utils import _get_inference_request

from corral_client import codec
from corral_client.codec import Label
from corral_client.errors import InternalError, InvalidArgument
from corral_protos import open_inference_pb2 as pb

SHAPES = hnp.array_shapes(max_dims=4, max_side=6)
ARRAYS = hnp.arrays(np.float32, SHAPES) | hnp.arrays(np.uint8, SHAPES)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
PARAMETERS = st.dictionaries(
    TEXT.filter(bool),
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | TEXT,
    max_size=3,
)


def response(datatype: str, shape: list[int], raw: bytes) -> bytes:
    output = pb.ModelInferResponse.InferOutputTensor(name="output", datatype=datatype, shape=shape)
    return pb.ModelInferResponse(outputs=[output], raw_output_contents=[raw]).SerializeToString()


def elements(*values: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


@given(ARRAYS, TEXT, TEXT, PARAMETERS, st.none() | st.integers(1, 1000))
def test_both_copies_of_the_protocol_read_what_was_meant(
    array: NDArray[Any],
    model: str,
    request_id: str,
    parameters: dict[str, codec.Parameter],
    top: int | None,
) -> None:
    message = codec.infer_request(
        codec.from_array(array),
        model=model,
        classification=top,
        request_id=request_id,
        parameters=parameters,
    )
    for kind in (pb.ModelInferRequest, service_pb2.ModelInferRequest):
        request: Any = kind.FromString(message)
        assert (request.model_name, request.id) == (model, request_id)
        (tensor,) = request.inputs
        assert tensor.datatype == {"f": "FP32", "u": "UINT8"}[array.dtype.kind]
        assert tuple(tensor.shape) == array.shape
        assert list(request.raw_input_contents) == [array.tobytes()]
        read = {
            key: getattr(p, p.WhichOneof("parameter_choice"))
            for key, p in request.parameters.items()
        }
        assert read == parameters
        assert {k: type(v) for k, v in read.items()} == {k: type(v) for k, v in parameters.items()}
        tops = [output.parameters["classification"].int64_param for output in request.outputs]
        assert tops == ([] if top is None else [top])


@given(ARRAYS, TEXT, st.none() | st.integers(1, 1000))
def test_the_bytes_are_those_that_tritonclient_sends(
    array: NDArray[Any], request_id: str, top: int | None
) -> None:
    tensor = codec.from_array(array)
    theirs = InferInput("input", list(array.shape), tensor.datatype)
    theirs.set_data_from_numpy(array)
    outputs = None if top is None else [InferRequestedOutput("output", class_count=top)]
    request = _get_inference_request(
        "resnet50", [theirs], "", request_id, outputs, 0, False, False, 0, None, None
    )
    ours = codec.infer_request(tensor, model="resnet50", classification=top, request_id=request_id)
    assert ours == request.SerializeToString()


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=5))
def test_pictures_travel_as_tritonclient_sends_them(pictures: list[bytes]) -> None:
    theirs = InferInput("input", [len(pictures), 1], "BYTES")
    theirs.set_data_from_numpy(np.array(pictures, object).reshape(-1, 1))
    request = _get_inference_request(
        "resnet50", [theirs], "", "", None, 0, False, False, 0, None, None
    )
    ours = codec.infer_request(codec.from_pictures(pictures), model="resnet50")
    assert ours == request.SerializeToString()


@pytest.mark.parametrize("sides", [127, 128, 16383, 16384, 602112])
def test_lengths_of_every_width_are_read_back(sides: int) -> None:
    message = codec.infer_request(codec.from_array(np.zeros(sides, np.uint8)), model="m")
    (raw,) = pb.ModelInferRequest.FromString(message).raw_input_contents
    assert len(raw) == sides


def test_a_contiguous_array_is_not_copied_before_the_join() -> None:
    array = np.zeros((2, 3), np.float32)
    (part,) = codec.from_array(array).parts
    assert np.shares_memory(np.asarray(part), array)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(24, dtype=np.float32)[::2],
        np.arange(24, dtype=">f4"),
        np.zeros((0, 3), np.float32),
    ],
    ids=["transposed", "strided", "big-endian", "empty"],
)
def test_any_layout_travels_as_little_endian_rows(array: NDArray[Any]) -> None:
    message = codec.infer_request(codec.from_array(array), model="m")
    request = pb.ModelInferRequest.FromString(message)
    raw = np.frombuffer(request.raw_input_contents[0], "<f4")
    assert np.array_equal(raw.reshape(tuple(request.inputs[0].shape)), array)


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.int64, bool, object])
def test_an_array_of_another_dtype_is_refused_with_a_hint(dtype: type) -> None:
    with pytest.raises(InvalidArgument, match="make it float32"):
        codec.from_array(np.zeros(3, dtype))


def test_a_parameter_of_another_type_is_refused() -> None:
    bad: Any = {"key": [1]}
    with pytest.raises(InvalidArgument, match="'key' is a list"):
        codec.infer_request(codec.from_pictures([b"x"]), model="m", parameters=bad)


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3), elements=st.floats(width=32)))
def test_an_output_comes_back_as_it_was(array: NDArray[np.float32]) -> None:
    read = codec.read_output(response("FP32", list(array.shape), array.tobytes()))
    assert read.dtype == np.float32
    assert np.array_equal(read, array, equal_nan=True)
    assert read.flags.writeable


def test_an_output_in_typed_contents_is_read_too() -> None:
    output = pb.ModelInferResponse.InferOutputTensor(datatype="FP32", shape=[1, 3])
    output.contents.fp32_contents.extend([1.0, 2.0, 3.0])
    read = codec.read_output(pb.ModelInferResponse(outputs=[output]).SerializeToString())
    assert read.dtype == np.float32
    assert read.tolist() == [[1, 2, 3]]


def test_labels_are_read_row_by_row() -> None:
    raw = elements(b"1.5:2:tiger cat", b"0.5:0:a:b", b"-3:1", b"nan:7:")
    rows = codec.read_labels(response("BYTES", [2, 2], raw))
    assert rows[0] == [Label(1.5, 2, "tiger cat"), Label(0.5, 0, "a:b")]
    assert rows[1][0] == Label(-3.0, 1, "")
    assert (rows[1][1].index, rows[1][1].label) == (7, "")


def test_labels_without_a_batch_dimension_are_one_row() -> None:
    assert codec.read_labels(response("BYTES", [2], elements(b"2:1:x", b"1:0:y"))) == [
        [Label(2.0, 1, "x"), Label(1.0, 0, "y")]
    ]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (b"\xff\xff", "no ModelInferResponse"),
        (b"", "no output"),
        (response("FP32", [1, 3], bytes(8)), "2 values for the shape"),
        (response("FP32", [1], bytes(3)), "no whole number of FP32"),
        (response("FP8", [1], bytes(1)), "datatype 'FP8'"),
        (response("BYTES", [1, 1], elements(b"abc")[:-1]), "breaks off"),
        (response("BYTES", [1, 1], b"\x01"), "breaks off"),
        (response("BYTES", [1, 1], elements(b"best:cat")), "no score:index:label"),
        (response("BYTES", [1, 1], elements(b"\xff:1:x")), "no score:index:label"),
        (response("FP32", [1, 1], bytes(4)), "does not know the parameter classification"),
    ],
)
def test_an_answer_that_makes_no_sense_is_an_internal_error(message: bytes, says: str) -> None:
    with pytest.raises(InternalError, match=says):
        codec.read_labels(message)


@given(st.binary(max_size=80))
def test_no_answer_breaks_the_reader(message: bytes) -> None:
    for read in (codec.read_output, codec.read_labels):
        try:
            read(message)
        except InternalError as error:
            assert str(error)
