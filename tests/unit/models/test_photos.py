"""The photographs that ship with corral."""

from __future__ import annotations

import hashlib
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from corral.models import photos

_PICTURES = Path(__file__).parents[2] / "data" / "pictures"


def test_calibration_and_guard_share_no_photograph_and_none_with_the_tests() -> None:
    sets = [
        {hashlib.sha256(content).hexdigest() for _, content in photos.files(purpose)}
        for purpose in (photos.CALIBRATION, photos.GUARD)
    ]
    sets.append({hashlib.sha256(file.read_bytes()).hexdigest() for file in _PICTURES.iterdir()})
    assert all(sets)
    assert len(set.union(*sets)) == sum(map(len, sets))


@pytest.mark.parametrize("purpose", [photos.CALIBRATION, photos.GUARD])
def test_every_photograph_has_an_author_a_licence_and_a_source(purpose: str) -> None:
    page = (resources.files("corral.models") / "photographs" / "SOURCES.md").read_text("utf-8")
    section = page.partition(f"## {purpose}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if ".jpg" in line]
    names = [name for name, _ in photos.files(purpose)]
    assert len(names) == 40
    assert [row[0] for row in sorted(rows)] == names
    for row in rows:
        assert len(row) == 5
        assert row[3] in {"public domain", "CC0"} or row[3].startswith(("CC BY ", "CC BY-SA "))


def test_crops_are_the_same_each_time_and_grow_at_the_end() -> None:
    few, more = (photos.crops(photos.GUARD, count, 32) for count in (5, 9))
    assert few.shape == (5, 32, 32, 3)
    np.testing.assert_array_equal(few, more[:5])
    assert len({crop.tobytes() for crop in more}) == 9


def test_they_ship_in_less_than_4_mb() -> None:
    sizes = [len(c) for p in (photos.CALIBRATION, photos.GUARD) for _, c in photos.files(p)]
    assert sum(sizes) < 4_000_000
