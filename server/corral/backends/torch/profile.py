"""torch's own profile: self times of its operators, by name and shapes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from corral.backends.operators import EngineProfile, Operator
from corral.backends.torch.runtime import TorchBackend
from corral.tensors import Datatype

#: words in the names of operators whose kernels do the arithmetic that torch counts
_HEAVY = ("mkldnn_convolution", "convolution_pointwise", "addmm", "mm", "linear")


class TorchProfiler(TorchBackend):
    """The backend under torch's profiler; see ``registry.create_profiler``."""

    def profile(self, datatype: Datatype, count: int, seconds: float) -> EngineProfile:
        """Runs what was readied for so long, and says where the time went."""
        import torch
        from torch.profiler import ProfilerActivity

        inferences, end_s = 0, time.perf_counter() + seconds
        with torch.profiler.profile(
            activities=[ProfilerActivity.CPU], record_shapes=True, with_flops=True
        ) as profiled:
            while not inferences or time.perf_counter() < end_s:
                self.run(datatype, count)
                inferences += 1
        events = list(profiled.key_averages(group_by_input_shape=True))
        return EngineProfile(
            operators=operators(events, inferences, self._precision), inferences=inferences
        )


def operators(events: Iterable[Any], inferences: int, precision: str) -> list[Operator]:
    """The operators of a profile of so many inferences.

    torch counts the operations of a convolution at the operator that calls the one with the
    kernel: those of the same tensors belong together.
    """
    events = list(events)
    counted = {_tensors(event): event.flops for event in events if event.flops}
    return [
        _operator(event, inferences, precision, counted)
        for event in events
        if event.self_cpu_time_total > 0
    ]


def _operator(
    event: Any, inferences: int, precision: str, counted: Mapping[tuple[Any, ...], int]
) -> Operator:
    kind = event.key.rpartition("::")[2]
    tensors = _tensors(event)
    heavy = any(word in kind for word in _HEAVY)
    shown = "x".join(map(str, tensors[0])) if tensors and tensors[0] else ""
    return Operator(
        name=f"{event.key} {shown}".strip(),
        type=kind,
        kernel=event.key,
        precision=precision,
        calls=event.count,
        us=event.self_cpu_time_total / inferences,
        flop=counted.get(tensors, 0) / inferences if heavy else 0.0,
    )


def _tensors(event: Any) -> tuple[tuple[int, ...], ...]:
    """The shapes of its first two inputs: data and weights."""
    shapes = event.input_shapes or []
    return tuple(tuple(shape) for shape in shapes[:2] if all(isinstance(n, int) for n in shape))
