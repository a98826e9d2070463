"""The methods of GRPCInferenceService as handlers of calls."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable

from google.protobuf.message import DecodeError, Message

from corral.errors import QueueFull, RequestError
from corral.frontend.grpc_asgi.application import Stream, Unary
from corral.frontend.grpc_asgi.call import Call, Pieces
from corral.frontend.grpc_asgi.status import ClientGone, GrpcError, MessageTooLarge
from corral.frontend.messages import SHORT_MESSAGE_BYTES, existing, one_message
from corral.frontend.outgoing import SHORT_BYTES, TOO_MANY, NotTaken
from corral.frontend.pages import Page
from corral.frontend.service import Service
from corral.protocol.envelope import MAX_HEAD_BYTES, is_hopeless, tail, varint
from corral.protocol.metadata import parse
from corral.telemetry.timeline import Timeline, timeline_of
from corral_protos import open_inference_pb2 as pb

logger = logging.getLogger(__name__)

#: the service that the Open Inference Protocol defines
SERVICE: str = pb.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name

#: requests of one stream that wait for their answer, or to have it taken
_STREAMED_AT_ONCE = 256
_RESPONSE_TAG = b"\x12"
#: appended to an answer of a stream: clients of decoupled models ask it whether more will follow
_LAST = pb.ModelInferResponse(
    parameters={"triton_final_response": pb.InferParameter(bool_param=True)}
).SerializeToString()


class Methods:
    """The inference service's calls.

    Args:
        service: answers them.
    """

    def __init__(self, service: Service) -> None:
        self._service = service

    def unary(self) -> dict[str, Unary]:
        """The methods that answer once, by path."""
        return {
            f"/{SERVICE}/{name}": self._page(kind, page)
            for name, (kind, page) in self._service.pages.methods().items()
        }

    def streams(self) -> dict[str, Stream]:
        """The methods that send their answers themselves, by path."""
        return {
            f"/{SERVICE}/ModelInfer": self._infer,
            f"/{SERVICE}/ModelStreamInfer": self._stream_infer,
        }

    def _page(self, kind: type[Message], page: Page) -> Unary:
        async def answer(call: Call) -> bytes:
            message = await one_message(call, self._service.messages, SHORT_MESSAGE_BYTES)
            return page(parse(kind, message)).SerializeToString()

        return answer

    async def _infer(self, call: Call) -> None:
        service = self._service
        service.turn_away(call.deadline_s)
        pieces = existing(await self._receive(call))
        service.accepted += 1
        try:
            timeline = timeline_of(call.scope)
            answer = await service.infer_pieces(pieces, call.deadline_s, call.granted, timeline)
            # A short answer is with the kernel at once, unless a client has stopped to read.
            if len(answer) > SHORT_BYTES:
                await self._answer_long(call, answer)
            else:
                await call.answer(answer)
                if service.draining:
                    await call.taken()
        finally:
            service.accepted -= 1

    async def _answer_long(self, call: Call, answer: bytes) -> None:
        service = self._service
        # It takes nobody's place among the requests that are worked for.
        with service.aside():
            try:
                with service.outgoing.answer(_source(call), call.holds_bytes(answer)):
                    await call.answer(answer)
                    await call.taken()
            except NotTaken:
                raise ClientGone from None

    async def _receive(self, call: Call) -> Pieces | None:
        service = self._service
        try:
            with service.messages.turn(call.scope, inference=True) as turn:
                return await call.message(
                    service.max_body_bytes, service.too_large, turn.grow, is_hopeless
                )
        except MessageTooLarge:
            raise service.refuse_too_large() from None

    async def _stream_infer(self, call: Call) -> None:
        """Answers the requests of a stream, each as soon as it is done."""
        await call.begin()
        places = asyncio.Semaphore(_STREAMED_AT_ONCE)
        answers: set[asyncio.Task[None]] = set()
        stream = asyncio.current_task()
        assert stream
        given_up = False

        def answered(task: asyncio.Task[None]) -> None:
            answers.discard(task)
            places.release()

        def give_up() -> None:
            nonlocal given_up
            if not given_up:
                given_up = True
                stream.cancel()

        try:
            while (pieces := await self._receive(call)) is not None:
                await places.acquire()
                task = asyncio.create_task(self._answer_one(call, pieces, give_up))
                answers.add(task)
                task.add_done_callback(answered)
            await _all_of(answers)
        except (GrpcError, RequestError):
            # What came before the message that ends the stream is answered all the same.
            await _all_of(answers)
            raise
        except asyncio.CancelledError:
            if not given_up or stream.uncancel():
                raise
            raise ClientGone from None
        finally:
            for task in answers:
                task.cancel()

    async def _answer_one(self, call: Call, pieces: Pieces, give_up: Callable[[], None]) -> None:
        service = self._service
        service.count += 1
        service.accepted += 1
        timeline = service.observer.begin_streamed(call.scope)
        try:
            answer = await self._streamed(pieces, call, timeline)
            refused = _failed(pieces, TOO_MANY) if len(answer) > SHORT_BYTES else b""
            # A client that does not take the answer does not make its request stay.
            del pieces
            try:
                with service.outgoing.answer(_source(call), call.holds_bytes(answer)):
                    await call.send(answer)
            except QueueFull:
                if answer := refused:
                    await call.send(answer)
                else:
                    give_up()
            except NotTaken:
                # A part of it may have left, which nothing can follow.
                give_up()
        except ClientGone:
            # Who reads the stream's requests learns it, too.
            return
        finally:
            service.accepted -= 1
            if timeline is not None:
                service.observer.end(timeline)

    async def _streamed(self, pieces: Pieces, call: Call, timeline: Timeline | None) -> bytes:
        """A ModelStreamInferResponse, whatever becomes of the request."""
        try:
            # It may empty what it is given, and an error wants to name its request.
            answer = await self._service.infer_pieces(
                list(pieces), call.deadline_s, call.granted, timeline
            )
        except RequestError as error:
            return _failed(pieces, str(error))
        # A defect fails one request, and the stream goes on for the others.
        except Exception:
            logger.exception("a request failed")
            return _failed(pieces, "internal error")
        return b"".join((_RESPONSE_TAG, varint(len(answer) + len(_LAST)), answer, _LAST))


def _source(call: Call) -> object:
    """The call's connection."""
    return call.scope.get("client")


async def _all_of(tasks: set[asyncio.Task[None]]) -> None:
    while tasks:
        await asyncio.wait(tasks)


def _failed(pieces: Pieces, text: str) -> bytes:
    """The answer to a request of a stream that failed, with its id where that can be told."""
    answer = pb.ModelStreamInferResponse(error_message=text)
    answer.infer_response.SetInParent()
    first = pieces[0] if pieces else b""
    found = tail(first, sum(map(len, pieces)))
    head = first[: found[0]] if found else first
    if len(head) <= MAX_HEAD_BYTES:
        with contextlib.suppress(DecodeError):
            request = pb.ModelInferRequest.FromString(bytes(head))
            answer.infer_response.id = request.id
            answer.infer_response.model_name = request.model_name
    return answer.SerializeToString()
