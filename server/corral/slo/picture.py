"""The 99th percentile by rate as a PNG, drawn by matplotlib where it is installed."""

from __future__ import annotations

import io
from pathlib import Path

from corral import extras
from corral.settings.files import write_bytes
from corral.slo.report import TuneReport

_COLOURS = ("#2a6fb0", "#c2571a", "#3f8f4f", "#8c4fa3", "#a88a10", "#3a8f95")
_INK, _SOFT, _BOUND = "#1c2733", "#5b6875", "#b3261e"
_HEADROOM = 1.5


def write(report: TuneReport, file: Path) -> str:
    """Writes the picture; returns why there is nothing to write, or nothing.

    Raises:
        CorralError: the disk is full, or the file cannot be written any more.
    """
    if not report.curves:
        return "nothing is predicted, so there is no chart"
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return f"the chart as PNG needs matplotlib: {extras.install('ladder')} brings it"
    figure = Figure(figsize=(10, 5.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    front = report.pareto
    axes.plot(
        [p.rate for p in front],
        [p.p99_ms for p in front],
        color=_SOFT,
        alpha=0.2,
        linewidth=10,
        solid_capstyle="round",
        label="the lowest of all, predicted",
    )
    for curve, colour in zip(report.curves, _COLOURS, strict=False):
        if curve:
            rates, heights = [p.rate for p in curve], [p.p99_ms for p in curve]
            axes.plot(rates, heights, color=colour, label=curve[0].name)
    label = "measured, with 90 % of its p99"
    for row in report.measured:
        seen = row.measured
        assert seen
        low, high = seen.p99_interval_ms
        ends = [[max(0.0, seen.p99_ms - low)], [max(0.0, high - seen.p99_ms)]]
        axes.errorbar([seen.offered], [seen.p99_ms], yerr=ends, fmt="o", color=_INK, label=label)
        label = ""
    axes.axhline(report.p99_ms, color=_BOUND, linestyle="--", linewidth=1)
    words = f" the bound, {report.p99_ms:g} ms"
    axes.text(0, report.p99_ms * 1.02, words, color=_BOUND, fontsize=9)
    axes.set_ylim(0, report.p99_ms * _HEADROOM)
    axes.set_xlim(left=0)
    axes.set_xlabel("requests/s")
    axes.set_ylabel("p99, ms")
    axes.set_title(f"{report.model}, {report.arrivals} arrivals, {report.cpu}", loc="left",
                   fontsize=10)  # fmt: skip
    axes.grid(visible=True, alpha=0.3)
    figure.legend(fontsize=8, loc="outside lower center", ncols=2, frameon=False)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=150)
    write_bytes(file, "--html", drawn.getvalue())
    return ""
