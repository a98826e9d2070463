"""What happened in short stretches of time, merged from all generators.

A request's latency belongs to the window it was meant for, however late its answer comes: the
slow end of a measurement is not lost. Throughput counts answers where they arrive.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any

import msgspec

from corral_loadtest.generator import histograms

OK = "OK"


class Delta(msgspec.Struct, kw_only=True):
    """What one generator adds to one window.

    Attributes:
        index: of the window, from 0.
        sent: requests meant for it.
        arrived: answers that arrived in it, by status.
        latencies: of requests meant for it, by status: encoded histograms.
        lags: how late they were sent: an encoded histogram; empty for none.
    """

    index: int
    sent: int = 0
    arrived: dict[str, int] = {}
    latencies: dict[str, str] = {}
    lags: str = ""


class Recorder:
    """Collects one generator's requests until they are taken as deltas."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._sent: Counter[int] = Counter()
        self._arrived: dict[int, Counter[str]] = defaultdict(Counter)
        self._latencies: dict[int, dict[str, Any]] = defaultdict(dict)
        self._lags: dict[int, Any] = {}

    def add(self, intended_s: float, sent_s: float, answered_s: float, status: str) -> None:
        """Counts a settled request; times are seconds since the common start."""
        index = int(intended_s / self._window_s)
        self._sent[index] += 1
        self._arrived[int(answered_s / self._window_s)][status] += 1
        latencies = self._latencies[index]
        if status not in latencies:
            latencies[status] = histograms.empty()
        histograms.record(latencies[status], answered_s - intended_s)
        if index not in self._lags:
            self._lags[index] = histograms.empty()
        histograms.record(self._lags[index], sent_s - intended_s)

    def take(self) -> list[Delta]:
        """What came since the last call, ascending by window."""
        deltas = [
            Delta(
                index=index,
                sent=self._sent[index],
                arrived=dict(self._arrived.get(index, {})),
                latencies={
                    status: histograms.encoded(found)
                    for status, found in self._latencies.get(index, {}).items()
                },
                lags=histograms.encoded(self._lags[index]) if index in self._lags else "",
            )
            for index in sorted({*self._sent, *self._arrived})
        ]
        self._sent.clear()
        self._arrived.clear()
        self._latencies.clear()
        self._lags.clear()
        return deltas


@dataclasses.dataclass
class Window:
    """One stretch of time, of all generators together; histograms stay encoded until asked for."""

    sent: int = 0
    arrived: Counter[str] = dataclasses.field(default_factory=Counter)
    latencies: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    lags: list[str] = dataclasses.field(default_factory=list)

    def add(self, delta: Delta) -> None:
        """Merges what a generator sent."""
        self.sent += delta.sent
        self.arrived.update(delta.arrived)
        for status, found in delta.latencies.items():
            self.latencies.setdefault(status, []).append(found)
        if delta.lags:
            self.lags.append(delta.lags)


class Windows:
    """The whole time of a measurement."""

    def __init__(self, window_s: float) -> None:
        self.window_s = window_s
        self._windows: dict[int, Window] = {}

    def add(self, deltas: Iterable[Delta]) -> None:
        """Merges what a generator sent."""
        for delta in deltas:
            self._windows.setdefault(delta.index, Window()).add(delta)

    def __len__(self) -> int:
        return max(self._windows, default=-1) + 1

    def __getitem__(self, index: int) -> Window:
        return self._windows.get(index, Window())

    def total(self, first: int, last: int) -> Window:
        """Windows ``first`` to ``last``, the last left out, as one."""
        whole = Window()
        for index in range(first, last):
            window = self[index]
            whole.sent += window.sent
            whole.arrived.update(window.arrived)
            for status, found in window.latencies.items():
                whole.latencies.setdefault(status, []).extend(found)
            whole.lags.extend(window.lags)
        return whole
