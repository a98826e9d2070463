"""Every engine served, against the same engine raw: ``corral-loadtest engines``.

For each engine and precision, a server in each mode and the raw engine (``corral lab raw``: the
worker alone, with no server around it) are up side by side and take turns, several rounds. As in
the bars, throughput is asked of the mode that is meant for it, a worker a core, and latency of
``rti``. perf_analyzer, unmodified, is the client; its CPU is part of the machine's budget.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from corral_loadtest.command_line import Parser, check_file, number, text
from corral_loadtest.generator import perf_analyzer
from corral_loadtest.result import encode
from corral_loadtest.servers import machine, process_tree
from corral_loadtest.servers.processes import free_port, serving
from corral_loadtest.specification import Rounds, Span

CLIENTS = 16
#: the bars: share of the raw engine's images/s, and milliseconds above its p50
LEAST_SHARE, MOST_ADDED_MS = 0.95, 2.0
#: options of the server by the name of a row
CASES: dict[str, list[str]] = {
    "openvino-fp32": ["--backend", "openvino", "--precision", "fp32"],
    "openvino-int8": ["--backend", "openvino", "--precision", "int8"],
    "onnxruntime-fp32": ["--backend", "onnxruntime", "--precision", "fp32"],
    "onnxruntime-int8": ["--backend", "onnxruntime", "--precision", "int8"],
    "torch-compile": ["--backend", "torch", "--precision", "fp32"],
    "torch-int8": ["--backend", "torch", "--precision", "int8"],
    "torch-traced": ["--backend", "torch", "--precision", "fp32", "--torch-mode", "traced"],
    "torch-channels-last": [
        "--backend", "torch", "--precision", "fp32", "--torch-mode", "channels_last"
    ],
    "torch-eager": ["--backend", "torch", "--precision", "fp32", "--torch-mode", "eager"],
    "ipex-fp32": ["--backend", "ipex", "--precision", "fp32"],
    "ipex-int8": ["--backend", "ipex", "--precision", "int8"],
}  # fmt: skip
#: one a compiled form of each engine: what fits into a few minutes
DEFAULT_CASES = [name for name in CASES if name not in {"torch-channels-last", "torch-eager"}]
_HEADINGS = (
    "engine",
    "raw/s",
    "served/s",
    "ratio",
    "raw p50 ms",
    "served p50 ms",
    "added ms",
    "start s",
    "memory MiB",
    "bars",
)


def options_of(name: str, ipex: str) -> list[str]:
    """The server's options for a row of ``CASES``; ``ipex`` is the interpreter of IPEX's rows."""
    apart = ["--worker-python", ipex] if name.startswith("ipex") else []
    return [*CASES[name], *apart]


def ipex_python() -> str:
    """The interpreter that ``make ipex`` installs beside this environment."""
    return str(Path(sys.prefix).parent / ".venv-ipex" / "bin" / "python")


def name_of(model: str) -> str:
    """What clients call a model: its name in the zoo, or that of a file of one's own."""
    return Path(model).stem


def model_options(model: str) -> list[str]:
    """The server's options for a model; a file of one's own has its weights inside."""
    if model == name_of(model):
        return ["--model", model, "--weights", "synthetic"]
    return ["--model", model, "--model-name", name_of(model)]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One engine; the lists have a value a round."""

    name: str
    #: why it was not measured; empty when it was
    reason: str = ""
    raw_per_s: list[float] = []
    raw_p50_ms: list[float] = []
    #: --mode throughput, 16 clients
    served_per_s: list[float] = []
    #: --mode rti, one client
    served_p50_ms: list[float] = []
    #: of rti, from the command to ready, with what was in the cache
    start_s: float = 0.0
    #: proportional set size of all processes of the server in rti
    memory_mib: float | None = None

    @property
    def share(self) -> float:
        """Served over raw images/s, the median of the rounds' ratios."""
        pairs = zip(self.served_per_s, self.raw_per_s, strict=True)
        return statistics.median(served / raw for served, raw in pairs)

    @property
    def added_ms(self) -> float:
        """Served less raw p50, the median of the rounds' differences."""
        pairs = zip(self.served_p50_ms, self.raw_p50_ms, strict=True)
        return statistics.median(served - raw for served, raw in pairs)

    @property
    def kept(self) -> bool:
        """Whether both bars are cleared."""
        return self.share >= LEAST_SHARE and self.added_ms <= MOST_ADDED_MS


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All rows, and where they were measured."""

    machine: Any
    model: str
    rounds: int
    seconds: float
    rows: list[Row]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """How to measure.

    Attributes:
        python: interpreter of corral's environment.
        ipex_python: interpreter of IPEX's, for its rows.
        model: a name of the zoo, or the path of a file of one's own.
        extra: more options of both, the server and the raw engine.
        binary: perf_analyzer.
        rounds: turns of each.
        seconds: of a window; the raw engine runs for two.
    """

    python: str
    ipex_python: str
    model: str
    extra: Sequence[str]
    binary: Path
    rounds: int
    seconds: float

    def row(self, name: str) -> Row:
        """Measures one engine; what cannot start is a row with the reason."""
        options = [*model_options(self.model), *options_of(name, self.ipex_python), *self.extra]
        try:
            with _Raw([self.python, "-m", "corral", "lab", "raw", *options]) as raw:
                return self._measured(name, options, raw)
        except RuntimeError as error:
            return Row(name=name, reason=str(error).strip().splitlines()[-1])

    def _measured(self, name: str, options: list[str], raw: _Raw) -> Row:
        cores = str(len(os.sched_getaffinity(0)))
        began_s = time.monotonic()
        with self._server(options) as (rti, pid):
            row = Row(
                name=name,
                start_s=time.monotonic() - began_s,
                memory_mib=process_tree.memory_mib(pid),
            )
            many = ["--mode", "throughput", "--workers", cores, "--cores-per-worker", "1"]
            with self._server([*options, *many]) as (throughput, _):
                for _ in range(self.rounds):
                    alone = raw.turn(2 * self.seconds)
                    row.raw_per_s.append(alone["images_per_s"])
                    row.raw_p50_ms.append(alone["p50_ms"])
                    row.served_p50_ms.append(self._load(rti, 1).p50_ms)
                    row.served_per_s.append(self._load(throughput, CLIENTS).requests_per_s)
        return row

    @contextlib.contextmanager
    def _server(self, options: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Port and pid of a server that runs until the block ends."""
        port = free_port()
        serve = ["-m", "corral", "serve", "--port", str(port)]
        serve += ["--http-port", "0", "--metrics-port", "0"]
        with serving([self.python, *serve, *options], port, timeout_s=900) as pid:
            yield port, pid

    def _load(self, port: int, clients: int) -> perf_analyzer.Measurement:
        window_ms = int(1000 * self.seconds)
        return perf_analyzer.measure(
            self.binary, f"127.0.0.1:{port}", name_of(self.model), clients, window_ms
        )


class _Raw:
    """A ``corral lab raw`` that waits for turns; a context manager."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> _Raw:
        self._answer()
        return self

    def turn(self, seconds: float) -> dict[str, float]:
        """Runs it for so long; images/s and p50."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()
        answer: dict[str, float] = json.loads(self._answer())
        return answer

    def _answer(self) -> str:
        assert self._process.stdout is not None and self._process.stderr is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(self._process.stderr.read() or "the raw engine ended")
        return line

    def __exit__(self, *_: object) -> None:
        # It ends with its standard input.
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.communicate(timeout=10)
        self._process.kill()
        self._process.wait()


def table_head(headings: Sequence[str]) -> list[str]:
    """The first two lines of a table of engines: names, then figures, then a verdict."""
    return [f"| {' | '.join(headings)} |", "| --- |" + " ---: |" * (len(headings) - 2) + " --- |"]


def not_run(name: str, reason: str, headings: Sequence[str]) -> str:
    """The line of an engine without figures."""
    return f"| {name} | not run: {reason} |" + " |" * (len(headings) - 2)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown: medians, and whether the bars are cleared."""
    lines = table_head(_HEADINGS)
    for row in rows:
        if row.reason:
            lines.append(not_run(row.name, row.reason, _HEADINGS))
            continue
        middle = [
            statistics.median(values)
            for values in (row.raw_per_s, row.served_per_s, row.raw_p50_ms, row.served_p50_ms)
        ]
        memory = "" if row.memory_mib is None else f"{row.memory_mib:.0f}"
        lines.append(
            f"| {row.name} | {middle[0]:.1f} | {middle[1]:.1f} | {row.share:.3f} "
            f"| {middle[2]:.1f} | {middle[3]:.1f} | {row.added_ms:+.2f} "
            f"| {row.start_s:.1f} | {memory} | {'kept' if row.kept else '**missed**'} |"
        )
    return "\n".join(lines)


def _rows(bench: Bench, names: Sequence[str]) -> Iterator[Row]:
    for name in names:
        row = bench.row(name)
        said = row.reason or f"{row.share:.3f} of raw, {row.added_ms:+.2f} ms"
        print(f"{name}: {said}", file=sys.stderr)
        yield row


def parser() -> Parser:
    """The command line."""
    found = Parser(prog="corral-loadtest engines", description=__doc__)
    add = found.add_argument
    add(
        "--model",
        type=text,
        default="resnet50",
        help="of the zoo, or a file of your own that takes pictures",
    )
    add("--cases", nargs="+", default=DEFAULT_CASES, choices=list(CASES))
    add("--rounds", type=number(Rounds), default=2, help="interleaved repeats")
    add("--seconds", type=number(Span, "seconds"), default=1.2, help="of a measurement window")
    add("--options", default="", help="more of corral's options")
    add("--python", default=sys.executable, help="of corral's environment")
    add("--ipex-python", default=ipex_python())
    add("--home", default=".cache/perf_analyzer", help="perf_analyzer's folder")
    add("--json", type=Path, help="write every round's figures here")
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of the command."""
    options = parser().parse_args(arguments)
    check_file(options.json, "--json")
    bench = Bench(
        python=options.python,
        ipex_python=options.ipex_python,
        model=options.model,
        extra=options.options.split(),
        binary=perf_analyzer.install(Path(options.home)),
        rounds=options.rounds,
        seconds=options.seconds,
    )
    rows = list(_rows(bench, options.cases))
    print(table(rows))
    if options.json:
        report = Report(
            machine=machine.describe(),
            model=options.model,
            rounds=options.rounds,
            seconds=options.seconds,
            rows=rows,
        )
        options.json.write_bytes(encode(report))
