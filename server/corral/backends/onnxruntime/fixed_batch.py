"""ONNX graphs that answer one batch size alone, made to take one item at a time."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from corral.backends.fixed_batch import AS_IT_IS, Arrays, Run, likely_sizes, way
from corral.backends.onnxruntime.sessions import open_as_is
from corral.models.spec import ModelSpec

if TYPE_CHECKING:
    import onnx
    import onnxruntime

#: before the names that the graph itself had for its inputs and outputs
_PREFIX = "corral_batch_"


def take_one(model: onnx.ModelProto, spec: ModelSpec) -> onnx.ModelProto:
    """The model, or one of it that takes one item; see ``fixed_batch.way``.

    Args:
        model: plain.
        spec: its specification.

    Raises:
        ModelError: there is no way.
    """
    constants = [] if spec.fixed_batch else list(_whole_numbers(model.graph))
    sizes = likely_sizes(constants)
    if spec.fixed_batch == 1 or not (spec.fixed_batch or sizes):
        return model
    one = _of_one(model)
    copies = way(spec, _runs(model), _runs(one), sizes)
    if copies == AS_IT_IS:
        return model
    return one if copies == 1 else _with_copies(model, copies)


def _runs(model: onnx.ModelProto) -> Run:
    """Runs the graph, which is opened once; raises what the engine raises."""

    @functools.cache
    def opened() -> onnxruntime.InferenceSession:
        return open_as_is(model.SerializeToString())

    def run(items: Arrays) -> Arrays:
        session = opened()
        names = [port.name for port in session.get_inputs()]
        answers: Arrays = session.run(None, dict(zip(names, items, strict=True)))
        return answers

    return run


def _whole_numbers(graph: onnx.GraphProto) -> Iterator[Any]:
    """The small constants of INT64, which shapes are made of."""
    from onnx import TensorProto, numpy_helper

    inside = [
        attribute.t
        for node in graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
    ]
    for tensor in (*graph.initializer, *inside):
        if tensor.data_type == TensorProto.INT64 and np.prod(tensor.dims) < 10:
            yield numpy_helper.to_array(tensor)


def _of_one(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with a batch of one declared."""
    one = type(model)()
    one.CopyFrom(model)
    # They say the batch of what lies between.
    del one.graph.value_info[:]
    _declare_one(one.graph)
    return one


def _declare_one(graph: onnx.GraphProto) -> None:
    for tensor in (*graph.input, *graph.output):
        for dim in tensor.type.tensor_type.shape.dim[:1]:
            dim.dim_value = 1


def _with_copies(model: onnx.ModelProto, batch: int) -> onnx.ModelProto:
    """The same with each input repeated, and each output's first row kept."""
    from onnx import helper, numpy_helper

    wrapped = type(model)()
    wrapped.CopyFrom(model)
    graph = wrapped.graph
    sources = [tensor.name for tensor in graph.input]
    targets = [tensor.name for tensor in graph.output]
    _rename(graph, {name: f"{_PREFIX}{name}" for name in (*sources, *targets)})
    first = f"{_PREFIX}first"
    graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.int64), first))
    # Both operators are as old as ONNX.
    for name in reversed(sources):
        node = helper.make_node("Concat", [name] * batch, [f"{_PREFIX}{name}"], axis=0)
        graph.node.insert(0, node)
    for name in targets:
        graph.node.append(helper.make_node("Gather", [f"{_PREFIX}{name}", first], [name], axis=0))
    _declare_one(graph)
    return wrapped


def _rename(graph: onnx.GraphProto, names: dict[str, str]) -> None:
    """Renames tensors in a graph and in those inside its nodes, but for the declared ports."""
    for tensor in (*graph.initializer, *graph.value_info):
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        for tensors in (node.input, node.output):
            tensors[:] = [names.get(name, name) for name in tensors]
        for attribute in node.attribute:
            for inside in (attribute.g, *attribute.graphs):
                _rename(inside, names)
                for tensor in inside.output:
                    tensor.name = names.get(tensor.name, tensor.name)
