"""The row of silence: the first request after it, by requests one after another."""

from __future__ import annotations

import pytest

from corral_loadtest.bars import silence_row


def test_every_first_request_comes_after_a_whole_silence() -> None:
    story: list[str] = []

    def ask() -> float:
        story.append("ask")
        return 0.012

    found = silence_row.first_ones(ask, lambda seconds: story.append(f"{seconds:g} s"))
    assert found == [0.012] * 3
    assert story == ["10 s", "ask"] * 3


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
