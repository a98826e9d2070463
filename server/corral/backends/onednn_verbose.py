"""oneDNN's own account of what it ran: the lines that it prints in verbose mode. Pure.

A line has commas between its fields. What stands before ``exec`` differs by version; where one
form ended and the next began is about so:

    dnnl_verbose,exec,cpu,convolution,…                       1, 2
    onednn_verbose,exec,cpu,convolution,…                     2.x, 3.0
    onednn_verbose,primitive,exec,cpu,convolution,…           3.1 to 3.5
    onednn_verbose,v1,primitive,exec,cpu,convolution,…        3.6 and later

and a timestamp, if one is asked for, stands before ``primitive`` or ``exec``. Then come engine,
primitive, implementation, propagation, memory descriptors, attributes, auxiliary, the problem in
benchdnn's notation, and milliseconds.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
from collections.abc import Iterable

from corral.backends.operators import Operator

_MARKERS = ("onednn_verbose", "dnnl_verbose", "mkldnn_verbose")
#: what may stand between the marker and "exec"
_PREFIX = re.compile(r"v\d+|primitive|\d+(\.\d+)?(e\+?\d+)?")
#: engine to milliseconds, behind "exec"
_FIELDS = 9
_SOURCE = re.compile(r"(?:^| )src\d*[:_](\w+?):")
_PRECISIONS = {"f32": "fp32", "bf16": "bf16", "f16": "fp16", "s8": "int8", "u8": "int8"}
_SIZES = re.compile(r"([a-z]+)(\d+)")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Execution:
    """One primitive that ran.

    Attributes:
        primitive: "convolution", "reorder".
        implementation: with its instruction set, "brg_conv_fwd:avx2".
        precision: of its first source: "fp32", "int8"; oneDNN's word where we have none.
        problem: its sizes in benchdnn's notation.
        ms: milliseconds.
    """

    primitive: str
    implementation: str
    precision: str
    problem: str
    ms: float


def parse(text: str) -> list[Execution]:
    """The primitives that ran, in their order; every other line is passed over."""
    found = (_parse_line(line.strip()) for line in text.splitlines())
    return [execution for execution in found if execution is not None]


def _parse_line(line: str) -> Execution | None:
    marker, *fields = line.split(",")
    if marker not in _MARKERS or "exec" not in fields:
        return None
    begin = fields.index("exec")
    prefix, said = fields[:begin], fields[begin + 1 :]
    if len(said) < _FIELDS or not all(_PREFIX.fullmatch(word) for word in prefix):
        return None
    try:
        ms = float(said[-1])
    except ValueError:
        return None
    if not (math.isfinite(ms) and ms >= 0):
        return None
    source = _SOURCE.search(said[4])
    datatype = source[1] if source else ""
    return Execution(
        primitive=said[1],
        implementation=said[2],
        precision=_PRECISIONS.get(datatype, datatype),
        problem=said[-2],
        ms=ms,
    )


def flop(execution: Execution) -> float:
    """Operations of a primitive, two for a product and a sum; 0 where they are not known."""
    if execution.primitive == "matmul":
        return _matmul_flop(execution.problem)
    sizes = collections.defaultdict(lambda: 1, _sizes(execution.problem))
    if not {"mb", "ic", "oc"} <= sizes.keys():
        return 0.0
    products = sizes["mb"] * sizes["ic"] * sizes["oc"] / sizes["g"]
    if execution.primitive == "inner_product":
        return 2.0 * products * sizes["id"] * sizes["ih"] * sizes["iw"]
    kernel = sizes["kd"] * sizes["kh"] * sizes["kw"]
    if execution.primitive == "convolution":
        return 2.0 * products * kernel * sizes["od"] * sizes["oh"] * sizes["ow"]
    if execution.primitive == "deconvolution":
        return 2.0 * products * kernel * sizes["id"] * sizes["ih"] * sizes["iw"]
    return 0.0


def _sizes(problem: str) -> dict[str, int]:
    """ "g8mb2_ic8oc8_ih14": a size by its letters."""
    return {name: int(size) for name, size in _SIZES.findall(problem)}


def _matmul_flop(problem: str) -> float:
    """ "2x3x4:2x4x5", with "2x3x5" behind a second colon in some versions; batches broadcast."""
    shapes = [re.findall(r"\d+", shape) for shape in problem.split(":")[:2]]
    if len(shapes) != 2 or any(len(shape) < 2 for shape in shapes):
        return 0.0
    left, right = ([int(size) for size in shape] for shape in shapes)
    batches = [max(pair) for pair in zip(left[:-2], right[:-2], strict=False)]
    return 2.0 * math.prod(batches) * left[-2] * left[-1] * right[-1]


def operators(executions: Iterable[Execution], inferences: int) -> list[Operator]:
    """A row for each problem and implementation, in the order in which they first ran.

    Args:
        executions: of all inferences together.
        inferences: how many these were.
    """
    groups: dict[Execution, list[float]] = {}
    for execution in executions:
        groups.setdefault(dataclasses.replace(execution, ms=0.0), []).append(execution.ms)
    return [
        Operator(
            name=f"{kind.primitive} {kind.problem}",
            type=kind.primitive,
            kernel=kind.implementation,
            precision=kind.precision,
            calls=len(times_ms),
            us=1000 * sum(times_ms) / inferences,
            flop=flop(kind) * len(times_ms) / inferences,
        )
        for kind, times_ms in groups.items()
    ]
