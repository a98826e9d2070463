"""The row of silence: the first request after it, by requests one after another."""

from __future__ import annotations

import pytest

from corral_loadtest.bars import silence_row


class World:
    """A server that is cold after ten seconds, and slow until it has answered ten requests."""

    def __init__(self) -> None:
        self.rested_s = 0.0
        self.asked = 0
        self.rests = 0

    def rest(self, seconds: float) -> None:
        self.rested_s = seconds
        self.rests += 1

    def ask(self) -> float:
        self.asked += 1
        cold, self.rested_s = self.rested_s >= 10, 0.0
        if self.asked <= 10:
            return 0.5
        return 0.012 if cold else 0.010


def test_the_first_request_is_compared_with_those_before_the_silence() -> None:
    world = World()
    usual_s = silence_row.usual_ones(world.ask)
    first_s = silence_row.first_ones(world.ask, world.rest)
    assert silence_row.Round(usual_s=usual_s, first_s=first_s).ratio == pytest.approx(1.2)
    assert (len(usual_s), len(first_s)) == (40, world.rests)


def test_a_clients_own_silence_has_no_bound() -> None:
    rounds = [silence_row.Round(usual_s=[0.01] * 3, first_s=[0.020])]
    found = silence_row._bar("busy", rounds, silence_row._BOUNDS.get("busy"))
    assert found.cleared is None
    assert found.name == (
        "first request after 10 s of its client's silence, beside another client ÷ usual, p50, "
        "keep-warm on"
    )


def test_the_bar_is_of_all_rounds_together() -> None:
    rounds = [
        silence_row.Round(usual_s=[0.01] * 3, first_s=[0.010, 0.011, 0.020]),
        silence_row.Round(usual_s=[0.01] * 3, first_s=[0.010, 0.010, 0.010]),
    ]
    found = silence_row._bar("auto", rounds, 1.1)
    assert found.values == pytest.approx([1.1, 1.0])
    assert found.judged == pytest.approx(1.0)
    assert found.cleared
    assert "auto" in found.name


def test_a_usual_request_that_warmth_slows_is_told() -> None:
    off = [silence_row.Round(usual_s=[0.010] * 3, first_s=[0.015])] * 2
    slow = [silence_row.Round(usual_s=[0.012] * 3, first_s=[0.012])] * 2
    found = silence_row._usual("on", slow, off)
    assert found.judged == pytest.approx(1.2)
    assert found.cleared is False
    assert found.detail == "12 ms, off 10 ms"
    assert silence_row._usual("on", off, off).cleared
