"""Rows that look for 1 %: blocks in turns, and how sure the figure is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from corral_loadtest.bars import observed_rows, proxy_row
from corral_loadtest.bars.bench import Bench
from corral_loadtest.measure.visits import Visit

BENCH = Bench(
    corral="corral", seconds=2.0, overload_seconds=1.0, rounds=2, model_options=(), analyzer=None
)


class World:
    """A machine that becomes slower all the time, and stops now and then."""

    def __init__(self, on: float) -> None:
        self.turns: list[str] = []
        self._on = on
        self._visits = 0

    def _visit(self, name: str, share: float, more_us: float) -> Visit:
        self.turns.append(name)
        self._visits += 1
        drift = 1 - 0.004 * self._visits
        pause = 0.3 if self._visits % 13 == 0 else 1.0
        rate = 1000 * share * drift * pause
        return Visit(requests=int(rate), seconds=1.0, parent_us=10.0, children_us=400.0 + more_us)

    def off(self, _seconds: float) -> Visit:
        return self._visit("off", 1.0, 0.0)

    def on(self, _seconds: float) -> Visit:
        return self._visit("on", self._on, 7.0)

    @contextlib.contextmanager
    def during(self) -> Iterator[None]:
        self.turns.append("begin")
        yield
        self.turns.append("end")


def test_turns_are_a_b_b_a() -> None:
    world = World(1.0)
    blocks = observed_rows.compare(BENCH, world.off, world.on, world.during)
    assert len(blocks) == 10
    assert world.turns[2:8] == ["off", "begin", "on", "on", "end", "off"]


@pytest.mark.parametrize(("on", "cleared"), [(1.0, True), (0.97, False)])
def test_three_percent_are_seen_through_drift_and_pauses(on: float, *, cleared: bool) -> None:
    world = World(on)
    blocks = observed_rows.compare(BENCH, world.off, world.on)
    throughput, cpu = observed_rows.bars("tracing", "traced ÷ none", blocks)
    assert throughput.judged == pytest.approx(on, abs=0.006)
    assert throughput.cleared is cleared
    assert throughput.bound == 0.99
    assert cpu.judged == pytest.approx(7.0)
    assert cpu.cleared is None
    assert "supervisor 0.0" in cpu.detail


def test_envoy_is_put_in_front_of_one_server_with_the_file_of_deploy() -> None:
    text = (Path(__file__).parents[4] / proxy_row.CONFIGURATION).read_text()
    found = proxy_row.configuration(text, "127.0.0.1:4001", 4002)
    assert "10.0.0." not in found.partition("static_resources:")[2]
    settings = yaml.safe_load(found)["static_resources"]
    (cluster,) = settings["clusters"]
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    where = {"address": "127.0.0.1", "port_value": 4001}
    assert endpoint["endpoint"]["address"]["socket_address"] == where
    (listener,) = settings["listeners"]
    where = {"address": "127.0.0.1", "port_value": 4002}
    assert listener["address"]["socket_address"] == where


def test_nobody_holds_a_tab_where_there_is_no_stream(unused_port: int) -> None:
    with pytest.raises(OSError, match="refused"), observed_rows._tabs(unused_port):
        pass


@pytest.fixture
def unused_port(tmp_path: Path) -> int:
    """A port of loopback that nobody listens on."""
    from corral_loadtest.servers.processes import free_port

    return free_port()
