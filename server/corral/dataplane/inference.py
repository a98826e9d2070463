"""One request: from its bytes to its answer, counted once whatever becomes of it.

There is no network in it. Everything runs on one event loop; only pictures are decoded in threads
(Pillow lets go of the GIL meanwhile).
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from corral.dataplane.answers import make_answer, takes_long
from corral.dataplane.inner_queue import Queue
from corral.dataplane.recorder import Recorder
from corral.dataplane.worker_link import Request
from corral.errors import RequestError, Unavailable
from corral.images import decode as images
from corral.ipc.messages import ServedModel
from corral.priority import Priority
from corral.protocol.head import Data, Head, Places
from corral.protocol.request import RequestReader
from corral.protocol.response import Answer, encoded
from corral.telemetry.timeline import Timeline
from corral.tensors import Datatype


class Inference:
    """Answers requests for one model.

    Args:
        model: what is served.
        reader: reads requests.
        dispatcher: runs them.
        recorder: what is counted.
        max_image_pixels: pixels of a picture that is decoded.
        decode_threads: pictures decoded at a time.
        queue_timeout_s: how long a request may wait in the queue; 0 for ever.
    """

    def __init__(
        self,
        model: ServedModel,
        reader: RequestReader,
        dispatcher: Queue,
        recorder: Recorder,
        *,
        max_image_pixels: int,
        decode_threads: int,
        queue_timeout_s: float = 0.0,
    ) -> None:
        self._model = model
        self._reader = reader
        self._dispatcher = dispatcher
        self._recorder = recorder
        #: pixels of a picture that is decoded; a reload may change it
        self.max_image_pixels = max_image_pixels
        #: how long a request may wait in the queue, 0 for ever; a reload may change it
        self.queue_timeout_s = queue_timeout_s
        #: names of the classes, by index
        self.labels = model.labels
        self._loop = asyncio.get_running_loop()
        self._now_s = time.monotonic
        self._decoders = ThreadPoolExecutor(decode_threads, thread_name_prefix="decode")
        self._labellers = ThreadPoolExecutor(1, thread_name_prefix="labels")
        #: False before the server is open and while it drains: requests get UNAVAILABLE
        self.open = False

    @property
    def serves(self) -> bool:
        """Whether requests are answered now: it is open, and a worker is verified."""
        return self.open and self._dispatcher.verified

    def turn_away(self, deadline_s: float | None) -> None:
        """Asked before a request's message is received: a refusal then costs a fraction.

        What the request would have named is not known, so it counts as one for tensors.

        Args:
            deadline_s: on the monotonic clock; None for never.

        Raises:
            RequestError: no request could be admitted now; see ``infer``.
        """
        try:
            self._check_open()
            self._dispatcher.check_room(deadline_s)
        except RequestError as error:
            self.refuse(error)
            raise

    def refuse(self, error: RequestError) -> None:
        """Counts a request that was refused before it was read; see ``turn_away``."""
        self._recorder.received(error.view)
        self._recorder.refused(error.view, error.outcome, 0.0)

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
        return await self.infer_pieces([message], deadline_s)

    async def infer_pieces(
        self,
        pieces: list[bytes | memoryview],
        deadline_s: float | None,
        at_most: Priority = Priority.INTERACTIVE,
        timeline: Timeline | None = None,
    ) -> bytes:
        """The same for one in pieces, which are kept as they are, or emptied; see infer_parsed."""
        size, read = sum(map(len, pieces)), lambda: self._reader.read_pieces(pieces)
        return encoded(await self._answer_to(read, size, deadline_s, at_most, timeline))

    async def infer_parsed(
        self,
        head: Head,
        raws: Sequence[memoryview],
        deadline_s: float | None,
        at_most: Priority = Priority.INTERACTIVE,
        timeline: Timeline | None = None,
    ) -> Answer:
        """Answers a request whose head was read, and checked, before; raises as ``infer``.

        Args:
            head: of a request without a tensor.
            raws: the tensors as ``raw_input_contents`` holds them, without those in shared memory.
            deadline_s: on the monotonic clock; None for never.
            at_most: the priority that its sender has at most.
            timeline: where its moments are noted, if anybody watches.
        """
        size, read = sum(map(len, raws)), lambda: (head, self._reader.data(head, raws))
        return await self._answer_to(
            read, size, deadline_s, at_most, timeline, timeout_s=deadline_s
        )

    async def _answer_to(
        self,
        read: Callable[[], tuple[Head, Data]],
        size_bytes: int,
        deadline_s: float | None,
        at_most: Priority,
        timeline: Timeline | None,
        *,
        timeout_s: float | None = None,
    ) -> Answer:
        """Answers a request, by ``timeout_s`` at the latest; gRPC's calls end at theirs anyway."""
        arrived_s = self._now_s()
        try:
            head, data = read()
            output = self._reader.output(head)
        except RequestError as error:
            self._recorder.received(error.view)
            self._refuse(error.view, error, arrived_s, timeline)
            raise
        self._recorder.received(head.view)
        datatype = Datatype.UINT8 if head.datatype is None else head.datatype
        request = Request(
            head.view,
            datatype,
            head.count,
            size_bytes=max(size_bytes, head.count * self._model.signature.input_bytes[datatype]),
            arrived_s=arrived_s,
            deadline_s=deadline_s,
            priority=max(head.priority, at_most),
        )
        if timeline is not None:
            request.timeline = timeline
            timeline.read(head.model_name, head.count, arrived_s)
        try:
            self._check_open()
            self._dispatcher.admit(request)
        except RequestError as error:
            self._refuse(head.view, error, arrived_s, timeline)
            raise
        self._recorder.admitted(request)
        if timeline is not None:
            timeline.admitted_s = self._now_s()
        if not self.queue_timeout_s:
            return await self._see_through(request, head, data, output, timeout_s)
        # As in Triton: a request may shorten its wait, and not lengthen it.
        wait_s = min(self.queue_timeout_s, head.timeout_s or self.queue_timeout_s)
        patience = self._loop.call_at(arrived_s + wait_s, self._dispatcher.give_up_waiting, request)
        try:
            return await self._see_through(request, head, data, output, timeout_s)
        finally:
            patience.cancel()

    def _refuse(
        self, view: str, error: RequestError, arrived_s: float, timeline: Timeline | None
    ) -> None:
        self._recorder.refused(view, error.outcome, self._now_s() - arrived_s)
        if timeline is not None:
            timeline.refused(error.outcome, arrived_s)

    async def _see_through(
        self,
        request: Request,
        head: Head,
        data: Data,
        output: Places,
        timeout_s: float | None,
    ) -> Answer:
        """Sees an admitted request through; every way out settles it and counts it once."""
        timer = None
        if timeout_s is not None:
            timer = self._loop.call_at(timeout_s, self._dispatcher.expire, request)
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
            if request.timeline is not None:
                request.timeline.decoded = isinstance(data, list)
                request.timeline.queued_s = self._now_s()
            self._dispatcher.enqueue(request)
            await done
            if takes_long(head, request.output):
                make = functools.partial(make_answer, self._model, head, output, request.output)
                found = await self._loop.run_in_executor(self._labellers, make)
            else:
                found = make_answer(self._model, head, output, request.output)
        # A cancelled task, too, must leave the queue and be counted.
        except BaseException as error:
            self._dispatcher.drop(request)
            self._dispatcher.show_queue()
            self._recorder.failed(request, self._outcome(request, error), self._now_s())
            raise
        else:
            self._recorder.succeeded(request, self._now_s())
            return found
        finally:
            request.payload = None
            request.answer = None
            if timer is not None:
                timer.cancel()

    def _outcome(self, request: Request, error: BaseException) -> str:
        """Which of counters.FAILURES a request is counted under."""
        if isinstance(error, RequestError):
            return error.outcome
        if not isinstance(error, asyncio.CancelledError):
            return "failed"
        return "expired" if _passed(request.deadline_s, self._now_s()) else "cancelled"

    async def _decode(self, pictures: list[memoryview]) -> memoryview:
        """Encoded pictures to UINT8 [n,crop,crop,3], in the decoders' threads.

        Raises:
            InvalidRequest: one of them is no picture that is taken.
        """
        for picture in pictures:
            images.check_header(picture, self.max_image_pixels)
        recipe = self._model.signature.recipe
        assert recipe is not None, "the reader takes pictures only where there is a recipe"
        # Each picture goes to its own place at once: gathered first, they would be there twice.
        pixels = np.empty((len(pictures), recipe.crop, recipe.crop, 3), np.uint8)

        def decode(picture: memoryview, place: NDArray[np.uint8]) -> None:
            place[:] = images.decode(picture, recipe, self.max_image_pixels)

        await asyncio.gather(
            *(
                self._loop.run_in_executor(self._decoders, decode, picture, place)
                for picture, place in zip(pictures, pixels, strict=True)
            )
        )
        return pixels.data.cast("B")

    def close(self) -> None:
        """Ends the threads."""
        for threads in (self._decoders, self._labellers):
            threads.shutdown(wait=False, cancel_futures=True)


def _passed(deadline_s: float | None, now_s: float) -> bool:
    # gRPC cancels the handler at the deadline, give or take the granularity of its clock.
    return deadline_s is not None and now_s >= deadline_s - 0.005
