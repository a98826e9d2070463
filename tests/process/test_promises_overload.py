"""R9 and R10: what more than enough requests do, and requests that nobody waits for."""

from __future__ import annotations

import pytest
from support.process_use import use_of
from support.running_server import StartServer, wait_until
from support.scenarios.fault import wait_for_workers
from support.scenarios.overload import OVERLOADED, churn_queue, overload
from support.server_counters import Scrape


@pytest.mark.timing
def test_r9_ten_times_too_much_is_refused_and_the_rest_answered(server: StartServer) -> None:
    with server(*OVERLOADED) as s:
        wait_for_workers(s, 2)
        # A machine that others keep busy may miss once what it keeps; a broken promise stays so.
        for _ in range(3):
            found = overload(s, peak_s=1.6, duration_s=2.4)
            if found.goodput_per_s >= 0.95 * found.peak_per_s:
                break
        counted = found.counted
        assert found.goodput_per_s >= 0.95 * found.peak_per_s, found
        assert set(counted.statuses) == {"OK", "RESOURCE_EXHAUSTED"}, str(counted)
        assert counted.statuses["RESOURCE_EXHAUSTED"] > counted.answered
        assert not counted.wrong
        assert counted.outstanding == 0
        assert found.refusals > 2
        assert found.growth_bytes < 100e6
        scrape = Scrape(s.metrics_port)
        assert scrape.total("nv_inference_pending_request_count") == 0


def test_r10_what_expired_or_was_cancelled_never_runs(server: StartServer) -> None:
    with server("--workers", "2", "--oversubscribe", "--null-batch-ms", "1") as s:
        wait_for_workers(s, 2)
        # What the allocator keeps of the most that was ever held at once is there before.
        churn_queue(s, rounds=2)
        before = use_of(s.frontends()[0])
        churn = churn_queue(s, rounds=2)
        assert not churn.wrong
        assert (churn.expired, churn.cancelled, churn.kept, churn.held) == (40, 40, 40, 4)
        assert churn.ran == churn.held + churn.kept
        scrape = Scrape(s.metrics_port)
        for gauge in (
            "corral_queue_depth",
            "corral_requests_inflight",
            "nv_inference_pending_request_count",
        ):
            assert scrape.total(gauge) == 0, gauge
        # 150 KB of each of 124 requests are 19 MB; less may be what the allocator keeps.
        wait_until(
            lambda: use_of(s.frontends()[0]).memory_bytes < before.memory_bytes + 12e6,
            "the requests' memory to be released",
        )
        assert "Traceback" not in s.stderr, "a client that is gone is no error"
