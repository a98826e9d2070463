"""Which layers stay in higher precision."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from corral.backends.mixed_precision import blocks, fewest, ranked, smallest


@given(st.lists(st.integers(), max_size=60), st.integers(1, 20))
def test_blocks_are_neighbours_and_even(items: list[int], most: int) -> None:
    found = blocks(items, most)
    assert [item for block in found for item in block] == items
    assert len(found) <= most
    sizes = [len(block) for block in found]
    assert not sizes or (max(sizes) - min(sizes) <= 1 and min(sizes) >= 1)


def test_the_noisiest_for_its_time_goes_first() -> None:
    assert ranked([1.0, 4.0, 4.0], [1.0, 2.0, 8.0]) == [1, 0, 2]
    assert ranked([0.0, 1.0], [0.0, 0.0]) == [1, 0]


def test_as_few_stay_as_the_sum_allows() -> None:
    noises = [5.0, 1.0, 3.0, 1.0]
    order = [0, 2, 1, 3]
    assert [fewest(noises, order, allowed) for allowed in (10, 5, 2, 1.5, 0.5)] == [0, 1, 2, 3, 4]
    assert fewest([], [], 0.0) == 0


@given(st.data(), st.integers(1, 16))
def test_the_smallest_that_passes_is_found(data: st.DataObject, most: int) -> None:
    first = data.draw(st.integers(1, most))
    least = data.draw(st.integers(1, most))
    tried: list[int] = []

    def passes(number: int) -> bool:
        tried.append(number)
        return number >= least

    assert smallest(passes, first, most, 6) == max(first, least)
    assert len(tried) == len(set(tried)) <= 6
    assert all(first <= number < most for number in tried)
