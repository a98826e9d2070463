"""``corral-loadtest settings``: files of settings beside one another, under the same arrivals.

Each file is served in turns, alone on the machine, A B B A. Each turn offers every rate, with the
Poisson arrivals that the other files get at that rate in that round. A rate holds where all
requests are answered, 99 % of them within the bound.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from corral_loadtest.bars.bench import Bench, Server, served_name
from corral_loadtest.command_line import Parser, check_file, number, read_file
from corral_loadtest.result import encode
from corral_loadtest.servers import machine
from corral_loadtest.settings import verdict
from corral_loadtest.settings.verdict import Report, Step
from corral_loadtest.specification import (
    Bound,
    ClosedLoop,
    OpenLoop,
    Rate,
    Rounds,
    Span,
    Target,
    WrongInput,
)

#: requests under way that fill a server whose rates are not named
_FILLING = 16
#: before each rate: as long for all, so that all are measured with the same arrivals
_WARM_UP_S = 1.0


def _rates(text: str) -> list[float]:
    read = number(Rate, "requests a second")
    return sorted({read(one) for one in text.split(",")})


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = Parser(
        prog="corral-loadtest settings",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = found.add_argument
    add("files", nargs="+", metavar="FILE.toml", help="settings, as corral serve --config has them")
    add(
        "--p99-ms",
        type=number(Bound, "milliseconds"),
        required=True,
        metavar="X",
        help="the bound of the 99th percentile",
    )
    add(
        "--rates",
        type=_rates,
        metavar="N,N,...",
        help="requests a second (default: 50 to 95 %% of what the first file makes)",
    )
    add("--rounds", type=number(Rounds), default=4, metavar="N", help="turns (default: 4)")
    add(
        "--round-s",
        type=number(Span, "seconds"),
        default=10.0,
        metavar="S",
        help="of each rate in each turn (default: 10)",
    )
    add("--corral", default=str(Path(sys.executable).parent / "corral"), help="the command")
    add("--json", type=Path, metavar="PATH", help="write every turn's figures as JSON")
    return found


def _check(files: Sequence[str]) -> None:
    """Makes sure that files are settings, before anything is started.

    Raises:
        WrongInput: one is none, or is named twice.
    """
    for file in files:
        try:
            tomllib.loads(read_file(file).decode("utf-8-sig"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            said = error.strerror if isinstance(error, OSError) else str(error)
            raise WrongInput(f"{file}: {said or error}") from None
    if len(set(files)) < len(files):
        raise WrongInput("a file is named twice; a copy tells how far equal settings differ")


def _capacity(bench: Bench, file: str) -> float:
    """Requests a second that many clients get out of a file's server."""
    with bench.server("--config", file) as server:
        load = ClosedLoop(clients=_FILLING)
        target = Target(address=server.address, model=served_name(server))
        found = bench.load(server, load, None, target=target, warm_up_s=(_WARM_UP_S, _WARM_UP_S))
    if not found.requests_per_s:
        raise RuntimeError(f"{file}: nothing was answered: {found.statuses}")
    return found.requests_per_s


def _step(bench: Bench, server: Server, name: str, rate: float, seed: int) -> Step:
    found = bench.load(
        server,
        OpenLoop(rate_per_s=rate, seed=seed),
        None,
        target=Target(address=server.address, model=name),
        warm_up_s=(_WARM_UP_S, _WARM_UP_S),
    )
    return Step(
        p99_ms=found.latency.p99_ms if found.latency else None,
        failed=found.sent - found.statuses.get("OK", 0),
        lag_ms=found.generator.lag_p99_ms,
    )


def _turn(bench: Bench, file: str, rates: Sequence[float], round_: int) -> dict[float, Step]:
    """Serves a file, and offers all rates one after another."""
    steps = {}
    with bench.server("--config", file) as server:
        name = served_name(server)
        for place, rate in enumerate(rates):
            # The same arrivals for all files, and others in each round.
            steps[rate] = _step(bench, server, name, rate, seed=1000 * round_ + place)
    told = ", ".join(f"{rate:g}/s {step.p99_ms or 0:.4g} ms" for rate, step in steps.items())
    print(f"round {round_ + 1}, {file}: p99 at {told}", file=sys.stderr, flush=True)
    return steps


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of the command."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = parser().parse_args(words)
    _check(options.files)
    check_file(options.json, "--json")
    bench = Bench(
        corral=options.corral,
        seconds=options.round_s,
        overload_seconds=options.round_s,
        rounds=options.rounds,
        model_options=(),
        analyzer=None,
    )
    rates = options.rates or verdict.shares(_capacity(bench, options.files[0]))
    rounds: list[dict[str, dict[float, Step]]] = []
    interrupted = False
    try:
        for round_ in range(options.rounds):
            order = verdict.turn(options.files, round_)
            rounds.append({file: _turn(bench, file, rates, round_) for file in order})
    except KeyboardInterrupt:
        interrupted = True
    found = Report(
        machine=machine.describe(),
        command=" ".join(["corral-loadtest settings", *words]),
        p99_ms=options.p99_ms,
        rates=rates,
        seconds=options.round_s,
        complete=not interrupted,
        rows=verdict.rows(
            {file: [one[file] for one in rounds] for file in options.files}, options.p99_ms
        ),
    )
    if rounds:
        print(verdict.table(found))
        _tell_lag(rounds)
    if options.json:
        options.json.write_bytes(encode(found))
    if interrupted:
        raise KeyboardInterrupt


def _tell_lag(rounds: Sequence[dict[str, dict[float, Step]]]) -> None:
    """How late the generator was: beyond some milliseconds the figures are its own, too."""
    lags = [step.lag_ms for one in rounds for steps in one.values() for step in steps.values()]
    middle_ms, most_ms = statistics.median(lags), max(lags)
    print(f"\nsent {middle_ms:.2f} ms late (p99, median of all), at most {most_ms:.2f} ms")
