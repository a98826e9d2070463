"""Why a configuration is not the winner, one sentence each. Pure."""

from __future__ import annotations

from corral.slo.forecast import Forecast
from corral.slo.report import CandidateRow, Winner
from corral.slo.space import Configuration

#: rates that are nearer than this share are told as equal
_ALIKE = 0.005


def why_lost(
    one: Configuration,
    row: CandidateRow,
    winner: Winner | None,
    forecast: Forecast,
    bound_ms: float,
) -> str:
    """The sentence; empty for the winner, and where nobody has won."""
    if winner is None or row.settings.items() <= winner.settings.items():
        return ""
    measured, keeps = row.measured, "keeps" if winner.confirmed else "may keep"
    if measured is not None and not measured.rate:
        return (
            f"at {measured.offered:.1f}/s its p99 may be {measured.p99_interval_ms[1]:.1f} ms, "
            f"above {bound_ms:g} ms, and the winner {keeps} {winner.rate:.1f}/s"
        )
    if measured is not None:
        behind = 1 - measured.rate / winner.rate
        if behind < _ALIKE:
            return f"it kept {measured.rate:.1f}/s, as much as the winner"
        return f"it kept {measured.rate:.1f}/s, {behind:.0%} less than the winner"
    if row.predicted is None:
        return ""
    told = f"it is predicted to keep {row.predicted.rate:.1f}/s"
    # The winner's figure is a lower end; a prediction has none.
    behind = 1 - row.predicted.rate / winner.rate
    if behind >= _ALIKE:
        told += f", {behind:.0%} less than the winner {keeps}"
    elif not (winner.confirmed or winner.rate_interval[0]):
        told += ", as good as the winner's rate; that carries more at any latency, or is simpler"
    elif behind <= -_ALIKE:
        told += ", but was not put under load: what was measured decides, not what is predicted"
    else:
        told += f", as much as the winner {keeps}"
    most = forecast.most_per_s(one)
    if most is not None and most <= winner.rate:
        told += f"; its workers make at most {most:.1f}/s"
    return told


def too_slow(bound_s: float, least_s: float, where: str, source: str = "") -> str:
    """Why no rate keeps a bound: one inference takes longer.

    Args:
        bound_s: of the latency.
        least_s: what one inference takes.
        where: that is so: engine and workers.
        source: of what was measured at another time, in words.
    """
    return (
        f"--p99-ms {bound_s * 1000:g}: one inference takes {least_s * 1000:.1f} ms here "
        f"({where}){source}; no rate keeps that bound"
    )
