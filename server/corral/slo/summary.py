"""From what was predicted and measured to the report. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import msgspec

from corral.slo import pareto, reasons
from corral.slo.confirm import Trial, best_of
from corral.slo.forecast import Forecast
from corral.slo.order import TuneOrder
from corral.slo.report import CandidateRow, Predicted, TuneReport, Winner, settings_of
from corral.slo.space import Configuration
from corral.slo.survey import Survey

#: what was measured so near to a rate was measured at it
_THERE = 0.02


class Summary:
    """What a search has come to.

    Args:
        order: what was looked for.
        forecast: predicts.
        survey: what was predicted.
        trials: what was put under load.
    """

    def __init__(
        self, order: TuneOrder, forecast: Forecast, survey: Survey, trials: Sequence[Trial]
    ) -> None:
        self._order = order
        self._forecast = forecast
        self._survey = survey
        self._trials = {trial.one: trial for trial in trials}

    def fill(self, report: TuneReport) -> TuneReport:
        """The report with everything that follows."""
        survey, rate = self._survey, self._order.rate
        ranked = survey.predictions.ranked()
        winner = self._winner(ranked)
        shown = [*self._trials, *(one for one in ranked if one not in self._trials)]
        best_rate = winner.rate if winner else 0.0
        front, curves = pareto.curves(self._forecast, ranked, best_rate, self._order.bound_s)
        return msgspec.structs.replace(
            report,
            winner=winner,
            candidates=[self._row(one, winner) for one in shown],
            measured_configurations=sum(bool(t.rounds) for t in self._trials.values()),
            profiled=survey.profiled,
            not_tried=[*survey.not_tried, *dict.fromkeys(survey.too_large())],
            pareto=front,
            curves=curves,
            headroom=winner.rate / rate - 1 if winner and rate else None,
        )

    def _winner(self, ranked: Sequence[Configuration]) -> Winner | None:
        best = best_of(list(self._trials.values()))
        if best is not None and best.found is not None:
            found = best.found
            return Winner(
                settings=self._settings(best.one),
                name=best.one.name,
                rate=round(found.rate, 3),
                rate_interval=[round(end, 3) for end in found.rate_interval],
                p99_ms=round(found.p99_ms, 3),
                p99_interval_ms=[round(end, 3) for end in found.p99_interval_ms],
                p50_ms=round(found.p50_ms, 3),
                idle_p50_ms=self._idle_ms(best.one),
                confirmed=True,
                joules_an_inference=found.joules_an_inference,
            )
        if (seen := self._unconfirmed()) is not None:
            return seen
        if not ranked:
            return None
        one, told = ranked[0], self._survey.predictions.known[ranked[0]]
        return Winner(
            settings=self._settings(one),
            name=one.name,
            rate=round(told.rate, 3),
            rate_interval=[0.0, round(told.rate, 3)],
            # What is predicted of it stands in its candidate's row.
            p99_ms=None,
            p99_interval_ms=None,
            p50_ms=None,
            idle_p50_ms=self._idle_ms(one),
            confirmed=False,
        )

    def _unconfirmed(self) -> Winner | None:
        """Of what was under load and never held: what its interval's upper end leaves."""
        seen = [(t.one, t.found) for t in self._trials.values() if t.found]
        if not seen:
            return None
        one, found = max(seen, key=lambda pair: pair[1].rate_interval[0])
        if not found.rate_interval[0]:
            return None
        rate = found.rate_interval[0]
        # The figures are those of the rate that was offered, which may be many times as high.
        there = abs(found.offered / rate - 1) <= _THERE
        ends_ms = [round(end, 3) for end in found.p99_interval_ms]
        return Winner(
            settings=self._settings(one),
            name=one.name,
            rate=round(rate, 3),
            rate_interval=[round(end, 3) for end in found.rate_interval],
            p99_ms=round(found.p99_ms, 3) if there else None,
            p99_interval_ms=ends_ms if there else None,
            p50_ms=round(found.p50_ms, 3) if there else None,
            idle_p50_ms=self._idle_ms(one),
            confirmed=False,
            joules_an_inference=found.joules_an_inference if there else None,
        )

    def _settings(self, one: Configuration) -> dict[str, Any]:
        return settings_of(one, dict(self._order.given), self._order.bound_ms)

    def _idle_ms(self, one: Configuration) -> float:
        """A lone request's: the engine alone, and what serving adds."""
        times = self._forecast.times(one.arithmetic, one.shape.cores)
        assert times is not None, "what wins was measured"
        overhead_s = self._forecast.calibration(one.shape).overhead_s
        return round((statistics.median(times.alone_s) + overhead_s) * 1000, 3)

    def _row(self, one: Configuration, winner: Winner | None) -> CandidateRow:
        trial, rate = self._trials.get(one), self._order.rate
        told = self._survey.predictions.known.get(one)
        at = self._forecast.at(one, rate) if rate and trial else None
        row = CandidateRow(
            settings=one.settings(),
            name=one.name,
            predicted=Predicted.of(told, at) if told else None,
            measured=trial.found if trial else None,
        )
        lost = reasons.why_lost(one, row, winner, self._forecast, self._order.bound_ms)
        return msgspec.structs.replace(row, lost=lost)
