"""R16: whatever bytes come, nothing dies, nothing is UNKNOWN, nothing is reserved for a claim."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.counted_load import ask
from support.fuzzing import fuzz_server
from support.process_use import peak_growth_bytes
from support.running_server import Server, running
from support.serving_null import null_server_command

#: of all that is decoded and queued at a time; the rest is the allocator's
_CAP_BYTES = 64 * 2**20


@pytest.fixture(scope="module")
def small() -> Iterator[Server]:
    """A server that takes small pictures only, so that a large claim is refused."""
    with running(null_server_command("--max-image-pixels", "1000000")) as server:
        yield server


@pytest.mark.parametrize("seed", [1, 2])
def test_r16_a_server_survives_fuzzed_messages(small: Server, seed: int) -> None:
    workers, frontends = small.workers(), small.frontends()
    with peak_growth_bytes(frontends[0]) as growth:
        found = fuzz_server(small.port, [small.pid, *workers, *frontends], seed=seed, count=2500)
    assert not found.strange
    assert found.statuses.total() == 2500
    assert found.statuses["OK"] > 100, "some wounds are harmless"
    assert found.statuses["INVALID_ARGUMENT"] > 500
    assert growth.bytes < _CAP_BYTES
    assert (small.workers(), small.frontends()) == (workers, frontends)
    assert "Traceback" not in small.stderr
    assert ask(small.port, 7, 8) == "OK"
