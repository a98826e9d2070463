"""The messages of ModelInfer, read and written without copying what is large.

A request's tensor lies in ``raw_input_contents``, which every client writes as the message's
tail. ``envelope.split`` walks the protobuf envelope and finds it in place; only the small rest is
parsed by protobuf. Parsing the whole of a 602 KB message costs more than everything else in the
front.

Pure: bytes in, values out. Nothing is allocated by a claim of the client's: shapes and counts
are checked against the bytes that are there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from google.protobuf.message import DecodeError

from corral.errors import InvalidRequest, RequestError, Unsupported
from corral.protocol.envelope import (
    MAX_FIELDS,
    MAX_HEAD_BYTES,
    NOT_A_REQUEST,
    cut,
    split,
    split_contents,
    tail,
)
from corral.protocol.response import INPUT_NAME, LENGTH_PREFIX, OUTPUT_NAME
from corral.protocol.scattered import Scattered
from corral.protocol.shared_memory import ClientMemory, Slice, Tensor
from corral.tensors import Datatype, Signature, View
from corral_protos import open_inference_pb2 as pb

#: heads up to this size are remembered: a client sends the same one again and again
_CACHEABLE_HEAD_BYTES = 512
#: where typed contents belong: the field of InferTensorContents, and its number
_TYPED_FIELDS = {
    Datatype.FP32: ("fp32_contents", 6),
    Datatype.UINT8: ("uint_contents", 4),
    None: ("bytes_contents", 8),
}


#: a request's tensor where it lies: in the message, in shared memory, or as encoded pictures
Data = memoryview | Scattered | Tensor | list[memoryview]


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """Everything of a request but its tensor.

    Attributes:
        view: which of the model's signatures was asked for, see tensors.View.
        datatype: None when the input is encoded pictures (BYTES).
        count: items, 1 or more.
        classification: top k wanted, 0 for the logits.
        timeout_s: the request parameter ``timeout``; None when not given.
        contents: the tensor where it came typed instead of raw: its bytes, or the pictures.
        input_slice: where the tensor lies in the client's shared memory; None: in the message.
        output_slice: where the result is wanted; None: in the answer.
    """

    view: View
    model_name: str
    request_id: str
    datatype: Datatype | None
    count: int
    classification: int
    timeout_s: float | None
    contents: bytes | tuple[bytes, ...] | None
    input_slice: Slice | None = None
    output_slice: Slice | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a request may ask for.

    Attributes:
        max_items: items a request.
        max_image_bytes: bytes of one encoded picture.
        classes: length of the logits, the largest classification.
    """

    max_items: int
    max_image_bytes: int
    classes: int


class RequestReader:
    """Reads and checks the requests for one model.

    Args:
        signature: the model's shapes.
        limits: what a request may ask for.
        resolve: (model name, version) to the view; raises NotFound.
        memory: the regions that clients registered; None: they cannot.
    """

    def __init__(
        self,
        signature: Signature,
        limits: Limits,
        resolve: Callable[[str, str], View],
        memory: ClientMemory | None = None,
    ) -> None:
        self._memory = memory
        self._signature = signature
        self._takes_pictures = signature.takes_pictures
        self._limits = limits
        self._resolve = resolve
        self._remembered = functools.lru_cache(maxsize=256)(self._read_head)

    def read(self, message: bytes) -> tuple[Head, Data]:
        """Reads a ModelInferRequest.

        Returns:
            the head, and the tensor where it lies: ``count`` items one after another, or, when
            ``datatype`` is None, the encoded pictures.

        Raises:
            NotFound: no such model or version.
            Unsupported: the tensor is to be found, or left, in the client's shared memory, and
                that is off.
            InvalidRequest: with a sentence that says what to change.

            Their ``view`` is the one asked for, as far as it was read.
        """
        head_bytes, raws = split(message)
        if len(head_bytes) <= _CACHEABLE_HEAD_BYTES:
            head = self._remembered(head_bytes)
        elif len(head_bytes) <= MAX_HEAD_BYTES:
            head = self._read_head(head_bytes)
        else:
            head = self._read_head(*split_contents(head_bytes))
        whole = memoryview(message)
        return head, self.data(head, [whole[start:end] for start, end in raws])

    def read_pieces(self, pieces: Sequence[bytes | memoryview]) -> tuple[Head, Data]:
        """Reads a ModelInferRequest that came in pieces, and leaves its tensor in them.

        Returns, raises: as ``read``.
        """
        first = pieces[0] if pieces else b""
        found = tail(first, sum(map(len, pieces)))
        if found is None or found[0] > _CACHEABLE_HEAD_BYTES:
            return self.read(b"".join(pieces))
        end, start = found
        head = self._remembered(bytes(first[:end]))
        rest = memoryview(first)[start:]
        raw = rest if len(pieces) == 1 else Scattered([rest, *pieces[1:]])
        return head, self.data(head, (raw,))

    def read_head(self, request: pb.ModelInferRequest) -> Head:
        """Reads a request that holds no tensor, raw or typed; raises as ``read``."""
        return self._read_head(request.SerializeToString())

    def data(self, head: Head, raws: Sequence[memoryview | Scattered]) -> Data:
        """The tensor of a request whose head was read.

        Args:
            head: the request's.
            raws: its entries of ``raw_input_contents``.

        Raises:
            RequestError: as ``read``.
        """
        try:
            return self._data(head, raws)
        except RequestError as error:
            error.view = head.view
            raise

    def _data(self, head: Head, raws: Sequence[memoryview | Scattered]) -> Data:
        if head.input_slice is not None:
            return self._shared(head, head.input_slice, len(raws))
        if head.contents is not None:
            if raws:
                raise InvalidRequest(
                    "the input comes twice, as contents and as raw_input_contents; send one"
                )
            if isinstance(head.contents, tuple):
                return [memoryview(picture) for picture in head.contents]
            return memoryview(head.contents)
        if len(raws) != 1:
            raise InvalidRequest(
                f"one input needs one entry of raw_input_contents, there are {len(raws)}"
            )
        data = raws[0]
        if head.datatype is None:
            whole = data.joined() if isinstance(data, Scattered) else data
            return self._pictures(whole, head.count)
        self._check_length(head.datatype, head.count, len(data))
        return data

    def _check_length(self, datatype: Datatype, count: int, length: int) -> None:
        expected = self._signature.input_bytes[datatype] * count
        if length != expected:
            raise InvalidRequest(
                f"the input has {length} bytes; "
                f"{datatype.name} {self._shape_text(datatype, count)} is {expected}"
            )

    def _shared(self, head: Head, part: Slice, raws: int) -> Data:
        """The tensor in the client's shared memory; pictures are read out of it at once."""
        if raws or head.contents is not None:
            raise InvalidRequest("the input comes twice, in shared memory and in the message")
        tensor = self._registered().tensor(part)
        if head.datatype is not None:
            self._check_length(head.datatype, head.count, len(tensor))
            return tensor
        most = head.count * (self._limits.max_image_bytes + LENGTH_PREFIX.size)
        if len(tensor) > most:
            raise InvalidRequest(f"the pictures have {len(tensor)} bytes; at most {most} are taken")
        content = bytearray(len(tensor))
        if not tensor.read_into(memoryview(content), 0):
            raise tensor.shrunk()
        return self._pictures(memoryview(content), head.count)

    def output(self, head: Head) -> Tensor | None:
        """Where in shared memory the result is wanted; None: in the answer. Raises as ``read``."""
        if head.output_slice is None:
            return None
        try:
            return self._registered().tensor(head.output_slice)
        except RequestError as error:
            error.view = head.view
            raise

    def _registered(self) -> ClientMemory:
        if self._memory is None:
            raise Unsupported(
                "tensors in a client's shared memory are not taken: send their bytes, or start "
                "the server with --client-shared-memory"
            )
        return self._memory

    def _pictures(self, data: memoryview, count: int) -> list[memoryview]:
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

    def _shape_text(self, datatype: Datatype, count: int | str) -> str:
        return f"[{','.join(map(str, (count, *self._signature.input_shapes[datatype])))}]"

    def _read_head(self, head: bytes, large_contents: bytes = b"") -> Head:
        """Reads everything but the raw tensor.

        Args:
            head: the message without it.
            large_contents: what ``split_contents`` cut out of that.
        """
        try:
            request = pb.ModelInferRequest.FromString(head)
        except DecodeError:
            raise InvalidRequest(NOT_A_REQUEST) from None
        view = self._resolve(request.model_name, request.model_version)
        try:
            return self._read_request(request, view, large_contents)
        except RequestError as error:
            error.view = view
            raise

    def _read_request(self, request: pb.ModelInferRequest, view: View, large: bytes) -> Head:
        if len(request.inputs) != 1:
            raise InvalidRequest(
                f"the model has one input, {INPUT_NAME!r}; the request has {len(request.inputs)}"
            )
        tensor = request.inputs[0]
        if tensor.name != INPUT_NAME:
            raise InvalidRequest(f"the input is called {INPUT_NAME!r}, not {tensor.name[:80]!r}")
        if tensor.datatype not in view.datatypes:
            raise InvalidRequest(
                f"{request.model_name} takes {' or '.join(view.datatypes)}, "
                f"not {tensor.datatype[:20]!r}"
            )
        datatype, count = self._read_shape(tensor)
        contents: bytes | tuple[bytes, ...] | None = None
        if large:
            parsed = self._parse_contents(large, datatype, count)
            contents = self._read_contents(parsed, datatype, count)
        elif tensor.HasField("contents"):
            contents = self._read_contents(tensor.contents, datatype, count)
        input_slice = self._read_slice(tensor.parameters)
        # Before anything else of the outputs: where shared memory is off, that is the answer.
        output_slice = None
        for output in request.outputs:
            output_slice = self._read_slice(output.parameters) or output_slice
        return Head(
            view=view,
            model_name=request.model_name,
            request_id=request.id,
            datatype=datatype,
            count=count,
            classification=self._read_outputs(request),
            timeout_s=_read_timeout(request),
            contents=contents,
            input_slice=input_slice,
            output_slice=output_slice,
        )

    def _read_slice(self, parameters: Mapping[str, pb.InferParameter]) -> Slice | None:
        """A slice of shared memory as Triton's clients name it; None where none is named."""
        if "shared_memory_region" not in parameters:
            return None
        self._registered()
        numbers = {"shared_memory_offset": 0, "shared_memory_byte_size": 0}
        for name in numbers:
            if name in parameters:
                value = _integer(parameters[name])
                if value is None or value < 0:
                    raise InvalidRequest(f"the parameter {name} takes a whole number of bytes")
                numbers[name] = value
        if not numbers["shared_memory_byte_size"]:
            raise InvalidRequest("the parameter shared_memory_byte_size is missing")
        return Slice(parameters["shared_memory_region"].string_param, *numbers.values())

    def _read_shape(
        self, tensor: pb.ModelInferRequest.InferInputTensor
    ) -> tuple[Datatype | None, int]:
        shape = tuple(tensor.shape)
        datatype: Datatype | None = None
        if tensor.datatype == "BYTES":
            if not self._takes_pictures:
                raise InvalidRequest("this model takes no encoded pictures")
            expected = "[n] or [n,1]"
            fits = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
        else:
            datatype = Datatype[tensor.datatype]
            if datatype not in self._signature.input_shapes:
                known = ", ".join(kind.name for kind in self._signature.datatypes)
                raise InvalidRequest(f"this model takes {known}, not {tensor.datatype}")
            expected = self._shape_text(datatype, "n")
            fits = shape[1:] == self._signature.input_shapes[datatype]
        if not fits or not shape:
            raise InvalidRequest(
                f"a {tensor.datatype} input has the shape {expected}, not {list(shape[:8])}"
            )
        if not 1 <= shape[0] <= self._limits.max_items:
            raise InvalidRequest(
                f"a request takes 1 to {self._limits.max_items} items, not {shape[0]}"
            )
        return datatype, shape[0]

    def _read_contents(
        self, contents: pb.InferTensorContents, datatype: Datatype | None, count: int
    ) -> bytes | tuple[bytes, ...]:
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
                f"{datatype.name} {self._shape_text(datatype, count)} is {expected}"
            )
        return expected

    def _parse_contents(
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

    def _read_outputs(self, request: pb.ModelInferRequest) -> int:
        """The classification asked for: as a request parameter, or as Triton's clients do."""
        if len(request.outputs) > 1:
            raise InvalidRequest(f"the model has one output, {OUTPUT_NAME!r}; ask for it once")
        wanted = [request.parameters]
        for output in request.outputs:
            if output.name != OUTPUT_NAME:
                raise InvalidRequest(
                    f"the output is called {OUTPUT_NAME!r}, not {output.name[:80]!r}"
                )
            wanted.append(output.parameters)
        for parameters in wanted:
            # Looking a missing key up in a protobuf map would insert it.
            if "classification" in parameters:
                top = _integer(parameters["classification"])
                if top is None or not 1 <= top <= self._limits.classes:
                    raise InvalidRequest(
                        f"classification takes a whole number from 1 to {self._limits.classes}"
                    )
                return top
        return 0


def _integer(parameter: pb.InferParameter) -> int | None:
    which = parameter.WhichOneof("parameter_choice")
    if which == "int64_param":
        return parameter.int64_param
    if which == "uint64_param":
        return parameter.uint64_param
    return None


def _read_timeout(request: pb.ModelInferRequest) -> float | None:
    """The parameter ``timeout``, microseconds on the wire; 0 means none, as in Triton."""
    if "timeout" not in request.parameters:
        return None
    timeout_us = _integer(request.parameters["timeout"])
    if timeout_us is None or timeout_us < 0:
        raise InvalidRequest("the parameter timeout takes a whole number of microseconds")
    return timeout_us / 1e6 if timeout_us else None
