"""One worker process, driven over its own sockets as supervisor and frontend would."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
import select
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest
from support.running_server import environment, wait_until
from support.worker_boot import model_boot, worker_boot

from corral.ipc import channel
from corral.ipc.messages import WorkerFailed, WorkerReady, from_child_decoder
from corral.ipc.packets import BATCH, RESULT, ResultStatus
from corral.ipc.region import Region
from corral.launch.spawn import Process
from corral.launch.worker import WorkerLaunch
from corral.models import registry
from corral.settings import BackendName, Settings
from corral.tensors import Datatype

SIGNATURE = registry.get("resnet50").signature
TCMALLOC = "libtcmalloc_minimal.so.4"


@dataclasses.dataclass
class Worker:
    process: Process
    data: socket.socket
    region: Region
    reaped: bool = False

    def hear(self) -> Any:
        """The next control message."""
        self.process.control.settimeout(30)
        return channel.receive(self.process.control, from_child_decoder)[0]

    def run(self, number: int, datatype: int, count: int) -> tuple[int, ResultStatus, int]:
        self.data.send(BATCH.pack(number, datatype, count))
        answered, status, duration_ns, _ = RESULT.unpack(self.data.recv(RESULT.size))
        return answered, ResultStatus(status), duration_ns

    def ended(self) -> int:
        """Waits for the process's end; returns its return code."""
        assert select.select([self.process.pidfd], [], [], 30)[0]
        self.reaped = True
        return self.process.reap()


@contextlib.contextmanager
def worker(
    *,
    sizes: list[int] | None = None,
    env: dict[str, str] | None = None,
    expected: dict[str, str] | None = None,
    memory_node: int | None = None,
    **settings: Any,
) -> Iterator[Worker]:
    sizes = sizes or [1]
    cpus = sorted(os.sched_getaffinity(0))[-1:]
    boot = worker_boot(
        SIGNATURE,
        Settings.flat(**{"backend": BackendName.NULL, **settings}),
        model_boot(name=settings.get("model", "resnet50")),
        sizes=sizes,
        cpus=cpus,
        worker=3,
    )
    boot = msgspec.structs.replace(boot, expected_libraries=expected or {})
    launch = WorkerLaunch(boot=boot, env={**environment(), **(env or {})}, memory_node=memory_node)
    started = launch.start()
    region = Region(started.region_fd, SIGNATURE, sizes[-1])
    os.close(started.region_fd)
    running = Worker(started.process, started.data, region)
    try:
        yield running
    finally:
        running.data.close()
        if not running.reaped:
            running.process.signal(signal.SIGKILL)
            running.process.reap()


def test_it_reports_and_answers_out_of_its_region() -> None:
    with worker(sizes=[1, 2]) as w:
        ready = w.hear()
        assert isinstance(ready, WorkerReady)
        assert ready.worker == 3
        assert ready.sizes == [1, 2]
        assert set(ready.costs_s) == {"FP32:1", "FP32:2", "UINT8:1", "UINT8:2"}
        assert ready.memory_bytes > 10 * 2**20
        assert ready.engine["engine"] == "null"
        assert ready.warnings == []
        items = w.region.inputs(Datatype.FP32, 2)
        items[0], items[1] = 5.0, 7.0
        number, status, duration_ns = w.run(41, Datatype.FP32, 2)
        assert (number, status) == (41, ResultStatus.OK)
        assert duration_ns > 0
        assert w.region.outputs(2)[:, :3].tolist() == [[5, 5, 1], [7, 7, 1]]


def test_it_leaves_when_the_data_socket_ends() -> None:
    with worker() as w:
        w.hear()
        w.data.close()
        assert w.ended() == 0


def test_it_leaves_when_nobody_hears_that_it_is_ready() -> None:
    with worker() as w:
        w.process.control.shutdown(socket.SHUT_RDWR)
        assert w.ended() == 0


def test_an_engine_that_fails_is_a_failed_batch_and_not_the_end() -> None:
    with worker() as w:
        w.hear()
        assert w.run(1, Datatype.FP32, 9)[:2] == (1, ResultStatus.FAILED)
        assert w.run(2, 99, 1)[:2] == (2, ResultStatus.FAILED)
        assert w.run(3, Datatype.FP32, 1)[:2] == (3, ResultStatus.OK)


def test_what_can_never_work_is_said_and_exit_2() -> None:
    with worker(backend=BackendName.AUTO) as w:
        failed = w.hear()
        assert isinstance(failed, WorkerFailed)
        assert "--backend auto is settled" in failed.message
        assert w.ended() == 2


def test_a_model_file_that_has_moved_keeps_no_worker_from_starting(tmp_path: Path) -> None:
    with worker(model=str(tmp_path / "gone.onnx")) as w:
        assert isinstance(w.hear(), WorkerReady)
        assert w.run(1, Datatype.FP32, 1)[1] is ResultStatus.OK


def test_the_duration_is_the_engines() -> None:
    with worker(null_batch_ms=30) as w:
        ready = w.hear()
        assert 0.03 <= ready.costs_s["FP32:1"] < 1
        assert w.run(1, Datatype.FP32, 1)[2] >= 30_000_000


def test_ctrl_c_is_none_of_its_business() -> None:
    with worker() as w:
        w.hear()
        os.kill(w.process.pid, signal.SIGINT)
        assert w.run(1, Datatype.FP32, 1)[1] is ResultStatus.OK


def test_a_preloaded_allocator_is_found_and_a_missing_one_missed() -> None:
    libraries = list(Path("/usr/lib").glob(f"*/{TCMALLOC}"))
    if not libraries:
        pytest.skip(f"{TCMALLOC} is not installed")
    path = str(libraries[0])
    with worker(env={"LD_PRELOAD": path}, expected={"allocator": path}) as w:
        ready = w.hear()
        assert ready.checks["allocator"] == TCMALLOC
        assert ready.warnings == []
        assert TCMALLOC in Path(f"/proc/{w.process.pid}/maps").read_text()
    with worker(expected={"allocator": path}) as w:
        ready = w.hear()
        assert ready.checks["allocator"] == "system"
        assert ready.warnings == [f"{TCMALLOC} was preloaded as allocator and is not mapped"]


def test_memory_is_bound_to_the_node_or_a_warning_says_why_not() -> None:
    with worker(memory_node=0) as w:
        ready = w.hear()
        policies = Path(f"/proc/{w.process.pid}/numa_maps")
        if ready.warnings:
            assert ready.warnings[0].startswith("NUMA memory policy refused")
        else:
            assert " bind:0 " in policies.read_text()
    with worker(memory_node=1000) as w:
        assert "memory policy refused" in w.hear().warnings[0]


def test_ten_thousand_batches_leave_no_trace() -> None:
    with worker() as w:
        w.hear()
        process = psutil.Process(w.process.pid)
        for number in range(1000):
            w.run(number, Datatype.UINT8, 1)
        before = process.memory_info().rss
        descriptors, threads = process.num_fds(), process.num_threads()
        for number in range(10_000):
            w.run(number, Datatype.UINT8, 1)
        assert process.memory_info().rss - before < 2**20
        assert (process.num_fds(), process.num_threads()) == (descriptors, threads)


def test_waiting_costs_nothing() -> None:
    with worker() as w:
        w.hear()
        process = psutil.Process(w.process.pid)
        wait_until(lambda: process.status() == psutil.STATUS_SLEEPING, "it to wait")
        status = Path(f"/proc/{w.process.pid}/status")
        before = re.findall(r"ctxt_switches:\t\d+", status.read_text())
        # Other work of ours passes the time.
        with worker() as other:
            other.hear()
        assert re.findall(r"ctxt_switches:\t\d+", status.read_text()) == before
        assert process.num_threads() == 1


def test_requests_that_fit_exactly_are_seen_whole() -> None:
    with worker(sizes=[1, 2, 4]) as w:
        w.hear()
        rng = np.random.default_rng(0)
        for number, count in enumerate([4, 1, 2, 4, 1]):
            items = w.region.inputs(Datatype.UINT8, count)
            items[:] = rng.integers(0, 255, items.shape, np.uint8)
            assert w.run(number, Datatype.UINT8, count)[1] is ResultStatus.OK
            flat = items.reshape(count, -1)
            assert w.region.outputs(count)[:, 0].tolist() == flat[:, 0].tolist()
            assert w.region.outputs(count)[:, 1].tolist() == flat[:, -1].tolist()
