"""When a frontend asks itself: only in a silence, and for a share of a worker's time."""

from __future__ import annotations

import pytest

from corral.dataplane.upkeep import Silence, warm_every_s, warm_share
from corral.settings import KeepWarm, Mode, Settings


def test_the_first_look_is_not_yet_a_silence() -> None:
    silence = Silence()
    assert not silence.look(0, 0)
    assert silence.look(0, 0)


def test_a_request_that_came_since_the_last_look_is_none() -> None:
    silence = Silence()
    silence.look(3, 0)
    assert not silence.look(4, 0)
    assert silence.look(4, 0)


def test_nor_is_one_that_is_under_way_however_long() -> None:
    silence = Silence()
    silence.look(4, 1)
    assert not silence.look(4, 1)
    assert not silence.look(4, 1)
    assert silence.look(4, 0)


def test_a_request_that_comes_after_a_look_breaks_the_silence_at_once() -> None:
    silence = Silence()
    silence.look(4, 0)
    assert not silence.is_broken(4, 0)
    assert silence.is_broken(5, 0)
    assert silence.is_broken(4, 1)
    assert silence.look(4, 0), "asking is no look"


@pytest.mark.parametrize(
    ("took_s", "share", "least_s", "workers", "every_s"),
    [
        (0.001, 0.05, 0.2, 1, 0.2),
        (0.025, 0.05, 0.2, 1, 0.5),
        (0.025, 0.01, 0.2, 1, 2.5),
        (0.001, 0.05, 0.0, 1, 0.04),
        # Of a frontend with many workers it takes no more than of a worker.
        (0.001, 0.05, 0.2, 10, 0.4),
    ],
)
def test_how_often(
    took_s: float, share: float, least_s: float, workers: int, every_s: float
) -> None:
    found = warm_every_s(took_s, share, least_s=least_s, workers=workers)
    assert found == pytest.approx(every_s)


@pytest.mark.parametrize(
    ("asked", "mode", "share"),
    [
        (KeepWarm.OFF, Mode.RTI, 0.0),
        (KeepWarm.AUTO, Mode.RTI, 0.01),
        (KeepWarm.AUTO, Mode.THROUGHPUT, 0.0),
        (KeepWarm.ON, Mode.THROUGHPUT, 0.05),
    ],
)
def test_whose_time_it_takes(asked: KeepWarm, mode: Mode, share: float) -> None:
    assert warm_share(Settings().replace(keep_warm=asked, mode=mode)) == share
