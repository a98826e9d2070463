"""Layers of a quantized model that go back to FP32: surgery on NNCF's FakeQuantize graph."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from corral.backends.layer_search import Layer
from corral.backends.mixed_precision import ELEMENT_COST

if TYPE_CHECKING:
    import openvino

#: layers with weights; whatever else is quantized goes with the one before it
_WEIGHTED = frozenset({"Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul"})
#: a quantizer before these is one of what comes after them
_PASSING = frozenset(
    {
        "Reshape", "Transpose", "Squeeze", "Unsqueeze", "MaxPool", "Split", "VariadicSplit",
        "Slice", "StridedSlice", "Convert", "Relu", "Clamp", "Concat", "Pad", "Gather",
    }
)  # fmt: skip


def layers(quantized: openvino.Model) -> list[Layer]:
    """The quantized layers of a model with FakeQuantize operations, first to last."""
    found: list[list[Any]] = []
    wanted = {
        name
        for op in quantized.get_ordered_ops()
        if op.get_type_name() == "FakeQuantize"
        for target in op.output(0).get_target_inputs()
        for name in _consumers(target.get_node())
    }
    for op in quantized.get_ordered_ops():
        if op.get_friendly_name() not in wanted:
            continue
        if op.get_type_name() in _WEIGHTED or not found:
            found.append([])
        found[-1].append(op)
    return [
        Layer(
            tuple(op.get_friendly_name() for op in ops),
            sum(map(_cost, ops)),
            ops[0].get_type_name() in _WEIGHTED,
        )
        for ops in found
    ]


def left_out(
    quantized: openvino.Model, exact: openvino.Model, names: frozenset[str]
) -> openvino.Model:
    """A copy with these layers as they are in the FP32 model, their biases uncorrected."""
    model = quantized.clone()
    biases = _biases(exact)
    for op in model.get_ordered_ops():
        if op.get_type_name() == "FakeQuantize":
            source = op.input_value(0)
            for target in list(op.output(0).get_target_inputs()):
                consumers = _consumers(target.get_node())
                if consumers and consumers <= names:
                    target.replace_source_output(source)
        elif op.get_friendly_name() in names:
            _restore_bias(op, biases)
    return model


def full_range(quantized: openvino.Model) -> openvino.Model:
    """A copy whose weights use all 8 bits: NNCF's overflow fix taken back."""
    import openvino as ov

    model = quantized.clone()
    for op in model.get_ordered_ops():
        if op.get_type_name() != "FakeQuantize":
            continue
        weights = op.input_value(0).get_node()
        if weights.get_type_name() != "Constant":
            continue
        shape = tuple(op.input_value(2).get_node().data.shape)
        values = np.abs(weights.data)
        axes = tuple(
            axis for axis in range(values.ndim) if len(shape) != values.ndim or shape[axis] == 1
        )
        high = values.max(axis=axes, keepdims=True).astype(np.float32)
        high = np.maximum(high if len(shape) == values.ndim else high.reshape(()), 1e-12)
        for port, data in ((1, -high), (2, high), (3, -high), (4, high)):
            op.input(port).replace_source_output(ov.opset13.constant(data).output(0))
    return model


def _consumers(node: Any) -> frozenset[str]:
    """The operations that a quantizer's output is for, by name, through what passes it on."""
    if node.get_type_name() in {"FakeQuantize", "Result"}:
        return frozenset()
    if node.get_type_name() not in _PASSING:
        return frozenset({node.get_friendly_name()})
    return frozenset().union(
        *(
            _consumers(target.get_node())
            for output in node.outputs()
            for target in output.get_target_inputs()
        )
    )


def _biases(exact: openvino.Model) -> dict[str, Any]:
    """Constants that are added, by the addition's name."""
    found = {}
    for op in exact.get_ordered_ops():
        if op.get_type_name() == "Add":
            for source in op.input_values():
                if source.get_node().get_type_name() == "Constant":
                    found[op.get_friendly_name()] = source.get_node().data
    return found


def _restore_bias(op: Any, biases: dict[str, Any]) -> None:
    import openvino as ov

    for target in op.output(0).get_target_inputs():
        add = target.get_node()
        if add.get_type_name() != "Add":
            continue
        for port in add.inputs():
            constant = port.get_source_output().get_node()
            if constant.get_type_name() != "Constant":
                continue
            # One that NNCF put there for its correction was nothing before.
            data = biases.get(add.get_friendly_name(), np.zeros_like(constant.data))
            if data.shape == constant.data.shape:
                port.replace_source_output(ov.opset13.constant(np.array(data)).output(0))


def _cost(op: Any) -> float:
    sizes = [_elements(port) for port in (*op.inputs(), *op.outputs())]
    elements = float(sum(sizes)) * ELEMENT_COST
    if op.get_type_name() not in _WEIGHTED:
        return elements
    weights = op.input(1).get_partial_shape()
    shape = [dim.get_length() if dim.is_static else 1 for dim in weights]
    match op.get_type_name():
        case "MatMul":
            each = shape[-1] if op.get_attributes().get("transpose_b") else shape[-2]
        case "GroupConvolution":
            each = math.prod(shape[2:])
        case _:
            each = math.prod(shape[1:])
    return elements + float(sizes[-1]) * each


def _elements(port: Any) -> int:
    """Elements of one item; what is dynamic counts as one."""
    return math.prod(dim.get_length() if dim.is_static else 1 for dim in port.get_partial_shape())
