"""A file's inputs and outputs as OpenVINO finds them: by its graph, or by one run of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from corral.backends.openvino.open_shapes import shapes_by_values
from corral.backends.openvino.read import read_file
from corral.backends.openvino.types import DATATYPES
from corral.backends.thrown import shape_moves
from corral.errors import ModelError, telling_line
from corral.models.asking import Question, Reply
from corral.models.onnx_header import Port
from corral.models.ports import MOST_MEANT

if TYPE_CHECKING:
    import openvino

#: sides of pictures that networks are made for; where the graph fits one of them, it is that one
_SIDES = (224, 256, 384, 299, 240, 260, 288, 300, 320, 380, 416, 448, 512, 518, 528, 600, 640)
_SIDES_SMALL = (28, 32, 64, 96, 112, 128, 160, 192)
#: items of the run that shows what the graph leaves open, where it fixes none: more than one, to
#: tell the batch
_ITEMS = 2


def describe(question: Question) -> Reply:
    """Inputs and outputs; a dimension that nothing settles is None.

    Raises:
        ModelError: the file cannot be read, or its outputs depend on more than shapes.
    """
    model = read_file(question)
    _settle_inputs(model, dict(question.shapes))
    inputs = [_port(port, question.names) for port in model.inputs]
    outputs = [_port(port, question.names) for port in model.outputs]
    if all(_settled(port) for port in inputs) and not all(_settled(port) for port in outputs):
        outputs = _by_running(model, inputs, outputs)
    return Reply(inputs=inputs, outputs=outputs)


def _port(port: Any, known: Sequence[str]) -> Port:
    shape = port.partial_shape
    dims = None
    if shape.rank.is_static:
        dims = tuple(None if dim.is_dynamic else dim.get_length() for dim in shape)
    kind = port.element_type.get_type_name()
    name = DATATYPES[kind].name if kind in DATATYPES else kind.upper()
    names = sorted(port.get_names())
    return Port(next((own for own in names if own in known), names[0]), name, dims)


def _settled(port: Port) -> bool:
    return bool(port.shape) and None not in (port.shape or ())[1:]


def _settle_inputs(model: openvino.Model, shapes: dict[str, tuple[int, ...]]) -> None:
    """Reshapes the inputs to what is known, and to what the graph alone allows."""
    wanted: dict[int, list[int]] = {}
    for index, port in enumerate(model.inputs):
        given = next((shapes[name] for name in port.get_names() if name in shapes), None)
        if given is None:
            continue
        shape = port.partial_shape
        fixed = shape.rank.is_static and len(shape) and shape[0].is_static
        wanted[index] = [shape[0].get_length() if fixed else -1, *given]
    if wanted:
        try:
            model.reshape(wanted)
        except RuntimeError as error:
            told = ", ".join(
                f"{name}={','.join(map(str, shape))}" for name, shape in shapes.items()
            )
            raise ModelError(f"the graph does not take {told}: {telling_line(error)}") from None
    elif len(model.inputs) == 1:
        _find_side(model)


def _find_side(model: openvino.Model) -> None:
    """A picture of any size, as exporters write it: the graph may fit one size alone."""
    port = model.inputs[0]
    shape = port.partial_shape
    if shape.rank.is_dynamic or len(shape) != 4 or all(dim.is_static for dim in list(shape)[1:]):
        return
    batch = shape[0].get_length() if shape[0].is_static else -1
    channels = shape[1].get_length() if shape[1].is_static else _channels(port)
    if channels is None:
        return
    fitting = []
    for side in (*_SIDES, *_SIDES_SMALL):
        wanted = [batch, channels, side, side]
        if not shape.compatible(type(shape)(wanted)):
            continue
        try:
            model.reshape({0: wanted})
        except RuntimeError:
            continue
        fitting.append(wanted)
        if len(fitting) > 1:
            break
    model.reshape({0: fitting[0] if len(fitting) == 1 else shape})


def _channels(port: Any) -> int | None:
    """The channels that the first convolutions take."""
    found = set()
    for target in port.get_target_inputs():
        node = target.get_node()
        if node.get_type_name() == "Convolution":
            kernel = node.input(1).get_partial_shape()
            if kernel.is_static:
                found.add(kernel[1].get_length())
    return found.pop() if len(found) == 1 else None


def _by_running(model: openvino.Model, inputs: list[Port], outputs: list[Port]) -> list[Port]:
    """The outputs' shapes as they come out; they must not hang on the values."""
    import openvino as ov

    # What has so many rows, whatever the batch, holds other items' values in them otherwise.
    rows = {port.shape[0] for port in outputs if port.shape}
    items = min((size for size in rows if size and size <= MOST_MEANT), default=_ITEMS)
    shapes = [[items if size is None else size for size in port.shape or ()] for port in inputs]
    seen = shapes_by_values(ov.Core().compile_model(model, "CPU"), shapes)
    found = []
    for port, (first, second) in zip(outputs, seen, strict=True):
        if first != second:
            raise ModelError(shape_moves(port.name, str(list(first)), str(list(second))))
        batch = port.shape[0] if port.shape else None
        found.append(Port(port.name, port.datatype, (batch, *first[1:]) if first else ()))
    return found
