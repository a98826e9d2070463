"""An ONNX file that answers with what its sorts take: see backends/sorts.py."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from corral.backends.onnxruntime.sessions import open_as_is
from corral.backends.sorts import JOINS, Graph, Node, before_sorts, parts
from corral.tensors import Datatype, Signature, TensorSpec

if TYPE_CHECKING:
    import onnx

#: a tensor behind these has the name of the one before
_SAME = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast"})


def write_before_sorts(
    artefact: Path, signature: Signature, folder: Path
) -> tuple[Path, tuple[TensorSpec, ...]] | None:
    """Writes an ONNX file that answers, in FP32, with what another one's sorts take.

    Args:
        artefact: the file.
        signature: what it takes.
        folder: where to.

    Returns:
        the file, and its outputs; None where there is no such cut, or it is not one item a picture.
    """
    file = cut_before_sorts(artefact, folder / "model.onnx")
    if file is None:
        return None
    # Not every shape can be told from the graph.
    session = open_as_is(file)
    specs = signature.input_specs(signature.native)
    zeros = {
        port.name: np.zeros((1, *spec.shape), spec.datatype.numpy)
        for port, spec in zip(session.get_inputs(), specs, strict=True)
    }
    names = [port.name for port in session.get_outputs()]
    answers = session.run(names, zeros)
    if not are_by_picture(answers):
        return None
    return file, tuple(
        TensorSpec(name, Datatype.FP32, answer.shape[1:])
        for name, answer in zip(names, answers, strict=True)
    )


def are_by_picture(answers: Sequence[NDArray[Any]]) -> bool:
    """Whether answers to one item are one row each."""
    return all(answer.ndim and len(answer) == 1 for answer in answers)


def cut_before_sorts(origin: Path, file: Path) -> Path | None:
    """Writes a file that answers with what the sorts of another one take, FP32.

    None where nothing is sorted or decided, and no output is joined of several.
    """
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(origin)
    told = _told(model)
    graph = _graph(model, told)
    cut = before_sorts(graph)
    made_by = {name: node for node in model.graph.node for name in node.output}
    #: the tensor, and where in it, by the name of what is answered
    taken: dict[str, tuple[str, tuple[int, int, int] | None]] = {}
    floats = [tensor for tensor in graph.outputs if tensor in graph.floats]
    for tensor in floats if cut is None else cut:
        name = _name(tensor, made_by)
        end = "as answered" if tensor in graph.outputs else "before the sort"
        joined = _apart(name, made_by, told) if tensor in graph.outputs else {}
        # Of a tensor that is taken as it is and quantized, the worse counts.
        for one in joined or (f"{name} {end}",):
            if one not in taken or name != tensor:
                taken[one] = tensor, joined.get(one)
    if cut is None and len(taken) == len(set(floats)):
        return None
    answers = []
    for number, (name, (tensor, place)) in enumerate(taken.items()):
        part = f"corral_part_{number}"
        source = tensor if place is None else _slice(model.graph, tensor, place, part)
        model.graph.node.append(helper.make_node("Cast", [source], [name], to=TensorProto.FLOAT))
        answers.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    del model.graph.output[:]
    model.graph.output.extend(answers)
    onnx.save(model, file)
    return file


def _apart(
    tensor: str, made_by: dict[str, Any], told: dict[str, onnx.TypeProto.Tensor]
) -> dict[str, tuple[int, int, int]]:
    """Axis, begin and end of the parts of an output that joins several tensors, by name."""
    join = made_by.get(tensor)
    if join is None or join.op_type != JOINS or any(name not in told for name in join.input):
        return {}
    axis = next(one.i for one in join.attribute if one.name == "axis")
    shapes = [list(told[name].shape.dim) for name in join.input]
    found = parts([shape[axis].dim_value or None if shape else None for shape in shapes])
    return {
        f"{_name(name, made_by)} in {tensor}": (axis, *place)
        for name, place in zip(join.input, found, strict=bool(found))
    }


def _slice(graph: onnx.GraphProto, tensor: str, place: tuple[int, int, int], name: str) -> str:
    """Adds a part of a tensor to a graph: axis, begin and end."""
    from onnx import helper, numpy_helper

    axis, begin, end = place
    numbers = {"begin": begin, "end": end, "axis": axis}
    for what, number in numbers.items():
        graph.initializer.append(
            numpy_helper.from_array(np.asarray([number], np.int64), f"{name}_{what}")
        )
    ports = [tensor, *(f"{name}_{what}" for what in numbers)]
    graph.node.append(helper.make_node("Slice", ports, [name]))
    return name


def _told(model: onnx.ModelProto) -> dict[str, onnx.TypeProto.Tensor]:
    """Datatype and shape of each tensor, as far as they can be told."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {value.name: value.type.tensor_type for value in values}


def _graph(model: onnx.ModelProto, told: dict[str, onnx.TypeProto.Tensor]) -> Graph[str]:
    from onnx import TensorProto

    graph = model.graph
    floats = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE}
    weights = {weight.name for weight in graph.initializer}
    nodes = [
        Node(node.op_type, tuple(filter(None, node.input)), tuple(filter(None, node.output)))
        for node in graph.node
    ]
    # What another domain's operation makes is not told; nothing says that it decides.
    made = {name for node in nodes for name in node.outputs}
    not_told = {name for name in made if name not in told or not told[name].elem_type}
    return Graph(
        nodes=nodes,
        inputs={port.name for port in graph.input} - weights,
        outputs=[port.name for port in graph.output],
        floats={name for name, kind in told.items() if kind.elem_type in floats} | not_told,
    )


def _name(tensor: str, made_by: dict[str, Any]) -> str:
    """What the model's file called a tensor, before it was quantized."""
    while tensor in made_by and made_by[tensor].op_type in _SAME:
        tensor = made_by[tensor].input[0]
    return tensor
