"""The frontend's end of a worker: its data socket and its region.

A batch is copied into the region, the engine's own input tensor, once and consecutively; a fixed
message over SOCK_SEQPACKET says what lies there. One batch at a time: nothing is written to the
region before the worker answered, and a dead worker's region is never used again.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable

from corral.batching.cost_model import CostModel
from corral.batching.jobs import Batch, Job
from corral.errors import RequestError
from corral.ipc.messages import BATCH, RESULT, AttachWorker, ResultStatus
from corral.ipc.region import Region
from corral.protocol.scattered import Scattered
from corral.protocol.shared_memory import Tensor
from corral.tensors import Datatype, Signature

logger = logging.getLogger(__name__)

#: the number of the batch that proves a worker; the batcher counts from 1
_PROBE = 0
_STATUSES = {status.value: status for status in ResultStatus}


class Request(Job):
    """A job with its tensor: ``count`` items, one after another, kept until it is answered."""

    __slots__ = ("answer", "output", "payload", "started_s", "view", "waiting")

    def __init__(
        self,
        view: str,
        datatype: Datatype,
        count: int,
        *,
        size_bytes: int,
        arrived_s: float,
        deadline_s: float | None,
    ) -> None:
        super().__init__(datatype, count, size_bytes, arrived_s, deadline_s)
        self.view = view
        #: the items' bytes; None until a picture is decoded, and once the request is settled
        self.payload: memoryview | Scattered | Tensor | None = None
        #: the results' bytes, as they come in
        self.output: bytes | bytearray = b""
        #: called once with None, or with the error that answers the request
        self.answer: Callable[[Exception | None], None] | None = None
        #: when its first batch was formed
        self.started_s = 0.0
        #: items that wait for a worker
        self.waiting = 0


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
        self.verified = False
        #: it is to go as soon as it holds nothing
        self.leaving = False
        #: what it holds; None while it is free
        self.batch: Batch[Request] | None = None
        #: the number that its next result must have; None while none is due
        self._awaited: int | None = None
        #: whether the batch reached the worker: one that did not cannot have killed it
        self.delivered = False
        #: seconds that the copy of its batch into the region took
        self.copy_s = 0.0
        self._signature = signature
        self._socket = socket.socket(fileno=data_fd)
        self._socket.setblocking(False)
        os.close(region_fd)

    def fileno(self) -> int:
        """The data socket, to wait on."""
        return self._socket.fileno()

    def probe(self) -> None:
        """Sends a batch of one, zeros: the worker is verified when it comes back."""
        self._send(_PROBE, self._signature.datatypes[0], 1)

    def send(self, batch: Batch[Request]) -> list[tuple[Request, RequestError]]:
        """Copies the batch into the region and hands it over.

        Returns:
            the requests whose tensor is no longer all there in their client's shared memory, and
            what answers them; what is run in its place means nothing.
        """
        self.batch = batch
        spoiled: list[tuple[Request, RequestError]] = []
        memory, at = self._region.memory, self._region.input_offset
        size = self._signature.input_bytes[batch.datatype]
        for span in batch.spans:
            payload = span.job.payload
            assert payload is not None, "a queued request has its tensor"
            length = len(span) * size
            start = span.start * size
            if isinstance(payload, memoryview):
                memory[at : at + length] = payload[start : start + length]
            elif isinstance(payload, Scattered):
                payload.read_into(memory[at : at + length], start)
            elif not payload.read_into(memory[at : at + length], start):
                spoiled.append((span.job, payload.shrunk()))
            at += length
        self._send(batch.number, batch.datatype, batch.count)
        return spoiled

    def _send(self, number: int, datatype: Datatype, count: int) -> None:
        self._awaited = number
        try:
            self._socket.send(BATCH.pack(number, datatype, count), socket.MSG_NOSIGNAL)
            self.delivered = True
        except OSError:
            # The worker has just died; the end of the socket will be read next.
            self.delivered = False

    def receive(self) -> tuple[Batch[Request] | None, ResultStatus, float] | None:
        """Reads a result.

        Returns:
            the batch (None for the probe), how it ended, and the engine's seconds; None when
            there is nothing to read.

        Raises:
            EOFError: the worker is gone.
        """
        try:
            message = self._socket.recv(RESULT.size + 1)
        except BlockingIOError:
            return None
        except OSError:
            raise EOFError from None
        if len(message) != RESULT.size:
            # Nothing, or nonsense: either way this worker is no worker any more.
            raise EOFError
        number, code, duration_ns = RESULT.unpack(message)
        status = _STATUSES.get(code)
        if status is None or number != self._awaited:
            # What it holds stays in ``batch``, to be run elsewhere.
            logger.error(
                "worker %d answered nonsense: batch %d, status %d", self.worker, number, code
            )
            raise EOFError
        self._awaited = None
        batch, self.batch = self.batch, None
        return batch, status, duration_ns / 1e9

    def collect(self, batch: Batch[Request]) -> None:
        """Copies the results out of the region, to the requests that still want them."""
        memory = self._region.memory
        size = self._signature.output_bytes
        at = 0
        for span in batch.spans:
            request, length = span.job, len(span) * size
            if not request.done:
                result = memory[at : at + length]
                if len(span) == request.count:
                    request.output = result.tobytes()
                else:
                    if not request.output:
                        request.output = bytearray(request.count * size)
                    assert isinstance(request.output, bytearray)
                    request.output[span.start * size : span.stop * size] = result
            at += length

    def close(self) -> None:
        """Closes the socket, which ends the worker, and lets the region go."""
        self._socket.close()
        self._region.close()
