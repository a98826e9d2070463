"""How long a child waits before it is started again: pure."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Backoff:
    """``first_s``, doubled with every further death in a row, never more than ``max_s``."""

    first_s: float
    max_s: float

    def delay_s(self, deaths: int) -> float:
        """Seconds to wait after the ``deaths``-th death in a row; 0 deaths wait for nothing."""
        if deaths <= 0:
            return 0.0
        # Beyond 2**62 a float has long passed any maximum, and a larger power would overflow.
        return min(self.max_s, self.first_s * 2.0 ** min(deaths - 1, 62))
