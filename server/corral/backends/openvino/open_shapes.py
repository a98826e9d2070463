"""Outputs whose shape a graph leaves open: what two runs show, on zeros and on noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import openvino

Shape = tuple[int, ...]


def shapes_by_values(
    compiled: openvino.CompiledModel, inputs: Sequence[Sequence[int]]
) -> list[tuple[Shape, Shape]]:
    """Each output's shape for zeros, and for noise: another one hangs on the values.

    Args:
        compiled: what is run, twice.
        inputs: the shape of each input.

    Raises:
        RuntimeError: it does not run.
    """
    import openvino as ov

    request = compiled.create_infer_request()
    outputs = range(len(compiled.outputs))
    seen: list[list[Shape]] = []
    for noisy in (False, True):
        for index, (port, shape) in enumerate(zip(compiled.inputs, inputs, strict=True)):
            tensor = ov.Tensor(port.element_type, ov.Shape(list(shape)))
            raw = tensor.data.view(np.uint8) if tensor.data.size else tensor.data
            raw[:] = 0
            # numpy knows no BF16.
            if noisy and port.element_type.get_type_name() != "bf16":
                noise = np.random.default_rng(0).random(tuple(shape))
                tensor.data[...] = noise if tensor.data.dtype.kind == "f" else 1
            request.set_input_tensor(index, tensor)
        request.infer()
        seen.append([tuple(request.get_output_tensor(index).shape) for index in outputs])
    return list(zip(*seen, strict=True))
