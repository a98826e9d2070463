"""Reads a user's model file of any kind that OpenVINO takes, without its framework where it can."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from corral.backends.openvino.passed_through import copy_passed_through, tell_apart
from corral.backends.openvino.torch_files import check_torch_file
from corral.backends.openvino.torch_scripts import read_script
from corral.errors import ModelError
from corral.models import onnx_header
from corral.models.asking import Question
from corral.models.files import kind_of

if TYPE_CHECKING:
    import openvino


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
        model = read_script(question)
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
