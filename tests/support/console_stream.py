"""A console's stream of events, read over a socket as a browser does."""

from __future__ import annotations

import http.client
import json
from typing import Any

from support.running_server import PATIENCE_S


class Stream:
    """``/console/events`` of a server.

    Attributes:
        status: HTTP's.
        fields: the head's, names in lower case.
    """

    def __init__(
        self, port: int, fields: dict[str, str] | None = None, timeout_s: float = PATIENCE_S
    ) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
        self._connection.request("GET", "/console/events", headers=fields or {})
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self.fields = {name.lower(): value for name, value in self._answer.getheaders()}

    def event(self) -> tuple[str, Any]:
        """The next event: its name, and what it says."""
        name = data = ""
        while line := self._answer.readline().decode().rstrip("\n"):
            key, _, value = line.partition(": ")
            name, data = (value, data) if key == "event" else (name, value)
        return name, json.loads(data)

    def until(self, name: str, having: Any = lambda _: True) -> Any:
        """What the next event of this name says for which ``having`` is true."""
        while True:
            found, said = self.event()
            if found == name and having(said):
                return said

    def close(self) -> None:
        self._connection.close()

    def body(self) -> bytes:
        return self._answer.read()
