"""One request: from its bytes to its answer, counted once whatever becomes of it.

There is no network in it. Everything runs on one event loop; only pictures are decoded in threads
(Pillow lets go of the GIL meanwhile).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from corral.dataplane.answers import encoded_answer, make_answer, takes_long
from corral.dataplane.inner_queue import Queue
from corral.dataplane.recorder import Recorder
from corral.dataplane.worker_link import Request
from corral.errors import RequestError, Unavailable
from corral.images import decode as images
from corral.ipc.messages import ServedModel
from corral.priority import Priority
from corral.protocol.head import Data, Head, Places
from corral.protocol.request import RequestReader
from corral.protocol.response import Answer
from corral.protocol.scattered import Scattered
from corral.telemetry.timeline import Timeline
from corral.tensors import Datatype

_CLOSED = "the server is not serving: it is starting or stopping"
#: an answer, or its bytes
Made = TypeVar("Made", Answer, bytes)


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
        self._input_bytes = model.signature.input_bytes
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
            if not self.open:
                raise Unavailable(_CLOSED)
            self._dispatcher.check_room(deadline_s)
        except RequestError as error:
            self.refuse(error)
            raise

    def refuse(self, error: RequestError) -> None:
        """Counts a request that was refused before it was read; see ``turn_away``."""
        self._recorder.received(error.view)
        self._recorder.refused(error.view, error.outcome, 0.0)

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
        arrived_s = self._now_s()
        size_bytes = sum(map(len, pieces))
        try:
            head, data = self._reader.read_pieces(pieces)
        except RequestError as error:
            self._refuse_unread(error, arrived_s, timeline)
            raise
        request = self._admit(head, size_bytes, arrived_s, deadline_s, at_most, timeline=timeline)
        return await self._see_through(request, head, data, encoded_answer)

    async def infer_parsed(
        self,
        head: Head,
        raws: Sequence[memoryview | Scattered],
        deadline_s: float | None,
        at_most: Priority = Priority.INTERACTIVE,
        timeline: Timeline | None = None,
    ) -> Answer:
        """Answers a request whose head was read, and checked, before; raises as ``infer``.

        Args:
            head: of a request without a tensor.
            raws: the tensors as ``raw_input_contents`` holds them, without those in shared memory.
            deadline_s: on the monotonic clock; None for never. The answer is an error then.
            at_most: the priority that its sender has at most.
            timeline: where its moments are noted, if anybody watches.
        """
        arrived_s = self._now_s()
        try:
            data = self._reader.data(head, raws)
        except RequestError as error:
            self._refuse_unread(error, arrived_s, timeline)
            raise
        size_bytes = sum(map(len, raws))
        request = self._admit(head, size_bytes, arrived_s, deadline_s, at_most, timeline=timeline)
        # gRPC's calls end at theirs anyway.
        return await self._see_through(request, head, data, make_answer, timeout_s=deadline_s)

    def _refuse_unread(
        self, error: RequestError, arrived_s: float, timeline: Timeline | None
    ) -> None:
        self._recorder.received(error.view)
        self._refuse(error.view, error, arrived_s, timeline)

    def _refuse(
        self, view: str, error: RequestError, arrived_s: float, timeline: Timeline | None
    ) -> None:
        self._recorder.refused(view, error.outcome, self._now_s() - arrived_s)
        if timeline is not None:
            timeline.refused(error.outcome, arrived_s)

    def _admit(
        self,
        head: Head,
        size_bytes: int,
        arrived_s: float,
        deadline_s: float | None,
        at_most: Priority,
        *,
        timeline: Timeline | None,
    ) -> Request:
        """Gives a request that was read its place in the queue, or counts why it has none."""
        datatype = Datatype.UINT8 if head.datatype is None else head.datatype
        least_bytes = head.count * self._input_bytes[datatype]
        request = Request(
            datatype,
            head.count,
            size_bytes if size_bytes > least_bytes else least_bytes,
            arrived_s,
            deadline_s,
            head.priority if head.priority > at_most else at_most,
            view=head.view,
        )
        if timeline is not None:
            request.timeline = timeline
            timeline.read(head.model_name, head.count, arrived_s)
        try:
            if not head.is_plain:
                request.places = self._reader.output(head)
            if not self.open:
                raise Unavailable(_CLOSED)
            self._dispatcher.admit(request)
        except RequestError as error:
            self._recorder.received(head.view)
            self._refuse(head.view, error, arrived_s, timeline)
            raise
        self._recorder.admitted(request)
        if timeline is not None:
            timeline.admitted_s = self._now_s()
        return request

    async def _see_through(
        self,
        request: Request,
        head: Head,
        data: Data,
        make: Callable[[ServedModel, Head, Places, bytes | bytearray], Made],
        *,
        timeout_s: float | None = None,
    ) -> Made:
        """Sees an admitted request through; every way out settles it and counts it once.

        Args:
            request: the admitted one.
            head: its head.
            data: its tensor, or its pictures.
            make: makes its answer.
            timeout_s: when it is answered at the latest, on the monotonic clock.
        """
        timers: Sequence[asyncio.TimerHandle] = ()
        if timeout_s is not None or self.queue_timeout_s:
            timers = self._timers(request, head, timeout_s)
        request.answered = answered = self._loop.create_future()
        try:
            if isinstance(data, list):
                request.payload = await self._decode(data)
            else:
                request.payload = data
            if request.timeline is not None:
                request.timeline.decoded = isinstance(data, list)
                request.timeline.queued_s = self._now_s()
            self._dispatcher.enqueue(request)
            await answered
            if takes_long(head, request.output):
                args = (self._model, head, request.places, request.output)
                found = await self._loop.run_in_executor(self._labellers, make, *args)
            else:
                found = make(self._model, head, request.places, request.output)
        # A cancelled task, too, must leave the queue and be counted.
        except BaseException as error:
            self._dispatcher.drop(request)
            self._recorder.failed(request, self._outcome(request, error), self._now_s())
            raise
        else:
            self._recorder.succeeded(request, self._now_s())
            return found
        finally:
            request.payload = request.answered = None
            for timer in timers:
                timer.cancel()

    def _timers(
        self, request: Request, head: Head, timeout_s: float | None
    ) -> list[asyncio.TimerHandle]:
        timers = []
        if timeout_s is not None:
            timers.append(self._loop.call_at(timeout_s, self._dispatcher.expire, request))
        if self.queue_timeout_s:
            # As in Triton: a request may shorten its wait, and not lengthen it.
            wait_s = min(self.queue_timeout_s, head.timeout_s or self.queue_timeout_s)
            until_s = request.arrived_s + wait_s
            waits = self._loop.call_at(until_s, self._dispatcher.give_up_waiting, request)
            timers.append(waits)
        return timers

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
