"""What configurations are predicted to do, and which of them is the best."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable, Collection

from corral.batching.prediction import Prediction
from corral.slo.budget import Budget
from corral.slo.forecast import Forecast
from corral.slo.rough import Rough
from corral.slo.space import Arithmetic, Batching, Configuration, Shape, Space

#: predictions that are nearer than this are equal: a schedule of other arrivals moves them further
_TIE = 0.03
#: of equals, those that carry so much less than the one that carries most are tried later
_LESS = 0.05
#: configurations that are predicted on a long schedule
_REFINED = 4
#: configurations that are predicted again
_AGAIN = 16
_Alike = tuple[Arithmetic, Shape, Batching, float | None]


class Predictions:
    """Of all configurations whose workers were measured.

    Args:
        space: what there is to choose from.
        forecast: makes them.
        say: told what begins, a phrase.
        budget: told what predicting took.
    """

    def __init__(
        self, space: Space, forecast: Forecast, say: Callable[[str], None], budget: Budget
    ) -> None:
        self._space = space
        self._forecast = forecast
        self._say = say
        self._budget = budget
        self._rough = Rough(forecast, space.memories)
        #: predicted on a short schedule, as far as they keep the bound there
        self._roughly: dict[Configuration, Prediction] = {}
        #: predicted on a long schedule
        self._finely: dict[_Alike, Prediction | None] = {}
        #: the highest rate at which each keeps the bound; without those that do not
        self.known: dict[Configuration, Prediction] = {}

    def best(self) -> Configuration | None:
        """The one with the highest predicted rate; None where nothing keeps the bound."""
        ranked = self.ranked()
        return ranked[0] if ranked else None

    def ranked(self, seen: Collection[Configuration] = ()) -> list[Configuration]:
        """All that keep the bound, the highest rate first.

        Of equals the simplest of those that carry most at any latency: what waits after a stall,
        which no forecast knows of, is sooner worked off by them. What was ``seen`` under load goes
        before its equals: more is known of it, and it is up.
        """
        top = sorted(self.known, key=lambda one: -self.known[one].rate)
        most = {one: self._forecast.most_per_s(one) or 0.0 for one in top}
        found: list[Configuration] = []
        while top:
            least = self.known[top[0]].rate * (1 - _TIE)
            equals = [one for one in top if self.known[one].rate >= least]
            enough = max(most[one] for one in equals) * (1 - _LESS)
            able = [one for one in equals if most[one] >= enough]
            first = min(able, key=lambda one: (one not in seen, *self._plainness(one)))
            found.append(first)
            top.remove(first)
        return found

    def _plainness(self, one: Configuration) -> tuple[float, int, bool, float]:
        changed = one.memory != self._space.memories[one.arithmetic][0]
        return one.batching.delay_ms, one.batching.max_batch, changed, -self.known[one].rate

    def predict(self, arithmetic: Arithmetic) -> None:
        """Predicts every configuration of an engine whose workers were measured."""
        self._say(f"predicting {arithmetic.name}")
        with self._budget.timed(self._budget.pace.predicted):
            self._predict(arithmetic)

    def _predict(self, arithmetic: Arithmetic) -> None:
        for one in self._space.configurations(arithmetic):
            if (found := self._rough.highest(one)) is not None:
                self._roughly[one] = found
        self._refine()

    def _refine(self) -> None:
        """The best are predicted on a long schedule, too, and what that changes changes all.

        Else the first that are not would go before the best, where the short one was kinder.
        """
        refined: set[_Alike] = set()
        changed: list[float] = []
        for one in self._top():
            key = self._alike(one)
            if key not in refined and len(refined) == _REFINED:
                break
            roughly = self._roughly[one]
            if key not in self._finely:
                self._finely[key] = self._forecast.highest(one, guess=roughly.rate)
            finely = self._finely[key]
            if key not in refined and finely is not None:
                changed.append(finely.rate / roughly.rate)
            refined.add(key)
        factor = statistics.median(changed) if changed else 1.0
        for one, roughly in self._roughly.items():
            scaled = dataclasses.replace(roughly, rate=roughly.rate * factor)
            self.known[one] = self._finely.get(self._alike(one)) or scaled

    def predict_again(self) -> None:
        """The same for the best of all engines, after something was learned of serving."""
        self._say("predicting the best again")
        self._rough.forget()
        self._finely.clear()
        fresh: set[Configuration] = set()
        dropped: dict[Configuration, Prediction] = {}
        # Those that were predicted without it may now be the first, until they are, too.
        while stale := [one for one in self._leading() if one not in fresh]:
            for one in stale:
                fresh.add(one)
                found = self._rough.highest(one)
                if found is None:
                    dropped[one] = self._roughly.pop(one)
                else:
                    self._roughly[one] = found
        # A server that was overloaded or disturbed says that nothing will do: rounds show.
        self._roughly = self._roughly or dropped
        self.known.clear()
        self._refine()

    def _leading(self) -> list[Configuration]:
        """The best, and the best of each kind of workers: it may be put under load for its kind."""
        ranked = self._top()
        of_kinds = {(one.arithmetic, one.shape): one for one in reversed(ranked)}
        return list(dict.fromkeys([*ranked[:_AGAIN], *of_kinds.values()]))

    def _top(self) -> list[Configuration]:
        """All that keep the bound, the highest rate of the short schedule first."""
        return sorted(self._roughly, key=lambda one: -self._roughly[one].rate)

    def _alike(self, one: Configuration) -> _Alike:
        """What its prediction hangs on: memories that change nothing have the same."""
        return one.arithmetic, one.shape, one.batching, self._forecast.factor(one)
