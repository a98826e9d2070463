"""Reads a user's model file of any kind that OpenVINO takes, without its framework where it can."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corral.backends.openvino.passed_through import copy_passed_through, tell_apart
from corral.backends.openvino.torch_files import check_torch_file
from corral.backends.openvino.types import type_name
from corral.errors import ModelError
from corral.models import onnx_header
from corral.models.asking import Question
from corral.models.files import kind_of
from corral.tensors import Datatype

if TYPE_CHECKING:
    import openvino

logger = logging.getLogger(__name__)


def read_file(question: Question) -> openvino.Model:
    """The model, every input and output of it with a name.

    Raises:
        ModelError: it says too little of its inputs.
        RuntimeError, ImportError: it cannot be read; torch is not here.
    """
    import openvino as ov

    path = Path(question.path)
    kind = kind_of(path)
    if kind in {".pt", ".pt2"}:
        check_torch_file(path)
    if kind == ".pt2":
        model = _exported(path)
    elif kind == ".pt":
        model = _scripted(path, question)
    else:
        model = ov.Core().read_model(path)
    if kind == ".onnx":
        _keep_input_names(model, path)
    else:
        tell_apart(model)
    _name(model, kept=kind in {".onnx", ".xml", ".pdmodel"})
    return model


def _keep_input_names(model: openvino.Model, path: Path) -> None:
    """Gives inputs the names back that a reader takes: Dropout's input gets its output's name.

    Of a Max of one, it has both.
    """
    names = [port.name for port in onnx_header.read_ports(path)[0]]
    if len(names) != len(model.inputs):
        return
    # A file cannot hold one name twice: those are told apart where it is run.
    copy_passed_through(model, but=names)
    for name, port in zip(names, model.inputs, strict=True):
        if port.get_names() != {name}:
            port.get_tensor().set_names({name})


def _exported(path: Path) -> openvino.Model:
    """A torch.export program, its shapes as it has them: a batch may be fixed."""
    import openvino as ov
    import torch

    program = torch.export.load(path)
    try:
        model = ov.convert_model(program)
    # A front end's errors have no common class but Exception.
    except Exception:
        names = [spec.arg.name for spec in program.graph_signature.output_specs]
        if twice := next((name for name in names if names.count(name) > 1), ""):
            raise ModelError(
                f"it returns one tensor twice ({twice}), which OpenVINO does not read from an "
                "exported program: return a clone of it, or save TorchScript"
            ) from None
        raise
    known = {
        node.name: node.meta["val"].shape
        for node in program.graph.nodes
        if node.op == "placeholder" and hasattr(node.meta.get("val"), "shape")
    }
    names = [name for name in program.graph_signature.user_inputs if name in known]
    if len(names) == len(model.inputs):
        # A dimension that is a symbol is dynamic.
        shapes = [[d if isinstance(d, int) else -1 for d in known[name]] for name in names]
        model.reshape(dict(enumerate(shapes)))
    return model


def _scripted(path: Path, question: Question) -> openvino.Model:
    """A TorchScript file, which says nothing of its inputs but their names."""
    import openvino as ov
    import torch

    module = torch.jit.load(path, map_location="cpu").eval()
    if _changes_itself(module):
        logger.warning(
            "%s changes a buffer of its own at each call, which OpenVINO leaves out: it answers "
            "as by the buffer that is in the file",
            path,
        )
    arguments = module.forward.schema.arguments[1:]
    names = [argument.name for argument in arguments]
    shapes = dict(question.shapes)
    missing = [name for name in names if name not in shapes]
    for one in arguments:
        if one.name in missing and "Tensor" not in str(one.type):
            raise ModelError(
                f"its input {one.name!r} is {one.type} and no tensor, which is not served: save a "
                "module that takes tensors alone"
            )
    if missing:
        asked = " ".join(f"--shape {name}=3,224,224" for name in missing)
        raise ModelError(
            f"TorchScript does not say what its inputs are; say one item of each, without the "
            f"batch: {asked}, or [shapes] in {path.with_suffix('.toml').name}"
        )
    # By the graph's own names: of a scripted module the first of a list would be the module itself.
    _, *values = (value.debugName() for value in module.graph.inputs())
    inputs: list[Any] = [
        (value, ov.PartialShape([-1, *shapes[name]]), _type(question.datatypes.get(name, "FP32")))
        for value, name in zip(values, names, strict=True)
    ]
    model = ov.convert_model(module, input=inputs)
    for port, name in zip(model.inputs, names, strict=True):
        port.get_tensor().set_names({name})
    return model


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


def _name(model: openvino.Model, *, kept: bool) -> None:
    """Gives each input and output a name: artefacts keep it, and requests go by it.

    Args:
        model: changed.
        kept: whether the names that are there are a person's; else a graph's own ("x:0").
    """
    for kind, ports in (("input", model.inputs), ("output", model.outputs)):
        taken: set[str] = set()
        for index, port in enumerate(ports):
            names = sorted(port.get_names())
            plain = names[0] if names else kind if len(ports) == 1 else f"{kind}_{index}"
            if not kept:
                plain = plain.removeprefix("serving_default_").removesuffix(":0")
            if plain in taken:
                plain = f"{plain}_{index}"
            taken.add(plain)
            if not names or not kept:
                port.get_tensor().set_names({plain})
