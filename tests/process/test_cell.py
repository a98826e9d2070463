"""The data path against fake workers: real sockets and regions, every step in the test's hand."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest

from corral.artifacts.served_model import served_model
from corral.batching.policy import Policy
from corral.dataplane.dispatcher import Dispatcher
from corral.dataplane.inference import Inference
from corral.dataplane.inner_queue import InnerQueue
from corral.dataplane.recorder import Recorder
from corral.dataplane.worker_link import Request
from corral.errors import InferenceFailed, InvalidRequest, QueueFull, Unavailable
from corral.ipc.messages import AttachWorker
from corral.ipc.packets import BATCH, MOST_REASON_BYTES, RESULT, ResultStatus
from corral.ipc.region import Region, create_region
from corral.metrics.counters import Pages, create_memory, make_layout
from corral.models import registry
from corral.protocol import request as wire
from corral.protocol.contents import Limits
from corral.protocol.metadata import resolve_view
from corral.protocol.response import classification
from corral.tensors import Datatype
from corral_protos import open_inference_pb2 as pb

SPEC = registry.get("resnet50")
SIGNATURE = SPEC.signature
MAX_BATCH = 4
#: what makes up a request's duration
SPENT = ("queue_ns", "compute_input_ns", "compute_infer_ns", "compute_output_ns")


class FakeWorker:
    """The worker's end: takes a batch when told to, answers when told to."""

    def __init__(self, dispatcher: Dispatcher, worker: int, sizes: list[int]) -> None:
        here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        region = create_region(SIGNATURE, MAX_BATCH)
        self.region = Region(region, SIGNATURE, MAX_BATCH)
        self.socket = here
        here.setblocking(False)
        costs = {f"{d.name}:{n}": 0.001 * n for d in Datatype for n in sizes}
        hello = AttachWorker(
            worker=worker, slot=worker, pid=1, sizes=sizes, costs_s=costs, region_batch=MAX_BATCH
        )
        dispatcher.attach(hello, [there.detach(), region])

    async def take(self) -> tuple[int, Datatype, int]:
        data = await asyncio.get_running_loop().sock_recv(self.socket, 64)
        number, datatype, count = BATCH.unpack(data)
        return number, Datatype(datatype), count

    def answer(
        self, number: int, status: ResultStatus = ResultStatus.OK, reason: bytes = b""
    ) -> None:
        self.socket.send(RESULT.pack(number, status, 1_000_000, time.monotonic_ns()) + reason)

    async def prove(self) -> None:
        number, _, _ = await self.take()
        self.answer(number)

    async def run(self) -> tuple[Datatype, int]:
        """One batch: each result begins with its item's first value."""
        number, datatype, count = await self.take()
        inputs = self.region.inputs(datatype, count).reshape(count, -1)
        self.region.outputs(count)[:, 0] = inputs[:, 0]
        self.answer(number)
        return datatype, count

    async def closed(self) -> bool:
        return await asyncio.get_running_loop().sock_recv(self.socket, 64) == b""

    def die(self) -> None:
        self.socket.close()


class Rig:
    """A cell and what was told of its workers."""

    def __init__(
        self,
        max_queue: int = 100,
        max_image_pixels: int = 10**6,
        hang_floor_s: float = 60.0,
    ) -> None:
        layout = make_layout(4)
        self.pages = Pages(create_memory(layout, 1), layout, 1)
        self.verified: list[int] = []
        self.gone: list[int] = []
        self.hung: list[int] = []
        limits = Limits(max_items=8, max_image_bytes=10**6, classes=1000)
        recorder = Recorder(self.pages, 0)
        self.dispatcher = Dispatcher(
            SIGNATURE,
            Policy(max_queue=max_queue, max_bytes=10**9),
            recorder,
            on_verified=self.verified.append,
            hang_floor_s=hang_floor_s,
            on_gone=lambda worker, _pid: self.gone.append(worker),
            on_hung=lambda worker, _pid: self.hung.append(worker),
        )
        self.inference = Inference(
            served_model(SPEC),
            wire.RequestReader(SIGNATURE, limits, lambda n, v: resolve_view(n, v, "resnet50")),
            self.dispatcher,
            recorder,
            max_image_pixels=max_image_pixels,
            decode_threads=1,
        )
        self.inference.open = True

    def close(self) -> None:
        self.dispatcher.close()
        self.inference.close()

    async def worker(self, worker: int = 0, sizes: tuple[int, ...] = (1, 2, 4)) -> FakeWorker:
        fake = FakeWorker(self.dispatcher, worker, list(sizes))
        await fake.prove()
        await until(lambda: worker in self.verified)
        return fake

    def ask(
        self, values: list[float], deadline_s: float | None = None, timeout_us: int = 0
    ) -> asyncio.Task[list[float]]:
        return asyncio.create_task(self._ask(values, deadline_s, timeout_us))

    async def _ask(
        self, values: list[float], deadline_s: float | None, timeout_us: int
    ) -> list[float]:
        array = np.zeros((len(values), 3, 224, 224), np.float32)
        array[:, 0, 0, 0] = values
        tensor = pb.ModelInferRequest.InferInputTensor(
            name="input", datatype="FP32", shape=array.shape
        )
        request = pb.ModelInferRequest(
            model_name="resnet50", inputs=[tensor], raw_input_contents=[array.tobytes()]
        )
        if timeout_us:
            request.parameters["timeout"].int64_param = timeout_us
        answer = pb.ModelInferResponse.FromString(
            await self.inference.infer(request.SerializeToString(), deadline_s)
        )
        logits = np.frombuffer(answer.raw_output_contents[0], np.float32)
        return [float(v) for v in logits.reshape(-1, 1000)[:, 0]]

    def count(self, key: str) -> int:
        return self.pages.read(f"view/tensor/{key}")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    rig = Rig()
    yield rig
    rig.close()


@pytest.mark.parametrize("cancelled", [False, True])
async def test_the_loop_goes_on_while_many_scores_become_labels(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, cancelled: bool
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def waits(*arguments: Any) -> bytes:
        begun.set()
        assert go_on.wait(10), "the event loop stood still"
        return classification(*arguments)

    monkeypatch.setattr("corral.dataplane.answers.classification", waits)
    worker = await rig.worker()
    array = np.zeros((4, 3, 224, 224), np.float32)
    array[:, 0, 0, 0] = 5
    request = pb.ModelInferRequest(model_name="resnet50", raw_input_contents=[array.tobytes()])
    request.inputs.add(name="input", datatype="FP32", shape=array.shape)
    request.parameters["classification"].int64_param = 1
    task = asyncio.create_task(rig.inference.infer(request.SerializeToString(), None))
    assert await worker.run() == (Datatype.FP32, 4)
    await until(begun.is_set)
    if cancelled:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [rig.count(k) for k in ("succeeded", "failure_cancelled", "pending")] == [0, 1, 0]
        go_on.set()
        return
    go_on.set()
    answer = pb.ModelInferResponse.FromString(await task)
    assert answer.outputs[0].shape == [4, 1]
    assert answer.raw_output_contents[0].count(b"5.000000:0") == 4
    assert [rig.count(k) for k in ("succeeded", "failure_cancelled", "pending")] == [1, 0, 0]


async def test_a_request_goes_through_and_is_counted(rig: Rig) -> None:
    worker = await rig.worker()
    task = rig.ask([7.0])
    assert await worker.run() == (Datatype.FP32, 1)
    assert await task == [7.0]
    assert [rig.count(k) for k in ("received", "succeeded", "inferences", "executions")] == [1] * 4
    assert rig.count("pending") == rig.count("inflight") == 0
    assert rig.pages.read("slot/0/batches") == rig.pages.read("size/1/executions") == 1


async def test_requests_are_counted_once_however_many_items_they_have(rig: Rig) -> None:
    """As Triton does: durations and what waits are of requests, inferences are of items."""
    worker = await rig.worker()
    busy = rig.ask([0.0])
    first, _, _ = await worker.take()
    large, small = rig.ask([float(n) for n in range(6)]), rig.ask([9.0])
    await until(lambda: rig.count("pending_items") == 7)
    assert rig.count("pending") == 2
    worker.answer(first)
    await busy
    before = {key: rig.count(key) for key in (*SPENT, "success_ns")}
    number, _, count = await worker.take()
    assert count == 4
    assert (rig.count("pending"), rig.count("pending_items")) == (1, 3)
    worker.answer(number)
    assert [(await worker.run())[1] for _ in range(2)] == [2, 1]
    await asyncio.gather(large, small)
    assert (rig.count("succeeded"), rig.count("inferences")) == (3, 8)
    assert rig.count("pending") == rig.count("pending_items") == 0
    # Times the items they would be several times what both requests took. The copy is in the
    # engine's time, too, where an engine takes no time at all.
    spent = {key: rig.count(key) - ns for key, ns in before.items()}
    took_ns = spent.pop("success_ns")
    assert all(ns > 0 for ns in spent.values())
    assert sum(spent.values()) <= 1.2 * took_ns


async def test_a_request_whose_worker_died_is_pending_again(rig: Rig) -> None:
    doomed = await rig.worker(0)
    task = rig.ask([1.0, 2.0])
    await doomed.take()
    assert rig.count("pending") == 0
    doomed.die()
    await until(lambda: rig.gone == [0])
    assert (rig.count("pending"), rig.count("pending_items")) == (1, 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert rig.count("pending") == rig.count("pending_items") == 0


async def test_items_come_back_in_order_from_several_batches(rig: Rig) -> None:
    first, second = await rig.worker(0), await rig.worker(1)
    task = rig.ask([float(n) for n in range(8)])
    # The workers answer out of order.
    number, _, count = await first.take()
    others = 0
    while others < 8 - count:
        others += (await second.run())[1]
    first.region.outputs(count)[:, 0] = first.region.inputs(Datatype.FP32, count)[:, 0, 0, 0]
    first.answer(number)
    assert await task == [float(n) for n in range(8)]


async def test_a_death_is_invisible(rig: Rig) -> None:
    doomed = await rig.worker(0)
    tasks = [rig.ask([1.0]), rig.ask([2.0])]
    await doomed.take()
    doomed.die()
    await until(lambda: rig.gone == [0])
    heir = await rig.worker(1)
    for _ in tasks:
        assert (await heir.run())[1] == 1
    assert [await task for task in tasks] == [[1.0], [2.0]]
    assert rig.pages.read("cell/retried_items") == 1
    assert rig.count("pending") == rig.count("inflight") == 0


async def test_a_request_that_kills_twice_is_answered_internal(rig: Rig) -> None:
    workers = [await rig.worker(n) for n in range(2)]
    task = rig.ask([1.0])
    for worker in workers:
        await worker.take()
        worker.die()
    with pytest.raises(InferenceFailed):
        await task
    assert rig.count("failure_failed") == 1
    assert rig.count("pending") == rig.count("inflight") == 0


async def test_an_engine_that_fails_once_is_given_another_chance(rig: Rig) -> None:
    worker = await rig.worker()
    task = rig.ask([5.0])
    number, _, _ = await worker.take()
    worker.answer(number, ResultStatus.FAILED)
    await worker.run()
    assert await task == [5.0]


async def test_values_that_the_engine_refuses_are_told_and_its_mates_are_answered(
    rig: Rig,
) -> None:
    """The batch is run one by one; what is refused alone, too, is the client's to mend."""
    worker = await rig.worker(0, sizes=(1, 2))
    first = rig.ask([0.0])
    number, _, _ = await worker.take()
    bad, good = rig.ask([7.0]), rig.ask([2.0])
    await until(lambda: rig.count("pending") == 2)
    worker.answer(number)
    await first
    for expected in (2, 1, 1):
        number, datatype, count = await worker.take()
        assert count == expected
        inputs = worker.region.inputs(datatype, count).reshape(count, -1)
        if 7.0 in inputs[:, 0]:
            worker.answer(number, ResultStatus.REFUSED, b"Gather: idx=7\n is out of bounds")
        else:
            worker.region.outputs(count)[:, 0] = inputs[:, 0]
            worker.answer(number)
    with pytest.raises(InvalidRequest, match="these values: Gather: idx=7  is out of bounds"):
        await bad
    assert await good == [2.0]
    assert rig.count("failure_invalid") == 1
    assert rig.count("pending") == rig.count("inflight") == 0


async def test_a_reason_is_no_longer_than_it_may_be(rig: Rig) -> None:
    worker = await rig.worker()
    rig.ask([1.0])
    number, _, _ = await worker.take()
    worker.answer(number, ResultStatus.REFUSED, bytes(MOST_REASON_BYTES + 1))
    await until(lambda: rig.gone == [0])


async def test_a_cancelled_request_is_not_run_and_its_mates_are(rig: Rig) -> None:
    worker = await rig.worker()
    running = rig.ask([1.0])
    number, _, _ = await worker.take()
    gone, stays = rig.ask([2.0]), rig.ask([3.0])
    await until(lambda: rig.count("pending") == 2)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    worker.answer(number)
    await running
    assert await worker.run() == (Datatype.FP32, 1)
    assert await stays == [3.0]
    assert rig.count("failure_cancelled") == 1
    assert rig.count("pending") == rig.count("inflight") == 0


async def test_a_cancelled_request_that_runs_spoils_nothing(rig: Rig) -> None:
    worker = await rig.worker()
    gone = rig.ask([1.0])
    number, _, _ = await worker.take()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    stays = rig.ask([2.0])
    worker.answer(number)
    await worker.run()
    assert await stays == [2.0]


async def test_the_parameter_timeout_means_nothing_without_a_policy(rig: Rig) -> None:
    """As in Triton: tritony sends 30, and every call of its would fail."""
    worker = await rig.worker()
    task = rig.ask([1.0], timeout_us=1)
    number, _, _ = await worker.take()
    waits = rig.ask([2.0], timeout_us=1)
    await until(lambda: rig.count("pending") == 1)
    await asyncio.sleep(0.002)
    worker.answer(number)
    await worker.run()
    assert [await task, await waits] == [[0.0], [2.0]]


@pytest.mark.parametrize(("policy_s", "timeout_us"), [(0.02, 0), (60, 20_000), (0.02, 10**9)])
async def test_a_queue_timeout_refuses_what_no_worker_has_begun(
    rig: Rig, policy_s: float, timeout_us: int
) -> None:
    rig.inference.queue_timeout_s = policy_s
    worker = await rig.worker()
    running = rig.ask([1.0], timeout_us=timeout_us)
    number, _, _ = await worker.take()
    with pytest.raises(QueueFull, match=r"^Request timeout expired") as refusal:
        await rig.ask([2.0], timeout_us=timeout_us)
    assert refusal.value.retry_after_ms >= 20
    assert rig.count("failure_refused") == 1
    assert rig.count("pending") == 0
    # The one that runs is as old, and is answered.
    worker.answer(number)
    assert await running == [0.0]
    assert rig.pages.read("cell/batches") == 1


async def test_a_queue_timeout_leaves_alone_what_runs_again(rig: Rig) -> None:
    rig.inference.queue_timeout_s = 0.02
    doomed = await rig.worker(0)
    task = rig.ask([5.0])
    await doomed.take()
    doomed.die()
    await until(lambda: rig.gone == [0])
    await asyncio.sleep(0.03)
    heir = await rig.worker(1)
    await heir.run()
    assert await task == [5.0]


async def test_a_full_queue_refuses(rig: Rig) -> None:
    with pytest.raises(QueueFull):
        await asyncio.gather(*(rig.ask([1.0] * 8) for _ in range(20)))
    assert rig.count("failure_refused") >= 1


async def test_nothing_is_taken_before_the_server_is_open(rig: Rig) -> None:
    rig.inference.open = False
    with pytest.raises(Unavailable):
        await rig.ask([1.0])
    assert rig.count("failure_unavailable") == 1


async def test_bad_pictures_are_refused_and_counted_under_their_view(rig: Rig) -> None:
    await rig.worker()
    tensor = pb.ModelInferRequest.InferInputTensor(name="input", datatype="BYTES", shape=[1])
    request = pb.ModelInferRequest(
        model_name="resnet50_image",
        inputs=[tensor],
        raw_input_contents=[b"\x04\x00\x00\x00nope"],
    )
    with pytest.raises(InvalidRequest):
        await rig.inference.infer(request.SerializeToString(), None)
    assert rig.pages.read("view/image/failure_invalid") == 1
    assert rig.pages.read("view/image/inflight") == rig.pages.read("view/image/pending") == 0


async def test_a_worker_that_answers_out_of_turn_is_let_go(rig: Rig) -> None:
    worker = await rig.worker()
    task = rig.ask([1.0])
    number, _, _ = await worker.take()
    worker.answer(number + 1)
    await until(lambda: rig.gone == [0])
    heir = await rig.worker(1)
    await heir.run()
    assert await task == [1.0]


def result(number: int, status: int, duration_ns: int) -> bytes:
    return RESULT.pack(number, status, duration_ns, 0)


@pytest.mark.parametrize("status", [3, 0xFFFF])
async def test_a_status_that_there_is_not_is_no_answer(rig: Rig, status: int) -> None:
    worker = await rig.worker()
    task = rig.ask([1.0])
    number, _, _ = await worker.take()
    worker.socket.send(result(number, status, 1))
    await until(lambda: rig.gone == [0])
    heir = await rig.worker(1)
    await heir.run()
    assert await task == [1.0]
    assert rig.count("pending") == rig.count("inflight") == 0


@pytest.mark.parametrize("number", [0, 1])
async def test_an_answer_to_nothing_is_no_second_proof(rig: Rig, number: int) -> None:
    """Taken for one, it would make a worker free twice, and a batch be forgotten for the next."""
    worker = await rig.worker()
    worker.socket.send(result(number, ResultStatus.OK, 1))
    await until(lambda: rig.gone == [0])
    assert rig.verified == [0]
    tasks = [rig.ask([1.0]), rig.ask([2.0])]
    heir = await rig.worker(1)
    assert await heir.run() == (Datatype.FP32, 2)
    assert [await task for task in tasks] == [[1.0], [2.0]]


async def test_the_engines_time_is_no_longer_than_the_worker_had(rig: Rig) -> None:
    worker = await rig.worker()
    began_ns = time.monotonic_ns()
    task = rig.ask([7.0])
    number, _, _ = await worker.take()
    worker.region.outputs(1)[:, 0] = 7.0
    worker.socket.send(result(number, ResultStatus.OK, 2**64 - 1))
    assert await task == [7.0]
    took_ns = time.monotonic_ns() - began_ns
    assert 0 < rig.count("compute_infer_ns") <= took_ns
    # Nor is the queue's idea of a batch spoiled: a deadline of a minute is not refused.
    busy = rig.ask([1.0])
    await until(lambda: rig.count("pending") == 0)
    waiting = [rig.ask([2.0], deadline_s=time.monotonic() + 60) for _ in range(2)]
    await worker.run()
    await busy
    await worker.run()
    assert await asyncio.gather(*waiting) == [[2.0], [2.0]]


async def test_a_worker_that_hangs_is_given_up_and_its_batch_run_elsewhere() -> None:
    rig = Rig(hang_floor_s=0.05)
    hanging = await rig.worker(0)
    task = rig.ask([1.0])
    await hanging.take()
    await until(lambda: rig.hung == [0])
    assert rig.gone == []
    assert await hanging.closed(), "its socket is closed: an answer now would go nowhere"
    heir = await rig.worker(1)
    await heir.run()
    assert await task == [1.0]
    # Who has nothing to do does not hang.
    again = rig.ask([2.0])
    await heir.run()
    assert await again == [2.0]
    rig.close()


async def test_a_worker_that_hangs_on_its_first_batch_is_given_up() -> None:
    rig = Rig(hang_floor_s=0.05)
    worker = FakeWorker(rig.dispatcher, 0, [1])
    await until(lambda: rig.hung == [0])
    assert rig.verified == []
    worker.die()
    rig.close()


async def test_a_worker_that_is_back_before_its_end_was_read_is_not_taken_for_dead(
    rig: Rig,
) -> None:
    first = await rig.worker()
    task = rig.ask([1.0])
    await first.take()
    first.die()
    # At once: the cell has had no chance to read the end of the first one's socket.
    second = FakeWorker(rig.dispatcher, 0, [1])
    await second.prove()
    await second.run()
    assert await task == [1.0]
    assert rig.gone == [0]
    assert rig.dispatcher.verified
    assert rig.pages.read("cell/lost_workers") == 1


async def test_a_worker_that_is_let_go_finishes_its_batch_and_gets_no_other(rig: Rig) -> None:
    leaving, staying = await rig.worker(0), await rig.worker(1)
    first = rig.ask([1.0])
    number, _, _ = await leaving.take()
    rig.dispatcher.detach(0)
    later = [rig.ask([2.0]), rig.ask([3.0])]
    assert (await staying.run())[1] == 1
    assert (await staying.run())[1] == 1
    assert [await task for task in later] == [[2.0], [3.0]]
    assert rig.gone == []
    leaving.region.outputs(1)[:, 0] = 1.0
    leaving.answer(number)
    assert await first == [1.0]
    assert rig.gone == [0]
    assert await leaving.closed()
    assert rig.pages.read("cell/lost_workers") == rig.pages.read("cell/retried_items") == 0


async def test_a_worker_with_nothing_to_do_is_let_go_at_once(rig: Rig) -> None:
    worker = await rig.worker(0)
    rig.dispatcher.detach(0)
    assert rig.gone == [0]
    assert await worker.closed()
    rig.dispatcher.detach(0)
    assert rig.gone == [0]
    unproven = FakeWorker(rig.dispatcher, 1, [1])
    rig.dispatcher.detach(1)
    await unproven.prove()
    await until(lambda: rig.gone == [0, 1])
    assert rig.verified == [0], "one that leaves is not verified any more"


async def test_a_death_while_it_is_let_go_is_invisible_too(rig: Rig) -> None:
    leaving, staying = await rig.worker(0), await rig.worker(1)
    task = rig.ask([1.0])
    await leaving.take()
    rig.dispatcher.detach(0)
    leaving.die()
    await staying.run()
    assert await task == [1.0]
    assert rig.gone == [0]


async def test_other_limits_hold_from_then_on(rig: Rig) -> None:
    policy = Policy(max_queue=1, max_bytes=10**9)
    rig.dispatcher.reconfigure(policy, 60.0)
    waiting = rig.ask([1.0])
    with pytest.raises(QueueFull):
        await rig.ask([2.0, 3.0])
    worker = await rig.worker()
    await worker.run()
    assert await waiting == [1.0]


def _own(value: float) -> Request:
    """A request of the server's own, with its tensor."""
    array = np.full((1, 3, 224, 224), value, np.float32)
    request = Request(Datatype.FP32, 1, array.nbytes, 0.0, view="tensor")
    request.payload = memoryview(array.tobytes())
    request.answered = asyncio.get_running_loop().create_future()
    return request


async def test_a_request_that_nobody_asked_for_is_answered_and_not_counted(rig: Rig) -> None:
    worker = await rig.worker()
    own = _own(3.0)
    assert own.answered
    before = rig.pages.snapshot()
    assert rig.dispatcher.run_unasked(own)
    # One that comes while the worker is at it is served behind it, and is all that is counted.
    task = rig.ask([7.0])
    assert await worker.run() == (Datatype.FP32, 1)
    await worker.run()
    assert await task == [7.0]
    await own.answered
    assert np.frombuffer(own.output, np.float32)[0] == 3.0
    assert rig.verified == [0]
    assert rig.pages.read("slot/0/batches") == rig.count("executions") == 1
    assert rig.count("received") == rig.count("succeeded") == 1
    assert before.read("cell/batches") == 0


async def test_nothing_runs_unasked_while_a_worker_has_something_to_do(rig: Rig) -> None:
    assert not rig.dispatcher.run_unasked(), "there is no worker"
    first, _second = await rig.worker(0), await rig.worker(1)
    task = rig.ask([1.0])
    await until(lambda: rig.count("executions") == 0 and rig.count("pending") == 0)
    number, _, _ = await first.take()
    assert not rig.dispatcher.run_unasked()
    assert not rig.dispatcher.run_unasked(_own(1.0))
    first.answer(number)
    await task
    assert rig.dispatcher.run_unasked()


async def test_a_request_that_nobody_asked_for_ends_with_its_worker(rig: Rig) -> None:
    worker = await rig.worker()
    own = _own(3.0)
    assert own.answered
    assert rig.dispatcher.run_unasked(own)
    await worker.take()
    worker.die()
    await until(lambda: rig.gone == [0])
    with pytest.raises(InferenceFailed):
        await own.answered
    assert rig.pages.read("cell/retried_items") == 0


async def test_what_an_idle_worker_has_is_run_where_there_is_no_request(rig: Rig) -> None:
    worker = await rig.worker()
    for _ in range(2):
        assert rig.dispatcher.run_unasked()
        number, _, count = await worker.take()
        assert (number, count) == (0, 1)
        worker.answer(number)
        await until(lambda: rig.dispatcher.idle_worker is not None)
    assert rig.pages.read("cell/batches") == 0


async def test_own_requests_give_way_to_a_client(rig: Rig) -> None:
    worker = await rig.worker()
    asks = [False]
    queue = InnerQueue(rig.dispatcher, lambda: asks[0])
    queue.check_room()
    queue.admit(_own(1.0))
    asks[0] = True
    for step in (queue.admit, queue.enqueue):
        with pytest.raises(Unavailable):
            step(_own(1.0))
    with pytest.raises(Unavailable):
        queue.check_room()
    asks[0] = False
    own = _own(1.0)
    queue.enqueue(own)
    with pytest.raises(Unavailable):
        queue.enqueue(_own(2.0))
    queue.drop(own)
    await worker.run()
    await until(lambda: rig.dispatcher.idle_worker is not None)
    assert own.output == b"", "nobody wants it any more"
