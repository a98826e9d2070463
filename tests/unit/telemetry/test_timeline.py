"""A request's moments: phases that add up, and what a client is told of them."""

from __future__ import annotations

import itertools
import re

import pytest
from support.reports import SCOPE, served

from corral.telemetry import report
from corral.telemetry.timeline import Timeline, attach, timeline_of


def test_phases_follow_one_another_and_add_up() -> None:
    phases = list(served().phases_s(100.05))
    assert [name for name, _, _ in phases] == [
        "receive", "admit", "decode", "queue", "copy", "infer", "answer"
    ]  # fmt: skip
    assert phases[0][1] == 100.0
    assert phases[-1][2] == 100.05
    assert all(before[2] == after[1] for before, after in itertools.pairwise(phases))


def test_a_moment_read_by_another_clock_is_not_before_the_last() -> None:
    timeline = served()
    timeline.runs[0] = timeline.runs[0]._replace(formed_s=100.002)
    spans = {name: end - start for name, start, end in timeline.phases_s(100.05)}
    assert spans["queue"] == 0
    assert sum(spans.values()) == pytest.approx(0.05)


def test_a_request_that_was_refused_has_the_phases_that_came() -> None:
    timeline = Timeline(SCOPE, None, traced=False, begun_s=1.0)
    timeline.refused("refused", 1.25)
    assert list(timeline.phases_s(1.5)) == [("receive", 1.0, 1.25), ("end", 1.25, 1.5)]


def test_server_timing_is_of_the_form_that_browsers_read() -> None:
    field = served().server_timing(100.05).decode()
    found = dict(re.findall(r"(\w+);(?:dur|desc)=([^,]+)(?:, |$)", field))
    assert found["infer"] == "40.000"
    assert found["total"] == "50.000"
    assert (found["batch"], found["worker"]) == ('"8"', '"1"')
    assert found["traceparent"] == f'"00-{"a" * 32}-{"b" * 16}-01"'
    assert float(found["total"]) == pytest.approx(
        sum(
            float(found[n])
            for n in ("receive", "admit", "decode", "queue", "copy", "infer", "answer")
        )
    )


def test_whoever_serves_a_request_finds_its_timeline_in_the_scope() -> None:
    scope = dict(SCOPE)
    assert timeline_of(scope) is None
    timeline = served()
    attach(scope, timeline)
    assert timeline_of(scope) is timeline


def test_a_report_travels_whole() -> None:
    told = report.report(served(), 3, is_logged=True)
    (there,) = report.decode(report.encode([told]))
    assert there == told
    assert there.runs[0].items == 8
    assert there.trace == report.Traced("a" * 32, "b" * 16, "", "", wanted=True)


def test_what_a_client_chose_has_an_end() -> None:
    timeline = served()
    timeline.scope = {**SCOPE, "path": "/" + "x" * 9999, "client": None}
    timeline.model = "m" * 9999
    told = report.report(timeline, 0, is_logged=True)
    assert len(told.path) == len(told.model) == 256
    assert told.peer == ""
    # The largest packet goes through a socket whose buffer is small.
    assert len(report.encode([told] * report.PACKET_REQUESTS)) < 2**17
