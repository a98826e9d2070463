"""``corral-loadtest compare``: corral and others, in turns, on the same work and the same cores."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from corral_loadtest.command_line import Parser, check_folder, number, read_file
from corral_loadtest.comparison import peers, plots, report, rounds, subjects
from corral_loadtest.comparison.report import Comparison, Described
from corral_loadtest.comparison.rounds import RawVisit, Visit
from corral_loadtest.comparison.subjects import Subject
from corral_loadtest.servers import benchmark_app
from corral_loadtest.servers.machine import describe
from corral_loadtest.specification import Connections, Processes, Rounds, Span, WrongInput

ALL = (
    subjects.RAW, subjects.BENCHMARK_APP, subjects.CORRAL_RTI, subjects.CORRAL_THROUGHPUT,
    subjects.BASELINE, *peers.BY_NAME,
)  # fmt: skip


def parser() -> argparse.ArgumentParser:
    """The command line."""
    found = Parser(
        prog="corral-loadtest compare",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = found.add_argument
    add("--rounds", type=number(Rounds), default=3, help="interleaved repeats")
    add(
        "--seconds",
        type=number(Span, "seconds"),
        default=5.0,
        help="of each of the four measurements of a visit",
    )
    add("--only", nargs="+", choices=ALL, default=list(ALL), metavar="NAME", help="of these")
    add("--cores", type=number(Processes), default=2, help="for server and generator together")
    add(
        "--workers",
        type=number(Processes),
        default=1,
        help="engines of every peer; they share the cores",
    )
    add("--clients", type=number(Connections), default=16, help="of the capacity runs")
    add("--model", help="path of an artefact's model.xml (default: corral prepares its own)")
    add("--corral", default=str(Path(sys.executable).parent / "corral"), help="the command")
    add("--home", type=Path, default=peers.HOME, help="folder of the peers' environments")
    add("--output", type=Path, default=Path("docs/benchmarks"), help="folder for the results")
    add("--again", type=Path, metavar="JSON", help="write page and plots of these results anew")
    return found


def _prepare(corral: str) -> str:
    """The artefact's path, as ``corral prepare`` prints it."""
    done = subprocess.run(
        [corral, "prepare", "--backend", "openvino", "--precision", "int8"],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.split()[-1]


def write(found: Comparison, folder: Path) -> Path:
    """Writes JSON, plots and page; returns the page."""
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{report.stem(found)}.md"
    (folder / f"{report.stem(found)}.json").write_bytes(msgspec.json.encode(found) + b"\n")
    plots.write(found, folder)
    page.write_text(report.markdown(found), encoding="utf-8")
    return page


class _Run:
    """Visits everybody in every round, and keeps what it found."""

    def __init__(self, options: argparse.Namespace, servers: list[Subject], model: str) -> None:
        self._options = options
        self._servers = {one.name: one for one in servers}
        self._titles = {one.name: one.title for one in servers}
        self._model = model
        self.raw: list[RawVisit] = []
        self.visits: list[Visit] = []
        self.failed: dict[str, str] = {}

    def round(self, number: int, names: Sequence[str]) -> None:
        """The raw engine first, since the loads are shares of its rate."""
        seconds = self._options.seconds
        reference = rounds.raw(self._model, 2 * seconds, number)
        self.raw.append(reference)
        self._say(f"raw: {reference.per_s:.1f}/s")
        for name in names:
            if name in self.failed:
                continue
            if name == subjects.BENCHMARK_APP:
                self._benchmark_app(number)
            else:
                self._visit(self._servers[name], number, reference)

    def _benchmark_app(self, number: int) -> None:
        try:
            found = benchmark_app.run(self._model, 2 * self._options.seconds)
        except (RuntimeError, subprocess.CalledProcessError) as error:
            self.failed[subjects.BENCHMARK_APP] = str(error)
            return
        self.raw.append(
            RawVisit(
                name=subjects.BENCHMARK_APP, round=number, per_s=found.per_s, p50_ms=found.p50_ms
            )
        )
        self._say(f"benchmark_app: {found.per_s:.1f}/s")

    def _visit(self, subject: Subject, number: int, reference: RawVisit) -> None:
        try:
            found = rounds.visit(
                subject,
                number,
                raw_per_s=reference.per_s,
                top1=-1 if reference.top1 is None else reference.top1,
                seconds=self._options.seconds,
                clients=self._options.clients,
                logs=self._options.home / "logs",
            )
        except RuntimeError as error:
            self.failed[subject.name] = str(error)
            self._say(f"{subject.title}: {error}")
            return
        self.visits.append(found)
        full, idle = found.loads[rounds.CAPACITY], found.loads[rounds.IDLE]
        self._say(
            f"{subject.title}: {full.per_s:.1f}/s, idle {1000 / max(idle.per_s, 0.01):.1f} ms"
        )

    def reasons(self) -> dict[str, str]:
        """By title, why somebody was not measured to the end."""
        return {self._titles.get(name, name): why for name, why in self.failed.items()}

    @staticmethod
    def _say(text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def _compare(options: argparse.Namespace) -> Comparison:
    machine = describe()
    cores = sorted(os.sched_getaffinity(0))[: options.cores]
    model = str(Path(options.model).absolute()) if options.model else _prepare(options.corral)
    servers, missing = subjects.servers(
        options.only,
        model=model,
        cores=len(cores),
        workers=options.workers,
        home=options.home,
        corral=options.corral,
    )
    # Installing may take every core; from here on everything shares these.
    os.sched_setaffinity(0, cores)
    run = _Run(options, servers, model)
    names = [one.name for one in servers]
    if subjects.BENCHMARK_APP in options.only:
        names.append(subjects.BENCHMARK_APP)
    for place, turn in enumerate(rounds.order(names, options.rounds)):
        run._say(f"round {place + 1} of {options.rounds}")
        run.round(place, turn)
    versions = {name: importlib.metadata.version(name) for name in ("openvino", "grpcio")}
    return Comparison(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=machine,
        cores=len(cores),
        clients=options.clients,
        seconds=options.seconds,
        versions=versions,
        command=f"make compare COMPARE_ROUNDS={options.rounds} COMPARE_S={options.seconds:g}",
        subjects=tuple(_described(one) for one in servers),
        missing={**missing, **run.reasons()},
        raw=tuple(run.raw),
        visits=tuple(run.visits),
    )


def _described(one: Subject) -> Described:
    return Described(
        name=one.name,
        title=one.title,
        version=one.version,
        protocol=one.protocol,
        note=one.note,
        computes=one.computes,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry of the command. Exit code 1 if somebody could not be measured."""
    options = parser().parse_args(arguments)
    check_folder(options.output, "--output")
    if options.again:
        try:
            found = msgspec.json.decode(read_file(options.again), type=Comparison)
        except (OSError, msgspec.MsgspecError) as error:
            raise WrongInput(
                f"--again {options.again}: no results of this command: {error}"
            ) from None
    else:
        found = _compare(options)
    page = write(found, options.output)
    print(report.table(found))
    print(f"written: {shlex.quote(str(page))}", file=sys.stderr)
    for title, why in found.missing.items():
        print(f"not measured: {title}: {why}", file=sys.stderr)
    sys.exit(1 if found.missing else 0)
