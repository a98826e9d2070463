"""Layers of an ONNX file that onnxruntime would quantize, and what each costs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from corral.backends.layer_search import Layer
from corral.backends.mixed_precision import ELEMENT_COST

if TYPE_CHECKING:
    import onnx

#: layers with weights; whatever else is quantized goes with the one before it
_WEIGHTED = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm"})


def name_nodes(file: Path) -> None:
    """Gives every node of a file a name of its own, which ONNX does not ask for."""
    import onnx

    model = onnx.load(file)
    seen: set[str] = set()
    changed = False
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"corral_{number}_{node.op_type}"
            changed = True
        seen.add(node.name)
    if changed:
        onnx.save(model, file)


def layers(file: Path, quantized: Path) -> list[Layer]:
    """The layers of a file whose nodes have names and whose shapes are inferred, first to last.

    Args:
        file: in FP32.
        quantized: the same with all that onnxruntime quantizes in INT8. It leaves alone what is in
            FP64, whatever the operator.
    """
    import onnx
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    graph = onnx.load(file).graph
    shapes = _shapes(graph)
    found: list[list[onnx.NodeProto]] = []
    for node in graph.node:
        if node.op_type not in QDQRegistry and node.op_type not in QLinearOpsRegistry:
            continue
        if node.op_type in _WEIGHTED or not found:
            found.append([])
        found[-1].append(node)
    in_int8 = _in_int8(quantized)
    return [
        Layer(
            tuple(node.name for node in nodes),
            sum(_cost(node, shapes) for node in nodes),
            nodes[0].op_type in _WEIGHTED and nodes[0].name in in_int8,
        )
        for nodes in found
    ]


def _in_int8(file: Path) -> frozenset[str]:
    """Names of the nodes that take what was in INT8."""
    import onnx

    nodes = onnx.load(file, load_external_data=False).graph.node
    restored = {
        name for node in nodes if node.op_type == "DequantizeLinear" for name in node.output
    }
    return frozenset(node.name for node in nodes if restored.intersection(node.input))


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """Of one item, by tensor; what is dynamic counts as one."""
    found = {
        tensor.name: tuple(dim.dim_value or 1 for dim in tensor.type.tensor_type.shape.dim)
        for tensor in (*graph.input, *graph.value_info, *graph.output)
    }
    return found | {weight.name: tuple(weight.dims) for weight in graph.initializer}


def _cost(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> float:
    sizes = [math.prod(shapes.get(name, (1,))) for name in (*node.input, *node.output) if name]
    elements = float(sum(sizes)) * ELEMENT_COST
    if node.op_type not in _WEIGHTED:
        return elements
    weights = shapes.get(node.input[1]) or (1, 1)
    match node.op_type:
        case "Conv":
            each = math.prod(weights[1:])
        case "ConvTranspose":
            each = weights[0] * math.prod(weights[2:])
        case "Gemm" if any(one.name == "transB" and one.i for one in node.attribute):
            each = weights[-1]
        case _:
            each = weights[-2] if len(weights) > 1 else weights[0]
    return elements + float(math.prod(shapes.get(node.output[0], (1,)))) * each
