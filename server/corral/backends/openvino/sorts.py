"""An OpenVINO model that answers with what its sorts take: see backends/sorts.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from corral.backends.sorts import JOINS, Graph, Node, before_sorts, parts
from corral.tensors import Datatype, Signature, TensorSpec

if TYPE_CHECKING:
    import openvino

#: datatypes that are floats, by OpenVINO's names
FLOATS = frozenset({"f16", "bf16", "f32", "f64"})
#: a tensor behind these has the name of the one before: quantizers, and other datatypes
_SAME = frozenset({"FakeQuantize", "Convert"})
#: an output of an operation, by the operation's own name and its number
_Key = tuple[str, int]


def write_before_sorts(
    artefact: Path, signature: Signature, folder: Path
) -> tuple[Path, tuple[TensorSpec, ...]] | None:
    """Writes an IR that answers, in FP32, with what another one's sorts take.

    Args:
        artefact: the IR.
        signature: what it takes.
        folder: where to.

    Returns:
        the file, and its outputs; None where there is no such cut, or it is not one item a picture.
    """
    import openvino as ov

    model = ov.Core().read_model(artefact)
    specs = signature.input_specs(signature.native)
    model.reshape({index: [1, *spec.shape] for index, spec in enumerate(specs)})
    cut = cut_before_sorts(model)
    if cut is None:
        return None
    if not is_by_picture(cut):
        return None
    shapes = [output.partial_shape for output in cut.outputs]
    for port, spec in zip(cut.inputs, specs, strict=True):
        # The only input is found by any of its names.
        port.get_tensor().add_names({spec.name})
    file = folder / "model.xml"
    ov.save_model(cut, file, compress_to_fp16=False)
    return file, tuple(
        TensorSpec(
            min(output.get_names()),
            Datatype.FP32,
            tuple(dim.get_length() for dim in list(shape)[1:]),
        )
        for output, shape in zip(cut.outputs, shapes, strict=True)
    )


def is_by_picture(model: openvino.Model) -> bool:
    """Whether a model that takes one item answers with one row of a fixed shape each."""
    shapes = [output.partial_shape for output in model.outputs]
    return all(one.is_static and len(one) and one[0].get_length() == 1 for one in shapes)


def cut_before_sorts(model: openvino.Model) -> openvino.Model | None:
    """A copy that answers with what the sorts take, FP32, each by a name of its own.

    None where nothing is sorted or decided, and no output is joined of several.
    """
    import openvino as ov

    copy = model.clone()
    made = {_key(port): port for op in copy.get_ops() for port in op.outputs()}
    graph = _graph(copy, made)
    cut = before_sorts(graph)
    taken: dict[str, Any] = {}
    floats = [key for key in graph.outputs if key in graph.floats]
    for key in floats if cut is None else cut:
        name, quantized = _name(made[key])
        answers = _apart(made[key], name) if key in graph.outputs else {}
        if not answers:
            end = "as answered" if key in graph.outputs else "before the sort"
            answers = {f"{name} {end}": made[key]}
        # Of a tensor that is taken as it is and quantized, the worse counts.
        taken |= {one: port for one, port in answers.items() if one not in taken or quantized}
    if cut is None and len(taken) == len(set(floats)):
        return None
    results = []
    for name, port in taken.items():
        # A name of its own: two tensors of a model may not share one.
        answer = ov.opset13.convert(port, "f32").output(0)
        answer.get_tensor().set_names({name})
        results.append(ov.opset13.result(answer))
    for result in copy.get_results():
        copy.remove_result(result)
    copy.add_results(results)
    copy.validate_nodes_and_infer_types()
    return copy


def _apart(port: Any, name: str) -> dict[str, Any]:
    """The parts of an output that joins several tensors, by name; nothing where it does not."""
    import openvino as ov

    join = _source(port).get_node()
    if join.get_type_name() != JOINS:
        return {}
    axis = join.get_attributes()["axis"]
    sizes = [list(one.get_partial_shape())[axis] for one in join.inputs()]
    found = parts([size.get_length() if size.is_static else None for size in sizes])
    if not found:
        return {}
    lengths = [end - begin for begin, end in found]
    split = ov.opset13.variadic_split(port, axis, lengths)
    sources = [one.get_source_output() for one in join.inputs()]
    return {
        f"{_name(source)[0]} in {name}": split.output(number)
        for number, source in enumerate(sources)
    }


def _graph(model: openvino.Model, made: dict[_Key, Any]) -> Graph[_Key]:
    nodes: list[Node[_Key]] = []
    outputs: list[_Key] = []
    inputs: set[_Key] = set()
    for op in model.get_ordered_ops():
        sources = tuple(_key(port.get_source_output()) for port in op.inputs())
        match op.get_type_name():
            case "Result":
                outputs += sources
            case "Parameter":
                inputs.add((op.get_name(), 0))
            case kind:
                nodes.append(Node(kind, sources, tuple(_key(port) for port in op.outputs())))
    floats = {
        key for key, port in made.items() if port.get_element_type().get_type_name() in FLOATS
    }
    return Graph(nodes=nodes, inputs=inputs, outputs=outputs, floats=floats)


def _key(port: Any) -> _Key:
    return port.get_node().get_name(), port.get_index()


def _source(port: Any) -> Any:
    """A tensor before it was quantized."""
    while port.get_node().get_type_name() in _SAME:
        port = port.get_node().input_value(0)
    return port


def _name(port: Any) -> tuple[str, bool]:
    """What the model's file called a tensor, and whether it was quantized since."""
    source = _source(port)
    names = sorted(source.get_names())
    name = names[0] if names else str(source.get_node().get_friendly_name())
    return name, _key(source) != _key(port)
