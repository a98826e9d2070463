"""How fast workers were from moment to moment, read from the batches that they ran. Pure.

A machine stalls for tens of milliseconds now and then, and some have minutes in which it does so
more often. Times that are drawn one by one know how long a batch may take, but not that what waits
meanwhile is late as well. A trace keeps when it was: any other rate, and any other rule for
batches, can be played against the very same seconds.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Collection, Iterator, Sequence

from corral.slo.service import Batch

#: seconds that a batch is expected to take, all of a cell's workers computing or not as they did
Expected = Callable[[Batch], float | None]


#: from when on a worker had which pace, ascending from 0
Steps = tuple[list[float], list[float]]


class Trace:
    """The pace of a cell's workers while a server was under load; 1 is what is expected.

    Args:
        steps: of each worker.
        seconds: until when it knows anything; from then on it begins again.
    """

    def __init__(self, steps: Sequence[Steps], seconds: float) -> None:
        self._steps = steps
        self.seconds = seconds

    @classmethod
    def of(cls, batches: Sequence[Batch], expected: Expected) -> Trace:
        """What batches of one cell say.

        Args:
            batches: in any order; those without a moment say nothing.
            expected: of each; None for a size of which nothing is known.
        """
        by_worker: dict[int, list[tuple[float, float, float]]] = {}
        all_usual_s = all_spent_s = 0.0
        for batch in batches:
            usual_s = expected(batch)
            if usual_s is not None and batch.begun_s is not None and batch.spent_s > 0:
                end_s = batch.begun_s + batch.spent_s
                found = by_worker.setdefault(batch.worker, [])
                found.append((batch.begun_s, end_s, usual_s / batch.spent_s))
                all_usual_s += usual_s
                all_spent_s += batch.spent_s
        usual = all_usual_s / all_spent_s if all_spent_s else 1.0
        steps = [_steps(sorted(of_one), usual) for of_one in by_worker.values()]
        return cls(steps, max((from_s[-1] for from_s, _ in steps), default=0.0))

    def ends(self, worker: int, begins_s: float, spent_s: float) -> float:
        """When a batch ends that takes ``spent_s`` at the usual pace; see simulation.Ends."""
        from_s, paces = self._steps[worker % len(self._steps)]
        turns_s = begins_s // self.seconds * self.seconds
        now_s, left_s = begins_s - turns_s, spent_s
        place = max(0, bisect.bisect_right(from_s, now_s) - 1)
        while True:
            is_last = place + 1 == len(from_s)
            until_s = self.seconds if is_last else from_s[place + 1]
            done_s = max(0.0, until_s - now_s) * paces[place]
            if done_s >= left_s:
                return turns_s + now_s + left_s / paces[place]
            left_s -= done_s
            now_s, place = until_s, place + 1
            if is_last:
                turns_s, now_s, place = turns_s + self.seconds, 0.0, 0

    def part(self, worker: int, begins_s: float, ends_s: float) -> Iterator[tuple[float, float]]:
        """Its pace within some seconds, each with the moment that it begins, from the first on."""
        from_s, paces = self._steps[worker % len(self._steps)]
        first = max(0, bisect.bisect_right(from_s, begins_s) - 1)
        for place in range(first, bisect.bisect_left(from_s, ends_s)):
            yield max(0.0, from_s[place] - begins_s), paces[place]

    @property
    def workers(self) -> int:
        """How many were seen."""
        return len(self._steps)


def spliced(found: Sequence[tuple[Trace, Collection[int]]]) -> Trace | None:
    """Traces one after the other, each without some whole seconds; None where nothing is left."""
    if not found:
        return None
    workers = max(trace.workers for trace, _ in found)
    steps: list[Steps] = [([], []) for _ in range(workers)]
    total_s = 0.0
    for trace, without in found:
        for second in range(math.ceil(trace.seconds)):
            if second in without:
                continue
            end_s = min(second + 1, trace.seconds)
            for worker, (from_s, paces) in enumerate(steps):
                for since_s, pace in trace.part(worker, second, end_s):
                    from_s.append(total_s + since_s)
                    paces.append(pace)
            total_s += end_s - second
    return Trace(steps, total_s) if total_s > 0 else None


def _steps(batches: Sequence[tuple[float, float, float]], usual: float) -> Steps:
    """From when on a worker had which pace; it is the usual one while it rested, and at the end.

    Nobody saw it then. A stall that a batch was in the middle of is in that batch's time.
    """
    from_s: list[float] = []
    paces: list[float] = []
    until_s = 0.0
    for begun_s, end_s, pace in batches:
        if until_s < begun_s:
            from_s.append(until_s)
            paces.append(usual)
        from_s.append(max(begun_s, until_s))
        paces.append(pace)
        until_s = max(end_s, from_s[-1])
    from_s.append(until_s)
    paces.append(usual)
    return from_s, paces


def by_cell(batches: Sequence[Batch], expected: Expected) -> list[Trace]:
    """One of each cell of a server, as far as its batches have moments."""
    cells = sorted({batch.cell for batch in batches if batch.begun_s is not None})
    found = [Trace.of([b for b in batches if b.cell == cell], expected) for cell in cells]
    return [trace for trace in found if trace.seconds > 0]
