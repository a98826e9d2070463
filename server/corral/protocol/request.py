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

from google.protobuf.message import DecodeError

from corral.errors import InvalidRequest, RequestError, Unsupported
from corral.protocol.contents import ContentsReader, Limits
from corral.protocol.envelope import (
    MAX_HEAD_BYTES,
    NOT_A_REQUEST,
    split,
    split_contents,
    tail,
)
from corral.protocol.parameters import integer, read_timeout
from corral.protocol.response import INPUT_NAME, LENGTH_PREFIX, OUTPUT_NAME
from corral.protocol.scattered import Scattered
from corral.protocol.shared_memory import ClientMemory, Slice, Tensor
from corral.tensors import Datatype, Signature, View
from corral_protos import open_inference_pb2 as pb

#: heads up to this size are remembered: a client sends the same one again and again
_CACHEABLE_HEAD_BYTES = 512
#: a request's tensor where it lies: in the message, in shared memory, or as encoded pictures
Data = memoryview | Scattered | Tensor | list[memoryview]


@dataclasses.dataclass(frozen=True, slots=True)
class Head:
    """Everything of a request but its tensor.

    Attributes:
        view: which of the model's signatures was asked for, see tensors.View.
        datatype: None when the input is encoded pictures (BYTES).
        count: items, 1 or more.
        classification: top k wanted, at most all classes; 0 for the logits.
        timeout_s: the request parameter ``timeout``: how long it will wait in the queue, where
            the server bounds that; None when not given.
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
        self._contents = ContentsReader(signature, limits)
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

    def read_pieces(self, pieces: list[bytes | memoryview]) -> tuple[Head, Data]:
        """Reads a ModelInferRequest that came in pieces, and leaves its tensor in them.

        Args:
            pieces: emptied where they had to be joined, so that nobody holds them twice.

        Returns, raises: as ``read``.
        """
        first = pieces[0] if pieces else b""
        found = tail(first, sum(map(len, pieces)))
        if found is None or found[0] > _CACHEABLE_HEAD_BYTES:
            message = b"".join(pieces)
            pieces.clear()
            return self.read(message)
        end, start = found
        head = self._remembered(bytes(first[:end]))
        rest = memoryview(first)[start:]
        if len(pieces) == 1:
            return head, self.data(head, (rest,))
        raw = Scattered([rest, *pieces[1:]])
        if head.datatype is None:
            # Pictures are decoded out of one piece.
            pieces.clear()
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
            return self._contents.pictures(whole, head.count)
        self._contents.check_length(head.datatype, head.count, len(data))
        return data

    def _shared(self, head: Head, part: Slice, raws: int) -> Data:
        """The tensor in the client's shared memory; pictures are read out of it at once."""
        if raws or head.contents is not None:
            raise InvalidRequest("the input comes twice, in shared memory and in the message")
        tensor = self._registered().tensor(part)
        if head.datatype is not None:
            self._contents.check_length(head.datatype, head.count, len(tensor))
            return tensor
        most = head.count * (self._limits.max_image_bytes + LENGTH_PREFIX.size)
        if len(tensor) > most:
            raise InvalidRequest(f"the pictures have {len(tensor)} bytes; at most {most} are taken")
        content = bytearray(len(tensor))
        if not tensor.read_into(memoryview(content), 0):
            raise tensor.shrunk()
        return self._contents.pictures(memoryview(content), head.count)

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
            parsed = self._contents.parse(large, datatype, count)
            contents = self._contents.read(parsed, datatype, count)
        elif tensor.HasField("contents"):
            contents = self._contents.read(tensor.contents, datatype, count)
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
            timeout_s=read_timeout(request),
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
                value = integer(parameters[name])
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
            expected = self._contents.shape_text(datatype, "n")
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
                top = integer(parameters["classification"])
                if top is None or top < 1:
                    raise InvalidRequest("classification takes a whole number, 1 or more")
                # As Triton does: a client's own default of five suits a model of two classes.
                return min(top, self._limits.classes)
        return 0
