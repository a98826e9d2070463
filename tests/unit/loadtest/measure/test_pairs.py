"""Estimates of blocks: pauses are left out; the interval holds the truth as often as it says."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from corral_loadtest.measure import pairs
from corral_loadtest.servers import process_tree


def test_a_pause_moves_nothing() -> None:
    quiet = [1.0, 1.01, 0.99, 1.0, 1.0, 1.02, 0.98, 1.0, 1.0, 1.0]
    assert pairs.ratio([*quiet[:-1], 0.2]).value == pytest.approx(
        pairs.ratio(quiet).value, abs=0.003
    )
    assert pairs.trimmed_mean([3.0]) == 3.0


def test_ratios_multiply() -> None:
    assert pairs.ratio([0.5, 2.0]).value == pytest.approx(1.0)


def test_the_interval_holds_the_truth_some_95_times_of_100() -> None:
    generator = random.Random(5)
    held = 0
    for _ in range(60):
        drawn = [generator.gauss(0.99, 0.05) for _ in range(30)]
        found = pairs.estimate(drawn)
        assert found.least <= found.value <= found.most
        held += found.least <= 0.99 <= found.most
    assert held >= 52


def test_cpu_time_is_of_every_thread_and_to_the_nanosecond(tmp_path: Path) -> None:
    stat = "7 (a b) S 1 " + " ".join(["0"] * 9) + " 250 50 0 0 " + " ".join(["0"] * 20)
    process = tmp_path / "7"
    for thread, spent_ns in (("7", 2_000_000_001), ("8", 500_000_000)):
        (process / "task" / thread).mkdir(parents=True)
        (process / "task" / thread / "schedstat").write_text(f"{spent_ns} 5 9\n")
    (process / "stat").write_text(stat)
    assert process_tree.cpu_by_process_s(7, tmp_path) == {7: 2.500000001}
    (process / "task" / "8" / "schedstat").unlink()
    # A kernel without schedstat counts ticks.
    assert process_tree.cpu_by_process_s(7, tmp_path) == {7: pytest.approx(3.0)}
