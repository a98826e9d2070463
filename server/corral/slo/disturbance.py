"""Measurements that others disturbed are repeated while there is time, and told.

Disturbed is what met clearly more of them than the quietest measurement did, or very much of them.
What met as much as always (a steady steal, say) is not repeated: it would meet the same again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from typing import TypeVar

from corral.planning.explain import count
from corral.slo.pace import fits
from corral.system.other_load import MUCH, OtherLoad, watched

T = TypeVar("T")

#: a share of the CPUs that others may take without a word
_SOME = 0.1
#: disturbed is what met so many times as much as the quietest
_MORE = 2.0
#: how often a measurement is made at the most
_TRIES = 3


@dataclasses.dataclass(frozen=True, kw_only=True)
class Disturbed:
    """What others did to the measurements of a search.

    Attributes:
        measurements: how many there were, those that were repeated included.
        disturbed: how many of them met others.
        kept: how many disturbed ones had to count, for no try was better.
        most: the largest share of the CPUs' time that others took of one, 0 to 1.
    """

    measurements: int = 0
    disturbed: int = 0
    kept: int = 0
    most: float = 0.0

    def sentence(self) -> str:
        """It in words; empty where nothing was disturbed."""
        if not self.disturbed:
            return ""
        again = self.disturbed - self.kept
        if self.disturbed == 1:
            were, told = "was", "it did not count" if again else "it counted for want of a better"
        else:
            kept = f", {self.kept} did for want of a better" if self.kept else ""
            were, told = "were", f"{again} of them did not count{kept}"
        return (
            f"{self.disturbed} of {count(self.measurements, 'measurement')} {were} disturbed, by "
            f"others who took up to {self.most:.0%} of the CPUs: {told}"
        )


class Watch:
    """Looks at what others take while something is measured, and has it measured again.

    Args:
        watch: fills in what others took in its block.
        left_s: seconds that are left for measuring.
        say: told what was disturbed, a phrase.
        now_s: a clock.
    """

    def __init__(
        self,
        watch: Callable[[OtherLoad], AbstractContextManager[None]],
        left_s: Callable[[], float],
        say: Callable[[str], None],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._now_s = now_s
        self._watch = watch
        self._left_s = left_s
        self._say = say
        #: what others took of each measurement
        self._shares: list[float] = []
        self._disturbed = self._kept = 0

    @classmethod
    def of(
        cls, cpus: Collection[int], left_s: Callable[[], float], say: Callable[[str], None]
    ) -> Watch:
        """One that looks at these CPUs."""
        return cls(lambda load: watched(cpus, load), left_s, say)

    def run(self, measure: Callable[[], T]) -> tuple[T, float]:
        """Measures, up to three times; the least disturbed try, and the share that others took.

        It is measured again only where that fits in the time that is left, too.
        """
        tries: list[tuple[float, T]] = []
        while True:
            load, begun_s = OtherLoad(), self._now_s()
            with self._watch(load):
                found = measure()
            took_s = self._now_s() - begun_s
            tries.append((load.share, found))
            unusual = self._is_unusual(load.share)
            disturbed = unusual or load.share > MUCH
            self._shares.append(load.share)
            if not disturbed:
                break
            self._disturbed += 1
            again = unusual and len(tries) < _TRIES and fits(self._left_s(), took_s)
            words = ": once more" if again else ""
            self._say(f"others took {load.share:.0%} of the CPUs meanwhile{words}")
            if not again:
                break
        share, found = min(tries, key=lambda pair: pair[0])
        self._kept += disturbed
        return found, share

    def _is_unusual(self, share: float) -> bool:
        # With nothing to compare it with, the first is only disturbed where most would say so.
        usual = _MORE * min(self._shares) if self._shares else MUCH
        return share > max(_SOME, usual)

    @property
    def found(self) -> Disturbed:
        """What it has seen so far."""
        return Disturbed(
            measurements=len(self._shares),
            disturbed=self._disturbed,
            kept=self._kept,
            most=max(self._shares, default=0.0),
        )


@contextlib.contextmanager
def _unwatched(_: OtherLoad) -> Iterator[None]:
    yield


def unwatched() -> Watch:
    """One that sees nothing."""
    return Watch(_unwatched, lambda: 0.0, lambda _: None)
