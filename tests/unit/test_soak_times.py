"""How long a soak takes: never less than it was told to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from promises import PROMISES, in_order, seconds_for


def test_one_promise_fills_the_time_and_comes_last() -> None:
    ordered = in_order(PROMISES)
    assert [promise.fills for promise in ordered] == [False] * (len(PROMISES) - 1) + [True]
    assert ordered[-1].number == "R13"
    assert sorted(p.text for p in ordered) == sorted(p.text for p in PROMISES)


def test_the_shares_are_of_one_whole() -> None:
    assert sum(promise.share for promise in PROMISES) == pytest.approx(1, abs=0.05)


@given(st.floats(60, 7200), st.lists(st.floats(0.2, 2), min_size=40, max_size=40))
def test_the_whole_is_never_shorter(whole_s: float, pace: list[float]) -> None:
    spent_s = 0.0
    for promise, ratio in zip(in_order(PROMISES), pace, strict=False):
        seconds = seconds_for(promise, whole_s, spent_s)
        assert seconds >= promise.share * whole_s
        # What fills takes what it is given; the others take more or less.
        spent_s += seconds if promise.fills else seconds * ratio
    assert spent_s >= whole_s * (1 - 1e-9)
