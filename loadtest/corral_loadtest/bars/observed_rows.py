"""Rows of what watching costs, to 1 %: traces, and the console in tabs.

Both ways are visited in turns of a fraction of a second, A B B A, so that what else happens on the
machine meets both; see ``measure.pairs``. CPU time a request stands beside throughput: it tells
what the other way costs also where pauses hide it.
"""

from __future__ import annotations

import contextlib
import functools
import http
import http.server
import socket
import threading
from collections.abc import Callable, Iterator, Sequence

from corral_loadtest.bars.bar import Bar, shown
from corral_loadtest.bars.bench import Bench, Server
from corral_loadtest.measure import pairs
from corral_loadtest.measure.visits import Visit, Visitor
from corral_loadtest.servers.processes import free_port
from corral_loadtest.specification import InputKind, Payload

CLIENTS = 16
TABS = 5
#: blocks of four visits in a round
_BLOCKS = 5
#: of ``--seconds``, which other rows spend on one measurement
_VISIT = 0.25
#: the same of the console, which tells something once a second
_TICKS = 0.5
_NULL = ("--backend", "null", "--workers", "1")
#: one that costs nothing, so that the front is the limit, and one that is the limit as models are
ENGINES = {
    "null engine": _NULL,
    "an engine of 4 ms": (*_NULL, "--null-batch-ms", "4", "--max-batch", "1"),
}
_LEAST = 0.99

#: visits without and with what is measured, of the same block
Block = tuple[list[Visit], list[Visit]]


def tracing(bench: Bench) -> list[Bar]:
    """1 % of the requests traced, by none."""
    found = []
    with _collector() as endpoint:
        watched = ("--otlp-endpoint", endpoint, "--trace-rate", "0.01")
        for engine, options in ENGINES.items():
            with (
                bench.server(*options) as plain,
                bench.server(*options, *watched) as traced,
                visiting(plain) as off,
                visiting(traced) as on,
            ):
                blocks = compare(bench, off.visit, on.visit)
            found += bars("tracing", f"1 % traced ÷ none, {engine}", blocks)
    return found


def console(bench: Bench) -> list[Bar]:
    """The console open in tabs, by closed, of the same server."""
    found = []
    for engine, options in ENGINES.items():
        port = free_port()
        with (
            bench.server(*options, "--http-port", str(port)) as server,
            visiting(server) as visitor,
        ):
            blocks = compare(
                bench, visitor.visit, visitor.visit, functools.partial(_tabs, port), share=_TICKS
            )
        found += bars("console", f"console in {TABS} tabs ÷ closed, {engine}", blocks)
    return found


def compare(
    bench: Bench,
    off: Callable[[float], Visit],
    on: Callable[[float], Visit],
    during: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    *,
    share: float = _VISIT,
) -> list[Block]:
    """Blocks of four visits: off, on, on, off.

    Args:
        bench: how long, how often.
        off: visits without what is measured.
        on: visits with it.
        during: around the two visits that are on.
        share: of ``bench.seconds``, for a visit.
    """
    seconds = share * bench.seconds
    # Caches fill, and threads start.
    off(seconds)
    on(seconds)
    blocks = []
    for _ in range(_BLOCKS * bench.rounds):
        first = off(seconds)
        with during():
            second, third = on(seconds), on(seconds)
        blocks.append(([first, off(seconds)], [second, third]))
    return blocks


def bars(row: str, name: str, blocks: Sequence[Block], *, least: float = _LEAST) -> list[Bar]:
    """Throughput as a ratio that is held to its bound, and CPU time a request as a difference."""
    ratios = [_per_s(on) / _per_s(off) for off, on in blocks]
    sure = pairs.ratio(ratios)
    more_us = {
        part: [_mean(on, part) - _mean(off, part) for off, on in blocks]
        for part in ("children_us", "parent_us")
    }
    cost = {part: pairs.estimate(values) for part, values in more_us.items()}
    children, parent = cost["children_us"], cost["parent_us"]
    return [
        Bar(
            row=row,
            name=name,
            values=ratios,
            bound=least,
            pooled=sure.value,
            detail=f"95 % of {len(blocks)} blocks: {sure.least:.3f} to {sure.most:.3f}; "
            f"{shown(_per_s(on) for _, on in blocks)}/s, without "
            f"{shown(_per_s(off) for off, _ in blocks)}/s",
        ),
        Bar(
            row=row,
            name=f"{name}: server CPU a request more, µs",
            values=[sum(one) for one in zip(*more_us.values(), strict=True)],
            pooled=children.value + parent.value,
            detail=f"frontend and workers {children.value:.1f} ({children.least:.1f} to "
            f"{children.most:.1f}), supervisor {parent.value:.1f} ({parent.least:.1f} to "
            f"{parent.most:.1f}), of {shown(_cpu_us(off) for off, _ in blocks)}",
        ),
    ]


def _per_s(visits: Sequence[Visit]) -> float:
    return sum(one.requests for one in visits) / sum(one.seconds for one in visits)


def _mean(visits: Sequence[Visit], part: str) -> float:
    requests = sum(one.requests for one in visits)
    used_us: float = sum(getattr(one, part) * one.requests for one in visits)
    return used_us / requests


def _cpu_us(visits: Sequence[Visit]) -> float:
    return _mean(visits, "cpu_us")


@contextlib.contextmanager
def visiting(server: Server, clients: int = CLIENTS) -> Iterator[Visitor]:
    """Clients of a server that stay connected."""
    visitor = Visitor(server.address, server.pid, clients, Payload(kind=InputKind.UINT8))
    try:
        yield visitor
    finally:
        visitor.close()


@contextlib.contextmanager
def _tabs(port: int) -> Iterator[None]:
    """The page's stream of events, open so often; each is read as it comes.

    Raises:
        RuntimeError: the server gives no such stream.
    """
    with contextlib.ExitStack() as stack:
        for _ in range(TABS):
            tab = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10.0))
            # Ends the thread's read; a close alone would leave it waiting.
            stack.callback(tab.shutdown, socket.SHUT_RDWR)
            tab.sendall(b"GET /console/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            status = tab.recv(65536).partition(b"\r\n")[0]
            if b" 200" not in status:
                raise RuntimeError(f"/console/events: {status.decode('latin-1')}")
            tab.settimeout(None)
            threading.Thread(target=_read, args=(tab,), daemon=True).start()
        yield


def _read(tab: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while tab.recv(65536):
            continue


class _Taking(http.server.BaseHTTPRequestHandler):
    """A collector that takes everything and keeps nothing."""

    def do_POST(self) -> None:
        """Answers 200 with an empty message."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(http.HTTPStatus.OK)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@contextlib.contextmanager
def _collector() -> Iterator[str]:
    """Where traces go; its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Taking) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
