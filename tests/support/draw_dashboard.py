"""Draws deploy/grafana-dashboard.json's panels from what a real Prometheus scraped of a server.

``python -m support.draw_dashboard FILE [OPTIONS OF corral serve]``, in tests/.
Grafana itself is in no registry that the project uses: the panels' places, titles, units and
expressions are the dashboard's, the lines are matplotlib's.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.dates import AutoDateLocator, DateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FuncFormatter

from support.otlp_receiver import OtlpReceiver
from support.prometheus import Prometheus, filled, panels, scraping
from support.running_server import Server, running

#: clients at once, for so many seconds each
_LOAD = ((1, 20), (2, 20), (4, 20), (8, 20), (16, 20), (2, 20))
_WINDOW = "15s"
_STEP_S = 2.0
_PATIENCE_S = 300.0
#: matplotlib's dates are days since 1970
_DAY_S = 86_400.0
_UNITS = {
    "s": EngFormatter("s"),
    "percentunit": FuncFormatter(lambda share, _: f"{100 * share:.3g} %"),
    "bytes": EngFormatter("B"),
}
_COLOURS = ("#3274d9", "#e0b400", "#56a64b", "#e02f44", "#8f3bb8", "#ff780a", "#37b0c9", "#7a5c3e",
            "#e377c2", "#5d6470")  # fmt: skip
#: letters of a panel's longest legend with which three stand side by side
_SHORT = 16
#: with more than these, two stand side by side in smaller ones
_LONG = 28


def load(server: Server) -> Iterator[threading.Thread]:
    """Clients that come and go; some have deadlines too short."""
    pixels = np.zeros((1, 224, 224, 3), np.uint8)
    tensor = triton.InferInput("input", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels)
    began_s = time.monotonic()
    whole_s = sum(seconds for _, seconds in _LOAD)

    def wanted() -> int:
        passed_s = time.monotonic() - began_s
        for clients, seconds in _LOAD:
            if passed_s < seconds:
                return clients
            passed_s -= seconds
        return 0

    def client_loop(number: int) -> None:
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            while time.monotonic() - began_s < whole_s:
                if number >= wanted():
                    time.sleep(0.05)
                    continue
                try:
                    timeout_s = 0.08 if number == 15 else 20
                    client.infer("resnet50", [tensor], client_timeout=timeout_s)
                except triton.InferenceServerException:
                    time.sleep(0.01)

    for number in range(max(clients for clients, _ in _LOAD)):
        thread = threading.Thread(target=client_loop, args=(number,))
        thread.start()
        yield thread


def draw(found: Prometheus, start_s: float, end_s: float, file: Path) -> None:
    """Draws every panel of the dashboard over a time."""
    boards = panels()
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in boards)
    figure = Figure(figsize=(15, rows * 0.42), facecolor="#f4f5f5")
    FigureCanvasAgg(figure)
    for panel in boards:
        place = panel["gridPos"]
        box = (
            (place["x"] + 1.4) / 24.6,
            1 - (place["y"] + place["h"] - 1.5) / (rows + 0.4),
            (place["w"] - 1.8) / 24.6,
            (place["h"] - 2.6) / (rows + 0.4),
        )
        _panel(figure.add_axes(box), panel, found, start_s, end_s)
    figure.savefig(file, dpi=100)


def _panel(
    axes: Axes, panel: dict[str, Any], found: Prometheus, start_s: float, end_s: float
) -> None:
    axes.set_title(panel["title"], loc="left", fontsize=11, fontweight="bold")
    colours = itertools.cycle(_COLOURS)
    for target in panel["targets"]:
        expression = filled(target["expr"], window=_WINDOW)
        for series in found.ask_range(expression, start_s, end_s, _STEP_S):
            legend = target.get("legendFormat", "")
            for label, text in series["metric"].items():
                legend = legend.replace("{{" + label + "}}", text)
            points = [(at_s, float(text)) for at_s, text in series["values"]]
            days = [at_s / _DAY_S for at_s, _ in points]
            axes.plot(days, [y for _, y in points], color=next(colours), label=legend, lw=1.6)
    unit = panel["fieldConfig"]["defaults"].get("unit", "")
    if unit in _UNITS:
        axes.yaxis.set_major_formatter(_UNITS[unit])
    if axes.lines:
        longest = max(len(str(line.get_label())) for line in axes.lines)
        columns = 3 if longest <= _SHORT else 2
        size = 7 if longest <= _LONG else 5.5
        axes.legend(loc="upper left", fontsize=size, ncols=columns, frameon=False)
    else:
        axes.text(0.5, 0.5, "No data", transform=axes.transAxes, ha="center", color="#777777")
    axes.set_xlim(start_s / _DAY_S, end_s / _DAY_S)
    axes.set_ylim(bottom=0, top=axes.get_ylim()[1] * 1.25)
    axes.xaxis.set_major_locator(AutoDateLocator(maxticks=6))
    axes.xaxis.set_major_formatter(DateFormatter("%H:%M:%S"))
    axes.tick_params(labelsize=7)
    axes.grid(color="#e4e4e4")
    axes.set_facecolor("white")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def main() -> None:
    """Serves, loads, scrapes, draws."""
    file, words = Path(sys.argv[1]), sys.argv[2:]
    command = [
        sys.executable,
        "-m",
        "corral",
        "serve",
        "--port",
        "0",
        "--metrics-port",
        "0",
        *words,
    ]
    with (
        tempfile.TemporaryDirectory() as home,
        OtlpReceiver() as receiver,
        running(
            [*command, "--otlp-endpoint", receiver.endpoint, "--access-log", f"{home}/access.log"],
            ready=False,
        ) as server,
    ):
        # A model may have to be prepared first.
        server.wait_until_ready(_PATIENCE_S)
        with scraping(server.metrics_port, Path(home)) as found:
            start_s = time.time()
            threads = list(load(server))
            for thread in threads:
                thread.join()
            draw(found, start_s, time.time(), file)


if __name__ == "__main__":
    main()
