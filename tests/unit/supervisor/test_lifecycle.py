import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from corral.ipc.status import Cause, State
from corral.supervisor.lifecycle import Backoff, EndingSignals, Life

BACKOFF = Backoff(1.0, 30.0)


def started() -> Life:
    life = Life(BACKOFF)
    life.started(10.0)
    return life


def test_a_signal_that_is_delivered_twice_is_one() -> None:
    signals = EndingSignals()
    # As `timeout 60 corral serve` sends it: to the process, and at once to its group.
    assert [signals.comes_again(now_s) for now_s in (7.0, 7.001, 7.04)] == [False, None, None]
    assert signals.comes_again(7.06)
    assert signals.comes_again(7.061)


def test_death_before_ready_waits_longer_each_time() -> None:
    life = Life(BACKOFF)
    delays_s = []
    for _ in range(7):
        life.started(0.0)
        delays_s.append(life.died(in_order=False))
    assert delays_s == [1, 2, 4, 8, 16, 30, 30]
    assert life.restarts == dict.fromkeys(Cause, 0) | {Cause.BOOT: 7, Cause.DETACHED: 0}


def test_proven_worker_is_started_again_at_once_every_time() -> None:
    life = Life(BACKOFF)
    for _ in range(5):
        life.started(0.0)
        life.ready(1.0)
        life.verified()
        assert life.died(in_order=False) == 0.0
    assert life.restarts[Cause.CRASH] == 5


def test_ready_but_never_proven_is_free_once() -> None:
    life = Life(BACKOFF)
    delays_s = []
    for _ in range(3):
        life.started(0.0)
        life.ready(1.0)
        delays_s.append(life.died(in_order=False))
    assert delays_s == [0, 1, 2]


def test_proof_forgives_early_deaths() -> None:
    life = Life(BACKOFF)
    life.started(0.0)
    assert life.died(in_order=False) == 1.0
    life.started(0.0)
    life.ready(1.0)
    life.verified()
    assert life.died(in_order=False) == 0.0
    life.started(0.0)
    assert life.died(in_order=False) == 1.0


def test_leaving_in_order_is_no_crash_unless_it_never_was_ready() -> None:
    life = started()
    life.ready(11.0)
    life.died(in_order=True)
    life.started(12.0)
    life.died(in_order=True)
    assert life.restarts == dict.fromkeys(Cause, 0) | {Cause.BOOT: 1, Cause.DETACHED: 1}


def test_a_process_that_was_asked_to_leave_did_not_die() -> None:
    life = started()
    life.died(in_order=False)
    life.started(11.0)
    life.asked_to_end()
    assert life.restarts[Cause.RELOAD] == 1
    assert (life.state, life.early_deaths) == (State.WAITING, 0)
    life.started(12.0)
    assert life.died(in_order=False) == 1.0, "what came before counts no more"


def test_boot_time_is_from_start_to_ready() -> None:
    life = started()
    assert life.boot_s is None
    life.ready(12.5)
    assert life.boot_s == 2.5
    life.ready(99.0)
    assert life.boot_s == 2.5


def test_proof_of_a_process_that_is_not_ready_is_somebody_elses() -> None:
    life = started()
    life.verified()
    assert life.state is State.STARTING


def test_a_slot_is_not_filled_twice() -> None:
    life = started()
    with pytest.raises(AssertionError):
        life.started(11.0)


class Lives(RuleBasedStateMachine):
    """Whatever happens, a slot that was verified since its last death costs no wait."""

    @initialize()
    def born(self) -> None:
        self.life = Life(BACKOFF)
        self.deaths = 0
        self.was_proven = False

    @precondition(lambda self: self.life.state is State.WAITING)
    @rule()
    def start(self) -> None:
        self.life.started(0.0)
        self.was_proven = False

    @rule()
    def ready(self) -> None:
        self.life.ready(1.0)

    @rule()
    def prove(self) -> None:
        self.was_proven |= self.life.is_ready
        self.life.verified()

    @precondition(lambda self: self.life.alive)
    @rule(in_order=st.booleans())
    def die(self, in_order: bool) -> None:
        was_ready = self.life.is_ready
        delay_s = self.life.died(in_order=in_order)
        self.deaths += 1
        assert sum(self.life.restarts.values()) == self.deaths
        assert self.life.state is State.WAITING
        if self.was_proven:
            assert delay_s == 0
        elif not was_ready:
            assert 1 <= delay_s <= 30


TestLives = Lives.TestCase


def test_who_is_killed_for_hanging_counts_as_that() -> None:
    life = Life(Backoff(1, 30))
    life.started(0.0)
    life.ready(1.0)
    life.verified()
    assert life.died(in_order=False, cause=Cause.HANG) == 0.0
    assert life.restarts[Cause.HANG] == sum(life.restarts.values()) == 1
