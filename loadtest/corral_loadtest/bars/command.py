"""``corral-loadtest bars``: figures with a bound, all of them in one go or some by name.

Every row starts its own servers on free ports, measures what it compares in turns, ``--rounds``
times, and holds medians to the bound. Load generators run on the same machine and take their
part of it. Rows come one after another, since idle servers take CPU, too.
"""

from __future__ import annotations

import argparse
import datetime
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from corral_loadtest.bars import (
    bar,
    floor_row,
    model_rows,
    null_rows,
    observed_rows,
    priority_row,
    proxy_row,
    queue_rows,
    scaling,
    silence_row,
)
from corral_loadtest.bars.bar import Bar, Report
from corral_loadtest.bars.bench import Bench
from corral_loadtest.command_line import Parser, check_folder, number
from corral_loadtest.generator import perf_analyzer
from corral_loadtest.result import encode
from corral_loadtest.servers import machine
from corral_loadtest.specification import Rounds, Span, WrongInput

ROWS: dict[str, Callable[[Bench], list[Bar]]] = {
    "served": model_rows.served,
    "null": null_rows.null,
    "rest": null_rows.rest,
    "poisson": queue_rows.poisson,
    "poisson-null": queue_rows.poisson_null,
    "oversubscribed": null_rows.oversubscribed,
    "connections": null_rows.connections,
    "overload": queue_rows.overload,
    "cells": null_rows.cells,
    "priority": priority_row.priority,
    "tracing": observed_rows.tracing,
    "console": observed_rows.console,
    "envoy": proxy_row.envoy,
    "silence": silence_row.silence,
    "unix-socket": null_rows.unix_socket,
    "floor": floor_row.floor,
}
#: experiments, measured only when they are asked for
_ASKED_FOR = ("unix-socket", "envoy", "floor")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = Parser(
        prog="corral-loadtest bars",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = found.add_argument
    bound = [name for name in ROWS if name not in _ASKED_FOR]
    add("--rows", nargs="+", choices=list(ROWS), default=bound, help="which")
    add("--rounds", type=number(Rounds), default=4, help="repeats")
    add(
        "--seconds",
        type=number(Span, "seconds"),
        default=2.0,
        help="of one measurement; others are multiples",
    )
    add(
        "--overload-seconds",
        type=number(Span, "seconds"),
        default=60.0,
        help="of the row overload, in all",
    )
    add(
        "--model-options",
        default="--backend openvino --precision int8",
        help="of the servers with the real model",
    )
    add("--corral", default=str(Path(sys.executable).parent / "corral"), help="the command")
    add("--home", type=Path, default=Path(".cache/perf_analyzer"), help="perf_analyzer's folder")
    add("--own-generator", action="store_true", help="instead of perf_analyzer, everywhere")
    add("--output", type=Path, metavar="FOLDER", help="write bars-DATE-CPU.md and .json there")
    return found


def _analyzer(options: argparse.Namespace) -> tuple[Path | None, str]:
    """perf_analyzer's binary, and what generates the load, for people."""
    own = "corral-loadtest's own generator"
    if options.own_generator:
        return None, own
    try:
        return perf_analyzer.install(options.home), "perf_analyzer, unmodified"
    except perf_analyzer.Missing as error:
        return None, f"{own} ({error})"


def cost(bars: Sequence[Bar]) -> scaling.Cost | None:
    """What the modelled curve starts from; None unless everything for it was measured."""
    by_name = {one.name: one for one in bars}
    used = by_name.get(f"server CPU a request, UINT8, {null_rows.CLIENTS} clients, µs")
    inference = by_name.get(model_rows.INFERENCE)
    carried = by_name.get(null_rows.CARRIED)
    if used is None or inference is None or carried is None:
        return None
    return scaling.Cost(
        server_cpu_s=used.judged / 1e6,
        frontend_per_s=statistics.median(carried.values),
        inference_cpu_s=inference.judged / 1e3,
    )


def _measure(bench: Bench, rows: Sequence[str], save: Callable[..., None]) -> None:
    """Measures rows one after another; what fails is told, and the others go on."""
    bars: list[Bar] = []
    failed: dict[str, str] = {}
    for row in rows:
        print(f"{time.strftime('%H:%M:%S')}  {row}", file=sys.stderr, flush=True)
        try:
            bars += ROWS[row](bench)
        except (RuntimeError, OSError, WrongInput, subprocess.CalledProcessError) as error:
            failed[row] = " ".join(str(error).split())
            print(f"{row}: {failed[row]}", file=sys.stderr)
        except KeyboardInterrupt:
            failed[row] = "interrupted"
        save(bars, failed)
        if failed.get(row) == "interrupted":
            return


def show(found: Report) -> None:
    """Prints a run: the table, what could not be measured, and a command for each row."""
    print(bar.table(found))
    for row, why in found.failed.items():
        print(f"not measured: {row}: {why}")
    print()
    for row in dict.fromkeys(one.row for one in found.bars):
        print(bar.row_command(found, row))
    if found.cost:
        print(f"\n{scaling.table(found.cost)}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of the command. Exit code 1 if a bar was missed or could not be measured."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(words)
    check_folder(options.output, "--output")
    analyzer, generator = _analyzer(options)
    bench = Bench(
        corral=options.corral,
        seconds=options.seconds,
        overload_seconds=options.overload_seconds,
        rounds=options.rounds,
        model_options=tuple(options.model_options.split()),
        analyzer=analyzer,
    )
    found: Report | None = None

    def save(bars: list[Bar], failed: dict[str, str]) -> None:
        # After every row, so that whatever happens later costs nothing that was measured.
        nonlocal found
        found = Report(
            date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            machine=machine.describe(),
            command=" ".join(["corral-loadtest bars", *words]),
            rounds=options.rounds,
            seconds=options.seconds,
            generator=generator,
            bars=list(bars),
            failed=dict(failed),
            cost=cost(bars),
        )
        if options.output:
            write(found, options.output)

    _measure(bench, options.rows, save)
    assert found
    show(found)
    if options.output:
        print(f"written: {options.output / bar.stem(found)}.md and .json", file=sys.stderr)
    sys.exit(1 if found.failed or any(one.cleared is False for one in found.bars) else 0)


def write(found: Report, folder: Path) -> None:
    """Writes the page and every round's figures as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{bar.stem(found)}.json").write_bytes(encode(found))
    (folder / f"{bar.stem(found)}.md").write_text(bar.page(found), encoding="utf-8")
