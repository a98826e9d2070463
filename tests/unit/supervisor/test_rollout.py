"""The order of a rolling restart, played through on workers that do as they are told."""

from __future__ import annotations

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from corral.supervisor.rollout import Done, Member, Renew, Retire, Spare, Wait, next_step


def old(key: int, cell: int = 0, *, wanted: bool = True, serving: bool = True) -> Member:
    return Member(key=key, cell=cell, wanted=wanted, current=False, serving=serving)


def new(key: int, cell: int = 0, *, wanted: bool = True, serving: bool = True) -> Member:
    return Member(key=key, cell=cell, wanted=wanted, current=True, serving=serving)


def test_one_at_a_time() -> None:
    assert next_step([old(0), old(1)]) == Renew(0)
    leaving = dataclasses.replace(old(0), leaving=True)
    assert next_step([leaving, old(1)]) == Wait()
    assert next_step([new(0, serving=False), old(1)]) == Wait()
    assert next_step([new(0), old(1)]) == Renew(1)
    assert next_step([new(0), new(1)]) == Done()


def test_the_only_worker_of_a_cell_gets_a_spare() -> None:
    assert next_step([old(0)]) == Spare(0)
    spare = new(1, wanted=False)
    assert next_step([old(0), new(1, wanted=False, serving=False)]) == Wait()
    assert next_step([old(0), spare]) == Renew(0)
    assert next_step([new(0, serving=False), spare]) == Wait()
    assert next_step([new(0), spare]) == Retire(1)
    assert next_step([new(0)]) == Done()


def test_another_cells_worker_is_no_help() -> None:
    assert next_step([old(0, 0), old(1, 1)]) == Spare(0)


def test_one_that_does_not_serve_goes_first_and_needs_no_spare() -> None:
    assert next_step([old(0), old(1, serving=False)]) == Renew(1)
    assert next_step([old(0, serving=False)]) == Renew(0)


def test_those_too_many_go_last() -> None:
    assert next_step([old(0), old(1, wanted=False)]) == Renew(0)
    assert next_step([new(0), old(1, wanted=False)]) == Retire(1)


@st.composite
def plans(draw: st.DrawFn) -> list[Member]:
    """Up to three cells; workers that stay, go and are new."""
    members: list[Member] = []
    for cell in range(draw(st.integers(1, 3))):
        stay, go, come = (draw(st.integers(low, 4)) for low in (1, 0, 0))
        for kind in [*["stay"] * stay, *["go"] * go, *["come"] * come]:
            key = len(members)
            if kind == "come":
                members.append(new(key, cell, serving=False))
            else:
                members.append(old(key, cell, wanted=kind == "stay"))
    return members


@given(plans(), st.randoms(use_true_random=False))
def test_never_more_than_one_short_and_never_a_cell_without(
    members: list[Member], random: object
) -> None:
    """Workers come up in any order; at every moment all but one of the old number serve."""
    by_key = {member.key: member for member in members}
    cells = {member.cell for member in members}
    before = sum(member.serving for member in members)
    wanted = {member.key for member in members if member.wanted}
    for _ in range(200):
        step = next_step(list(by_key.values()))
        match step:
            case Done():
                break
            case Renew(key):
                by_key[key] = dataclasses.replace(by_key[key], current=True, serving=False)
            case Retire(key):
                del by_key[key]
            case Spare(cell):
                key = max(by_key) + 1
                by_key[key] = new(key, cell, wanted=False, serving=False)
            case Wait():
                booting = [m for m in by_key.values() if m.current and not m.serving]
                chosen = random.choice(booting)  # type: ignore[attr-defined]
                by_key[chosen.key] = dataclasses.replace(chosen, serving=True)
        serving = [member for member in by_key.values() if member.serving]
        least = min(before, len(wanted)) - 1
        assert len(serving) >= least
        assert {member.cell for member in serving} == cells
    else:
        raise AssertionError("it never ends")
    assert set(by_key) == wanted
    assert all(member.current and member.serving for member in by_key.values())
