"""Reads TorchScript, which says of its inputs their names, and what it does without them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corral.backends.openvino.torch_files import exporting
from corral.backends.openvino.types import type_name
from corral.errors import ModelError, telling_line
from corral.models.asking import Question
from corral.tensors import Datatype

if TYPE_CHECKING:
    import openvino

logger = logging.getLogger(__name__)

_TENSOR = "Tensor"
#: what may be a tensor, or nothing
_MAYBE = "Optional[Tensor]"
#: numbers in an item that a network is tried on, when nothing reads it
_MOST_TRIED = 2**24


def read_script(question: Question) -> openvino.Model:
    """The model, its inputs named as in the module's source.

    An argument that may be left out is an input where it is a tensor and has a shape; else it
    stays at its default.

    Raises:
        ModelError: an argument is no tensor, or has no shape; one line with the way out.
    """
    import torch

    path = Path(question.path)
    module = torch.jit.load(path, map_location="cpu").eval()
    if _changes_itself(module):
        logger.warning(
            "%s changes a buffer of its own at each call, which OpenVINO leaves out: it answers "
            "as by the buffer that is in the file",
            path,
        )
    arguments = module.forward.schema.arguments[1:]
    shapes = dict(question.shapes)
    names = _inputs(arguments, shapes, path)
    if any(str(one.type) != _TENSOR for one in arguments):
        module = _frozen(_taking(module, names))
    try:
        return _converted(module, names, shapes, question.datatypes)
    # A front end's errors have no common class but Exception.
    except Exception:
        try:
            # Branches on what is always None, or never, are there until it is frozen.
            return _converted(_frozen(module), names, shapes, question.datatypes)
        # Neither has it then.
        except Exception as error:
            _check_shapes(module, names, question)
            raise ModelError(
                f"OpenVINO does not read it from TorchScript ({telling_line(error)}); save it by "
                f"{exporting(path)}"
            ) from error


def _inputs(
    arguments: Sequence[Any], shapes: Mapping[str, tuple[int, ...]], path: Path
) -> list[str]:
    """Names of the arguments that requests bring."""
    found, missing = [], []
    for one in arguments:
        kind = str(one.type)
        may_stay = one.has_default_value()
        if kind in {_TENSOR, _MAYBE} and (one.name in shapes or not may_stay):
            found.append(one.name)
            missing += [] if one.name in shapes else [one.name]
        elif one.name in shapes or not may_stay:
            raise ModelError(
                f"its input {one.name!r} is {kind} and no tensor, which is not served: save a "
                "module that takes tensors alone"
            )
        else:
            logger.info("%s: argument %s stays at %s", path, one.name, one.default_value)
    if missing or not found:
        # With none that it needs, one that it may take.
        missing = missing or [one.name for one in arguments if str(one.type) == _MAYBE]
        asked = " ".join(f"--shape {name}=3,224,224" for name in missing)
        raise ModelError(
            f"TorchScript does not say what its inputs are; say one item of each, without the "
            f"batch: {asked}, or [shapes] in {path.with_suffix('.toml').name}"
        )
    return found


def _converted(
    module: Any,
    names: Sequence[str],
    shapes: Mapping[str, tuple[int, ...]],
    datatypes: Mapping[str, str],
) -> openvino.Model:
    import openvino as ov

    # By the graph's own names: of a scripted module the first of a list would be the module itself.
    _, *values = (value.debugName() for value in module.graph.inputs())
    inputs: list[Any] = [
        (value, ov.PartialShape([-1, *shapes[name]]), _type(datatypes.get(name, "FP32")))
        for value, name in zip(values, names, strict=True)
    ]
    model = ov.convert_model(module, input=inputs)
    for port, name in zip(model.inputs, names, strict=True):
        port.get_tensor().set_names({name})
    return model


def _check_shapes(module: Any, names: Sequence[str], question: Question) -> None:
    """Raises ModelError where PyTorch does not run it on such items, either.

    It is the shapes then rather than the kind of file. Large items are not tried.
    """
    import numpy as np
    import torch

    shapes, datatypes = dict(question.shapes), question.datatypes
    if sum(math.prod(shapes[name]) for name in names) > _MOST_TRIED:
        return
    items = []
    for name in names:
        datatype = Datatype[datatypes.get(name, "FP32")]
        item = torch.from_numpy(np.zeros((1, *shapes[name]), datatype.numpy))
        items.append(item.view(torch.bfloat16) if datatype is Datatype.BF16 else item)
    try:
        with torch.no_grad():
            module(*items)
    # It raises whatever the network's author likes.
    except Exception as error:
        told = ", ".join(f"{name}={','.join(map(str, shapes[name]))}" for name in names)
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(
            f"neither OpenVINO nor PyTorch runs it on an item of {told} ({said[-1].strip()}): "
            f"correct --shape, or [shapes] and [datatypes] in "
            f"{Path(question.path).with_suffix('.toml').name}"
        ) from error


def _taking(module: Any, names: Sequence[str]) -> Any:
    """A module that takes these arguments of another, tensors all, and leaves it the others."""
    import torch

    graph = torch.fx.Graph()
    given = {name: graph.placeholder(name) for name in names}
    graph.output(graph.call_module("module", (), given))
    return torch.jit.script(torch.fx.GraphModule({"module": module}, graph)).eval()


def _frozen(module: Any) -> Any:
    """The same without branches that are never taken; its sums stay as they are."""
    import torch

    return torch.jit.freeze(module, optimize_numerics=False)


def _changes_itself(module: Any) -> bool:
    """Whether a TorchScript module writes to a tensor of its own."""
    return any(
        node.kind() == "prim::SetAttr"
        # In place, as aten::add_ is.
        or (node.kind().endswith("_") and next(node.inputs()).node().kind() == "prim::GetAttr")
        for node in module.inlined_graph.nodes()
    )


def _type(datatype: str) -> Any:
    import openvino as ov

    return getattr(ov.Type, type_name(Datatype[datatype]))
