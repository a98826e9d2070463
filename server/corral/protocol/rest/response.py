"""The answer to an inference as JSON, with its tensor inside it or behind it."""

from __future__ import annotations

import functools
import struct
from typing import Any

import msgspec
import numpy as np

_VERSION = "1"
_OUTPUT = "output"
_LENGTH_PREFIX = struct.Struct("<I")

Content = bytes | bytearray | memoryview


@functools.lru_cache(maxsize=1024)
def _frame(
    model_name: str, datatype: str, shape: tuple[int, ...], binary_bytes: int
) -> tuple[bytes, bytes]:
    """The JSON of an answer whose tensor follows it, in two halves: the id goes between them."""
    output = {
        "name": _OUTPUT,
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
    model_name: str, request_id: str, datatype: str, shape: tuple[int, ...], content: Content
) -> tuple[bytes, int]:
    """An answer whose tensor follows the JSON.

    Args:
        model_name: as the client asked.
        request_id: echoed; may be empty.
        datatype: "FP32" or "BYTES".
        shape: the output's.
        content: its raw bytes, copied once.

    Returns:
        the body, and the length of its JSON.
    """
    start, end = _frame(model_name, datatype, shape, len(content))
    identity = _id(request_id)
    body = b"".join((start, identity, end, content))
    return body, len(body) - len(content)


def plain(
    model_name: str, request_id: str, datatype: str, shape: tuple[int, ...], content: Content
) -> bytes:
    """An answer with its tensor as JSON; see ``binary``.

    A value that JSON has no word for, NaN or an infinity, is null.
    """
    data: list[Any]
    if datatype == "BYTES":
        data = [element.decode("utf-8", "replace") for element in elements(content)]
    else:
        data = np.frombuffer(content, "<f4").tolist()
    output = {"name": _OUTPUT, "datatype": datatype, "shape": shape, "data": data}
    return _join(model_name, request_id, output)


def in_memory(
    model_name: str,
    request_id: str,
    datatype: str,
    shape: tuple[int, ...],
    region: tuple[str, int, int],
) -> bytes:
    """An answer whose tensor lies in the client's shared memory.

    Args:
        model_name, request_id, datatype, shape: see ``binary``.
        region: its name, the offset in it, the bytes from there.
    """
    name, offset, byte_size = region
    parameters = {
        "shared_memory_region": name,
        "shared_memory_offset": offset,
        "shared_memory_byte_size": byte_size,
    }
    output = {"name": _OUTPUT, "datatype": datatype, "shape": shape, "parameters": parameters}
    return _join(model_name, request_id, output)


def _join(model_name: str, request_id: str, output: dict[str, Any]) -> bytes:
    encoded = msgspec.json.encode(output)
    return b'%b%b,"outputs":[%b]}' % (_start(model_name), _id(request_id), encoded)


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
