"""What the supervisor sends to a frontend; a message that does not fit now is sent later."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from corral.ipc import channel, messages
from corral.supervisor.slots import FrontendSlot, WorkerSlot

#: how soon a message that did not fit into a child's socket is tried again
_RETRY_S = 0.05


def tell(frontend: FrontendSlot, message: messages.ToFrontend, fds: Sequence[int] = ()) -> None:
    """Sends a message to the frontend that fills the slot now; if none does, nothing.

    One with descriptors, which are the caller's, is not sent later: they may be closed by then.
    """
    process = frontend.process
    if process is None:
        return

    def again() -> None:
        if frontend.process is process and not fds:
            tell(frontend, message)

    _send(frontend, message, fds, again)


def attach(frontend: FrontendSlot, worker: WorkerSlot, again: Callable[[], None]) -> None:
    """Hands a worker that is ready to its frontend, and lets our copies of its ends go.

    Args:
        frontend: filled, and ready.
        worker: filled, ready, and nobody's yet.
        again: called later where the message does not fit now.
    """
    assert worker.process and worker.report and worker.handover and frontend.process
    message = messages.AttachWorker(
        worker=worker.planned.id,
        slot=worker.index,
        pid=worker.process.pid,
        sizes=worker.report.sizes,
        costs_s=worker.report.costs_s,
        region_batch=worker.factory.region_batch,
        findings=worker.report.findings,
        generation=worker.factory.generation,
    )
    fds = (worker.handover.data.fileno(), worker.handover.region_fd)
    if _send(frontend, message, fds, again):
        worker.attached_to = frontend.process.pid
        worker.drop_handover()


def _send(
    frontend: FrontendSlot,
    message: messages.ToFrontend,
    fds: Sequence[int],
    again: Callable[[], None],
) -> bool:
    assert frontend.process
    try:
        channel.send(frontend.process.control, message, fds)
    except BlockingIOError:
        asyncio.get_running_loop().call_later(_RETRY_S, again)
        return False
    except channel.Closed:
        return False
    return True
