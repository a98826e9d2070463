"""The application as one HTTP server calls it, which may end before the process does.

HTTP/1.1 has no GOAWAY: a client learns from an answer's ``Connection: close`` that it has to come
anew, or from the end of the connection, which may cross its next request. h2corn, told to stop,
does the latter. So answers say it beforehand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]


class Farewell:
    """An ASGI application that can tell its clients over HTTP/1.1 to go.

    Args:
        app: answers the requests.

    Attributes:
        says_close: whether answers over HTTP/1.1 end their connections, those to requests that
            have begun included.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        self.says_close = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope.get("http_version", "2").startswith("1"):
            send = self._closing(send)
        await self._app(scope, receive, send)

    def _closing(self, send: Send) -> Send:
        def send_on(message: MutableMapping[str, Any]) -> Awaitable[None]:
            if self.says_close and message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            return send(message)

        return send_on
