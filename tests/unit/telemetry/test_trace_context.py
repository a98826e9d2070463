"""traceparent and tracestate, as W3C's recommendation wants them read."""

from __future__ import annotations

import pytest

from corral.telemetry import trace_context

TRACE = b"0af7651916cd43dd8448eb211c80319c"
PARENT = b"b7ad6b7169203331"
GOOD = b"00-" + TRACE + b"-" + PARENT + b"-01"


def follow(*values: bytes, state: tuple[bytes, ...] = ()) -> trace_context.TraceContext | None:
    fields = [(b"traceparent", value) for value in values]
    fields += [(b"tracestate", value) for value in state]
    return trace_context.follow([(b"content-type", b"x"), *fields])


def test_a_parent_is_followed_with_a_span_of_its_own() -> None:
    found = follow(GOOD)
    assert found is not None
    assert found.trace_id == TRACE.decode()
    assert found.parent_id == PARENT.decode()
    assert found.sampled
    assert len(found.span_id) == 16
    assert found.span_id != found.parent_id
    assert found.traceparent == f"00-{TRACE.decode()}-{found.span_id}-01"


@pytest.mark.parametrize(
    ("flags", "sampled"), [(b"00", False), (b"01", True), (b"02", False), (b"03", True)]
)
def test_the_last_bit_of_the_flags_says_sampled(flags: bytes, sampled: bool) -> None:
    found = follow(GOOD[:-2] + flags)
    assert found is not None
    assert found.sampled is sampled


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"00",
        GOOD[:-1],
        GOOD + b"0",
        GOOD + b"-what-the-future-will-be",
        GOOD.upper(),
        b"ff" + GOOD[2:],
        b"0g" + GOOD[2:],
        b"00-" + b"0" * 32 + b"-" + PARENT + b"-01",
        b"00-" + TRACE + b"-" + b"0" * 16 + b"-01",
        b"00-" + TRACE[:-1] + b"-" + PARENT + b"-01",
        b"00-" + TRACE + b"-" + PARENT[:-1] + b"x-01",
        b"00_" + TRACE + b"-" + PARENT + b"-01",
        b"cc" + GOOD[2:] + b".what",
        GOOD + b"\n",
        b"\xff" * 55,
    ],
)
def test_a_malformed_parent_is_none(value: bytes) -> None:
    assert follow(value) is None


def test_who_is_not_sampled_is_told_at_once() -> None:
    assert trace_context.is_unsampled(GOOD[:-2] + b"00")
    assert trace_context.is_unsampled(GOOD[:-2] + b"02")
    for value in (GOOD, GOOD[:-2] + b"03", GOOD[:-2] + b"0x", GOOD[:-2] + b"00-", b"", b"00"):
        assert not trace_context.is_unsampled(value)
    assert not trace_context.is_unsampled(b"00-" + b"0" * 32 + b"-" + PARENT + b"-00")
    assert not trace_context.is_unsampled(b"00-" + TRACE + b"-" + b"0" * 16 + b"-00")


def test_two_parents_are_none() -> None:
    assert follow(GOOD, GOOD) is None
    assert follow() is None


@pytest.mark.parametrize(
    "value", [b"cc" + GOOD[2:], b"cc" + GOOD[2:] + b"-more", b" " + GOOD + b"\t"]
)
def test_later_versions_and_spaces_around_are_read(value: bytes) -> None:
    found = follow(value)
    assert found is not None
    assert found.trace_id == TRACE.decode()


def test_the_state_comes_along_unless_it_is_too_long() -> None:
    found = follow(GOOD, state=(b"congo=t61", b"rojo=00f"))
    assert found is not None
    assert found.state == "congo=t61,rojo=00f"
    long = follow(GOOD, state=(b"a=" + b"x" * 600,))
    assert long is not None
    assert long.state == ""
    assert follow(b"broken", state=(b"congo=t61",)) is None


def test_a_new_trace_has_no_parent_and_a_child_stays_in_it() -> None:
    first, second = trace_context.begin(), trace_context.begin()
    assert first.trace_id != second.trace_id
    assert (len(first.trace_id), len(first.span_id), first.parent_id) == (32, 16, "")
    child = first.child()
    assert (child.trace_id, child.parent_id) == (first.trace_id, first.span_id)
    assert child.span_id != first.span_id
