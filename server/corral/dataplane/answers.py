"""What the engine gave for a request becomes its answer."""

from __future__ import annotations

import itertools

from corral.errors import InvalidRequest
from corral.ipc.messages import ServedModel
from corral.protocol.head import Head, Places
from corral.protocol.response import (
    Answer,
    Output,
    classification,
    encoded,
    encoded_tensor,
)
from corral.protocol.shared_memory import Tensor

#: the best classes of fewer scores are found at once: each may become 2 µs of text
_QUICK_BYTES = 8 * 2**10


def takes_long(head: Head, values: bytes | bytearray) -> bool:
    """Whether the answer is made in a thread: many scores become labels."""
    if len(values) <= _QUICK_BYTES:
        return False
    return bool(head.classification) or any(wanted.classification for wanted in head.wanted)


def encoded_answer(
    model: ServedModel, head: Head, places: Places, values: bytes | bytearray
) -> bytes:
    """The answer as a serialised ModelInferResponse; arguments and errors as of ``make_answer``."""
    if places is None and head.is_plain:
        shape = (head.count, *model.signature.output_shape)
        return encoded_tensor(
            head.model_name, head.request_id, "FP32", shape, values, output_name=head.output_name
        )
    return encoded(make_answer(model, head, places, values))


def make_answer(
    model: ServedModel, head: Head, places: Places, values: bytes | bytearray
) -> Answer:
    """The answer; with its outputs in the client's shared memory if wanted there.

    Args:
        model: what is served.
        head: the request's.
        places: see RequestReader.output.
        values: the engine's outputs for the request's items, each output whole.

    Raises:
        InvalidRequest: an output does not fit into its place.
    """
    if isinstance(places, tuple):
        return _by_name(model, head, places, values)
    name, request_id = head.model_name, head.request_id
    content, datatype = values, "FP32"
    shape: tuple[int, ...] = (head.count, *model.signature.output_shape)
    if head.classification:
        content = classification(bytes(values), model.classes, head.classification, model.labels)
        datatype, shape = "BYTES", (head.count, head.classification)
    if places is None:
        return Answer(name, request_id, datatype, shape, content, None, head.output_name)
    _write(places, content, "the output")
    part, wanted = head.output_slice, head.output_name
    return Answer(name, request_id, datatype, shape, b"", part, wanted)


def _by_name(
    model: ServedModel, head: Head, places: tuple[Tensor | None, ...], values: bytes | bytearray
) -> Answer:
    """The answer with the outputs that are wanted, where the model's have names."""
    whole = memoryview(values)
    # A request's outputs lie one behind another, each whole.
    sizes = [spec.item_bytes * head.count for spec in model.signature.outputs]
    starts = list(itertools.accumulate(sizes, initial=0))
    outputs = []
    for wanted, place in zip(head.wanted, places, strict=True):
        spec = model.signature.outputs[wanted.index]
        content: bytes | memoryview = whole[starts[wanted.index] : starts[wanted.index + 1]]
        datatype, shape = spec.datatype.name, (head.count, *spec.shape)
        if wanted.classification:
            labels = model.labels if spec.size == len(model.labels) else ()
            content = classification(bytes(content), spec.size, wanted.classification, labels)
            datatype, shape = "BYTES", (head.count, wanted.classification)
        if place is not None:
            _write(place, content, f"the output {wanted.name!r}")
            content = b""
        outputs.append(Output(wanted.name, datatype, shape, content, wanted.part))
    return Answer.of(head.model_name, head.request_id, tuple(outputs))


def _write(place: Tensor, content: bytes | bytearray | memoryview, what: str) -> None:
    """Leaves an output in the client's shared memory. Raises InvalidRequest: it does not fit."""
    if len(content) > len(place):
        raise InvalidRequest(
            f"{what} has {len(content)} bytes, its place in shared memory {len(place)}"
        )
    place.write(content)
