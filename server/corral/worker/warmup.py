"""A worker's warm-up: compile each batch size, run it, and learn what it costs."""

from __future__ import annotations

import dataclasses
import time

from corral.backends.base import Backend, PortsBackend
from corral.batching.cost_curve import Search, keep_going, knee, sizes_up_to
from corral.ipc.region import Region
from corral.tensors import Datatype

#: the first runs of a size fill caches and are not counted
_UNCOUNTED_RUNS = 2
#: a size is measured this often, and further while the time lasts
_MIN_RUNS = 5
_MAX_RUNS = 20
_MEASURE_S = 0.4
#: where it is known that the sizes pay, those above the first are measured for that long
_KNOWN_S = 0.1


@dataclasses.dataclass(frozen=True)
class WarmedUp:
    """What came of it.

    Attributes:
        sizes: the batch sizes that stay compiled, ascending.
        costs_s: seconds of one batch, by "DATATYPE:count".
    """

    sizes: list[int]
    costs_s: dict[str, float]


def warm_up(
    backend: Backend,
    region: Region,
    datatypes: tuple[Datatype, ...],
    sizes: list[int],
    *,
    search: Search | None,
    measured: bool = True,
) -> WarmedUp:
    """Compiles and measures; call it from the pinned thread that will run the batches.

    Args:
        backend: loaded.
        region: its pages are touched here first.
        datatypes: the first one decides where the knee is.
        sizes: to compile, ascending.
        search: stop where batching stops paying, and discard what lies beyond; None keeps all.
        measured: False leaves the costs out, for whoever measures by himself.
    """
    if not measured:
        for datatype in datatypes:
            for size in sizes:
                _compile(backend, region, datatype, size)
        return WarmedUp(sizes, {})
    first, *others = datatypes
    measured_s: dict[int, float] = {}
    for size in sizes:
        known = search is None and size > sizes[0]
        measured_s[size] = _ready(backend, region, first, size, _KNOWN_S if known else _MEASURE_S)
        if search is not None and not keep_going(measured_s, search):
            break
    kept = sizes if search is None else sizes_up_to(knee(measured_s, search), measured_s)
    for size in measured_s:
        if size not in kept:
            backend.discard(first, size)
    costs_s = {f"{first.name}:{size}": measured_s[size] for size in kept}
    for datatype in others:
        for size in kept:
            span_s = _KNOWN_S if size > kept[0] else _MEASURE_S
            costs_s[f"{datatype.name}:{size}"] = _ready(backend, region, datatype, size, span_s)
    return WarmedUp(kept, costs_s)


def _ready(
    backend: Backend, region: Region, datatype: Datatype, size: int, measure_s: float
) -> float:
    """Compiles one size of one datatype and runs it; returns the least of its seconds.

    The least, because a start is a noisy time (other processes start on the same machine), and
    because requests that even this could not serve in time are refused.
    """
    _compile(backend, region, datatype, size)
    costs_s: list[float] = []
    began_s = time.perf_counter()
    while len(costs_s) < _MIN_RUNS or (
        len(costs_s) < _MAX_RUNS and time.perf_counter() - began_s < measure_s
    ):
        started_s = time.perf_counter()
        backend.run(datatype, size)
        costs_s.append(time.perf_counter() - started_s)
    return min(costs_s)


def _compile(backend: Backend, region: Region, datatype: Datatype, size: int) -> None:
    region.touch(size)
    if region.plain:
        backend.compile(datatype, region.inputs(datatype, size), region.outputs(size))
    else:
        assert isinstance(backend, PortsBackend), "no other engine is chosen for such a model"
        backend.compile_ports(datatype, region.all_inputs(datatype, size), region.all_outputs(size))
    for _ in range(_UNCOUNTED_RUNS):
        backend.run(datatype, size)
