"""What one inference takes: a bound below it is refused before anything else is measured."""

from __future__ import annotations

from collections.abc import Callable

from corral.artifacts.curve_cache import CurveCache
from corral.backends.registry import engine
from corral.errors import ConfigError
from corral.planning.machine import Machine
from corral.settings import Settings
from corral.slo.crew import Crew
from corral.slo.history import History, LoneItem, lone_item
from corral.slo.profiler import Profiler
from corral.slo.reasons import too_slow
from corral.slo.space import Shape
from corral.slo.survey import Engine

#: what was measured at another time, beside others perhaps, says no more than within this factor
_DOUBT = 2.0


class LoneItems:
    """What is known of lone items on a machine, and what is measured where nothing is.

    Args:
        settings: of the server.
        machine: that they are of.
        history: of searches on this machine.
        say: told what begins, a phrase.
    """

    def __init__(
        self,
        settings: Settings,
        machine: Machine,
        history: History,
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._machine = machine
        self._history = history
        self._say = say

    def check(self, profiler: Profiler, one: Engine, shape: Shape, crew: Crew) -> None:
        """Makes sure that one inference takes no longer than the bound.

        What earlier starts have measured tells it, where that is far enough from the bound. Where
        it is not, one worker is started for three items.

        Raises:
            ConfigError: it takes longer.
            ModelError: the worker failed.
        """
        bound_s, name = profiler.bound_s, f"{one.arithmetic.name}, {shape.name}"
        if not engine(one.arithmetic.backend).computes:
            null = self._settings.null
            least_s = (null.batch_ms + null.item_ms) / 1000
            if least_s > bound_s:
                raise _refusal(bound_s, least_s, name)
            return
        known_s = self.known_s(one, shape.cores)
        if known_s is not None and known_s > bound_s * _DOUBT:
            raise _refusal(bound_s, known_s, name, ", as measured earlier")
        if known_s is not None and known_s * _DOUBT < bound_s:
            return
        self._say(f"measuring one inference, {name}")
        least_s = profiler.look(crew)
        self._history.learn_lone(self._item(one, shape.cores, least_s))
        if least_s > bound_s:
            raise _refusal(bound_s, least_s, name)

    def known_s(self, one: Engine, cores: int) -> float | None:
        """Seconds of a lone item: the least that searches and servers have measured; or None.

        Args:
            one: the engine that computes.
            cores: of its worker.
        """
        wanted = self._item(one, cores, 0.0)
        found_s = [
            item.item_ms / 1000 for item in self._history.load().lone if item.of_the_same_as(wanted)
        ]
        settings = self._settings.replace(
            backend=one.arithmetic.backend,
            precision=one.arithmetic.precision,
            torch_mode=one.arithmetic.torch_mode,
        )
        machine = self._machine
        curve = CurveCache(settings, one.model(), cores, machine.model_name, machine.isa).load()
        if curve is not None:
            found_s += [cost_s for (_, size), cost_s in curve.costs_s.items() if size == 1]
        return min(found_s, default=None)

    def _item(self, one: Engine, cores: int, seconds: float) -> LoneItem:
        return lone_item(one.arithmetic, one.model().artefact, cores, seconds)


def _refusal(bound_s: float, least_s: float, where: str, source: str = "") -> ConfigError:
    return ConfigError(too_slow(bound_s, least_s, where, source))
