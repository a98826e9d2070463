"""Whether one more step of a search fits into its budget, and what steps are expected to take."""

from __future__ import annotations

import math

import pytest

from corral.slo.budget import Budget
from corral.slo.pace import ROUND_S, Pace, fits


@pytest.mark.parametrize(
    ("left_s", "takes_s", "fit"),
    [
        (10.0, 5.0, True),
        # It ends a little late, and nearer to the budget than without it.
        (1.5, 2.9, True),
        (1.5, 3.1, False),
        # Of a long step no more than of a round.
        (20.0, 21.9, True),
        (20.0, 22.1, False),
        (0.0, 0.0, False),
        (-1.0, 0.0, False),
        (math.inf, 1e9, True),
    ],
)
def test_a_step_fits_where_a_search_ends_nearer_to_its_budget(
    left_s: float, takes_s: float, fit: bool
) -> None:
    assert fits(left_s, takes_s) is fit


def test_a_start_is_expected_to_take_what_the_last_one_did() -> None:
    pace = Pace()
    pace.workers_started(1.0)
    # A server is more than its workers: a guess until one was seen.
    assert pace.start_s() == 4.0
    pace.servers_started(1, 7.0)
    assert pace.start_s() == 7.0
    assert pace.start_s(3) == 14.0
    pace.servers_started(3, 12.0)
    assert pace.start_s() == 6.0
    assert pace.start_s(0) == 0.0


def test_a_round_takes_its_load_and_what_was_seen_beside_it() -> None:
    pace = Pace()
    assert pace.round_s(4.0) > 4.0
    pace.loaded(3.0, 5.5)
    assert pace.round_s(6.0) == 8.5
    assert pace.round_s() == ROUND_S + 2.5


@pytest.mark.parametrize(
    ("left_s", "running", "chosen"),
    [
        (60.0, [False, False, False], [True, True, True]),
        # 15 s for the first two starts, and 5 s for each of two rounds of both.
        (35.0, [False, False, False], [True, True, False]),
        (34.9, [False, False, False], [True, False, False]),
        (30.0, [True, False, False], [True, True, False]),
        # The first of 15 s is tried in half of them; one that runs needs its round only.
        (7.4, [False, False, False], [False, False, False]),
        (7.6, [False, False, False], [True, False, False]),
        (4.9, [False, True, True], [False, True, False]),
        (math.inf, [False] * 3, [True] * 3),
    ],
)
def test_as_many_servers_are_started_as_there_is_time_for(
    left_s: float, running: list[bool], chosen: list[bool]
) -> None:
    pace = Pace()
    pace.servers_started(1, 10.0)
    pace.loaded(4.0, 5.0)
    assert pace.that_fit(running, left_s) == chosen


def test_what_is_not_counted_leaves_the_budget_as_it_was() -> None:
    now_s = 100.0
    budget = Budget(30.0, lambda: now_s)
    budget.begin()
    now_s = 110.0
    with budget.uncounted():
        now_s = 150.0
    assert budget.passed_s == 50.0
    assert budget.spent_s == 10.0
    assert budget.left_s == 20.0
    assert budget.fits(22.0)
    assert not budget.fits(22.0, kept_s=1.0)
    took: list[float] = []
    with budget.timed(took.append):
        now_s = 152.0
    with pytest.raises(KeyError), budget.timed(took.append):
        raise KeyError
    assert took == [2.0]
