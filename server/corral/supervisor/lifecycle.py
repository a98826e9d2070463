"""One child slot's life as a state machine: pure, clock readings in, decisions out.

    WAITING ── started ──> STARTING ── ready ──> READY ── verified ──> VERIFIED
       ^                       │                   │                    │
       └─────────────────────── died ──────────────┴────────────────────┘

A child that had been ready is started again at once; one that died before waits, longer each
time. A child that gets ready again and again but is never verified waits too, from its second
death on: else one that dies of its first batch would spin.
"""

from __future__ import annotations

import dataclasses

from corral.ipc.status import Cause, State


class Life:
    """The life of one slot, over all the processes that fill it one after the other."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._early_deaths = 0
        self._started_at_s = 0.0
        self.state = State.WAITING
        self.restarts = dict.fromkeys(Cause, 0)
        #: seconds from start to ready, of the last process that got there
        self.boot_s: float | None = None

    @property
    def early_deaths(self) -> int:
        """Deaths since the last time that a batch went through one of the processes."""
        return self._early_deaths

    @property
    def alive(self) -> bool:
        """True while a process runs."""
        return self.state in {State.STARTING, State.READY, State.VERIFIED}

    @property
    def is_ready(self) -> bool:
        """True while a process runs that has said that it is ready."""
        return self.state in {State.READY, State.VERIFIED}

    def started(self, now_s: float) -> None:
        """A process was spawned."""
        assert self.state is State.WAITING
        self.state = State.STARTING
        self._started_at_s = now_s

    def ready(self, now_s: float) -> None:
        """The process said that it is ready."""
        if self.state is State.STARTING:
            self.state = State.READY
            self.boot_s = now_s - self._started_at_s

    def verified(self) -> None:
        """A batch went through the process and came back."""
        if self.state is State.READY:
            self.state = State.VERIFIED
            self._early_deaths = 0

    def died(self, *, in_order: bool, cause: Cause | None = None) -> float:
        """The process ended.

        Args:
            in_order: it left with code 0, because its peer went away.
            cause: why the supervisor ended it, if it did.

        Returns:
            Seconds to wait before the slot is filled again.
        """
        assert self.alive
        was_ready = self.is_ready
        if self.state is not State.VERIFIED:
            self._early_deaths += 1
        # One death of a ready child is free.
        deaths = self._early_deaths - 1 if was_ready else self._early_deaths
        if cause is None:
            if in_order and was_ready:
                cause = Cause.DETACHED
            else:
                cause = Cause.CRASH if was_ready else Cause.BOOT
        self.restarts[cause] += 1
        self.state = State.WAITING
        return self._backoff.delay_s(deaths)

    def asked_to_end(self) -> None:
        """The process left because it was asked to; another takes its place at once."""
        self.restarts[Cause.RELOAD] += 1
        self._early_deaths = 0
        self.state = State.WAITING

    def end(self) -> None:
        """The slot is not filled again."""
        self.state = State.ENDED


@dataclasses.dataclass(frozen=True)
class Backoff:
    """``first_s``, doubled with every further death in a row, never more than ``max_s``."""

    first_s: float
    max_s: float

    def delay_s(self, deaths: int) -> float:
        """Seconds to wait after the ``deaths``-th death in a row; 0 deaths wait for nothing."""
        if deaths <= 0:
            return 0.0
        # Beyond 2**62 a float has long passed any maximum, and a larger power would overflow.
        return min(self.max_s, self.first_s * 2.0 ** min(deaths - 1, 62))


#: `timeout` and shells' wrappers send a signal to the process and at once to its group, too
_SAME_WITHIN_S = 0.05


class EndingSignals:
    """Tells a signal that comes again, which is meant, from one that is delivered twice."""

    def __init__(self) -> None:
        self._first_s: float | None = None

    def comes_again(self, now_s: float) -> bool | None:
        """Takes one: False is the first, True a further one, None the first one delivered twice."""
        if self._first_s is None:
            self._first_s = now_s
            return False
        return True if now_s - self._first_s >= _SAME_WITHIN_S else None
