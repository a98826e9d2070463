"""What still comes of a body over HTTP/2 whose request is refused: dropped, for a moment.

h2corn ends the stream (RST_STREAM) as soon as the application returns before the body's end. Where
that comes together with the answer, curl 7.88 looks at it first, and shows no answer. Over HTTP/1.1
h2corn reads on by itself.
"""

from __future__ import annotations

import asyncio

from corral.frontend.rest.service import Receive, Scope

#: the time that a client has to look at its answer
_WITHIN_S = 1.0
#: at once; further ones end as h2corn ends them, so that refusing stays cheap
_MOST = 64


class Leftovers:
    """Bodies that are dropped. Use it from one event loop."""

    def __init__(self) -> None:
        self._left = _MOST

    async def drop(self, scope: Scope, receive: Receive) -> None:
        """Reads what comes, until the body's end or the client's; nothing over HTTP/1.1.

        Args:
            scope: of a request that is answered.
            receive: ASGI's.
        """
        if scope.get("http_version") != "2" or not self._left:
            return
        self._left -= 1
        try:
            async with asyncio.timeout(_WITHIN_S):
                while (await receive()).get("more_body", False):
                    pass
        except TimeoutError:
            pass
        finally:
            self._left += 1
