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
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from corral import images, wire
from corral.batcher import Batcher, Policy
from corral.errors import (
    DeadlineMissed,
    InferenceFailed,
    InvalidRequest,
    NotFound,
    QueueFull,
    RequestError,
    Unavailable,
)
from corral.jobs import Batch
from corral.messages import AttachWorker, ResultStatus
from corral.models.labels import labels
from corral.models.spec import ModelSpec
from corral.tally import Tally
from corral.tensors import Datatype
from corral.transport import Request, WorkerLink

logger = logging.getLogger(__name__)

#: counters.FAILURES by what ends a request
_REASONS: dict[type[BaseException], str] = {
    InvalidRequest: "invalid",
    NotFound: "invalid",
    QueueFull: "refused",
    DeadlineMissed: "expired",
    InferenceFailed: "failed",
    Unavailable: "unavailable",
    asyncio.CancelledError: "cancelled",
}
_LATE = "the deadline passed before the answer was there"
_FAILED = "the request could not be run: two workers failed on it"


class Cell:
    """The workers of one cell and the requests they are fed with.

    Args:
        spec: the model.
        reader: reads requests.
        policy: the queue's limits.
        tally: what is counted.
        region_batch: the largest batch a region holds.
        max_image_pixels: pixels of a picture that is decoded.
        decode_threads: pictures decoded at a time.
        on_proven: called with a worker's id when its first batch came back.
        on_gone: called with a worker's id when it is gone.
    """

    def __init__(
        self,
        spec: ModelSpec,
        reader: wire.RequestReader,
        policy: Policy,
        tally: Tally,
        *,
        region_batch: int,
        max_image_pixels: int,
        decode_threads: int,
        on_proven: Callable[[int], None],
        on_gone: Callable[[int], None],
    ) -> None:
        self._spec = spec
        self._signature = spec.signature
        self._reader = reader
        self._tally = tally
        self._region_batch = region_batch
        self._max_image_pixels = max_image_pixels
        self._on_proven = on_proven
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._now_s = time.monotonic
        self._batcher: Batcher[Request] = Batcher(policy)
        self._links: dict[int, WorkerLink] = {}
        self._free: deque[WorkerLink] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._decoders = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode")
        self._labels = labels() if spec.label_names is None else spec.label_names
        #: False before the server is open and while it drains: requests get UNAVAILABLE
        self.open = False

    @property
    def proven(self) -> bool:
        """True when a batch went through one of the living workers and came back."""
        return any(link.proven for link in self._links.values())

    # --- workers ---

    def attach(self, hello: AttachWorker, fds: list[int]) -> None:
        """Takes a worker over, with its data socket and its region, and proves it."""
        link = WorkerLink(hello, fds, self._signature, self._region_batch)
        self._links[hello.worker] = link
        self._loop.add_reader(link.fileno(), self._on_readable, link)
        link.probe()

    def _on_readable(self, link: WorkerLink) -> None:
        try:
            result = link.receive()
        except EOFError:
            self._lose(link)
            return
        if result is None:
            return
        batch, status, engine_s = result
        if batch is None:
            self._prove(link)
            return
        if status is not ResultStatus.OK:
            logger.warning("worker %d failed on a batch of %d", link.worker, batch.count)
            self._run_again(batch, blame=True)
            self._free.append(link)
            self._dispatch()
            return
        back_s = self._now_s()
        link.collect(batch)
        answered = self._batcher.complete(batch, back_s, engine_s)
        self._free.append(link)
        # The worker gets its next batch before anybody is told of this one.
        self._dispatch()
        self._tally.batch_done(batch, link.slot, link.copy_s, engine_s, self._now_s() - back_s)
        for request in answered:
            self._answer(request, None)

    def _prove(self, link: WorkerLink) -> None:
        link.proven = True
        self._batcher.add_worker(link.worker, link.costs)
        self._tally.worker(link.slot, attached=True)
        self._free.append(link)
        self._on_proven(link.worker)
        self._dispatch()

    def _lose(self, link: WorkerLink) -> None:
        """A worker is gone; what it held goes to the head of the queue."""
        self._loop.remove_reader(link.fileno())
        del self._links[link.worker]
        if link in self._free:
            self._free.remove(link)
        self._batcher.remove_worker(link.worker)
        if link.proven:
            self._tally.worker(link.slot, attached=False)
        batch = link.batch
        link.close()
        self._on_gone(link.worker)
        if batch is not None:
            logger.warning(
                "worker %d is gone; what it held (%d items) runs again", link.worker, batch.count
            )
            self._run_again(batch, blame=link.delivered)
        self._dispatch()

    def _run_again(self, batch: Batch[Request], *, blame: bool) -> None:
        for request in self._batcher.lost(batch, blame=blame):
            self._answer(request, InferenceFailed(_FAILED))
        for span in batch.spans:
            if not span.job.done:
                self._tally.waiting_again(span.job, len(span))

    # --- requests ---

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
        arrived_s = self._now_s()
        try:
            head, data = self._reader.read(message)
        except RequestError as error:
            view = self._reader.view_of(message)
            self._tally.received(view)
            self._tally.refused(view, _REASONS[type(error)], self._now_s() - arrived_s)
            raise
        self._tally.received(head.view)
        timeout_s = None
        if head.timeout_s is not None:
            timeout_s = arrived_s + head.timeout_s
            deadline_s = timeout_s if deadline_s is None else min(deadline_s, timeout_s)
        datatype = Datatype.UINT8 if head.datatype is None else head.datatype
        request = Request(
            head.view,
            datatype,
            head.count,
            size_bytes=max(len(message), head.count * self._signature.input_bytes[datatype]),
            arrived_s=arrived_s,
            deadline_s=deadline_s,
        )
        try:
            if not self.open:
                raise Unavailable("the server is not serving: it is starting or stopping")
            self._batcher.admit(request, arrived_s)
        except RequestError as error:
            self._tally.refused(head.view, _REASONS[type(error)], self._now_s() - arrived_s)
            raise
        self._tally.admitted(request)
        await self._run(request, data, timeout_s)
        logits = request.output
        if head.classification:
            content = wire.classification(
                bytes(logits), self._spec.classes, head.classification, self._labels
            )
            top = (head.count, head.classification)
            return wire.response(head.model_name, head.request_id, "BYTES", top, content)
        shape = (head.count, *self._signature.output_shape)
        return wire.response(head.model_name, head.request_id, "FP32", shape, logits)

    async def _run(
        self, request: Request, data: memoryview | list[memoryview], timeout_s: float | None
    ) -> None:
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
            if isinstance(data, memoryview):
                request.payload = data
            else:
                request.payload = await self._decode(data)
            self._batcher.enqueue(request)
            self._dispatch()
            await done
        except BaseException as error:
            self._batcher.drop(request)
            reason = _REASONS.get(type(error), "failed")
            if reason == "cancelled" and _passed(request.deadline_s, self._now_s()):
                reason = "expired"
            self._tally.failed(request, reason, self._now_s())
            raise
        else:
            self._tally.succeeded(request, self._now_s())
        finally:
            request.payload = None
            request.answer = None
            if timer is not None:
                timer.cancel()
            self._tally.state(queue_depth=self._batcher.queued)

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
            link.send(batch)
            link.copy_s = self._now_s() - before_s
            self._tally.batch_formed(batch)
        for request in self._batcher.expired():
            self._answer(request, DeadlineMissed(_LATE))
        self._tally.state(queue_depth=self._batcher.queued)
        self._look_again(now_s)

    def _look_again(self, now_s: float) -> None:
        """With a queue delay, the head of the queue may become due while nothing happens."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._free and (again_s := self._batcher.look_again_s(now_s)) is not None:
            self._timer = self._loop.call_at(again_s, self._dispatch)

    async def close(self) -> None:
        """Ends the workers and the decoders."""
        for link in list(self._links.values()):
            self._loop.remove_reader(link.fileno())
            link.close()
        self._links.clear()
        self._free.clear()
        self._decoders.shutdown(wait=False, cancel_futures=True)


def _passed(deadline_s: float | None, now_s: float) -> bool:
    # gRPC cancels the handler at the deadline, give or take the granularity of its clock.
    return deadline_s is not None and now_s >= deadline_s - 0.005
