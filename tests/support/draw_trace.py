"""Draws traces as a collector received them: ``python -m support.draw_trace FILE``.

In tests/; further words are options of ``corral serve``. Three clients ask at once: a picture by
REST, and tensors by gRPC.
"""

from __future__ import annotations

import sys
import threading
import urllib.request
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from support.otlp_receiver import OtlpReceiver, ReceivedSpan
from support.running_server import running

_PICTURE = Path(__file__).parents[1] / "data/pictures/cat.jpg"
_COLOURS = {"receive": "#8ab8ff", "admit": "#c0d8ff", "decode": "#b877d9", "queue": "#ffb357",
            "batch": "#73bf69", "infer": "#37872d", "answer": "#8ab8ff"}  # fmt: skip
#: seconds
_PATIENCE_S = 300.0
_IDS = ("c" * 32, "a" * 32, "b" * 32)


def _ask(port: int, http_port: int) -> None:
    pixels = np.zeros((1, 224, 224, 3), np.uint8)
    tensor = triton.InferInput("input", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels)

    def parent(trace_id: str) -> dict[str, str]:
        return {"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"}

    def by_grpc(trace_id: str) -> None:
        with triton.InferenceServerClient(f"127.0.0.1:{port}") as client:
            client.infer("resnet50", [tensor], headers=parent(trace_id))

    def by_rest() -> None:
        url = f"http://127.0.0.1:{http_port}/v2/models/resnet50_image/classify"
        headers = {"Content-Type": "image/jpeg", **parent(_IDS[0])}
        asked = urllib.request.Request(url, _PICTURE.read_bytes(), headers=headers)
        urllib.request.urlopen(asked, timeout=20).read()

    threads = [threading.Thread(target=by_rest)]
    threads += [threading.Thread(target=by_grpc, args=(name,)) for name in _IDS[1:]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _depth(span: ReceivedSpan, spans: dict[str, ReceivedSpan]) -> int:
    parent = spans.get(span.parent_id)
    return 0 if parent is None else 1 + _depth(parent, spans)


def draw(found: list[ReceivedSpan], file: Path) -> None:
    """A row a span, those of a trace below one another."""
    zero_ns = min(span.start_ns for span in found)
    by_id = {span.span_id: span for span in found}
    figure = Figure(figsize=(13, 0.34 * len(found) + 1.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    labels: list[str] = []
    traces = sorted({s.trace_id for s in found}, key=lambda t: min(
        s.start_ns for s in found if s.trace_id == t))  # fmt: skip
    for trace_id in traces:
        spans = [span for span in found if span.trace_id == trace_id]
        for span in sorted(spans, key=lambda s: (s.start_ns, -s.end_ns)):
            y = len(labels)
            start_ms, wide_ms = (span.start_ns - zero_ns) / 1e6, (span.end_ns - span.start_ns) / 1e6
            colour = _COLOURS.get(span.name, "#5794f2")
            axes.barh(y, max(wide_ms, 0.03), left=start_ms, height=0.7, color=colour)
            text = f" {wide_ms:.2f} ms"
            if span.name == "batch":
                text += (
                    f"   worker {span.attributes['corral.worker']} "
                    f"({span.attributes['corral.worker.cores']} cores), "
                    f"{span.attributes['corral.batch.size']} in the batch"
                )
            axes.text(start_ms + wide_ms, y, text, va="center", fontsize=8)
            name = span.name.removeprefix("inference.")
            labels.append("    " * _depth(span, by_id) + name)
        axes.axhline(len(labels) - 0.5, color="#dddddd", lw=0.8)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    for label in axes.get_yticklabels():
        label.set_horizontalalignment("left")
    axes.tick_params(axis="y", pad=200, length=0)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    last_ms = max(span.end_ns - zero_ns for span in found) / 1e6
    axes.set_xlim(0, last_ms * 1.32)
    axes.set_xlabel("milliseconds since the first request came")
    axes.grid(axis="x", color="#eeeeee")
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    figure.savefig(file, dpi=100)


def main() -> None:
    """Serves, asks, receives, draws."""
    file, words = Path(sys.argv[1]), sys.argv[2:]
    command = [sys.executable, "-m", "corral", "serve", "--port", "0", "--metrics-port", "0"]
    with OtlpReceiver() as receiver:
        traced = ["--otlp-endpoint", receiver.endpoint, "--trace-rate", "0"]
        with running([*command, *traced, *words], ready=False) as server:
            # A model may have to be prepared first.
            server.wait_until_ready(_PATIENCE_S)
            for _ in range(3):
                _ask(server.port, server.http_port)
            for trace_id in _IDS:
                receiver.trace(trace_id, least=3 * 7)
            # The last time: nothing is cold.
            found = receiver.spans()
            last = [
                max((s for s in found if s.trace_id == trace_id and s.kind == 2),
                    key=lambda s: s.start_ns)
                for trace_id in _IDS
            ]  # fmt: skip
            began_ns = {span.trace_id: span.start_ns for span in last}
            draw([span for span in found if span.start_ns >= began_ns[span.trace_id]], file)


if __name__ == "__main__":
    main()
