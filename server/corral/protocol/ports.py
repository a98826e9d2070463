"""Requests to a model of several inputs, or of several outputs: each by its name. Pure."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

from google.protobuf.message import DecodeError

from corral.errors import InvalidRequest
from corral.protocol.contents import (
    ContentsReader,
    Limits,
    check_length,
    is_typed,
    read_typed,
    shape_text,
)
from corral.protocol.envelope import NOT_A_REQUEST
from corral.protocol.parameters import read_classification
from corral.protocol.scattered import Scattered
from corral.protocol.several import Several
from corral.protocol.shared_memory import ClientMemory, Slice, Tensor
from corral.tensors import Datatype, Signature, TensorSpec
from corral_protos import open_inference_pb2 as pb

#: a client's own words are quoted up to this length, and so many of them
_QUOTED_CHARS = 80
_QUOTED_NAMES = 8

#: reads where in shared memory a tensor lies, from its parameters
ReadSlice = Callable[[Mapping[str, pb.InferParameter]], Slice | None]


@dataclasses.dataclass(frozen=True, slots=True)
class InputHead:
    """One input of several, without its tensor.

    Attributes:
        spec: the model's.
        place: its entry of ``raw_input_contents``; None: the tensor is elsewhere.
        contents: the tensor where it came typed instead of raw.
        part: where it lies in the client's shared memory.
    """

    spec: TensorSpec
    place: int | None = None
    contents: bytes | None = None
    part: Slice | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """One output that is asked for.

    Attributes:
        index: among the model's outputs.
        name: as it was asked for.
        classification: top k wanted instead of the values; 0: the values.
        part: where in the client's shared memory it is wanted; None: in the answer.
    """

    index: int
    name: str
    classification: int = 0
    part: Slice | None = None


def check_names(kind: str, expected: Sequence[str], given: Sequence[str]) -> None:
    """Raises InvalidRequest, which tells all the names, unless each expected one is given once."""
    missing = [name for name in expected if name not in given]
    surplus = [name for name in given if name not in expected]
    twice = sorted({name for name in given if given.count(name) > 1 and name in expected})
    faults = [
        f"{what}: {_quoted(names)}"
        for what, names in (("missing", missing), ("unknown", surplus), ("given twice", twice))
        if names
    ]
    if faults:
        raise InvalidRequest(
            f"the model has {len(expected)} {kind}s, {_quoted(expected)}; {'; '.join(faults)}"
        )


def _quoted(names: Sequence[str]) -> str:
    shown = [repr(name[:_QUOTED_CHARS]) for name in names[:_QUOTED_NAMES]]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
    """Has what is wrong with one input of several begin with its name."""
    try:
        yield
    except InvalidRequest as error:
        raise InvalidRequest(f"the input {name[:_QUOTED_CHARS]!r}: {error}") from None


class PortsReader:
    """Reads what requests say of several inputs or outputs.

    Args:
        signature: the model's shapes.
        limits: what a request may ask for.
        contents: reads large typed contents.
        read_slice: reads where in shared memory a tensor lies.
    """

    def __init__(
        self,
        signature: Signature,
        limits: Limits,
        contents: ContentsReader,
        read_slice: ReadSlice,
    ) -> None:
        self._limits = limits
        self._contents = contents
        self._read_slice = read_slice
        self._inputs = signature.inputs
        self._specs = {spec.name: spec for spec in signature.inputs}
        self._outputs = signature.outputs
        self._indexes = {spec.name: index for index, spec in enumerate(signature.outputs)}
        if len(signature.outputs) == 1:
            self._indexes |= dict.fromkeys(signature.output_names, 0)

    # --- inputs ---

    def read_inputs(
        self, request: pb.ModelInferRequest, large: Sequence[bytes]
    ) -> tuple[tuple[InputHead, ...], int]:
        """All inputs in the model's order, and the number of items.

        Args:
            request: the request without its raw tensors.
            large: contents that were cut out of the inputs, in their order; empty: none were.
        """
        given = [tensor.name for tensor in request.inputs]
        check_names("input", [spec.name for spec in self._inputs], given)
        count = self._count(request.inputs[0])
        found: dict[str, InputHead] = {}
        raws = 0
        for index, tensor in enumerate(request.inputs):
            spec = self._specs[tensor.name]
            _check_form(tensor, spec, count)
            part = self._read_slice(tensor.parameters)
            contents = self._typed(tensor, spec, count, large[index] if large else b"")
            if part is not None and contents is not None:
                raise InvalidRequest(f"the input {spec.name!r} comes twice; send it once")
            if part is None and contents is None:
                found[spec.name] = InputHead(spec, place=raws)
                raws += 1
            else:
                found[spec.name] = InputHead(spec, None, contents, part)
        return tuple(found[spec.name] for spec in self._inputs), count

    def _count(self, tensor: pb.ModelInferRequest.InferInputTensor) -> int:
        count = tensor.shape[0] if tensor.shape else 0
        if not 1 <= count <= self._limits.max_items:
            raise InvalidRequest(
                f"a request takes 1 to {self._limits.max_items} items, not {count}"
            )
        return count

    def _typed(
        self,
        tensor: pb.ModelInferRequest.InferInputTensor,
        spec: TensorSpec,
        count: int,
        large: bytes,
    ) -> bytes | None:
        with naming(spec.name):
            if large:
                return read_typed(self._contents.parse(large, spec, count), spec, count)
            return read_typed(tensor.contents, spec, count) if is_typed(tensor) else None

    def data(
        self,
        inputs: Sequence[InputHead],
        count: int,
        raws: Sequence[memoryview | Scattered],
        memory: Callable[[], ClientMemory],
    ) -> Several:
        """The tensors where they lie.

        Args:
            inputs: as read.
            count: items.
            raws: the entries of ``raw_input_contents``.
            memory: the regions that clients registered.

        Raises:
            RequestError: they are not all there, or of another length.
        """
        places = {head.place: head.spec.name for head in inputs if head.place is not None}
        needed = [places[place] for place in sorted(places)]
        if len(raws) != len(needed):
            named = f": {_quoted(needed)}" if needed else ""
            raise InvalidRequest(
                f"{len(needed)} inputs need as many entries of raw_input_contents, there are "
                f"{len(raws)}{named}"
            )
        parts: list[memoryview | Tensor] = []
        for head in inputs:
            part: memoryview | Tensor
            if head.contents is not None:
                part = memoryview(head.contents)
            elif head.part is not None:
                part = memory().tensor(head.part)
            else:
                assert head.place is not None
                raw = raws[head.place]
                part = raw.joined() if isinstance(raw, Scattered) else raw
            check_length(head.spec, count, len(part))
            parts.append(part)
        return Several(parts)

    # --- outputs ---

    def read_outputs(self, request: pb.ModelInferRequest) -> tuple[Wanted, ...]:
        """The outputs that are asked for: all where none is named."""
        top = read_classification(request.parameters)
        if not request.outputs:
            wanted = [Wanted(index, spec.name) for index, spec in enumerate(self._outputs)]
            if not top:
                return tuple(wanted)
            if len(wanted) > 1:
                raise InvalidRequest(
                    "the model has several outputs: name the one that classification is for"
                )
            return (self._wanted(wanted[0].name, top, None),)
        given = [output.name for output in request.outputs]
        unknown = [name for name in given if name not in self._indexes]
        if unknown or len(set(given)) != len(given):
            names = [spec.name for spec in self._outputs]
            fault = f"unknown: {_quoted(unknown)}" if unknown else "one is asked for twice"
            raise InvalidRequest(
                f"the model has {len(names)} output{'s' * (len(names) > 1)}, {_quoted(names)}; "
                f"{fault}"
            )
        return tuple(
            self._wanted(
                output.name,
                read_classification(output.parameters) or top,
                self._read_slice(output.parameters),
            )
            for output in request.outputs
        )

    def _wanted(self, name: str, top: int, part: Slice | None) -> Wanted:
        index = self._indexes[name]
        spec = self._outputs[index]
        if top and spec.datatype is not Datatype.FP32:
            raise InvalidRequest(
                f"the output {name[:_QUOTED_CHARS]!r} is {spec.datatype.name}: classification "
                "takes FP32 scores"
            )
        # As Triton does: a client's own default of five suits an output of two classes.
        return Wanted(index, name, min(top, spec.size), part)


def _check_form(
    tensor: pb.ModelInferRequest.InferInputTensor, spec: TensorSpec, count: int
) -> None:
    """Raises InvalidRequest where datatype or shape are not the model's."""
    if tensor.datatype != spec.datatype.name:
        raise InvalidRequest(
            f"the input {spec.name!r} is {spec.datatype.name}, not {tensor.datatype[:20]!r}"
        )
    shape = tuple(tensor.shape)
    if shape[1:] != spec.shape or not shape:
        raise InvalidRequest(
            f"the input {spec.name!r} has the shape {shape_text(spec, 'n')}, not {list(shape[:8])}"
        )
    if shape[0] != count:
        raise InvalidRequest(
            f"all inputs have as many items: {spec.name!r} has {shape[0]}, the first one {count}"
        )


def parse_request(head: bytes) -> pb.ModelInferRequest:
    """The message that the bytes are. Raises InvalidRequest: they are none."""
    try:
        return pb.ModelInferRequest.FromString(head)
    except DecodeError:
        raise InvalidRequest(NOT_A_REQUEST) from None
