"""When a frontend asks itself, so that what serves stays warm. Pure."""

from __future__ import annotations

import dataclasses

from corral.settings import KeepWarm, Mode, Settings

#: of a worker's time, where people ask for it, and where they do not
_WARM_SHARE = 0.05
_CHEAP_WARM_SHARE = 0.01
#: what a request takes of a frontend, roughly: no more than the share of its time, either
_FRONT_S = 0.002


@dataclasses.dataclass(slots=True)
class Silence:
    """Whether clients are silent, by what a frontend counts.

    Attributes:
        count: requests that had come at the last look.
    """

    count: int = -1

    def look(self, count: int, accepted: int) -> bool:
        """Whether none has come since the last look, and none is under way.

        Args:
            count: requests so far.
            accepted: those under way.
        """
        broken = self.is_broken(count, accepted)
        self.count = count
        return not broken

    def is_broken(self, count: int, accepted: int) -> bool:
        """The opposite, and this is no look."""
        return count != self.count or accepted > 0


def warm_share(settings: Settings) -> float:
    """How much of an idle worker's time goes into keeping it warm; 0: it is not kept so."""
    match settings.lifecycle.keep_warm:
        case KeepWarm.ON:
            return _WARM_SHARE
        case KeepWarm.AUTO if settings.model.mode is Mode.RTI:
            return _CHEAP_WARM_SHARE
        case _:
            return 0.0


def warm_every_s(took_s: float, share: float, *, least_s: float, workers: int) -> float:
    """Seconds from one request that nobody asked for to the next, in one worker.

    Args:
        took_s: what one takes of it.
        share: of a worker's, and a frontend's, time, above 0.
        least_s: how much is asked for.
        workers: that the frontend has, 1 or more.
    """
    return max(least_s, took_s / share, workers * _FRONT_S / share)
