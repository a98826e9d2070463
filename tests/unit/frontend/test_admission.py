"""Whose message is received, whose waits for room, and who has to make room."""

from __future__ import annotations

import asyncio

import pytest

from corral.errors import QueueFull, Unavailable
from corral.frontend.admission import Admission, ClientsTurn


class Call:
    """A call of a connection; its message comes when the test says so."""

    def __init__(self, admission: Admission, source: str, *, inference: bool = False) -> None:
        self.message: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[object] = asyncio.create_task(
            self._read(admission.turn({"client": source}, inference=inference))
        )

    async def _read(self, turn: ClientsTurn) -> object:
        with turn:
            return await self.message


class Growing:
    """A call whose message comes in pieces of 60 bytes, each when the test says so."""

    def __init__(self, admission: Admission, source: str) -> None:
        self.taken = 0
        self._pieces: asyncio.Queue[bool] = asyncio.Queue()
        self.task = asyncio.create_task(self._read(admission.turn({"client": source})))

    async def _read(self, turn: ClientsTurn) -> bytes:
        with turn:
            while True:
                last = await self._pieces.get()
                self.taken += 60
                if last:
                    return b"it"
                if (room := turn.grow(60)) is not None:
                    await room

    async def piece(self, *, last: bool = False) -> None:
        self._pieces.put_nowait(last)
        await settle()


async def settle() -> None:
    """Lets every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def calls(admission: Admission, sources: str, *, inference: bool = False) -> list[Call]:
    made = [Call(admission, source, inference=inference) for source in sources]
    await settle()
    return made


async def test_a_message_that_comes_is_there() -> None:
    admission = Admission(2, 100, slow_s=60.0)
    first, second = await calls(admission, "aa")
    second.message.set_result(b"second")
    assert await second.task == b"second"
    assert len(admission) == 1
    first.message.set_exception(RuntimeError("gone"))
    with pytest.raises(RuntimeError):
        await first.task
    assert len(admission) == 0


async def test_silent_calls_of_one_connection_harm_no_other() -> None:
    admission = Admission(3, 100, slow_s=60.0)
    silent = await calls(admission, "aaaa")
    with pytest.raises(QueueFull, match="of this connection"):
        await silent[3].task
    (other,) = await calls(admission, "b")
    with pytest.raises(QueueFull, match="too slowly"):
        await silent[0].task
    other.message.set_result(b"it")
    assert await other.task == b"it"
    assert not any(call.task.done() for call in silent[1:3])


async def test_who_leaves_frees_its_place() -> None:
    admission = Admission(1, 100, slow_s=60.0)
    (gone,) = await calls(admission, "a")
    gone.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone.task
    (other,) = await calls(admission, "b")
    assert not other.task.done()


async def test_a_large_message_waits_until_there_is_room() -> None:
    admission = Admission(9, 100, slow_s=60.0)
    first, second = Growing(admission, "a"), Growing(admission, "a")
    await settle()
    await first.piece()
    await second.piece()
    await second.piece()
    assert second.taken == 60
    await first.piece(last=True)
    assert await first.task == b"it"
    await settle()
    assert second.taken == 120
    await second.piece(last=True)
    assert await second.task == b"it"


async def test_a_stalled_message_makes_room_for_those_that_wait() -> None:
    admission = Admission(9, 100, slow_s=0.01)
    stalled, waiting = Growing(admission, "a"), Growing(admission, "a")
    await settle()
    await stalled.piece()
    await waiting.piece()
    with pytest.raises(QueueFull, match="too slowly"):
        await stalled.task
    await waiting.piece(last=True)
    assert await waiting.task == b"it"


async def test_at_the_end_no_inference_is_received_any_more() -> None:
    admission = Admission(9, 100, slow_s=60.0)
    (page,) = await calls(admission, "a")
    (reading,) = await calls(admission, "a", inference=True)
    admission.close()
    (late,) = await calls(admission, "b", inference=True)
    for call in (reading, late):
        with pytest.raises(Unavailable, match="stopping"):
            await call.task
    page.message.set_result(b"still")
    assert await page.task == b"still"


async def test_who_watches_makes_room_like_who_is_silent() -> None:
    admission = Admission(2, 100, slow_s=60.0)

    async def watch() -> None:
        with admission.turn({"client": "a"}):
            await asyncio.Event().wait()

    watchers = [asyncio.create_task(watch()) for _ in range(2)]
    await settle()
    (other,) = await calls(admission, "b")
    with pytest.raises(QueueFull):
        await watchers[0]
    assert not other.task.done()
    watchers[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await watchers[1]


async def test_another_limit_holds_from_then_on() -> None:
    admission = Admission(1, 100, slow_s=60.0)
    _, refused = await calls(admission, "aa")
    assert refused.task.done()
    admission.set_most(2)
    later = await calls(admission, "aa")
    assert [call.task.done() for call in later] == [False, True]
    for call in (refused, later[1]):
        with pytest.raises(QueueFull):
            await call.task
