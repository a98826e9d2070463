"""``corral-loadtest mlperf``: scenarios of MLPerf's LoadGen, and the highest valid Server rate."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from corral_loadtest.command_line import (
    Parser,
    address,
    check_file,
    check_folder,
    number,
    text,
)
from corral_loadtest.mlperf import loadgen as mlperf
from corral_loadtest.mlperf import page as mlperf_page
from corral_loadtest.mlperf.loadgen import Plan, Verdict
from corral_loadtest.report.terminal import StandardOutput
from corral_loadtest.servers import machine
from corral_loadtest.servers.processes import free_port, serving
from corral_loadtest.specification import (
    Bound,
    Clients,
    Distinct,
    InputKind,
    Payload,
    Queries,
    Rate,
    Span,
    Target,
    Tolerance,
    WrongInput,
)

_STEPS_DOWN, _STEP_DOWN = 8, 0.95
_SMALLEST = 8  # a search does not go below --qps by this


def search(
    valid_at: Callable[[float], bool], start: float, tolerance: float, least: float = 0.0
) -> float:
    """The highest rate at which ``valid_at`` holds: doubled or halved until it is enclosed, then
    bisected until the bounds lie within ``tolerance`` of one another; 0 if none holds.

    Args:
        valid_at: runs at a rate.
        start: rate to begin with.
        tolerance: relative.
        least: rates below are not tried; so few queries would take long to come.
    """
    low, high = 0.0, start
    if valid_at(start):
        while valid_at(high * 2):
            high *= 2
        low, high = high, high * 2
    else:
        for _ in range(10):
            if high / 2 < least:
                return 0.0
            if valid_at(high / 2):
                low = high / 2
                break
            high /= 2
        else:
            return 0.0
    while high - low > tolerance * low:
        middle = (low + high) / 2
        if valid_at(middle):
            low = middle
        else:
            high = middle
    return low


def show(found: Sequence[Verdict], console: Console) -> None:
    """Prints runs as a table."""
    table = Table(*mlperf_page.HEADS)
    for one in found:
        table.add_row(*mlperf_page.row(one))
    console.print(table)
    for reason in dict.fromkeys(reason for one in found for reason in one.short_of):
        console.print(f"no valid submission: {reason}")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = Parser(
        prog="corral-loadtest mlperf",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = found.add_argument
    add("--scenario", nargs="+", choices=mlperf.SCENARIOS, default=list(mlperf.SCENARIOS))
    where = found.add_mutually_exclusive_group()
    where.add_argument(
        "--target", type=address, default="127.0.0.1:8001", metavar="HOST:PORT", help="the server"
    )
    where.add_argument(
        "--serve", metavar="OPTIONS", help="start corral with these options, and end it afterwards"
    )
    add("--model", type=text, default="resnet50", help="its name there")
    add("--input", choices=["fp32", "uint8", "jpeg"], help="default: what the metadata says")
    _add_numbers(found)
    add("--logs", type=Path, default=Path("mlperf-logs"), help="folder for LoadGen's logs")
    add("--json", type=Path, help="write the results here too")
    add("--output", type=Path, metavar="FOLDER", help="write mlperf-DATE-CPU.md and .json there")
    add("--corral", default=str(Path(sys.executable).parent / "corral"), help="for --serve")
    return found


def _add_numbers(found: Parser) -> None:
    add = found.add_argument
    for name, kind, fallback, what in (
        ("--duration-s", number(Span, "seconds"), 60.0, "at least; the rules ask for 600"),
        ("--samples", number(Distinct), 64, "different inputs; the rules ask for 1024"),
        ("--qps", number(Rate, "queries a second"), 10.0, "Server's rate"),
        ("--latency-ms", number(Bound, "milliseconds"), 15.0, "bound on Server's p99"),
        ("--streams", number(Clients), 8, "samples a MultiStream query"),
        ("--window", number(Clients), 32, "Offline requests in flight"),
        ("--search-s", number(Span, "seconds"), 10.0, "length of a run of the search"),
        ("--search-queries", number(Queries), 100, "queries of a run of the search, at least"),
        ("--tolerance", number(Tolerance), 0.02, "of the search, relative"),
    ):
        add(name, type=kind, default=fallback, help=what)
    least = "at least; default: 100, or what early stopping needs"
    add("--min-queries", type=number(Queries), help=least)
    add("--find-qps", action="store_true", help="search Server's highest valid rate from --qps")


def _find_qps(
    plan: Plan, options: argparse.Namespace, run: Callable[[Plan], Verdict]
) -> Verdict | None:
    """A full run at the highest rate that is valid; None if no rate is."""
    console = Console(stderr=True)
    number = 0

    def valid_at(rate: float) -> bool:
        nonlocal number
        number += 1
        tried = dataclasses.replace(
            plan,
            qps=rate,
            duration_s=options.search_s,
            min_queries=options.search_queries,
            folder=options.logs / "search" / f"{number:02d}-{rate:.1f}",
        )
        # So short a run cannot be valid by early stopping; whether p99 kept its bound it can say.
        within = run(tried).within
        console.print(f"Server at {rate:.2f}/s: p99 {'within' if within else 'beyond'} the bound")
        return within

    best = search(valid_at, plan.qps, options.tolerance, plan.qps / _SMALLEST)
    if not best:
        console.print("no rate was valid: the bound of --latency-ms cannot be kept here at all")
        return None
    # Short runs let pass by luck what a long one refuses: step down until the full length holds.
    for _ in range(_STEPS_DOWN):
        found = run(dataclasses.replace(plan, qps=best))
        console.print(f"Server at {best:.2f}/s, full length: {found.figures.get('Result is')}")
        if found.valid:
            break
        best *= _STEP_DOWN
    return found


def _offline(plan: Plan, options: argparse.Namespace, run: Callable[[Plan], Verdict]) -> Verdict:
    """Offline's size follows from the expected rate: a small run measures it first.

    A server that turns out to be faster has done before the time is over, and is asked again.
    """
    found = run(
        dataclasses.replace(plan, duration_s=2.0, folder=options.logs / "search" / "Offline")
    )
    for _ in range(3):
        rate = found.number(*mlperf_page.FIGURES["Offline"])
        found = run(dataclasses.replace(plan, qps=max(rate or 0.0, 0.1) * 1.2))
        if found.figures.get("Min duration satisfied") == "Yes":
            break
    return found


@contextlib.contextmanager
def _served(options: argparse.Namespace) -> Iterator[str]:
    """The server's address; with --serve it is started, once its artefact is there."""
    if options.serve is None:
        yield options.target
        return
    wanted = shlex.split(options.serve)
    port = free_port()
    command = [options.corral, "serve", "--port", str(port)]
    command += ["--http-port", "0", "--metrics-port", "0"]
    # The first start makes the artefact, which takes minutes.
    with serving([*command, "--log-level", "error", *wanted], port, timeout_s=900.0):
        yield f"127.0.0.1:{port}"


def _run_all(options: argparse.Namespace, target: Target) -> list[Verdict]:
    kind = InputKind(options.input) if options.input else None
    messages = mlperf.make_messages(target, Payload(kind=kind, distinct=options.samples))
    least_ms = mlperf.least_latency_ms(target, messages)

    def run(plan: Plan) -> Verdict:
        return mlperf.run(plan, target, messages)

    found = []
    for scenario in options.scenario:
        print(f"{time.strftime('%H:%M:%S')}  {scenario}", file=sys.stderr, flush=True)
        plan = Plan(
            scenario=scenario,
            duration_s=options.duration_s,
            min_queries=options.min_queries,
            samples=options.samples,
            qps=options.qps,
            latency_ms=options.latency_ms,
            streams=options.streams,
            window=options.window,
            expected_ms=least_ms / 2,
            folder=options.logs / scenario,
        )
        if scenario == "Offline":
            found.append(_offline(plan, options, run))
        elif scenario == "Server" and options.find_qps:
            # The other scenarios' minutes are not thrown away for a bound that cannot be kept.
            found.append(_find_qps(plan, options, run) or run(plan))
        else:
            found.append(run(plan))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of the command. Exit code 1 if a run was not valid, 2 if none could be made."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(words)
    try:
        check_file(options.json, "--json")
        check_folder(options.output, "--output")
        check_folder(options.logs, "--logs")
        with _served(options) as where:
            found = _run_all(options, Target(address=where, model=options.model))
    except (WrongInput, RuntimeError) as error:
        sys.stderr.write(f"corral-loadtest mlperf: {' '.join(str(error).split())}\n")
        sys.exit(2)
    show(found, StandardOutput())
    if options.json:
        figures = json.dumps([dataclasses.asdict(one) for one in found], indent=1)
        options.json.write_text(figures, "utf-8")
    if options.output:
        page = mlperf_page.Page(
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            machine=machine.describe(),
            command=shlex.join(["corral-loadtest", "mlperf", *words]),
            server="" if options.serve is None else f"corral serve {options.serve}",
        )
        path = mlperf_page.write(page, found, options.output)
        print(f"written: {path}; LoadGen's own logs: {options.logs}", file=sys.stderr)
    sys.exit(0 if all(one.valid for one in found) else 1)
