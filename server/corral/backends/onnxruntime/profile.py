"""ONNX Runtime's own profile: the trace that a session writes, by node."""

from __future__ import annotations

import collections
import json
import math
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from corral.backends.onnxruntime.runtime import OnnxRuntimeBackend
from corral.backends.operators import EngineProfile, Operator, convolution_flop, product_flop
from corral.system.owned_folder import OwnedFolder
from corral.tensors import Datatype

_ENDING = "_kernel_time"
_BYTES = {"float": 4, "uint8": 1, "int8": 1, "int32": 4, "int64": 8, "float16": 2, "bfloat16": 2}
_CONVOLUTIONS = {"Conv", "FusedConv", "NhwcFusedConv", "QLinearConv", "ConvInteger"}
_PRODUCTS = {"Gemm", "MatMul", "FusedMatMul", "FusedGemm", "QLinearMatMul", "QGemm",
             "MatMulInteger", "DynamicQuantizeMatMul", "MatMulIntegerToFloat"}  # fmt: skip


class OnnxRuntimeProfiler(OnnxRuntimeBackend):
    """The backend with a session that profiles itself; see ``registry.create_profiler``."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = OwnedFolder("corral-profile-")

    def _options(self) -> Any:
        options = super()._options()
        options.enable_profiling = True
        options.profile_file_prefix = str(self._folder.path / "run")
        return options

    def profile(self, datatype: Datatype, count: int, seconds: float) -> EngineProfile:
        """Runs what was bound for so long, and says where the time went."""
        with self._folder:
            end_s = time.perf_counter() + seconds
            self.run(datatype, count)
            while time.perf_counter() < end_s:
                self.run(datatype, count)
            session = self._sessions[datatype]
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        return read_trace(events)


def read_trace(events: Iterable[Mapping[str, Any]]) -> EngineProfile:
    """The operators of a trace; each runs once an inference."""
    us: collections.Counter[str] = collections.Counter()
    calls: collections.Counter[str] = collections.Counter()
    told: dict[str, Mapping[str, Any]] = {}
    for event in events:
        name = str(event.get("name", ""))
        if event.get("cat") == "Node" and name.endswith(_ENDING):
            node = name.removesuffix(_ENDING)
            us[node] += int(event["dur"])
            calls[node] += 1
            told[node] = event["args"]
    inferences = max(calls.values(), default=0)
    found = [_operator(node, told[node], calls[node], us[node] / inferences) for node in us]
    return EngineProfile(operators=found, inferences=inferences)


def _operator(node: str, said: Mapping[str, Any], calls: int, us: float) -> Operator:
    kind = str(said.get("op_name", ""))
    inputs = _tensors(said.get("input_type_shape", []))
    outputs = _tensors(said.get("output_type_shape", []))
    moved = sum(math.prod(shape) * _BYTES.get(kind_, 4) for kind_, shape in (*inputs, *outputs))
    integers = any(word in kind for word in ("QLinear", "Integer", "QGemm"))
    return Operator(
        name=node,
        type=kind,
        kernel="",
        precision="int8" if integers else "fp32",
        calls=calls,
        us=us,
        flop=_flop(kind, inputs, outputs),
        moved_bytes=float(moved),
    )


def _tensors(said: Iterable[Mapping[str, list[int]]]) -> list[tuple[str, list[int]]]:
    return [(kind, shape) for entry in said for kind, shape in entry.items()]


def _flop(
    kind: str, inputs: list[tuple[str, list[int]]], outputs: list[tuple[str, list[int]]]
) -> float:
    if not outputs or not inputs:
        return 0.0
    output, first = outputs[0][1], inputs[0][1]
    weights = [shape for _, shape in inputs[1:] if len(shape) == len(first) > 1]
    if kind in _CONVOLUTIONS and weights:
        last = kind.startswith("Nhwc") and len(output) - 1
        return convolution_flop(output, weights[0], last or 1)
    if kind in _PRODUCTS and first:
        return product_flop(output, first[-1])
    return 0.0
