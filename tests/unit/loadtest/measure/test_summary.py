"""Windows, histograms, steady state and the sum of a measurement."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral_loadtest import result
from corral_loadtest.generator import histograms
from corral_loadtest.generator.windows import Recorder, Windows
from corral_loadtest.measure.steady import is_steady
from corral_loadtest.measure.summary import Usage, limit, sum_up
from corral_loadtest.report import page
from corral_loadtest.report import tables as report
from corral_loadtest.result import Machine, Ramp, Result, Server
from corral_loadtest.servers import machine
from corral_loadtest.specification import ClosedLoop, OpenLoop, Specification, WrongInput, make

MACHINE = Machine(cpu="a <CPU>", cpus=2, kernel="6", python="3.11", grpcio="1")


@settings(max_examples=20, deadline=None)
@given(
    latencies=st.lists(st.integers(1, 10_000_000), min_size=1, max_size=60),
    parts=st.integers(1, 5),
)
def test_merged_histograms_equal_one_of_all(latencies: list[int], parts: int) -> None:
    whole = histograms.empty()
    pieces = [histograms.empty() for _ in range(parts)]
    for number, latency_us in enumerate(latencies):
        histograms.record(whole, latency_us / 1e6)
        histograms.record(pieces[number % parts], latency_us / 1e6)
    merged = histograms.merged(histograms.encoded(piece) for piece in pieces)
    assert histograms.summary(merged) == histograms.summary(whole)
    assert histograms.percentile_ms(merged, 100) == pytest.approx(max(latencies) / 1000, rel=0.001)
    assert histograms.percentile_ms(merged, 0) == pytest.approx(min(latencies) / 1000, rel=0.001)


def test_an_empty_histogram_has_no_summary() -> None:
    assert histograms.summary(histograms.empty()) is None
    assert histograms.curve(histograms.empty()) == ()


def test_a_percentile_is_plotted_only_if_something_lies_beyond_it() -> None:
    found = histograms.empty()
    for number in range(200):
        histograms.record(found, (number + 1) / 1000)
    shown = [percentile for percentile, _ in histograms.curve(found)]
    assert 99.5 in shown
    assert 99.8 not in shown
    assert shown[-1] == 100


def test_a_late_answer_counts_where_it_was_meant_and_where_it_arrived() -> None:
    recorder = Recorder(1.0)
    recorder.add(0.5, 0.6, 3.5, "OK")
    windows = Windows(1.0)
    windows.add(recorder.take())
    assert windows[0].sent == 1
    assert windows[0].arrived.total() == 0
    assert windows[3].arrived == {"OK": 1}
    summary = histograms.summary(histograms.merged(windows[0].latencies["OK"]))
    assert summary is not None
    assert summary.p50_ms == pytest.approx(3000, rel=0.001)
    assert recorder.take() == []


def test_steady_needs_three_windows_that_agree() -> None:
    assert not is_steady([1000, 1000], [5, 5], 0.1)
    assert is_steady([1000, 990, 1010], [5, 5.1, 4.9], 0.1)
    assert not is_steady([500, 1000, 1500], [5, 5, 5], 0.1)
    assert not is_steady([1000, 1000, 1000], [5, 8, 12], 0.1)
    assert is_steady([10, 500, 1000, 990, 1010], [50, 20, 5, 5, 5], 0.1)


def test_nothing_answered_is_not_steady() -> None:
    assert not is_steady([0, 0, 0], [0, 0, 0], 0.1)


def test_few_events_may_differ_as_much_as_chance_makes_them() -> None:
    assert is_steady([16, 20, 14], [5, 5, 5], 0.1)
    assert not is_steady([1600, 2000, 1400], [5, 5, 5], 0.1)


def test_the_tool_says_when_it_was_the_limit() -> None:
    assert limit(0.5, 0.4, 2.0) is None
    assert "busy" in str(limit(0.97, 0, 2.0))
    assert "late" in str(limit(0.2, 30.0, 20.0))
    assert limit(0.2, 1.9, 20.0) is None


def _measured(load: ClosedLoop | OpenLoop, *, errors: int = 0, **changes: Any) -> Result:
    recorder = Recorder(0.5)
    for number in range(400):
        at_s = number / 100
        status = "RESOURCE_EXHAUSTED" if 200 <= number < 200 + errors else "OK"
        recorder.add(at_s, at_s, at_s + 0.01, status)
    windows = Windows(0.5)
    windows.add(recorder.take())
    specification = Specification(load=load, server_pid=1)
    return sum_up(
        specification,
        windows,
        (2, 6),
        started_at="2026-01-01T00:00:00+00:00",
        machine=MACHINE,
        server=Server(name="<s>", version="1"),
        division=(1, 1),
        usage=(
            Usage(at_s=10, server_cpu_s=1, answered=100, generator_cpu_s=[0.5]),
            Usage(
                at_s=12,
                server_cpu_s=1.4,
                answered=300,
                generator_cpu_s=[0.7],
                stolen_s=changes.get("stolen_s", 0.0),
            ),
        ),
        complete=changes.get("complete", True),
        steady=changes.get("steady", True),
    )


def test_the_warm_up_is_not_counted() -> None:
    found = _measured(ClosedLoop())
    assert found.sent == 200
    assert found.measured_s == 2
    assert found.requests_per_s == pytest.approx(100, rel=0.01)
    assert found.latency
    assert found.latency.p99_ms == pytest.approx(10, rel=0.01)
    assert found.server.cpu_s_per_request == pytest.approx(0.002)
    assert found.generator.cpu_share == pytest.approx(0.1)
    assert found.valid
    assert found.remarks == ()


def test_errors_make_a_run_invalid_and_are_no_answers() -> None:
    found = _measured(ClosedLoop(), errors=20)
    assert found.statuses == {"OK": 180, "RESOURCE_EXHAUSTED": 20}
    assert found.error_share == pytest.approx(0.1)
    assert not found.valid
    assert "10.00% errors" in found.remarks[0]


def test_what_the_hypervisor_took_is_said() -> None:
    found = _measured(ClosedLoop(), stolen_s=0.08 * (os.cpu_count() or 1))
    assert found.stolen_share == pytest.approx(0.04)
    assert "4.0% of the CPU time" in found.remarks[0]
    assert found.valid


def test_stolen_time_is_read_where_the_kernel_tells(tmp_path: Path) -> None:
    stat = tmp_path / "stat"
    assert machine.stolen_s(stat) == 0
    stat.write_text("cpu  1 2 3 4 5 6 7 250 9 10\ncpu0 1 2 3 4 5 6 7 99 9 10\n")
    assert machine.stolen_s(stat) == 250 / os.sysconf("SC_CLK_TCK")
    stat.write_text("cpu  1 2 3\n")
    assert machine.stolen_s(stat) == 0


def test_json_comes_back_as_it_was() -> None:
    found = _measured(OpenLoop(rate_per_s=100), errors=3, steady=False)
    assert result.decode(result.encode(found)) == found
    ramp = Ramp(steps=(found,), capacity_per_s=1.0, reached=False)
    assert result.decode(result.encode(ramp)) == ramp


def test_the_schema_names_every_field() -> None:
    schema = result.json_schema()
    named = set(schema["$defs"]["Result"]["properties"])
    assert named == {field.encode_name for field in msgspec.structs.fields(Result)} | {"type"}


def test_the_page_needs_no_other_file_and_escapes_what_it_is_told() -> None:
    found = _measured(OpenLoop(rate_per_s=100), errors=20)
    for text in (
        page.page(found),
        page.page(Ramp(steps=(found, found), capacity_per_s=1, reached=True)),
    ):
        assert "<svg" in text
        assert "<CPU>" not in text
        assert "a &lt;CPU&gt;" in text
        assert "<script" not in text
        assert 'src="' not in text
        assert "10.00% errors" in text


def test_the_table_names_what_was_not_answered() -> None:
    shown = dict(report.rows(_measured(ClosedLoop(), errors=20)))
    assert shown["RESOURCE_EXHAUSTED"].startswith("20 (10.00%)")
    assert shown["load"] == "1 client"


@pytest.mark.parametrize(
    "fields",
    [
        {"duration_s": 0},
        {"load": {"type": "open", "rate_per_s": -1}},
        {"load": {"type": "closed", "clients": 0}},
        {"payload": {"batch": 0}},
        {"max_error_share": 2},
    ],
)
def test_values_out_of_bounds_are_named(fields: dict[str, Any]) -> None:
    with pytest.raises(WrongInput, match=r"^[a-z_.]+: a (whole )?number, .* is needed$"):
        make(fields)
