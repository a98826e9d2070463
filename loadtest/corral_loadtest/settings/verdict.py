"""What turns say of settings: p99 by rate and round, the highest rate that holds, ratios. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One rate, in one turn of one file.

    Attributes:
        p99_ms: of the answers; None without any.
        failed: requests that were refused, failed, or not answered.
        lag_ms: by which the generator was late, the 99th percentile.
    """

    p99_ms: float | None
    failed: int = 0
    lag_ms: float = 0.0

    def holds(self, bound_ms: float) -> bool:
        """Whether all requests were answered, 99 % of them within the bound."""
        return not self.failed and self.p99_ms is not None and self.p99_ms <= bound_ms


#: of a file: of each round, the rates that were offered, and what was found
Rounds = Sequence[Mapping[float, Step]]


class Ratio(msgspec.Struct, frozen=True, kw_only=True):
    """A file's highest rate by the first file's, each round's own.

    Attributes:
        median: of the rounds in which the first file kept a rate.
        least: of them.
        most: of them.
    """

    median: float
    least: float
    most: float


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One file.

    Attributes:
        file: as it was named.
        rounds: a step by rate, of each round.
        highest_per_s: rate that held in more than half of the rounds; 0 for none.
        by_round: the highest rate that held in each round; 0 for none.
        ratio: to the first file; None where that kept no rate in any round.
    """

    file: str
    rounds: list[dict[str, Step]]
    highest_per_s: float
    by_round: list[float]
    ratio: Ratio | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one run found.

    Attributes:
        machine: that everything ran on.
        command: that made it.
        p99_ms: the bound.
        rates: that were offered, requests a second, ascending.
        seconds: of one rate in one turn.
        complete: False if it was interrupted; the rounds are those that all files have.
        rows: one a file, in their order.
    """

    machine: Any
    command: str
    p99_ms: float
    rates: list[float]
    seconds: float
    complete: bool
    rows: list[Row]


def turn(files: Sequence[str], number: int) -> list[str]:
    """The order of a round, from 0: there, then back, A B B A, so that what drifts meets all."""
    return list(files[::-1] if number % 2 else files)


def highest(rounds: Rounds, bound_ms: float) -> float:
    """The highest rate that held in more than half of the rounds; 0 for none."""
    rates = {rate for steps in rounds for rate in steps}
    return max((rate for rate in rates if _holds(rounds, rate, bound_ms)), default=0.0)


def _holds(rounds: Rounds, rate: float, bound_ms: float) -> bool:
    held = sum(steps[rate].holds(bound_ms) for steps in rounds)
    return 2 * held > len(rounds)


def ratio(mine: Sequence[float], firsts: Sequence[float]) -> Ratio | None:
    """Of the highest rates by round; None where the first file kept none in any.

    Args:
        mine: of a file; 0 for a round without one.
        firsts: of the first file, of the same rounds.
    """
    found = [one / first for one, first in zip(mine, firsts, strict=True) if first]
    if not found:
        return None
    return Ratio(median=statistics.median(found), least=min(found), most=max(found))


def rows(found: Mapping[str, Rounds], bound_ms: float) -> list[Row]:
    """A row for each file.

    Args:
        found: rounds by file, the first file first; of all as many.
        bound_ms: of the latency.
    """
    by_round = {
        file: [highest([steps], bound_ms) for steps in rounds] for file, rounds in found.items()
    }
    firsts = next(iter(by_round.values()), [])
    return [
        Row(
            file=file,
            rounds=[{f"{rate:g}": step for rate, step in steps.items()} for steps in rounds],
            highest_per_s=highest(rounds, bound_ms),
            by_round=by_round[file],
            ratio=ratio(by_round[file], firsts),
        )
        for file, rounds in found.items()
    ]


def shares(per_s: float) -> list[float]:
    """Rates to try where none is named: shares of a capacity in requests a second."""
    return [_three_digits(per_s * share) for share in (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)]


def _three_digits(value: float) -> float:
    return round(value, 2 - math.floor(math.log10(value)))


def table(found: Report) -> str:
    """Two tables as Markdown: p99 by rate and round, and what follows."""
    lines = [f"| p99 ms, by round | {' | '.join(f'{rate:g}/s' for rate in found.rates)} |"]
    lines.append("| --- |" + " ---: |" * len(found.rates))
    for row in found.rows:
        cells = [
            ", ".join(_cell(steps[f"{rate:g}"], found.p99_ms) for steps in row.rounds)
            for rate in found.rates
        ]
        lines.append(f"| {row.file} | {' | '.join(cells)} |")
    lines += [
        "",
        f"| p99 <= {found.p99_ms:g} ms | requests/s, in most rounds | by round | by the first |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in found.rows:
        by_round = ", ".join(f"{rate:g}" for rate in row.by_round)
        own = row.ratio
        told = f"{own.median:.2f} ({own.least:.2f} to {own.most:.2f})" if own else "-"
        lines.append(f"| {row.file} | {row.highest_per_s:g} | {by_round} | {told} |")
    return "\n".join(lines)


def _cell(step: Step, bound_ms: float) -> str:
    p99 = "-" if step.p99_ms is None else f"{step.p99_ms:.4g}"
    failed = f" ({step.failed} failed)" if step.failed else ""
    return f"{p99}{failed}" if step.holds(bound_ms) else f"**{p99}**{failed}"
