"""Who is refused before the message is received, and messages that do not come to an end."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from threading import Event

import grpc
from support.counted_load import INFER, ask, infer_message
from support.requests_by_hand import SERVICE
from support.running_server import StartServer, wait_until
from support.server_counters import Scrape

CHECK = "/grpc.health.v1.Health/Check"
READY = SERVICE + "ServerReady"
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


def test_a_full_queue_refuses_before_the_message_is_sent(server: StartServer) -> None:
    never = Event()

    def messages() -> Iterator[bytes]:
        never.wait()
        yield b""

    with (
        server("--workers", "1", "--max-queue", "1", "--null-batch-ms", "300") as s,
        grpc.insecure_channel(f"127.0.0.1:{s.port}") as channel,
    ):
        full = [channel.unary_unary(INFER).future(infer_message("x", 1, 1)) for _ in range(2)]
        wait_until(lambda: Scrape(s.metrics_port).total("corral_queue_depth") == 1, "a full queue")
        try:
            # To gRPC it is the same on the wire: a call whose only message has not come yet.
            refused = channel.stream_unary(INFER).future(messages(), timeout=20)
            assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert refused.details() == "the queue is full"
            assert "grpc-retry-pushback-ms" in dict(refused.trailing_metadata())
        finally:
            never.set()
        assert [call.code() for call in full] == [grpc.StatusCode.OK] * 2
        assert Scrape(s.metrics_port).total("nv_inference_request_failure_total") == 1


def test_a_front_that_fell_behind_refuses_in_words_that_one_tries_again_after(
    server: StartServer,
) -> None:
    """Left to itself, gRPC drops calls from a long backlog, and says CANCELLED."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with server("--workers", "1") as s:
        channels = [grpc.insecure_channel(f"127.0.0.1:{s.port}", options) for _ in range(4)]
        for channel in channels:
            grpc.channel_ready_future(channel).result(20)
        (front,) = s.frontends()
        os.kill(front, signal.SIGSTOP)
        try:
            calls = [
                channel.unary_unary(INFER).future(b"", timeout=60)
                for channel in channels
                for _ in range(1000)
            ]
        finally:
            os.kill(front, signal.SIGCONT)
        found = Counter(call.code().name for call in calls)
        for channel in channels:
            channel.close()
        assert set(found) <= {"NOT_FOUND", "RESOURCE_EXHAUSTED"}, found
        assert ask(s.port) == "OK"


async def never_sent(channel: grpc.aio.Channel, path: str) -> grpc.aio.StreamUnaryCall:
    """A call whose only message does not come; to gRPC it is on the wire what others send."""
    forever = asyncio.Event()

    async def messages() -> AsyncIterator[bytes]:
        await forever.wait()
        yield b""

    return channel.stream_unary(path)(messages())


def test_messages_that_do_not_come_take_nobodys_place(server: StartServer) -> None:
    """One connection's fill the room: its next ones are refused, and it makes room for others."""

    async def hold(port: int) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            calls = [await never_sent(channel, INFER) for _ in range(60)]

            async def ended(count: int) -> Counter[str]:
                async with asyncio.timeout(20):
                    while sum(call.done() for call in calls) < count:
                        await asyncio.sleep(0.01)
                return Counter([await call.details() for call in calls if call.done()])

            refused = "too many messages of this connection are on their way"
            assert await ended(20) == {refused: 20}
            for _ in range(20):
                assert await asyncio.to_thread(ask, port) == "OK"
            # One made room for all of the others, who came one after another.
            needed = "the message came too slowly, and its place was needed"
            assert await ended(21) == {refused: 20, needed: 1}
            for call in calls:
                call.cancel()

    with server("--workers", "1", "--max-requests", "40") as s:
        asyncio.run(hold(s.port))
        assert ask(s.port) == "OK"
        assert "Traceback" not in s.stderr


def test_pages_whose_message_does_not_come_take_nobodys_place(server: StartServer) -> None:
    async def hold(port: int) -> None:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            calls = [await never_sent(channel, path) for path in (READY, CHECK, REFLECT) * 40]
            for path in (READY, CHECK) * 20:
                await channel.unary_unary(path)(b"", timeout=10)
            assert not any(call.done() for call in calls)
            for call in calls:
                call.cancel()

    with server("--workers", "1") as s:
        asyncio.run(hold(s.port))
        assert ask(s.port) == "OK"
        assert "Traceback" not in s.stderr
