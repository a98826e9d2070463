"""A cell's data path: requests in, batches to workers, answers out. No gRPC in it.

The cell owns every request from the door until it is answered, so that a worker's death is
invisible: what it held goes back to the head of the queue. Everything runs on one event loop;
only pictures are decoded in threads (Pillow lets go of the GIL meanwhile).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from corral.batching.batcher import Batcher, Policy
from corral.batching.jobs import Batch
from corral.batching.watchdog import HangWatch
from corral.dataplane.recorder import Recorder
from corral.dataplane.worker_link import Request, WorkerLink
from corral.errors import (
    DeadlineMissed,
    InferenceFailed,
    InvalidRequest,
    NotFound,
    QueueFull,
    RequestError,
    TooLarge,
    Unavailable,
    Unsupported,
)
from corral.images import decode as images
from corral.ipc.messages import AttachWorker, ResultStatus
from corral.models.labels import labels
from corral.models.spec import ModelSpec
from corral.protocol.request import Data, Head, RequestReader
from corral.protocol.response import Answer, classification, encoded
from corral.protocol.shared_memory import Tensor
from corral.tensors import Datatype

logger = logging.getLogger(__name__)

#: counters.FAILURES by what ends a request
_REASONS: dict[type[BaseException], str] = {
    InvalidRequest: "invalid",
    NotFound: "invalid",
    Unsupported: "invalid",
    TooLarge: "invalid",
    QueueFull: "refused",
    DeadlineMissed: "expired",
    InferenceFailed: "failed",
    Unavailable: "unavailable",
    asyncio.CancelledError: "cancelled",
}
#: Triton's clients look for the first two words.
_LATE = "Deadline Exceeded: it passed before the answer was there"
_FAILED = "the request could not be run: two workers failed on it"


class Cell:
    """The workers of one cell and the requests they are fed with.

    Args:
        spec: the model.
        reader: reads requests.
        policy: the queue's limits.
        recorder: what is counted.
        max_image_pixels: pixels of a picture that is decoded.
        decode_threads: pictures decoded at a time.
        hang_floor_s: no worker hangs before it has had a batch for so long.
        on_verified: called with a worker's id when its first batch came back.
        on_gone: called with a worker's id and pid when it is gone.
        on_hung: called instead with those of one that was given up and must be killed.
    """

    def __init__(
        self,
        spec: ModelSpec,
        reader: RequestReader,
        policy: Policy,
        recorder: Recorder,
        *,
        max_image_pixels: int,
        decode_threads: int,
        hang_floor_s: float,
        on_verified: Callable[[int], None],
        on_gone: Callable[[int, int], None],
        on_hung: Callable[[int, int], None],
    ) -> None:
        self._spec = spec
        self._signature = spec.signature
        self._reader = reader
        self._recorder = recorder
        self._max_image_pixels = max_image_pixels
        self._on_verified = on_verified
        self._on_gone = on_gone
        self._on_hung = on_hung
        self._loop = asyncio.get_running_loop()
        self._now_s = time.monotonic
        self._batcher: Batcher[Request] = Batcher(policy)
        self._links: dict[int, WorkerLink] = {}
        self._free: deque[WorkerLink] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._hangs = HangWatch(hang_floor_s)
        self._hang_timer: asyncio.TimerHandle | None = None
        self._decoders = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode")
        #: names of the classes, by index
        self.labels = labels() if spec.label_names is None else spec.label_names
        #: False before the server is open and while it drains: requests get UNAVAILABLE
        self.open = False

    @property
    def verified(self) -> bool:
        """True when a batch went through one of the living workers and came back."""
        return any(link.verified for link in self._links.values())

    # --- workers ---

    def attach(self, hello: AttachWorker, fds: list[int]) -> None:
        """Takes a worker over, with its data socket and its region, and proves it."""
        if (predecessor := self._links.get(hello.worker)) is not None:
            # It is dead; this process stood still meanwhile, and has not read its end yet.
            self._lose(predecessor)
        link = WorkerLink(hello, fds, self._signature)
        self._links[hello.worker] = link
        self._loop.add_reader(link.fileno(), self._on_readable, link)
        link.probe()
        self._expect(link, link.costs.expected_s(self._signature.datatypes[0], 1), self._now_s())

    def _on_readable(self, link: WorkerLink) -> None:
        try:
            result = link.receive()
        except EOFError:
            self._lose(link)
            return
        if result is None:
            return
        self._hangs.ended(link.worker)
        batch, status, engine_s = result
        if batch is None:
            self._prove(link)
            return
        if status is not ResultStatus.OK:
            logger.warning("worker %d failed on a batch of %d", link.worker, batch.count)
            self._run_again(batch, blame=True)
            self._has_nothing(link)
            self._dispatch()
            return
        back_s = self._now_s()
        # The engine cannot have taken longer than the worker had the batch, whatever it says.
        engine_s = min(engine_s, back_s - batch.formed_s)
        link.collect(batch)
        answered = self._batcher.complete(batch, back_s, engine_s)
        self._has_nothing(link)
        # The worker gets its next batch before anybody is told of this one.
        self._dispatch()
        self._recorder.batch_done(batch, link.slot, link.copy_s, engine_s, self._now_s() - back_s)
        for request in answered:
            self._answer(request, None)

    def reconfigure(self, policy: Policy, *, max_image_pixels: int, hang_floor_s: float) -> None:
        """Other limits hold from now on; see the class."""
        self._batcher.set_policy(policy)
        self._max_image_pixels = max_image_pixels
        self._hangs.floor_s = hang_floor_s

    def detach(self, worker: int) -> None:
        """Lets a worker go once it has finished its batch; nothing happens if it is gone."""
        link = self._links.get(worker)
        if link is None:
            return
        link.leaving = True
        self._batcher.remove_worker(worker)
        if link in self._free:
            self._free.remove(link)
            self._let_go(link)

    def _has_nothing(self, link: WorkerLink) -> None:
        """A worker has given back what it held: it may have more, or go."""
        if link.leaving:
            self._let_go(link)
        else:
            self._free.append(link)

    def _let_go(self, link: WorkerLink) -> None:
        self._forget(link, lost=False)
        self._on_gone(link.worker, link.pid)

    def _forget(self, link: WorkerLink, *, lost: bool) -> None:
        self._loop.remove_reader(link.fileno())
        del self._links[link.worker]
        if link.verified:
            self._recorder.worker(link.slot, attached=False, lost=lost)
        link.close()

    def _prove(self, link: WorkerLink) -> None:
        if link.leaving:
            self._let_go(link)
            return
        link.verified = True
        self._batcher.add_worker(link.worker, link.costs)
        self._recorder.worker(link.slot, attached=True)
        self._free.append(link)
        self._on_verified(link.worker)
        self._dispatch()

    def _lose(self, link: WorkerLink, *, hung: bool = False) -> None:
        """A worker is gone, or given up; what it held goes to the head of the queue."""
        self._hangs.ended(link.worker)
        if link in self._free:
            self._free.remove(link)
        self._batcher.remove_worker(link.worker)
        batch = link.batch
        self._forget(link, lost=True)
        (self._on_hung if hung else self._on_gone)(link.worker, link.pid)
        if batch is not None:
            logger.warning(
                "worker %d %s; what it held (%d items) runs again",
                link.worker,
                "hangs" if hung else "is gone",
                batch.count,
            )
            self._run_again(batch, blame=link.delivered)
        self._dispatch()

    def _run_again(self, batch: Batch[Request], *, blame: bool) -> None:
        for request in self._batcher.lost(batch, blame=blame):
            self._answer(request, InferenceFailed(_FAILED))
        for span in batch.spans:
            if not span.job.done:
                self._recorder.waiting_again(span.job, len(span))

    # --- requests ---

    def turn_away(self, deadline_s: float | None) -> None:
        """Asked before a request's message is received: a refusal then costs a fraction.

        What the request would have named is not known, so it counts as one for tensors.

        Raises:
            RequestError: no request could be admitted now; see ``infer``.
        """
        try:
            self._check_open()
            self._batcher.check_room(deadline_s, self._now_s())
        except RequestError as error:
            self.refuse(error)
            raise

    def _check_open(self) -> None:
        if not self.open:
            raise Unavailable("the server is not serving: it is starting or stopping")

    async def infer(self, message: bytes, deadline_s: float | None) -> bytes:
        """Answers one ModelInferRequest.

        Args:
            message: its bytes; kept until it is answered.
            deadline_s: on the monotonic clock; None for never.

        Returns:
            the bytes of a ModelInferResponse.

        Raises:
            RequestError: the answer is an error.
        """
        return await self.infer_pieces((message,), deadline_s)

    async def infer_pieces(
        self, pieces: Sequence[bytes | memoryview], deadline_s: float | None
    ) -> bytes:
        """The same for one that came in pieces, which are kept as they are."""
        size = sum(map(len, pieces))
        read = self._reader.read_pieces
        return encoded(await self._answer_to(lambda: read(pieces), size, deadline_s))

    async def infer_parsed(
        self, head: Head, raw: memoryview | None, deadline_s: float | None
    ) -> Answer:
        """Answers a request whose head was read, and checked, before; raises as ``infer``.

        Args:
            head: of a request without a tensor.
            raw: the tensor as ``raw_input_contents`` holds it; None: it is in shared memory.
            deadline_s: on the monotonic clock; None for never.
        """
        raws = () if raw is None else (raw,)
        size = 0 if raw is None else len(raw)
        return await self._answer_to(
            lambda: (head, self._reader.data(head, raws)), size, deadline_s, deadline_s
        )

    async def _answer_to(
        self,
        read: Callable[[], tuple[Head, Data]],
        size_bytes: int,
        deadline_s: float | None,
        timeout_s: float | None = None,
    ) -> Answer:
        """Answers a request, by ``timeout_s`` at the latest; gRPC's calls end at theirs anyway."""
        arrived_s = self._now_s()
        try:
            head, data = read()
            output = self._reader.output(head)
        except RequestError as error:
            self._recorder.received(error.view)
            self._recorder.refused(error.view, _REASONS[type(error)], self._now_s() - arrived_s)
            raise
        self._recorder.received(head.view)
        if head.timeout_s is not None:
            ends_s = arrived_s + head.timeout_s
            deadline_s = ends_s if deadline_s is None else min(deadline_s, ends_s)
            timeout_s = deadline_s
        datatype = Datatype.UINT8 if head.datatype is None else head.datatype
        request = Request(
            head.view,
            datatype,
            head.count,
            size_bytes=max(size_bytes, head.count * self._signature.input_bytes[datatype]),
            arrived_s=arrived_s,
            deadline_s=deadline_s,
        )
        try:
            self._check_open()
            self._batcher.admit(request, arrived_s)
        except RequestError as error:
            self._recorder.refused(head.view, _REASONS[type(error)], self._now_s() - arrived_s)
            raise
        self._recorder.admitted(request)
        return await self._run(request, head, data, output, timeout_s)

    def refuse(self, error: RequestError) -> None:
        """Counts a request that was refused before it was read; see ``turn_away``."""
        reason = next(_REASONS[kind] for kind in type(error).__mro__ if kind in _REASONS)
        self._recorder.received(error.view)
        self._recorder.refused(error.view, reason, 0.0)

    def _wrap(self, head: Head, output: Tensor | None, logits: bytes | bytearray) -> Answer:
        """The answer; with its output in the client's shared memory if wanted there."""
        name, request_id = head.model_name, head.request_id
        content, datatype = logits, "FP32"
        shape: tuple[int, ...] = (head.count, *self._signature.output_shape)
        if head.classification:
            content = classification(
                bytes(logits), self._spec.classes, head.classification, self.labels
            )
            datatype, shape = "BYTES", (head.count, head.classification)
        if output is None:
            return Answer(name, request_id, datatype, shape, content)
        if len(content) > len(output):
            raise InvalidRequest(
                f"the output has {len(content)} bytes, its place in shared memory {len(output)}"
            )
        output.write(content)
        return Answer(name, request_id, datatype, shape, b"", head.output_slice)

    async def _run(
        self,
        request: Request,
        head: Head,
        data: Data,
        output: Tensor | None,
        timeout_s: float | None,
    ) -> Answer:
        """Sees an admitted request through; every way out settles it and counts it once."""
        timer = None
        if timeout_s is not None:
            timer = self._loop.call_at(timeout_s, self._expire, request)
        done: asyncio.Future[None] = self._loop.create_future()

        def answer(error: Exception | None) -> None:
            if not done.done():
                done.set_exception(error) if error else done.set_result(None)

        request.answer = answer
        try:
            if isinstance(data, list):
                request.payload = await self._decode(data)
            else:
                request.payload = data
            self._batcher.enqueue(request)
            self._dispatch()
            await done
            answered = self._wrap(head, output, request.output)
        except BaseException as error:
            self._batcher.drop(request)
            reason = _REASONS.get(type(error), "failed")
            if reason == "cancelled" and _passed(request.deadline_s, self._now_s()):
                reason = "expired"
            self._recorder.failed(request, reason, self._now_s())
            raise
        else:
            self._recorder.succeeded(request, self._now_s())
            return answered
        finally:
            request.payload = None
            request.answer = None
            if timer is not None:
                timer.cancel()
            self._recorder.state(queue_depth=self._batcher.queued)

    async def _decode(self, pictures: list[memoryview]) -> memoryview:
        """Encoded pictures to UINT8 [n,crop,crop,3], in the decoders' threads.

        Raises:
            InvalidRequest: one of them is no picture that is taken.
        """
        for picture in pictures:
            images.check_header(picture, self._max_image_pixels)
        recipe = self._spec.recipe
        decoded = await asyncio.gather(
            *(
                self._loop.run_in_executor(
                    self._decoders, images.decode, picture, recipe, self._max_image_pixels
                )
                for picture in pictures
            )
        )
        pixels = decoded[0][np.newaxis] if len(decoded) == 1 else np.stack(decoded)
        return np.ascontiguousarray(pixels).data.cast("B")

    def _answer(self, request: Request, error: Exception | None) -> None:
        if request.answer is not None:
            request.answer(error)

    def _expire(self, request: Request) -> None:
        """The deadline that a request carries as a parameter has passed."""
        self._batcher.drop(request)
        self._answer(request, DeadlineMissed(_LATE))

    # --- batches ---

    def _dispatch(self) -> None:
        """Gives free workers what there is to do, the one that waits longest first."""
        now_s = self._now_s()
        while self._free:
            link = self._free[0]
            batch = self._batcher.take(link.worker, now_s)
            if batch is None:
                break
            self._free.popleft()
            before_s = self._now_s()
            spoiled = link.send(batch)
            link.copy_s = self._now_s() - before_s
            self._expect(link, link.costs.expected_s(batch.datatype, batch.count), before_s)
            self._recorder.batch_formed(batch)
            for request, error in spoiled:
                self._batcher.drop(request)
                self._answer(request, error)
        for request in self._batcher.expired():
            self._answer(request, DeadlineMissed(_LATE))
        self._recorder.state(queue_depth=self._batcher.queued)
        self._look_again(now_s)

    def _look_again(self, now_s: float) -> None:
        """With a queue delay, the head of the queue may become due while nothing happens."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._free and (again_s := self._batcher.look_again_s(now_s)) is not None:
            self._timer = self._loop.call_at(again_s, self._dispatch)

    # --- workers that hang ---

    def _expect(self, link: WorkerLink, expected_s: float, now_s: float) -> None:
        """A worker got a batch; it is given up unless it answers in time."""
        due_s = self._hangs.began(link.worker, expected_s, now_s)
        if self._hang_timer is None or due_s < self._hang_timer.when():
            self._look_for_hung_at(due_s)

    def _look_for_hung_at(self, when_s: float | None) -> None:
        # One timer for all batches: it is rarely moved, and costs a batch a comparison.
        if self._hang_timer is not None:
            self._hang_timer.cancel()
        self._hang_timer = None
        if when_s is not None:
            self._hang_timer = self._loop.call_at(when_s, self._look_for_hung)

    def _look_for_hung(self) -> None:
        self._hang_timer = None
        for worker in self._hangs.look(self._now_s()):
            self._lose(self._links[worker], hung=True)
        self._look_for_hung_at(self._hangs.next_look_s)

    async def close(self) -> None:
        """Ends the workers and the decoders."""
        self._look_for_hung_at(None)
        for link in list(self._links.values()):
            self._loop.remove_reader(link.fileno())
            link.close()
        self._links.clear()
        self._free.clear()
        self._decoders.shutdown(wait=False, cancel_futures=True)


def _passed(deadline_s: float | None, now_s: float) -> bool:
    # gRPC cancels the handler at the deadline, give or take the granularity of its clock.
    return deadline_s is not None and now_s >= deadline_s - 0.005
