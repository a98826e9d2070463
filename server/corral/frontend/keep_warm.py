"""Sends requests through the server's own front while no client asks, so that nothing grows cold.

What is cold after a silence is the whole way of a request: the HTTP server's thread, the event
loop, the code and the buffers of both, and the worker. So a request of ours takes the same way. It
is counted nowhere, waits for nothing and gives way to any client's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from corral.dataplane.dispatcher import Dispatcher
from corral.dataplane.upkeep import Silence, warm_every_s, warm_share
from corral.dataplane.worker_link import WorkerLink
from corral.frontend.grpc_asgi.status import Code
from corral.frontend.inner_message import InnerCallFailed, inner_message
from corral.frontend.pages import Pages
from corral.frontend.service import Service
from corral.ipc.messages import CellBoot
from corral.protocol.request import RequestReader
from corral.settings import Settings
from corral.tensors import Datatype, Signature

if TYPE_CHECKING:
    from corral.frontend.inner_front import InnerFront

logger = logging.getLogger(__name__)

#: a call that gave way to a client ends with that
_GAVE_WAY = {Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED}
#: So often in a row, another error is the model's; once, it may be a worker that died.
_FAILURES = 3
#: how long an answer is waited for: so often what it should take, and no less than that
_TIMES, _LEAST_PATIENCE_S = 10.0, 2.0


class KeepWarm:
    """Does so from ``start`` on, where the settings ask for it.

    Args:
        settings: whether, and how often.
        service: the clients'.
        dispatcher: the clients'.
        signature: the model's shapes.
        model: its name.
        make_front: makes what is asked, once there is something to ask.
    """

    def __init__(
        self,
        settings: Settings,
        service: Service,
        dispatcher: Dispatcher,
        *,
        signature: Signature,
        model: str,
        make_front: Callable[[], InnerFront],
    ) -> None:
        self._settings = settings
        self._service = service
        self._dispatcher = dispatcher
        self._signature = signature
        self._model = model
        self._make_front = make_front
        self._front: InnerFront | None = None
        self._silence = Silence()
        self._messages: dict[Datatype, bytes | None] = {}
        self._failures = 0
        self._is_over = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins, or goes on by the settings as they are now."""
        self.stop()
        self._messages.clear()
        if warm_share(self._settings) and not self._is_over:
            self._task = asyncio.create_task(self._run())
            self._task.add_done_callback(_ended)

    def follow(self, settings: Settings) -> None:
        """Goes by other settings."""
        self._settings = settings
        if self._task is not None or warm_share(settings):
            self.start()

    def stop(self) -> None:
        """Sends no more."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def end(self) -> None:
        """Sends no more, whatever settings come."""
        self._is_over = True
        self.stop()

    def clients_ask(self) -> bool:
        """Whether a client's request is under way, or has come since the last look."""
        return self._silence.is_broken(self._service.count, self._service.accepted)

    async def _run(self) -> None:
        share = warm_share(self._settings)
        while True:
            await asyncio.sleep(self._pause_s(share))
            if self._silence.look(self._service.count, self._service.accepted):
                await self._ask()

    def _pause_s(self, share: float) -> float:
        workers = max(1, self._dispatcher.workers)
        took_s = _took_s(self._dispatcher.idle_worker)
        least_s = self._settings.lifecycle.keep_warm_every_s
        return warm_every_s(took_s, share, least_s=least_s, workers=workers) / workers

    async def _ask(self) -> None:
        link = self._dispatcher.idle_worker
        if link is None:
            return
        datatype = link.datatype
        if datatype not in self._messages:
            made = inner_message(self._signature, self._model, datatype)
            too_long = made is not None and len(made) > self._service.max_body_bytes
            self._messages[datatype] = None if too_long else made
        message = self._messages[datatype]
        if message is None:
            self._dispatcher.run_unasked()
            return
        try:
            if self._front is None:
                self._front = self._make_front()
            await self._front.call(message, max(_LEAST_PATIENCE_S, _TIMES * _took_s(link)))
        except InnerCallFailed as error:
            if error.code not in _GAVE_WAY:
                self._failed(datatype, error.code)
        except OSError:
            self._dispatcher.run_unasked()
        # Nobody would start it again.
        except Exception:
            logger.exception("--keep-warm: workers alone are kept warm")
            self._messages[datatype] = None
        else:
            self._failures = 0

    def _failed(self, datatype: Datatype, code: int) -> None:
        self._dispatcher.run_unasked()
        self._failures += 1
        if self._failures >= _FAILURES:
            logger.info(
                "--keep-warm: requests of zeros are answered with %s: workers alone are kept warm",
                Code(code).name,
            )
            self._failures = 0
            self._messages[datatype] = None


def _took_s(link: WorkerLink | None) -> float:
    """What a batch of one takes a worker, of its latest datatype; 0 without a worker."""
    return 0.0 if link is None else link.costs.expected_s(link.datatype, 1)


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        logger.error("--keep-warm: it has ended", exc_info=error)


def make(
    boot: CellBoot,
    service: Service,
    dispatcher: Dispatcher,
    reader: RequestReader,
    pages: Pages,
) -> KeepWarm:
    """What keeps a frontend warm, given what its clients' requests go through."""

    def make_front() -> InnerFront:
        # Few servers need it, and a client's HTTP/2 with it.
        from corral.frontend.inner_front import InnerFront

        return InnerFront(
            boot.served,
            reader,
            dispatcher,
            pages,
            settings=boot.settings,
            clients_ask=found.clients_ask,
            max_body_bytes=service.max_body_bytes,
        )

    found = KeepWarm(
        boot.settings,
        service,
        dispatcher,
        signature=boot.served.signature,
        model=pages.names()[0],
        make_front=make_front,
    )
    return found
