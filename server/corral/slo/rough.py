"""Rough predictions, to tell the good from the bad: not every kind of memory is simulated."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import msgspec

from corral.batching.prediction import Prediction
from corral.slo.forecast import Forecast
from corral.slo.space import Arithmetic, Batching, Configuration, Memory, Shape


class Rough:
    """Predicts on a short schedule, and remembers it.

    Simulated are the memory that workers were measured with, and the fastest: no other can win
    beside it. Of the others the first one's rate by their factor is told. With times that are f
    times as long, requests that come f times as slowly wait f times as long, so that it is near
    that; to simulate each would take a search longer than its measurements.

    Args:
        forecast: predicts.
        memories: by engine, the one first that its workers were measured with.
    """

    def __init__(self, forecast: Forecast, memories: Mapping[Arithmetic, Sequence[Memory]]) -> None:
        self._forecast = forecast
        self._memories = memories
        self._known: dict[tuple[Arithmetic, Shape, Batching, float], Prediction | None] = {}

    def forget(self) -> None:
        """Something was learned since."""
        self._known.clear()

    def highest(self, one: Configuration) -> Prediction | None:
        """The highest rate at which it keeps the bound, about; None where it is not known."""
        factor = self._forecast.factor(one)
        if factor is None:
            return None
        alike = [
            msgspec.structs.replace(one, memory=memory) for memory in self._memories[one.arithmetic]
        ]
        factors = [other for each in alike if (other := self._forecast.factor(each)) is not None]
        if factor in (factors[0], min(factors)):
            return self._simulated(one, factor)
        found = self._simulated(alike[0], factors[0])
        scaled = factors[0] / factor
        return None if found is None else dataclasses.replace(found, rate=found.rate * scaled)

    def _simulated(self, one: Configuration, factor: float) -> Prediction | None:
        key = one.arithmetic, one.shape, one.batching, factor
        if key not in self._known:
            # Most are near the one before.
            latest = next((found for found in reversed(self._known.values()) if found), None)
            guess = latest.rate if latest else None
            self._known[key] = self._forecast.highest(one, roughly=True, guess=guess)
        return self._known[key]
