"""The values of a request's tensor: checked against its shape, before anything grows from them."""

from __future__ import annotations

import dataclasses

import numpy as np
from google.protobuf.message import DecodeError

from corral.errors import InvalidRequest
from corral.protocol.envelope import MAX_FIELDS, NOT_A_REQUEST, cut
from corral.protocol.response import LENGTH_PREFIX
from corral.tensors import Datatype, Signature
from corral_protos import open_inference_pb2 as pb

#: where typed contents belong: the field of InferTensorContents, and its number
_TYPED_FIELDS = {
    Datatype.FP32: ("fp32_contents", 6),
    Datatype.UINT8: ("uint_contents", 4),
    None: ("bytes_contents", 8),
}


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


class ContentsReader:
    """Checks and reads what requests bring for a model's input.

    Args:
        signature: the model's shapes.
        limits: what a request may bring.
    """

    def __init__(self, signature: Signature, limits: Limits) -> None:
        self._signature = signature
        self._limits = limits

    def check_length(self, datatype: Datatype, count: int, length: int) -> None:
        """Raises InvalidRequest where ``length`` bytes are not ``count`` items."""
        expected = self._signature.input_bytes[datatype] * count
        if length != expected:
            raise InvalidRequest(
                f"the input has {length} bytes; "
                f"{datatype.name} {self.shape_text(datatype, count)} is {expected}"
            )

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

    def shape_text(self, datatype: Datatype, count: int | str) -> str:
        """The input's shape with so many items, as a person reads it: "[n,3,224,224]"."""
        return f"[{','.join(map(str, (count, *self._signature.input_shapes[datatype])))}]"

    def read(
        self, contents: pb.InferTensorContents, datatype: Datatype | None, count: int
    ) -> bytes | tuple[bytes, ...]:
        """Typed contents as the raw tensor, or the encoded pictures.

        Raises:
            InvalidRequest: they are not ``count`` items.
        """
        if datatype is None:
            if len(contents.bytes_contents) != count:
                raise InvalidRequest(
                    f"bytes_contents has {len(contents.bytes_contents)} elements, not {count}"
                )
            for picture in contents.bytes_contents:
                self._picture(memoryview(picture))
            return tuple(contents.bytes_contents)
        values = contents.fp32_contents if datatype is Datatype.FP32 else contents.uint_contents
        expected = self._check_values(len(values), datatype, count)
        if datatype is Datatype.FP32:
            return np.fromiter(values, np.float32, expected).tobytes()
        wide = np.fromiter(values, np.uint32, expected)
        if wide.max() > 255:
            raise InvalidRequest("uint_contents has a value above 255; a UINT8 ends there")
        return wide.astype(np.uint8).tobytes()

    def _check_values(self, values: int, datatype: Datatype, count: int) -> int:
        """How many typed values there must be; raises InvalidRequest where there are others."""
        expected = self._signature.input_bytes[datatype] * count // datatype.numpy.itemsize
        if values != expected:
            raise InvalidRequest(
                f"{_TYPED_FIELDS[datatype][0]} has {values} values; "
                f"{datatype.name} {self.shape_text(datatype, count)} is {expected}"
            )
        return expected

    def parse(
        self, contents: bytes, datatype: Datatype | None, count: int
    ) -> pb.InferTensorContents:
        """Parses large typed contents, once they are sure to grow no larger than the tensor."""
        name, number = _TYPED_FIELDS[datatype]
        most = max(MAX_FIELDS, self._limits.max_items)
        rest, chunks = cut(contents, 0, len(contents), number, most)
        if rest:
            raise InvalidRequest(f"the contents of this input belong into {name}, packed, alone")
        if datatype is Datatype.UINT8:
            # Each takes four bytes once it is parsed, and may have come as one: those that end a
            # varint are below 128.
            stream = np.frombuffer(contents, np.uint8)
            values = sum(int((stream[start:end] < 0x80).sum()) for start, end in chunks)
            self._check_values(values, datatype, count)
        try:
            return pb.InferTensorContents.FromString(contents)
        except DecodeError:
            raise InvalidRequest(NOT_A_REQUEST) from None
