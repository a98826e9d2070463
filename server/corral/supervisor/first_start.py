"""The first start: when it is given up, and why it is not over yet."""

from __future__ import annotations

from collections.abc import Sequence

from corral.supervisor.slots import AnySlot, FrontendSlot, WorkerSlot
from corral.system.limits import PASSING, memory_limits

#: starts of a child, where the machine refuses what it is made of
_TRIES = 3


def given_up(slot: AnySlot, error: OSError | None) -> str:
    """Why a child is not started again; empty where it is.

    Args:
        slot: whose child did not get ready; ``end_reason`` says how.
        error: what the machine refused, where it did not even start.
    """
    tried_enough = slot.life.early_deaths >= _TRIES - 1
    if error is not None:
        # A limit stays, unless others may have let go of something a moment later.
        return slot.end_reason if tried_enough or error.errno not in PASSING else ""
    # What is refused memory dies in as many ways as there are libraries.
    memory = memory_limits() if tried_enough else ""
    return f"{slot.end_reason}; {memory}" if memory else ""


def is_open(frontends: Sequence[FrontendSlot]) -> bool:
    """Whether there may be requests to answer: while it starts, one may take them already."""
    return any(frontend.told_to_open for frontend in frontends)


def not_ready(
    frontends: Sequence[FrontendSlot], workers: Sequence[WorkerSlot], limit_s: float
) -> str:
    """One sentence: why the cells that take no requests take none."""
    waiting = [frontend for frontend in frontends if not frontend.opened]
    cells = {frontend.cell for frontend in waiting}
    slots = (*waiting, *(slot for slot in workers if slot.cell in cells))
    deaths = [slot.end_reason for slot in slots if slot.end_reason]
    reason = "no worker has finished its warm-up"
    if deaths:
        reason = deaths[0]
    elif any(frontend.told_to_open for frontend in waiting):
        reason = "a frontend was told to take requests and has not answered"
    return f"not ready after --boot-timeout-s {limit_s:g}: {reason}"
