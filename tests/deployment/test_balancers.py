"""Envoy, HAProxy and nginx with the files of deploy/: one server dies, one drains, one is slow.

All requests come over one connection. Envoy tries again by itself; the others leave UNAVAILABLE to
the client, as docs/scale-out.md says.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest
from support.balancers import (
    ENVOY,
    HAPROXY,
    NGINX,
    Balancer,
    Fleet,
    ask_by_rest,
    fleet,
    load,
    stream,
)
from support.running_server import wait_until

SECONDS = float(os.environ.get("CORRAL_TEST_BALANCER_S", "6"))


@pytest.fixture(params=[ENVOY, HAPROXY, NGINX], ids=lambda balancer: balancer.name)
def balancer(request: pytest.FixtureRequest) -> Balancer:
    found: Balancer = request.param
    if found.program() is None:
        pytest.skip(f"{found.name} is not installed")
    return found


def _shares(behind: Fleet, before: list[int]) -> list[float]:
    counts = [behind.answered(n) - before[n] for n in range(len(before))]
    return [count / sum(counts) for count in counts]


async def test_requests_of_one_connection_are_spread(balancer: Balancer, tmp_path: Path) -> None:
    with fleet(balancer, tmp_path) as behind:
        before = [behind.answered(n) for n in range(3)]
        outcome = await load(behind.grpc, seconds=SECONDS)
        assert not outcome.failed
        shares = _shares(behind, before)
        print(f"{balancer.name}: spread {outcome.answered} requests, shares {shares}")
        assert max(abs(share - 1 / 3) for share in shares) <= 0.1 / 3 * 1.5, shares


async def test_rest_over_http_1_1_is_spread_too(balancer: Balancer, tmp_path: Path) -> None:
    """As curl and browsers speak it: no HTTP/2, one connection."""
    with fleet(balancer, tmp_path) as behind:
        before = [behind.answered(n) for n in range(3)]
        codes = await asyncio.to_thread(ask_by_rest, behind.rest, 60)
        assert set(codes) == {200}
        shares = _shares(behind, before)
        print(f"{balancer.name}: REST over HTTP/1.1, shares {shares}")
        assert min(shares) > 0.1, shares


async def test_nobody_notices_by_rest_that_one_drains(balancer: Balancer, tmp_path: Path) -> None:
    with fleet(balancer, tmp_path) as behind:
        leaving = behind.servers[1]
        asking = asyncio.create_task(asyncio.to_thread(ask_by_rest, behind.rest, 600))
        leaving.signal(signal.SIGTERM)
        assert set(await asking) == {200}
        assert leaving.wait() == 0


async def test_a_stream_may_be_larger_than_any_message(balancer: Balancer, tmp_path: Path) -> None:
    with fleet(balancer, tmp_path) as behind:
        # 43 MB in all, and the largest body of REST is 32.
        assert await asyncio.to_thread(stream, behind.grpc, 110, 32) == 110


@pytest.mark.parametrize("victims", [1, 2], ids=["one", "two of three"])
async def test_some_are_killed(balancer: Balancer, tmp_path: Path, victims: int) -> None:
    """The whole server at once: supervisor first, so that nobody drains."""
    with fleet(balancer, tmp_path) as behind:

        def kill() -> None:
            for victim in behind.servers[:victims]:
                pids = [victim.pid, *victim.frontends(), *victim.workers()]
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)

        outcome = await load(
            behind.grpc, seconds=SECONDS, retries=balancer is not ENVOY, meanwhile=kill
        )
        print(f"{balancer.name}: killed {victims}, {outcome}")
        assert not outcome.failed
        assert outcome.answered > 100


async def test_one_drains(balancer: Balancer, tmp_path: Path) -> None:
    with fleet(balancer, tmp_path) as behind:
        leaving = behind.servers[1]
        outcome = await load(
            behind.grpc,
            seconds=SECONDS + 3,
            retries=balancer is NGINX,
            meanwhile=lambda: leaving.signal(signal.SIGTERM),
        )
        print(f"{balancer.name}: drained {outcome}")
        assert not outcome.failed
        assert leaving.wait() == 0
        assert outcome.answered > 100


async def test_one_is_slow(balancer: Balancer, tmp_path: Path) -> None:
    """It gets what it can do, and does not hold up the others."""
    with fleet(balancer, tmp_path, slow_ms=36) as behind:
        before = [behind.answered(n) for n in range(3)]
        outcome = await load(behind.grpc, seconds=SECONDS)
        shares = _shares(behind, before)
        print(f"{balancer.name}: slow {outcome}, shares {shares}")
        assert not outcome.failed
        # A third each would be round robin.
        assert shares[2] < 0.2, shares
        assert abs(shares[0] - shares[1]) <= 0.1


async def test_one_comes_back(balancer: Balancer, tmp_path: Path) -> None:
    """A server that was not ready gets requests again."""
    with fleet(balancer, tmp_path) as behind:
        stopped = behind.servers[2].workers()[0]
        os.kill(stopped, signal.SIGKILL)
        wait_until(lambda: stopped not in behind.servers[2].workers(), "the worker is gone")
        await load(behind.grpc, seconds=2.0, retries=True)
        before = behind.answered(2)
        outcome = await load(behind.grpc, seconds=SECONDS, retries=balancer is not ENVOY)
        assert not outcome.failed
        assert behind.answered(2) > before
