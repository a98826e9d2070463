"""The 99th percentile by rate as SVG: curves, front, bound, and what was measured. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from corral.pages.document import text
from corral.slo.report import CurvePoint, TuneReport

_WIDTH, _HEIGHT = 980, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 24, 20, 48
COLOURS = ("one", "two", "three", "four", "five", "six")
#: the chart ends above the bound by this factor
_HEADROOM = 1.5
_TICKS = 5


def draw(report: TuneReport) -> str:
    """The chart; empty where nothing is predicted."""
    if not report.curves:
        return ""
    chart = _Chart(report)
    parts = [chart.axes(), chart.bound(report.p99_ms)]
    parts += [chart.curve(c, name) for c, name in zip(report.curves, COLOURS, strict=False)]
    parts.append(chart.front(report.pareto))
    parts += [
        chart.measured(row.name, row.measured.offered, row.measured.p99_ms,
                       row.measured.p99_interval_ms)
        for row in report.measured
        if row.measured
    ]  # fmt: skip
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" '
        'aria-label="99th percentile by rate">'
        "<style>text{font:12px system-ui,sans-serif;fill:var(--soft)}</style>"
        f"{''.join(parts)}</svg>"
    )


def legend(report: TuneReport) -> str:
    """Which colour is which configuration, as HTML."""
    items = "".join(
        f'<span class="key"><i style="background:var(--{colour})"></i>{text(curve[0].name)}</span>'
        for curve, colour in zip(report.curves, COLOURS, strict=False)
        if curve
    )
    return (
        f'<p class="legend">{items}<span class="key"><i class="pale"></i>the lowest of all</span>'
        '<span class="key"><i class="dot"></i>measured, with 90 % of its p99</span></p>'
    )


class _Chart:
    """Two scales from 0 that hold all points."""

    def __init__(self, report: TuneReport) -> None:
        rates = [point.rate for curve in report.curves for point in curve]
        rates += [row.measured.offered for row in report.measured if row.measured]
        self._most_rate = _round_up(max(rates))
        self._most_ms = _round_up(report.p99_ms * _HEADROOM)

    def _at(self, rate: float, ms: float) -> tuple[float, float]:
        x = _LEFT + rate / self._most_rate * (_WIDTH - _LEFT - _RIGHT)
        y = min(ms, self._most_ms) / self._most_ms * (_HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(_HEIGHT - _BOTTOM - y, 1)

    def axes(self) -> str:
        """Grid and names."""
        parts = []
        for i in range(_TICKS + 1):
            rate, ms = self._most_rate * i / _TICKS, self._most_ms * i / _TICKS
            x, bottom = self._at(rate, 0)
            left, y = self._at(0, ms)
            parts.append(f'<path d="M{left} {y}H{_WIDTH - _RIGHT}" stroke="var(--line)"/>')
            parts.append(f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{ms:g}</text>')
            parts.append(f'<text x="{x}" y="{bottom + 18}" text-anchor="middle">{rate:g}</text>')
        parts.append(
            f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">requests/s</text>'
        )
        parts.append(f'<text x="{_LEFT + 6}" y="{_TOP - 6}">p99, ms</text>')
        return "".join(parts)

    def bound(self, bound_ms: float) -> str:
        """The bound as a dashed line."""
        left, y = self._at(0, bound_ms)
        return (
            f'<path d="M{left} {y}H{_WIDTH - _RIGHT}" stroke="var(--error)" stroke-width="1.5" '
            f'stroke-dasharray="6 4"/><text x="{_LEFT + 6}" y="{y - 6}" '
            f'style="fill:var(--error)">the bound, {bound_ms:g} ms</text>'
        )

    def curve(self, curve: Sequence[CurvePoint], colour: str) -> str:
        """A configuration's predictions."""
        line = self._line(curve)
        return f'<path d="{line}" fill="none" stroke="var(--{colour})" stroke-width="2"/>'

    def front(self, front: Sequence[CurvePoint]) -> str:
        """The lowest of all, broad and pale below the curves."""
        line = self._line(front)
        return (
            f'<path d="{line}" fill="none" stroke="var(--soft)" stroke-width="9" '
            'stroke-opacity=".18" stroke-linecap="round" stroke-linejoin="round"/>'
        )

    def _line(self, points: Sequence[CurvePoint]) -> str:
        places = [self._at(point.rate, point.p99_ms) for point in points]
        return "M" + "L".join(f"{x} {y}" for x, y in places)

    def measured(self, name: str, rate: float, ms: float, interval_ms: Sequence[float]) -> str:
        """A point with its interval."""
        x, y = self._at(rate, ms)
        _, low = self._at(rate, interval_ms[0])
        _, high = self._at(rate, interval_ms[1])
        title = text(f"{name}: {ms:.1f} ms at {rate:.1f}/s")
        if ms > self._most_ms:
            return (
                f'<path d="M{x - 5} {y + 9}L{x} {y}L{x + 5} {y + 9}Z" fill="var(--ink)">'
                f"<title>{title}</title></path>"
                f'<text x="{x - 8}" y="{y + 10}" text-anchor="end">{ms:.1f} ms</text>'
            )
        return (
            f'<path d="M{x} {low}V{high}" stroke="var(--ink)" stroke-width="1.5"/>'
            f'<circle cx="{x}" cy="{y}" r="4" fill="var(--ink)"><title>{title}</title></circle>'
        )


def _round_up(value: float) -> float:
    """The next number whose fifths are short."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    for step in (1, 1.5, 2, 2.5, 3, 4, 5, 6, 7.5, 10):
        if step * power >= value:
            return round(step * power, 9)
    return 10 * power
