"""Messages on their way: how many, what they hold, and which one has to make room."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from corral.batching.incoming import Incoming


def make(most: int, most_bytes: int = 1000) -> tuple[Incoming[str], list[str]]:
    """The keys' first letter is their connection."""
    given_up: list[str] = []
    return Incoming(most, most_bytes, given_up.append), given_up


def begin(incoming: Incoming[str], *keys: str) -> list[bool]:
    return [incoming.begin(key, key[0]) for key in keys]


def test_there_is_room_again_when_a_message_is_there() -> None:
    incoming, given_up = make(2)
    assert begin(incoming, "a1", "b1", "c1") == [True, True, False]
    assert incoming.end("a1")
    assert begin(incoming, "c1") == [True]
    assert not given_up


def test_the_connection_with_the_most_makes_room_for_one_with_less() -> None:
    incoming, given_up = make(4)
    assert all(begin(incoming, "a1", "a2", "a3", "b1"))
    assert begin(incoming, "a4") == [False]
    assert begin(incoming, "b2") == [True]
    assert given_up == ["a1"]
    assert not incoming.end("a1")
    # Two each: neither gives way to the other, nor to a third that would have as many.
    assert begin(incoming, "a5", "b3") == [False, False]
    assert begin(incoming, "c1") == [True]
    assert given_up == ["a1", "a2"]


def test_a_connection_that_has_only_one_never_loses_it() -> None:
    incoming, given_up = make(3)
    assert begin(incoming, "a1", "b1", "c1", "d1") == [True, True, True, False]
    assert not given_up


def test_messages_wait_when_the_room_is_used_up() -> None:
    incoming, _ = make(10, most_bytes=100)
    begin(incoming, "a1", "a2", "b1")
    assert incoming.grow("a1", 60, 1.0)
    assert incoming.grow("a2", 39, 1.0)
    # The oldest goes on, so that something comes to an end; another connection has its share.
    assert not incoming.grow("a2", 20, 1.0)
    assert incoming.grow("a1", 20, 1.0)
    assert incoming.grow("b1", 50, 1.0)
    assert not incoming.grow("b1", 1, 1.0)
    assert incoming.end("a1")
    assert incoming.grow("a2", 0, 2.0)
    assert incoming.end("a2")
    assert incoming.grow("b1", 0, 2.0)
    assert incoming.end("b1")
    assert incoming.held_bytes == 0


def test_what_has_stalled_is_given_up_and_not_what_waits_for_us() -> None:
    incoming, given_up = make(10, most_bytes=100)
    begin(incoming, "a1", "b1", "b2")
    incoming.grow("a1", 10, 1.0)
    incoming.grow("b1", 30, 1.0)
    assert not incoming.grow("b2", 80, 1.0)
    assert not incoming.give_up_stalled(0.5)
    assert incoming.give_up_stalled(1.0)
    assert given_up == ["b1"]
    assert incoming.grow("b2", 0, 2.0)


def test_a_prefix_alone_holds_nothing() -> None:
    incoming, _ = make(2, most_bytes=1)
    begin(incoming, "a1")
    assert incoming.grow("a1", 0, 1.0)
    assert incoming.end("a1")
    assert incoming.grow("gone", 5, 1.0)


KEYS = [f"{source}{number}" for source in "abc" for number in range(6)]


@given(
    st.lists(
        st.tuples(st.sampled_from(KEYS), st.sampled_from(["begin", "end", "grow"]),
                  st.integers(0, 40)),
        max_size=200,
    )
)  # fmt: skip
def test_never_more_than_there_may_be_and_all_is_accounted_for(
    events: list[tuple[str, str, int]],
) -> None:
    incoming, given_up = make(5, most_bytes=100)
    held: Counter[str] = Counter()
    there: set[str] = set()
    waits: set[str] = set()
    for key, event, count in events:
        if event == "begin" and key not in there:
            before = Counter(one[0] for one in there)
            if incoming.begin(key, key[0]):
                there.add(key)
            else:
                assert before[key[0]] >= max(before.values()) - 1
            for gone in given_up:
                assert before[gone[0]] >= before[key[0]] + 2
        elif event == "end":
            assert incoming.end(key) == (key in there)
            there.discard(key)
        elif event == "grow" and key in there:
            # A message that waits takes nothing until it is let.
            taken = 0 if key in waits else count
            held[key] += taken
            waits.discard(key)
            if not incoming.grow(key, taken, 0.0):
                waits.add(key)
        there -= set(given_up)
        given_up.clear()
        waits &= there
        held = Counter({key: held[key] for key in there})
        assert len(incoming) == len(there) <= 5
        assert incoming.held_bytes == sum(held.values())
        # Each of three connections may go beyond its share by a piece.
        assert incoming.held_bytes - max(held.values(), default=0) <= 2 * 100 + 3 * 40
    growing = [key for key in there if held[key]]
    assert not growing or any(incoming.grow(key, 0, 0.0) for key in growing), "nobody goes on"
