"""When open-loop requests are meant to be sent: offsets in seconds, made beforehand.

A schedule never looks at the server: a slow answer delays no later request, so the wait that it
causes is measured (no coordinated omission). Pure; the same seed gives the same schedule.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from corral_loadtest.command_line import read_file
from corral_loadtest.specification import ArrivalKind, OpenLoop, WrongInput

Offsets = NDArray[np.float64]


def constant(rate_per_s: float, duration_s: float) -> Offsets:
    """Requests at equal distances, the first at 0; shape [n], all below ``duration_s``."""
    count = int(np.ceil(rate_per_s * duration_s - 1e-9))
    return np.arange(count, dtype=np.float64) / rate_per_s


def poisson(rate_per_s: float, duration_s: float, seed: int = 0) -> Offsets:
    """A Poisson process: independent exponential gaps; ascending, shape [n]."""
    random = np.random.default_rng(seed)
    mean = rate_per_s * duration_s
    # Gaps are drawn in pieces until they pass the end: a fixed count would cut the process short.
    piece = int(mean + 6 * np.sqrt(mean) + 16)
    offsets = np.cumsum(random.exponential(1 / rate_per_s, piece))
    while offsets[-1] < duration_s:
        more = offsets[-1] + np.cumsum(random.exponential(1 / rate_per_s, piece))
        offsets = np.concatenate([offsets, more])
    return offsets[offsets < duration_s]


def bursts(rate_per_s: float, duration_s: float, size: int) -> Offsets:
    """``size`` requests at once, at equal distances, ``rate_per_s`` on average; shape [n]."""
    return np.repeat(constant(rate_per_s / size, duration_s), size)


def read_trace(path: str) -> Offsets:
    """Offsets of a recorded trace, one a line, moved so that the first is 0; shape [n].

    Empty lines and lines that begin with ``#`` are left out.

    Raises:
        WrongInput: the file cannot be read, holds something else, or is empty.
    """
    try:
        lines = read_file(path).decode("utf-8-sig").splitlines()
        kept = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
        offsets = np.array([float(line) for line in kept], dtype=np.float64)
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise WrongInput(f"the trace {path} cannot be read: {error}") from error
    if not len(offsets) or not np.isfinite(offsets).all():
        raise WrongInput(f"the trace {path} must hold finite arrival offsets in seconds")
    offsets = np.sort(offsets)
    start_s = float(offsets[0])
    return np.asarray(offsets - start_s, dtype=np.float64)


def at_rate(offsets: Offsets, rate_per_s: float) -> Offsets:
    """The same trace, played so that its mean rate is ``rate_per_s``."""
    length_s = float(offsets[-1])
    if length_s <= 0:
        raise WrongInput("a trace whose arrivals are all at once has no rate to change")
    return offsets * ((len(offsets) - 1) / rate_per_s / length_s)


def schedule(load: OpenLoop, duration_s: float) -> Offsets:
    """The offsets of an open loop; a trace is played once, whatever ``duration_s``.

    Raises:
        WrongInput: no rate or no trace was given where one is needed.
    """
    if load.arrivals is ArrivalKind.TRACE:
        if load.trace is None:
            raise WrongInput("a trace needs its file")
        offsets = read_trace(load.trace)
        return at_rate(offsets, load.rate_per_s) if load.rate_per_s else offsets
    if load.rate_per_s is None:
        raise WrongInput(f"{load.arrivals} arrivals need a rate")
    if load.arrivals is ArrivalKind.POISSON:
        return poisson(load.rate_per_s, duration_s, load.seed)
    if load.arrivals is ArrivalKind.BURSTS:
        return bursts(load.rate_per_s, duration_s, load.burst)
    return constant(load.rate_per_s, duration_s)


def part(offsets: Offsets, index: int, parts: int) -> Offsets:
    """What generator ``index`` of ``parts`` sends: together they send the whole schedule."""
    return offsets[index::parts]
