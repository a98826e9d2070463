"""The comparison: the rounds' order, what tools print, figures over rounds, the page."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral_loadtest.comparison import peers, report, rounds
from corral_loadtest.comparison.drive import Load
from corral_loadtest.comparison.rounds import RawVisit, Visit
from corral_loadtest.generator import histograms
from corral_loadtest.result import Machine
from corral_loadtest.servers import benchmark_app

_REPORT = """\
[Step 11/11] Dumping statistics report
[ INFO ] Latency:
[ INFO ]    Median:        48.72 ms
[ INFO ]    Average:       49.00 ms
[ INFO ] Throughput:   41.25 FPS
"""


def _load(
    answered: int, latency_ms: float = 20.0, offered: float | None = None, **failed: int
) -> Load:
    histogram = histograms.empty()
    for _ in range(answered):
        histograms.record(histogram, latency_ms / 1000)
    return Load(
        offered_per_s=offered,
        seconds=10.0,
        answered=answered,
        failed=failed,
        histogram=histograms.encoded(histogram),
        cpu_s=answered * 0.05,
    )


def _visit(name: str, number: int, answered: int, at_70: Load | None = None) -> Visit:
    return Visit(
        name=name,
        round=number,
        start_s=3.0 + number,
        memory_mib=100.0,
        loads={
            "idle": _load(50, 25.0),
            "capacity": _load(answered),
            "50%": _load(200, 30.0, offered=20.0),
            "70%": at_70 or _load(280, 40.0, offered=28.0),
        },
    )


def _comparison(*visits: Visit, missing: dict[str, str] | None = None) -> report.Comparison:
    names = dict.fromkeys(one.name for one in visits)
    return report.Comparison(
        date="2026-11-21T13:30:00+00:00",
        machine=Machine(cpu="AMD EPYC(TM) 7R13", cpus=2, kernel="6.1", python="3.11", grpcio="1"),
        cores=2,
        clients=16,
        seconds=10.0,
        versions={"openvino": "2026.4.1"},
        command="make compare",
        subjects=tuple(
            report.Described(
                name=name, title=name.title(), version="1", protocol="gRPC", note="as it comes",
                computes=name != "baseline",
            )
            for name in names
        ),
        missing=missing or {},
        raw=(
            RawVisit(name="raw", round=0, per_s=40.0, p50_ms=25.0, p99_ms=30.0, cpu_ms=49.0),
            RawVisit(name="raw", round=1, per_s=20.0, p50_ms=25.0, p99_ms=30.0, cpu_ms=49.0),
            RawVisit(name="benchmark_app", round=0, per_s=42.0, p50_ms=48.0),
        ),
        visits=visits,
    )  # fmt: skip


@given(st.lists(st.text(min_size=1), unique=True, min_size=1, max_size=12), st.integers(1, 8))
def test_every_round_visits_everybody_once(names: list[str], count: int) -> None:
    plan = rounds.order(names, count)
    assert len(plan) == count
    assert all(sorted(turn) == sorted(names) for turn in plan)


def test_rounds_begin_elsewhere_and_turn_round() -> None:
    first, second, third = rounds.order(["a", "b", "c", "d", "e", "f"], 3)
    assert first == ["a", "b", "c", "d", "e", "f"]
    assert second == ["b", "a", "f", "e", "d", "c"]
    assert third == ["e", "f", "a", "b", "c", "d"]


def test_benchmark_app_report_is_read() -> None:
    found = benchmark_app.parse(_REPORT)
    assert (found.per_s, found.p50_ms) == (41.25, 48.72)


def test_a_report_of_something_else_is_refused() -> None:
    with pytest.raises(RuntimeError, match="no throughput"):
        benchmark_app.parse("usage: benchmark_app")


def test_ratio_is_the_median_of_each_rounds_own() -> None:
    # Against the medians it would be 30 / 30 = 1: the slow round was slow for both.
    found = report.rows(_comparison(_visit("one", 0, 380), _visit("one", 1, 190)))
    row = next(row for row in found if row.name == "one")
    assert row.to_raw == pytest.approx(0.95)
    assert row.per_s == pytest.approx(28.5)
    assert row.range_per_s == (19.0, 38.0)
    assert row.cpu_ms == pytest.approx(50.0)
    assert row.start_s == 3.5


def test_percentiles_are_of_all_rounds_together() -> None:
    late = _load(280, 400.0, offered=28.0)
    found = report.rows(_comparison(_visit("one", 0, 380), _visit("one", 1, 380, at_70=late)))
    p50_ms, p99_ms = next(row for row in found if row.name == "one").latency_ms["70%"]
    assert p50_ms == pytest.approx(40.0, rel=0.01)
    assert p99_ms == pytest.approx(400.0, rel=0.01)


def test_the_baseline_server_has_no_ratio_to_the_engine() -> None:
    found = report.rows(_comparison(_visit("baseline", 0, 5000)))
    assert next(row for row in found if row.name == "baseline").to_raw is None


@pytest.mark.parametrize(
    ("load", "saturated"),
    [
        (_load(280, offered=28.0), False),
        (_load(240, offered=28.0), True),
        (_load(280, offered=28.0, UNANSWERED=5), True),
        (_load(280, offered=28.0, UNAVAILABLE=1), False),
        (_load(10), False),
    ],
)
def test_a_load_that_was_not_carried_is_marked(load: Load, saturated: bool) -> None:
    assert load.saturated is saturated


def test_page_shows_losers_marks_and_the_missing() -> None:
    beaten = _load(100, 4000.0, offered=28.0)
    found = _comparison(
        _visit("slow", 0, 100, at_70=beaten),
        _visit("fast", 0, 390),
        missing={"TorchServe": "it needs Java"},
    )
    page = report.markdown(found)
    assert "| Slow | 10.0 |" in page
    assert "| Fast | 39.0 |" in page
    slow = next(line for line in page.splitlines() if line.startswith("| Slow | 10.0"))
    assert "†" in slow
    fast = next(line for line in page.splitlines() if line.startswith("| Fast | 39.0"))
    assert "†" not in fast
    assert "- TorchServe: it needs Java" in page
    assert "2026-11-21-amd-epyc-7r13-latency.svg" in page


def test_every_table_line_has_as_many_cells() -> None:
    lines = report.table(_comparison(_visit("one", 0, 380))).splitlines()
    assert len({line.replace("---:", "---").count("|") for line in lines}) == 1


def test_results_survive_json() -> None:
    found = _comparison(_visit("one", 0, 380))
    assert msgspec.json.decode(msgspec.json.encode(found), type=report.Comparison) == found


@pytest.mark.parametrize("peer", peers.PEERS, ids=lambda peer: peer.name)
def test_every_peer_is_pinned_and_has_its_script(peer: peers.Peer) -> None:
    assert peers.version(peer)[0].isdigit()
    assert (peers.SCRIPTS / f"{peer.name}_server.py").is_file()
    pinned = peer.requirements.read_text().split()
    assert all("==" in line for line in pinned)
    assert "openvino==2026.4.1" in pinned


def test_only_the_cpu_build_of_torch_is_asked_for() -> None:
    torch = [
        line
        for peer in peers.PEERS
        for line in peer.requirements.read_text().split()
        if line.startswith(("torch==", "nvidia-cu", "triton=="))
    ]
    assert torch == ["torch==2.13.0"]


def test_an_unpinned_package_is_refused() -> None:
    assert peers.pinned("numpy==2.4\nMosec==0.9.8 ; python_version > '3'\n", "mosec") == "0.9.8"
    with pytest.raises(ValueError, match="not pinned"):
        peers.pinned("numpy==2.4\n", "mosec")
