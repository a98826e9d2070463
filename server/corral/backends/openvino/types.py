"""The protocol's datatypes as OpenVINO names them, and arrays of them as its tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corral.errors import ModelError
from corral.tensors import Datatype, TensorSpec

if TYPE_CHECKING:
    import openvino

_NAMES = {
    Datatype.FP32: "f32",
    Datatype.UINT8: "u8",
    Datatype.BOOL: "boolean",
    Datatype.INT8: "i8",
    Datatype.INT16: "i16",
    Datatype.INT32: "i32",
    Datatype.INT64: "i64",
    Datatype.UINT16: "u16",
    Datatype.UINT32: "u32",
    Datatype.UINT64: "u64",
    Datatype.FP16: "f16",
    Datatype.BF16: "bf16",
    Datatype.FP64: "f64",
}
#: by OpenVINO's name
DATATYPES = {name: datatype for datatype, name in _NAMES.items()}


def type_name(datatype: Datatype) -> str:
    """OpenVINO's name of a datatype, "f32"."""
    return _NAMES[datatype]


def tensor(array: NDArray[np.generic], datatype: Datatype) -> openvino.Tensor:
    """A tensor that is the array's memory."""
    import openvino as ov

    if datatype is Datatype.BF16:
        # Of numpy's types none is BF16's: the array holds its 16 bits.
        return ov.Tensor(array, ov.Shape(array.shape), ov.Type.bf16)
    return ov.Tensor(array, shared_memory=True)


def indexes(ports: list[Any], specs: tuple[TensorSpec, ...], path: str) -> list[int]:
    """Which of a model's inputs or outputs each spec is, by name and datatype.

    Two outputs may be one tensor, which then has both names: each is taken once.

    Raises:
        ModelError: the model has others.
    """
    found: list[int] = []
    for spec in specs:
        fits = (
            index
            for index, port in enumerate(ports)
            if index not in found and spec.name in port.get_names()
        )
        index = next(fits, None)
        if index is None or ports[index].element_type.get_type_name() != type_name(spec.datatype):
            raise ModelError(
                f"the artefact {path} has no {spec.datatype.name} tensor {spec.name!r}"
            )
        found.append(index)
    if len(found) != len(ports):
        raise ModelError(f"the artefact {path} has {len(ports)} tensors where {len(found)} belong")
    return found
