"""``corral profile``: measures, and keeps what is known when it is interrupted."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from corral.artifacts.served_model import served_model
from corral.backends.registry import engine
from corral.doctor.checks.cpu_time import others_percent
from corral.doctor.gather import gather
from corral.doctor.layout import planned
from corral.doctor.probing import compute
from corral.ipc.status import ServerStatus
from corral.models import registry
from corral.planning.machine import Machine
from corral.planning.plan import Plan, PlannedWorker
from corral.profiling import engine_run, peaks, served
from corral.profiling.budget import make_budget
from corral.profiling.process import EngineRun
from corral.profiling.report import EngineFigures, OperatorRow, Peak, ProfileReport, span
from corral.profiling.rows import make_rows, profiler_percent
from corral.profiling.served import Served
from corral.profiling.trace import make_trace
from corral.settings import Settings
from corral.settings.files import write_text
from corral.supervisor.child_server import own_server, status_of
from corral.system.pid_namespace import HIDDEN
from corral.tuning import prepare
from corral.tuning.select import Selected

#: a busier machine is told
_BUSY_PERCENT = 5.0
_LOOK_S = 0.5
_OTHERS = "others"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProfileOrder:
    """What to profile.

    Attributes:
        seconds: of requests; the engine alone runs for as long.
        batch: items of the engine's batches.
        trace: file for a trace, or None.
        socket: admin socket of the running server that is looked at; None: a server of its own.
        words: the options of that server.
    """

    seconds: float
    batch: int
    trace: Path | None
    socket: Path | None
    words: tuple[str, ...] = ()


class Profiling:
    """One profile in the making; ``report`` is what is known so far.

    Args:
        settings: of the server.
        machine: that it runs on.
        plan: for its workers.
        order: what to profile.
        say: told what begins, a phrase.
    """

    def __init__(
        self,
        settings: Settings,
        machine: Machine,
        plan: Plan,
        order: ProfileOrder,
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._machine = machine
        self._plan = plan
        self._order = order
        self._say = say
        #: the engine's operators in the order that it runs them
        self._in_order: list[OperatorRow] = []
        #: when the engine, or the requests, began to be measured
        self._begun_s: float | None = None
        self.report = ProfileReport(
            cpu=machine.model_name,
            model=settings.model.name,
            mode=settings.model.mode.value,
            served_by="the running server" if order.socket else "a server of its own",
            workers=sum(len(cell.workers) for cell in plan.cells),
            seconds=order.seconds,
        )

    def run(self, environ: Mapping[str, str]) -> None:
        """Measures everything.

        Raises:
            CorralError: something cannot be had; what was measured before stays in the report.
            KeyboardInterrupt: likewise; the report's seconds are those until then.
        """
        try:
            self._measure(environ)
        except KeyboardInterrupt:
            seconds = 0.0 if self._begun_s is None else time.monotonic() - self._begun_s
            self._change(seconds=round(min(seconds, self._order.seconds), 1))
            raise

    def _measure(self, environ: Mapping[str, str]) -> None:
        if self._order.socket is not None:
            self._learn_status(status_of(self._order.socket))
            self._say("tracing the running server")
            self._begun_s = time.monotonic()
            self._learn(served.trace(self._order.socket, self._order.seconds))
            self.note("--live shows requests and threads; without it, operators, too")
            return
        self._look_for_others()
        settings, words = self._settings, self._order.words
        if engine(settings.engine.backend).computes:
            self._say("preparing the model")
            selected = prepare.prepare_apart(settings, self._plan.first_worker)
            settings = settings.replace(backend=selected.backend, precision=selected.precision)
            words = (*words, f"--backend={selected.backend}", f"--precision={selected.precision}")
            self._profile_engine(settings, selected, environ)
        else:
            self.note("the null backend computes nothing: there are no operators")
        self._say("starting a server, and asking it")
        spec = registry.get(settings.model.name, settings.model.shape)
        model = served_model(spec, settings.model.served_name)
        clients = max(1, self.report.workers * self._order.batch)
        with own_server(words, settings.lifecycle.boot_timeout_s) as socket:
            self._begun_s = time.monotonic()
            self._learn(served.under_load(socket, model, clients, self._order.seconds))

    def note(self, text: str) -> None:
        """Adds what a reader should know."""
        self._change(notes=[*self.report.notes, text])

    def _change(self, **changes: object) -> None:
        self.report = msgspec.structs.replace(self.report, **changes)

    def _look_for_others(self) -> None:
        layout = planned(self._plan, self._settings)
        seen = gather(
            Path("/"), self._machine, layout, live=True, interval_s=_LOOK_S, thorough=False
        )
        shares = others_percent(seen)
        if shares:
            self._learn_of_others(max(shares.values()))

    def _learn_of_others(self, percent: float) -> None:
        """The most that was seen of them counts."""
        busy = max(round(percent, 1), self.report.busy_percent or 0.0)
        notes = [note for note in self.report.notes if not note.startswith(_OTHERS)]
        if busy >= _BUSY_PERCENT:
            notes.append(f"{_OTHERS} used {busy:g} % of a worker's CPUs: figures are too slow")
        self._change(busy_percent=busy, notes=notes)

    def _profile_engine(
        self, settings: Settings, selected: Selected, environ: Mapping[str, str]
    ) -> None:
        pen = self._plan.first_worker
        self._say("running the engine alone, without and with its profiler")
        self._begun_s = time.monotonic()
        found = engine_run.run(
            engine_run.EngineOrder(
                settings=settings,
                model=selected.model,
                signature=registry.get(settings.model.name, settings.model.shape).signature,
                pen=pen,
                batch=self._order.batch,
                seconds=self._order.seconds,
            ),
            environ,
        )
        self._say("measuring what these CPUs can do")
        precisions = {operator.precision for operator in found.profile.operators}
        most, bandwidth = self._peaks(pen, sorted(precisions))
        self._in_order = _in_order(found, most)
        self._change(engine=_figures(found, pen, self._order.batch, most, bandwidth))

    def _peaks(
        self, pen: PlannedWorker, precisions: Sequence[str]
    ) -> tuple[list[Peak], float | None]:
        most = []
        for precision in precisions:
            kernel = peaks.kernel_for(precision, self._machine.isa)
            if kernel is None:
                continue
            try:
                rate = peaks.measure(kernel, pen.cpus)
            except OSError as error:
                self.note(f"the peak of {precision} is not known: {error}")
                continue
            most.append(Peak(precision=precision, isa=kernel.isa, gflop_s=rate / 1e9))
        try:
            return most, compute.bandwidth(pen.cpus)[0]
        except OSError as error:
            self.note(f"the memory's bandwidth is not known: {error}")
            return most, None

    def _learn_status(self, status: ServerStatus) -> None:
        self._change(model=status.model, mode=status.mode, workers=len(status.workers))

    def _learn(self, found: Served) -> None:
        budget = make_budget(found.requests, found.client_us, found.dropped)
        if budget is None:
            self.note(f"no request was answered in {self._order.seconds:g} s")
        if found.other_load is None:
            self.note(f"threads, and what others took, are not known: {HIDDEN}")
        else:
            self._learn_of_others(found.other_load * 100)
        self._learn_status(found.status)
        self._change(budget=budget, worker_threads=dict(found.worker_threads))
        if self._order.trace is not None:
            about = {
                "program": "corral profile",
                "cpu": self.report.cpu,
                "model": found.status.model,
            }
            trace = make_trace(found.requests, self._in_order, about)
            write_text(self._order.trace, "--trace", json.dumps(trace))


def _in_order(found: EngineRun, most: Sequence[Peak]) -> list[OperatorRow]:
    """The rows in the order of the profile, which is that of the graph."""
    rows = {(row.name, row.type): row for row in make_rows(found.profile.operators, most)}
    return [rows[operator.name, operator.type] for operator in found.profile.operators]


def _figures(
    found: EngineRun,
    pen: PlannedWorker,
    batch: int,
    most: Sequence[Peak],
    bandwidth_gb_s: float | None,
) -> EngineFigures:
    plain = span("inference", [seconds * 1e6 for seconds in found.plain_s])
    rows = make_rows(found.profile.operators, most)
    return EngineFigures(
        described=found.engine,
        batch=batch,
        cpus=pen.cpus,
        inference=plain,
        profiler_percent=profiler_percent(rows, plain),
        operators=rows,
        threads=found.threads,
        peaks=list(most),
        bandwidth_gb_s=bandwidth_gb_s,
    )
