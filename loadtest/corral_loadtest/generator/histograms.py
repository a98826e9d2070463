"""HdrHistograms of latencies in microseconds, 1 µs to an hour, three significant digits."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hdrh.histogram import HdrHistogram

from corral_loadtest.result import Latency

_LOWEST_US = 1
_HIGHEST_US = 3_600_000_000
_DIGITS = 3
CURVE = (
    0, 10, 20, 30, 40, 50, 60, 70, 75, 80, 85, 90, 92.5, 95, 97, 98, 99, 99.5, 99.8, 99.9,
    99.95, 99.99, 99.999, 100,
)  # fmt: skip


def empty() -> Any:
    """A histogram without values."""
    return HdrHistogram(_LOWEST_US, _HIGHEST_US, _DIGITS)


def record(histogram: Any, latency_s: float) -> None:
    """Counts one latency; what lies outside the range counts as its end."""
    histogram.record_value(min(max(round(latency_s * 1e6), _LOWEST_US), _HIGHEST_US))


def encoded(histogram: Any) -> str:
    """Compressed, as base64: HdrHistogram's own interchange form."""
    text: bytes = histogram.encode()
    return text.decode("ascii")


def merged(parts: Iterable[str]) -> Any:
    """One histogram of all that were encoded."""
    total = empty()
    for part in parts:
        total.decode_and_add(part.encode("ascii"))
    return total


def percentile_ms(histogram: Any, percentile: float) -> float:
    """The value in milliseconds at a percentile of 0 to 100."""
    return float(histogram.get_value_at_percentile(percentile)) / 1000


def summary(histogram: Any) -> Latency | None:
    """Percentiles; None of an empty histogram."""
    count = int(histogram.get_total_count())
    if not count:
        return None
    return Latency(
        count=count,
        mean_ms=float(histogram.get_mean_value()) / 1000,
        # From the counts: the library's own least value is wrong after merging an empty one.
        min_ms=percentile_ms(histogram, 0),
        p50_ms=percentile_ms(histogram, 50),
        p90_ms=percentile_ms(histogram, 90),
        p95_ms=percentile_ms(histogram, 95),
        p99_ms=percentile_ms(histogram, 99),
        p999_ms=percentile_ms(histogram, 99.9),
        max_ms=percentile_ms(histogram, 100),
    )


def curve(histogram: Any) -> tuple[tuple[float, float], ...]:
    """(percentile, ms) pairs for a plot, ascending; a percentile needs a value beyond it."""
    count = int(histogram.get_total_count())
    wanted = [p for p in CURVE if p == 100 or count * (1 - p / 100) >= 1]
    return tuple((float(p), percentile_ms(histogram, p)) for p in wanted) if count else ()
