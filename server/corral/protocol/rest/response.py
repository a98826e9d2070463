"""The answer to an inference as JSON, with its tensor inside it or behind it."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from corral.protocol.response import Answer, Output
from corral.tensors import OUTPUT_NAME, Datatype

_VERSION = "1"
#: Values that become JSON at one go: no other thread runs meanwhile.
_VALUES_AT_ONCE = 2**14
_LENGTH_PREFIX = struct.Struct("<I")

Content = bytes | bytearray | memoryview


@functools.lru_cache(maxsize=1024)
def _frame(
    model_name: str, datatype: str, shape: tuple[int, ...], binary_bytes: int, name: str
) -> tuple[bytes, bytes]:
    """The JSON of an answer whose tensor follows it, in two halves: the id goes between them."""
    output = {
        "name": name,
        "datatype": datatype,
        "shape": shape,
        "parameters": {"binary_data_size": binary_bytes},
    }
    return _start(model_name), b',"outputs":[%b]}' % msgspec.json.encode(output)


@functools.lru_cache(maxsize=64)
def _start(model_name: str) -> bytes:
    head = msgspec.json.encode({"model_name": model_name, "model_version": _VERSION})
    return head[:-1]


def _id(request_id: str) -> bytes:
    return b',"id":%b' % msgspec.json.encode(request_id) if request_id else b""


def binary(
    model_name: str,
    request_id: str,
    datatype: str,
    shape: tuple[int, ...],
    content: Content,
    *,
    name: str = OUTPUT_NAME,
) -> tuple[bytes, int]:
    """An answer whose tensor follows the JSON.

    Args:
        model_name: as the client asked.
        request_id: echoed; may be empty.
        datatype: "FP32" or "BYTES".
        shape: the output's.
        content: its raw bytes, copied once.
        name: the output's.

    Returns:
        the body, and the length of its JSON.
    """
    start, end = _frame(model_name, datatype, shape, len(content), name)
    identity = _id(request_id)
    body = b"".join((start, identity, end, content))
    return body, len(body) - len(content)


def in_parts(answer: Answer, binary: Sequence[bool]) -> tuple[bytes, int]:
    """An answer of several outputs, or of one that is JSON or in the client's shared memory.

    A value that JSON has no word for, NaN or an infinity, is null.

    Args:
        answer: the answer.
        binary: whether each output follows the JSON; one value for all.

    Returns:
        the body, and the length of its JSON.
    """
    outputs = answer.outputs or (
        Output(answer.output_name, answer.datatype, answer.shape, answer.content, answer.part),
    )
    told: list[bytes] = []
    tail: list[Content] = []
    for output, behind in zip(outputs, _for_each(binary, len(outputs)), strict=True):
        page: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": output.shape,
        }
        # Of one in shared memory nothing more is told, as in Triton: its C++ client looks for
        # binary_data_size wherever there are parameters.
        if output.part is None and behind:
            page["parameters"] = {"binary_data_size": len(output.content)}
            tail.append(output.content)
        told += (b"," if told else b',"outputs":[', msgspec.json.encode(page))
        if output.part is None and not behind:
            told[-1] = told[-1][:-1]
            told += (b',"data":[', *_values(output.datatype, output.content), b"]}")
    head = (_start(answer.model_name), _id(answer.request_id), *told, b"]}")
    return b"".join((*head, *tail)), sum(map(len, head))


def _for_each(binary: Sequence[bool], count: int) -> Sequence[bool]:
    return binary if len(binary) == count else [binary[0]] * count


def _values(datatype: str, content: Content) -> Iterator[bytes]:
    """A tensor's values, row after row, as JSON has them, with commas between them."""
    values: NDArray[Any] | list[str]
    if datatype == "BYTES":
        values = [element.decode("utf-8", "replace") for element in elements(content)]
    else:
        kind = Datatype[datatype]
        values = np.frombuffer(content, kind.numpy)
        if kind is Datatype.BF16:
            values = (values.astype(np.uint32) << 16).view(np.float32)
    for at in range(0, len(values), _VALUES_AT_ONCE):
        if at:
            yield b","
        some = values[at : at + _VALUES_AT_ONCE]
        yield msgspec.json.encode(some if isinstance(some, list) else some.tolist())[1:-1]


def elements(content: Content) -> list[bytes]:
    """The elements of a BYTES tensor that the server itself made."""
    found: list[bytes] = []
    at = 0
    while at < len(content):
        (length,) = _LENGTH_PREFIX.unpack_from(content, at)
        at += _LENGTH_PREFIX.size
        found.append(bytes(content[at : at + length]))
        at += length
    return found


def labels(model_name: str, content: Content) -> bytes:
    """The answer to /classify.

    Args:
        model_name: as the client asked.
        content: BYTES [1,k] of "score:index:label", best first; the label may be missing.

    Returns:
        JSON: ``{"model_name": …, "model_version": "1", "labels": [{"label": …, "index": …,
        "score": …}, …]}``.
    """
    found = []
    for element in elements(content):
        score, index, *label = element.decode("utf-8", "replace").split(":", 2)
        found.append(
            {"label": label[0] if label else "", "index": int(index), "score": float(score)}
        )
    return b'%b,"labels":%b}' % (_start(model_name), msgspec.json.encode(found))
