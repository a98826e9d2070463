"""What waits for a worker: a line for each priority and datatype. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Generic

from corral.batching.jobs import J, Line, Span, items_in
from corral.priority import Priority
from corral.tensors import Datatype


class Lines(Generic[J]):
    """Jobs in the order in which they came, line by line, and how many items they are.

    Args:
        datatypes: those that jobs have.
    """

    def __init__(self, datatypes: Sequence[Datatype]) -> None:
        self._lines: dict[Line, deque[Span[J]]] = {
            (priority, datatype): deque() for priority in Priority for datatype in datatypes
        }
        self._live: dict[Line, int] = dict.fromkeys(self._lines, 0)
        #: the lines of a priority
        self.of = {p: tuple((p, datatype) for datatype in datatypes) for p in Priority}
        #: items in the lines of a priority
        self.lives = dict.fromkeys(Priority, 0)
        #: the same and those that have a place only: their pictures are being decoded
        self.waiting = dict.fromkeys(Priority, 0)
        self._order = 0

    def live(self, line: Line) -> int:
        """Items that wait in a line."""
        return self._live[line]

    def spans_held(self, datatype: Datatype) -> int:
        """Spans of a datatype, those of settled jobs included."""
        return sum(len(self._lines[priority, datatype]) for priority in Priority)

    def reserve(self, job: J) -> None:
        """Keeps places for all items of a job that is not ready yet."""
        job.reserved = job.count
        self.waiting[job.priority] += job.count

    def enqueue(self, job: J) -> None:
        """Puts a job to the end of its line, in the places that were kept."""
        job.reserved = 0
        job.queued = job.count
        self._live[job.line] += job.count
        self.lives[job.priority] += job.count
        self._order += 1
        self._lines[job.line].append(Span(job, 0, job.count, self._order))

    def leave(self, job: J) -> None:
        """A job that is settled waits no more; its spans stay until somebody passes them."""
        self._live[job.line] -= job.queued
        self.lives[job.priority] -= job.queued
        self.waiting[job.priority] -= job.queued + job.reserved
        job.queued = job.reserved = 0

    def compact(self, line: Line) -> None:
        """Settled jobs leave their spans behind; keeps them from piling up while nobody pulls."""
        queue = self._lines[line]
        if len(queue) > 2 * self._live[line] + 64:
            self._lines[line] = deque(span for span in queue if not span.job.done)

    def join_again(self, span: Span[J]) -> None:
        """Puts items whose worker is gone to the head of their line."""
        self._count(span.job, len(span))
        self._lines[span.job.line].appendleft(span)

    def pop(self, line: Line) -> Span[J]:
        """Takes the first span out of a line; it counts as waiting until it is ``given``."""
        return self._lines[line].popleft()

    def put_first(self, span: Span[J]) -> None:
        """Puts a span back that ``pop`` took."""
        self._lines[span.job.line].appendleft(span)

    def front(self, line: Line) -> Span[J] | None:
        """The oldest span of a line whose job is not settled."""
        queue = self._lines[line]
        while queue:
            if not queue[0].job.done:
                return queue[0]
            queue.popleft()
        return None

    def head(self, line: Line) -> Span[J]:
        """The first span of a line, as ``front`` left it."""
        return self._lines[line][0]

    def cut(self, line: Line, wanted: int) -> Span[J]:
        """Takes up to ``wanted`` items of the first span out of a line; see ``given``."""
        queue = self._lines[line]
        front = queue[0]
        end = front.start + wanted
        if end >= front.stop:
            return queue.popleft()
        taken = Span(front.job, front.start, end, front.order, front.alone)
        front.start = end
        return taken

    def put_back(self, spans: list[Span[J]], size: int) -> None:
        """Puts all but the first ``size`` items that were cut back to the head of their line."""
        excess = items_in(spans) - size
        while excess > 0:
            last = spans[-1]
            cut = min(excess, len(last))
            rest = Span(last.job, last.stop - cut, last.stop, last.order, last.alone)
            self._lines[last.job.line].appendleft(rest)
            last.stop -= cut
            if not len(last):
                spans.pop()
            excess -= cut

    def given(self, spans: list[Span[J]]) -> None:
        """Items that were cut have gone to a worker."""
        for span in spans:
            self._count(span.job, span.start - span.stop)

    def _count(self, job: J, items: int) -> None:
        job.queued += items
        self._live[job.line] += items
        self.lives[job.priority] += items
        self.waiting[job.priority] += items
