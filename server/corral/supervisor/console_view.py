"""How the server is, for who looks at its page or at ``corral top``; made when somebody asks.

The machine and its processes are looked at in a thread, once a minute at most, and again when
other processes run; nothing of it happens while nobody looks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from corral.console import view
from corral.console.sample import Sample, take
from corral.doctor.catalog import examine
from corral.doctor.finding import Report
from corral.doctor.gather import gather
from corral.doctor.layout import running
from corral.ipc.messages import AskView, TellView
from corral.ipc.status import ServerStatus, StatusBoard
from corral.metrics.counters import Pages
from corral.planning import topology
from corral.planning.machine import Machine
from corral.settings import Settings
from corral.supervisor import frontend_link
from corral.supervisor.slots import FrontendSlot
from corral.system import memfd

logger = logging.getLogger(__name__)

#: the machine is looked at again after so long, or when other processes run
_LOOK_EVERY_S = 60.0
#: and not more often than this
_LOOK_AT_MOST_EVERY_S = 5.0


class ConsoleView:
    """The view of one server, and its numbers. Use it from the supervisor's loop.

    Args:
        board: says how the server is.
        pages: its counters.
        settings: those that hold now.
    """

    def __init__(self, board: StatusBoard, pages: Pages, settings: Callable[[], Settings]) -> None:
        self._board = board
        self._pages = pages
        self._settings = settings
        self._change: str | None = None
        board.subscribe(self._on_status)
        self._made_of: tuple[bytes, str | None, int] | None = None
        self._version = 0
        self._content = b""
        self._machine: Machine | None = None
        self._report: Report | None = None
        self._looks = 0
        self._looking: asyncio.Task[None] | None = None
        self._looked_at_s = -_LOOK_EVERY_S
        self._looked_at: frozenset[int | None] = frozenset()
        #: frontends that are told when the look under way is over
        self._waiting: list[FrontendSlot] = []

    def _on_status(self, _status: ServerStatus, change: str | None) -> None:
        self._change = change

    # --- who asks ---

    def asked(self, frontend: FrontendSlot, message: AskView) -> None:
        """A frontend asks: it is told now, unless it knows, and once more after a look."""
        self._refresh()
        if message.known != self._version:
            self._tell(frontend)
        if self._looking is not None and frontend not in self._waiting:
            self._waiting.append(frontend)

    def sample(self) -> Sample:
        """The server's numbers as they are now."""
        places = view.places_of(self._board.current())
        counts = self._pages.snapshot()
        return take(counts, places, cells=self._pages.cells, at_s=time.monotonic())

    def report(self) -> Report | None:
        """What the doctor found lately; None where nobody has looked. Asking makes it look."""
        self._look_if_due(self._board.current())
        return self._report

    def _tell(self, frontend: FrontendSlot) -> None:
        fd = -1
        try:
            fd = memfd.create("console", len(self._content))
            os.pwrite(fd, self._content, 0)
            message = TellView(version=self._version, length=len(self._content))
            frontend_link.tell(frontend, message, (fd,))
        except OSError as error:
            # It asks again a second later.
            logger.debug("no view for frontend %d: %s", frontend.cell, error)
        finally:
            if fd >= 0:
                os.close(fd)

    # --- what they are told ---

    def _refresh(self) -> None:
        """Makes the view anew where anything in it has changed."""
        status = self._board.current()
        self._look_if_due(status)
        made_of = (msgspec.json.encode(status), self._change, self._looks)
        if made_of == self._made_of:
            return
        made = view.make(status, self._change, self._machine, self._report)
        self._made_of = made_of
        self._content = msgspec.json.encode(made)
        self._version += 1

    # --- the machine ---

    def _look_if_due(self, status: ServerStatus) -> None:
        layout = running(status)
        if self._looking is not None or not layout.workers or not layout.frontends:
            return
        age_s = time.monotonic() - self._looked_at_s
        others = frozenset(layout.pids) != self._looked_at and age_s >= _LOOK_AT_MOST_EVERY_S
        if others or age_s >= _LOOK_EVERY_S:
            self._looked_at = frozenset(layout.pids)
            self._looking = asyncio.get_running_loop().create_task(self._look(status))

    async def _look(self, status: ServerStatus) -> None:
        huge_pages = self._settings().placement.huge_pages
        try:
            self._machine, self._report = await asyncio.to_thread(_examine, status, huge_pages)
            self._looks += 1
        # Whatever a file of a machine holds that no check expects: the page goes without.
        except Exception:
            logger.exception("the machine could not be looked at for the console")
        finally:
            self._looked_at_s = time.monotonic()
            self._looking = None
        self._refresh()
        waiting, self._waiting = self._waiting, []
        for frontend in waiting:
            self._tell(frontend)


def _examine(status: ServerStatus, huge_pages: bool | None) -> tuple[Machine, Report]:
    machine = topology.read_machine()
    layout = running(status, huge_pages=huge_pages)
    seen = gather(Path("/"), machine, layout, live=True, thorough=False)
    return machine, examine(seen)
