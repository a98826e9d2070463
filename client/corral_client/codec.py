"""Tensors and labels to ModelInfer's messages and back. Pure.

The envelope is protobuf's work. The tensor is appended to it by hand, as the message's tail
(raw_input_contents has the highest field number), so that it is copied once, by one join;
protobuf would copy it when the field is set and again when the message is serialised.
"""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from corral_client.errors import InternalError, InvalidArgument
from corral_protos import open_inference_pb2 as pb

INPUT_NAME = "input"
OUTPUT_NAME = "output"

#: a request parameter's value
Parameter = bool | int | float | str

_RAW_INPUT_TAG = b"\x3a"
_LENGTH_PREFIX = struct.Struct("<I")
#: numpy's types by the protocol's names; it has none for BF16 and BYTES
NUMPY_DTYPES = {
    "BOOL": "?",
    "UINT8": "u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "INT8": "i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
#: the protocol's names by numpy's types
DATATYPES = {np.dtype(kind): name for name, kind in NUMPY_DTYPES.items()}


@dataclasses.dataclass(frozen=True, slots=True)
class Label:
    """One of the best classes of a picture.

    Attributes:
        score: the model's output for the class: a logit, or a probability of a model that ends in
            softmax.
        index: of the class.
        label: its name; "" when the server has none.
    """

    score: float
    index: int
    label: str


@dataclasses.dataclass(frozen=True, slots=True)
class Tensor:
    """An input as it travels.

    Attributes:
        datatype: as the protocol names it.
        shape: the batch dimension first.
        parts: buffers that make up the raw bytes, one after another; not copied yet.
    """

    datatype: str
    shape: tuple[int, ...]
    parts: tuple[bytes | memoryview, ...]


def from_array(array: NDArray[Any], *, every: bool = False) -> Tensor:
    """An array as an input: float32 is FP32, uint8 is UINT8, …; no copy if it is contiguous.

    Args:
        array: what is sent.
        every: take any datatype of the protocol's. Where pictures are asked for, another than these
            two is a mistake, which numpy's default of float64 makes easy.

    Raises:
        InvalidArgument: the protocol has no datatype for it, or it is none of the two.
    """
    if every and array.dtype.name == "bfloat16":
        # Of the package ml_dtypes; the protocol wants its bits.
        bits = np.ascontiguousarray(array).view(np.uint16).astype("<u2", copy=False)
        return Tensor("BF16", array.shape, (bits.data,))
    kind = array.dtype.newbyteorder("<")
    datatype = DATATYPES.get(kind)
    if datatype is None or not (every or datatype in {"FP32", "UINT8"}):
        raise InvalidArgument(
            f"an array of {array.dtype} cannot be sent; make it float32 (normalised) "
            "or uint8 (pixels) with .astype(), or use infer_all"
        )
    # The protocol is little-endian whatever this machine is.
    sent = np.ascontiguousarray(array, kind)
    return Tensor(datatype, array.shape, (sent.data,))


def from_pictures(pictures: Sequence[bytes]) -> Tensor:
    """Encoded pictures (JPEG, PNG) as a BYTES input [n,1]."""
    parts: list[bytes] = []
    for picture in pictures:
        parts += (_LENGTH_PREFIX.pack(len(picture)), picture)
    return Tensor("BYTES", (len(pictures), 1), tuple(parts))


def infer_request(
    tensor: Tensor | Mapping[str, Tensor],
    *,
    model: str,
    outputs: Sequence[str] = (),
    classification: int | None = None,
    request_id: str | None = None,
    parameters: Mapping[str, Parameter] | None = None,
) -> bytes:
    """A serialised ModelInferRequest.

    Args:
        tensor: the only input, or all inputs by name.
        model: its name.
        outputs: those that are wanted; all if empty.
        classification: top k wanted instead of the logits.
        request_id: echoed by the server, for logs.
        parameters: the request's parameters.
    """
    inputs = tensor if isinstance(tensor, Mapping) else {INPUT_NAME: tensor}
    request = pb.ModelInferRequest(
        model_name=model,
        id=request_id or "",
        inputs=[
            pb.ModelInferRequest.InferInputTensor(
                name=name, datatype=given.datatype, shape=given.shape
            )
            for name, given in inputs.items()
        ],
        outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in outputs],
    )
    for key, value in (parameters or {}).items():
        request.parameters[key].CopyFrom(_parameter(key, value))
    if classification is not None:
        output = request.outputs.add(name=OUTPUT_NAME)
        output.parameters["classification"].int64_param = classification
    parts: list[bytes | memoryview] = [request.SerializeToString()]
    for given in inputs.values():
        raw_bytes = sum(memoryview(part).nbytes for part in given.parts)
        parts += (_RAW_INPUT_TAG, _varint(raw_bytes), *given.parts)
    return b"".join(parts)


def read_output(message: bytes) -> NDArray[Any]:
    """The first output of a ModelInferResponse, as a writable array of the shape it states.

    Elements of a BYTES output are ``bytes`` in an array of objects.

    Raises:
        InternalError: the message is none, or contradicts itself.
    """
    return next(iter(read_outputs(message).values()))


def read_outputs(message: bytes) -> dict[str, NDArray[Any]]:
    """All outputs of a ModelInferResponse by name; see ``read_output``.

    BF16, which numpy has not, becomes float32.

    Raises:
        InternalError: the message is none, or contradicts itself.
    """
    try:
        response = pb.ModelInferResponse.FromString(message)
    except DecodeError:
        raise InternalError("the server's answer is no ModelInferResponse") from None
    if not response.outputs:
        raise InternalError("the server's answer has no output")
    raws = response.raw_output_contents
    if raws and len(raws) != len(response.outputs):
        raise InternalError(
            f"the server's answer has {len(response.outputs)} outputs and {len(raws)} contents"
        )
    return {
        output.name: _shaped(output, raws[index : index + 1])
        for index, output in enumerate(response.outputs)
    }


def _shaped(output: pb.ModelInferResponse.InferOutputTensor, raws: Sequence[bytes]) -> NDArray[Any]:
    flat = _flat(output, raws)
    try:
        return flat.reshape(tuple(output.shape))
    except ValueError:
        raise InternalError(
            f"the server's answer has {flat.size} values for the shape {list(output.shape)}"
        ) from None


def read_labels(message: bytes) -> list[list[Label]]:
    """The answer to a classification: for each picture its labels, best first.

    Raises:
        InternalError: the message is no such answer.
    """
    output = read_output(message)
    if output.dtype != object:
        raise InternalError(
            "the server answered with a tensor; it does not know the parameter classification"
        )
    # A model without a batch dimension answers with [k].
    rows = output.reshape((-1, output.shape[-1])) if output.size else output
    return [[_label(element) for element in row] for row in rows]


def _flat(output: pb.ModelInferResponse.InferOutputTensor, raws: Sequence[bytes]) -> NDArray[Any]:
    datatype = output.datatype
    if datatype == "BYTES":
        elements = _split_elements(raws[0]) if raws else output.contents.bytes_contents
        flat = np.empty(len(elements), object)
        flat[:] = elements
        return flat
    if datatype == "BF16" and raws and len(raws[0]) % 2 == 0:
        return (np.frombuffer(raws[0], "<u2").astype(np.uint32) << 16).view(np.float32)
    if datatype not in NUMPY_DTYPES:
        raise InternalError(f"the server answered with the datatype {datatype!r}, unknown here")
    if not raws:
        return _typed_contents(output)
    try:
        # A copy, as nobody could write to a view of bytes.
        return np.frombuffer(raws[0], NUMPY_DTYPES[datatype]).copy()
    except ValueError:
        raise InternalError(
            f"the server's answer has {len(raws[0])} bytes, no whole number of {datatype}"
        ) from None


def _typed_contents(output: pb.ModelInferResponse.InferOutputTensor) -> NDArray[Any]:
    """Some servers put the values into typed fields; exactly one of them is filled."""
    for _, values in output.contents.ListFields():
        return np.array(values, NUMPY_DTYPES[output.datatype])
    return np.empty(0, NUMPY_DTYPES[output.datatype])


def join_elements(elements: Sequence[bytes]) -> bytes:
    """The raw bytes of a BYTES tensor."""
    return b"".join(_LENGTH_PREFIX.pack(len(element)) + element for element in elements)


def values_as_raw(datatype: str, values: Sequence[Any]) -> bytes:
    """The raw bytes of a tensor whose values came as JSON.

    Raises:
        KeyError, ValueError, TypeError: the datatype or a value is none.
    """
    if datatype == "BF16":
        return (np.array(values, np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    return np.array(values, NUMPY_DTYPES[datatype]).tobytes()


def _split_elements(raw: bytes) -> list[bytes]:
    elements: list[bytes] = []
    at = 0
    while at < len(raw):
        start = at + _LENGTH_PREFIX.size
        if start > len(raw):
            raise InternalError("the server's answer breaks off inside a BYTES tensor")
        at = start + _LENGTH_PREFIX.unpack_from(raw, at)[0]
        if at > len(raw):
            raise InternalError("the server's answer breaks off inside a BYTES tensor")
        elements.append(raw[start:at])
    return elements


def _label(element: bytes) -> Label:
    """Reads "score:index:label"; the label may be missing, or hold colons itself."""
    try:
        score, index, *label = element.decode().split(":", 2)
        return Label(float(score), int(index), label[0] if label else "")
    except ValueError:
        raise InternalError(
            f"the server's label {element[:80]!r} is no score:index:label"
        ) from None


def _parameter(key: str, value: Parameter) -> pb.InferParameter:
    # bool first: it is an int, too.
    if isinstance(value, bool):
        return pb.InferParameter(bool_param=value)
    if isinstance(value, int):
        return pb.InferParameter(int64_param=value)
    if isinstance(value, float):
        return pb.InferParameter(double_param=value)
    if isinstance(value, str):
        return pb.InferParameter(string_param=value)
    raise InvalidArgument(
        f"the parameter {key!r} is a {type(value).__name__}; parameters are bool, int, float or str"
    )


def _varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
