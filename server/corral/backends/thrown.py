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
#: the way out where a file contradicts itself
_ANEW = "export it anew, or take the declared shape out of the file"
#: an answer that does not fit the array it is to be written to
_OTHER_SHAPE = re.compile(
    r"OrtValue provided for output '(.+?)'.* has shape \{(.*?)\} but the computed output shape for "
    r"this run is \{(.*?)\}"
)


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
    if _NO_OPERATOR.search(line):
        return f"{line}: {_OTHER_OPERATORS}"
    if _NEWER.search(line):
        return f"{line.rstrip('.')}: {_OLDER_FILE}"
    if found := _OTHER_SHAPE.search(line):
        output, *shapes = found.groups()
        wanted, given = (f"[{shape.replace(',', ', ')}]" for shape in shapes)
        said = (declared or {}).get(output)
        if said and all(isinstance(size, int) for size in said[1:]):
            return f"the graph answers {output} {given}, not {wanted} as the file says: {_ANEW}"
        return shape_moves(output, wanted, given)
    return line


def shape_moves(output: str, one: str, other: str) -> str:
    """Says that an output's shape hangs on the values, as in "boxes", "[0, 3]" and "[5, 3]"."""
    return (
        f"output {output} has another shape for other values ({one}, {other}): "
        "only shapes that stay are served, so let the model pad it to a fixed one"
    )
