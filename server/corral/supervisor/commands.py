"""What the admin socket and SIGHUP ask for, one thing after another."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import msgspec

from corral.errors import CorralError
from corral.ipc.status import Phase, ServerStatus, StatusBoard
from corral.supervisor.admin import Look, Reply, Request
from corral.supervisor.console_view import ConsoleView
from corral.supervisor.reload import Reloader
from corral.supervisor.tracing import MOST_SECONDS, Tracer

logger = logging.getLogger(__name__)


class Commands:
    """Hands commands to the reloader while the server serves.

    Args:
        reloader: carries them out.
        board: says what the server does.
        tracer: lets frontends note their requests' phases.
        console: reads what people look at.
    """

    def __init__(
        self, reloader: Reloader, board: StatusBoard, tracer: Tracer, console: ConsoleView
    ) -> None:
        self._reloader = reloader
        self._board = board
        self._tracer = tracer
        self._console = console
        self._busy = asyncio.Lock()
        self._tasks: set[asyncio.Task[Reply]] = set()
        #: why the last change failed, until one succeeds
        self._failed: str | None = None

    async def handle(self, request: Request) -> Reply:
        """Answers one request of the admin socket."""
        if request.command == "status":
            return Reply(text="", status=self._status())
        if request.command == "look":
            look = Look(sample=self._console.sample(), report=self._console.report())
            return Reply(text="", status=self._status(), look=look)
        if request.command == "trace":
            return await self._trace(request.seconds)
        if request.command == "reload":
            return await self._await(self._reloader.reload, "reload")
        if request.mode is None:
            return Reply(text="which mode?", exit_code=2)
        mode = request.mode
        return await self._await(lambda: self._reloader.switch(mode), f"mode {mode}")

    def _status(self) -> ServerStatus:
        """What the server does, and the last change where it failed: all stayed as it was."""
        status = self._board.current()
        if self._failed is None:
            return status
        return msgspec.structs.replace(status, warnings=[*status.warnings, self._failed])

    async def _trace(self, seconds: float) -> Reply:
        if not 0 < seconds <= MOST_SECONDS:
            return Reply(text=f"a trace lasts at most {MOST_SECONDS:g} s", exit_code=2)
        if self._tracer.busy:
            return Reply(text="another trace is under way; ask again later", exit_code=1)
        try:
            return Reply(text="", trace=await self._tracer.trace(seconds))
        except OSError as error:
            return Reply(text=f"no trace: {error.strerror or error}", exit_code=1)

    def start(self, act: Callable[[], Awaitable[str]], what: str) -> asyncio.Task[Reply]:
        """Carries something out when its turn has come, whether or not anybody waits for it."""
        task = asyncio.get_running_loop().create_task(self._act(act, what))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _await(self, act: Callable[[], Awaitable[str]], what: str) -> Reply:
        if self._busy.locked():
            return Reply(text="another change is under way; ask again later", exit_code=1)
        # Whoever asked may go away; what was begun is finished all the same.
        return await asyncio.shield(self.start(act, what))

    async def _act(self, act: Callable[[], Awaitable[str]], what: str) -> Reply:
        async with self._busy:
            phase = self._board.current().phase
            if phase is not Phase.SERVING:
                logger.warning("%s: not while the server is %s", what, phase)
                return Reply(text=f"not while the server is {phase}", exit_code=1)
            logger.info("%s: begins", what)
            self._board.changing(what)
            try:
                done = await act()
            except CorralError as error:
                logger.error("%s: %s", what, error)  # noqa: TRY400
                self._failed = f"{what}: {error}"
                return Reply(text=str(error), exit_code=error.exit_code)
            finally:
                self._board.changing(None)
            self._failed = None
            logger.info("%s: %s", what, done)
            return Reply(text=done)

    def stop(self) -> None:
        """Gives up whatever is under way: the server ends."""
        for task in list(self._tasks):
            task.cancel()
