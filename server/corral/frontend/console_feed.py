"""The console's numbers, once a second, for all pages that are open at a frontend.

One task reads the counters and makes the events; nothing runs while no page is open, and for a
minute after the last was closed, so that one that comes back finds its charts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable

import msgspec

from corral.console.frame import Frame, Window
from corral.console.sample import Place, places, take
from corral.errors import QueueFull
from corral.ipc.messages import ServedModel, TellView
from corral.metrics.counters import Pages
from corral.tensors import View

logger = logging.getLogger(__name__)

#: pages that are open at a time
MAX_FOLLOWERS = 16
#: between two frames
TICK_S = 1.0
#: frames are made for so long after the last page was closed
_LINGER_S = 60.0
#: A page asks again after so long, with its credentials, which may have been taken back.
_STREAM_S = 300.0
#: seconds that a page's charts begin with
_HISTORY = 300
_RETRY_MS = 5000
_TOO_MANY = f"as many pages are open as may be ({MAX_FOLLOWERS} a cell)"


class ConsoleFeed:
    """What pages are told. Use it from the frontend's loop.

    Args:
        pages: the counters of all cells.
        served: the model.
        ask: asks the supervisor for a view that is newer than the one with this number.
    """

    def __init__(self, pages: Pages, served: ServedModel, ask: Callable[[int], None]) -> None:
        self._pages = pages
        self._ask = ask
        facts = {
            "model": served.name,
            "pictures": View.IMAGE in served.views,
            "classes": served.classes,
        }
        self._hello = _event("hello", msgspec.json.encode(facts))
        self._places: list[Place] = []
        self._window = Window()
        self._history: deque[list[float | None]] = deque(maxlen=_HISTORY)
        self._producer: asyncio.Task[None] | None = None
        self._left_s = 0.0
        self._changed = asyncio.Event()
        self._followers = 0
        #: numbers of the latest view and frame, and their events
        self.version = self.tick = 0
        self.view = self.frame = b""

    def follow(self) -> Follower:
        """A place among the pages that are told; see Feed."""
        if self._followers >= MAX_FOLLOWERS:
            raise QueueFull(_TOO_MANY, _RETRY_MS)
        self._followers += 1
        if self._producer is None or self._producer.done():
            # What lies behind a gap belongs to no rate and to no chart.
            self._window, self.frame = Window(), b""
            self._history.clear()
            self._producer = asyncio.get_running_loop().create_task(self._produce())
        return Follower(self, time.monotonic() + _STREAM_S)

    def leave(self) -> None:
        """A page is closed."""
        self._followers -= 1
        self._left_s = time.monotonic()

    def heard(self, message: TellView, fds: list[int]) -> None:
        """The supervisor tells how the server is; takes the descriptor over."""
        try:
            content = os.pread(fds[0], message.length, 0)
            self._places = places(content)
        except (OSError, IndexError, msgspec.DecodeError) as error:
            # Without descriptors to spare it does not arrive; it is asked for again.
            logger.debug("no view: %s", error)
            return
        finally:
            for fd in fds:
                os.close(fd)
        self.version, self.view = message.version, _event("view", content)
        self._wake()

    def greeting(self) -> bytes:
        """What a page is told first: what may be asked here, and the seconds before it came."""
        return self._hello + _event("history", msgspec.json.encode(list(self._history)))

    async def news(self) -> None:
        """Waits for a view or a frame."""
        await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    async def _produce(self) -> None:
        while self._followers or time.monotonic() - self._left_s < _LINGER_S:
            try:
                self._look()
            # A defect of the console must not end it, nor anything else.
            except Exception:
                logger.exception("the console's numbers could not be read")
            await asyncio.sleep(TICK_S)

    def _look(self) -> None:
        self._ask(self.version)
        cells, now_s = self._pages.cells, time.monotonic()
        sample = take(self._pages.snapshot(), self._places, cells=cells, at_s=now_s)
        frame = self._window.add(sample, unix_s=time.time())
        self._history.append(_point(frame))
        self.frame = _event("frame", msgspec.json.encode(frame))
        self.tick += 1
        self._wake()


class Follower:
    """The events of one page: the latest of each kind that it has not had.

    Args:
        feed: whose.
        until_s: when its stream ends, on the monotonic clock.
    """

    def __init__(self, feed: ConsoleFeed, until_s: float) -> None:
        self._feed = feed
        self._until_s = until_s
        self._greeted = False
        self._version = self._tick = 0
        self._open = True

    def __aiter__(self) -> Follower:
        return self

    async def __anext__(self) -> bytes:
        feed = self._feed
        while time.monotonic() < self._until_s:
            news = b"" if self._greeted else feed.greeting()
            if self._version != feed.version:
                news += feed.view
            if self._tick != feed.tick:
                news += feed.frame
            self._greeted, self._version, self._tick = True, feed.version, feed.tick
            if news:
                return news
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_s - time.monotonic()):
                    await feed.news()
        raise StopAsyncIteration

    def close(self) -> None:
        """Gives its place up; may be called again."""
        if self._open:
            self._open = False
            self._feed.leave()


def _event(name: str, data: bytes) -> bytes:
    """One event as Server-Sent Events have it; JSON has no line ends."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def _point(frame: Frame) -> list[float | None]:
    """A frame as the charts need it; page.js knows the order."""
    times = frame.latency_ms
    numbers = (frame.at_s, frame.answered_s, frame.refused_s, frame.failed_s)
    latency = (times.p50, times.p99) if times else (None, None)
    return [*(round(n, 3) for n in numbers), *latency, frame.waiting, round(frame.use, 4)]
