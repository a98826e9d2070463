"""The roofline as SVG: what bounds each operator, arithmetic or memory. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

from corral.pages.document import text
from corral.profiling.report import OperatorRow, Peak

_WIDTH, _HEIGHT = 920, 380
#: to the right there is room for the longest name of a ceiling in a wide font
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 210, 16, 44


def draw(rows: Sequence[OperatorRow], peaks: Sequence[Peak], bandwidth_gb_s: float) -> str:
    """Operators by intensity and rate, under the ceilings that were measured.

    Args:
        rows: those without both figures are left out.
        peaks: a ceiling each.
        bandwidth_gb_s: of memory.

    Returns:
        SVG; empty where no operator has both figures.
    """
    points = [row for row in rows if row.intensity and row.gflop_s]
    if not points or not peaks:
        return ""
    chart = _Chart(points, peaks)
    parts = [chart.axes()]
    parts += [chart.ceiling(peak, bandwidth_gb_s) for peak in peaks]
    parts += [chart.point(row) for row in reversed(points)]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" '
        'aria-label="roofline">'
        f"<style>text{{font:12px system-ui,sans-serif;fill:var(--soft)}}</style>{''.join(parts)}"
        "</svg>"
    )


class _Chart:
    """Two logarithmic scales that hold all points and ceilings."""

    def __init__(self, points: Sequence[OperatorRow], peaks: Sequence[Peak]) -> None:
        intensities = [row.intensity or 1.0 for row in points]
        rates = [row.gflop_s or 1.0 for row in points] + [peak.gflop_s for peak in peaks]
        self._x = (
            math.floor(math.log10(min(intensities))),
            math.ceil(math.log10(max(intensities))),
        )
        self._y = (math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates))))
        self._x = (self._x[0], max(self._x[1], self._x[0] + 1))
        self._most = max(row.us for row in points)

    def _at(self, intensity: float, rate: float) -> tuple[float, float]:
        low, high = self._x
        x = _LEFT + (math.log10(intensity) - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)
        low, high = self._y
        y = (math.log10(rate) - low) / max(1, high - low) * (_HEIGHT - _TOP - _BOTTOM)
        return round(x, 1), round(_HEIGHT - _BOTTOM - y, 1)

    def axes(self) -> str:
        """Grid and names."""
        parts = []
        for power in range(self._x[0], self._x[1] + 1):
            x, bottom = self._at(10.0**power, 10.0 ** self._y[0])
            parts.append(f'<path d="M{x} {_TOP}V{bottom}" stroke="var(--line)" fill="none"/>')
            parts.append(
                f'<text x="{x}" y="{bottom + 16}" text-anchor="middle">{10.0**power:g}</text>'
            )
        for power in range(self._y[0], self._y[1] + 1):
            left, y = self._at(10.0 ** self._x[0], 10.0**power)
            parts.append(f'<path d="M{left} {y}H{_WIDTH - _RIGHT}" stroke="var(--line)"/>')
            parts.append(
                f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{10.0**power:g}</text>'
            )
        parts.append(
            f'<text x="{_LEFT}" y="{_HEIGHT - 6}">operations a byte; circles by time</text>'
        )
        parts.append(f'<text x="{_LEFT + 6}" y="{_TOP + 12}">GFLOP/s</text>')
        return "".join(parts)

    def ceiling(self, peak: Peak, bandwidth_gb_s: float) -> str:
        """Memory's slope up to the arithmetic's roof."""
        low = 10.0 ** self._x[0]
        high = 10.0 ** self._x[1]
        knee = min(max(peak.gflop_s / bandwidth_gb_s, low), high)
        x1, y1 = self._at(low, max(min(peak.gflop_s, bandwidth_gb_s * low), 10.0 ** self._y[0]))
        x2, y2 = self._at(knee, peak.gflop_s)
        x3, y3 = self._at(high, peak.gflop_s)
        name = text(f"{peak.precision} {peak.isa}: {peak.gflop_s:,.0f}")
        return (
            f'<path d="M{x1} {y1}L{x2} {y2}L{x3} {y3}" stroke="var(--soft)" stroke-width="1.5" '
            f'fill="none"/><text x="{x3 + 6}" y="{y3 + 4}">{name}</text>'
        )

    def point(self, row: OperatorRow) -> str:
        """One operator; its area is its time."""
        x, y = self._at(row.intensity or 1.0, row.gflop_s or 1.0)
        radius = round(3 + 9 * math.sqrt(row.us / self._most), 1)
        share = f", {row.peak_percent:.0f} % of the peak" if row.peak_percent else ""
        title = text(f"{row.name} {row.type}: {row.us:,.0f} µs, {row.gflop_s:,.0f} GFLOP/s{share}")
        return (
            f'<circle cx="{x}" cy="{y}" r="{radius}" fill="var(--one)" fill-opacity=".55" '
            f'stroke="var(--one)"><title>{title}</title></circle>'
        )
