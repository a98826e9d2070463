"""OpenVINO's own profile: times by node; kernels and shapes are its runtime model's."""

from __future__ import annotations

import collections
import math
import re
import time
from typing import TYPE_CHECKING, Any

from corral.backends.openvino.runtime import OpenVINOBackend
from corral.backends.operators import EngineProfile, Operator, convolution_flop, product_flop
from corral.ipc.messages import WorkerBoot
from corral.tensors import Datatype

if TYPE_CHECKING:
    import openvino

_PRECISIONS = {"u8": "int8", "i8": "int8", "f32": "fp32", "bf16": "bf16", "f16": "fp16"}
_CONVOLUTIONS = {"Convolution", "GroupConvolution"}
_PRODUCTS = {"FullyConnected", "MatMul"}
_MODULE = re.compile(r"__module\.([\w.]+)/")


class OpenVINOProfiler(OpenVINOBackend):
    """The backend with the engine's counters on; see ``registry.create_profiler``."""

    def load(self, boot: WorkerBoot) -> None:
        """As the backend does."""
        super().load(boot)
        self._properties["PERF_COUNT"] = True
        self._cache = None

    def profile(self, datatype: Datatype, count: int, seconds: float) -> EngineProfile:
        """Runs what was compiled for so long, and says where the time went."""
        compiled = self._compiled[datatype, count]
        us: collections.Counter[str] = collections.Counter()
        calls: collections.Counter[str] = collections.Counter()
        inferences, end_s = 0, time.perf_counter() + seconds
        while not inferences or time.perf_counter() < end_s:
            self.run(datatype, count)
            inferences += 1
            for info in compiled.request.get_profiling_info():
                spent_us = info.real_time.total_seconds() * 1e6
                if spent_us:
                    us[info.node_name] += spent_us
                    calls[info.node_name] += 1
        nodes = {
            node.get_friendly_name(): node
            for node in compiled.graph.model.get_runtime_model().get_ordered_ops()
        }
        operators = [
            _operator(nodes[name], calls[name], us[name] / inferences)
            for name in us
            if name in nodes
        ]
        return EngineProfile(operators=operators, inferences=inferences)


def _operator(node: openvino.Node, calls: int, us: float) -> Operator:
    said = {name: str(value.value) for name, value in node.get_rt_info().items()}
    kind = said.get("layerType", node.get_type_name())
    kernel = said.get("primitiveType", "")
    inputs = [_shape(node.input(n)) for n in range(node.get_input_size())]
    output = _shape(node.output(0))
    ports = [node.input(n) for n in range(node.get_input_size())] + [node.output(0)]
    moved = sum(math.prod(_shape(port)) * port.get_element_type().size for port in ports)
    return Operator(
        name=_name(node.get_friendly_name(), said.get("originalLayersNames", "")),
        type=kind,
        kernel=kernel,
        precision=_precision(kernel, said.get("runtimePrecision", "")),
        calls=calls,
        us=us,
        flop=_flop(kind, inputs, output),
        moved_bytes=float(moved),
    )


def _precision(kernel: str, runtime: str) -> str:
    """Of the arithmetic: an INT8 kernel's output may be FP32."""
    word = kernel.rpartition("_")[2].lower()
    return _PRECISIONS.get(word, _PRECISIONS.get(runtime.lower(), runtime))


def _name(node: str, originals: str) -> str:
    """The module of the model that it was made of, where that is known."""
    found = _MODULE.search(originals)
    return found[1] if found else node


def _shape(port: Any) -> list[int]:
    shape = port.get_partial_shape()
    return [int(d.get_length()) for d in shape] if shape.is_static else []


def _flop(kind: str, inputs: list[list[int]], output: list[int]) -> float:
    if len(inputs) < 2 or not output:
        return 0.0
    if kind in _CONVOLUTIONS:
        return convolution_flop(output, inputs[1])
    if kind in _PRODUCTS and inputs[0]:
        return product_flop(output, inputs[0][-1])
    return 0.0
