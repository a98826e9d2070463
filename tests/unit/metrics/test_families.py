"""The text of /metrics, read back with prometheus_client's own parser."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Exemplar

from corral import __version__
from corral.accuracy import AccuracyReport, Fidelity
from corral.ipc.status import (
    Cause,
    CellStatus,
    Phase,
    ServerStatus,
    SpinStatus,
    State,
    StatusBoard,
    WorkerStatus,
)
from corral.metrics import counters, triton_families
from corral.metrics import page as metrics
from corral.metrics.telemetry_families import TelemetryCounts
from corral.planning.plan import MachineSummary, Plan, PlannedCell, PlannedWorker
from corral.tensors import View

ROOT = Path(__file__).parents[3]
#: (name, labels) to value
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


class FakeClock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def worker(number: int, cell: int, slot: int) -> WorkerStatus:
    return WorkerStatus(
        id=number, cell=cell, slot=slot, state=State.VERIFIED, pid=4000 + number,
        restarts=dict.fromkeys(Cause, 0), cpus=[2 * number, 2 * number + 1, 9], cores=2,
        memory_node=0, boot_s=1.5, memory_bytes=200_000_000 + number,
        engine={"engine": "OpenVINO", "version": "2026.4", "precision": "int8"},
        checks={"allocator": "libtcmalloc_minimal.so.4"}, warnings=[], sizes=[1, 2],
        costs_s={"FP32:1": 0.02},
    )  # fmt: skip


def cell_status(number: int) -> CellStatus:
    return CellStatus(
        cell=number, state=State.READY, pid=3000 + number, restarts=dict.fromkeys(Cause, 0),
        cpus=[9], ready=True,
    )  # fmt: skip


#: two cells; the second one's only worker is number 2, in its cell's slot 0
STATUS = ServerStatus(
    phase=Phase.SERVING, ready=True, started_at_s=1.7e9, ready_after_s=3.0, host="127.0.0.1",
    port=8001, http_port=8000, metrics_host="127.0.0.1", metrics_port=8002, mode="rti",
    model="resnet50", backend="openvino", precision="int8", allocator="tcmalloc",
    weights="synthetic", synthetic=True, cells=[cell_status(0), cell_status(1)],
    guard=AccuracyReport(
        candidate="openvino int8",
        fidelity=Fidelity(
            loss=0.02, loss_most=0.03, top1=0.9, cosine=0.96, snr_db=12.5, pictures=40
        ),
        faults=["expected loss of accuracy 2.00%, up to 3.00% > 1.00%"],
        fell_back=True,
    ),
    workers=[worker(0, 0, 0), worker(1, 0, 1), worker(2, 1, 0)], warnings=[],
    spin=SpinStatus(cpus=[0, 1], while_s=60.0, pid=7, cpu_s=12.5),
)  # fmt: skip
PLAN = Plan(
    mode="rti",
    machine=MachineSummary(packages=1, nodes=2, cores=8, cpus=16),
    allowed_cpus=list(range(8)),
    cpu_budget=7,
    cells=[
        PlannedCell(
            node=node,
            frontend_cpus=[9],
            workers=[
                PlannedWorker(id=n, cpus=[2 * n, 2 * n + 1], cores=2, memory_node=node, env={})
                for n in numbers
            ],
        )
        for node, numbers in enumerate([[0, 1], [2]])
    ],
    idle_cpus=[],
    reasons=[],
    warnings=[],
)


class Server:
    """The metrics of a supervisor that is made of data."""

    def __init__(self, status: ServerStatus = STATUS) -> None:
        layout = counters.make_layout(2)
        fd = counters.create_memory(layout, 2)
        self.pages = counters.Pages(fd, layout, 2)
        os.close(fd)
        self.board = StatusBoard(status)
        self.clock = FakeClock()
        self.throttled: tuple[int, float] | None = (3, 0.25)
        self.joules: dict[str, float] = {"package-0": 3.0}
        self.telemetry = TelemetryCounts(sent=7, refused=2, overflowed=1, lines=9, lines_dropped=3)
        self.exemplars: list[Exemplar | None] = []
        self.metrics = metrics.Metrics(
            self.board,
            self.pages,
            lambda: PLAN,
            lambda: self.throttled,
            self.clock,
            steal=lambda: (12.5, 4),
            joules=lambda: self.joules,
            telemetry=lambda: self.telemetry,
            exemplars=lambda: self.exemplars,
        )

    def count(self, cell: int, **numbers: int) -> None:
        """Adds to counters of a cell; the keys' slashes are written as double underscores."""
        for key, amount in numbers.items():
            self.pages.page(cell)[self.pages.layout.index[key.replace("__", "/")]] += amount

    def scrape(self) -> Samples:
        # Told that a metric is a counter, the parser would itself append _total to its name.
        text = re.sub("^# TYPE nv_.*\n", "", self.metrics.render().decode(), flags=re.MULTILINE)
        samples: Samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in samples, "a series appears twice"
                samples[key] = sample.value
        return samples


@pytest.fixture
def server() -> Server:
    return Server()


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, frozenset(labels.items())]


def series(samples: Samples, name: str) -> dict[frozenset[tuple[str, str]], float]:
    return {labels: number for (n, labels), number in samples.items() if n == name}


def model(name: str = "resnet50") -> dict[str, str]:
    return {"model": name, "version": "1"}


# --- Triton's names ---

TRITON = {
    "nv_inference_request_success": "counter",
    "nv_inference_request_failure": "counter",
    "nv_inference_count": "counter",
    "nv_inference_exec_count": "counter",
    "nv_inference_request_duration_us": "counter",
    "nv_inference_queue_duration_us": "counter",
    "nv_inference_compute_input_duration_us": "counter",
    "nv_inference_compute_infer_duration_us": "counter",
    "nv_inference_compute_output_duration_us": "counter",
    "nv_inference_pending_request_count": "gauge",
}


def test_tritons_names_types_and_labels_are_exact(server: Server) -> None:
    text = triton_families.render(server.pages.snapshot(), "resnet50").decode()
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    assert types == TRITON
    assert set(re.findall(r"^# HELP (\S+) .", text, re.MULTILINE)) == set(TRITON)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert {line.partition("{")[0] for line in lines} == set(TRITON)
    assert "_total" not in text
    # The lines as Triton writes them, a series for each of the three names.
    for name in set(TRITON) - {"nv_inference_request_failure"}:
        for view in ("resnet50", "resnet50_uint8", "resnet50_image"):
            assert f'{name}{{model="{view}",version="1"}} 0' in lines
    for reason in ("REJECTED", "CANCELED", "BACKEND", "OTHER"):
        line = f'nv_inference_request_failure{{model="resnet50",reason="{reason}",version="1"}} 0'
        assert line in lines
    assert len(lines) == 9 * 3 + 4 * 3


def test_every_failure_of_ours_has_one_reason_of_tritons() -> None:
    ours = [name for names in triton_families.REASONS.values() for name in names]
    assert sorted(ours) == sorted(counters.FAILURES)


def test_triton_values_add_up_the_cells(server: Server) -> None:
    for cell in range(2):
        server.count(
            cell,
            view__tensor__succeeded=10 + cell,
            view__tensor__failure_invalid=1,
            view__tensor__failure_refused=2,
            view__tensor__failure_expired=4,
            view__tensor__failure_cancelled=8,
            view__tensor__failure_failed=16,
            view__tensor__failure_unavailable=32,
            view__tensor__inferences=20,
            view__tensor__executions=5,
            view__tensor__success_ns=1_999,
            view__tensor__fail_ns=10**9,
            view__tensor__queue_ns=2_000_000,
            view__tensor__compute_input_ns=3_000,
            view__tensor__compute_infer_ns=4_000,
            view__tensor__compute_output_ns=5_000,
            view__tensor__pending=6,
            view__image__succeeded=1,
        )
    samples = server.scrape()

    def read(name: str, **labels: str) -> float:
        return value(samples, f"nv_inference_{name}", **model(), **labels)

    assert read("request_success") == 21
    assert value(samples, "nv_inference_request_success", **model("resnet50_image")) == 2
    assert value(samples, "nv_inference_request_success", **model("resnet50_uint8")) == 0
    assert read("request_failure", reason="REJECTED") == 4
    assert read("request_failure", reason="CANCELED") == 16
    assert read("request_failure", reason="BACKEND") == 32
    assert read("request_failure", reason="OTHER") == 2 * (1 + 4 + 32)
    assert read("count") == 40
    assert read("exec_count") == 10
    assert read("request_duration_us") == 3  # 3,998 ns, and failures are not in it
    assert read("queue_duration_us") == 4000
    assert read("compute_input_duration_us") == 6
    assert read("compute_infer_duration_us") == 8
    assert read("compute_output_duration_us") == 10
    assert read("pending_request_count") == 12


# --- corral's own ---


def test_requests_by_outcome(server: Server) -> None:
    server.count(0, view__uint8__received=9, view__uint8__succeeded=3, view__uint8__inflight=2)
    server.count(1, view__uint8__failure_refused=4, cell__retried_items=6)
    server.count(1, view__uint8__pending_items=5, view__uint8__pending=1)
    samples = server.scrape()
    outcomes = {
        outcome: value(samples, "corral_requests_total", model="resnet50_uint8", outcome=outcome)
        for outcome in ("succeeded", *counters.FAILURES)
    }
    assert outcomes == dict.fromkeys(outcomes, 0) | {"succeeded": 3, "refused": 4}
    assert value(samples, "corral_requests_received_total", model="resnet50_uint8") == 9
    assert value(samples, "corral_requests_inflight", model="resnet50_uint8") == 2
    assert value(samples, "corral_items_pending", model="resnet50_uint8") == 5
    assert value(samples, "corral_items_retried_total") == 6
    assert value(samples, "corral_requests_total", model="resnet50", outcome="succeeded") == 0


@pytest.mark.parametrize("name", ["request_seconds", "queue_seconds", "inference_seconds"])
def test_time_histograms_are_cumulative_and_in_seconds(server: Server, name: str) -> None:
    server.count(
        0, **{f"hist__{name}__0": 2, f"hist__{name}__3": 5, f"hist__{name}__sum_ns": 10**9}
    )
    server.count(
        1, **{f"hist__{name}__3": 1, f"hist__{name}__14": 4, f"hist__{name}__sum_ns": 5 * 10**8}
    )
    samples = server.scrape()
    buckets = {
        float(dict(labels)["le"]): number
        for labels, number in series(samples, f"corral_{name}_bucket").items()
    }
    bounds = [*counters.TIME_BUCKETS_S, float("inf")]
    assert sorted(buckets) == bounds
    assert [buckets[bound] for bound in bounds] == [2, 2, 2, *[8] * 11, 12]
    assert value(samples, f"corral_{name}_count") == 12
    assert value(samples, f"corral_{name}_sum") == 1.5


def test_batch_size_histogram(server: Server) -> None:
    server.count(0, hist__batch_size__0=3, hist__batch_size__2=1, hist__batch_size__sum=7)
    samples = server.scrape()
    assert value(samples, "corral_batch_size_bucket", le="1.0") == 3
    assert value(samples, "corral_batch_size_bucket", le="4.0") == 4
    assert value(samples, "corral_batch_size_bucket", le="+Inf") == 4
    assert value(samples, "corral_batch_size_count") == 4
    assert value(samples, "corral_batch_size_sum") == 7


def test_a_workers_numbers_come_from_its_slot_of_its_cell(server: Server) -> None:
    server.count(0, slot__0__items=1, slot__1__items=2, slot__1__busy_ns=1_500_000_000)
    server.count(1, slot__0__items=4, slot__0__batches=3)
    samples = server.scrape()
    items = [value(samples, "corral_worker_items_total", worker=str(n)) for n in range(3)]
    assert items == [1, 2, 4]
    assert value(samples, "corral_worker_batches_total", worker="2") == 3
    assert value(samples, "corral_worker_busy_seconds_total", worker="1") == 1.5
    assert value(samples, "corral_worker_memory_bytes", worker="2") == 200_000_002
    info = {"worker": "1", "cell": "0", "cpus": "2-3,9", "allocator": "libtcmalloc_minimal.so.4"}
    assert value(samples, "corral_worker_info", **info) == 1


def test_busy_ratio_is_over_the_last_seconds_whoever_else_scrapes(server: Server) -> None:
    def busy_after(seconds: float, busy_s: float) -> float:
        server.clock.now_s += seconds
        server.count(0, slot__0__busy_ns=int(busy_s * 1e9))
        return value(server.scrape(), "corral_worker_busy_ratio", worker="0")

    assert busy_after(0, 0) == 0
    assert busy_after(10, 5) == 0.5
    # Half of it an idle stretch, whether or not another scraper came by in between.
    assert busy_after(5, 5) == pytest.approx(10 / 15)
    assert busy_after(0.001, 0) == pytest.approx(10 / 15, rel=1e-3)
    assert busy_after(10, 0) == pytest.approx(0, abs=1e-3)
    # A batch longer than the window ends inside it.
    assert busy_after(10, 25) == 1


def test_many_scrapes_keep_few_samples() -> None:
    window = metrics.BusyWindow(0.0, {0: 0})
    for tick in range(1, 5000):
        now_s = tick / 20
        assert window.ratios(now_s, {0: int(now_s * 5e8)})[0] == pytest.approx(0.5)
    assert len(window) <= metrics.BUSY_WINDOW_S + 3


def test_cells(server: Server) -> None:
    server.count(1, view__tensor__pending_items=17)
    samples = server.scrape()
    assert value(samples, "corral_queue_depth", cell="0") == 0
    assert value(samples, "corral_queue_depth", cell="1") == 17
    assert value(samples, "corral_frontend_up", cell="0") == 1


def test_what_the_server_is(server: Server) -> None:
    samples = server.scrape()
    assert series(samples, "corral_mode") == {frozenset({("mode", "rti")}): 1}
    plan = {"workers": "3", "cores": "6", "budget": "7", "cells": "2"}
    assert value(samples, "corral_plan_info", **plan) == 1
    build = {
        "version": __version__,
        "backend": "openvino",
        "precision": "int8",
        "engine": "OpenVINO 2026.4",
    }
    assert value(samples, "corral_build_info", **build) == 1
    assert value(samples, "corral_allocator_info", allocator="tcmalloc") == 1
    assert value(samples, "corral_weights_synthetic") == 1
    assert value(samples, "corral_ready") == 1
    server.board.publish(msgspec.structs.replace(STATUS, ready=False, synthetic=False))
    samples = server.scrape()
    assert value(samples, "corral_ready") == 0
    assert value(samples, "corral_weights_synthetic") == 0


def test_throttling_is_there_when_it_can_be_read(server: Server) -> None:
    samples = server.scrape()
    assert value(samples, "corral_cpu_throttled_periods_total") == 3
    assert value(samples, "corral_cpu_throttled_seconds_total") == 0.25
    server.throttled = None
    assert not any("throttled" in name for name, _ in server.scrape())


def test_steal_is_told_with_the_cpus_that_it_is_of(server: Server) -> None:
    samples = server.scrape()
    assert value(samples, "corral_machine_steal_seconds_total") == 12.5
    assert value(samples, "corral_machine_cpus") == 4


def test_what_keeps_cpus_from_halting_is_told_where_something_does() -> None:
    assert value(Server().scrape(), "corral_keep_warm_spin_seconds_total") == 12.5
    nothing = Server(msgspec.structs.replace(STATUS, spin=None)).scrape()
    assert not any("keep_warm" in name for name, _ in nothing)


def test_joules_are_told_a_package_where_they_can_be_read(server: Server) -> None:
    server.joules = {"package-0": 250.5, "package-1": 1.0}
    samples = server.scrape()
    assert value(samples, "corral_machine_joules_total", package="package-0") == 250.5
    assert value(samples, "corral_machine_joules_total", package="package-1") == 1.0
    server.joules = {}
    assert not any("joules" in name for name, _ in server.scrape())


def test_traces_and_log_lines_are_counted_where_they_are_asked_for(server: Server) -> None:
    server.count(0, cell__traces_dropped=4, cell__log_lines_dropped=5)
    server.count(1, cell__traces_dropped=1)
    samples = server.scrape()
    assert value(samples, "corral_traces_sent_total") == 7
    assert value(samples, "corral_traces_dropped_total", reason="export") == 2
    assert value(samples, "corral_traces_dropped_total", reason="backlog") == 6
    assert value(samples, "corral_access_log_lines_total") == 9
    assert value(samples, "corral_access_log_lines_dropped_total") == 8
    server.telemetry = TelemetryCounts()
    assert not any("traces" in name or "access_log" in name for name, _ in server.scrape())


def test_openmetrics_says_the_same_and_knows_examples(server: Server) -> None:
    server.count(0, hist__request_seconds__2=3)
    server.exemplars = [None, None, Exemplar({"trace_id": "a" * 32}, 0.002, 1.7e9)]
    server.exemplars += [None] * (len(counters.TIME_BUCKETS_S) - 2)
    text = server.metrics.render_openmetrics().decode()
    samples = {
        (sample.name, frozenset(sample.labels.items())): sample
        for family in openmetrics.text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        for sample in family.samples
    }
    plain = server.scrape()
    # Its own process goes on using time.
    ours = {key: found for key, found in plain.items() if not key[0].startswith("process_")}
    assert ours == {key: samples[key].value for key in ours}
    assert {key for key in samples if not key[0].startswith("process_")} == set(ours)
    exemplars = {key[1]: found.exemplar for key, found in samples.items() if found.exemplar}
    assert list(exemplars) == [frozenset({("le", "0.0025")})]
    (shown,) = exemplars.values()
    assert (shown.labels, shown.value) == ({"trace_id": "a" * 32}, 0.002)
    assert float(shown.timestamp) == 1.7e9
    assert "trace_id" not in server.metrics.render().decode()


def test_the_supervisors_own_process_is_there(server: Server) -> None:
    samples = server.scrape()
    assert value(samples, "process_resident_memory_bytes") > 1e6
    assert value(samples, "process_open_fds") >= 3


def test_every_family_has_help_and_a_known_prefix(server: Server) -> None:
    text = server.metrics.render().decode()
    for family in text_string_to_metric_families(text):
        assert family.documentation, family.name
        assert family.type in {"counter", "gauge", "histogram"}
        assert family.name.startswith(("nv_inference_", "corral_", "process_"))


def test_the_guards_fallback_is_a_metric(server: Server) -> None:
    text = server.metrics.render().decode()
    assert "corral_precision_fallback 1.0" in text
    assert 'corral_precision_guard_passed{candidate="openvino int8"} 0.0' in text
    assert 'corral_precision_guard{candidate="openvino int8",measure="snr_db"} 12.5' in text
    assert 'corral_precision_guard{candidate="openvino int8",measure="loss_most"} 0.03' in text


def test_what_was_not_compared_has_a_verdict_and_no_measures() -> None:
    blind = AccuracyReport(candidate="openvino bf16", fidelity=None, faults=[])
    text = Server(msgspec.structs.replace(STATUS, guard=blind)).metrics.render().decode()
    assert "corral_precision_fallback 0.0" in text
    assert 'corral_precision_guard_passed{candidate="openvino bf16"} 0.0' in text
    assert "corral_precision_guard{" not in text


# --- documents ---


def exposed(server: Server) -> set[str]:
    """The names that a person finds on the page."""
    text = server.metrics.render().decode()
    return set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))


def named_in(path: str) -> set[str]:
    """The metrics that a document names, histograms by their families' names."""
    # A recording's name has a colon in front of what it is made of.
    text = (ROOT / path).read_text()
    names = re.findall(r"(?<!:)\b(?:nv_inference|corral)_[a-z_]+", text)
    return {re.sub(r"(_seconds|_size)_(bucket|sum|count)$", r"\1", name) for name in names}


def test_the_documents_name_what_there_is(server: Server) -> None:
    ours = {name for name in exposed(server) if not name.startswith("process_")}
    assert named_in("docs/metrics.md") == ours
    assert named_in("deploy/grafana-dashboard.json") <= ours
    assert named_in("deploy/prometheus/rules.yml") <= ours


def test_every_alert_has_a_place_in_the_documents() -> None:
    rules = yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    page = (ROOT / "docs/metrics.md").read_text()
    places = {heading.lower() for heading in re.findall(r"^#+ (\w+)$", page, re.MULTILINE)}
    alerts = [rule for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    assert len(alerts) >= 8
    for rule in alerts:
        assert rule["annotations"]["runbook"] == f"docs/metrics.md#{rule['alert'].lower()}"
        assert rule["alert"].lower() in places


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for target in panel["targets"]:
            # Counters are only ever looked at as rates.
            for counter in re.findall(r"\S*_total\b", target["expr"]):
                assert "rate(" in counter or "increase(" in counter, target["expr"]


# --- deaths ---


def restarted(status: ServerStatus, times: int) -> ServerStatus:
    """Worker 1 crashed ``times`` times and is on its way up; cell 0's frontend as often."""
    replace = msgspec.structs.replace
    restarts: dict[Cause, int] = dict.fromkeys(Cause, 0) | {Cause.CRASH: times}
    workers: list[Any] = [
        replace(w, state=State.STARTING, pid=9000 + times, restarts=restarts) if w.id == 1 else w
        for w in status.workers
    ]
    cells = [
        replace(c, state=State.STARTING, pid=8000 + times, restarts=restarts) if c.cell == 0 else c
        for c in status.cells
    ]
    return replace(status, workers=workers, cells=cells)


def test_restarts_change_values_but_never_the_series(server: Server) -> None:
    before = server.scrape()
    for times in range(1, 20):
        server.board.publish(restarted(STATUS, times))
        after = server.scrape()
        assert set(after) == set(before)
    assert value(after, "corral_worker_restarts_total", worker="1", cause="crash") == 19
    assert value(after, "corral_worker_restarts_total", worker="0", cause="crash") == 0
    assert value(after, "corral_worker_up", worker="1") == 0
    assert value(after, "corral_worker_up", worker="0") == 1
    assert value(after, "corral_frontend_restarts_total", cell="0", cause="crash") == 19
    assert value(after, "corral_frontend_up", cell="0") == 0


def test_a_frontend_death_resets_gauges_and_nothing_else(server: Server) -> None:
    for cell in range(2):
        server.count(cell, **dict.fromkeys(server.pages.layout.index, 3))
    before = server.scrape()
    server.pages.reset_gauges(0)
    after = server.scrape()
    changed = {
        name
        for (name, labels), number in after.items()
        if number != before[name, labels] and not name.startswith("process_")
    }
    assert changed == {
        "nv_inference_pending_request_count",
        "corral_items_pending",
        "corral_requests_inflight",
        "corral_queue_depth",
    }
    assert value(after, "corral_queue_depth", cell="0") == 0
    assert value(after, "corral_queue_depth", cell="1") == 3 * len(View)
    assert value(after, "corral_requests_inflight", model="resnet50") == 3


def test_before_the_first_report_there_is_nothing_made_up() -> None:
    unheard = [
        msgspec.structs.replace(w, state=State.STARTING, engine={}, checks={}, memory_bytes=0)
        for w in STATUS.workers
    ]
    samples = Server(msgspec.structs.replace(STATUS, ready=False, workers=unheard)).scrape()
    assert not series(samples, "corral_worker_info")
    assert set(series(samples, "corral_worker_up").values()) == {0.0}


def test_with_several_servers_each_line_of_the_dashboard_has_a_name_of_its_own() -> None:
    """What is not summed over servers has one line for each of them."""
    dashboard = json.loads((ROOT / "deploy/grafana-dashboard.json").read_text())
    targets = [target for panel in dashboard["panels"] for target in panel["targets"]]
    kept_apart = 0
    for target in targets:
        whole = re.match(r"(sum|count|avg|max|min|histogram_quantile)\b", target["expr"])
        by = re.findall(r"by \(([^)]*)\)", target["expr"])
        labels = set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
        # A worker's or a cell's number is its server's.
        if not whole or {"worker", "cell"} & labels or "instance" in ", ".join(by):
            assert "instance" in labels, target
            assert not whole or "instance" in ", ".join(by), target
            kept_apart += 1
    assert kept_apart >= 5
