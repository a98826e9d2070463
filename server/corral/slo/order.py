"""What ``corral tune --p99-ms`` is to look for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneOrder:
    """What to look for.

    Attributes:
        bound_ms: the 99th percentile's.
        rate: a rate that is asked about, or None.
        gaps: between arrivals, of any mean.
        arrivals: their name.
        budget_s: for measuring, starts included; preparing models and the guard are not counted.
        exhaustive: puts every configuration under load.
        given: option names and values that were named: they stay.
    """

    bound_ms: float
    rate: float | None
    gaps: Sequence[float]
    arrivals: str
    budget_s: float
    exhaustive: bool
    given: Mapping[str, Any]

    @property
    def bound_s(self) -> float:
        """The bound in seconds."""
        return self.bound_ms / 1000
