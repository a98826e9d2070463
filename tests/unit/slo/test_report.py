"""What was seen under load as figures, and the report as text, page and chart."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from corral.ipc.spans import MOMENTS, RequestSpan
from corral.settings import Allocator, BackendName, Mode, Precision
from corral.slo import chart, page, picture, view
from corral.slo.report import CandidateRow, CurvePoint, Measured, Predicted, TuneReport, Winner
from corral.slo.running import Round, Servers, round_of
from corral.slo.space import Arithmetic, Batching, Configuration, Memory, Shape
from corral.supervisor.child_server import options_of
from corral.system.rapl import Meter


def point(rate: float, p99_ms: float, name: str = "a") -> CurvePoint:
    return CurvePoint(rate=rate, p50_ms=p99_ms / 2, p99_ms=p99_ms, name=name)


def measured(rate: float, error: float = 0.1) -> Measured:
    return Measured(
        rate=rate, rate_interval=[rate, rate + 2], offered=rate or 30.0, p50_ms=20.0, p99_ms=48.0,
        p99_interval_ms=[45.0, 49.5], raw_p99_ms=47.0, first_p99_ms=50.0,
        guessed_p99_ms=50.0 * (1 + error), refused=0.0, requests=500,
    )  # fmt: skip


def row(name: str, seen: Measured | None, lost: str = "") -> CandidateRow:
    told = Predicted(rate=31.0, p50_ms=20.0, p99_ms=49.0, refused=0.0)
    return CandidateRow(
        settings={"workers": 2}, name=name, predicted=told, measured=seen, lost=lost
    )


REPORT = TuneReport(
    p99_ms=50.0,
    model="net & co",
    cpu="a CPU",
    arrivals="Poisson",
    winner=Winner(
        settings={"workers": 2, "p99-ms": 50.0}, name="a", rate=30.0, rate_interval=[30.0, 32.0],
        p99_ms=48.0, p99_interval_ms=[45.0, 49.5], p50_ms=20.0, idle_p50_ms=11.0, confirmed=True,
    ),
    candidates=[
        row("a", measured(30.0)),
        row("b", measured(20.0, error=-0.3), "it kept 20.0/s"),
        row("c", measured(0.0, error=0.0), "at 30.0/s its p99 may be 70.0 ms"),
        row("d", None, "it is predicted to keep 12/s"),
    ],
    measured_configurations=3,
    space={"engines": ["x < y"], "configurations": 100},
    not_tried=["z: it was slow"],
    notes=["others took 30% of the CPUs meanwhile: rates are too low"],
    pareto=[point(10, 20), point(30, 48)],
    curves=[[point(10, 20), point(30, 48)], [point(10, 30, "b"), point(20, 60, "b")]],
    asked_rate=20.0,
    headroom=0.5,
)  # fmt: skip


def test_the_error_is_the_median_of_what_was_measured() -> None:
    assert REPORT.median_error == pytest.approx(0.1)
    assert [each.name for each in REPORT.measured] == ["a", "b", "c"]
    assert msgspec.structs.replace(REPORT, candidates=[]).median_error is None


def test_a_terminal_shows_the_winner_and_why_others_lost() -> None:
    console = Console(width=160)
    with console.capture() as capture:
        console.print(view.render(REPORT))
    shown = re.sub(r"\s+", " ", capture.get())
    for words in (
        "30.0/s with p99 <= 50 ms was measured to hold by a (the highest rate is thought",
        "to be between 30.0 and 32.0/s)",
        "a lone request takes 11.0 ms",
        "20/s leaves 50% of it as headroom",
        "45.0 to 49.5",
        "none yet",
        "100 configurations; 3 (3.0%) were put under load",
        "predicted p99 was off by 10% in the median",
        "not tried: z: it was slow",
        "! others took 30%",
    ):
        assert words in shown


def test_a_p99_of_another_rate_is_not_the_winners() -> None:
    assert REPORT.winner is not None
    one = msgspec.structs.replace(
        REPORT.winner, confirmed=False, p99_ms=None, p99_interval_ms=None, p50_ms=None
    )
    assert "p99 was not measured at that rate" in view.winner_line(one, 50.0)
    shown = page.render(msgspec.structs.replace(REPORT, winner=one))
    assert "not confirmed under load; what was measured leaves that rate" in shown
    assert "a may keep p99" in shown
    assert "not measured at that rate, 11.0 ms of a lone" in shown


def test_a_point_above_the_chart_is_marked() -> None:
    seen = msgspec.structs.replace(measured(0.0), p99_ms=463.9, p99_interval_ms=[463.9, 463.9])
    drawn = chart.draw(msgspec.structs.replace(REPORT, candidates=[row("a", seen)]))
    assert ">463.9 ms</text>" in drawn
    assert "<circle" not in drawn


def test_one_is_told_as_one() -> None:
    one = msgspec.structs.replace(
        REPORT, space={"configurations": 1}, measured_configurations=1, profiled=["x"]
    )
    assert view.facts(one)[0].startswith(
        "searched  1 configuration; 1 (100.0%) was put under load, 1 kind of workers"
    )


def test_less_than_the_asked_rate_is_said() -> None:
    short = msgspec.structs.replace(REPORT, headroom=-0.25)
    assert view.headroom_line(short) == "20/s is more than that: 75% of it is kept"


def test_the_page_has_it_all_and_escapes_it() -> None:
    found = page.render(REPORT)
    for words in (
        "net &amp; co",
        "x &lt; y",
        "z: it was slow",
        "the winner",
        "workers = 2",
        "<svg",
    ):
        assert words in found
    assert "x < y" not in found


def test_the_chart_has_a_line_for_each_curve_and_a_point_for_each_measurement() -> None:
    drawn = chart.draw(REPORT)
    assert len(re.findall(r'stroke="var\(--(one|two)\)"', drawn)) == 2
    assert drawn.count("<circle") == 3
    assert "the bound, 50 ms" in drawn
    places = [float(y) for y in re.findall(r"[ML][\d.]+ ([\d.]+)", drawn)]
    assert min(places) >= 0
    assert not chart.draw(msgspec.structs.replace(REPORT, curves=[]))


def test_the_picture_is_a_png(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "x.png"
    assert not picture.write(REPORT, file)
    assert file.read_bytes().startswith(b"\x89PNG")
    assert "no chart" in picture.write(msgspec.structs.replace(REPORT, curves=[]), file)


def span(
    batch: int, queued: float, formed: float, collected: float, items: int = 1, *, worker: int = 0
) -> RequestSpan:
    at_s = dict.fromkeys(MOMENTS, queued) | {"formed": formed, "collected": collected}
    return RequestSpan(cell=0, batch=batch, worker=worker, batch_items=items, items=1, at_s=at_s)


def test_a_round_counts_batches_once_and_what_lies_beside_them() -> None:
    spans = [span(1, 0.0, 0.1, 0.3), span(2, 0.2, 0.3, 0.7, 2), span(2, 0.1, 0.3, 0.7, 2)]
    found = round_of(10.0, [0.0, 0.1, 0.2, 0.3], [0.5, 0.7, 0.6, None], [0.0, 0.0, 0.0, 0.9], spans)
    assert [one.size for one in found.served.batches] == [1, 2]
    assert [one.spent_s for one in found.served.batches] == pytest.approx([0.2, 0.4])
    # They took 1.8 s, of which they were 0.3, 0.5 and 0.6 s in the queue or with a worker.
    assert found.served.overhead_s == pytest.approx((1.8 - 1.4) / 3)
    assert math.isinf(found.latencies_s[-1])
    assert found.refused == 0.25


def test_a_round_says_which_batches_had_company_and_what_was_carried() -> None:
    spans = [span(1, 0.0, 0.0, 1.0), span(2, 0.5, 0.5, 2.0, worker=1), span(3, 1.5, 1.5, 1.8)]
    found = round_of(2.0, [0.0, 0.5, 1.0], [1.0, 1.5, 3.0], [0.0] * 3, spans, beside_s=0.3)
    assert [one.company for one in found.served.batches] == [0.0, 1.0, 1.0]
    # The last answer came after 4 s.
    assert found.served.rate == pytest.approx(3 / 4)
    assert found.served.beside_s == pytest.approx(0.1)


def test_a_round_without_answers_says_nothing_of_serving() -> None:
    found = round_of(10.0, [0.0, 0.1], [None, None], [0.0, 0.0], [])
    assert (found.served.batches, found.served.overhead_s, found.refused) == ([], 0.0, 1.0)
    assert isinstance(found, Round)


def test_settings_become_a_command_line() -> None:
    settings = {"workers": 2, "huge-pages": False, "offline": False, "null-spin": True,
                "shape": ["a=1", "b=2"], "mode": "rti"}  # fmt: skip
    assert list(options_of(settings)) == [
        "--workers=2", "--no-huge-pages", "--null-spin", "--shape=a=1", "--shape=b=2", "--mode=rti",
    ]  # fmt: skip


CONFIGURATION = Configuration(
    arithmetic=Arithmetic(backend=BackendName.NULL, precision=Precision.FP32),
    shape=Shape(workers=1, cores=1),
    batching=Batching(max_batch=1, mode=Mode.RTI),
    memory=Memory(allocator=Allocator.SYSTEM, huge_pages=True, openmp_spin_ms=1),
)


class Burning(Servers):
    """Servers that answer all but the last request, for which the package takes 3 J in all."""

    def __init__(self, sysfs: Path) -> None:
        self._zone = sysfs / "class/powercap/intel-rapl:0"
        if sysfs.name != "bare":
            self._zone.mkdir(parents=True)
            (self._zone / "name").write_text("package-0\n")
            (self._zone / "max_energy_range_uj").write_text("262143328850\n")
            self._count(1_000_000)
        self._spent_s = 0.0
        super().__init__({}, None, 1.0, Meter(sysfs))  # type: ignore[arg-type]

    def _count(self, uj: int) -> None:
        (self._zone / "energy_uj").write_text(f"{uj}\n")

    def _ask(self, one: Configuration, offsets_s: Sequence[float]) -> Any:
        if self._zone.exists():
            self._count(4_000_000)
        return [*[0.01] * (len(offsets_s) - 1), None], [0.0] * len(offsets_s), 0.2, []

    def _beside_s(self, _: Configuration) -> float | None:
        self._spent_s += 1.0
        return self._spent_s if self._zone.exists() else None


def test_a_round_tells_what_the_processors_consumed(tmp_path: Path) -> None:
    found = Burning(tmp_path).measure(CONFIGURATION, 10.0, [0.1, 0.2, 0.3, 0.4])
    assert found.joules == pytest.approx(3.0)
    assert found.answered == 3
    bare = Burning(tmp_path / "bare").measure(CONFIGURATION, 10.0, [0.1, 0.2])
    assert bare.joules is None


def test_a_round_tells_what_requests_cost_beside_workers(tmp_path: Path) -> None:
    """A second of frontend and supervisor, and 0.2 s of whoever sent, by four requests."""
    found = Burning(tmp_path).measure(CONFIGURATION, 10.0, [0.1, 0.2, 0.3, 0.4])
    assert found.served.beside_s == pytest.approx(0.3)
    # Where the server's own is not known, the sender's is.
    bare = Burning(tmp_path / "bare").measure(CONFIGURATION, 10.0, [0.1, 0.2])
    assert bare.served.beside_s == pytest.approx(0.1)


def test_joules_are_shown_where_they_are_known() -> None:
    assert not any("energy" in line for line in view.facts(REPORT))
    assert REPORT.winner is not None
    winner = msgspec.structs.replace(REPORT.winner, joules_an_inference=0.4321)
    report = msgspec.structs.replace(REPORT, winner=winner)
    assert "energy    0.432 J an inference at the winner's rate, all processors" in view.facts(
        report
    )
    assert "0.432 J an inference at that rate" in page.render(report)
    assert "J an inference" not in page.render(REPORT)


def test_what_never_held_is_told_by_what_it_leaves() -> None:
    assert REPORT.winner is not None
    one = msgspec.structs.replace(REPORT.winner, confirmed=False)
    assert view.winner_line(one, 50.0).startswith(
        "not confirmed under load; what was measured leaves 30.0/s with p99 <= 50 ms"
    )
    one = msgspec.structs.replace(one, rate_interval=[0.0, 30.0])
    assert "not confirmed under load; predicted: 30.0/s" in view.winner_line(one, 50.0)
