"""The supervisor: from a plan to a server that runs until it is told to stop. One loop acts.

Everything that happens (a child's message, its end, a signal, a timer) is a callback of one
asyncio loop in the main thread, and none of them blocks. children.py acts on children, lifecycle.py
says when one is started again; here is what all of that means for the server:

    STARTING ── every cell has a verified worker ──> SERVING ── signal ──> DRAINING ──> STOPPED
        └── boot timeout, a child's failure: an error ─────────────────────────────────┘
"""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from corral import logs
from corral.errors import ConfigError, CorralError, StartError
from corral.ipc.messages import Drain, Open
from corral.ipc.status import Phase, ServerStatus, State, StatusBoard
from corral.launch.launcher import ENDING_SIGNALS, MEANINGLESS_SIGNALS
from corral.metrics.counters import Pages
from corral.settings import Settings
from corral.supervisor import first_start, frontend_link, snapshot
from corral.supervisor.admin import Reply
from corral.supervisor.bound_keeper import BoundKeeper
from corral.supervisor.children import Fleet
from corral.supervisor.commands import Commands
from corral.supervisor.console_view import ConsoleView
from corral.supervisor.cpu_watch import AllowedCpus, CpuWatch
from corral.supervisor.deployment import Deployment, DeploymentBuilder
from corral.supervisor.lifecycle import EndingSignals
from corral.supervisor.reload import Reloader
from corral.supervisor.slots import AnySlot, FrontendSlot, WorkerSlot, make_slots
from corral.supervisor.standing_warnings import StandingWarnings
from corral.supervisor.terminal import Terminal
from corral.supervisor.views import addresses
from corral.supervisor.watcher import Spectator

logger = logging.getLogger(__name__)

#: for children to leave by themselves, once told to
_LEAVE_S = 1.0
#: for SIGKILL
_KILL_S = 0.5


class Supervisor:
    """One server's life; its methods are callbacks of the running loop, but for ``run``.

    Args:
        deployment: what the server starts with.
        builder: makes what it is reloaded to.
        pages: the counters.
        spectator: is told.
        admin_path: of the admin socket, if there is one.
        read_allowed_cpus: the CPUs that are ours now.
    """

    def __init__(
        self,
        deployment: Deployment,
        builder: DeploymentBuilder,
        *,
        pages: Pages,
        spectator: Spectator,
        admin_path: str | None,
        read_allowed_cpus: Callable[[], AllowedCpus],
    ) -> None:
        self._deployment = deployment
        self._spectator = spectator
        self._admin_path = admin_path
        self._read_allowed_cpus = read_allowed_cpus
        self._terminal = Terminal()
        self._loop = asyncio.get_running_loop()
        self._started_at_s = time.time()
        self._started_s = self._loop.time()
        self._ready_after_s: float | None = None
        self._phase = Phase.STARTING
        self._signals = EndingSignals()
        self._forced_code: int | None = None
        self._complete = False
        self._warnings = StandingWarnings()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        lifecycle = deployment.settings.lifecycle
        self._fleet = Fleet(
            deployment.factory,
            pages,
            *make_slots(lifecycle, deployment.plan, deployment.factory),
            boot_timeout_s=lifecycle.boot_timeout_s,
            watcher=self,
        )
        self._bound = BoundKeeper(self._fleet, pages, lambda: self._deployment, self.changed)
        #: the latest snapshot, for other threads
        self.board = StatusBoard(self._snapshot())
        self._reloader = Reloader(self._fleet, builder, deployment, self._on_deployment)
        console = ConsoleView(self.board, pages, lambda: self.settings)
        self._fleet.on_ask_view = console.asked
        self._commands = Commands(self._reloader, self.board, self._fleet.tracer, console)
        #: answers what the admin socket asks
        self.command = self._commands.handle

    @property
    def deployment(self) -> Deployment:
        """What holds now; any thread may ask."""
        return self._deployment

    @property
    def frontends(self) -> Sequence[FrontendSlot]:
        """The frontends' slots, by cell."""
        return self._fleet.frontends

    @property
    def settings(self) -> Settings:
        """Those that hold now."""
        return self._deployment.settings

    def leave(self, error: CorralError | None) -> None:
        """Ends the server, in order without an error; ``run`` raises the other."""
        self._end() if error is None else self._fail(error)

    # --- life of the server ---

    async def run(self) -> int:
        """Starts everything, serves, drains, stops; returns the exit code.

        Raises:
            StartError: no worker got ready in time.
            ConfigError: a child said that trying again would not help.
        """
        for number in ENDING_SIGNALS:
            self._loop.add_signal_handler(number, self._on_signal, number)
        for number in MEANINGLESS_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        self._loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        self.warn(self._deployment.warnings)
        cpu_watch = CpuWatch(self._read_allowed_cpus, self._on_allowed_cpus, logger.warning)
        timer = self._loop.call_later(self.settings.lifecycle.boot_timeout_s, self._on_boot_timeout)
        try:
            for slot in self._fleet.slots:
                self._fleet.start(slot)
            await self._ended
        finally:
            timer.cancel()
            cpu_watch.stop()
            self._bound.stop()
            self._commands.stop()
            await self._stop()
        return 0 if self._forced_code is None else self._forced_code

    def _on_boot_timeout(self) -> None:
        if self._phase is Phase.STARTING:
            fleet, limit_s = self._fleet, self.settings.lifecycle.boot_timeout_s
            self._fail(StartError(first_start.not_ready(fleet.frontends, fleet.workers, limit_s)))
        else:
            self._show_complete()

    def _is_verified(self, frontend: FrontendSlot) -> bool:
        return frontend.life.is_ready and any(
            w.life.state is State.VERIFIED for w in self._workers_of(frontend)
        )

    def _workers_of(self, frontend: FrontendSlot) -> Iterator[WorkerSlot]:
        return (w for w in self._fleet.workers if w.cell == frontend.cell)

    def _fail(self, error: CorralError) -> None:
        if not self._ended.done():
            self._ended.set_exception(error)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    # --- changes while it serves ---

    def _on_hangup(self) -> None:
        if self._terminal.closed:
            self._terminal.let_go()
            # Not a wish to reload: the terminal that the server was started in was closed.
            self._on_signal(signal.SIGHUP)
        else:
            self._commands.start(self._reloader.reload, "SIGHUP: reload")

    def _on_allowed_cpus(self, allowed_cpus: AllowedCpus) -> asyncio.Task[Reply] | None:
        if self._phase is not Phase.SERVING:
            logger.debug("the server may use %s now: not while it is %s", allowed_cpus, self._phase)
            return None
        what = f"the server may use {allowed_cpus} now: plan anew"
        return self._commands.start(self._reloader.replan, what)

    def _on_deployment(self, deployment: Deployment) -> None:
        self._deployment = deployment
        logs.configure(deployment.settings.logging, "supervisor")
        reports = [slot.report for slot in self._fleet.workers if slot.report]
        self._warnings.deployed(deployment.warnings, *(report.warnings for report in reports))
        self.changed()

    # --- stopping ---

    def _on_signal(self, number: signal.Signals) -> None:
        again = self._signals.comes_again(self._loop.time())
        if again is None or (again and number is signal.SIGXCPU):  # which the kernel repeats
            return
        if again:
            logger.warning("%s again: stopping at once", number.name)
            self._forced_code = 128 + number
            self._fleet.signal(signal.SIGKILL)
            self._end()
        elif self._phase is Phase.STARTING and not first_start.is_open(self._fleet.frontends):
            logger.info("%s while starting: stopping", number.name)
            self._end()
        else:
            self._drain(number)

    def _drain(self, number: signal.Signals) -> None:
        lifecycle = self.settings.lifecycle
        grace_s, delay_s = lifecycle.grace_s, lifecycle.drain_delay_s
        if delay_s:
            logger.info("%s: not ready any more, taking requests for %g s", number.name, delay_s)
        logger.info("%s: draining, for at most %g s", number.name, grace_s + delay_s)
        self._phase = Phase.DRAINING
        self.changed()  # before any frontend says so: the probes of one server agree
        for frontend in self._fleet.frontends:
            frontend_link.tell(frontend, Drain(delay_s=delay_s))
        self._loop.call_later(grace_s + delay_s, self._on_grace_over)
        self._end_if_drained()

    def _end_if_drained(self) -> None:
        if self._phase is Phase.DRAINING and all(
            frontend.drained or not frontend.life.is_ready for frontend in self._fleet.frontends
        ):
            self._end()

    def _on_grace_over(self) -> None:
        if not self._ended.done():
            logger.warning("the grace time is over: what is not answered by now will not be")
            self._end()

    async def _stop(self) -> None:
        """Ends every child: by its sockets, else by SIGKILL; it ignores all other signals."""
        self._phase = Phase.STOPPED
        self.changed()
        fleet = self._fleet
        fleet.cancel_starts()
        in_order = self._ended.done() and self._ended.exception() is None
        if in_order and self._forced_code is None:
            fleet.dismiss()
            if await fleet.gone(_LEAVE_S):
                return
            logger.warning("some children did not leave when told to: killed")
        fleet.signal(signal.SIGKILL)
        if not await fleet.gone(_KILL_S):
            logger.error("some children do not even die of SIGKILL; they will when they can")

    def warn(self, sentences: Iterable[str], *, lasting: bool = False) -> None:
        """Logs what did not take hold, and keeps it for the status; see StandingWarnings."""
        self._warnings.add(sentences, lasting=lasting)
        self.changed()

    # --- what the fleet tells ---

    def may_restart(self, slot: AnySlot) -> bool:
        """Not once all is over; while draining, only workers that still have work to do."""
        if self._phase is Phase.DRAINING:
            frontend = self._fleet.frontends[slot.cell]
            return isinstance(slot, WorkerSlot) and frontend.life.is_ready and not frontend.drained
        return self._phase is not Phase.STOPPED and not self._ended.done()

    def not_started(self, slot: AnySlot, error: OSError | None) -> None:
        """While starting, perhaps the end; later, it is tried again."""
        if self._phase is Phase.STARTING and (why := first_start.given_up(slot, error)):
            self._fail(StartError(why))

    def worker_ready(self, slot: WorkerSlot) -> None:
        """Takes note of what it has to say."""
        assert slot.report
        logger.debug("%s is ready after %.2f s", slot.name, slot.life.boot_s)
        self.warn(slot.report.warnings)
        if all(worker.report for worker in self._fleet.workers) and self._phase is Phase.SERVING:
            self._loop.call_soon(self._show_complete)

    def worker_verified(self) -> None:
        """Opens the server, or a frontend that came back, when the time has come."""
        frontends = self._fleet.frontends
        starting = self._phase is Phase.STARTING
        if starting and not all(map(self._is_verified, frontends)):
            return
        if starting or self._phase is Phase.SERVING:
            for frontend in frontends:
                if not frontend.told_to_open and self._is_verified(frontend):
                    frontend.told_to_open = True
                    frontend_link.tell(frontend, Open())

    def frontend_opened(self) -> None:
        """The server is ready once every frontend says that it takes requests."""
        opened = all(frontend.opened for frontend in self._fleet.frontends)
        if self._phase is not Phase.STARTING or not opened:
            return
        self._phase = Phase.SERVING
        self._ready_after_s = self._loop.time() - self._started_s
        self.changed()
        logger.info("ready in %.2f s: %s", self._ready_after_s, addresses(self.settings.listen))
        self._spectator.ready(self.board)
        if all(worker.report for worker in self._fleet.workers):
            self._show_complete()

    def _show_complete(self) -> None:
        if not self._complete:
            self._complete = True
            self.changed()
            self._spectator.complete(self.board)

    def child_failed(self, slot: AnySlot, message: str) -> None:
        """While starting, the end; later, one slot's trouble."""
        if self._phase is Phase.STARTING:
            self._fail(ConfigError(message))
        else:
            logger.error("%s cannot start: %s", slot.name, message)
            if isinstance(slot, WorkerSlot):
                self._reloader.worker_failed(slot, message)

    def frontend_done(self, frontend: FrontendSlot) -> None:
        """The last cell to drain ends the server."""
        self._end_if_drained()

    def changed(self) -> None:
        """Publishes a snapshot."""
        self.board.publish(self._snapshot())
        self._reloader.news()

    def _snapshot(self) -> ServerStatus:
        return snapshot.take(
            settings=self.settings,
            model=self._deployment.model,
            phase=self._phase,
            started_at_s=self._started_at_s,
            ready_after_s=self._ready_after_s,
            frontends=self._fleet.frontends,
            workers=self._fleet.workers,
            warnings=self._warnings,
            admin_socket=self._admin_path,
            bound=self._bound.status,
        )
