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


def test_messages_that_do_not_come_to_an_end_make_room_for_others(server: StartServer) -> None:
    async def hold(port: int, count: int) -> Counter[str]:
        """Calls whose message never comes, until there is room again; how they ended by then."""
        forever = asyncio.Event()

        async def messages() -> AsyncIterator[bytes]:
            await forever.wait()
            yield b""

        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            calls = [channel.stream_unary(INFER)(messages()) for _ in range(count)]
            while not any(call.done() for call in calls):
                await asyncio.sleep(0.01)
            while await asyncio.to_thread(ask, port) != "OK":
                await asyncio.sleep(0.1)
            # The status of the one that made room travels beside the answer of who took its place.
            found: Counter[str] = Counter()
            async with asyncio.timeout(10):
                while len(found) < 2:
                    await asyncio.sleep(0.01)
                    ended = [call for call in calls if call.done()]
                    found = Counter(
                        [f"{(await call.code()).name}: {await call.details()}" for call in ended]
                    )
            for call in calls:
                call.cancel()
            return found

    with server("--workers", "1", "--max-queue", "1", "--max-message-bytes", "1000000") as s:
        found = asyncio.run(hold(s.port, 300))
        assert set(found) == {
            "RESOURCE_EXHAUSTED: too many messages are under way",
            "RESOURCE_EXHAUSTED: the message came too slowly, and its place was needed",
        }
        assert ask(s.port) == "OK"
        assert "Traceback" not in s.stderr


def test_pages_that_do_not_come_to_an_end_make_room_for_others(server: StartServer) -> None:
    async def hold(port: int) -> None:
        forever = asyncio.Event()

        async def messages() -> AsyncIterator[bytes]:
            await forever.wait()
            yield b""

        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            calls = [channel.stream_unary(path)(messages()) for path in (READY, CHECK) * 40]
            for path in (READY, CHECK) * 20:
                await channel.unary_unary(path)(b"", timeout=10)
            ended = [await call.code() for call in calls if call.done()]
            assert set(ended) == {grpc.StatusCode.RESOURCE_EXHAUSTED}
            for call in calls:
                call.cancel()

    with server("--workers", "1") as s:
        asyncio.run(hold(s.port))
        assert ask(s.port) == "OK"
        assert "Traceback" not in s.stderr
