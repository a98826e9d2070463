"""Calibrates forecasts: servers that may win, each at a low rate and near its highest.

What frontend and clients take of the workers grows with the rate. So the second time is at a rate
that the first one, and the CPU time that was seen, let expect to be kept: where requests cost much
beside their workers, it is below the first. What wins then may be of another shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from corral.errors import StartError
from corral.slo.confirm import SLOWER
from corral.slo.forecast import Forecast
from corral.slo.pace import CALIBRATING_S
from corral.slo.space import Configuration
from corral.slo.survey import TIME_WAS_OVER, Survey

#: the first rounds show what serving adds, well below the bound
_CALIBRATING = 0.6
#: of what its workers can make; where the bound is tight the rate is low, and would take long
_LEAST_CALIBRATING = 0.3
_CALIBRATION_REQUESTS = 40
_CALIBRATION_S = (CALIBRATING_S, 8.0)
#: of the second time, which says what the 99th percentile is of a simulated one
_TAIL_S = 6.0
#: rates that are nearer than this share are not worth two rounds
_ALIKE = 0.02

#: a configuration, requests a second, seconds
Calibrate = Callable[[Configuration, float, float], None]
#: starts servers, and says why some did not
Start = Callable[[Sequence[Configuration]], Mapping[Configuration, str]]
#: whether there is time for so many seconds of load, beside what comes after
HasTime = Callable[[float], bool]


class Calibrator:
    """Puts servers under load until the best is of a shape that was.

    Args:
        survey: predicts again what was learned.
        forecast: learns.
        calibrate: puts a server that is up under load.
        say: told what begins, a phrase.
    """

    def __init__(
        self,
        survey: Survey,
        forecast: Forecast,
        calibrate: Calibrate,
        say: Callable[[str], None],
    ) -> None:
        self._survey = survey
        self._forecast = forecast
        self._calibrate = calibrate
        self._say = say

    def first_s(self) -> float:
        """Seconds of load of the first calibration; 0 where nothing is to be calibrated."""
        one = self._uncalibrated()
        return 0.0 if one is None else _seconds(self._first_rate(one), _CALIBRATION_S[0])

    def run(
        self,
        start: Start,
        is_late: Callable[[], bool],
        has_time: HasTime = lambda _: True,
    ) -> None:
        """Calibrates the best, and what is the best by that.

        Args:
            start: a server.
            is_late: the time that is left is for confirming; one shape is calibrated all the same.
            has_time: for a rate, or a second one, of a server that is up.

        Raises:
            StartError: the first server did not start.
        """
        first = True
        while (one := self._uncalibrated()) is not None and (first or not is_late()):
            self._say(f"starting a server: {one.name}")
            failed = start([one])
            if failed and first:
                raise StartError(failed[one])
            if failed:
                return
            first = False
            if not has_time(self.first_s()):
                self._survey.not_tried.append(f"calibrating: {TIME_WAS_OVER}")
                return
            self._measure(one, has_time)
            if not self._forecast.is_calibrated(one.shape):
                return
            self._survey.predictions.predict_again()

    def _uncalibrated(self) -> Configuration | None:
        """The best, unless servers like it were under load already."""
        best = self._survey.predictions.best()
        return None if best is None or self._forecast.is_calibrated(best.shape) else best

    def _first_rate(self, one: Configuration) -> float:
        most = self._forecast.most_per_s(one) or 0.0
        return max(
            self._survey.predictions.known[one].rate * _CALIBRATING, most * _LEAST_CALIBRATING
        )

    def _measure(self, one: Configuration, has_time: HasTime) -> None:
        forecast, rate = self._forecast, self._first_rate(one)
        self._at(one, rate, _CALIBRATION_S[0])
        if not has_time(_TAIL_S):
            self._survey.not_tried.append(f"calibrating near the highest rate: {TIME_WAS_OVER}")
            return
        sure = forecast.highest(one, slower=SLOWER)
        # What was overloaded, or met a spell of the machine, says little: half of it will do.
        second = max(rate / 2, sure.rate if sure else 0.0)
        if not math.isclose(second, rate, rel_tol=_ALIKE):
            self._at(one, second, _TAIL_S)

    def _at(self, one: Configuration, rate: float, shortest_s: float) -> None:
        seconds = _seconds(rate, shortest_s)
        self._say(f"calibrating at {rate:.1f}/s for {seconds:.0f} s")
        self._calibrate(one, rate, seconds)


def _seconds(rate: float, shortest_s: float) -> float:
    """How long a server is under load at a rate, to be calibrated."""
    return min(_CALIBRATION_S[1], max(shortest_s, _CALIBRATION_REQUESTS / rate))
