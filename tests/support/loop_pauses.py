"""How long an event loop stands still while something is done beside it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable


async def longest_pause(work: Awaitable[object]) -> float:
    """The longest pause of the event loop while ``work`` is done, as a part of all that time."""
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    await asyncio.sleep(0)
    began_s = before_s = time.monotonic()
    longest_s = 0.0
    while True:
        # Through the selector, so that the loop gives the interpreter to other threads.
        turned = loop.create_future()
        loop.call_later(0.001, turned.set_result, None)
        await turned
        now_s = time.monotonic()
        longest_s, before_s = max(longest_s, now_s - before_s), now_s
        if task.done():
            task.result()
            return longest_s / (now_s - began_s)
