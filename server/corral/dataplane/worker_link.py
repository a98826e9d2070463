"""The frontend's end of a worker: its data socket and its region.

A batch is copied into the region, the engine's own input tensor, once and consecutively; a fixed
message over SOCK_SEQPACKET says what lies there. One batch at a time: nothing is written to the
region before the worker answered, and a dead worker's region is never used again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time

from corral.batching.cost_model import CostModel
from corral.batching.jobs import Batch, Job
from corral.errors import RequestError
from corral.ipc.batch_channel import BatchChannel, Nonsense, Result
from corral.ipc.messages import AttachWorker
from corral.ipc.region import Region
from corral.protocol.head import Places
from corral.protocol.scattered import Scattered
from corral.protocol.several import Several, copy_items
from corral.protocol.shared_memory import Tensor
from corral.telemetry.timeline import Run, Timeline
from corral.tensors import Datatype, Signature

logger = logging.getLogger(__name__)

#: the number of a batch that nobody asked for; the batcher counts from 1
UNASKED = 0


class Request(Job, eq=False):
    """A job with its tensor: ``count`` items, one after another, kept until it is answered."""

    view: str = ""
    #: the items' bytes; None until a picture is decoded, and once the request is settled
    payload: memoryview | Scattered | Tensor | Several | None = None
    #: the results' bytes, as they come in
    output: bytes | bytearray = b""
    #: done once it is answered, by what came back or by an error; None once it is settled
    answered: asyncio.Future[None] | None = None
    #: where in its client's shared memory the outputs are wanted
    places: Places = None
    #: when its first batch was formed
    started_s: float = 0.0
    #: the copy in, the engine and the way out, until its latest batch came back
    spent_s: tuple[float, float, float] = (0.0, 0.0, 0.0)
    #: items that wait for a worker
    waiting: int = 0
    #: where its moments are noted; None where nobody watches
    timeline: Timeline | None = None

    def answer(self, error: Exception | None) -> None:
        """Tells who waits for it, unless it is settled: it is answered, or by this error."""
        if self.answered is None or self.answered.done():
            return
        if error is None:
            self.answered.set_result(None)
        else:
            self.answered.set_exception(error)


class WorkerLink:
    """One attached worker.

    Args:
        hello: what the supervisor says of it.
        fds: its data socket and its region; taken over.
        signature: the model's shapes.

    Raises:
        OSError: no memory map to be had; the descriptors stay the caller's.
        ValueError: not both of them arrived.
    """

    def __init__(self, hello: AttachWorker, fds: list[int], signature: Signature) -> None:
        data_fd, region_fd = fds
        # What may fail comes first: until then the descriptors are the caller's to close.
        self._region = Region(region_fd, signature, hello.region_batch)
        self.worker = hello.worker
        self.slot = hello.slot
        self.pid = hello.pid
        self.costs = CostModel(hello.sizes, hello.costs_s)
        self.generation = hello.generation
        self.verified = False
        #: it is to go as soon as it holds nothing
        self.leaving = False
        #: what it holds; None while it is free
        self.batch: Batch[Request] | None = None
        #: whether the batch reached the worker: one that did not cannot have killed it
        self.delivered = False
        #: seconds that the copy of its batch into the region took
        self.copy_s = 0.0
        #: when its batch was handed over, and when the worker says that the engine began
        self.sent_s = 0.0
        self.started_s = 0.0
        self._signature = signature
        self._datatype = signature.datatypes[0]
        self._channel = BatchChannel(socket.socket(fileno=data_fd))
        os.close(region_fd)

    @property
    def datatype(self) -> Datatype:
        """Of its latest batch; at first the network's own."""
        return self._datatype

    def fileno(self) -> int:
        """The data socket, to wait on."""
        return self._channel.fileno()

    def probe(self) -> Datatype:
        """Sends a batch of one that nobody asked for, of what lies in the region.

        The worker is verified when it comes back.

        Returns:
            its datatype: that of the latest batch.
        """
        self.sent_s = time.monotonic()
        self.delivered = self._channel.send(UNASKED, self._datatype, 1)
        return self._datatype

    def send(self, batch: Batch[Request]) -> list[tuple[Request, RequestError]]:
        """Copies the batch into the region and hands it over.

        Returns:
            the requests whose tensor is no longer all there in their client's shared memory, and
            what answers them; what is run in its place means nothing.
        """
        self.batch = batch
        if self._region.input_places:
            return self._send_several(batch)
        spoiled: list[tuple[Request, RequestError]] = []
        memory, at = self._region.memory, self._region.input_offset
        size = self._signature.input_bytes[batch.datatype]
        for span in batch.spans:
            payload = span.job.payload
            assert payload is not None, "a queued request has its tensor"
            assert not isinstance(payload, Several), "only for a model of several inputs"
            start = span.start * size
            length = span.stop * size - start
            if isinstance(payload, memoryview):
                memory[at : at + length] = payload[start : start + length]
            elif isinstance(payload, Scattered):
                payload.read_into(memory[at : at + length], start)
            elif not payload.read_into(memory[at : at + length], start):
                spoiled.append((span.job, payload.shrunk()))
            at += length
        self._hand_over(batch)
        return spoiled

    def _hand_over(self, batch: Batch[Request]) -> None:
        # Before the worker is woken: it may begin before this process goes on.
        self.sent_s = time.monotonic()
        self._datatype = batch.datatype
        self.delivered = self._channel.send(batch.number, batch.datatype, batch.count)

    def _send_several(self, batch: Batch[Request]) -> list[tuple[Request, RequestError]]:
        """The same for several inputs: the items of each lie together."""
        spoiled: dict[int, tuple[Request, RequestError]] = {}
        memory = self._region.memory
        for index, place in enumerate(self._region.input_places):
            at, size = place.offset, place.item_bytes
            for span in batch.spans:
                payload = span.job.payload
                assert isinstance(payload, Several), "its reader gives one tensor an input"
                part = payload.parts[index]
                length = len(span) * size
                if not copy_items(part, span.start * size, memory[at : at + length]):
                    assert isinstance(part, Tensor)
                    spoiled[id(span.job)] = (span.job, part.shrunk())
                at += length
        self._hand_over(batch)
        return list(spoiled.values())

    def receive(self) -> tuple[Batch[Request] | None, Result] | None:
        """Reads a result.

        Returns:
            the batch (None for the probe), and how it ended; None when there is nothing to read.

        Raises:
            EOFError: the worker is gone.
        """
        try:
            result = self._channel.receive()
        except Nonsense as error:
            # What it holds stays in ``batch``, to be run elsewhere.
            logger.error("worker %d answered nonsense: %s", self.worker, error)  # noqa: TRY400
            raise
        if result is None:
            return None
        batch, self.batch = self.batch, None
        self.started_s = result.started_s
        return batch, result

    def collect(self, batch: Batch[Request]) -> None:
        """Copies the results out of the region, to the requests that still want them."""
        if self._region.output_places:
            self._collect_several(batch)
            return
        memory = self._region.memory
        size = self._signature.output_bytes
        at = 0
        for span in batch.spans:
            request, items = span.job, span.stop - span.start
            length = items * size
            if not request.done:
                result = memory[at : at + length]
                if items == request.count:
                    request.output = result.tobytes()
                else:
                    if not request.output:
                        request.output = bytearray(request.count * size)
                    assert isinstance(request.output, bytearray)
                    request.output[span.start * size : span.stop * size] = result
            at += length

    def _collect_several(self, batch: Batch[Request]) -> None:
        """The same for several outputs: a request's lie one behind another, each whole."""
        memory = self._region.memory
        first = 0
        for place in self._region.output_places:
            at, size = place.offset, place.item_bytes
            for span in batch.spans:
                request, length = span.job, len(span) * size
                if not request.done:
                    if not request.output:
                        request.output = bytearray(request.count * self._signature.output_bytes)
                    assert isinstance(request.output, bytearray)
                    start = request.count * first + span.start * size
                    request.output[start : start + length] = memory[at : at + length]
                at += length
            first += size

    def ran(self, batch: Batch[Request], engine_s: float, collected_s: float) -> Run:
        """The batch that came back last, as a timeline has it; before another is sent."""
        # The worker's clock and ours are one; a worker that says otherwise is not believed.
        started_s = min(max(self.started_s, self.sent_s), collected_s)
        ended_s = min(started_s + engine_s, collected_s)
        moments = (batch.formed_s, self.sent_s, started_s, ended_s, collected_s)
        return Run(batch.number, self.worker, batch.count, *moments)

    def close(self) -> None:
        """Closes the socket, which ends the worker, and lets the region go."""
        self._channel.close()
        self._region.close()
