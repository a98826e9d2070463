"""A user's own model: an ONNX file or OpenVINO IR, served without a line of code.

Shapes and datatypes are read from the file. What a file cannot say, the names of its classes and
how a picture becomes its input, may stand in a TOML file of the same name beside it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corral.errors import ModelError
from corral.models import files, model_folder, onnx_header
from corral.models.asking import ask
from corral.models.files import SAVED_MODEL, kind_of
from corral.models.notes import Notes, make_recipe, read_notes, with_side
from corral.models.onnx_header import Port
from corral.models.ports import Shapes, check_datatypes, check_given, is_open, settle, signature
from corral.models.quantized_files import is_quantized
from corral.models.spec import ModelSpec, Recipe, Weights
from corral.settings.files import read_text
from corral.tensors import TensorSpec

if TYPE_CHECKING:
    import torch

_SIGNS = (("i", "INT"), ("u", "UINT"))
_IR_TYPES = {
    "boolean": "BOOL",
    **{f"f{bits}": f"FP{bits}" for bits in (16, 32, 64)},
    "bf16": "BF16",
    **{f"{sign}{bits}": f"{kind}{bits}" for bits in (8, 16, 32, 64) for sign, kind in _SIGNS},
}
#: between a tensor's names; one in a name has a backslash before it
_IR_COMMA = re.compile(r"(?<!\\),")
#: of a model: it becomes a part of file names in the cache, and of clients' requests
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


def is_path(model: str) -> bool:
    """Whether --model means a file or folder, not a model of the zoo."""
    return (
        "/" in model or kind_of(Path(model)) != "" or os.path.exists(model)  # noqa: PTH110
    )


def check_name(path: Path) -> None:
    """Engines take a file's whole name as UTF-8.

    Raises:
        ModelError: it is not, or the working folder that it is relative to is gone.
    """
    try:
        whole = os.fsencode(path.absolute())
        whole.decode()
    except OSError as error:
        raise ModelError(f"--model {path}: the working folder: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ModelError(f"--model {path}: {whole!r} is not UTF-8") from None


def read(path: Path, shapes: Shapes | None = None) -> ModelSpec:
    """The specification of a model file, or of the one below a folder; imports no framework.

    Args:
        path: the file.
        shapes: one item's shape by the name of an input or output, above what the TOML says.

    Raises:
        ModelError: one line that names the file and says why it cannot be served.
    """
    try:
        if path.is_dir() and kind_of(path) != SAVED_MODEL:
            path = model_folder.find(path)
        found = path.is_file() or kind_of(path) == SAVED_MODEL
    except OSError as error:
        raise ModelError(f"--model {path}: {error.strerror}") from None
    if not found:
        raise ModelError(f"--model {path}: no such file")
    header = _header(path)
    notes = read_notes(path)
    given = {**notes.shapes, **(shapes or {})}
    inputs, outputs, known = _ports(path, header, given, notes)
    check_datatypes(path, inputs, notes.datatypes)
    settled = settle(path, inputs, outputs, known)
    answer = settled.outputs[0].shape
    recipe = pixels = None
    if notes.preprocessing is not None:
        recipe = make_recipe(path, notes.preprocessing, settled.inputs)
        pixels = (recipe.crop, recipe.crop, 3)
    return ModelSpec(
        name=_name(path, notes),
        recipe=recipe or Recipe(),
        classes=math.prod(answer),
        find_weights=lambda choice, *_: _weights(path, choice),
        build=_no_module,
        file=path.absolute(),
        shapes=signature(settled, pixels, recipe),
        label_names=_labels(path, notes, settled.outputs),
        fixed_batch=settled.fixed_batch,
        quantized=is_quantized(path),
    )


def _check_not_empty(path: Path) -> None:
    """Raises ModelError for a file without a byte, which some readers take for an empty graph."""
    try:
        file = path / "saved_model.pb" if path.is_dir() else path
        empty = not file.stat().st_size
    except OSError as error:
        raise ModelError(f"--model {path}: {error.strerror}") from None
    if empty:
        raise ModelError(f"--model {file}: the file is empty; copy it again, or export it anew")


def _header(path: Path) -> tuple[list[Port], list[Port]] | None:
    """Inputs and outputs as the file's header has them; None for kinds that only engines read."""
    kind = kind_of(path)
    if kind == ".onnx":
        return onnx_header.read_ports(path)
    if kind == ".xml":
        return _ir_ports(path)
    if not kind:
        raise ModelError(f"--model {path}: not an ONNX file, nor of another kind: {files.NAMES}")
    _check_not_empty(path)
    return None


def _ports(
    path: Path, header: tuple[list[Port], list[Port]] | None, known: Shapes, notes: Notes
) -> tuple[list[Port], list[Port], Shapes]:
    """Inputs, outputs, and what is known of them besides.

    They are told by the file's header, and by an engine where that leaves something open.
    """
    if header is None:
        return *ask(path, known, notes.datatypes), known
    inputs, outputs = header
    known = with_side(inputs, notes, known)
    if any(is_open(port, known) for port in (*inputs, *outputs)):
        names = [port.name for port in (*inputs, *outputs)]
        check_given(path, inputs, outputs, known)
        # What is wrong with its weights is said here better than by an engine.
        weight_files(path)
        return *ask(path, known, notes.datatypes, names), known
    return inputs, outputs, known


def _name(path: Path, notes: Notes) -> str:
    """What clients call it."""
    if notes.name is None:
        return re.sub(r"[^A-Za-z0-9_.-]", "_", path.stem)[:100]
    if not _NAME.fullmatch(notes.name):
        raise ModelError(
            f"{path.with_suffix('.toml')}: name: up to 100 letters, digits, _, . and -, "
            f"not {notes.name[:100]!r}"
        )
    return notes.name


def _ir_ports(path: Path) -> tuple[list[Port], list[Port]]:
    """Inputs and outputs as an OpenVINO IR's XML lists them."""
    weights = path.with_suffix(".bin")
    try:
        text = path.read_text("utf-8-sig")
        complete = weights.is_file()
        # Entities are what makes XML dangerous to parse; they need a DOCTYPE, and an IR has none.
        # UTF-16 would be read all the same, and has a NUL beside every letter of it.
        safe = "<!DOCTYPE" not in text and "\0" not in text
        root = ET.fromstring(text) if safe else None  # noqa: S314
    except OSError as error:
        raise ModelError(f"--model {path}: {error.strerror}") from None
    except (ValueError, ET.ParseError):
        root = None
    if root is None or root.tag != "net":
        raise ModelError(f"--model {path}: not an OpenVINO IR")
    if not complete:
        raise ModelError(f"--model {path}: its weights {weights.name} are missing")
    _check_size(path, weights, _ir_extent(root))
    try:
        return _ir_layers(root)
    except (TypeError, ValueError):
        raise ModelError(f"--model {path}: not an OpenVINO IR: a dimension is no number") from None


def _ir_extent(root: ET.Element) -> int:
    """Bytes that an IR takes of its weights' file, those of nested graphs included."""
    ends = [0]
    for data in root.iterfind(".//layer[@type='Const']/data"):
        ends.append(sum(onnx_header.byte_count(data.get(key, "")) for key in ("offset", "size")))
    return max(ends)


def _ir_layers(root: ET.Element) -> tuple[list[Port], list[Port]]:
    inputs, outputs = [], []
    for layer in root.iterfind("./layers/layer"):
        name = layer.get("name", "")
        if layer.get("type") == "Parameter":
            port = layer.find("./output/port")
            names = "" if port is None else port.get("names", "")
            inputs.append((_ir_port(name, port, layer), names))
        elif layer.get("type") == "Result":
            port = layer.find("./input/port")
            names = layer.get("output_names") or _ir_source_names(root, layer.get("id", ""))
            outputs.append((_ir_port(name, port, layer), names))
    kinds = [port.datatype for port, _ in (*inputs, *outputs)]
    if len(inputs) == len(outputs) == 1 and kinds[0] != "BF16" and kinds[1] == "FP32":
        # They have names of corral's, and these besides.
        return [inputs[0][0]], [outputs[0][0]]
    return [_ir_named(*one) for one in inputs], [_ir_named(*one) for one in outputs]


def _ir_source_names(root: ET.Element, layer: str) -> str:
    """Names of the tensor that goes into a layer, as older writers leave it to be found."""
    edges = {edge.get("to-layer"): edge for edge in root.iterfind("./edges/edge")}
    if layer not in edges:
        return ""
    source = edges[layer].get("from-layer"), edges[layer].get("from-port")
    for one in root.iterfind("./layers/layer"):
        for port in one.iterfind("./output/port"):
            if (one.get("id"), port.get("id")) == source:
                return port.get("names", "")
    return ""


def _ir_named(port: Port, names: str) -> Port:
    """A port by its layer's name, or by its tensor's where that has others: engines go by these."""
    known = sorted(name.replace("\\,", ",") for name in _IR_COMMA.split(names) if name)
    return port if not known or port.name in known else dataclasses.replace(port, name=known[0])


def _ir_port(name: str, port: Any, layer: Any) -> Port:
    data = layer.find("./data")
    element = (data.get("element_type") if data is not None else None) or ""
    precision = port.get("precision", "").lower() if port is not None else ""
    element = element or {"fp32": "f32"}.get(precision, precision)
    shape: tuple[int | None, ...] | None = None
    if data is None or data.get("shape") != "...":
        dims = [] if port is None else [int(dim.text) for dim in port.iterfind("./dim")]
        shape = tuple(dim if dim > 0 else None for dim in dims)
    return Port(name, _IR_TYPES.get(element, element.upper() or "unknown"), shape)


def _labels(path: Path, notes: Notes, outputs: tuple[TensorSpec, ...]) -> tuple[str, ...]:
    """The classes' names: a list, or a file with one a line; none: their numbers.

    Exporters leave an average pool's [classes,1,1] as it is, which is a list of classes as well.
    Of several outputs none says how many classes there are.
    """
    answer = outputs[0].shape
    classes = math.prod(answer)
    listed = len(outputs) == 1 and max(answer, default=0) == classes
    if not listed and (len(outputs) == 1 or notes.labels is None):
        return ()
    if notes.labels is None:
        return tuple(str(index) for index in range(classes))
    names = notes.labels
    if isinstance(names, str):
        file = path.parent / names
        try:
            names = read_text(file).splitlines()
        except (OSError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            raise ModelError(f"{path.with_suffix('.toml')}: labels: {file}: {said}") from None
    if listed and len(names) != classes:
        raise ModelError(f"{path.with_suffix('.toml')}: {len(names)} labels for {classes} classes")
    return tuple(names)


def _weights(path: Path, choice: str) -> Weights:
    if choice != "auto":
        raise ModelError(f"--weights {choice}: {path} has its weights inside")
    digest = hashlib.sha256()
    for file in (*(() if path.is_dir() else (path,)), *weight_files(path)):
        try:
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise ModelError(f"--model {file}: {error.strerror}") from None
    return Weights(
        source="file",
        description=f"file {path}",
        path=path.absolute(),
        digest=f"sha256:{digest.hexdigest()}",
    )


def weight_files(path: Path) -> list[Path]:
    """The files beside a model file that hold its weights.

    Raises:
        ModelError: one is missing, or lies elsewhere.
    """
    beside = files.weight_files_of(path)
    if beside is not None:
        return beside
    found = []
    for name, size in onnx_header.read_locations(path).items():
        file = path.parent / name
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise ModelError(f"--model {path}: its weights {name!r} lie outside its folder")
        # What is no regular file (a device, a pipe) may never come to an end.
        if not os.path.isfile(file):  # noqa: PTH113
            raise ModelError(f"--model {path}: its weights {name!r} are missing")
        _check_size(path, file, size)
        found.append(file)
    return found


def _check_size(path: Path, weights: Path, size: int) -> None:
    """Raises ModelError where a file of weights has not as many bytes as the model takes of it."""
    try:
        found = weights.stat().st_size
    except OSError as error:
        raise ModelError(f"--model {weights}: {error.strerror}") from None
    if found < size:
        raise ModelError(
            f"--model {path}: its weights {weights.name} have {found} bytes, and it takes {size}: "
            "they are cut, or another model's; copy both again"
        )


def _no_module(_: Weights) -> torch.nn.Module:
    raise ModelError("a model file has no torch module")
