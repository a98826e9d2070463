"""Whose message is received, whose waits for its turn, and who has to make room."""

from __future__ import annotations

import asyncio

import pytest

from corral.errors import InvalidRequest, QueueFull
from corral.frontend.admission import Receiver


class Call:
    """A call's context; its message comes when the test says so."""

    def __init__(self, receiver: Receiver) -> None:
        self.reading = False
        self.message: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(receiver.receive(self))

    async def read(self) -> object:
        self.reading = True
        return await self.message


async def settle() -> None:
    """Lets every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def calls(receiver: Receiver, count: int) -> list[Call]:
    made = [Call(receiver) for _ in range(count)]
    await settle()
    return made


async def test_so_many_at_a_time_and_the_others_in_their_order() -> None:
    receiver = Receiver(2, slow_s=60.0)
    made = await calls(receiver, 5)
    assert [call.reading for call in made] == [True, True, False, False, False]
    made[1].message.set_result(b"second")
    assert await made[1].task == b"second"
    await settle()
    assert [call.reading for call in made] == [True, True, True, False, False]
    for call in (made[0], made[2]):
        call.message.set_result(b"")
    await settle()
    assert made[3].reading
    assert made[4].reading


async def test_one_more_than_may_wait_is_refused_at_once() -> None:
    made = await calls(Receiver(1, slow_s=60.0, most_waiting=2), 4)
    with pytest.raises(QueueFull, match="too many messages"):
        await made[3].task
    assert not any(call.task.done() for call in made[:3])


async def test_a_slow_message_makes_room_though_nobody_else_comes() -> None:
    slow, waiting = await calls(Receiver(1, slow_s=0.01), 2)
    with pytest.raises(QueueFull, match="too slowly"):
        await slow.task
    await settle()
    assert waiting.reading
    waiting.message.set_result(b"it")
    assert await waiting.task == b"it"


async def test_who_leaves_frees_its_place_or_its_turn() -> None:
    receiver = Receiver(1, slow_s=60.0)
    reading, gone, next_one, last = await calls(receiver, 4)
    gone.task.cancel()
    await settle()
    assert not next_one.reading
    reading.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading.task
    await settle()
    assert next_one.reading
    assert not last.reading


async def test_a_call_that_fails_frees_its_place() -> None:
    failing, waiting = await calls(Receiver(1, slow_s=60.0), 2)
    failing.message.set_exception(RuntimeError("gone"))
    with pytest.raises(RuntimeError):
        await failing.task
    await settle()
    assert waiting.reading


async def test_a_call_without_a_message_is_invalid() -> None:
    (call,) = await calls(Receiver(1, slow_s=60.0), 1)
    call.message.set_result(object())
    with pytest.raises(InvalidRequest, match="no message"):
        await call.task


async def test_other_limits_hold_from_then_on() -> None:
    receiver = Receiver(1, slow_s=60.0, most_waiting=0)
    first, refused = await calls(receiver, 2)
    with pytest.raises(QueueFull):
        await refused.task
    receiver.set_limits(2, 1)
    later = await calls(receiver, 2)
    assert first.reading
    assert [call.reading for call in later] == [True, False]
