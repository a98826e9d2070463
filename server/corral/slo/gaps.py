"""Gaps between arrivals: a Poisson process, or a recorded trace. Reads a file."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

from corral.batching.prediction import poisson_gaps
from corral.errors import ConfigError, os_reason
from corral.settings.files import read_file

POISSON = "poisson"
#: requests that a prediction is made of
_COUNT = 5000
#: a trace of fewer says nothing of a 99th percentile
_LEAST = 100
#: requests a second: once a day, and more than any machine is asked
_RATES = (1 / 86_400, 1e7)


def read_gaps(arrivals: str) -> list[float]:
    """Gaps of any mean between arrivals.

    Args:
        arrivals: "poisson", or the path of a trace of at most 16 MiB, or of a pipe: arrival times
            in seconds from any start, one a line, none before the one above it; empty lines and
            those that begin with ``#`` are left out.

    Raises:
        ConfigError: there is no such file, or it is no trace.
    """
    if arrivals == POISSON:
        return poisson_gaps(_COUNT)
    path = Path(arrivals)
    try:
        content, _ = read_file(path)
        lines = content.decode("utf-8-sig").splitlines()
        kept = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
        times_s = [float(line) for line in kept]
    except OSError as error:
        reason = os_reason(error)
        raise ConfigError(f"--arrivals {arrivals}: {reason}") from None
    except ValueError:
        raise ConfigError(
            f"--arrivals {arrivals}: no trace; one arrival time in seconds a line is needed"
        ) from None
    if len(times_s) < _LEAST or not all(map(math.isfinite, times_s)):
        raise ConfigError(f"--arrivals {arrivals}: {_LEAST} finite times or more are needed")
    gaps = [after - before for before, after in itertools.pairwise(times_s)]
    if (wrong := _wrong(times_s, gaps)) is not None:
        raise ConfigError(f"--arrivals {arrivals}: {wrong}")
    # A short one is played again and again.
    return (gaps * math.ceil(_COUNT / len(gaps)))[: max(_COUNT, len(gaps))]


def _wrong(times_s: list[float], gaps: list[float]) -> str | None:
    """Why arrivals are no trace; None where they are one."""
    if times_s[0] < 0:
        return f"no trace; it begins at {times_s[0]:g} s, before 0"
    for gap, before, after in zip(gaps, times_s, times_s[1:], strict=False):
        if gap < 0:
            return f"no trace; {after!r} s comes after {before!r} s"
    spent_s = times_s[-1] - times_s[0]
    if not spent_s:
        return "all arrivals are at once, so it has no rate"
    least, most = _RATES
    if not least <= (rate := len(gaps) / spent_s) <= most:
        return f"{rate:.3g} requests/s is no rate of a server; are its times in seconds?"
    return None
