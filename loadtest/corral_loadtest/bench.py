"""The main job's benchmark: served against raw, the data path against a bare server.

``python -m corral_loadtest.bench`` runs everything interleaved in one go, several rounds, with
perf_analyzer unmodified as the client, and prints medians and ratios. The client's CPU is part of
the machine's budget.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from corral_loadtest import perf_analyzer
from corral_loadtest.processes import free_port, serving

_SERVE = ("serve", "--log-level", "warning", "--metrics-port", "0")


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure: what was measured, in rounds, and what it is compared with."""

    name: str
    unit: str
    values: list[float]
    against: str | None = None


def _corral(binary: str, port: int, *options: str) -> list[str]:
    return [binary, *_SERVE, "--port", str(port), *options]


def _bare(port: int, datatype: str) -> list[str]:
    return [sys.executable, "-m", "corral_loadtest.bare", str(port), datatype]


def _raw(xml: str, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "corral_loadtest.raw", xml, str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    answer: dict[str, float] = json.loads(done.stdout)
    return answer


def _prepare(corral: str, model_options: list[str]) -> str:
    done = subprocess.run(
        [corral, "prepare", *model_options], stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout.split()[-1]


def run(options: argparse.Namespace) -> list[Row]:
    """Runs all rounds; returns the rows of the table."""
    binary = perf_analyzer.install(Path(options.home))
    window_ms = int(options.seconds * 1000)
    values: dict[str, list[float]] = defaultdict(list)

    def load(prefix: str, port: int, model: str, clients: int) -> None:
        found = perf_analyzer.measure(binary, f"127.0.0.1:{port}", model, clients, window_ms)
        values[f"{prefix}, {clients} clients, requests/s"].append(found.requests_per_s)
        values[f"{prefix}, {clients} clients, p50 ms"].append(found.p50_ms)

    steps: list[Callable[[], None]] = []
    with contextlib.ExitStack() as stack:

        def start(command: Callable[[int], list[str]]) -> int:
            port = free_port()
            stack.enter_context(serving(command(port), port))
            return port

        if "model" in options.parts:
            model_options = ["--backend", "openvino", "--precision", options.precision]
            xml = _prepare(options.corral, model_options)
            # Two workers that share nothing answer the most; one on both cores answers soonest.
            many = ["--mode", "throughput", *options.throughput_args.split()]
            throughput = start(lambda p: _corral(options.corral, p, *model_options, *many))
            rti = start(lambda p: _corral(options.corral, p, *model_options))

            def raw() -> None:
                found = _raw(xml, 3 * options.seconds)
                values["raw, requests/s"].append(found["images_per_s"])
                values["raw, p50 ms"].append(found["p50_ms"])

            steps += [
                raw,
                lambda: load("served throughput", throughput, "resnet50", 16),
                lambda: load("served rti", rti, "resnet50", 16),
                lambda: load("served rti", rti, "resnet50", 1),
            ]
        if "null" in options.parts:
            null = start(lambda p: _corral(options.corral, p, "--backend", "null"))
            for datatype, model in (("FP32", "resnet50"), ("UINT8", "resnet50_uint8")):
                bare = start(lambda p, d=datatype: _bare(p, d))  # type: ignore[misc]
                for clients in (17, 1):
                    steps += [
                        lambda b=bare, d=datatype, m=model, c=clients: load(f"bare {d}", b, m, c),  # type: ignore[misc]
                        lambda d=datatype, m=model, c=clients: load(f"null {d}", null, m, c),  # type: ignore[misc]
                    ]
        for number in range(options.rounds):
            for step in steps:
                step()
            print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    return [
        Row(name, "", found, _reference(name, values)) for name, found in sorted(values.items())
    ]


def _reference(name: str, values: dict[str, list[float]]) -> str | None:
    """What a figure is compared with: the raw engine, or the bare server in the same place."""
    what = name.rsplit(", ", 1)[1]
    other = f"raw, {what}" if name.startswith("served") else name.replace("null", "bare", 1)
    return other if other in values and other != name else None


def table(rows: list[Row]) -> str:
    """The rows as Markdown: median, range, and the median of the rounds' ratios."""
    by_name = {row.name: row for row in rows}
    lines = [
        "| what | median | range | ratio to | difference |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        compared = difference = ""
        if row.against:
            pairs = list(zip(row.values, by_name[row.against].values, strict=True))
            ratio = statistics.median(a / b for a, b in pairs)
            compared = f"{ratio:.3f} x {row.against.split(',')[0]}"
            if row.name.endswith("ms"):
                difference = f"{statistics.median(a - b for a, b in pairs):+.2f} ms"
        lines.append(
            f"| {row.name} | {statistics.median(row.values):.2f} "
            f"| {min(row.values):.2f} to {max(row.values):.2f} | {compared} | {difference} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Entry of the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="interleaved repeats")
    parser.add_argument("--seconds", type=float, default=3.0, help="of one measurement window")
    parser.add_argument("--precision", default="int8", help="of the served and the raw model")
    parser.add_argument(
        "--throughput-args", default="--workers 2", help="options of the throughput server"
    )
    parser.add_argument("--parts", nargs="+", default=["model", "null"], choices=["model", "null"])
    parser.add_argument("--corral", default=str(Path(sys.executable).parent / "corral"))
    parser.add_argument("--home", default=".cache/perf_analyzer", help="perf_analyzer's folder")
    parser.add_argument("--json", type=Path, help="write every round's figures here")
    options = parser.parse_args()
    rows = run(options)
    print(table(rows))
    if options.json:
        report = {
            "machine": platform.processor() or platform.machine(),
            "rounds": options.rounds,
            "values": {row.name: row.values for row in rows},
        }
        options.json.write_text(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
