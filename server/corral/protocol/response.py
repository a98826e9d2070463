"""ModelInfer's answers, as bytes."""

from __future__ import annotations

import dataclasses
import functools
import struct

import numpy as np

from corral.protocol.envelope import varint
from corral.protocol.shared_memory import Slice
from corral_protos import open_inference_pb2 as pb

#: requests are answered under this name, and asked under this one
OUTPUT_NAME = "output"
INPUT_NAME = "input"
_RAW_OUTPUT_TAG = b"\x32"
_ID_TAG = b"\x1a"
LENGTH_PREFIX = struct.Struct("<I")


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a ModelInfer request is answered with.

    Attributes:
        model_name: as the client asked.
        request_id: echoed; may be empty.
        datatype: "FP32" or "BYTES".
        shape: the output's.
        content: its raw bytes; empty where they lie in the client's shared memory.
        part: where there; None: in the answer.
    """

    model_name: str
    request_id: str
    datatype: str
    shape: tuple[int, ...]
    content: bytes | bytearray | memoryview
    part: Slice | None = None


def encoded(answer: Answer) -> bytes:
    """The answer as a serialised ModelInferResponse."""
    if answer.part is not None:
        return response_in_memory(
            answer.model_name, answer.request_id, answer.datatype, answer.shape, answer.part
        )
    return response(
        answer.model_name, answer.request_id, answer.datatype, answer.shape, answer.content
    )


@functools.lru_cache(maxsize=1024)
def _response_head(
    model_name: str, datatype: str, shape: tuple[int, ...], content_bytes: int
) -> tuple[bytes, bytes]:
    output = pb.ModelInferResponse.InferOutputTensor(
        name=OUTPUT_NAME, datatype=datatype, shape=shape
    )
    head = pb.ModelInferResponse(model_name=model_name, model_version="1", outputs=[output])
    return head.SerializeToString(), _RAW_OUTPUT_TAG + varint(content_bytes)


def response(
    model_name: str,
    request_id: str,
    datatype: str,
    shape: tuple[int, ...],
    content: bytes | bytearray | memoryview,
) -> bytes:
    """Serialises a ModelInferResponse with one output.

    Args:
        model_name: as the client asked.
        request_id: echoed; may be empty.
        datatype: "FP32" or "BYTES".
        shape: the output's.
        content: its raw bytes, copied once.
    """
    head, raw_head = _response_head(model_name, datatype, shape, len(content))
    if not request_id:
        return b"".join((head, raw_head, content))
    encoded = request_id.encode()
    return b"".join((head, _ID_TAG, varint(len(encoded)), encoded, raw_head, content))


def response_in_memory(
    model_name: str, request_id: str, datatype: str, shape: tuple[int, ...], part: Slice
) -> bytes:
    """Serialises a ModelInferResponse whose output lies in the client's shared memory."""
    output = pb.ModelInferResponse.InferOutputTensor(
        name=OUTPUT_NAME, datatype=datatype, shape=shape
    )
    output.parameters["shared_memory_region"].string_param = part.region
    output.parameters["shared_memory_offset"].int64_param = part.offset
    output.parameters["shared_memory_byte_size"].int64_param = part.byte_size
    return pb.ModelInferResponse(
        model_name=model_name,
        model_version="1",
        id=request_id,
        outputs=[output],
        raw_output_contents=[b""],
    ).SerializeToString()


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
    parts: list[bytes] = []
    for row, indexes in zip(scores, best, strict=True):
        for index in indexes.tolist():
            label = f":{labels[index]}" if index < len(labels) else ""
            text = f"{row[index]:f}:{index}{label}".encode()
            parts += (LENGTH_PREFIX.pack(len(text)), text)
    return b"".join(parts)
