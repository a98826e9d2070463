"""torch's own profile, and oneDNN's of what torch has it do.

torch's profiler gives self times of its operators, by name and shapes. Of what oneDNN computes, its
verbose lines say the implementation: these rows replace torch's operators that call it.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from corral.backends import onednn_verbose
from corral.backends.operators import EngineProfile, Operator
from corral.backends.torch.runtime import TorchBackend
from corral.tensors import Datatype

#: inferences whose verbose lines are kept: a few hundred lines each
_HEARD = 50
#: words in the names of operators that call oneDNN, and of those that do in some precisions
_CALLERS = ("mkldnn", "onednn", "convolution_pointwise", "linear_pointwise")
_PRODUCTS = ("addmm", "mm", "linear")
#: words in the names of operators whose kernels do the arithmetic that torch counts
_HEAVY = ("mkldnn_convolution", "convolution_pointwise", "addmm", "mm", "linear")


class TorchProfiler(TorchBackend):
    """The backend under torch's profiler; see ``registry.create_profiler``."""

    def profile(self, datatype: Datatype, count: int, seconds: float) -> EngineProfile:
        """Runs what was readied for so long, and says where the time went."""
        import torch
        from torch.profiler import ProfilerActivity

        inferences = 0
        with torch.profiler.profile(
            activities=[ProfilerActivity.CPU], record_shapes=True, with_flops=True
        ) as profiled:
            # Its start takes longer than an inference.
            end_s = time.perf_counter() + seconds / 2
            while not inferences or time.perf_counter() < end_s:
                self.run(datatype, count)
                inferences += 1
        events = list(profiled.key_averages(group_by_input_shape=True))
        found = operators(events, inferences, self._precision)
        # IPEX brings an oneDNN of its own, which torch cannot make talk.
        if not self._ipex and torch.backends.mkldnn.is_available():
            found = join(found, self._listen(datatype, count, seconds / 2))
        return EngineProfile(operators=found, inferences=inferences)

    def _listen(self, datatype: Datatype, count: int, seconds: float) -> list[Operator]:
        """Runs for so long with oneDNN's verbose mode on; what it said of one inference."""
        import torch

        inferences, end_s = 0, time.perf_counter() + seconds
        with tempfile.TemporaryFile() as said:
            with (
                _standard_output(said.fileno()),
                torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON),
            ):
                while not inferences or (inferences < _HEARD and time.perf_counter() < end_s):
                    self.run(datatype, count)
                    inferences += 1
            said.seek(0)
            text = said.read().decode(errors="replace")
        return onednn_verbose.operators(onednn_verbose.parse(text), inferences)


@contextlib.contextmanager
def _standard_output(fd: int) -> Iterator[None]:
    """What C code prints goes to ``fd`` meanwhile."""
    libc = ctypes.CDLL(None)
    sys.stdout.flush()
    libc.fflush(None)
    kept = os.dup(1)
    os.dup2(fd, 1)
    try:
        yield
    finally:
        libc.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)


def join(torch_says: Sequence[Operator], onednn_says: Sequence[Operator]) -> list[Operator]:
    """oneDNN's rows instead of those of torch's operators that call it.

    What these took beyond oneDNN's own time stands in one row, so that the sum stays torch's.
    """
    if not onednn_says:
        return list(torch_says)
    callers: tuple[str, ...] = _CALLERS
    if any(operator.type in ("matmul", "inner_product") for operator in onednn_says):
        callers += _PRODUCTS
    calling = [found for found in torch_says if any(word in found.type for word in callers)]
    others = [found for found in torch_says if found not in calling]
    rest_us = sum(found.us for found in calling) - sum(found.us for found in onednn_says)
    around = Operator(
        name="around oneDNN: calls, memory",
        type="call",
        kernel="",
        precision="",
        calls=sum(found.calls for found in calling),
        us=max(0.0, rest_us),
    )
    return [*onednn_says, *([around] if rest_us > 0 else []), *others]


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
