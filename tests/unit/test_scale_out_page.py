"""The arithmetic of docs/scale-out.md is what its own sentence says, and the plan's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from corral.planning.front import Figures, cores_to_reserve

PAGE = (Path(__file__).parents[2] / "docs" / "scale-out.md").read_text()
CORES = 64
PIXELS = 224 * 224 * 3


def _rows(begin: str) -> list[list[str]]:
    lines = [line for line in PAGE.splitlines() if line.startswith(begin)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def _number(text: str) -> float:
    return float(re.sub(r"[ ,%]", "", text))


def _gbit(images_s: float, item_bytes: float) -> float:
    return round(images_s * item_bytes * 8 / 1e9, 1)


@pytest.mark.parametrize("begin", ["| AVX2, ResNet50", "| AMX, ResNet50"])
def test_a_machine(begin: str) -> None:
    ((_, *cells),) = _rows(begin)
    rate, front_us, kept, images_s, *gbits = map(_number, cells)
    figures = Figures(front_us=front_us, images_per_core_s=rate)
    assert cores_to_reserve(CORES, 2, figures) == kept
    assert images_s == (CORES - kept) * rate
    assert gbits == [_gbit(images_s, size) for size in (PIXELS, 4 * PIXELS, 100_000)]


def test_many_machines() -> None:
    images_s = _number(_rows("| AMX, ResNet50")[0][4])
    rows = [row for row in _rows("| ") if row[0].isdecimal()]
    assert [int(row[0]) for row in rows] == [1, 16, 64]
    for row in rows:
        count, cores, total, gbit, share = map(_number, row)
        assert cores == count * CORES
        assert total == count * images_s
        assert gbit == _gbit(total, PIXELS)
        assert share == round(100 * gbit / (25 * count))
