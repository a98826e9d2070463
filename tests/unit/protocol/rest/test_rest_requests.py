"""Requests over HTTP as real clients write them, and as nobody should."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.errors import InvalidRequest, RequestError, TooLarge
from corral.protocol.rest import request
from corral.protocol.rest.json_tensor import read_numbers, read_strings
from corral.tensors import Datatype

UINT8 = Datatype.UINT8
FP32 = Datatype.FP32


def header(**changes: Any) -> dict[str, Any]:
    """A request for one UINT8 item of shape [2,2], as JSON."""
    tensor = {"name": "input", "datatype": "UINT8", "shape": [1, 2, 2], "data": [1, 2, 3, 4]}
    tensor |= changes.pop("input", {})
    return {"inputs": [{k: v for k, v in tensor.items() if v is not None}], **changes}


def read(body: dict[str, Any] | bytes) -> request.Form:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request.read_form(text, "m", "1")


def tensor(form: request.Form, binary: bytes | None = None) -> bytes:
    found = request.read_tensors(form, [UINT8], 1, None if binary is None else memoryview(binary))
    return bytes(found[0])


@pytest.mark.parametrize(
    "data",
    [[1, 2, 3, 4], [[1, 2, 3, 4]], [[[1, 2], [3, 4]]]],
    ids=["flat", "items", "nested"],
)
def test_data_is_flat_or_nested(data: Any) -> None:
    assert tensor(read(header(input={"data": data}))) == bytes([1, 2, 3, 4])


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"data": [1, 2, 3, 300]}, "the data of a UINT8 input is integers from 0 to 255"),
        ({"data": [1, 2, 3]}, "the data has 3 values"),
        ({"data": None}, "the input has no values"),
        ({"shape": "1,2,2"}, "the shape of the input is not as the protocol has it"),
        ({"parameters": {"binary_data_size": 4}}, "the input comes twice"),
    ],
)
def test_what_is_wrong_with_one_input_of_several_begins_with_its_name(
    second: dict[str, Any], said: str
) -> None:
    body = header()
    body["inputs"] += header(input={"name": "mask", **second})["inputs"]
    with pytest.raises(InvalidRequest, match=rf"^the input 'mask': {said}"):
        form = request.read_form(json.dumps(body).encode(), "m", "1", several=True)
        request.read_tensors(form, [UINT8, UINT8], 1, None)


def test_what_the_json_says_becomes_the_message_that_grpc_would_bring() -> None:
    form = read(
        header(
            id="seven",
            parameters={"timeout": 5, "a": True, "b": "x", "c": 0.5, "d": 2**63},
            outputs=[{"name": "output", "parameters": {"classification": 3}}],
            input={"parameters": {"e": -1}},
            model_name="somebody else",
        )
    )
    message = form.message
    assert (message.model_name, message.model_version, message.id) == ("m", "1", "seven")
    assert message.parameters["timeout"].int64_param == 5
    assert message.parameters["a"].bool_param
    assert message.parameters["b"].string_param == "x"
    assert message.parameters["c"].double_param == 0.5
    assert message.parameters["d"].uint64_param == 2**63
    assert message.inputs[0].parameters["e"].int64_param == -1
    assert list(message.inputs[0].shape) == [1, 2, 2]
    assert message.outputs[0].parameters["classification"].int64_param == 3
    assert not message.inputs[0].HasField("contents")


@pytest.mark.parametrize(
    ("everything", "of_the_output", "binary"),
    [
        (None, None, False),
        (True, None, True),
        (False, None, False),
        (True, False, False),
        (False, True, True),
        (None, True, True),
    ],
)
def test_binary_output_is_asked_for(
    everything: bool | None, of_the_output: bool | None, binary: bool
) -> None:
    body = header(outputs=[{"name": "output"}])
    if everything is not None:
        body["parameters"] = {"binary_data_output": everything}
    if of_the_output is not None:
        body["outputs"][0]["parameters"] = {"binary_data": of_the_output}
    form = read(body)
    assert form.binary == (binary,)
    assert not form.message.parameters
    assert not form.message.outputs[0].parameters


def test_absent_fields_may_be_null() -> None:
    form = read(header(id=None, parameters=None, outputs=None, input={"parameters": None}))
    assert tensor(form) == bytes([1, 2, 3, 4])


def test_binary_data_lies_where_it_came() -> None:
    text = json.dumps(header(input={"data": None, "parameters": {"binary_data_size": 4}})).encode()
    body = text + bytes([5, 6, 7, 8])
    head, binary = request.cut(body, len(text))
    form = request.read_form(head, "m", "")
    (found,) = request.read_tensors(form, [UINT8], 1, binary)
    assert isinstance(found, memoryview)
    assert found.obj is body
    assert bytes(found) == bytes([5, 6, 7, 8])


@pytest.mark.parametrize(
    "changes",
    [
        {"data": None},
        {"parameters": {"binary_data_size": 4}},
        {"data": None, "parameters": {"binary_data_size": 4}},
        {"data": None, "parameters": {"binary_data_size": True}},
        {"data": None, "parameters": {"binary_data_size": -1}},
        {"data": None, "parameters": {"binary_data_size": 4.0}},
        {"data": None, "parameters": {"binary_data_size": "4"}},
        {"data": [1, 2, 3]},
        {"data": [1, 2, 3, 4, 5]},
        {"data": [[1, 2], [3, 4]]},
        {"data": [[[[1, 2], [3, 4]]]]},
        {"data": [[[1, 2, 3], [4]]]},
        {"data": [[1, 2, 3, 4], []]},
        {"data": [1, 2, 3, 256]},
        {"data": [1, 2, 3, -1]},
        {"data": [1, 2, 3, 4.5]},
        {"data": [1, 2, 3, True]},
        {"data": [1, 2, 3, None]},
        {"data": [1, 2, 3, "4"]},
        {"data": [1, 2, 3, {"4": 4}]},
        {"data": [1, 2, 3, 10**400]},
        {"data": 4},
        {"data": "1234"},
        {"data": {}},
        {"data": True},
        {"data": []},
        {"data": [[], 1, 2, 3, 4]},
        {"shape": None},
        {"shape": 4},
        {"shape": [1, "2"]},
        {"shape": [1, -2, -2]},
        {"shape": [10**30]},
        {"shape": [1.0, 2.0]},
        {"name": 5},
        {"datatype": None},
        {"parameters": []},
        {"parameters": {"x": None}},
        {"parameters": {"x": [1]}},
        {"parameters": {"x": 2**64}},
        {"parameters": {"x": -(2**63) - 1}},
        {"parameters": {str(n): n for n in range(257)}},
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_input_that_is_none_is_refused_with_a_sentence(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        tensor(read(header(input=changes)))
    assert 10 < len(str(refusal.value)) < 300
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"\xef\xbb\xbf{}",
        b'{"inputs":[]}',
        b'{"inputs":[{"name":"input","datatype":"UINT8","shape":[1],"data":[NaN]}]}',
        b'{"inputs":[{"name":"input","datatype":"UINT8","shape":[1],"data":[Infinity]}]}',
        b'{"inputs":[{"name":"input","datatype":"UINT8","shape":[1],"data":[1],}]}',
        b'{"inputs":[{"name":"\xff","datatype":"UINT8","shape":[1],"data":[1]}]}',
        b'{"inputs":[{"name":"\\ud800","datatype":"UINT8","shape":[1],"data":[1]}]}',
        b'{"inputs":[{"name":"input","datatype":"UINT8","shape":[1],"data":[1]}]}x',
        b'{"inputs":[{"name":"input","datatype":"UINT8","shape":[1],"data":' + b"[" * 100_000,
        b"[" * 1_000_000,
        b'{"a":' * 500_000,
        json.dumps({"inputs": header()["inputs"] * 2}).encode(),
        json.dumps(header(parameters={"binary_data_output": 1})).encode(),
        json.dumps(header(outputs=[{"name": "output", "parameters": {"binary_data": 1}}])).encode(),
        json.dumps(header(outputs={"name": "output"})).encode(),
        json.dumps(header(id=7)).encode(),
        json.dumps(header(padding="x" * 70_000)).encode(),
        json.dumps(header(id="x" * 70_000)).encode(),
        json.dumps(header(input={"shape": [1] * 40_000})).encode(),
    ],
    ids=lambda body: str(body[:60]),
)
def test_json_that_is_no_request_is_refused_with_a_sentence(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        tensor(read(body))
    assert 10 < len(str(refusal.value)) < 300


@pytest.mark.parametrize(
    ("claimed", "header_bytes", "rest"),
    [(4, None, b""), (4, 0, b"abc"), (4, 0, b"abcde"), (None, 0, b"abcd"), (0, 0, b"a")],
)
def test_lengths_that_disagree_are_refused(
    claimed: int | None, header_bytes: int | None, rest: bytes
) -> None:
    parameters = {} if claimed is None else {"binary_data_size": claimed}
    data = None if claimed is not None else [1, 2, 3, 4]
    text = json.dumps(header(input={"data": data, "parameters": parameters})).encode()
    head, binary = request.cut(text + rest, None if header_bytes is None else len(text))
    with pytest.raises(InvalidRequest):
        request.read_tensors(request.read_form(head, "m", ""), [UINT8], 1, binary)


def test_a_header_longer_than_the_body_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        request.cut(b"{}", 3)


def test_json_beyond_its_limit_is_refused() -> None:
    with pytest.raises(TooLarge, match="binary"):
        read(b" " * (request.MAX_JSON_BYTES + 1))


@pytest.mark.parametrize("text", [b"[" + b"1" * 70_000 + b"]", b"[1," + b" " * 140_000 + b"2]"])
def test_numbers_of_too_many_digits(text: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read_numbers(text, FP32, (2,))


def test_a_value_beyond_fp32_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        read_numbers(b"[1e39,0]", FP32, (1, 2))
    assert np.frombuffer(read_numbers(b"[1e-99,-0]", FP32, (1, 2)), "<f4").tolist() == [0, 0]


@pytest.mark.parametrize("number", [b"3.4e38", b"-3.4e38", b"3.3961775292304957e38"])
def test_a_value_that_bf16_would_round_to_infinity_is_refused(number: bytes) -> None:
    with pytest.raises(InvalidRequest, match="fit into BF16"):
        read_numbers(b"[1,%b]" % number, Datatype.BF16, (1, 2))
    assert read_numbers(b"[3.39e38]", Datatype.BF16, (1,)) == b"\x7f\x7f"


def test_strings_are_text_or_base64() -> None:
    assert read_strings(b'["ab",["c"]]', 2, base64=False) == b"\2\0\0\0ab\1\0\0\0c"
    assert read_strings(b'["_\\"\\u00e9"]', 1, base64=False) == b'\4\0\0\0_"\xc3\xa9'
    assert read_strings(b'["/9j/"]', 1, base64=True) == b"\3\0\0\0\xff\xd8\xff"


@pytest.mark.parametrize(
    ("text", "base64"),
    [
        (b"[1]", False),
        (b"[]", False),
        (b'["a","b"]', False),
        (b'[["a","b"]]', False),
        (b'["a"' + b',""' * 10_000 + b"]", False),
        (b'"a"', False),
        (b'["\xff"]', False),
        (b'["/9j"]', True),
        (b'["/9j/ "]', True),
        (b'["\\u00e9"]', True),
    ],
)
def test_strings_that_are_none_are_refused(text: bytes, base64: bool) -> None:
    with pytest.raises(InvalidRequest):
        read_strings(text, 1, base64=base64)


# --- any bytes, any tensor ---

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
#: JSON that looks like a request, with anything in the places of its values
REQUESTS = st.fixed_dictionaries(
    {
        "inputs": st.lists(
            st.fixed_dictionaries(
                {
                    "name": st.just("input") | VALUES,
                    "datatype": st.sampled_from(["FP32", "UINT8", "BYTES"]) | VALUES,
                    "shape": st.lists(st.integers(-1, 4), max_size=3) | VALUES,
                },
                optional={
                    "data": VALUES,
                    "parameters": VALUES
                    | st.fixed_dictionaries({"binary_data_size": st.integers(0, 8) | VALUES}),
                },
            ),
            min_size=1,
            max_size=2,
        )
    },
    optional={"id": VALUES, "parameters": VALUES, "outputs": VALUES},
)


def try_to_read(body: bytes, header_bytes: int | None, datatype: Datatype | None) -> None:
    try:
        head, binary = request.cut(body, header_bytes)
        form = request.read_form(head, "m", "")
        # As after the model's own check: the count is the first of the shape.
        count = form.inputs[0].shape[0] if form.inputs[0].shape else 0
        if (
            len(form.inputs[0].shape)
            and max(form.inputs[0].shape) <= 8
            and len(form.inputs[0].shape) <= 4
        ):
            request.read_tensors(form, [datatype], count, binary)
    except RequestError as error:
        assert len(str(error)) < 500


@settings(max_examples=400, deadline=None)
@given(
    st.binary(max_size=200),
    st.none() | st.integers(0, 210),
    st.sampled_from([FP32, UINT8, None]),
)
def test_any_bytes_are_a_request_or_invalid(
    body: bytes, header_bytes: int | None, datatype: Datatype | None
) -> None:
    try_to_read(body, header_bytes, datatype)


@settings(max_examples=400, deadline=None)
@given(
    REQUESTS,
    st.binary(max_size=8),
    st.booleans(),
    st.sampled_from([FP32, UINT8, None]),
    st.integers(0, 400),
)
def test_any_json_is_a_request_or_invalid(
    body: dict[str, Any], rest: bytes, cut: bool, datatype: Datatype | None, damaged: int
) -> None:
    text = json.dumps(body).encode()
    try_to_read(text + (rest if cut else b""), len(text) if cut else None, datatype)
    # The same with one byte of it changed.
    at = damaged % len(text)
    broken = text[:at] + bytes([text[at] ^ 1 << damaged % 8]) + text[at + 1 :]
    try_to_read(broken, None, datatype)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.booleans(), st.randoms())
def test_a_tensor_survives_json_and_binary(
    n: int, rows: int, columns: int, nested: bool, random: Any
) -> None:
    generator = np.random.default_rng(random.randrange(2**32))
    for datatype in (FP32, UINT8):
        raw = generator.integers(0, 256, n * rows * columns * datatype.itemsize, np.uint8)
        array = np.frombuffer(raw.tobytes(), datatype.numpy).reshape(n, rows, columns)
        if datatype is FP32:
            array = np.nan_to_num(array, nan=0.0, posinf=1.0, neginf=-1.0)
        data = array.tolist() if nested else array.ravel().tolist()
        text = json.dumps(data, indent=random.choice([None, 1])).encode()
        assert read_numbers(text, datatype, array.shape) == array.tobytes()


def test_numbers_longer_than_a_piece_are_all_there() -> None:
    array = np.random.default_rng(1).standard_normal((2, 50_000), np.float32)
    text = json.dumps(array.tolist()).encode()
    assert read_numbers(text, FP32, array.shape) == array.tobytes()
