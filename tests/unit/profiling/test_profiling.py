"""Budgets, rows, comparisons, traces and threads, on figures by hand."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from rich.table import Table

from corral.backends.operators import Operator, convolution_flop, product_flop
from corral.errors import ConfigError
from corral.ipc import spans
from corral.ipc.spans import MOMENTS, RequestSpan
from corral.profiling import page, threads
from corral.profiling.budget import PHASES, make_budget, phases_us
from corral.profiling.compare import compare
from corral.profiling.peaks import KERNELS, kernel_for, measure
from corral.profiling.report import EngineFigures, Peak, ProfileReport, Span, load, span
from corral.profiling.roofline import draw
from corral.profiling.rows import make_rows, profiler_percent
from corral.profiling.threads import ThreadCounts, ThreadUse
from corral.profiling.trace import make_trace
from corral.profiling.view import engine_lines, render, render_comparison, threads_line
from corral.system import machine_code

#: of each phase, microseconds
TIMES = (100, 20, 300, 10, 30, 5000, 15, 25)


def request(
    begun_s: float = 10.0, worker: int = 0, batch: int = 1, slower: float = 1
) -> RequestSpan:
    moments = [begun_s]
    for microseconds in TIMES:
        moments.append(moments[-1] + microseconds * slower / 1e6)
    return RequestSpan(
        cell=0, batch=batch, worker=worker, batch_items=2, items=1,
        at_s=dict(zip(MOMENTS, moments, strict=True)),
    )  # fmt: skip


def operator(name: str, us: float, **changes: Any) -> Operator:
    fields: dict[str, Any] = {
        "name": name, "type": "Convolution", "kernel": "brgconv_avx2_f32", "precision": "fp32",
        "calls": 10, "us": us, "flop": 1e9, "moved_bytes": 1e7,
    }  # fmt: skip
    return Operator(**{**fields, **changes})


PEAKS = [Peak(precision="fp32", isa="AVX2", gflop_s=1000.0)]
OPERATORS = [
    operator("a", 2000.0),
    operator("b", 6000.0, kernel="ref_any", type="Convolution"),
    operator("c", 2000.0, type="Reorder", kernel="jit_uni_f32", flop=0.0),
]
USE = ThreadUse(
    span_s=1.0, computing=2, balance_percent=90.0, waited_percent=0.0, voluntary_per_s=1.0,
    involuntary_per_s=0.0, migrations=0,
)  # fmt: skip


def report(us: float = 2000.0, slower: float = 1) -> ProfileReport:
    rows = make_rows([operator("a", us), *OPERATORS[1:]], PEAKS)
    return ProfileReport(
        cpu="a CPU", model="m", mode="rti", served_by="a server of its own", workers=1, seconds=1.0,
        budget=make_budget([request(slower=slower)] * 3, [6000.0], 0),
        engine=EngineFigures(
            described={"engine": "e"}, batch=1, cpus=[0, 1], profiler_percent=3.0, operators=rows,
            inference=Span(name="inference", p50_us=9e3, p99_us=1e4, mean_us=9e3), threads=USE,
            peaks=PEAKS, bandwidth_gb_s=20.0,
        ),
        worker_threads={"0": USE},
        notes=["a <note>"],
    )  # fmt: skip


def test_the_phases_of_a_request_add_up_to_its_time() -> None:
    found = phases_us(request())
    assert list(found) == list(PHASES.values())
    assert [round(us) for us in found.values()] == list(TIMES)
    budget = make_budget([request()] * 99 + [request(slower=10)], [7000.0, 8000.0], 3)
    assert budget is not None
    assert (budget.requests, budget.dropped) == (100, 3)
    assert budget.total.p50_us == pytest.approx(sum(TIMES))
    assert budget.total.p99_us == pytest.approx(sum(TIMES))
    assert budget.total.mean_us == pytest.approx(sum(phase.mean_us for phase in budget.phases))
    assert budget.client is not None
    assert budget.client.p99_us == 8000.0
    assert make_budget([], [], 0) is None


def test_quantiles_of_few_and_of_many() -> None:
    assert span("x", [5.0]) == Span(name="x", p50_us=5.0, p99_us=5.0, mean_us=5.0)
    found = span("x", [float(n) for n in range(101)])
    assert (found.p50_us, found.p99_us, found.mean_us) == (50.0, 99.0, 50.0)


def test_rows_have_shares_rates_and_remarks() -> None:
    rows = make_rows(OPERATORS, PEAKS)
    assert [row.name for row in rows] == ["b", "a", "c"]
    assert [row.cumulated_percent for row in rows] == [60.0, 80.0, 100.0]
    assert [row.remark for row in rows] == ["reference kernel", "", "reorder"]
    assert rows[1].gflop_s == pytest.approx(500.0)
    assert rows[1].peak_percent == pytest.approx(50.0)
    assert rows[1].intensity == pytest.approx(100.0)
    assert rows[1].isa == "avx2"
    assert rows[2].gflop is rows[2].gflop_s is rows[2].peak_percent is None


@pytest.mark.parametrize(
    ("kernel", "isa", "reference"),
    [
        ("brgconv_avx512_amx_I8", "avx512_amx", False),
        ("jit_avx2_1x1_I8", "avx2", False),
        ("brg_matmul:avx512_core_vnni", "avx512_core_vnni", False),
        ("ref_any_f32", "", True),
        ("gemm:ref", "", True),
        ("jit_uni_f32", "", False),
    ],
)
def test_a_kernels_name_tells_its_instruction_set(kernel: str, isa: str, reference: bool) -> None:
    found = operator("a", 1.0, kernel=kernel)
    assert found.isa == isa
    assert found.is_reference is reference


def test_operations_of_convolutions_and_products() -> None:
    # ResNet50's first: 64 channels of 112 x 112, 7 x 7 x 3 each.
    assert convolution_flop([1, 64, 112, 112], [64, 3, 7, 7]) == 2 * 64 * 112 * 112 * 147
    # Depthwise: as many groups as channels.
    assert convolution_flop([1, 32, 8, 8], [32, 1, 1, 3, 3]) == 2 * 32 * 8 * 8 * 9
    assert convolution_flop([1, 8, 8, 32], [32, 1, 3, 3], 3) == 2 * 32 * 8 * 8 * 9
    assert convolution_flop([], [1]) == 0
    assert product_flop([4, 1000], 2048) == 2 * 4 * 1000 * 2048


def test_records_come_back_as_they_were_written() -> None:
    memory = bytearray(2 * spans.SPAN.size)
    one = request()
    head = (one.batch, one.worker, one.batch_items, one.items)
    spans.pack_into(memoryview(memory), 1, head, list(one.at_s.values()))
    _, found = spans.unpack(0, bytes(memory))
    assert found.at_s["answered"] == pytest.approx(one.at_s["answered"], abs=1e-8)
    assert (found.batch, found.batch_items) == (one.batch, one.batch_items)


def test_what_became_slower_is_named_first() -> None:
    changes = compare(report(), report(us=3000.0, slower=2)).changes
    assert changes[0].name == "phase infer, p50"
    slower = next(change for change in changes if change.name == "a Convolution")
    assert slower.sentence() == "a Convolution: 3,000 µs instead of 2,000 µs (+50 %)"
    assert all(change.name != "b Convolution" for change in changes)
    assert compare(report(), report(us=2050.0)).changes == []


def test_profiles_that_were_measured_otherwise_are_told() -> None:
    one = report()
    assert compare(one, report(us=3000.0)).differences == []
    assert one.engine is not None
    engine = msgspec.structs.replace(one.engine, batch=4, described={"engine": "f"}, cpus=[0])
    other = msgspec.structs.replace(one, engine=engine, workers=2)
    assert compare(one, other).differences == [
        "workers: 2 instead of 1",
        "engine: f instead of e",
        "batch: 4 instead of 1",
        "cores: 1 instead of 2",
        "operators: two engines have other names for them, so that they are compared by kind",
    ]
    without = msgspec.structs.replace(one, engine=None)
    assert compare(one, without).differences == [
        "operators: the second has none, and they are not compared"
    ]
    assert compare(without, without).differences == []
    shown = show(one, msgspec.structs.replace(other, model="\x1b[2J"))
    assert "\n  workers: 2 instead of 1\n" in shown
    assert "\x1b" not in shown


def show(one: ProfileReport, other: ProfileReport) -> str:
    text = io.StringIO()
    Console(width=100, file=text).print(render_comparison(compare(one, other), ("a", "b")))
    return text.getvalue()


def test_a_comparison_tells_what_profiles_say_of_themselves() -> None:
    one, other = report(), msgspec.structs.replace(report(), notes=["others used 40 %"])
    assert compare(one, other).notes == [["a <note>"], ["others used 40 %"]]
    shown = show(one, other)
    assert "nothing of the operators and requests changed by 5 % or more\n" in shown
    assert shown.endswith("! first: a <note>\n! second: others used 40 %\n")
    requests = msgspec.structs.replace(one, engine=None)
    assert compare(one, requests).compared == ["requests"]
    assert compare(requests, msgspec.structs.replace(one, budget=None)).compared == []


def test_a_profile_of_another_form_is_told_whatever_it_has(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('{"format": "corral-profile-9", "processor": "c"}')
    with pytest.raises(ConfigError, match="a profile of another form, 'corral-profile-9'"):
        load(file)


def test_new_and_gone_operators_are_named() -> None:
    before, after = report(), report()
    assert after.engine is not None
    rows = make_rows([operator("d", 2000.0), *OPERATORS[1:]], PEAKS)
    engine = msgspec.structs.replace(after.engine, operators=rows)
    found = compare(before, msgspec.structs.replace(after, engine=engine))
    names = [change.sentence() for change in found.changes]
    assert "d Convolution: new, 2,000 µs" in names
    assert "a Convolution: gone, it took 2,000 µs" in names


def test_a_profile_is_read_again_and_what_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(msgspec.json.encode(report()))
    assert load(path) == report()
    for text, words in (
        ("{}", "no profile"),
        ("not json", "no profile"),
        (json.dumps({"traceEvents": []}), "no profile"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=words) as raised:
            load(path)
        assert "\n" not in str(raised.value)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(report(), format="other")))
    with pytest.raises(ConfigError, match="another form"):
        load(path)
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "gone.json")


def test_a_trace_joins_requests_batches_and_operators() -> None:
    requests = [request(10.0), request(10.001), request(10.5, worker=1, batch=2)]
    trace = json.loads(json.dumps(make_trace(requests, make_rows(OPERATORS, PEAKS), {"a": "b"})))
    events = trace["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    wholes = [event for event in slices if event["name"] == "request"]
    batches = [event for event in slices if event["name"].startswith("batch of")]
    # Two requests of a batch share its slice; two at once have lanes of their own.
    assert (len(wholes), len(batches)) == (3, 2)
    assert wholes[0]["tid"] != wholes[1]["tid"]
    assert wholes[2]["tid"] == wholes[0]["tid"]
    for whole in wholes:
        within = [e for e in slices if _inside(e, whole) and e is not whole]
        assert {event["name"] for event in within} == {
            "receive", "admit", "queue", "copy", "copy out", "answer"
        }  # fmt: skip
    for batch in batches:
        within = [e for e in slices if _inside(e, batch) and e is not batch]
        assert [event["name"] for event in within] == ["b", "a", "c"]
        assert sum(event["dur"] for event in within) == pytest.approx(batch["dur"], abs=0.01)
    starts = {event["id"]: event for event in events if event["ph"] == "s"}
    ends = {event["id"]: event for event in events if event["ph"] == "f"}
    assert set(starts) == set(ends)
    assert len(starts) == 2 * len(requests)
    for arrow, start in starts.items():
        assert start["ts"] <= ends[arrow]["ts"]
        for end in (start, ends[arrow]):
            assert any(_on(end, piece) for piece in slices), end
    named = {event["pid"]: event["args"]["name"] for event in events if event["ph"] == "M"}
    assert set(named.values()) == {"frontend 0", "worker 0", "worker 1"}
    assert {event["pid"] for event in slices} == set(named)


def test_slices_of_one_track_never_overlap_by_rounding() -> None:
    thirds = [operator(f"o{number}", 1000 / 3 + number / 7) for number in range(50)]
    requests = [request(10.0 + n * 0.0123457, batch=n, slower=1 + n / 9) for n in range(40)]
    # One after another, so that only a batch and its operators share a track.
    requests = [dataclasses.replace(one, worker=n) for n, one in enumerate(requests)]
    events = make_trace(requests, make_rows(thirds, PEAKS), {})["traceEvents"]
    tracks: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for event in events:
        if event["ph"] == "X":
            begin_ns = round(event["ts"] * 1000)
            end_ns = begin_ns + round(event["dur"] * 1000)
            tracks.setdefault((event["pid"], event["tid"]), []).append((begin_ns, end_ns))
    workers = [slices for (pid, _), slices in tracks.items() if pid >= 1000]
    assert len(workers) == 40
    for (_, whole_end), *inner in workers:
        assert len(inner) == 50
        ends = [end for _, end in inner]
        begins = [begin for begin, _ in inner[1:]] + [whole_end]
        assert all(end <= begin for end, begin in zip(ends, begins, strict=True))


def test_operators_that_add_up_to_less_than_the_batch_is_noise() -> None:
    rows = make_rows(OPERATORS, PEAKS)
    assert profiler_percent(rows, span("inference", [8000.0])) == pytest.approx(25.0)
    assert profiler_percent(rows, span("inference", [20000.0])) is None
    engine = report().engine
    assert engine is not None
    assert engine_lines(engine)[0].endswith("add up to 10.00 ms")
    noise = msgspec.structs.replace(engine, profiler_percent=None)
    assert engine_lines(noise)[0].endswith("10.00 ms, less than without it, which is noise")


def test_the_longest_name_of_a_ceiling_has_room() -> None:
    peaks = [Peak(precision=k.precision, isa=k.isa, gflop_s=123456.0) for k in KERNELS]
    drawn = draw(make_rows(OPERATORS, PEAKS), peaks, 20.0)
    width = float(re.findall(r'viewBox="0 0 (\d+)', drawn)[0])
    names = re.findall(r'<text x="([\d.]+)" y="[\d.]+">([^<]+: [\d,]+)</text>', drawn)
    assert len(names) == len(KERNELS)
    # In DejaVu Sans, a wide font, a character of 12 px takes 7.4 px on the average.
    assert all(float(x) + 7.4 * len(name) <= width for x, name in names)


def _inside(inner: dict[str, Any], outer: dict[str, Any]) -> bool:
    same = (inner["pid"], inner["tid"]) == (outer["pid"], outer["tid"])
    end = outer["ts"] + outer["dur"] + 0.01
    return bool(same and outer["ts"] - 0.01 <= inner["ts"] and inner["ts"] + inner["dur"] <= end)


def _on(arrow: dict[str, Any], piece: dict[str, Any]) -> bool:
    same = (arrow["pid"], arrow["tid"]) == (piece["pid"], piece["tid"])
    return bool(same and piece["ts"] <= arrow["ts"] <= piece["ts"] + piece["dur"])


def counts(cpu_s: float, **changes: Any) -> ThreadCounts:
    fields = {"cpu_s": cpu_s, "waited_s": 0.0, "voluntary": 0, "involuntary": 0, "migrations": 0}
    return ThreadCounts(**{**fields, **changes})


def test_threads_that_wait_for_the_slowest() -> None:
    before = {1: counts(0.0), 2: counts(0.0), 3: counts(5.0)}
    after = {
        1: counts(1.0, voluntary=10, migrations=2),
        2: counts(0.5, waited_s=0.5, involuntary=4),
        3: counts(5.0),
        4: counts(1.0),
    }
    found = threads.use(before, after, 1.0)
    assert found.computing == 2
    assert found.idle_for_slowest_percent == pytest.approx(25.0)
    assert found.waited_percent == pytest.approx(25.0)
    assert (found.voluntary_per_s, found.involuntary_per_s, found.migrations) == (10, 4, 2)


def test_the_kernels_counts_are_read(tmp_path: Path) -> None:
    task = tmp_path / "proc/7/task/8"
    task.mkdir(parents=True)
    (task / "schedstat").write_text("2000000000 500000000 77\n")
    (task / "status").write_text("voluntary_ctxt_switches:\t3\nnonvoluntary_ctxt_switches:\t4\n")
    assert threads.read(7, tmp_path) == {
        8: ThreadCounts(cpu_s=2.0, waited_s=0.5, voluntary=3, involuntary=4, migrations=None)
    }
    (task / "sched").write_text("se.nr_migrations                             :          9\n")
    assert threads.read(7, tmp_path)[8].migrations == 9
    with pytest.raises(ProcessLookupError):
        threads.read(6, tmp_path)


def test_the_widest_loop_of_a_precision() -> None:
    flags = {"avx2", "fma", "avx512f", "avx512_vnni"}
    assert [
        kernel.isa if (kernel := kernel_for(precision, flags)) else None
        for precision in ("fp32", "int8", "bf16")
    ] == ["AVX-512", "AVX-512 VNNI", None]
    for kernel in KERNELS:
        # dec rdi; jnz back to the first instruction of the body; …; ret
        assert kernel.code.endswith(b"\xc3")
        assert b"\x48\xff\xcf\x75" in kernel.code


@pytest.mark.skipif(not machine_code.available(), reason="the loops are x86-64's")
def test_the_peaks_of_this_cpu_are_of_the_right_order() -> None:
    from corral.planning import topology

    machine = topology.read_machine()
    for precision in ("fp32", "int8", "bf16"):
        kernel = kernel_for(precision, machine.isa)
        if kernel is not None:
            per_cpu = measure(kernel, machine.allowed_cpus[:1], 0.02)
            assert 1e9 < per_cpu < 1e14


def test_a_profile_is_shown_and_drawn() -> None:
    drawn = page.render(report())
    assert "a &lt;note&gt;" in drawn
    assert "<svg" in drawn
    assert drawn.count("<circle") == 2
    assert "reference kernel" in drawn
    assert "http" not in drawn.replace("http-equiv", "")
    for width, columns in ((80, 7), (140, 12)):
        shown = [part for part in render(report(), width).renderables if isinstance(part, Table)]
        assert len(shown[1].columns) == columns
    assert draw([], PEAKS, 10.0) == ""
    bare = ProfileReport(
        cpu="a", model="m", mode="rti", served_by="it", workers=1, seconds=1.0
    )  # fmt: skip
    assert page.render(bare)


def test_threads_that_are_not_there_have_no_figures() -> None:
    assert "the others were idle 10.0 % of the time" in threads_line(USE)
    alone = threads_line(msgspec.structs.replace(USE, computing=1, migrations=1))
    assert alone.startswith("1 computing; ready without a CPU 0.0 %; ")
    assert alone.endswith(", 1 migration")
    assert threads_line(msgspec.structs.replace(USE, computing=0)) == "none computed"
