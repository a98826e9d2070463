"""Who hangs, by the clock readings of a test."""

from corral.batching.watchdog import HangWatch


def test_a_worker_gets_ten_times_what_its_batch_should_take() -> None:
    watch = HangWatch(floor_s=5.0)
    assert watch.began(0, expected_s=2.0, now_s=100.0) == 120.0
    assert watch.look(119.9) == []
    assert watch.look(120.0) == [0]


def test_the_floor_holds_for_short_batches() -> None:
    watch = HangWatch(floor_s=5.0)
    assert watch.began(0, expected_s=0.02, now_s=100.0) == 105.0


def test_who_answered_does_not_hang() -> None:
    watch = HangWatch(floor_s=1.0)
    watch.began(0, 0.0, 100.0)
    watch.began(1, 0.0, 100.5)
    watch.ended(0)
    assert watch.next_look_s == 101.5
    assert watch.look(101.5) == [1]
    watch.ended(1)
    watch.ended(1)
    assert watch.next_look_s is None
    assert watch.look(1000.0) == []


def test_a_new_batch_is_a_new_time() -> None:
    watch = HangWatch(floor_s=1.0)
    watch.began(0, 0.0, 100.0)
    watch.ended(0)
    watch.began(0, 0.0, 100.9)
    assert watch.look(101.0) == []


def test_who_stood_still_itself_blames_nobody_for_it() -> None:
    watch = HangWatch(floor_s=5.0)
    watch.began(0, 0.0, 100.0)
    watch.began(1, 0.0, 103.0)
    # Stopped from 101 to 161: the worker may have answered, or have been stopped as well.
    assert watch.look(161.0) == []
    assert watch.next_look_s == 161.0
    watch.ended(0)
    assert watch.look(161.1) == []
    assert watch.look(164.0) == [1]
