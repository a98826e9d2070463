"""Hostile clients: the server lives, its memory stays within bounds, and others are not late."""

from __future__ import annotations

import contextlib
import gzip
import struct
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from support.broken_clients import DATA, END_STREAM, frame, idle_connection
from support.bystanders import harm
from support.certificates import Authority
from support.counted_load import INFER, ask
from support.hostile_h2 import ATTACKS, opened
from support.process_use import peak_growth_bytes
from support.running_server import Server, StartServer, null_server

MIB = 2**20
#: what three hostile connections may hold; the bounds in SECURITY.md are for many
_MOST_BYTES = 64 * MIB
TLS_ONLY = "plain on the TLS port"


@pytest.fixture(scope="module")
def null() -> Iterator[Server]:
    """One server for all attacks: that it lives through them is part of what is tested."""
    with null_server("--workers", "1", "--null-batch-ms", "10") as server:
        frontends, workers = server.frontends(), server.workers()
        yield server
        assert (server.frontends(), server.workers()) == (frontends, workers)
        assert "Traceback" not in server.stderr
        assert "panicked" not in server.stderr


@pytest.fixture(scope="module")
def others(null: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{null.port}") as channel:
        yield channel


@pytest.mark.timing
@pytest.mark.parametrize("name", [name for name in ATTACKS if name != TLS_ONLY])
def test_an_attack_harms_nobody(null: Server, others: grpc.Channel, name: str) -> None:
    """The others' p99, before and during it in the same round; a round without a pause counts."""
    (front,) = null.frontends()
    with peak_growth_bytes(front) as growth:
        rounds = harm(others, null.port, name)
        assert ask(null.port) == "OK"
    usual_s, among_s = rounds[-1]
    assert among_s <= 1.5 * usual_s, rounds
    assert growth.bytes <= _MOST_BYTES, f"{growth.bytes / MIB:.1f} MiB"


@pytest.mark.timing
def test_plain_on_the_tls_port_harms_nobody(tmp_path: Path, server: StartServer) -> None:
    authority = Authority(tmp_path)
    pair = authority.issue("server", "localhost", "127.0.0.1")
    files = ("--tls-cert", str(pair.cert), "--tls-key", str(pair.key))
    credentials = grpc.ssl_channel_credentials(authority.file.read_bytes())
    with (
        server("--workers", "1", "--null-batch-ms", "10", *files) as s,
        grpc.secure_channel(f"localhost:{s.port}", credentials) as channel,
        peak_growth_bytes(s.frontends()[0]) as growth,
    ):
        usual_s, among_s = harm(channel, s.port, TLS_ONLY)[-1]
        assert among_s <= 1.5 * usual_s
    assert growth.bytes <= _MOST_BYTES, f"{growth.bytes / MIB:.1f} MiB"


def test_gzip_bombs_are_not_unpacked(server: StartServer) -> None:
    bomb = gzip.compress(bytes(400 * MIB))
    with server("--workers", "1") as s, peak_growth_bytes(s.frontends()[0]) as growth:
        with grpc.insecure_channel(f"127.0.0.1:{s.port}") as channel:
            for _ in range(5):
                call = channel.unary_unary(INFER)
                with pytest.raises(grpc.RpcError) as refusal:
                    call(bytes(16 * MIB), timeout=20, compression=grpc.Compression.Gzip)
                assert refusal.value.code() is not grpc.StatusCode.UNKNOWN
        packed = b"\0\x0dgrpc-encoding\x04gzip"
        half = frame(DATA, END_STREAM, 1, struct.pack(">BI", 1, len(bomb)) + bomb[:8000])
        with contextlib.closing(idle_connection(s.port)) as connection:
            connection.sendall(opened(1, more=packed) + half)
            assert ask(s.port) == "OK"
    assert growth.bytes <= _MOST_BYTES, f"{growth.bytes / MIB:.1f} MiB"
