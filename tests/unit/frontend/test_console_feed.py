"""The console's stream: one producer for all pages, and a bounded number of them."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import msgspec
import pytest
from support.status_cases import Numbers, status

from corral.console import view
from corral.errors import QueueFull
from corral.frontend import console_feed
from corral.frontend.console_feed import MAX_FOLLOWERS, ConsoleFeed, Follower
from corral.ipc.messages import ServedModel, TellView
from corral.system import memfd
from corral.tensors import Datatype, Signature

SERVED = ServedModel(
    name="resnet50",
    signature=Signature({Datatype.FP32: (3, 4, 4)}, (10,)),
    classes=10,
    labels=(),
)


class Case:
    """A feed, its counters, and what it asked the supervisor for."""

    def __init__(self) -> None:
        self.numbers = Numbers()
        self.asked: list[int] = []
        self.feed = ConsoleFeed(self.numbers.pages, SERVED, self.asked.append)

    def tell(self, version: int, content: bytes | None = None) -> None:
        """As the supervisor does it."""
        if content is None:
            content = msgspec.json.encode(view.make(status(), None, None, None))
        fd = memfd.create("test", len(content))
        os.pwrite(fd, content, 0)
        self.feed.heard(TellView(version=version, length=len(content)), [fd])


@pytest.fixture
async def case(monkeypatch: pytest.MonkeyPatch) -> Case:
    monkeypatch.setattr(console_feed, "TICK_S", 0.001)
    return Case()


async def events(follower: Follower) -> dict[str, Any]:
    """One piece of the stream, by the events' names."""
    async with asyncio.timeout(5):
        text = (await anext(follower)).decode()
    assert text.endswith("\n\n")
    pairs = [part.split("\n") for part in text[:-2].split("\n\n")]
    return {
        name.removeprefix("event: "): json.loads(data.removeprefix("data: "))
        for name, data in pairs
    }


async def until(follower: Follower, name: str) -> dict[str, Any]:
    while name not in (found := await events(follower)):
        pass
    return found


async def test_a_page_is_greeted_and_then_told_what_is_new(case: Case) -> None:
    follower = case.feed.follow()
    first = await events(follower)
    assert first["hello"] == {"model": "resnet50", "pictures": False, "classes": 10}
    assert first["history"] == [] or len(first["history"]) == 1
    case.tell(1)
    told = await until(follower, "view")
    assert told["view"]["model"] == "resnet50"
    assert "hello" not in told
    frame = (await until(follower, "frame"))["frame"]
    assert {"outcomes_s", "latency_ms", "workers", "sizes", "queues"} <= set(frame)
    # From the view on, the workers' counters are read, too.
    while [w["id"] for w in frame["workers"]] != [0, 1]:
        frame = (await until(follower, "frame"))["frame"]
    follower.close()


async def test_all_pages_have_one_producer(case: Case) -> None:
    followers = [case.feed.follow() for _ in range(5)]
    first = [await until(follower, "frame") for follower in followers]
    producers = [
        task for task in asyncio.all_tasks() if "ConsoleFeed._produce" in str(task.get_coro())
    ]
    assert len(producers) == 1
    assert all(told["frame"]["at_s"] for told in first)
    for follower in followers:
        follower.close()


async def test_a_page_that_comes_later_has_the_charts_of_before(case: Case) -> None:
    first = case.feed.follow()
    for _ in range(4):
        await until(first, "frame")
    later = await events(case.feed.follow())
    assert len(later["history"]) >= 4
    assert len(later["history"][0]) == 8
    assert "frame" in later


async def test_a_slow_page_gets_the_latest_and_not_what_it_missed(case: Case) -> None:
    slow, quick = case.feed.follow(), case.feed.follow()
    await until(slow, "frame")
    for _ in range(20):
        await until(quick, "frame")
    before = case.feed.tick
    assert "frame" in await events(slow)
    # One frame made up for all.
    assert slow._tick >= before


async def test_there_are_so_many_pages_and_no_more(case: Case) -> None:
    followers = [case.feed.follow() for _ in range(MAX_FOLLOWERS)]
    with pytest.raises(QueueFull, match="as many pages are open"):
        case.feed.follow()
    followers[0].close()
    followers[0].close()
    case.feed.follow()
    with pytest.raises(QueueFull):
        case.feed.follow()


async def test_nothing_runs_once_nobody_has_looked_for_a_while(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not case.asked
    follower = case.feed.follow()
    await until(follower, "frame")
    monkeypatch.setattr(console_feed, "_LINGER_S", 0.0)
    follower.close()
    producer = case.feed._producer
    assert producer is not None
    async with asyncio.timeout(5):
        await producer
    asked = len(case.asked)
    # The next page begins anew: it is told nothing of before.
    again = case.feed.follow()
    first = await events(again)
    assert first["history"] == []
    assert "frame" not in first
    await until(again, "frame")
    assert len(case.asked) > asked
    again.close()


async def test_a_stream_ends_after_a_while_for_credentials_may_be_taken_back(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_feed, "_STREAM_S", 0.05)
    follower = case.feed.follow()
    async with asyncio.timeout(5):
        pieces = [piece async for piece in follower]
    assert pieces


@pytest.mark.parametrize("content", [b"", b"{", b'{"workers": 7}', b"[]"])
async def test_a_view_that_makes_no_sense_is_not_shown(case: Case, content: bytes) -> None:
    case.tell(3, content)
    assert case.feed.version == 0


async def test_a_view_whose_memory_did_not_arrive_is_asked_for_again(case: Case) -> None:
    case.feed.heard(TellView(version=3, length=10), [])
    assert case.feed.version == 0
    follower = case.feed.follow()
    await until(follower, "frame")
    assert case.asked[-1] == 0
    follower.close()


async def test_a_defect_ends_nothing(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    good = case.feed._ask
    monkeypatch.setattr(case.feed, "_ask", lambda _: 1 / 0)
    follower = case.feed.follow()
    await events(follower)
    await asyncio.sleep(0.01)
    monkeypatch.setattr(case.feed, "_ask", good)
    assert "frame" in await until(follower, "frame")
    follower.close()
