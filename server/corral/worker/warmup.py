"""A worker's warm-up: compile each batch size, run it, and learn what it costs."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Mapping

from corral.backends.base import Backend, PortsBackend
from corral.batching.cost_curve import Search, compared, keep_going, knee, sizes_up_to
from corral.errors import ConfigError, PassingError, telling_line
from corral.ipc.messages import ModelFindings
from corral.ipc.region import Region
from corral.system.other_load import MUCH
from corral.tensors import Datatype
from corral.worker.filling import Filling
from corral.worker.probe import Probe

#: the first runs of a size fill caches and are not counted
_UNCOUNTED_RUNS = 2
#: a size is measured this often, and further while the time lasts
_MIN_RUNS = 5
_MAX_RUNS = 20
_MEASURE_S = 0.4
#: those above the first are measured that often and that long, and in turns where it matters
_LARGER_RUNS = 2
_LARGER_S = 0.1
#: A machine's pace changes while it is measured, by a half on hosts that several share, and nobody
#: tells. So sizes are compared in turns, so many and so long each, before one is said not to pay.
_ROUNDS = 3
_ROUND_S = 0.1
#: Where others take much of the CPUs, a larger batch suffers more than a smaller one, which fits
#: between what they do: there are more turns.
_BUSY_ROUNDS = 6
#: of an item or its answer: noise is made in FP64, and of ten items at once
_MOST_PROBED_BYTES = 256 * 2**20
_TOO_LARGE = "its items are too large to find out whether they see one another"


@dataclasses.dataclass(frozen=True)
class WarmedUp:
    """What came of it.

    Attributes:
        sizes: the batch sizes that stay compiled, ascending.
        costs_s: seconds of one batch, by "DATATYPE:count".
        findings: what the answers say of the model.
        other_load: the share of the CPUs, 0 to 1, that others took meanwhile.
    """

    sizes: list[int]
    costs_s: dict[str, float]
    findings: ModelFindings = dataclasses.field(default_factory=ModelFindings)
    other_load: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order:
    """What is to be warmed up.

    Attributes:
        datatypes: the first one decides where the knee is.
        sizes: to compile, ascending from 1.
        search: stop where batching stops paying, and discard what lies beyond; None keeps all.
        known_s: seconds of one batch by "DATATYPE:count", measured earlier: such a size is not
            measured again, but for one run that may correct what a busy machine said.
        measured: False leaves the costs out, for whoever measures by himself.
        exact: the arithmetic is FP32.
        probed: whether the answers are looked at; they mean nothing where nothing is computed.
        fixed_batch: what the model's file fixes its batch at, so that there is one size; or None.
        others: tells the share of the CPUs, 0 to 1, that others took so far.
    """

    datatypes: tuple[Datatype, ...]
    sizes: list[int]
    search: Search | None = None
    known_s: Mapping[str, float] = dataclasses.field(default_factory=dict)
    measured: bool = True
    exact: bool = True
    probed: bool = True
    fixed_batch: int | None = None
    others: Callable[[], float] = float


def warm_up(backend: Backend, region: Region, order: Order) -> WarmedUp:
    """Compiles and measures; call it from the pinned thread that will run the batches.

    The sizes end before the first that the model does not take, or in which items see one another.

    Args:
        backend: loaded.
        region: its pages are touched here first.
        order: what is to be warmed up.

    Raises:
        ModelError, ConfigError: not even a batch of one runs.
    """
    first, *others = order.datatypes
    smallest, *larger = order.sizes
    filling = Filling(region)
    probed = order.probed and not _too_large(region, first)
    probe = Probe(backend, region, filling, first, exact=order.exact) if probed else None

    def ready(datatype: Datatype, size: int) -> float:
        known_s = order.known_s.get(f"{datatype.name}:{size}")
        span_s = _span_s(order, size)
        return _ready(backend, region, filling, datatype, size, measure_s=span_s, known_s=known_s)

    measured_s = {smallest: ready(first, smallest)}
    unsteady = probe.repeated(smallest) if probe else ""
    kind = probe.output_kind() if probe else ""
    limit = _fixed(order)
    if order.probed and not probed and larger:
        limit = limit or _TOO_LARGE
    fair = False
    for size in larger if not limit else ():
        if not _goes_on(measured_s, order):
            _compare(backend, first, measured_s, order)
            fair = True
        if not _goes_on(measured_s, order):
            break
        cost_s, limit = _try(functools.partial(ready, first, size))
        if limit:
            limit = f"it takes no batch of {size} ({limit})"
        elif probe and size == larger[0]:
            limit, moved = probe.fault(size)
            unsteady = unsteady or moved
        if limit:
            _discard(backend, first, [size])
            break
        measured_s[size], fair = cost_s, False
    kept = _that_pay(backend, first, measured_s, order, fair=fair)
    _discard(backend, first, measured_s.keys() - set(kept))
    costs_s = {f"{first.name}:{size}": measured_s[size] for size in kept}
    for datatype in others:
        for size in kept:
            costs_s[f"{datatype.name}:{size}"] = ready(datatype, size)
    if any(filling.values):
        # A frontend runs what it finds there first, as the first datatype.
        filling.put(first, smallest)
    findings = ModelFindings(output_kind=kind, batch_limit=limit, unsteady=unsteady)
    return WarmedUp(kept, costs_s if order.measured else {}, findings, order.others())


def _too_large(region: Region, datatype: Datatype) -> bool:
    signature = region.signature
    item_bytes = sum(spec.item_bytes for spec in signature.input_specs(datatype))
    return max(item_bytes, signature.output_bytes) > _MOST_PROBED_BYTES


def _fixed(order: Order) -> str:
    """Why the file itself allows no batch; empty where it does."""
    batch = order.fixed_batch
    if batch is None:
        return ""
    cost = "" if batch == 1 else f", and an item may cost as much as {batch}"
    return f"its file fixes the batch at {batch}{cost}; export it with a dynamic first dimension"


def _span_s(order: Order, size: int) -> float | None:
    """How long a size is measured; None where it is not."""
    if not order.measured:
        return None
    return _LARGER_S if size > order.sizes[0] else _MEASURE_S


def _goes_on(measured_s: dict[int, float], order: Order) -> bool:
    if order.search is None or not order.measured:
        return True
    return keep_going(measured_s, order.search)


def _that_pay(
    backend: Backend, datatype: Datatype, measured_s: dict[int, float], order: Order, *, fair: bool
) -> list[int]:
    """The sizes to keep; they are compared before the largest is left out, unless they were."""
    if order.search is None or not order.measured:
        return list(measured_s)
    if not fair and knee(measured_s, order.search) < max(measured_s):
        _compare(backend, datatype, measured_s, order)
    return sizes_up_to(knee(measured_s, order.search), measured_s)


def _compare(
    backend: Backend, datatype: Datatype, measured_s: dict[int, float], order: Order
) -> None:
    """Measures the sizes in turns, and corrects what they cost; see ``compared``."""
    rounds_s = [
        {size: _measure(backend, datatype, size, _ROUND_S, least_runs=1) for size in measured_s}
        for _ in range(_ROUNDS if order.others() <= MUCH else _BUSY_ROUNDS)
    ]
    measured_s.update(compared(measured_s[order.sizes[0]], rounds_s))


def _try(ready: Callable[[], float]) -> tuple[float, str]:
    """As ``_ready``; and why the model takes no batch of this size, where it does not."""
    try:
        return ready(), ""
    except (MemoryError, PassingError, ConfigError):
        raise
    # An engine raises what it likes for a batch that the model's graph does not take.
    except Exception as error:
        return 0.0, telling_line(error)


def _discard(backend: Backend, datatype: Datatype, sizes: Iterable[int]) -> None:
    for size in sizes:
        # One that could not be compiled is not there.
        with contextlib.suppress(KeyError):
            backend.discard(datatype, size)


def _ready(
    backend: Backend,
    region: Region,
    filling: Filling,
    datatype: Datatype,
    size: int,
    *,
    measure_s: float | None,
    known_s: float | None,
) -> float:
    """Compiles one size of one datatype and runs it; returns the least of its seconds.

    The least, because a start is a noisy time (other processes start on the same machine), and
    because requests that even this could not serve in time are refused. Without ``measure_s`` it
    is not measured, and 0. Of what is known already, one run is enough: what was measured on a
    busy machine is not believed for good.
    """
    # A start that measures nothing takes as long as its runs: of larger batches one will do.
    runs = 1 if known_s is not None and size > 1 else _UNCOUNTED_RUNS
    region.touch(size)
    warm_s = filling.until_taken(
        datatype, size, lambda: _compile(backend, region, datatype, size, runs)
    )
    if measure_s is None:
        return 0.0
    if known_s is not None:
        return min(known_s, warm_s)
    least_runs = _MIN_RUNS if size == 1 else _LARGER_RUNS
    return _measure(backend, datatype, size, measure_s, least_runs=least_runs)


def _measure(
    backend: Backend,
    datatype: Datatype,
    size: int,
    measure_s: float,
    *,
    least_runs: int,
) -> float:
    """Runs batches of a compiled size for about so long; returns the least of their seconds."""
    costs_s: list[float] = []
    began_s = time.perf_counter()
    while len(costs_s) < least_runs or (
        len(costs_s) < _MAX_RUNS and time.perf_counter() - began_s < measure_s
    ):
        started_s = time.perf_counter()
        backend.run(datatype, size)
        costs_s.append(time.perf_counter() - started_s)
    return min(costs_s)


def compile_batch(
    backend: Backend, region: Region, datatype: Datatype, size: int, runs: int = _UNCOUNTED_RUNS
) -> float:
    """Readies batches of one size of one datatype in the region, and runs a few uncounted.

    They run what lies in the region, or what the model takes instead; see ``Filling``.

    Returns:
        seconds of the last of these.
    """
    region.touch(size)
    return Filling(region).until_taken(
        datatype, size, lambda: _compile(backend, region, datatype, size, runs)
    )


def _compile(backend: Backend, region: Region, datatype: Datatype, size: int, runs: int) -> float:
    if region.plain:
        backend.compile(datatype, region.inputs(datatype, size), region.outputs(size))
    else:
        assert isinstance(backend, PortsBackend), "no other engine is chosen for such a model"
        backend.compile_ports(datatype, region.all_inputs(datatype, size), region.all_outputs(size))
    took_s = 0.0
    for _ in range(runs):
        began_s = time.perf_counter()
        backend.run(datatype, size)
        took_s = time.perf_counter() - began_s
    return took_s
