"""Answers that their clients do not take: what they hold, and who makes room."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.errors import QueueFull
from corral.frontend.outgoing import NotTaken, Outgoing
from corral.frontend.pieces import PIECE_BYTES, cut

MIB = 2**20
#: a piece that is on its way, and a task
BESIDE = PIECE_BYTES + 2**12


class Sender:
    """Sends an answer that is never taken, in a task of its own."""

    def __init__(self, outgoing: Outgoing, source: object, size: int) -> None:
        self.source = source
        self.size = size
        self.outcome = "waits"
        self._outgoing = outgoing
        self.task = asyncio.create_task(self._send())

    async def _send(self) -> None:
        try:
            with self._outgoing.answer(self.source, self.size):
                await asyncio.Future()
        except NotTaken:
            self.outcome = "given up"
        except QueueFull:
            self.outcome = "refused"


async def send(outgoing: Outgoing, *answers: tuple[object, int]) -> list[Sender]:
    """Answers that begin one after another, each when the one before it is as far as it gets."""
    senders = []
    for source, size in answers:
        senders.append(Sender(outgoing, source, size))
        await settle()
    return senders


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def end(senders: list[Sender]) -> None:
    for sender in senders:
        sender.task.cancel()
    await asyncio.gather(*(sender.task for sender in senders), return_exceptions=True)


async def test_a_connection_that_has_the_most_is_refused_more() -> None:
    outgoing = Outgoing(100 * MIB)
    senders = await send(outgoing, *[("a", 2 * MIB)] * 50)
    outcomes = [sender.outcome for sender in senders]
    assert outcomes == ["waits"] * 39 + ["refused"] * 11
    assert outgoing.held_bytes == 39 * (2 * MIB + BESIDE)
    await end(senders)
    assert outgoing.held_bytes == 0


async def test_it_gives_its_oldest_up_for_another_connection() -> None:
    outgoing = Outgoing(100 * MIB)
    senders = await send(outgoing, *[("a", 2 * MIB)] * 39, ("b", 2 * MIB), ("b", 2 * MIB))
    assert [sender.outcome for sender in senders[:3]] == ["given up", "given up", "waits"]
    assert [sender.outcome for sender in senders[3:]] == ["waits"] * 38
    await end(senders)


async def test_of_connections_with_as_much_the_one_that_came_first_gives_way() -> None:
    outgoing = Outgoing(100 * MIB)
    senders = await send(outgoing, *[(number, 2 * MIB) for number in range(40)])
    assert [sender.outcome for sender in senders] == ["given up", *["waits"] * 39]
    await end(senders)


async def test_so_many_answers_may_be_there_whatever_they_hold() -> None:
    outgoing = Outgoing(100 * MIB)
    senders = await send(outgoing, *[("a", 900 * MIB)] * 33)
    assert [sender.outcome for sender in senders] == ["waits"] * 32 + ["refused"]
    await end(senders)


async def test_who_cancels_the_task_sees_it_cancelled() -> None:
    outgoing = Outgoing(MIB)
    (sender,) = await send(outgoing, ("a", MIB))
    sender.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sender.task
    assert outgoing.held_bytes == 0


async def test_who_cancels_it_as_it_makes_room_sees_it_cancelled() -> None:
    outgoing = Outgoing(100 * MIB)
    senders = await send(outgoing, *[("a", 2 * MIB)] * 39)
    senders.append(Sender(outgoing, "b", 2 * MIB))
    # After this one step the first has been told to make room, and has not run yet.
    await asyncio.sleep(0)
    senders[0].task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await senders[0].task
    assert senders[0].outcome == "waits"
    await end(senders)
    assert outgoing.held_bytes == 0


async def test_a_task_whose_answer_was_given_up_goes_on() -> None:
    outgoing = Outgoing(100 * MIB)
    senders = await send(outgoing, *[("a", 2 * MIB)] * 39, ("b", 2 * MIB))
    await asyncio.wait_for(senders[0].task, 5)
    assert senders[0].outcome == "given up"
    assert not senders[0].task.cancelling()
    await end(senders)


answers = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 8 * MIB), st.booleans()), min_size=1, max_size=80
)


@settings(max_examples=60, deadline=None)
@given(answers)
def test_whatever_comes_it_stays_in_bounds_and_a_newcomer_is_let_in(
    given_answers: list[tuple[int, int, bool]],
) -> None:
    async def run() -> None:
        outgoing = Outgoing(100 * MIB)
        senders: list[Sender] = []
        for source, size, one_ends in given_answers:
            there = {one.source for one in senders if one.outcome == "waits"}
            sender = Sender(outgoing, source, size)
            senders.append(sender)
            await settle()
            assert sender.outcome != "given up"
            assert sender.outcome == "waits" or source in there
            waiting = [one for one in senders if one.outcome == "waits"]
            most = max(100 * MIB, 32 * (max(one.size for one in senders) + BESIDE))
            assert outgoing.held_bytes <= most
            assert sum(one.size for one in waiting) <= outgoing.held_bytes
            if one_ends:
                await end(waiting[:1])
                waiting[0].outcome = "left"
        await end(senders)
        assert outgoing.held_bytes == 0

    asyncio.run(run())


@pytest.mark.parametrize(
    "size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES, 3 * PIECE_BYTES + 7]
)
def test_pieces_are_the_whole(size: int) -> None:
    body = bytes(index % 251 for index in range(size))
    pieces = list(cut(body, b"head"))
    assert b"".join(piece for piece, _ in pieces) == b"head" + body
    assert all(len(piece) <= PIECE_BYTES + 4 for piece, _ in pieces)
    assert [more for _, more in pieces] == [True] * (len(pieces) - 1) + [False]
