"""From an engine's profile to rows with shares, rates and remarks. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from corral.backends.operators import Operator
from corral.profiling.report import OperatorRow, Peak, Span


def make_rows(operators: Sequence[Operator], peaks: Sequence[Peak]) -> list[OperatorRow]:
    """The operators, the slowest first.

    Args:
        operators: of one inference.
        peaks: what the CPU does at most, by precision.
    """
    whole_us = sum(operator.us for operator in operators)
    most = {peak.precision: peak.gflop_s for peak in peaks}
    rows, cumulated_us = [], 0.0
    for operator in sorted(operators, key=lambda operator: -operator.us):
        cumulated_us += operator.us
        gflop = operator.flop / 1e9 if operator.flop else None
        rate = gflop / (operator.us / 1e6) if gflop and operator.us else None
        peak = most.get(operator.precision)
        rows.append(
            OperatorRow(
                name=operator.name,
                type=operator.type,
                kernel=operator.kernel,
                isa=operator.isa,
                precision=operator.precision,
                calls=operator.calls,
                us=operator.us,
                share_percent=100 * operator.us / whole_us,
                cumulated_percent=100 * cumulated_us / whole_us,
                gflop=gflop,
                gflop_s=rate,
                peak_percent=100 * rate / peak if rate and peak else None,
                intensity=operator.flop / operator.moved_bytes
                if operator.flop and operator.moved_bytes
                else None,
                remark=remark(operator),
            )
        )
    return rows


def remark(operator: Operator) -> str:
    """What somebody could do something about."""
    if operator.is_reference:
        return "reference kernel"
    return "reorder" if operator.is_reorder else ""


def profiler_percent(rows: Sequence[OperatorRow], plain: Span) -> float | None:
    """How much more the operators take, under a profiler, than the p50 without; None: no more."""
    more = 100 * (sum(row.us for row in rows) / plain.p50_us - 1)
    return more if more >= 0 else None
