"""What the steps of a search took so far, and whether one more of them fits. Pure."""

from __future__ import annotations

#: seconds of load that say something: of a first calibration, and of a round
CALIBRATING_S = 2.0
ROUND_S = 4.0
#: a search may end so late: half of the shortest round
_LATE_S = 2.0
#: a round's load generator and what is computed of it, until one was seen
_BESIDE_S = 1.0
#: until one was seen, a server takes so many times as long as workers that are measured: it has
#: other processes, and its own workers compile for more datatypes and time what they run
_TIMES_WORKERS = 4.0
#: of a start, what one more server that starts beside it adds
_ONE_MORE = 0.5


def fits(left_s: float, takes_s: float) -> bool:
    """Whether one more step fits: a search ends nearer to its budget with it than without.

    So a budget is kept within half a step, and within half a round if the step is a longer one.

    Args:
        left_s: seconds of the budget that are left.
        takes_s: seconds that the step is expected to take.
    """
    return left_s > 0 and takes_s - min(takes_s / 2, _LATE_S) <= left_s


class Pace:
    """What is expected of the next steps, by what the latest took; all in seconds."""

    def __init__(self) -> None:
        self._workers_start_s = 0.0
        self._beside_s = _BESIDE_S
        self._server_s: float | None = None
        #: turns of workers of one width, all of them
        self.turns_s = 0.0
        #: all configurations of an engine
        self.predicting_s = 0.0

    def workers_started(self, took_s: float) -> None:
        """Workers of one width were started, at the same time, to be measured."""
        self._workers_start_s = took_s

    def workers_measured(self, took_s: float) -> None:
        """They were measured; their start is no part of it."""
        self.turns_s = took_s

    def predicted(self, took_s: float) -> None:
        """All configurations of an engine were predicted."""
        self.predicting_s = took_s

    def servers_started(self, count: int, took_s: float) -> None:
        """So many servers, 1 or more, were started at the same time."""
        self._server_s = took_s / _together(count)

    def loaded(self, load_s: float, took_s: float) -> None:
        """A server was under load for ``load_s``, which took ``took_s`` with all that follows."""
        self._beside_s = max(0.0, took_s - load_s)

    def comparing_s(self, crews: int, turns_s: float) -> float:
        """Expected of so many crews of workers, each measured for so long."""
        return self._workers_start_s * _together(crews) + crews * turns_s

    def workers_s(self) -> float:
        """Expected of workers of one more width, from their start to the last of their batches."""
        return self.comparing_s(1, self.turns_s)

    def start_s(self, count: int = 1) -> float:
        """Expected of so many servers that start at the same time; 0 for none."""
        one_s = self._server_s
        if one_s is None:
            one_s = self._workers_start_s * _TIMES_WORKERS
        return one_s * _together(count) if count else 0.0

    def round_s(self, load_s: float = ROUND_S) -> float:
        """Expected of a round or a calibration with so many seconds of load."""
        return load_s + self._beside_s

    def calibrating_s(self, load_s: float = CALIBRATING_S) -> float:
        """Expected of a server's start, its first calibration, and predicting once more."""
        return self.start_s() + self.round_s(load_s) + self.predicting_s

    def confirming_s(self) -> float:
        """Expected of what confirms anything at all: a server's start, and a short round."""
        return self.start_s() + self.round_s()

    def that_fit(self, running: list[bool], left_s: float) -> list[bool]:
        """Which servers there is time for: to start them, and for a short round of each.

        Where there is more than one, there are two rounds of each: the first rate is a careful
        guess, and more configurations at it are worth less than one at what it can keep. Of one all
        hangs on whether anything is confirmed: it is tried in half of the time that it is expected
        to take, for a start is given up when the time is over. Those beyond it have to fit.

        Args:
            running: of each wanted server, the best first, whether it runs already.
            left_s: seconds that are left.
        """
        chosen: list[bool] = []
        for runs in running:
            starts = sum(not r for r, is_in in zip(running, chosen, strict=False) if is_in)
            rounds = 2 * (1 + sum(chosen)) if any(chosen) else 1
            takes_s = self.start_s(starts + (not runs)) + self.round_s() * rounds
            chosen.append((takes_s if any(chosen) else takes_s / 2) <= left_s)
        return chosen


def _together(count: int) -> float:
    """What starting so many at the same time takes, as a multiple of one alone."""
    return 1 + (count - 1) * _ONE_MORE
