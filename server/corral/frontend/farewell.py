"""The application as one HTTP server calls it, which may end before the process does.

HTTP/1.1 has no GOAWAY: a client learns from an answer's ``Connection: close`` that it has to come
anew, or from the end of the connection, which may cross its next request. h2corn, told to stop,
does the latter. So answers say it beforehand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


_HTTP_1 = ("1.1", "1.0")


class Farewell:
    """An ASGI application that can tell its clients over HTTP/1.1 to go.

    It belongs to the event loop that runs while it is made.

    Args:
        app: answers the requests.

    Attributes:
        since_s: on the loop's clock, since when answers over HTTP/1.1 end their connections, those
            to requests that had begun included; None: they do not.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self.since_s: float | None = None
        self._loop = asyncio.get_running_loop()
        self._under_way: set[asyncio.Task[Any]] = set()
        self._is_over = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope.get("http_version") in _HTTP_1:
            send = self._closing(send)
        # Without its loop, the interpreter asks the kernel each time which process it is.
        task = asyncio.current_task(self._loop)
        assert task
        self._under_way.add(task)
        try:
            await self._app(scope, receive, send)
        except asyncio.CancelledError:
            if not self._is_over:
                raise
            # h2corn would write the whole stack of each.
            task.uncancel()
        finally:
            self._under_way.discard(task)

    def begin(self) -> None:
        """From now on clients over HTTP/1.1 are told to go."""
        if self.since_s is None:
            self.since_s = self._loop.time()

    def end(self) -> int:
        """Ends the requests that are under way, and with them their connections.

        Returns:
            how many there were.
        """
        self._is_over = True
        ended = len(self._under_way)
        for task in self._under_way:
            task.cancel()
        return ended

    def _closing(self, send: Send) -> Send:
        def send_on(message: MutableMapping[str, Any]) -> Awaitable[None]:
            if self.since_s is not None and message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            return send(message)

        return send_on
