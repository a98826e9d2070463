"""ModelInfer's answers, as bytes."""

from __future__ import annotations

import dataclasses
import functools
import struct

import msgspec
import numpy as np

from corral.protocol.envelope import varint
from corral.protocol.shared_memory import Slice
from corral.tensors import OUTPUT_NAME
from corral_protos import open_inference_pb2 as pb

_RAW_OUTPUT_TAG = b"\x32"
_ID_TAG = b"\x1a"
LENGTH_PREFIX = struct.Struct("<I")


@dataclasses.dataclass(frozen=True, slots=True)
class Output:
    """One output of several in an answer; the attributes are those of ``Answer``."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: bytes | bytearray | memoryview
    part: Slice | None = None


class Answer(msgspec.Struct, frozen=True):
    """What a ModelInfer request is answered with.

    Attributes:
        model_name: as the client asked.
        request_id: echoed; may be empty.
        datatype: "FP32", "BYTES" for labels, or another of the protocol's.
        shape: the output's.
        content: its raw bytes; empty where they lie in the client's shared memory.
        part: where there; None: in the answer.
        output_name: what the output is called.
        outputs: all of them, where the model's outputs have names; the first is that of above.
    """

    model_name: str
    request_id: str
    datatype: str
    shape: tuple[int, ...]
    content: bytes | bytearray | memoryview
    part: Slice | None = None
    output_name: str = OUTPUT_NAME
    outputs: tuple[Output, ...] = ()

    @classmethod
    def of(cls, model_name: str, request_id: str, outputs: tuple[Output, ...]) -> Answer:
        """The answer with outputs by name, one or more."""
        first = outputs[0]
        return cls(
            model_name,
            request_id,
            first.datatype,
            first.shape,
            first.content,
            first.part,
            first.name,
            outputs,
        )


def encoded(answer: Answer) -> bytes:
    """The answer as a serialised ModelInferResponse."""
    if answer.part is not None or answer.outputs:
        return _response_in_parts(answer)
    return encoded_tensor(
        answer.model_name,
        answer.request_id,
        answer.datatype,
        answer.shape,
        answer.content,
        output_name=answer.output_name,
    )


def encoded_tensor(
    model_name: str,
    request_id: str,
    datatype: str,
    shape: tuple[int, ...],
    content: bytes | bytearray | memoryview,
    *,
    output_name: str,
) -> bytes:
    """The same of an answer with one output, in the message; the arguments are those of Answer."""
    head, raw_head = _response_head(model_name, datatype, shape, len(content), output_name)
    if not request_id:
        return b"".join((head, raw_head, content))
    identity = request_id.encode()
    return b"".join((head, _ID_TAG, varint(len(identity)), identity, raw_head, content))


@functools.lru_cache(maxsize=1024)
def _response_head(
    model_name: str, datatype: str, shape: tuple[int, ...], content_bytes: int, name: str
) -> tuple[bytes, bytes]:
    output = pb.ModelInferResponse.InferOutputTensor(name=name, datatype=datatype, shape=shape)
    head = pb.ModelInferResponse(model_name=model_name, model_version="1", outputs=[output])
    return head.SerializeToString(), _RAW_OUTPUT_TAG + varint(content_bytes)


def _response_in_parts(answer: Answer) -> bytes:
    """Serialises an answer of several outputs, or of one in the client's shared memory.

    As Triton does, an output in shared memory has an empty entry among the raw contents.
    """
    outputs = answer.outputs or (
        Output(answer.output_name, answer.datatype, answer.shape, answer.content, answer.part),
    )
    head = pb.ModelInferResponse(
        model_name=answer.model_name, model_version="1", id=answer.request_id
    )
    for output in outputs:
        told = head.outputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        if output.part is not None:
            told.parameters["shared_memory_region"].string_param = output.part.region
            told.parameters["shared_memory_offset"].int64_param = output.part.offset
            told.parameters["shared_memory_byte_size"].int64_param = output.part.byte_size
    parts: list[bytes | bytearray | memoryview] = [head.SerializeToString()]
    for output in outputs:
        parts += (_RAW_OUTPUT_TAG, varint(len(output.content)), output.content)
    return b"".join(parts)


def classification(logits: bytes, classes: int, top: int, labels: tuple[str, ...]) -> bytes:
    """The top ``top`` of each item as a BYTES tensor of "score:index:label", best first.

    Args:
        logits: FP32 [n,classes].
        classes: length of one item's logits.
        top: how many, 1 to classes.
        labels: by index; an index beyond them gets no label.

    Returns:
        the raw content of a BYTES [n,top] tensor.
    """
    scores = np.frombuffer(logits, np.float32).reshape(-1, classes)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    content = bytearray()
    for row, indexes in zip(scores, best, strict=True):
        for index in indexes.tolist():
            label = f":{labels[index]}" if index < len(labels) else ""
            text = f"{row[index]:f}:{index}{label}".encode()
            content += LENGTH_PREFIX.pack(len(text))
            content += text
    return bytes(content)
