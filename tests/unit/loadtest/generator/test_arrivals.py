"""Open-loop schedules."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral_loadtest.generator import arrivals
from corral_loadtest.specification import ArrivalKind, OpenLoop, WrongInput


def test_constant_arrivals_are_equally_far_apart() -> None:
    found = arrivals.constant(4, 1.0)
    assert found.tolist() == [0, 0.25, 0.5, 0.75]


def test_bursts_keep_the_mean_rate() -> None:
    found = arrivals.bursts(8, 2.0, size=4)
    assert found.tolist() == [0] * 4 + [0.5] * 4 + [1.0] * 4 + [1.5] * 4


def test_poisson_has_its_rate_and_its_variance() -> None:
    found = arrivals.poisson(100, 1000, seed=3)
    gaps = np.diff(found)
    assert len(found) == pytest.approx(100_000, rel=0.02)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.02)
    assert (gaps >= 0).all()
    assert found[-1] < 1000


def test_the_same_seed_gives_the_same_schedule_and_another_does_not() -> None:
    one = arrivals.poisson(50, 10, seed=1)
    assert np.array_equal(one, arrivals.poisson(50, 10, seed=1))
    assert not np.array_equal(one[:10], arrivals.poisson(50, 10, seed=2)[:10])


@settings(max_examples=30, deadline=None)
@given(
    rate=st.floats(0.5, 500), duration=st.floats(0.1, 20), parts=st.integers(1, 7),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_generators_together_send_the_whole_schedule(
    rate: float, duration: float, parts: int, seed: int
) -> None:
    whole = arrivals.poisson(rate, duration, seed)
    pieces = [arrivals.part(whole, index, parts) for index in range(parts)]
    assert np.array_equal(np.sort(np.concatenate(pieces)), whole)
    assert max(map(len, pieces)) - min(map(len, pieces)) <= 1


def test_a_trace_is_sorted_moved_to_zero_and_may_be_played_faster(tmp_path: Path) -> None:
    file = tmp_path / "trace"
    file.write_text("# seconds\n12\n10\n\n14\n")
    load = OpenLoop(arrivals=ArrivalKind.TRACE, trace=str(file))
    assert arrivals.schedule(load, 1).tolist() == [0, 2, 4]
    faster = OpenLoop(arrivals=ArrivalKind.TRACE, trace=str(file), rate_per_s=2)
    assert arrivals.schedule(faster, 1).tolist() == [0, 0.5, 1]


@pytest.mark.parametrize("text", ["", "one\n", "nan\n", "1\ninf\n"])
def test_a_trace_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "trace"
    file.write_text(text)
    with pytest.raises(WrongInput, match="trace"):
        arrivals.read_trace(str(file))


def test_a_missing_rate_or_trace_is_said() -> None:
    with pytest.raises(WrongInput, match="need a rate"):
        arrivals.schedule(OpenLoop(), 1)
    with pytest.raises(WrongInput, match="needs its file"):
        arrivals.schedule(OpenLoop(arrivals=ArrivalKind.TRACE), 1)
