"""Puts servers under load, within the time that there is: calibrates, and confirms the best."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from corral.errors import StartError
from corral.slo.budget import Budget
from corral.slo.calibrator import Calibrator
from corral.slo.confirm import ENOUGH, Confirmation, Trial
from corral.slo.contenders import distinct
from corral.slo.disturbance import Watch
from corral.slo.forecast import Forecast
from corral.slo.interval import sent_for
from corral.slo.order import TuneOrder
from corral.slo.pace import ROUND_S
from corral.slo.running import Round, Servers
from corral.slo.space import Configuration
from corral.slo.survey import TIME_WAS_OVER, Survey
from corral.system.limits import memory_left

#: the share of the time that is kept for confirming
CONFIRMING = 0.6
#: requests of a round that tell the good from the bad, within ROUND_S and this
_FIRST_REQUESTS = 150
_LONGEST_S = 60.0
#: of the time, the last is kept for confirming the likeliest, where nothing holds; in so many
#: rounds, each of which may step back
_LAST = 0.1
_LAST_ROUNDS = 3
#: rounds of the likeliest before others get theirs, if it does not hold until then
_ALONE_ROUNDS = 4
#: rounds of a configuration at the most
_MOST_ROUNDS = 12
#: rounds of each in an exhaustive search
_EXHAUSTIVE_ROUNDS = 3
#: what a server of its own is taken to need
_SERVER_BYTES = 700 * 10**6


class UnderLoad:
    """What is measured of servers, after a survey.

    Args:
        order: what is looked for.
        survey: predicted what servers would do; told what was not tried.
        forecast: learns from them.
        servers: starts, measures and ends them.
        budget: of the whole search; each step is made where it fits.
        watch: has what others disturb measured again.
        say: told what begins, a phrase.
    """

    def __init__(
        self,
        *,
        order: TuneOrder,
        survey: Survey,
        forecast: Forecast,
        servers: Servers,
        budget: Budget,
        watch: Watch,
        say: Callable[[str], None],
    ) -> None:
        self._order = order
        self._survey = survey
        self._forecast = forecast
        self._servers = servers
        self._budget = budget
        self._watch = watch
        self._say = say
        self._confirmation = Confirmation(forecast, self._undisturbed, order.bound_s)
        self._repeated_s = 0.0
        #: what a user is to know, one sentence each
        self.notes: list[str] = []

    @property
    def trials(self) -> Sequence[Trial]:
        """The configurations that are confirmed."""
        return self._confirmation.trials

    @property
    def spells(self) -> str:
        """In words, for how long the machine was clearly slower than else; empty for never."""
        slow_s, all_s = self._forecast.seen.spells()
        if not slow_s:
            return ""
        return (
            f"for {slow_s} of {all_s} s under load batches took clearly longer than in the others, "
            f"as when a host slows a virtual machine down: these seconds do not count"
        )

    def run(self) -> None:
        """Calibrates, and confirms the best; in an exhaustive search all.

        Raises:
            CorralError: the first server did not start, or one is gone.
        """
        if self._order.exhaustive:
            self._measure_all()
        else:
            self._confirm()

    def _undisturbed(self, one: Configuration, rate: float, offsets_s: Sequence[float]) -> Round:
        """What a server does under a schedule; once more where others took much of the CPUs."""
        tries_s: list[float] = []

        def measure() -> Round:
            with self._budget.timed(tries_s.append):
                return self._servers.measure(one, rate, offsets_s)

        found, share = self._watch.run(measure)
        self._repeated_s = math.fsum(tries_s[:-1])
        return msgspec.structs.replace(found, other_load=share)

    def _loaded(self, seconds: float, measure: Callable[[], None]) -> None:
        """Measures, and notes what that took, what was measured again left out."""
        pace = self._budget.pace
        with self._budget.timed(lambda took_s: pace.loaded(seconds, took_s - self._repeated_s)):
            measure()

    # --- calibrating ---

    def _calibrate(self) -> None:
        """What serving adds, as servers of the shapes that may win show."""
        budget, pace = self._budget, self._budget.pace
        calibrator = Calibrator(self._survey, self._forecast, self._calibrate_at, self._say)
        if not budget.fits(pace.calibrating_s(calibrator.first_s()), pace.confirming_s()):
            self._survey.not_tried.append(
                f"a server at a low rate, for what serving adds: {TIME_WAS_OVER}"
            )
            return
        # Rounds say as much of a second shape as calibrating it would.
        late_s = self._order.budget_s * CONFIRMING

        def is_late() -> bool:
            takes_s = pace.calibrating_s(calibrator.first_s())
            return budget.left_s < late_s or not budget.fits(takes_s, pace.confirming_s())

        def has_time(load_s: float) -> bool:
            return budget.fits(pace.round_s(load_s), pace.confirming_s())

        try:
            calibrator.run(self._start, is_late, has_time)
        except StartError:
            # Else it was given up.
            if budget.left_s > 0:
                raise

    def _calibrate_at(self, one: Configuration, rate: float, seconds: float) -> None:
        self._loaded(seconds, lambda: self._confirmation.calibrate(one, rate, seconds))

    # --- confirming ---

    def _confirm(self) -> None:
        confirmation, budget = self._confirmation, self._budget
        self._calibrate()
        best = distinct(
            self._survey.predictions.ranked(confirmation.calibrated),
            self._survey.predictions.known,
        )
        # Rather than none, those that were calibrated: they are up.
        chosen = self._that_fit(best[:1]) or self._that_fit(self._up())
        self._add(chosen)
        least_s = self._order.budget_s * _LAST
        are_all = False
        for number in range(_MOST_ROUNDS):
            confirmation.judge_again(settled=True)
            hopeful = confirmation.hopeful()
            # Two that may hold are worth less than one that does: at first all rounds are its.
            is_alone = confirmation.best is None and hopeful and number < _ALONE_ROUNDS
            if not are_all and not is_alone:
                are_all = True
                more = [one for one in self._that_fit(best) if one not in chosen]
                self._add(more)
                chosen += more
                hopeful = confirmation.hopeful()
            for position, trial in enumerate(hopeful):
                kept_s = 0.0 if confirmation.best else least_s
                part_s = (budget.left_s - kept_s) / (len(hopeful) - position)
                if part_s > 0:
                    self._turn(trial, self._round_s(trial, part_s), f"round {number + 1}", kept_s)
            if not hopeful or budget.left_s <= (0.0 if confirmation.best else least_s):
                break
        confirmation.judge_again(settled=False)
        for number in range(_LAST_ROUNDS):
            if (last := confirmation.last()) is not None:
                # A step back each, and with less time than planned they are short.
                part_s = min(least_s, budget.left_s) / (_LAST_ROUNDS - number)
                self._turn(last, max(ROUND_S, part_s), "last round")
        self._tell_left_out(best, chosen)
        over = self.trials or not chosen or budget.left_s <= 0
        if not any(trial.rounds for trial in self.trials) and over:
            self._tell_unmeasured()

    def _that_fit(self, wanted: Sequence[Configuration]) -> list[Configuration]:
        """Those that there is time to start, and for a round of each."""
        running = [self._servers.runs(one) for one in wanted]
        chosen = self._budget.pace.that_fit(running, self._budget.left_s)
        return [one for one, is_in in zip(wanted, chosen, strict=True) if is_in]

    def _up(self) -> list[Configuration]:
        """The best of the servers that run, as far as they are predicted to keep the bound."""
        ranked = self._survey.predictions.ranked()
        return [one for one in ranked if self._servers.runs(one)][:1]

    def _tell_left_out(
        self, wanted: Sequence[Configuration], chosen: Sequence[Configuration]
    ) -> None:
        self._survey.not_tried += [
            f"{one.name}, under load: {TIME_WAS_OVER}" for one in wanted if one not in chosen
        ]

    def _add(self, wanted: Sequence[Configuration]) -> None:
        """Starts servers for what is to be confirmed, as many as there is memory for."""
        if not wanted:
            return
        left = memory_left()
        room = len(wanted) if left is None else max(1, left // _SERVER_BYTES)
        for one in wanted[room:]:
            self.notes.append(f"memory was short: {one.name} was not put under load")
        self._say(f"starting servers: {'; '.join(one.name for one in wanted[:room])}")
        failed = self._start(wanted[:room])
        if self._budget.left_s > 0:
            self.notes += [f"{one.name} did not start: {why}" for one, why in failed.items()]
        else:
            self._tell_left_out(list(failed), ())
        started = [one for one in wanted[:room] if one not in failed]
        for number, one in enumerate(started):
            # Judging what was seen of it takes time, too: then there may be none for its round.
            if number and not self._budget.fits(self._budget.pace.round_s()):
                self._tell_left_out(started[number:], ())
                break
            self._confirmation.add(one, self._survey.predictions.known[one])

    def _start(self, wanted: Sequence[Configuration]) -> dict[Configuration, str]:
        """Starts servers, until the time is over, and notes what that took; why some did not."""
        new = sum(not self._servers.runs(one) for one in wanted)
        if not new:
            return {}
        pace = self._budget.pace
        with self._budget.timed(lambda took_s: pace.servers_started(new, took_s)):
            return self._servers.start(wanted, max(0.0, self._budget.left_s))

    def _round_s(self, trial: Trial, part_s: float) -> float:
        """How long a round lasts: the first tells good from bad, the next make a promise of it."""
        seen = self._confirmation.counting(trial, trial.rate)
        missing = ENOUGH - seen if trial.rounds else 0
        wanted_s = max(_FIRST_REQUESTS, sent_for(missing) + 1) / trial.rate
        return max(ROUND_S, min(wanted_s, part_s, _LONGEST_S))

    def _turn(self, trial: Trial, seconds: float, what: str, kept_s: float = 0.0) -> None:
        """A round, where it fits beside what is kept; the first, where there is any time."""
        # Without one, what was started for it was for nothing.
        is_first = not kept_s and not any(each.rounds for each in self.trials)
        has_any = is_first and self._budget.left_s > 0
        if has_any or self._budget.fits(self._budget.pace.round_s(seconds), kept_s):
            self._say(f"{what}: {trial.one.name} at {trial.rate:.1f}/s for {seconds:.0f} s")
            self._loaded(seconds, lambda: self._confirmation.turn(trial, seconds))

    def _tell_unmeasured(self) -> None:
        """That nothing was confirmed for want of time, and about how much that takes here."""
        needed_s = math.ceil(self._budget.spent_s + self._budget.pace.confirming_s())
        self.notes.append(
            f"--budget-s {self._order.budget_s:g} is too short here to put the winner under load, "
            f"so that its rate is a prediction; about {needed_s} would do"
        )

    # --- all of them ---

    def _measure_all(self) -> None:
        """Every configuration, one after the other, in the order of what they should keep."""
        self._calibrate()
        for one in self._survey.predictions.ranked():
            self._add([one])
            trial = self.trials[-1]
            if trial.one != one:
                continue
            for number in range(_EXHAUSTIVE_ROUNDS):
                self._turn(trial, self._round_s(trial, math.inf), f"round {number + 1}")
                if trial.settled:
                    break
            self._servers.end(one)
        self._confirmation.judge_again(settled=False)
