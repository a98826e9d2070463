"""Steal, as /proc/stat tells it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from corral.system import cpu_time

STAT = """cpu  2255 34 2290 22625563 6290 127 456 {steal} 0 0
cpu0 1132 34 1441 11311718 3675 127 438 10 0 0
cpu1 1123 0 849 11313845 2614 0 18 20 0 0
intr 114930548 113199788 3 0 5 263
"""


def test_steal_is_summed_over_all_cpus(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text(STAT.format(steal=30))
    assert cpu_time.steal(tmp_path) == (30 / os.sysconf("SC_CLK_TCK"), 2)


@pytest.mark.parametrize("text", ["", "cpu  1 2 3\n", "intr 4\n", STAT.format(steal="much")])
def test_a_kernel_that_does_not_say_is_no_answer(tmp_path: Path, text: str) -> None:
    (tmp_path / "stat").write_text(text)
    assert cpu_time.steal(tmp_path) is None


def test_no_such_file_is_no_answer(tmp_path: Path) -> None:
    assert cpu_time.steal(tmp_path) is None
