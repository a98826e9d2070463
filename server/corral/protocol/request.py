"""The messages of ModelInfer, read and written without copying what is large.

A request's tensor lies in ``raw_input_contents``, which every client writes as the message's
tail. ``envelope.split`` finds it in place, and protobuf parses the small rest only. Pure. Nothing
is allocated by a claim of the client's: shapes and counts are checked against the bytes there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from corral.errors import InvalidRequest, RequestError, Unsupported
from corral.protocol.contents import ContentsReader, Limits, check_length, is_typed, shape_text
from corral.protocol.envelope import (
    MAX_HEAD_BYTES,
    split,
    split_all_contents,
    split_contents,
)
from corral.protocol.head import Data, Head, Places
from corral.protocol.known_heads import CACHEABLE_BYTES, KnownHeads
from corral.protocol.labels import without_labels
from corral.protocol.parameters import read_classification, read_priority, read_slice, read_timeout
from corral.protocol.ports import PortsReader, parse_request
from corral.protocol.response import LENGTH_PREFIX
from corral.protocol.scattered import Scattered
from corral.protocol.shared_memory import ClientMemory, Slice
from corral.tensors import Datatype, Signature, View
from corral_protos import open_inference_pb2 as pb


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
        #: datatypes of the view for tensors
        self._takes = (
            View.TENSOR.datatypes
            if signature.takes_pictures
            else tuple(datatype.name for datatype in signature.datatypes)
        )
        self._input_names = signature.input_names
        self._item_bytes = signature.input_bytes
        self._output_name = signature.output_names[0]
        self._limits = limits
        self._resolve = resolve
        self._contents = ContentsReader(signature, limits)
        self._ports = PortsReader(signature, limits, self._contents, self._read_slice)
        #: whether the model has more than one input
        self.several_inputs = bool(signature.inputs)
        #: see protocol.labels.without_labels
        self.without_labels = without_labels(signature)
        self._known = KnownHeads(self._read_head)

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
        if len(head_bytes) <= CACHEABLE_BYTES:
            head = self._known.of(head_bytes)
        elif len(head_bytes) <= MAX_HEAD_BYTES:
            head = self._read_head(head_bytes)
        elif self.several_inputs:
            head = self._read_head(*split_all_contents(head_bytes))
        else:
            small, contents = split_contents(head_bytes)
            head = self._read_head(small, (contents,))
        whole = memoryview(message)
        return head, self.data(head, [whole[start:end] for start, end in raws])

    def read_pieces(self, pieces: list[bytes | memoryview]) -> tuple[Head, Data]:
        """Reads a ModelInferRequest that came in pieces, and leaves its tensor in them.

        Args:
            pieces: emptied where they had to be joined, so that nobody holds them twice.

        Returns, raises: as ``read``.
        """
        first = pieces[0] if pieces else b""
        found = self._known.before(first, sum(map(len, pieces)))
        if found is None:
            message = b"".join(pieces)
            pieces.clear()
            return self.read(message)
        head, start = found
        rest = memoryview(first)[start:]
        raw = rest if len(pieces) == 1 else Scattered([rest, *pieces[1:]])
        if head.raw_bytes == len(raw):
            return head, raw
        if len(pieces) == 1:
            return head, self.data(head, (raw,))
        if head.datatype is None:
            # Pictures are decoded out of one piece.
            pieces.clear()
        return head, self.data(head, (raw,))

    def read_head(self, request: pb.ModelInferRequest) -> Head:
        """Reads a request that holds no tensor, raw or typed; raises as ``read``."""
        return self._read_head(request.SerializeToString())

    def data(self, head: Head, raws: Sequence[memoryview | Scattered]) -> Data:
        """The tensor of a request whose head was read; raises as ``read``.

        Args:
            head: the request's.
            raws: its entries of ``raw_input_contents``.
        """
        try:
            return self._data(head, raws)
        except RequestError as error:
            error.view = head.view
            raise

    def _data(self, head: Head, raws: Sequence[memoryview | Scattered]) -> Data:
        if head.inputs:
            return self._ports.data(head.inputs, head.count, raws, self._registered)
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
        if len(data) != self._item_bytes[head.datatype] * head.count:
            check_length(self._contents.spec(head.datatype), head.count, len(data))
        return data

    def _shared(self, head: Head, part: Slice, raws: int) -> Data:
        """The tensor in the client's shared memory; pictures are read out of it at once."""
        if raws or head.contents is not None:
            raise InvalidRequest("the input comes twice, in shared memory and in the message")
        tensor = self._registered().tensor(part)
        if head.datatype is not None:
            check_length(self._contents.spec(head.datatype), head.count, len(tensor))
            return tensor
        most = head.count * (self._limits.max_image_bytes + LENGTH_PREFIX.size)
        if len(tensor) > most:
            raise InvalidRequest(f"the pictures have {len(tensor)} bytes; at most {most} are taken")
        content = bytearray(len(tensor))
        if not tensor.read_into(memoryview(content), 0):
            raise tensor.shrunk()
        return self._contents.pictures(memoryview(content), head.count)

    def output(self, head: Head) -> Places:
        """Where in shared memory the result is wanted; None: in the answer. Raises as ``read``."""
        if head.output_slice is None and not head.wanted:
            return None
        try:
            if head.output_slice is not None:
                return self._registered().tensor(head.output_slice)
            parts = [wanted.part for wanted in head.wanted]
            return tuple(
                None if part is None else self._registered().tensor(part) for part in parts
            )
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

    def _read_head(self, head: bytes, large_contents: tuple[bytes, ...] = ()) -> Head:
        """Reads everything but the raw tensor.

        Args:
            head: the message without it.
            large_contents: what ``split_contents`` cut out of that, an input each.
        """
        request = parse_request(head)
        view = self._resolve(request.model_name, request.model_version)
        try:
            read = self._read_request(request, view, large_contents)
        except RequestError as error:
            error.view = view
            raise
        raw_bytes = -1
        special = read.inputs or read.input_slice or read.contents is not None
        if read.datatype is not None and not special:
            raw_bytes = self._item_bytes[read.datatype] * read.count
        is_plain = not (read.classification or read.wanted or read.output_slice)
        return dataclasses.replace(read, raw_bytes=raw_bytes, is_plain=is_plain)

    def _read_request(
        self, request: pb.ModelInferRequest, view: View, large: tuple[bytes, ...]
    ) -> Head:
        if self.several_inputs:
            inputs, count = self._ports.read_inputs(request, large)
            head = Head(
                view=view,
                model_name=request.model_name,
                request_id=request.id,
                datatype=self._signature.native,
                count=count,
                classification=0,
                timeout_s=read_timeout(request),
                priority=read_priority(request),
                contents=None,
                inputs=inputs,
            )
        else:
            head = self._read_single(request, view, large)
        return self._with_outputs(head, request)

    def _with_outputs(self, head: Head, request: pb.ModelInferRequest) -> Head:
        """The head with what is asked of the outputs."""
        if self._signature.outputs:
            return dataclasses.replace(head, wanted=self._ports.read_outputs(request))
        # Before anything else of the outputs: where shared memory is off, that is the answer.
        output_slice = None
        for output in request.outputs:
            output_slice = self._read_slice(output.parameters) or output_slice
        return dataclasses.replace(
            head,
            classification=self._read_outputs(request),
            output_slice=output_slice,
            output_name=request.outputs[0].name if request.outputs else self._output_name,
        )

    def _read_single(
        self, request: pb.ModelInferRequest, view: View, large: tuple[bytes, ...]
    ) -> Head:
        if len(request.inputs) != 1:
            raise InvalidRequest(
                f"the model has one input, {self._input_names[0]!r}; "
                f"the request has {len(request.inputs)}"
            )
        tensor = request.inputs[0]
        if tensor.name not in self._input_names:
            raise InvalidRequest(
                f"the input is called {self._input_names[0]!r}, not {tensor.name[:80]!r}"
            )
        takes = self._takes if view is View.TENSOR else view.datatypes
        if tensor.datatype not in takes:
            pictures = tensor.datatype == "BYTES" and not self._signature.takes_pictures
            raise InvalidRequest(
                f"{request.model_name} takes {' or '.join(takes)}, not {tensor.datatype[:20]!r}"
                + ": pictures need [preprocessing] beside its file" * pictures
            )
        datatype, count = self._read_shape(tensor)
        contents: bytes | tuple[bytes, ...] | None = None
        spec = None if datatype is None else self._contents.spec(datatype)
        if large:
            parsed = self._contents.parse(large[0], spec, count)
            contents = self._contents.read(parsed, spec, count)
        elif is_typed(tensor):
            contents = self._contents.read(tensor.contents, spec, count)
        return Head(
            view=view,
            model_name=request.model_name,
            request_id=request.id,
            datatype=datatype,
            count=count,
            classification=0,
            timeout_s=read_timeout(request),
            priority=read_priority(request),
            contents=contents,
            input_slice=self._read_slice(tensor.parameters),
        )

    def _read_slice(self, parameters: Mapping[str, pb.InferParameter]) -> Slice | None:
        """A slice of shared memory as Triton's clients name it; None where none is named."""
        if "shared_memory_region" not in parameters:
            return None
        self._registered()
        return read_slice(parameters)

    def _read_shape(
        self, tensor: pb.ModelInferRequest.InferInputTensor
    ) -> tuple[Datatype | None, int]:
        shape = tuple(tensor.shape)
        datatype: Datatype | None = None
        if tensor.datatype == "BYTES":
            expected = "[n] or [n,1]"
            fits = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
        else:
            datatype = Datatype[tensor.datatype]
            expected = shape_text(self._contents.spec(datatype), "n")
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
            raise InvalidRequest(
                f"the model has one output, {self._output_name!r}; ask for it once"
            )
        wanted = [request.parameters]
        for output in request.outputs:
            if output.name not in self._signature.output_names:
                raise InvalidRequest(
                    f"the output is called {self._output_name!r}, not {output.name[:80]!r}"
                )
            wanted.append(output.parameters)
        for parameters in wanted:
            if top := read_classification(parameters):
                # As Triton does: a client's own default of five suits a model of two classes.
                return min(top, self._limits.classes)
        return 0
