"""What others disturb is measured again, and told."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator

import pytest

from corral.slo.disturbance import Disturbed, Watch
from corral.system.other_load import OtherLoad


def watch(
    shares: list[float],
    said: list[str],
    left_s: float = 10.0,
    now_s: Callable[[], float] = time.monotonic,
) -> Watch:
    """One that sees these shares of the CPUs' time taken by others, in this order."""
    coming = iter(shares)

    @contextlib.contextmanager
    def look(load: OtherLoad) -> Iterator[None]:
        yield
        load.share = next(coming)

    return Watch(look, lambda: left_s, said.append, now_s)


def measured(seen: Watch) -> tuple[int, float]:
    """Which try counted, from 1, and what others took of it."""
    tries = iter(range(1, 10))
    return seen.run(lambda: next(tries))


def test_a_quiet_measurement_is_made_once() -> None:
    said: list[str] = []
    seen = watch([0.02, 0.04], said)
    assert measured(seen) == (1, 0.02)
    assert measured(seen) == (1, 0.04)
    assert not said
    assert seen.found.measurements == 2
    assert not seen.found.sentence()


def test_a_disturbed_one_is_repeated_and_the_quieter_counts() -> None:
    said: list[str] = []
    seen = watch([0.02, 0.4, 0.03], said)
    measured(seen)
    assert measured(seen) == (2, 0.03)
    assert said == ["others took 40% of the CPUs meanwhile: once more"]
    assert seen.found.sentence() == (
        "1 of 3 measurements was disturbed, by others who took up to 40% of the CPUs: "
        "it did not count"
    )


def test_the_least_disturbed_of_three_counts_and_is_told() -> None:
    said: list[str] = []
    seen = watch([0.02, 0.5, 0.3, 0.4], said)
    measured(seen)
    assert measured(seen) == (2, 0.3)
    assert len(said) == 3
    assert (seen.found.disturbed, seen.found.kept) == (3, 1)
    assert seen.found.sentence().endswith("2 of them did not count, 1 did for want of a better")


def test_without_time_nothing_is_repeated() -> None:
    said: list[str] = []
    seen = watch([0.02, 0.5], said, left_s=0.0)
    measured(seen)
    assert measured(seen) == (1, 0.5)
    assert said == ["others took 50% of the CPUs meanwhile"]


def test_what_takes_longer_than_what_is_left_is_not_repeated() -> None:
    clock = itertools.count(step=30)
    for left_s, tries in ((10.0, 1), (28.0, 2)):
        seen = watch([0.5, 0.03], [], left_s, lambda: float(next(clock)))
        assert measured(seen)[0] == tries


@pytest.mark.parametrize(("steady", "told"), [(0.15, False), (0.6, True)])
def test_what_is_always_there_is_not_measured_again(steady: float, told: bool) -> None:
    """A steady steal is the machine's own: the server will meet it, too. Much of it is told."""
    seen = watch([steady] * 12, [])
    for _ in range(5):
        measured(seen)
    assert seen.found.measurements <= 6
    assert bool(seen.found.sentence()) is told


def test_a_disturbed_first_one_is_found_out() -> None:
    seen = watch([0.5, 0.05], [])
    assert measured(seen) == (2, 0.05)


def test_what_had_to_count_alone_is_told_alone() -> None:
    found = Disturbed(measurements=6, disturbed=1, kept=1, most=0.59)
    assert found.sentence() == (
        "1 of 6 measurements was disturbed, by others who took up to 59% of the CPUs: "
        "it counted for want of a better"
    )
