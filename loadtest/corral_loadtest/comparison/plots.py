"""The comparison's plots, as SVG and PNG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from corral_loadtest.comparison.report import Comparison, Row, rows, stem
from corral_loadtest.comparison.rounds import IDLE, SHARES, share_name

_OURS, _RAW, _OTHERS = "#c2410c", "#334155", "#94a3b8"
_DOTS = ("#64748b", "#0284c7", "#be123c")
_STYLE: dict[str, Any] = {
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e2e8f0",
    "axes.titlelocation": "left",
    "svg.hashsalt": "corral",
}


def _color(row: Row) -> str:
    if row.name.startswith("corral"):
        return _OURS
    return _RAW if row.name in ("raw", "benchmark_app") else _OTHERS


def write(found: Comparison, folder: Path) -> list[Path]:
    """Writes both plots in both forms; returns the files."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    titles = {one.name: one for one in found.subjects}
    shown = [row for row in rows(found) if row.name not in titles or titles[row.name].computes]
    written = []
    with mpl.rc_context(_STYLE):
        for name, draw in (("capacity", _capacity), ("latency", _latency)):
            figure = Figure(figsize=(9, 1.2 + 0.42 * len(shown)), layout="constrained")
            draw(figure, shown)
            for form in ("svg", "png"):
                path = folder / f"{stem(found)}-{name}.{form}"
                metadata = {"Date": None} if form == "svg" else None
                figure.savefig(path, dpi=110, metadata=metadata)
                written.append(path)
    return written


def _capacity(figure: Any, shown: list[Row]) -> None:
    ordered = sorted(shown, key=lambda row: row.per_s)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[3, 2])
    names = [row.title for row in ordered]
    left.barh(names, [row.per_s for row in ordered], color=[_color(r) for r in ordered])
    for place, row in enumerate(ordered):
        left.plot(row.range_per_s, [place, place], color="black", linewidth=1)
        # Beyond the range, which would cross out a label at the bar's own end.
        end = (max(row.per_s, row.range_per_s[1]), place)
        left.annotate(
            f"{row.per_s:.1f}", end, xytext=(4, 0), textcoords="offset points", va="center"
        )
    left.set_title("Requests a second, all rounds' range in black")
    left.margins(x=0.12)
    left.grid(visible=False, axis="y")
    known = [row.cpu_ms or 0.0 for row in ordered]
    bars = right.barh(names, known, color=[_color(row) for row in ordered])
    right.bar_label(bars, labels=[f"{ms:.1f}" if ms else "" for ms in known], padding=3)
    right.set_title("CPU ms a request")
    right.margins(x=0.16)
    right.grid(visible=False, axis="y")


def _latency(figure: Any, shown: list[Row]) -> None:
    from matplotlib.ticker import FuncFormatter

    with_latency = [row for row in shown if row.latency_ms]
    ordered = sorted(with_latency, key=lambda row: -row.latency_ms[IDLE][0])
    axis = figure.subplots()
    for load, color in zip((IDLE, *map(share_name, SHARES)), _DOTS, strict=True):
        places = [place for place, row in enumerate(ordered) if load in row.latency_ms]
        p50 = [ordered[place].latency_ms[load][0] for place in places]
        p99 = [ordered[place].latency_ms[load][1] for place in places]
        label = load if load == IDLE else f"{load} of raw"
        axis.plot(p50, places, "o", color=color, fillstyle="none", label=f"{label}, p50")
        axis.plot(p99, places, "o", color=color, label=f"{label}, p99")
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_yticks(range(len(ordered)), [row.title for row in ordered])
    for place, row in enumerate(ordered):
        if row.name.startswith("corral"):
            axis.get_yticklabels()[place].set_color(_OURS)
    axis.set_xlabel("ms, logarithmic")
    axis.set_title("Latency, idle and under Poisson arrivals")
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
