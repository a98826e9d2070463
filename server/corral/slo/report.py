"""What ``corral tune --p99-ms`` found, as it is written and shown."""

from __future__ import annotations

import statistics
from typing import Any

import msgspec

from corral.batching.prediction import Prediction
from corral.slo.disturbance import Disturbed
from corral.slo.space import Configuration


class Predicted(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration should do at the highest rate that keeps the bound."""

    rate: float
    p50_ms: float
    p99_ms: float
    #: share of the requests
    refused: float
    #: at --rate, where one was named
    at_rate: dict[str, float] | None = None

    @classmethod
    def of(cls, found: Prediction, at_rate: Prediction | None = None) -> Predicted:
        """A prediction as it is written."""
        return cls(
            rate=round(found.rate, 3),
            p50_ms=round(found.p50_s * 1000, 3),
            p99_ms=round(found.p99_s * 1000, 3),
            refused=found.refused,
            at_rate=None if at_rate is None else _told(at_rate),
        )


#: JSON has no infinity: an answer that never comes
_NEVER_MS = 1e9


def _told(found: Prediction) -> dict[str, float]:
    return {
        "rate": found.rate,
        "p50_ms": min(round(found.p50_s * 1000, 3), _NEVER_MS),
        "p99_ms": min(round(found.p99_s * 1000, 3), _NEVER_MS),
        "refused": found.refused,
    }


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What a server with a configuration did under open-loop load."""

    #: the highest rate that was seen to keep the bound by its interval's upper end; 0 for none
    rate: float
    #: the highest rate, if the 99th percentile is at its interval's upper and its lower end
    rate_interval: list[float]
    #: the rate of the last rounds, which the rest is of
    offered: float
    p50_ms: float
    #: what a long measurement would say, and where it lies with 90 %; see slo/interval.py
    p99_ms: float
    p99_interval_ms: list[float]
    #: of those very requests
    raw_p99_ms: float
    refused: float
    requests: int
    #: the first round's, and what was predicted for its schedule before it was measured; None of
    #: what was only calibrated
    first_p99_ms: float | None = None
    guessed_p99_ms: float | None = None
    #: the share of the CPUs' time that others took meanwhile
    other_load: float = 0.0
    #: of the machine's processors, other programs and idle cores included; None without RAPL
    joules_an_inference: float | None = None

    @property
    def error(self) -> float | None:
        """By which share the prediction was wrong, without sign."""
        if self.guessed_p99_ms is None or self.first_p99_ms is None:
            return None
        return abs(self.guessed_p99_ms / self.first_p99_ms - 1)


class CandidateRow(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration that was predicted."""

    settings: dict[str, Any]
    name: str
    predicted: Predicted | None
    measured: Measured | None = None
    #: why it is not the winner; empty where nobody says
    lost: str = ""


class CurvePoint(msgspec.Struct, frozen=True, kw_only=True):
    """What a configuration is predicted to do at one rate."""

    rate: float
    p50_ms: float
    p99_ms: float
    name: str


class Winner(msgspec.Struct, frozen=True, kw_only=True):
    """What serves the highest rate."""

    settings: dict[str, Any]
    name: str
    #: requests a second
    rate: float
    rate_interval: list[float]
    #: at that rate, by its upper end and as the middle of it; None where nothing was measured there
    p99_ms: float | None
    p99_interval_ms: list[float] | None
    p50_ms: float | None
    #: of a lone request
    idle_p50_ms: float
    #: confirmed under load; else it is a prediction
    confirmed: bool
    #: what a Measured says of it
    joules_an_inference: float | None = None


class TuneReport(msgspec.Struct, frozen=True, kw_only=True):
    """All that is known."""

    p99_ms: float
    model: str
    cpu: str
    arrivals: str
    winner: Winner | None = None
    candidates: list[CandidateRow] = []
    #: servers that were under load
    measured_configurations: int = 0
    #: what there was to choose from, by kind, and "configurations", how many
    space: dict[str, Any] = {}
    #: kinds of workers that were measured by themselves
    profiled: list[str] = []
    not_tried: list[str] = []
    notes: list[str] = []
    #: the lowest 99th percentile that any configuration is predicted to have, by rate
    pareto: list[CurvePoint] = []
    #: the same of the best configurations by themselves
    curves: list[list[CurvePoint]] = []
    #: --rate, and what the winner's headroom over it is
    asked_rate: float | None = None
    headroom: float | None = None
    #: the share of the CPUs that others took
    other_load: float = 0.0
    #: measurements that others disturbed
    disturbed: Disturbed = Disturbed()
    took_s: float = 0.0
    #: nothing more is to come
    complete: bool = False

    @property
    def median_error(self) -> float | None:
        """Of predicted 99th percentiles beside measured ones; None where none was measured."""
        found = [row.measured.error for row in self.candidates if row.measured]
        errors = [error for error in found if error is not None]
        return statistics.median(errors) if errors else None

    @property
    def measured(self) -> list[CandidateRow]:
        """Those that were under load, the best first."""
        found = [row for row in self.candidates if row.measured]
        return sorted(found, key=lambda row: -(row.measured.rate if row.measured else 0.0))


def settings_of(one: Configuration, given: dict[str, Any], bound_ms: float) -> dict[str, Any]:
    """What a settings file for a configuration holds: what was asked for, and the configuration."""
    return {**given, **one.settings(), "p99-ms": bound_ms}
