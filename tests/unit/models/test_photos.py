"""The photographs that ship with corral."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

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


def test_every_photograph_is_named_in_the_notice() -> None:
    notice = (Path(__file__).parents[3] / "NOTICE").read_text()
    for purpose in (photos.CALIBRATION, photos.GUARD):
        for name, _ in photos.files(purpose):
            assert name in notice


def test_crops_are_the_same_each_time_and_grow_at_the_end() -> None:
    few, more = (photos.crops(photos.GUARD, count, 32) for count in (5, 9))
    assert few.shape == (5, 32, 32, 3)
    np.testing.assert_array_equal(few, more[:5])
    assert len({crop.tobytes() for crop in more}) == 9


def test_they_ship_in_less_than_1_5_mb() -> None:
    sizes = [len(c) for p in (photos.CALIBRATION, photos.GUARD) for _, c in photos.files(p)]
    assert sum(sizes) < 1_500_000
