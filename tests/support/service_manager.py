"""A service manager's end of the notification socket, as systemd has it."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from support.running_server import PATIENCE_S


class NotifySocket:
    """Collects what is said: each message as a dictionary, with the second it came."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._news = threading.Condition()
        self.said: list[tuple[float, dict[str, str]]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while (text := self._socket.recv(65536).decode()) != "over":
            words = dict(line.split("=", 1) for line in text.splitlines())
            with self._news:
                self.said.append((time.monotonic(), words))
                self._news.notify_all()

    def find(self, name: str, after: int = 0) -> list[str]:
        """All values of a word, in messages from the ``after``-th on."""
        return [words[name] for _, words in self.said[after:] if name in words]

    def wait_for(self, name: str, after: int = 0, holds: str = "") -> dict[str, str]:
        """The first message with this word, from the ``after``-th on."""

        def look() -> dict[str, str] | None:
            return next((w for _, w in self.said[after:] if name in w and holds in w[name]), None)

        with self._news:
            self._news.wait_for(look, PATIENCE_S)
            found = look()
        assert found is not None, f"never said {name}: {self.said}"
        return found

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"over", self.address)
        self._thread.join(PATIENCE_S)
        self._socket.close()


@contextlib.contextmanager
def notify_socket(path: Path) -> Iterator[NotifySocket]:
    """A socket at that path, and what is said to it."""
    made = NotifySocket(path)
    try:
        yield made
    finally:
        made.close()
