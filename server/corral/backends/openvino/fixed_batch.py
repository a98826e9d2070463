"""OpenVINO's graphs that answer one batch size alone, made to take one item at a time."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from corral.backends.fixed_batch import AS_IT_IS, Arrays, Run, likely_sizes, way
from corral.backends.openvino.types import tensor
from corral.models.spec import ModelSpec

if TYPE_CHECKING:
    import openvino

#: batches whose graph stays compiled while it is looked at: one item, and the batch that is tried
_COMPILED = 2


def take_one(model: openvino.Model, spec: ModelSpec) -> openvino.Model:
    """The model, or one of it that takes one item; see ``fixed_batch.way``.

    Args:
        model: as it was read, with nothing but its batch open.
        spec: its specification.

    Raises:
        ModelError: there is no way.
    """
    constants = [] if spec.fixed_batch else _whole_numbers(model)
    sizes = likely_sizes(constants)
    if spec.fixed_batch == 1 or not (spec.fixed_batch or sizes):
        return model
    run = _runs(model, spec)
    copies = way(spec, run, run, sizes)
    if copies == AS_IT_IS:
        return model
    of_many = _reshaped(model, spec, copies)
    return of_many if copies == 1 else _with_copies(of_many, spec, copies)


def _runs(model: openvino.Model, spec: ModelSpec) -> Run:
    """Runs the graph with the batch that it is given, in FP32."""
    import openvino as ov

    @functools.lru_cache(_COMPILED)
    def compiled_for(batch: int) -> openvino.CompiledModel:
        fitting = _reshaped(model, spec, batch)
        return ov.Core().compile_model(fitting, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def run(items: Arrays) -> Arrays:
        compiled = compiled_for(len(items[0]))
        request = compiled.create_infer_request()
        specs = spec.signature.input_specs(spec.native)
        for index, (item, port) in enumerate(zip(items, specs, strict=True)):
            request.set_input_tensor(index, tensor(item, port.datatype))
        request.infer()
        answers = [request.get_output_tensor(index) for index in range(len(compiled.outputs))]
        return [np.array(answer.data) for answer in answers]

    return run


def _whole_numbers(model: openvino.Model) -> list[np.ndarray]:
    """The small constants of INT64 and INT32, which shapes are made of."""
    return [
        node.get_vector().astype(np.int64)
        for node in model.get_ops()
        if node.get_type_name() == "Constant"
        and node.get_element_type().get_type_name() in {"i64", "i32"}
        and np.prod(list(node.get_output_shape(0))) < 10
    ]


def _reshaped(model: openvino.Model, spec: ModelSpec, batch: int) -> openvino.Model:
    fitting = model.clone()
    specs = spec.signature.input_specs(spec.native)
    fitting.reshape({index: [batch, *port.shape] for index, port in enumerate(specs)})
    return fitting


def _with_copies(model: openvino.Model, spec: ModelSpec, batch: int) -> openvino.Model:
    """The same with each input repeated, and each output's first row kept."""
    from openvino import opset16

    specs = spec.signature.input_specs(spec.native)
    for index, (parameter, port) in enumerate(zip(model.get_parameters(), specs, strict=True)):
        old = parameter.output(0)
        one = opset16.parameter([1, *port.shape], old.get_element_type(), parameter.friendly_name)
        targets, names = list(old.get_target_inputs()), old.get_names()
        copies = opset16.tile(one, np.array([batch, *(1 for _ in port.shape)], np.int64))
        for target in targets:
            target.replace_source_output(copies.output(0))
        model.replace_parameter(index, one)
        old.get_tensor().set_names(set())
        one.output(0).get_tensor().set_names(names)
    for result in model.get_results():
        source = result.input(0).get_source_output()
        names = source.get_names()
        first = opset16.gather(source, np.zeros(1, np.int64), np.array(0, np.int64)).output(0)
        result.input(0).replace_source_output(first)
        source.get_tensor().set_names(set())
        first.get_tensor().set_names(names)
    model.validate_nodes_and_infer_types()
    return model
