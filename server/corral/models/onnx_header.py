"""The signature of an ONNX file, read with protobuf alone: no framework, no package of ONNX's.

Only the fields that matter here are declared; protobuf skips the others, weights included.
"""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from corral.errors import ModelError

#: message: field name -> (number, type or message, repeated)
_MESSAGES: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Dim": {"value": (1, "int64", False), "param": (2, "string", False)},
    "Shape": {"dim": (1, "Dim", True)},
    "TensorType": {"elem": (1, "int32", False), "shape": (2, "Shape", False)},
    "Type": {"tensor": (1, "TensorType", False)},
    "ValueInfo": {"name": (1, "string", False), "type": (2, "Type", False)},
    "Initializer": {"name": (8, "string", False)},
    "Graph": {
        "initializer": (5, "Initializer", True),
        "input": (11, "ValueInfo", True),
        "output": (12, "ValueInfo", True),
    },
    "Model": {"ir_version": (1, "int64", False), "graph": (7, "Graph", False)},
}
#: ONNX's numbers of datatypes, by the names that people know
DATATYPES = {
    1: "FP32", 2: "UINT8", 3: "INT8", 5: "INT16", 6: "INT32", 7: "INT64", 8: "STRING", 9: "BOOL",
    10: "FP16", 11: "FP64", 16: "BF16",
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
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"--model {path}: {error.strerror}") from None
    model = _model_class()()
    try:
        model.ParseFromString(content)
    except DecodeError:
        raise ModelError(f"--model {path}: not an ONNX file") from None
    if not model.ir_version or not model.graph.output:
        raise ModelError(f"--model {path}: not an ONNX file")
    # Old files list their weights among the inputs.
    weights = {weight.name for weight in model.graph.initializer}
    inputs = [_port(info) for info in model.graph.input if info.name not in weights]
    return inputs, [_port(info) for info in model.graph.output]


def _port(info: Any) -> Port:
    tensor = info.type.tensor
    shape = None
    if tensor.HasField("shape"):
        shape = tuple(dim.value if dim.HasField("value") else None for dim in tensor.shape.dim)
    return Port(info.name, DATATYPES.get(tensor.elem, f"type {tensor.elem}"), shape)


@functools.cache
def _model_class() -> Any:
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
