"""The counter pages: layout, sums, gauges, and what outlives a writer."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.metrics import counters

KEYS = sorted(counters.make_layout(2).index)


def make_pages(cells: int, slots: int = 2) -> Iterator[counters.Pages]:
    layout = counters.make_layout(slots)
    fd = counters.create_memory(layout, cells)
    yield counters.Pages(fd, layout, cells)
    os.close(fd)


@pytest.fixture
def pages() -> Iterator[counters.Pages]:
    yield from make_pages(cells=2)


def test_layout_gives_every_key_a_slot_of_its_own() -> None:
    layout = counters.make_layout(3)
    assert sorted(layout.index.values()) == list(range(len(layout.index)))
    assert layout.page_bytes % os.sysconf("SC_PAGESIZE") == 0
    assert layout.page_bytes >= 8 * len(layout.index)
    assert layout.gauges < set(layout.index)


def test_more_slots_change_the_layout_only_by_their_own_keys() -> None:
    few, many = set(counters.make_layout(1).index), set(counters.make_layout(3).index)
    assert few < many
    assert all(key.startswith(("slot/1/", "slot/2/")) for key in many - few)


def test_gauges_are_exactly_what_goes_down_again() -> None:
    names = {key.rsplit("/", 1)[1] for key in counters.make_layout(1).gauges}
    assert names == {
        "last_inference_ms", "pending", "pending_items", "inflight", "serving",
        "attached",
    }  # fmt: skip


@given(
    writes=st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(KEYS), st.integers(0, 2**40)), max_size=30
    )
)
def test_reads_are_the_sums_of_the_cells_writes(writes: list[tuple[int, str, int]]) -> None:
    for pages in make_pages(cells=3):
        expected: dict[tuple[int, str], int] = {}
        for cell, key, amount in writes:
            pages.page(cell)[pages.layout.index[key]] += amount
            expected[cell, key] = expected.get((cell, key), 0) + amount
        counts = pages.snapshot()
        for key in {key for _, key, _ in writes} | {KEYS[0]}:
            by_cell = [expected.get((cell, key), 0) for cell in range(3)]
            assert [pages.read(key, cell) for cell in range(3)] == by_cell
            assert [counts.read(key, cell) for cell in range(3)] == by_cell
            assert pages.read(key) == counts.read(key) == sum(by_cell)
            assert counts.latest(key) == max(by_cell)


def test_a_snapshot_does_not_follow_later_writes(pages: counters.Pages) -> None:
    key = "view/tensor/succeeded"
    before = pages.snapshot()
    pages.page(0)[pages.layout.index[key]] = 7
    assert before.read(key) == 0
    assert pages.snapshot().read(key) == 7


def test_every_mapping_of_the_memory_shows_the_same() -> None:
    layout = counters.make_layout(1)
    fd = counters.create_memory(layout, 2)
    writer, reader = counters.Pages(fd, layout, 2), counters.Pages(fd, layout, 2)
    os.close(fd)
    writer.page(1)[layout.index["cell/batches"]] = 2**63
    assert reader.read("cell/batches", 1) == 2**63
    assert reader.read("cell/batches", 0) == 0


def test_resetting_a_cells_gauges_keeps_its_counters_and_the_other_cell(
    pages: counters.Pages,
) -> None:
    for cell in range(2):
        page = pages.page(cell)
        for at in pages.layout.index.values():
            page[at] = 5
    pages.reset_gauges(0)
    for key in pages.layout.index:
        assert pages.read(key, 0) == (0 if key in pages.layout.gauges else 5), key
        assert pages.read(key, 1) == 5, key


def test_a_page_has_room_for_its_own_numbers_only(pages: counters.Pages) -> None:
    page = pages.page(0)
    with pytest.raises(IndexError):
        page[len(page)] = 1


def test_no_holder_of_the_memory_can_resize_it() -> None:
    layout = counters.make_layout(1)
    fd = counters.create_memory(layout, 1)
    for size in (0, layout.page_bytes - 1, 2 * layout.page_bytes):
        with pytest.raises(PermissionError):
            os.ftruncate(fd, size)
    counters.Pages(fd, layout, 1).page(0)[0] = 1
    os.close(fd)
