"""An inference request over HTTP: its JSON header, and its tensor behind it or inside it.

The header becomes the protobuf message that the gRPC form would have brought, so that what a
request may ask for is checked in one place and refused with the same sentence. Here is checked
only what HTTP has of its own: JSON, lengths, and where the tensor is.

Nothing is allocated by a claim of the client's: values that may be long stay text until their
length is known to be one that is taken.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from corral.errors import InvalidRequest, TooLarge
from corral.protocol.ports import naming
from corral.protocol.rest.json_tensor import read_numbers, read_strings
from corral.tensors import Datatype
from corral_protos import open_inference_pb2 as pb

#: the JSON of a request without its tensor's values
MAX_HEADER_BYTES = 64 * 2**10
MAX_PARAMETERS = 256
#: All of the JSON: while it is decoded, in one go, nothing else runs in the process. A tensor of
#: 400,000 numbers with all their digits fits.
MAX_JSON_BYTES = 8 * 2**20
#: Parameters that say where a tensor is, which only this form has; never passed on.
_BINARY_SIZE, _BINARY, _BINARY_ALL = "binary_data_size", "binary_data", "binary_data_output"
#: says that the strings of a BYTES input are base64, as MLServer has it
_CONTENT_TYPE, _BASE64 = "content_type", "base64"
_ABSENT = msgspec.Raw(b"null")

Body = bytes | bytearray | memoryview
Parameters = dict[str, bool | int | float | str]


class _Input(msgspec.Struct):
    name: str
    datatype: str
    shape: msgspec.Raw
    parameters: msgspec.Raw = _ABSENT
    data: msgspec.Raw = _ABSENT


class _Request(msgspec.Struct):
    # A tuple, so that the second of many inputs ends the reading.
    inputs: tuple[_Input]
    id: str | None = None
    parameters: msgspec.Raw = _ABSENT
    outputs: msgspec.Raw = _ABSENT


class _ManyRequest(msgspec.Struct):
    inputs: Annotated[list[_Input], msgspec.Meta(min_length=1, max_length=256)]
    id: str | None = None
    parameters: msgspec.Raw = _ABSENT
    outputs: msgspec.Raw = _ABSENT


class _Output(msgspec.Struct):
    name: str
    parameters: Parameters | None = None


_Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_REQUEST = msgspec.json.Decoder(_Request)
_MANY_REQUEST = msgspec.json.Decoder(_ManyRequest)
_SHAPE = msgspec.json.Decoder(list[_Size])
_PARAMETERS = msgspec.json.Decoder(Parameters)
_OUTPUTS = msgspec.json.Decoder(list[_Output])


@dataclasses.dataclass(frozen=True, slots=True)
class InputForm:
    """One input of a request, before it is compared with the model.

    Attributes:
        name: as the client has it.
        shape: as claimed.
        data: the tensor's values as JSON text; None where they are elsewhere.
        binary_bytes: the length of the tensor behind the header; None where it is elsewhere.
        base64: whether the strings of ``data`` are base64.
        shared: whether it is said to lie in shared memory.
    """

    name: str
    shape: tuple[int, ...]
    data: memoryview | None
    binary_bytes: int | None
    base64: bool
    shared: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Form:
    """What an inference request says, before it is compared with the model.

    Attributes:
        message: the request as gRPC would have brought it, without its tensors.
        inputs: where they are, one or more.
        binary: whether each output that is named is wanted behind the answer's header; where none
            is named, one value for all.
    """

    message: pb.ModelInferRequest
    inputs: tuple[InputForm, ...]
    binary: tuple[bool, ...]

    @property
    def data_bytes(self) -> int:
        """The length of all values as JSON text."""
        return sum(len(given.data) for given in self.inputs if given.data is not None)


def cut(body: Body, header_bytes: int | None) -> tuple[memoryview, memoryview | None]:
    """Cuts a body into its JSON header and what follows.

    Args:
        body: all of it.
        header_bytes: Inference-Header-Content-Length; None: the whole body is JSON.

    Returns:
        the header, and the binary data; None where the body has no such part.

    Raises:
        InvalidRequest: the header is longer than the body, or than headers may be.
    """
    view = memoryview(body)
    if header_bytes is None:
        return view, None
    if header_bytes > len(view):
        raise InvalidRequest(
            f"Inference-Header-Content-Length is {header_bytes}; the body has {len(view)} bytes"
        )
    return view[:header_bytes], view[header_bytes:]


def read_form(
    header: bytes | memoryview, model_name: str, model_version: str, *, several: bool = False
) -> Form:
    """Reads the JSON header.

    Args:
        header: its bytes.
        model_name: from the path.
        model_version: from the path; "" when there is none.
        several: whether the model has more than one input.

    Raises:
        InvalidRequest: with a sentence that says what is wrong with it.
        TooLarge: it is longer than JSON may be.
    """
    if len(header) > MAX_JSON_BYTES:
        raise TooLarge(
            f"the JSON has more than {MAX_JSON_BYTES} bytes: send the tensor as binary data"
        )
    request = _decode(_MANY_REQUEST if several else _REQUEST, header, "the JSON")
    values = sum(len(data) for tensor in request.inputs if (data := _given(tensor.data)))
    if len(header) - values > MAX_HEADER_BYTES:
        raise InvalidRequest(
            f"the JSON has more than {MAX_HEADER_BYTES} bytes besides the values of its input"
        )
    parameters = _parameters(request.parameters, "the parameters")
    binary_output = _flag(parameters, _BINARY_ALL, default=False)
    message = pb.ModelInferRequest(
        model_name=_text(model_name, "the model's name"),
        model_version=_text(model_version, "the version"),
        id=_text(request.id or "", "the id"),
    )
    inputs = []
    for tensor in request.inputs:
        with naming(tensor.name) if several else contextlib.nullcontext():
            inputs.append(_read_input(tensor, message))
    binary_outputs: list[bool] = []
    outputs = _given(request.outputs)
    for wanted in _decode(_OUTPUTS, outputs, "the outputs") if outputs else ():
        asked = dict(wanted.parameters or {})
        binary_outputs.append(_flag(asked, _BINARY, default=binary_output))
        _fill(message.outputs.add(name=_text(wanted.name, "a name")).parameters, asked)
    _fill(message.parameters, parameters)
    return Form(message, tuple(inputs), tuple(binary_outputs) or (binary_output,))


def _read_input(tensor: _Input, message: pb.ModelInferRequest) -> InputForm:
    """Reads one input, and adds it to the message."""
    data = _given(tensor.data)
    shape = tuple(_decode(_SHAPE, memoryview(tensor.shape), "the shape of the input"))
    own = _parameters(tensor.parameters, "the input's parameters")
    built = message.inputs.add(
        name=_text(tensor.name, "a name"), datatype=_text(tensor.datatype, "a datatype")
    )
    built.shape.extend(shape)
    binary_bytes = _binary_size(own)
    base64 = own.pop(_CONTENT_TYPE, None) == _BASE64
    _fill(built.parameters, own)
    if data is not None and binary_bytes is not None:
        raise InvalidRequest("the input comes twice, as data and as binary_data_size; send one")
    shared = "shared_memory_region" in own
    return InputForm(tensor.name, shape, data, binary_bytes, base64, shared)


def read_tensors(
    form: Form,
    datatypes: Sequence[Datatype | None],
    count: int,
    binary: memoryview | None,
) -> list[Body]:
    """The tensors of a request whose header was found to fit the model, in the request's order.

    Args:
        form: the request.
        datatypes: each input's; None for BYTES.
        count: items, or elements of BYTES.
        binary: what followed the header: the tensors that are there, one after another.

    Returns:
        their raw bytes, their length not yet checked; those behind the header where they lie, and
        without those that are in shared memory.

    Raises:
        InvalidRequest: one is in no place or in two, or the bytes are not as many as was said.
    """
    expected = sum(given.binary_bytes or 0 for given in form.inputs)
    found = 0 if binary is None else len(binary)
    if found != expected:
        raise InvalidRequest(
            f"{found} bytes follow the JSON; binary_data_size says {expected}"
            if binary is not None
            else "binary_data_size needs the header field Inference-Header-Content-Length"
        )
    at = 0
    several = len(form.inputs) > 1
    tensors: list[Body] = []
    for given, datatype in zip(form.inputs, datatypes, strict=True):
        if given.binary_bytes is not None:
            assert binary is not None or not given.binary_bytes
            tensors.append((binary or memoryview(b""))[at : at + given.binary_bytes])
            at += given.binary_bytes
        elif given.data is not None or not given.shared:
            with naming(given.name) if several else contextlib.nullcontext():
                tensors.append(_read_values(given, datatype, count))
    return tensors


def _read_values(given: InputForm, datatype: Datatype | None, count: int) -> Body:
    """The raw bytes of the values that stand in the JSON."""
    if given.data is None:
        raise InvalidRequest(
            "the input has no values: send data, or binary_data_size and the bytes"
        )
    if datatype is None:
        return read_strings(given.data, count, base64=given.base64)
    return read_numbers(given.data, datatype, given.shape)


def _decode(decoder: msgspec.json.Decoder[Any], text: bytes | memoryview, what: str) -> Any:
    """Decodes JSON of any kind into the decoder's type; all that can go wrong is a sentence."""
    try:
        return decoder.decode(text)
    except RecursionError:
        raise InvalidRequest(f"{what} is nested too deep") from None
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{what} is not as the protocol has it: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise InvalidRequest(f"{what} is not valid JSON") from None


def _given(raw: msgspec.Raw) -> memoryview | None:
    """The text of a field; None when it was left out, or null."""
    text = memoryview(raw)
    return None if len(text) == 4 and text.tobytes() == b"null" else text


def _parameters(raw: msgspec.Raw, what: str) -> Parameters:
    text = _given(raw)
    if text is None:
        return {}
    parameters: Parameters = _decode(_PARAMETERS, text, what)
    if len(parameters) > MAX_PARAMETERS:
        raise InvalidRequest(f"{what} are more than {MAX_PARAMETERS}")
    return parameters


def _flag(parameters: Parameters, name: str, *, default: bool) -> bool:
    """Takes a parameter that is true or false out of them."""
    value = parameters.pop(name, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"the parameter {name} is true or false")
    return value


def _binary_size(parameters: Parameters) -> int | None:
    value = parameters.pop(_BINARY_SIZE, None)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InvalidRequest(f"the parameter {_BINARY_SIZE} is a whole number of bytes")
    return value


def _fill(target: Mapping[str, pb.InferParameter], parameters: Parameters) -> None:
    for key, value in parameters.items():
        entry = target[_text(key, "a parameter's name")]
        if isinstance(value, bool):
            entry.bool_param = value
        elif isinstance(value, str):
            entry.string_param = _text(value, "a parameter")
        elif isinstance(value, float):
            entry.double_param = value
        elif -(2**63) <= value < 2**63:
            entry.int64_param = value
        elif 0 <= value < 2**64:
            entry.uint64_param = value
        else:
            raise InvalidRequest(f"the parameter {key[:80]!r} does not fit into 64 bits")


def _text(value: str, what: str) -> str:
    """A string that UTF-8 can carry."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"{what} is not valid Unicode") from None
    return value
