"""The row of silence: what the first request after it takes, with workers kept warm and without."""

from __future__ import annotations

import contextlib
import statistics
import time
from collections.abc import Callable

import msgspec

from corral_loadtest.bars.background import loaded
from corral_loadtest.bars.bar import Bar, shown
from corral_loadtest.bars.bench import Bench
from corral_loadtest.bars.observed_rows import visiting

SILENCE_S = 10.0
#: silences in a round
_SILENCES = 3
#: requests one after another that the usual time is of
_USUAL = 40
#: before them, uncounted
_UNCOUNTED = 10
_MOST = 1.1
#: of another client, to whom the server is never silent
_BESIDE = ("--rate", "5", "--arrivals", "constant")
_BUSY = "busy"
_WHOSE = {_BUSY: "its client's silence, beside another client"}
_BOUNDS = {"auto": _MOST, "on": _MOST}


class Round(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of requests one after another, and of the first ones after a silence."""

    usual_s: list[float]
    first_s: list[float]

    @property
    def ratio(self) -> float:
        """The median first request by the median usual one."""
        return statistics.median(self.first_s) / statistics.median(self.usual_s)


def silence(bench: Bench) -> list[Bar]:
    """The first request after 10 s without one, by requests one after another; ``rti``.

    One server at a time: what keeps one warm keeps the machine awake. Last, a client's own silence
    while the server has another one's 5 requests a second: what no server can keep warm.
    """
    bench.prepare()
    rounds: dict[str, list[Round]] = {"off": [], "auto": [], "on": [], _BUSY: []}
    for number in range(bench.rounds):
        for name in sorted(rounds, reverse=number % 2 == 0):
            warmth = "on" if name == _BUSY else name
            options = (*bench.model_options, "--mode", "rti", "--keep-warm", warmth)
            with bench.server(*options) as server, visiting(server, clients=1) as visitor:
                usual_s = usual_ones(visitor.ask)
                others = loaded(server, *_BESIDE) if name == _BUSY else contextlib.nullcontext()
                with others:
                    first_s = first_ones(visitor.ask, time.sleep)
                rounds[name].append(Round(usual_s=usual_s, first_s=first_s))
    bars = [_bar(name, found, _BOUNDS.get(name)) for name, found in rounds.items()]
    return [*bars, *(_usual(name, rounds[name], rounds["off"]) for name in _BOUNDS)]


def usual_ones(ask: Callable[[], float]) -> list[float]:
    """Seconds of requests one after another, once the first have warmed up what they use.

    Args:
        ask: sends one request, and says how many seconds it took.
    """
    return [ask() for _ in range(_UNCOUNTED + _USUAL)][_UNCOUNTED:]


def first_ones(ask: Callable[[], float], rest: Callable[[float], None]) -> list[float]:
    """Seconds of the first requests after silences.

    Args:
        ask: sends one request, and says how many seconds it took.
        rest: waits for so many seconds.
    """
    found_s = []
    for _ in range(_SILENCES):
        rest(SILENCE_S)
        found_s.append(ask())
    return found_s


def _bar(name: str, rounds: list[Round], bound: float | None) -> Bar:
    whole = Round(
        usual_s=[each for one in rounds for each in one.usual_s],
        first_s=[each for one in rounds for each in one.first_s],
    )
    return Bar(
        row="silence",
        name=f"first request after {SILENCE_S:g} s of {_WHOSE.get(name, 'silence')} ÷ usual, p50, "
        f"keep-warm {'on' if name == _BUSY else name}",
        values=[one.ratio for one in rounds],
        bound=bound,
        at_least=False,
        pooled=whole.ratio,
        detail=f"{shown(each * 1e3 for each in whole.first_s)} ms, "
        f"usual {shown(each * 1e3 for each in whole.usual_s)} ms",
    )


def _usual(name: str, rounds: list[Round], off: list[Round]) -> Bar:
    """What keeps warm must not make the usual request slower, which would fake the ratio."""
    usual_ms, off_ms = (
        statistics.median(each for one in some for each in one.usual_s) * 1e3
        for some in (rounds, off)
    )
    return Bar(
        row="silence",
        name=f"usual request, p50, keep-warm {name} ÷ off",
        values=[
            statistics.median(one.usual_s) / statistics.median(other.usual_s)
            for one, other in zip(rounds, off, strict=True)
        ],
        bound=_MOST,
        at_least=False,
        pooled=usual_ms / off_ms,
        detail=f"{usual_ms:.4g} ms, off {off_ms:.4g} ms",
    )
