"""What was seen of servers under load, and which seconds of it count. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence

from corral.slo.service import Batch, Served
from corral.slo.space import Configuration, Shape
from corral.slo.spells import Spent, slow_seconds


class Seen:
    """Rounds of servers, by configuration, with the spells that they met."""

    def __init__(self) -> None:
        self._served: dict[Configuration, list[Served]] = {}
        #: seconds of spells, by the id of what was seen, which is kept
        self._slow: dict[int, Collection[int]] = {}

    def add(
        self,
        one: Configuration,
        served: Served,
        spent: Callable[[Configuration, Served], Sequence[Spent]],
    ) -> None:
        """One more round.

        Args:
            one: what the server was set to.
            served: what was seen of it.
            spent: of a round, what its batches took beside what was expected of them.
        """
        self._served.setdefault(one, []).append(served)
        found = self.alike(one)
        rounds = [spent(other, each) for other, each in found]
        for (_, each), slow in zip(found, slow_seconds(rounds), strict=True):
            self._slow[id(each)] = slow

    def of(self, one: Configuration) -> Sequence[Served]:
        """The rounds of a configuration."""
        return self._served.get(one, ())

    def of_shape(self, shape: Shape) -> Iterator[tuple[Configuration, Served]]:
        """All rounds of servers with such workers, whatever the engine."""
        for one, all_served in self._served.items():
            if one.shape == shape:
                yield from ((one, served) for served in all_served)

    def alike(self, one: Configuration) -> list[tuple[Configuration, Served]]:
        """All rounds of servers with its engine and such workers."""
        found = self.of_shape(one.shape)
        return [pair for pair in found if pair[0].arithmetic == one.arithmetic]

    def slow_seconds(self, served: Served) -> Collection[int]:
        """The whole seconds of its schedule in which the machine was clearly slower."""
        return self._slow.get(id(served), frozenset())

    def quiet(self, served: Served) -> list[Batch]:
        """Its batches without those of spells; all where there was nothing else."""
        slow = self.slow_seconds(served)
        found = [b for b in served.batches if b.begun_s is None or int(b.begun_s) not in slow]
        return found or served.batches

    def spells(self) -> tuple[int, int]:
        """Seconds under load in which the machine was clearly slower, and all of them."""
        slow_s = all_s = 0.0
        for served in (each for of_one in self._served.values() for each in of_one):
            ends_s = (b.begun_s + b.spent_s for b in served.batches if b.begun_s is not None)
            lasted_s = max(ends_s, default=0.0)
            all_s += lasted_s
            # A round may end within one of these seconds, or before it.
            slow_s += sum(max(0.0, min(1.0, lasted_s - n)) for n in self.slow_seconds(served))
        return math.ceil(slow_s), math.ceil(all_s)
