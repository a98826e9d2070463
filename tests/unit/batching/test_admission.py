"""Messages under way: how many, and which one has to go when there are too many."""

from __future__ import annotations

from collections.abc import Hashable

from hypothesis import given
from hypothesis import strategies as st

from corral.batching.admission import MessagesUnderWay


def make(most: int) -> tuple[MessagesUnderWay[Hashable], list[Hashable]]:
    given_up: list[Hashable] = []
    return MessagesUnderWay(most, given_up.append, 5.0), given_up


def test_there_is_room_again_when_a_message_is_there() -> None:
    arrivals, given_up = make(2)
    assert arrivals.begin("a", 0.0)
    assert arrivals.begin("b", 0.1)
    assert not arrivals.begin("c", 0.2)
    assert arrivals.end("a")
    assert arrivals.begin("c", 0.3)
    assert not given_up


def test_a_slow_message_makes_room_for_the_next() -> None:
    arrivals, given_up = make(2)
    arrivals.begin("slow", 0.0)
    arrivals.begin("new", 4.0)
    assert not arrivals.begin("too soon", 4.9)
    assert arrivals.begin("waiting", 5.0)
    assert given_up == ["slow"]
    assert not arrivals.end("slow")
    assert arrivals.end("new")


def test_a_slow_message_may_take_its_time_while_nobody_waits() -> None:
    arrivals, given_up = make(2)
    arrivals.begin("slow", 0.0)
    arrivals.begin("late", 1000.0)
    assert arrivals.end("slow")
    assert not given_up


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans(), st.floats(0, 3)), max_size=200))
def test_never_more_than_there_may_be_and_every_end_is_told(
    events: list[tuple[int, bool, float]],
) -> None:
    arrivals, given_up = make(4)
    under_way: set[Hashable] = set()
    now_s = 0.0
    for key, ends, step_s in events:
        now_s += step_s
        if ends:
            assert arrivals.end(key) == (key in under_way)
            under_way.discard(key)
        elif key not in under_way and arrivals.begin(key, now_s):
            under_way -= set(given_up)
            under_way.add(key)
        given_up.clear()
        assert len(arrivals) == len(under_way) <= 4
