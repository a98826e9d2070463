"""LoadGen's summary, its verdict, and the search for the highest rate."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral_loadtest.mlperf import command as mlperf_cli
from corral_loadtest.mlperf import loadgen as mlperf
from corral_loadtest.mlperf import page as mlperf_page
from corral_loadtest.mlperf.loadgen import Plan
from corral_loadtest.result import Machine

_SUMMARY = """\
================================================
MLPerf Results Summary
================================================
SUT name : PySUT
Scenario : Server
Mode     : PerformanceOnly
Completed samples per second    : 36.92
Result is : {result}
  Performance constraints satisfied : {kept}
  Min duration satisfied : Yes
Recommendations:
 * Reduce target QPS to improve latency.

================================================
Additional Stats
================================================
99.00 percentile latency (ns)   : 14611966
"""


def _summary(result: str = "VALID", kept: str = "Yes") -> str:
    return _SUMMARY.format(result=result, kept=kept)


def test_summary_lines_become_figures() -> None:
    figures = mlperf.parse_summary(_summary())
    assert figures["Result is"] == "VALID"
    assert figures["Completed samples per second"] == "36.92"
    assert figures["99.00 percentile latency (ns)"] == "14611966"
    assert "Recommendations" not in figures


def test_a_full_run_is_valid_and_short_of_nothing() -> None:
    plan = Plan(scenario="Server", duration_s=600, samples=1024)
    found = mlperf.verdict(plan, _summary(), {})
    assert found.valid
    assert found.within
    assert not found.remarks
    assert not found.short_of
    assert mlperf_page.figure(found) == "36.92 samples/s"


def test_a_short_run_says_so_and_a_wide_bound_too() -> None:
    plan = Plan(scenario="Server", duration_s=5, samples=8, latency_ms=100)
    found = mlperf.verdict(plan, _summary(), {})
    assert found.valid
    assert len(found.short_of) == 3


def test_a_failed_request_spoils_what_loadgen_calls_valid() -> None:
    found = mlperf.verdict(Plan(scenario="Offline"), _summary(), {"RESOURCE_EXHAUSTED": 2})
    assert not found.valid
    assert not found.within
    assert "2 RESOURCE_EXHAUSTED" in found.remarks[0]


def test_invalid_and_absent_results_are_not_valid() -> None:
    assert not mlperf.verdict(Plan(scenario="Server"), _summary("INVALID", "NO"), {}).valid
    assert not mlperf.verdict(Plan(scenario="Server"), "", {}).valid


def test_within_needs_no_early_stopping() -> None:
    found = mlperf.verdict(Plan(scenario="Server"), _summary("INVALID", "Yes"), {})
    assert found.within
    assert not found.valid


@given(st.floats(0.2, 5000), st.floats(1, 200), st.sampled_from([0.02, 0.1]))
def test_search_ends_just_below_the_true_limit(limit: float, start: float, tol: float) -> None:
    tried: list[float] = []

    def valid_at(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    found = mlperf_cli.search(valid_at, start, tol)
    assert len(tried) < 40
    if limit >= start / 2**10:
        assert found <= limit <= found * (1 + tol) * (1 + 1e-9)


def test_search_gives_up_where_no_rate_holds() -> None:
    assert mlperf_cli.search(lambda _rate: False, 10.0, 0.02) == 0.0


def test_search_does_not_wait_for_rates_below_the_least() -> None:
    tried: list[float] = []

    def valid_at(rate: float) -> bool:
        tried.append(rate)
        return False

    assert mlperf_cli.search(valid_at, 16.0, 0.02, 2.0) == 0.0
    assert tried == [16.0, 8.0, 4.0, 2.0]


def test_an_unknown_scenario_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        mlperf_cli.main(["--scenario", "Burst"])
    assert ended.value.code == 2
    assert "Burst" in capsys.readouterr().err


def test_the_page_says_the_bound_and_keeps_loadgens_summaries(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "mlperf_log_summary.txt").write_text(_summary())
    plan = Plan(scenario="Server", latency_ms=100, folder=logs)
    page = mlperf_page.Page(
        date="2026-11-21T15:00:00+00:00",
        machine=Machine(cpu="AMD EPYC", cpus=2, kernel="6", python="3.11", grpcio="1"),
        command="corral-loadtest mlperf",
        server="corral serve",
    )
    path = mlperf_page.write(page, [mlperf.verdict(plan, _summary(), {})], tmp_path / "out")
    text = path.read_text()
    assert path.name == "mlperf-2026-11-21-amd-epyc.md"
    assert "| Server | VALID | 36.92 samples/s |" in text
    assert "a bound of 100 ms where they have 15 ms" in text
    assert "60 s where the rules ask for 600 s" in text
    kept = path.with_suffix("") / "Server.txt"
    assert kept.read_text() == _summary()
    told = msgspec.json.decode(path.with_suffix(".json").read_bytes())
    assert told["runs"][0]["valid"] is True
    assert told["page"]["machine"]["cpus"] == 2
