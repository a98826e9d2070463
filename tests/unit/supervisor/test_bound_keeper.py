"""What is said of a latency bound while another one is being computed."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from corral.batching.latency_bound import Kept
from corral.settings import Settings
from corral.supervisor import bound_keeper
from corral.supervisor.bound_keeper import BoundKeeper


class _Now:
    """A server whose settings change; what a bound allows is computed when it may be."""

    def __init__(self) -> None:
        self.settings = Settings().replace(p99_ms=100.0)
        self.may_compute = threading.Event()
        self.may_compute.set()

    def see(self, bound_s: float) -> Any:
        def compute() -> Kept:
            assert self.may_compute.wait(10)
            return Kept(keeps_per_s=bound_s * 1000, batch_cap=round(bound_s * 10))

        return bound_keeper._Seen(
            settings=self.settings, bound_s=bound_s, rate=0.0, workers=1, cells=1, overhead_s=0.0,
            services_s={1: [0.01]}, taken_s=0.0,
        ), compute  # fmt: skip


async def test_the_rate_of_another_bound_is_not_this_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    now = _Now()
    monkeypatch.setattr(bound_keeper, "_LOOK_S", 3600.0)
    monkeypatch.setattr(bound_keeper._Seen, "compute", lambda seen: now.see(seen.bound_s)[1]())
    keeper = BoundKeeper(
        SimpleNamespace(frontends=[], workers=[]),  # type: ignore[arg-type]
        SimpleNamespace(snapshot=lambda: None),  # type: ignore[arg-type]
        lambda: SimpleNamespace(settings=now.settings),  # type: ignore[arg-type,return-value]
        lambda: None,
    )
    monkeypatch.setattr(keeper, "_see", lambda bound_s: now.see(bound_s)[0])

    async def looked() -> tuple[float, float | None, int | None]:
        keeper._look()
        assert keeper.status is not None
        return keeper.status.p99_ms, keeper.status.keeps_per_s, keeper.status.batch_cap

    async def computed() -> None:
        assert keeper._task is not None
        await asyncio.wait_for(keeper._task, 10)

    try:
        assert await looked() == (100.0, None, None)
        await computed()
        assert await looked() == (100.0, 100.0, 1)
        now.may_compute.clear()
        now.settings = now.settings.replace(p99_ms=50.0)
        # The old cap holds until the new one is known, and no rate is promised meanwhile.
        assert await looked() == (50.0, None, 1)
        now.settings = now.settings.replace(p99_ms=200.0)
        assert await looked() == (200.0, None, 1)
        now.may_compute.set()
        await computed()
        assert await looked() == (200.0, None, 0)
        await computed()
        assert await looked() == (200.0, 200.0, 2)
    finally:
        now.may_compute.set()
        keeper.stop()
