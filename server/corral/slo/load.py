"""Open-loop requests at given times: ``python load.py``; nothing of corral's.

Standard input's first line is JSON: the port, the length of the request in bytes, and the offsets
in seconds at which it is meant to be sent, whatever became of earlier ones. The request's bytes,
HTTP/1.1, follow. It says "ready", waits for another line, and sends; then it prints, as JSON, the
latency of each request in seconds from the time it was meant for, null for one that was refused or
not answered, the seconds by which each was sent late, and its own CPU seconds. One request at a
time on a connection, and as many connections as that takes.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

#: select() takes no descriptor beyond 1023
_MOST_CONNECTIONS = 900
_READ_BYTES = 262_144
#: after the last request, for what is under way
_DRAIN_S = 10.0


class _Connection:
    """One connection, with the request that is under way on it."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.number = -1
        self.unsent = memoryview(b"")
        self._received = bytearray()
        self._needed: int | None = None

    def begin(self, number: int, message: bytes) -> None:
        """Starts to send a request."""
        self.number = number
        self.unsent = memoryview(message)
        self._received.clear()
        self._needed = None
        self.go_on()

    def go_on(self) -> None:
        """Sends as much as the kernel takes."""
        try:
            while self.unsent:
                self.unsent = self.unsent[self.socket.send(self.unsent) :]
        except BlockingIOError:
            pass

    def read(self) -> int | None:
        """What has come; the status once the answer is whole, 0 where the server hung up."""
        try:
            some = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            return 0
        if not some:
            return 0
        self._received += some
        if self._needed is None:
            head, found, _ = bytes(self._received).partition(b"\r\n\r\n")
            if not found:
                return None
            fields = dict(
                line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line
            )
            self._needed = len(head) + 4 + int(fields.get(b"content-length", b"0"))
        if len(self._received) < self._needed:
            return None
        return int(self._received.split(b" ", 2)[1])


class _Sender:
    """Sends a schedule, and writes down what became of each request."""

    def __init__(self, port: int, message: bytes, offsets_s: list[float]) -> None:
        self._port = port
        self._message = message
        self._offsets_s = offsets_s
        self._free = [_Connection(port)]
        self._busy: dict[socket.socket, _Connection] = {}
        self.latencies_s: list[float | None] = [None] * len(offsets_s)
        self.late_s = [0.0] * len(offsets_s)

    def run(self) -> None:
        """From the first request to the last answer."""
        begun_s = time.monotonic()
        number, count = 0, len(self._offsets_s)
        end_s = self._offsets_s[-1] + _DRAIN_S
        while number < count or self._busy:
            now_s = time.monotonic() - begun_s
            if now_s > end_s:
                return
            while number < count and self._offsets_s[number] <= now_s:
                self._send(number, now_s)
                number += 1
                now_s = time.monotonic() - begun_s
            due_s = self._offsets_s[number] if number < count else end_s
            self._hear(max(0.0, due_s - now_s), begun_s)

    def _send(self, number: int, now_s: float) -> None:
        self.late_s[number] = now_s - self._offsets_s[number]
        if not self._free:
            if len(self._busy) >= _MOST_CONNECTIONS:
                return
            self._free.append(_Connection(self._port))
        connection = self._free.pop()
        connection.begin(number, self._message)
        self._busy[connection.socket] = connection

    def _hear(self, wait_s: float, begun_s: float) -> None:
        sending = [one.socket for one in self._busy.values() if one.unsent]
        if not self._busy:
            time.sleep(min(wait_s, 0.5))
            return
        readable, writable, _ = select.select(list(self._busy), sending, [], wait_s)
        for one in writable:
            self._busy[one].go_on()
        now_s = time.monotonic() - begun_s
        for one in readable:
            connection = self._busy[one]
            status = connection.read()
            if status is None:
                continue
            del self._busy[one]
            if status == 200:
                latency_s = now_s - self._offsets_s[connection.number]
                self.latencies_s[connection.number] = latency_s
            if status:
                self._free.append(connection)
            else:
                one.close()


def main() -> None:
    """Asks a server."""
    commands = sys.stdin.buffer
    line = commands.readline()
    if not line:
        # Whoever started it was ended first.
        return
    order = json.loads(line)
    message = commands.read(order["length"])
    if len(message) < order["length"]:
        return
    sender = _Sender(order["port"], message, order["offsets"])
    print("ready", flush=True)
    if not commands.readline():
        return
    began_s = time.process_time()
    sender.run()
    spent_s = time.process_time() - began_s
    print(json.dumps([sender.latencies_s, sender.late_s, spent_s]), flush=True)


if __name__ == "__main__":
    main()
