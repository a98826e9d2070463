"""Whose message is received, whose waits for its turn, and who has to make room."""

from __future__ import annotations

import asyncio

import pytest

from corral.errors import QueueFull, Unavailable
from corral.frontend.admission import Admission


class Call:
    """A call's context; its message comes when the test says so."""

    def __init__(self, admission: Admission) -> None:
        self.reading = False
        self.message: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(admission.receive(self.read))

    async def read(self) -> object:
        self.reading = True
        return await self.message


async def settle() -> None:
    """Lets every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def calls(admission: Admission, count: int) -> list[Call]:
    made = [Call(admission) for _ in range(count)]
    await settle()
    return made


async def test_so_many_at_a_time_and_the_others_in_their_order() -> None:
    admission = Admission(2, slow_s=60.0)
    made = await calls(admission, 5)
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
    made = await calls(Admission(1, slow_s=60.0, most_waiting=2), 4)
    with pytest.raises(QueueFull, match="too many messages"):
        await made[3].task
    assert not any(call.task.done() for call in made[:3])


async def test_a_slow_message_makes_room_though_nobody_else_comes() -> None:
    slow, waiting = await calls(Admission(1, slow_s=0.01), 2)
    with pytest.raises(QueueFull, match="too slowly"):
        await slow.task
    await settle()
    assert waiting.reading
    waiting.message.set_result(b"it")
    assert await waiting.task == b"it"


async def test_who_leaves_frees_its_place_or_its_turn() -> None:
    admission = Admission(1, slow_s=60.0)
    reading, gone, next_one, last = await calls(admission, 4)
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
    failing, waiting = await calls(Admission(1, slow_s=60.0), 2)
    failing.message.set_exception(RuntimeError("gone"))
    with pytest.raises(RuntimeError):
        await failing.task
    await settle()
    assert waiting.reading


async def test_at_the_end_nothing_more_is_received() -> None:
    admission = Admission(1, slow_s=60.0)
    reading, waiting = await calls(admission, 2)
    admission.close()
    (late,) = await calls(admission, 1)
    for call in (reading, waiting, late):
        with pytest.raises(Unavailable, match="stopping"):
            await call.task
    assert not late.reading


async def test_other_limits_hold_from_then_on() -> None:
    admission = Admission(1, slow_s=60.0, most_waiting=0)
    first, refused = await calls(admission, 2)
    with pytest.raises(QueueFull):
        await refused.task
    admission.set_limits(2, 1)
    later = await calls(admission, 2)
    assert first.reading
    assert [call.reading for call in later] == [True, False]
