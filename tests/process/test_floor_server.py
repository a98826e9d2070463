"""The floor that corral is measured beside: it answers, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from support.running_server import wait_until

from corral_loadtest.measure.running import run
from corral_loadtest.servers.processes import free_port, serving
from corral_loadtest.specification import ClosedLoop, Specification, Target


def _command(port: int, datatype: str) -> list[str]:
    return [sys.executable, "-m", "corral_loadtest.servers.floor", str(port), datatype]


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(("datatype", "model"), [("UINT8", "resnet50_uint8"), ("FP32", "resnet50")])
def test_the_floor_answers_many_clients(datatype: str, model: str) -> None:
    port = free_port()
    with serving(_command(port, datatype), port) as pid:
        found = run(
            Specification(
                target=Target(address=f"127.0.0.1:{port}", model=model),
                load=ClosedLoop(clients=17),
                duration_s=0.5,
                warm_up_s=0.1,
                warm_up_limit_s=0.5,
                window_s=0.1,
                server_pid=pid,
            )
        )
    assert found.statuses == {"OK": found.sent}
    assert found.sent > 50
    assert found.server.cpu_s_per_request


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_its_worker_goes_with_it(how: signal.Signals) -> None:
    port = free_port()
    with serving(_command(port, "UINT8"), port) as pid:
        (worker,) = _children(pid)
        os.kill(pid, how)
        wait_until(lambda: not Path(f"/proc/{worker}/exe").exists(), "the worker's end")


def test_it_ends_where_its_worker_died() -> None:
    port = free_port()
    with serving(_command(port, "UINT8"), port) as pid:
        os.kill(_children(pid)[0], signal.SIGKILL)
        stat = Path(f"/proc/{pid}/stat")
        wait_until(lambda: " Z " in stat.read_text().rpartition(")")[2], "its end")
