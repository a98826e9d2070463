"""The signature of an ONNX file, read with protobuf alone: no framework, no package of ONNX's.

Only the fields that matter here are declared; protobuf skips the others, weights included.
Where weights lie in files beside it, it says in which ones.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from corral.errors import ModelError

#: message: field name -> (number, type or message, repeated); names need not be UTF-8
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Dim": {"value": (1, "int64", False)},
    "Shape": {"dim": (1, "Dim", True)},
    "TensorType": {"elem": (1, "int32", False), "shape": (2, "Shape", False)},
    "Type": {"tensor": (1, "TensorType", False)},
    "ValueInfo": {"name": (1, "bytes", False), "type": (2, "Type", False)},
    "Entry": {"key": (1, "bytes", False), "value": (2, "bytes", False)},
    "Tensor": {
        "name": (8, "bytes", False),
        "external": (13, "Entry", True),
        "location": (14, "int32", False),
    },
    "Sparse": {"values": (1, "Tensor", False), "indices": (2, "Tensor", False)},
    "Attribute": {
        "tensor": (5, "Tensor", False),
        "graph": (6, "Graph", False),
        "tensors": (10, "Tensor", True),
        "graphs": (11, "Graph", True),
        "sparse": (22, "Sparse", False),
    },
    "Node": {"op_type": (4, "bytes", False), "attribute": (5, "Attribute", True)},
    "Graph": {
        "node": (1, "Node", True),
        "initializer": (5, "Tensor", True),
        "input": (11, "ValueInfo", True),
        "output": (12, "ValueInfo", True),
        "sparse": (15, "Sparse", True),
    },
    "Function": {"node": (7, "Node", True)},
    "Model": {
        "ir_version": (1, "int64", False),
        "graph": (7, "Graph", False),
        "function": (25, "Function", True),
    },
}
#: of a tensor's location: its content is in another file
_EXTERNAL = 1
_EXTENT = (b"offset", b"length")
#: numbers of 64 bits have no more
_DIGITS = re.compile("[0-9]{1,19}")
#: ONNX's numbers of datatypes, by the names that people know
DATATYPES = {
    1: "FP32", 2: "UINT8", 3: "INT8", 4: "UINT16", 5: "INT16", 6: "INT32", 7: "INT64", 8: "STRING",
    9: "BOOL", 10: "FP16", 11: "FP64", 12: "UINT32", 13: "UINT64", 16: "BF16",
    # None of them is served; a refusal names them.
    14: "COMPLEX64", 15: "COMPLEX128", 17: "FLOAT8E4M3FN", 18: "FLOAT8E4M3FNUZ", 19: "FLOAT8E5M2",
    20: "FLOAT8E5M2FNUZ", 21: "UINT4", 22: "INT4", 23: "FLOAT4E2M1",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Port:
    """An input or output: its name, datatype, and shape with None where it is dynamic.

    The shape itself is None where the rank is.
    """

    name: str
    datatype: str
    shape: tuple[int | None, ...] | None


def read_ports(path: Path) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs of an ONNX file.

    Raises:
        ModelError: it cannot be read, or is no ONNX file.
    """
    graph = _parse(path).graph
    # Old files list their weights among the inputs.
    weights = {weight.name for weight in graph.initializer}
    inputs = [_port(info) for info in graph.input if info.name not in weights]
    return inputs, [_port(info) for info in graph.output]


def read_locations(path: Path) -> dict[str, int]:
    """Paths of the files that hold weights of an ONNX file, as it writes them, sorted.

    Each goes with the bytes that it must have, 0 where the file does not say.

    Raises:
        ModelError: it cannot be read, is no ONNX file, or says where weights lie by no number.
    """
    model = _parse(path)
    nodes = [node for function in model.function for node in function.node]
    tensors = [*_tensors(model.graph), *_tensors_of(nodes)]
    found: dict[str, int] = {}
    for tensor in tensors:
        entries = {entry.key: entry.value for entry in tensor.external}
        if tensor.location == _EXTERNAL and b"location" in entries:
            name = os.fsdecode(entries[b"location"])
            given = {key: os.fsdecode(entries[key]) for key in _EXTENT if key in entries}
            if odd := next((key for key in given if not _DIGITS.fullmatch(given[key])), None):
                told = f"the {odd.decode()} of {tensor.name.decode(errors='replace')!r}"
                raise ModelError(
                    f"--model {path}: {told} in its weights {name!r} is {given[odd][:40]!r}, and "
                    "no number of bytes: export it anew"
                )
            found[name] = max(found.get(name, 0), sum(map(byte_count, given.values())))
    return dict(sorted(found.items()))


def byte_count(text: str) -> int:
    """A number of bytes as a model file writes it; 0 for what is none."""
    return int(text) if _DIGITS.fullmatch(text) else 0


def read_operators(path: Path) -> set[str]:
    """Names of the operators in an ONNX file, functions and nested graphs included.

    Raises:
        ModelError: it cannot be read, or is no ONNX file.
    """
    model = _parse(path)
    nodes = [*_nodes(model.graph.node)]
    for function in model.function:
        nodes += _nodes(function.node)
    return {node.op_type.decode(errors="replace") for node in nodes}


def _nodes(nodes: Iterable[Any]) -> Iterator[Any]:
    """Nodes, and those of the graphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.graph, *attribute.graphs):
                yield from _nodes(graph.node)


def _tensors(graph: Any) -> Iterator[Any]:
    """All constants of a graph, and of the graphs inside its nodes."""
    yield from graph.initializer
    for sparse in graph.sparse:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of(graph.node)


def _tensors_of(nodes: Iterable[Any]) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.tensor, *attribute.tensors)
            yield from (attribute.sparse.values, attribute.sparse.indices)
            for graph in (attribute.graph, *attribute.graphs):
                yield from _tensors(graph)


def _parse(path: Path) -> Any:
    # Every command looks for models, and most are of the zoo.
    from google.protobuf.message import DecodeError

    model = _model_class()()
    try:
        model.ParseFromString(path.read_bytes())
    except OSError as error:
        raise ModelError(f"--model {path}: {error.strerror}") from None
    except DecodeError:
        raise ModelError(f"--model {path}: not an ONNX file") from None
    if not model.ir_version or not model.graph.output:
        raise ModelError(f"--model {path}: not an ONNX file")
    return model


def _port(info: Any) -> Port:
    tensor = info.type.tensor
    shape = None
    if tensor.HasField("shape"):
        # Dynamic is an absent value, which reads as 0, and what some exporters write: 0 and -1.
        shape = tuple(dim.value if dim.value > 0 else None for dim in tensor.shape.dim)
    name = info.name.decode(errors="replace")
    return Port(name, DATATYPES.get(tensor.elem, f"type {tensor.elem}"), shape)


@functools.cache
def _model_class() -> Any:
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(
        name="corral_onnx.proto", package="corral_onnx", syntax="proto2"
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for message, fields in _MESSAGES.items():
        declared = file.message_type.add(name=message)
        for name, (number, kind, repeated) in fields.items():
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            field = declared.field.add(name=name, number=number, label=label)
            if kind in _MESSAGES:
                field.type = kinds.TYPE_MESSAGE
                field.type_name = f".corral_onnx.{kind}"
            else:
                field.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("corral_onnx.Model"))
