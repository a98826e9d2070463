"""corral's own metrics, in base units, as prometheus_client's metric families. Pure.

Labels are names that the configuration bounds (model, worker id, cell, cause), never a pid, so
the number of series stays the same however often anything is started again.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.samples import Exemplar

from corral.accuracy import AccuracyReport
from corral.ipc.status import ServerStatus, SpinStatus, State, WorkerStatus
from corral.metrics.counters import BATCH_BUCKETS, FAILURES, TIME_BUCKETS_S, Counts
from corral.planning.plan import Plan
from corral.tensors import View

_HISTOGRAMS = {
    "request_seconds": "Time from a request's arrival to its answer, requests with a result",
    "queue_seconds": "Time from a request's arrival to the start of its first batch",
    "inference_seconds": "Time that the engine took for a batch",
}


def request_families(counts: Counts, base: str) -> Iterator[Metric]:
    """What became of the requests, by model name; all cells summed."""
    received = CounterMetricFamily(
        "corral_requests_received", "Requests that named this model", labels=["model"]
    )
    admitted = CounterMetricFamily(
        "corral_requests_admitted", "Requests that got a place in the queue", labels=["model"]
    )
    outcomes = CounterMetricFamily(
        "corral_requests", "Requests answered, by outcome", labels=["model", "outcome"]
    )
    inflight = GaugeMetricFamily(
        "corral_requests_inflight", "Requests admitted and not yet answered", labels=["model"]
    )
    pending = GaugeMetricFamily(
        "corral_items_pending", "Items admitted and not yet given to a worker", labels=["model"]
    )
    for view in View:
        model = base + view.suffix
        received.add_metric([model], counts.read(f"view/{view}/received"))
        admitted.add_metric([model], counts.read(f"view/{view}/admitted"))
        outcomes.add_metric([model, "succeeded"], counts.read(f"view/{view}/succeeded"))
        for reason in FAILURES:
            outcomes.add_metric([model, reason], counts.read(f"view/{view}/failure_{reason}"))
        inflight.add_metric([model], counts.read(f"view/{view}/inflight"))
        pending.add_metric([model], counts.read(f"view/{view}/pending_items"))
    yield from (received, admitted, outcomes, inflight, pending)
    yield CounterMetricFamily(
        "corral_items_retried",
        "Items run again because their worker died, or because weights changed under them",
        counts.read("cell/retried_items"),
    )


def histogram_families(
    counts: Counts, exemplars: Sequence[Exemplar | None] = ()
) -> Iterator[Metric]:
    """The histograms, all cells and models summed.

    Args:
        counts: a copy of the counters.
        exemplars: of ``corral_request_seconds``, by bucket; the text format leaves them out.
    """
    for name, text in _HISTOGRAMS.items():
        yield HistogramMetricFamily(
            f"corral_{name}",
            text,
            buckets=_buckets(
                counts, name, TIME_BUCKETS_S, exemplars if name == "request_seconds" else ()
            ),
            sum_value=counts.read(f"hist/{name}/sum_ns") / 1e9,
        )
    yield HistogramMetricFamily(
        "corral_batch_size",
        "Items of a batch",
        buckets=_buckets(counts, "batch_size", BATCH_BUCKETS),
        sum_value=counts.read("hist/batch_size/sum"),
    )


def _buckets(
    counts: Counts,
    name: str,
    bounds: tuple[float, ...],
    exemplars: Sequence[Exemplar | None] = (),
) -> list[tuple[str, float] | tuple[str, float, Exemplar]]:
    """The cumulative buckets that Prometheus wants, of the pages' separate ones."""
    bucket = [counts.read(f"hist/{name}/{i}") for i in range(len(bounds) + 1)]
    labels = [*(str(float(bound)) for bound in bounds), "+Inf"]
    values = map(float, itertools.accumulate(bucket))
    rows = itertools.zip_longest(labels, values, exemplars)
    return [
        (label, value) if exemplar is None else (label, value, exemplar)
        for label, value, exemplar in rows
    ]


def worker_families(
    counts: Counts, status: ServerStatus, busy_ratios: Mapping[int, float]
) -> Iterator[Metric]:
    """What every worker does, by its id.

    Args:
        counts: a copy of the counters.
        status: says which slot of which cell a worker's counters are in.
        busy_ratios: busy fraction over the last seconds, by worker id.
    """
    label = ["worker"]
    up = GaugeMetricFamily("corral_worker_up", "1 when the worker is ready", labels=label)
    memory = GaugeMetricFamily(
        "corral_worker_memory_bytes", "Proportional bytes (PSS) after warm-up", labels=label
    )
    busy = CounterMetricFamily(
        "corral_worker_busy_seconds", "Time that the worker's engine ran", labels=label
    )
    ratio = GaugeMetricFamily(
        "corral_worker_busy_ratio",
        "Fraction of the last seconds that the worker's engine ran",
        labels=label,
    )
    batches = CounterMetricFamily("corral_worker_batches", "Batches run", labels=label)
    items = CounterMetricFamily("corral_worker_items", "Items run", labels=label)
    restarts = CounterMetricFamily(
        "corral_worker_restarts", "Times the worker was started again", labels=["worker", "cause"]
    )
    for worker in status.workers:
        name, slot = [str(worker.id)], f"slot/{worker.slot}"
        up.add_metric(name, worker.ready)
        memory.add_metric(name, worker.memory_bytes)
        busy.add_metric(name, counts.read(f"{slot}/busy_ns", worker.cell) / 1e9)
        ratio.add_metric(name, busy_ratios.get(worker.id, 0.0))
        batches.add_metric(name, counts.read(f"{slot}/batches", worker.cell))
        items.add_metric(name, counts.read(f"{slot}/items", worker.cell))
        for cause, times in worker.restarts.items():
            restarts.add_metric([str(worker.id), str(cause)], times)
    yield from (up, memory, busy, ratio, batches, items, restarts)


def cell_families(counts: Counts, status: ServerStatus) -> Iterator[Metric]:
    """What every cell's frontend does."""
    up = GaugeMetricFamily("corral_frontend_up", "1 when the frontend is ready", labels=["cell"])
    depth = GaugeMetricFamily("corral_queue_depth", "Items that wait in the queue", labels=["cell"])
    restarts = CounterMetricFamily(
        "corral_frontend_restarts", "Times the frontend was started again", labels=["cell", "cause"]
    )
    for cell in status.cells:
        up.add_metric([str(cell.cell)], cell.state in {State.READY, State.VERIFIED})
        depth.add_metric([str(cell.cell)], counts.queued(cell.cell))
        for cause, times in cell.restarts.items():
            restarts.add_metric([str(cell.cell), str(cause)], times)
    yield from (up, depth, restarts)


def server_families(status: ServerStatus, plan: Plan, version: str) -> Iterator[Metric]:
    """What the server is: mode, plan, build, allocator, weights."""
    yield GaugeMetricFamily("corral_ready", "1 when requests are taken", status.ready)
    yield GaugeMetricFamily(
        "corral_weights_synthetic", "1 when the weights carry no knowledge", status.synthetic
    )
    yield from _guard_families(status.guard)
    yield _marked("corral_mode", "The mode that the server runs in", "mode", status.mode)
    yield InfoMetricFamily(
        "corral_plan",
        "What the plan gives out",
        {
            "workers": str(sum(len(cell.workers) for cell in plan.cells)),
            "cores": str(sum(worker.cores for cell in plan.cells for worker in cell.workers)),
            "budget": str(plan.cpu_budget),
            "cells": str(len(plan.cells)),
        },
    )
    yield InfoMetricFamily(
        "corral_build",
        "What is running",
        {
            "version": version,
            "backend": status.backend,
            "precision": status.precision,
            "engine": _engine(status.workers),
        },
    )
    yield InfoMetricFamily(
        "corral_allocator", "The allocator asked for", {"allocator": status.allocator}
    )
    pens = InfoMetricFamily(
        "corral_worker",
        "Where a worker runs and what took hold there",
        labels=["worker", "cell", "cpus"],
    )
    for worker in status.workers:
        # Only what a worker reported: a series that changes as it boots would leave a dead one.
        if worker.checks:
            pens.add_metric(
                [str(worker.id), str(worker.cell), _ranges(worker.cpus)],
                {"allocator": worker.checks.get("allocator", "")},
            )
    yield pens


def _guard_families(report: AccuracyReport | None) -> Iterator[Metric]:
    """The precision guard's verdict; the measures only where something was measured."""
    yield GaugeMetricFamily(
        "corral_precision_fallback",
        "1 when FP32 serves because less was refused by the precision guard, or failed",
        report is not None and report.fell_back,
    )
    if report is None:
        return
    passed = GaugeMetricFamily(
        "corral_precision_guard_passed",
        "1 when the candidate costs no more of FP32's accuracy than is allowed",
        labels=["candidate"],
    )
    passed.add_metric([report.candidate], report.passed)
    measures = GaugeMetricFamily(
        "corral_precision_guard",
        "Against FP32: loss, loss_most and top1 as ratios, kl in nats, snr_db in dB",
        labels=["candidate", "measure"],
    )
    for measure in ("loss", "loss_most", "top1", "kl", "snr_db"):
        value = getattr(report.fidelity, measure, None)
        if value is not None:
            measures.add_metric([report.candidate, measure], value)
    yield from (passed, measures)


def _marked(name: str, text: str, label: str, value: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    family.add_metric([value], 1)
    return family


def _engine(workers: list[WorkerStatus]) -> str:
    """The engine as the first worker that reported one describes it: "OpenVINO 2026.4"."""
    for worker in workers:
        if worker.engine:
            parts = (worker.engine.get(key) for key in ("engine", "version"))
            return " ".join(part for part in parts if part)
    return ""


def _ranges(cpus: list[int]) -> str:
    """CPU numbers as the kernel writes them, "0-3,8"."""
    runs = itertools.groupby(enumerate(sorted(cpus)), lambda pair: pair[1] - pair[0])
    texts = []
    for _, run in runs:
        numbers = [cpu for _, cpu in run]
        texts.append(str(numbers[0]) if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}")
    return ",".join(texts)


def throttling_families(periods: int, seconds: float) -> Iterator[Metric]:
    """How often and for how long the cgroup's CPU quota stopped us, from cpu.stat."""
    yield CounterMetricFamily(
        "corral_cpu_throttled_periods", "Periods in which the CPU quota ran out", periods
    )
    yield CounterMetricFamily(
        "corral_cpu_throttled_seconds", "Time that threads were stopped by the CPU quota", seconds
    )


def steal_families(seconds: float, cpus: int) -> Iterator[Metric]:
    """What a hypervisor gave to others of the machine's CPUs, from /proc/stat."""
    yield CounterMetricFamily(
        "corral_machine_steal_seconds",
        "CPU time of the machine that its hypervisor gave to others",
        seconds,
    )
    yield GaugeMetricFamily("corral_machine_cpus", "CPUs of the machine that are online", cpus)


def spin_families(spin: SpinStatus) -> Iterator[Metric]:
    """What keeping CPUs from halting takes."""
    yield CounterMetricFamily(
        "corral_keep_warm_spin_seconds",
        "CPU time that keeping CPUs from halting in silences took",
        spin.cpu_s,
    )


def energy_families(joules: Mapping[str, float]) -> Iterator[Metric]:
    """What each processor package consumed since the server started, from RAPL."""
    family = CounterMetricFamily(
        "corral_machine_joules",
        "Energy that the machine's processors consumed since the server started",
        labels=["package"],
    )
    for package, consumed in joules.items():
        family.add_metric([package], consumed)
    yield family
