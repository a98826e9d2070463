"""Plots of results as SVG text, drawn with matplotlib's own figure: no display, no state."""

from __future__ import annotations

import io
from typing import Any

from corral_loadtest.report.tables import load_text
from corral_loadtest.result import Ramp, Result
from corral_loadtest.specification import ClosedLoop

BLUE, ORANGE, RED, GREY = "#1f5fa8", "#d9822b", "#c23b3b", "#8a94a0"
_STYLE = {
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "grid.color": "#e4e8ec",
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "legend.frameon": False,
    "svg.hashsalt": "corral",
    "svg.fonttype": "path",
}


def _figure(rows: int = 1, height_in: float = 3.4) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.6, height_in), layout="constrained")
    return figure, figure.subplots(rows, 1, sharex=True)


def _svg(figure: Any) -> str:
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _styled() -> Any:
    import matplotlib as mpl

    return mpl.rc_context(_STYLE)  # type: ignore[arg-type, unused-ignore]


def _plain(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def percentile_curve(found: Result) -> str:
    """Latency over percentile, the tail stretched: every nine takes the same width."""
    with _styled():
        figure, axes = _figure()
        inside = [(p, ms) for p, ms in found.percentiles if p < 100]
        axes.plot([1 / (1 - p / 100) for p, _ in inside], [ms for _, ms in inside], color=BLUE,
                  linewidth=2, marker="o", markersize=3, label="measured")  # fmt: skip
        if found.floor:
            axes.axhline(found.floor.p99_ms, color=ORANGE, linestyle="--", linewidth=1.2,
                         label=f"p99 of queueing alone, {found.floor.p99_ms:,.2f} ms")  # fmt: skip
            axes.legend(loc="upper left")
        axes.set_xscale("log")
        last = max((1 / (1 - p / 100) for p, _ in inside), default=10)
        ticks = [t for t in (1, 2, 10, 100, 1000, 10_000, 100_000) if t <= last * 1.01]
        axes.set_xticks(ticks, [f"{100 * (1 - 1 / t):g}" for t in ticks])
        axes.minorticks_off()
        axes.set_ylim(bottom=0)
        axes.set_xlabel("percentile")
        axes.set_ylabel("latency, ms")
        axes.set_title("Latency percentiles")
        return _svg(figure)


def timeline(found: Result) -> str:
    """Answers, errors and latency over time; what is grey was warm-up or came after."""
    with _styled():
        figure, (top, bottom) = _figure(2, 5.2)
        window_s = found.specification.window_s
        at_s = [interval.at_s for interval in found.timeline]
        middle_s = [at + window_s / 2 for at in at_s]
        answered = [interval.answered / window_s for interval in found.timeline]
        top.plot(middle_s, answered, color=BLUE, linewidth=1.6, label="answered OK")
        statuses = sorted({s for interval in found.timeline for s in interval.errors})
        floor = [0.0] * len(at_s)
        for number, status in enumerate(statuses):
            rates = [interval.errors.get(status, 0) / window_s for interval in found.timeline]
            top.bar(middle_s, rates, width=window_s * 0.9, bottom=floor, label=status,
                    color=(RED, ORANGE, "#7a4fa3", GREY)[number % 4], alpha=0.85)  # fmt: skip
            floor = [a + b for a, b in zip(floor, rates, strict=True)]
        for name, color in (("p50_ms", BLUE), ("p99_ms", ORANGE)):
            values = [getattr(interval, name) for interval in found.timeline]
            shown = [float("nan") if value is None else value for value in values]
            bottom.plot(middle_s, shown, color=color, linewidth=1.6, label=name[:3])
        begin_s, end_s = found.warm_up_s, found.warm_up_s + found.measured_s
        for axes in (top, bottom):
            axes.axvspan(0, begin_s, color="#eef1f4", zorder=0)
            axes.axvspan(end_s, max([*at_s, 0]) + window_s, color="#eef1f4", zorder=0)
            axes.set_ylim(bottom=0)
            axes.margins(x=0)
            axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        top.set_ylabel("requests/s")
        top.set_title("Timeline (grey: not measured)")
        bottom.set_ylabel("latency, ms")
        bottom.set_xlabel("seconds since the first request")
        return _svg(figure)


def _load(step: Result) -> float:
    load = step.specification.load
    return load.clients if isinstance(load, ClosedLoop) else step.offered_per_s


def throughput_latency(found: Ramp) -> str:
    """Latency over throughput, a point a step."""
    with _styled():
        figure, axes = _figure(1, 4.2)
        # In order of load, which a search for the highest rate does not take its steps in.
        steps = sorted((step for step in found.steps if step.latency), key=_load)
        rates = [step.requests_per_s for step in steps]
        for name, color in (("p50_ms", BLUE), ("p99_ms", ORANGE)):
            values = [getattr(step.latency, name) for step in steps]
            axes.plot(rates, values, color=color, linewidth=1.8, marker="o", markersize=5,
                      label=name[:3])  # fmt: skip
        for step, rate in zip(steps, rates, strict=True):
            assert step.latency
            axes.annotate(load_text(step.specification), (rate, step.latency.p99_ms), fontsize=8,
                          xytext=(-6, 5), textcoords="offset points", color="#4a545e",
                          ha="right")  # fmt: skip
        if found.capacity_per_s:
            axes.axvline(found.capacity_per_s, color=GREY, linestyle="--", linewidth=1,
                         label=f"capacity {found.capacity_per_s:,.0f}/s")  # fmt: skip
        axes.set_yscale("log")
        _plain(axes.yaxis)
        axes.set_xlim(left=0)
        axes.margins(y=0.15)
        axes.set_xlabel("answered requests/s")
        axes.set_ylabel("latency, ms")
        axes.set_title("Throughput and latency")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        return _svg(figure)
