"""The values of a request's tensor: checked against its shape, before anything grows from them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from google.protobuf.message import DecodeError

from corral.errors import InvalidRequest
from corral.protocol.envelope import MAX_FIELDS, NOT_A_REQUEST, cut
from corral.protocol.response import LENGTH_PREFIX
from corral.tensors import INPUT_NAME, Datatype, Signature, TensorSpec
from corral_protos import open_inference_pb2 as pb

#: where typed contents belong: the field of InferTensorContents, and its number
_TYPED_FIELDS = {
    Datatype.BOOL: ("bool_contents", 1),
    Datatype.INT8: ("int_contents", 2),
    Datatype.INT16: ("int_contents", 2),
    Datatype.INT32: ("int_contents", 2),
    Datatype.INT64: ("int64_contents", 3),
    Datatype.UINT8: ("uint_contents", 4),
    Datatype.UINT16: ("uint_contents", 4),
    Datatype.UINT32: ("uint_contents", 4),
    Datatype.UINT64: ("uint64_contents", 5),
    Datatype.FP32: ("fp32_contents", 6),
    Datatype.FP64: ("fp64_contents", 7),
    None: ("bytes_contents", 8),
}
#: what protobuf writes as they are; all others are varints, of which a byte may make eight
_FIXED_SIZE = frozenset({Datatype.FP32, Datatype.FP64})
#: what protobuf reads numbers as, before they are narrowed
_WIDE = {"int_contents": np.int32, "uint_contents": np.uint32}


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a request may ask for.

    Attributes:
        max_items: items a request.
        max_image_bytes: bytes of one encoded picture.
        classes: values of one item's output; no classification has more.
    """

    max_items: int
    max_image_bytes: int
    classes: int


def is_typed(tensor: pb.ModelInferRequest.InferInputTensor) -> bool:
    """Whether an input's values come typed. MLServer's client sends none beside raw ones."""
    return tensor.HasField("contents") and bool(tensor.contents.ListFields())


class ContentsReader:
    """Checks and reads what requests bring for a model's input.

    Args:
        signature: the model's shapes.
        limits: what a request may bring.
    """

    def __init__(self, signature: Signature, limits: Limits) -> None:
        self._limits = limits
        self._specs = {
            datatype: signature.input_specs(datatype)[0] for datatype in signature.datatypes
        }

    def spec(self, datatype: Datatype) -> TensorSpec:
        """The only input, in a datatype that it is taken in."""
        return self._specs[datatype]

    def pictures(self, data: memoryview, count: int) -> list[memoryview]:
        """The elements of a BYTES tensor: each a 4-byte little-endian length, then the bytes."""
        pictures: list[memoryview] = []
        at = 0
        while at < len(data):
            if len(pictures) == count or at + 4 > len(data):
                break
            (length,) = LENGTH_PREFIX.unpack_from(data, at)
            at += 4
            if at + length > len(data):
                raise InvalidRequest(
                    f"picture {len(pictures)} claims {length} bytes, {len(data) - at} are left"
                )
            pictures.append(self._picture(data[at : at + length]))
            at += length
        if len(pictures) != count or at != len(data):
            raise InvalidRequest(
                f"the BYTES input does not hold {count} pictures, each behind its 4-byte length"
            )
        return pictures

    def _picture(self, data: memoryview) -> memoryview:
        if len(data) > self._limits.max_image_bytes:
            raise InvalidRequest(
                f"a picture has {len(data)} bytes; at most {self._limits.max_image_bytes} are taken"
            )
        if not len(data):
            raise InvalidRequest("a picture is empty")
        return data

    def read(
        self, contents: pb.InferTensorContents, spec: TensorSpec | None, count: int
    ) -> bytes | tuple[bytes, ...]:
        """Typed contents as the raw tensor, or, without a spec, the encoded pictures.

        Raises:
            InvalidRequest: they are not ``count`` items.
        """
        if spec is None:
            if len(contents.bytes_contents) != count:
                raise InvalidRequest(
                    f"bytes_contents has {len(contents.bytes_contents)} elements, not {count}"
                )
            for picture in contents.bytes_contents:
                self._picture(memoryview(picture))
            return tuple(contents.bytes_contents)
        return read_typed(contents, spec, count)

    def parse(self, contents: bytes, spec: TensorSpec | None, count: int) -> pb.InferTensorContents:
        """Parses large typed contents, once they are sure to grow no larger than the tensor."""
        name, number = typed_field(spec)
        most = max(MAX_FIELDS, self._limits.max_items)
        rest, chunks = cut(contents, 0, len(contents), number, most)
        if rest:
            raise InvalidRequest(f"the contents of this input belong into {name}, packed, alone")
        if spec is not None and spec.datatype not in _FIXED_SIZE:
            # Each takes up to eight bytes once it is parsed, and may have come as one: those that
            # end a varint are below 128.
            stream = np.frombuffer(contents, np.uint8)
            values = sum(int((stream[start:end] < 0x80).sum()) for start, end in chunks)
            _check_values(values, spec, count)
        try:
            return pb.InferTensorContents.FromString(contents)
        except DecodeError:
            raise InvalidRequest(NOT_A_REQUEST) from None


def check_length(spec: TensorSpec, count: int, length: int) -> None:
    """Raises InvalidRequest where ``length`` bytes are not ``count`` items."""
    expected = spec.item_bytes * count
    if length != expected:
        raise InvalidRequest(
            f"{_called(spec)} has {length} bytes; "
            f"{spec.datatype.name} {shape_text(spec, count)} is {expected}"
        )


def _called(spec: TensorSpec) -> str:
    return "the input" if spec.name == INPUT_NAME else f"the input {spec.name!r}"


def shape_text(spec: TensorSpec, count: int | str) -> str:
    """The tensor's shape with so many items, as a person reads it: "[n,3,224,224]"."""
    return f"[{','.join(map(str, (count, *spec.shape)))}]"


def typed_field(spec: TensorSpec | None) -> tuple[str, int]:
    """Where an input's typed values belong: the field, and its number.

    Raises:
        InvalidRequest: the protocol has none for its datatype.
    """
    field = _TYPED_FIELDS.get(None if spec is None else spec.datatype)
    if field is None:
        assert spec is not None
        raise InvalidRequest(f"{spec.datatype.name} values are sent as raw_input_contents")
    return field


def read_typed(contents: pb.InferTensorContents, spec: TensorSpec, count: int) -> bytes:
    """Typed contents as the raw tensor.

    Raises:
        InvalidRequest: they are not ``count`` items, or out of the datatype's range.
    """
    name, _ = typed_field(spec)
    values = getattr(contents, name)
    expected = _check_values(len(values), spec, count)
    if name not in _WIDE:
        return np.fromiter(values, spec.datatype.numpy, expected).tobytes()
    wide = np.fromiter(values, _WIDE[name], expected)
    limits = np.iinfo(spec.datatype.numpy.name)
    if expected and wide.max() > limits.max:
        raise InvalidRequest(
            f"{name} has a value above {limits.max}; a {spec.datatype.name} ends there"
        )
    if expected and wide.min() < limits.min:
        raise InvalidRequest(
            f"{name} has a value below {limits.min}; a {spec.datatype.name} begins there"
        )
    return wide.astype(spec.datatype.numpy).tobytes()


def _check_values(values: int, spec: TensorSpec, count: int) -> int:
    """How many typed values there must be; raises InvalidRequest where there are others."""
    expected = math.prod(spec.shape) * count
    if values != expected:
        raise InvalidRequest(
            f"{typed_field(spec)[0]} has {values} values; "
            f"{spec.datatype.name} {shape_text(spec, count)} is {expected}"
        )
    return expected
