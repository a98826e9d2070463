"""``corral-loadtest run`` and ``corral-loadtest ramp``: a server under one load, or under more and
more of it.

Exit codes: 0 measured, 1 measured but not valid, 2 asked for what cannot be measured.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import msgspec
from rich.console import Console

from corral_loadtest import result
from corral_loadtest.cli import options
from corral_loadtest.command_line import Parser, check_file
from corral_loadtest.measure import ramp
from corral_loadtest.measure.floor import run_with_floor
from corral_loadtest.report import page, tables
from corral_loadtest.report.live import Live
from corral_loadtest.report.terminal import StandardOutput
from corral_loadtest.specification import OpenLoop, Specification, WrongInput

_CODES = """\
Exit codes: 0 measured, 1 measured but not valid, 2 asked for what cannot be measured."""

_RUN = f"""\
Measures any server of the Open Inference Protocol under one load.

{_CODES}"""

_RUN_EXAMPLES = """\
examples:
  corral-loadtest run --clients 16                     closed loop
  corral-loadtest run --rate 50 --duration 60          open loop, Poisson arrivals
  corral-loadtest run --rate 35 --workers 2            beside what queueing alone costs
  corral-loadtest run --trace arrivals.txt --deadline-ms 100 --json result.json"""

_RAMP = f"""\
Raises the load until more of it brings no more answers: the server's capacity.

{_CODES}"""

_RAMP_EXAMPLES = """\
examples:
  corral-loadtest ramp --clients 64 --html page.html   1, 2, 4 and up to 64 clients
  corral-loadtest ramp --rate 2000                     the highest rate that is kept up with"""


def run(words: Sequence[str]) -> None:
    """Entry of ``corral-loadtest run``; ends the process unless the figures are valid."""
    _command(options.make_parser("run", _RUN, _RUN_EXAMPLES), words, _measure)


def ramp_up(words: Sequence[str]) -> None:
    """Entry of ``corral-loadtest ramp``; ends the process unless a step was valid."""
    _command(options.make_parser("ramp", _RAMP, _RAMP_EXAMPLES), words, _ramp)


def _command(
    parser: Parser,
    words: Sequence[str],
    measure: Callable[[Specification, Console], result.Result | result.Ramp],
) -> None:
    given = vars(parser.parse_args(words))
    if given.pop("json_schema", False):
        print(msgspec.json.format(msgspec.json.encode(result.json_schema()), indent=1).decode())
        return
    json, html = given.pop("json"), given.pop("html")
    try:
        check_file(json, "--json")
        check_file(html, "--html")
        found = measure(options.specify(given), Console(stderr=True))
        if json:
            json.write_bytes(result.encode(found))
        if html:
            html.write_text(page.page(found), encoding="utf-8")
    except WrongInput as error:
        parser.exit(2, f"{parser.prog}: {' '.join(str(error).split())}\n")
    except (RuntimeError, OSError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, f"{parser.prog}: interrupted before anything was measured\n")
    if isinstance(found, result.Ramp):
        StandardOutput().print(tables.ramp_table(found))
    else:
        StandardOutput().print(tables.table(found))
    if not _valid(found):
        sys.exit(1)


def _measure(specification: Specification, console: Console) -> result.Result:
    with Live(console) as live:
        return run_with_floor(specification, live.listener, console.print)


def _ramp(specification: Specification, console: Console) -> result.Ramp:
    load = specification.load
    if specification.floor:
        raise WrongInput("--workers goes with one rate, not with a ramp")
    with Live(console) as live:
        if not isinstance(load, OpenLoop):
            return ramp.ramp_clients(specification, load.clients, live.listener)
        if load.rate_per_s is None or load.trace:
            raise WrongInput("a ramp takes --rate, the highest to try, and no trace")
        return ramp.ramp_rates(specification, load, load.rate_per_s, live.listener)


def _valid(found: result.Result | result.Ramp) -> bool:
    return found.capacity_per_s > 0 if isinstance(found, result.Ramp) else found.valid
