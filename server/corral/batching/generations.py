"""Each request is answered by one generation of weights, while a reload replaces the workers.

A request of several items may be split among workers. While workers of two generations are there,
what is left of it stays with the worker that began it. One whose parts were answered by both all
the same, since its worker went or the others changed meanwhile, is run again as a whole. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic

from corral.batching.jobs import J, Span
from corral.batching.lines import Lines


class Generations(Generic[J]):
    """Which weights workers have, and the rests of requests that stay with one of them.

    Args:
        lines: what waits; rests are counted there until they are given.
    """

    def __init__(self, lines: Lines[J]) -> None:
        self._lines = lines
        self._of: dict[int, str] = {}
        #: by worker: what it takes before anything else, but for interactive requests before bulk
        self.rests: dict[int, Span[J]] = {}
        self._mixed = False
        self._again: list[J] = []

    def __getitem__(self, worker: int) -> str:
        return self._of[worker]

    def add(self, worker: int, generation: str) -> None:
        """A worker that answers by these weights."""
        self._of[worker] = generation
        self._mixed = len(set(self._of.values())) > 1

    def remove(self, worker: int) -> None:
        """The worker is gone: others may have its rest. Nothing happens if it is gone already."""
        self._of.pop(worker, None)
        self._mixed = len(set(self._of.values())) > 1
        rest = self.rests.pop(worker, None)
        if rest is not None:
            self._lines.put_first(rest)

    # --- rests ---

    def keep_rest(self, worker: int, spans: Sequence[Span[J]]) -> None:
        """What is left of the last request in a batch stays with its worker, if workers differ."""
        if not self._mixed or not spans:
            return
        job = spans[-1].job
        front = self._lines.front(job.line)
        if front is None or front.job is not job:
            return
        if worker in self.rests:
            # A bulk request's, and an interactive one came in between.
            self._lines.put_first(self.rests.pop(worker))
        self.rests[worker] = self._lines.pop(job.line)

    def rest(self, worker: int) -> Span[J] | None:
        """What the worker has to take next; None: what the lines have."""
        rest = self.rests.get(worker)
        if rest is not None and rest.job.done:
            del self.rests[worker]
            return None
        return rest

    def cut_rest(self, worker: int, wanted: int) -> Span[J]:
        """Up to ``wanted`` items of its rest, given to the worker."""
        rest = self.rests[worker]
        taken = Span(
            rest.job, rest.start, min(rest.start + wanted, rest.stop), rest.order, rest.alone
        )
        rest.start = taken.stop
        if not len(rest):
            del self.rests[worker]
        self._lines.given([taken])
        return taken

    # --- answers ---

    def answered(self, span: Span[J], generation: str) -> None:
        """A part of a request is answered; see ``run_again``."""
        if span.job.answered_by is None:
            span.job.answered_by = {generation}
        else:
            span.job.answered_by.add(generation)

    def run_again(self, span: Span[J]) -> bool:
        """Queues a request in front, of which all is answered, where that was by several weights.

        Args:
            span: the part that was answered last.

        Returns:
            whether it runs again.
        """
        job = span.job
        if job.answered_by is None or len(job.answered_by) == 1:
            return False
        job.answered_by = None
        job.unanswered = job.count
        self._lines.join_again(Span(job, 0, job.count, span.order))
        self._again.append(job)
        return True

    def begun_again(self) -> list[J]:
        """The jobs that run again since the last call."""
        again, self._again = self._again, []
        return again
