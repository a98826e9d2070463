"""R6 for clients that are slow: what was accepted is answered, and can be read to its end."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest
from PIL import Image
from support.broken_clients import asked, open_windows, ping, read_answer
from support.counted_load import ask
from support.requests_by_hand import encode
from support.running_server import Server, StartServer, wait_until
from support.server_counters import Scrape

from corral_protos import open_inference_pb2 as pb

ITEMS = 32


@contextlib.contextmanager
def unread_answer(server: Server, earlier: int = 0) -> Iterator[socket.socket]:
    """An answer of 128 KB, of which HTTP/2 lets out 64 KB until the client has read them.

    Args:
        server: null's.
        earlier: requests that were answered before.
    """
    picture = encode(Image.new("RGB", (1, 1)))

    def succeeded() -> float:
        return Scrape(server.metrics_port).total("corral_requests_total", outcome="succeeded")

    with contextlib.closing(
        asked(server.port, *[picture] * ITEMS, receive_bytes=4096)
    ) as connection:
        wait_until(lambda: succeeded() == earlier + 1, "the answer")
        yield connection


@pytest.mark.parametrize("held_by", ["HTTP/2", "TCP"])
def test_r6_an_answer_that_is_not_read_yet_is_waited_for(held_by: str, server: StartServer) -> None:
    with server("--workers", "1", "--grace-s", "20") as s, unread_answer(s) as connection:
        if held_by == "TCP":
            open_windows(connection)
        s.signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            s.wait(0.7)
        # Whoever says something to a process that has gone loses what it has not read.
        ping(connection)
        if held_by == "HTTP/2":
            open_windows(connection)
        answer = pb.ModelInferResponse.FromString(read_answer(connection))
        assert len(answer.raw_output_contents[0]) == ITEMS * 4000
        assert s.wait() == 0
        assert "the grace time is over" not in s.stderr


def test_r6_who_never_reads_its_answer_is_waited_for_no_longer_than_the_grace_time(
    server: StartServer,
) -> None:
    with server("--workers", "1", "--grace-s", "0.5") as s, unread_answer(s):
        assert s.stop() == 0
        assert "the grace time is over" in s.stderr


def test_answers_that_are_not_read_take_nobodys_place(server: StartServer) -> None:
    with server("--workers", "1", "--max-requests", "2") as s, contextlib.ExitStack() as readers:
        for earlier in range(3):
            readers.enter_context(unread_answer(s, earlier))
        assert ask(s.port) == "OK"
