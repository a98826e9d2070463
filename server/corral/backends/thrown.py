"""What an engine throws, in one line for a person: the cause, and the way out if it is known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from corral.backends.registry import engine
from corral.errors import telling_line
from corral.settings import BackendName
from corral.system.limits import NO_EXECUTABLE_MEMORY, refuses_executable_memory

#: what exceptions of C++ become in Python: std::stoi of an odd file throws an invalid_argument
THROWN = (RuntimeError, ValueError, IndexError, OverflowError)
#: the head of ONNX Runtime's lines: it names the file, as corral does itself
_HEAD = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : (Load model from .*? failed:\s*)?(Fatal error: )?"
)
#: where in its source it says so, and the function's whole signature
_PLACE = re.compile(r"^/\S+:\d+ .*?\) (?=[A-Z])")
#: a file of a version that an engine does not know yet
_NEWER = re.compile(r"Unsupported model IR version|official released onnx opset versions")
_OLDER_FILE = "export it for an older version, or try another --backend"
#: an operator that the engine does not have
_NO_OPERATOR = re.compile(
    r"No conversion rule found for operations|is not a registered function/op|No Op registered for"
)
_OTHER_OPERATORS = "export the model without that operator, or try another --backend"
#: what front ends say of a file, or of its weights, that they cannot make out
_UNREADABLE = re.compile(
    r"Unable to read the model|can(?:not|'t) be parsed|FlatBuffer verification failed|"
    r"Failed to read weight|TensorDesc size is invalid|Wrong index file|entry bounds .* exceed|"
    r"Failed to parse value|^sto[a-z]+$"
)
_COPY = "it is cut, damaged or of another kind; copy it again, with the files beside it"
#: a SavedModel's variables lie in a folder of their own
_NO_VARIABLES = re.compile(r"Conversion is failed for: .*VarHandleOp")
_COPY_VARIABLES = "its variables are missing; copy a SavedModel's folder whole, or freeze the graph"
#: Paddle's weights lie beside the graph; an empty file of them counts as none
_NO_PADDLE_WEIGHTS = re.compile(r"PaddlePaddle \*\.pdiparams format weight file doesn't exist")
_COPY_PADDLE_WEIGHTS = "its .pdiparams is missing or empty; copy both files into one folder"
#: the way out by what a line says, the first that fits
_WAYS_OUT = (
    (_NO_OPERATOR, _OTHER_OPERATORS),
    (_NO_VARIABLES, _COPY_VARIABLES),
    (_NO_PADDLE_WEIGHTS, _COPY_PADDLE_WEIGHTS),
    (_UNREADABLE, _COPY),
    (_NEWER, _OLDER_FILE),
)
#: the way out where a file contradicts itself
_ANEW = "export it anew, or take the declared shape out of the file"
#: an answer that does not fit the array it is to be written to
_OTHER_SHAPE = re.compile(
    r"OrtValue provided for output '(.+?)'.* has shape \{(.*?)\} but the computed output shape for "
    r"this run is \{(.*?)\}"
)
#: an answer whose array contradicts what the graph itself says of it
_OTHER_DIMENSION = re.compile(
    r"Got invalid dimensions for output: (.+?) for the following indices\s+index: (\d+) "
    r"Got: (\d+) Expected: (\d+)"
)
#: the way out where an answer's first dimension is another than the items'
_NO_BATCH = "the first dimension of an answer is the batch, so let the model answer a row an item"
#: the way out where somebody gave a shape that the graph does not have
CORRECT = "correct --shape, or [shapes] in the TOML file beside the model"
#: ONNX Runtime's operators name themselves; a session that cannot be made does not
_ORT_SAYS = re.compile(
    r"Non-zero status code returned while running (\w+) node\..*? Status Message: (.+)"
)
#: and so do OpenVINO's
_OPENVINO_OPERATOR = re.compile(r"\[CPU\] (\w+)(?: \w+)? with name |^Node .+ of type (\w+)$", re.M)
#: where in its source an operator says so: a file, a line and a function; and what it looked at
_SAID_AT = re.compile(
    r"^(?:/\S+:\d+ .*?\)(?: \[with .*?\])? |\w+\.(?:cc|h):\d+ \S+ )?(?:[^.]*? was false\. )?"
)
#: no fault of the values
_NO_ROOM = re.compile(r"alloc|memory|thread", re.IGNORECASE)
#: what reaches a client of an engine's words
_MOST_CHARS = 200


def refusal(error: Exception) -> str:
    """What an engine says is wrong with the values that it was given, for a client, in one line.

    It is empty where the engine blames something else: memory, or a shape that moves. No path and
    no place in a source comes along.

    Args:
        error: what the engine raised when it ran.
    """
    text = str(error)
    if found := _ORT_SAYS.search(text):
        operator, said = found[1], _SAID_AT.sub("", found[2])
    elif found := _OPENVINO_OPERATOR.search(text):
        operator, said = found[1] or found[2], telling_line(error)
    else:
        return ""
    if _OTHER_SHAPE.search(text) or _NO_ROOM.search(said):
        return ""
    if "/" in said:
        said = "not these values"
    return f"{operator}: {said}"[:_MOST_CHARS].rstrip(" .")


def explain(
    error: Exception, name: BackendName, declared: Mapping[str, Sequence[Any]] | None = None
) -> str:
    """The line of the exception that says most; and what took the engine's own code away, if so.

    Args:
        error: what the engine raised.
        name: the engine.
        declared: shapes that the file says of its outputs, by name, numbers where they are fixed.
    """
    line = _PLACE.sub("", _HEAD.sub("", telling_line(error), count=1))
    if engine(name).writes_code and refuses_executable_memory():
        return f"{line}: {NO_EXECUTABLE_MEMORY}"
    for says, way_out in _WAYS_OUT:
        if says.search(line):
            return f"{line.rstrip('.!')}: {way_out}"
    text = str(error)
    return _of_dimensions(text) or _of_shapes(text, declared or {}) or line


def _of_dimensions(text: str) -> str:
    """What it says of an array that its own graph contradicts; empty where it does not."""
    if not (found := _OTHER_DIMENSION.search(text)):
        return ""
    output, index, given, said = found.groups()
    if index == "0":
        return f"the graph answers {output} with {said} rows for {given} of a batch: {_NO_BATCH}"
    return f"dimension {index} of output {output} is {said} in the graph, not {given}: {CORRECT}"


def _of_shapes(text: str, declared: Mapping[str, Sequence[Any]]) -> str:
    """What ONNX Runtime says of an answer that does not fit its array; empty where it does not."""
    if not (found := _OTHER_SHAPE.search(text)):
        return ""
    output, *shapes = found.groups()
    wanted, given = (f"[{shape.replace(',', ', ')}]" for shape in shapes)
    known = declared.get(output)
    one, other = (shape.split(",")[1:] for shape in shapes)
    if known and all(isinstance(size, int) for size in known[1:]):
        if one == other:
            return f"the graph answers {output} {given}, not {wanted}: {_NO_BATCH}"
        return f"the graph answers {output} {given}, not {wanted} as the file says: {_ANEW}"
    if one == other:
        return shape_moves(output, wanted, given)
    return (
        f"the graph answers {output} {given} here, not {wanted}: {CORRECT}; or, where it has "
        "another shape for other values, let the model pad it to a fixed one"
    )


def shape_moves(output: str, one: str, other: str) -> str:
    """Says that an output's shape hangs on the values, as in "boxes", "[0, 3]" and "[5, 3]"."""
    return (
        f"output {output} has another shape for other values ({one}, {other}): "
        "only shapes that stay are served, so let the model pad it to a fixed one"
    )
