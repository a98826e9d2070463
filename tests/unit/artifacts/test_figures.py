"""Figures of the plan, kept from one start to the next, and how the frontends are measured."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.artifacts.figures import FigureCache
from corral.metrics import counters
from corral.planning.front import ASSUMED_FRONT_US, Figures
from corral.settings import BackendName, Mode, Settings
from corral.supervisor import front_meter
from corral.supervisor.front_meter import FrontMeter, Sample, cost_us


def cache(folder: Path, cpu: str = "a CPU", **fields: Any) -> FigureCache:
    return FigureCache(Settings.flat(cache_dir=str(folder), **fields), cpu)


def test_nothing_is_known_before_anything_was_measured(tmp_path: Path) -> None:
    assert cache(tmp_path).load() == Figures()
    assert cache(tmp_path).load().front_us == ASSUMED_FRONT_US


def test_a_rate_is_the_best_of_the_curve_by_core(tmp_path: Path) -> None:
    cache(tmp_path).learn_costs({"FP32:1": 0.01, "FP32:4": 0.02, "UINT8:1": 0.009}, cores=4)
    found = cache(tmp_path).load()
    assert found.images_per_core_s == pytest.approx(4 / 0.02 / 4)
    assert found.images_source == "measured here"


@pytest.mark.parametrize(
    "other",
    [
        {"cpu": "another CPU"},
        {"model": "vit_b_16"},
        {"mode": Mode.THROUGHPUT},
        {"backend": BackendName.OPENVINO},
        {"max_batch": 4},
    ],
    ids=str,
)
def test_a_rate_is_of_what_was_asked_for(tmp_path: Path, other: dict[str, Any]) -> None:
    cache(tmp_path).learn_costs({"FP32:1": 0.01}, cores=1)
    assert cache(tmp_path, **other).load().images_per_core_s is None


def test_noise_does_not_change_a_figure(tmp_path: Path) -> None:
    for cost_s, expected in ((0.010, 100), (0.0105, 100), (0.020, 50), (0.019, 50)):
        cache(tmp_path).learn_costs({"FP32:1": cost_s}, cores=1)
        assert cache(tmp_path).load().images_per_core_s == pytest.approx(expected)
    for found, expected in ((400.0, 400), (420.0, 400), (300.0, 300)):
        cache(tmp_path).learn_front(found, 5000)
        assert cache(tmp_path).load().front_us == pytest.approx(expected)


def test_the_fronts_cost_is_of_the_model_in_either_mode(tmp_path: Path) -> None:
    cache(tmp_path).learn_front(400.0, 5000)
    assert cache(tmp_path, mode=Mode.THROUGHPUT).load().front_us == pytest.approx(400)
    assert cache(tmp_path, model="vit_b_16").load().front_us == ASSUMED_FRONT_US


def test_rate_and_width_are_kept_beside_each_other(tmp_path: Path) -> None:
    cache(tmp_path).learn_one_core(0.05)
    cache(tmp_path).learn_costs({"FP32:1": 0.01}, cores=1)
    found = cache(tmp_path).load()
    assert found.one_core_gain == 0.05
    assert found.images_per_core_s == pytest.approx(100)


def test_the_null_backend_has_no_rate_and_a_front(tmp_path: Path) -> None:
    null = cache(tmp_path, backend=BackendName.NULL)
    null.learn_costs({"FP32:1": 0.001}, cores=1)
    null.learn_front(400.0, 5000)
    assert null.load() == Figures(front_us=400.0, front_source="measured here")


@pytest.mark.parametrize("content", [b"", b"{}", b'{"front_us": -1, "requests": 1}', b"\xff"])
def test_a_damaged_figure_is_a_warning_and_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    cache(tmp_path).learn_front(400.0, 5000)
    next((tmp_path / "figures").iterdir()).write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert cache(tmp_path).load() == Figures()
    assert "ignored" in caplog.text


BEFORE = Sample(pid=7, cpu_s=1.0, received=1000, succeeded=1000)


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (Sample(pid=7, cpu_s=1.5, received=2000, succeeded=2000), 500),
        (Sample(pid=7, cpu_s=1.5, received=2030, succeeded=2000), 500),
        # Refusals cost a fraction of an answer, another process began anew, few say little.
        (Sample(pid=7, cpu_s=1.5, received=3000, succeeded=2000), None),
        (Sample(pid=8, cpu_s=0.5, received=2000, succeeded=2000), None),
        (Sample(pid=7, cpu_s=1.1, received=1400, succeeded=1400), None),
    ],
)
def test_cost_of_a_request(after: Sample, expected: float | None) -> None:
    assert cost_us(BEFORE, after) == pytest.approx(expected)


class Board:
    """A server's status with frontends of these process ids."""

    def __init__(self, *pids: int | None) -> None:
        self.cells = [_Cell(number, pid) for number, pid in enumerate(pids)]

    def current(self) -> Board:
        return self


class _Cell:
    def __init__(self, cell: int, pid: int | None) -> None:
        self.cell, self.pid = cell, pid


@pytest.fixture
def pages() -> Iterator[counters.Pages]:
    layout = counters.make_layout(1)
    yield counters.Pages(counters.create_memory(layout, 2), layout, 2)


def answer(pages: counters.Pages, cell: int, requests: int) -> None:
    page = pages.page(cell)
    for name, view in (("received", "tensor"), ("succeeded", "tensor")):
        page[pages.layout.index[f"view/{view}/{name}"]] += requests


def measured(pages: counters.Pages, windows: int) -> tuple[float, int] | None:
    cpu_s = {11: 5.0, 12: 3.0}

    def cpu_seconds(pid: int) -> float:
        if pid == 13:
            raise ProcessLookupError
        return cpu_s[pid]

    async def run() -> tuple[float, int] | None:
        meter = FrontMeter(Board(11, 12), pages, cpu_seconds)  # type: ignore[arg-type]
        meter.look()
        for _ in range(windows):
            answer(pages, 0, 1000)
            cpu_s[11] += 0.4
            meter.look()
        return meter.stop()

    return asyncio.run(run())


def test_the_frontends_that_serve_are_measured(pages: counters.Pages) -> None:
    found = measured(pages, 4)
    assert found is not None
    front_us, requests = found
    # The cell that nobody asks has no part in it.
    assert front_us == pytest.approx(400)
    assert requests == 4000


def test_a_short_run_says_nothing(pages: counters.Pages) -> None:
    assert measured(pages, 2) is None


def test_frontends_that_are_gone_are_passed_over(pages: counters.Pages) -> None:
    def cpu_seconds(_pid: int) -> float:
        raise ProcessLookupError

    async def run() -> tuple[float, int] | None:
        meter = FrontMeter(Board(13, None), pages, cpu_seconds)  # type: ignore[arg-type]
        for _ in range(5):
            answer(pages, 0, 1000)
            meter.look()
        return meter.stop()

    assert asyncio.run(run()) is None


def test_it_looks_by_itself(pages: counters.Pages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_meter, "WINDOW_S", 0.001)
    looks = 0
    enough = asyncio.Event()

    def cpu_seconds(_pid: int) -> float:
        nonlocal looks
        looks += 1
        if looks == 3:
            enough.set()
        return 0.0

    async def run() -> None:
        meter = FrontMeter(Board(11), pages, cpu_seconds)  # type: ignore[arg-type]
        await enough.wait()
        meter.stop()

    asyncio.run(run())
    assert looks >= 3
