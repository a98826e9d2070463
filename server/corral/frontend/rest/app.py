"""The REST form as one ASGI callable; every request is answered, and no error gets out of it."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence

from corral.errors import InvalidRequest, QueueFull, RequestError, TooLarge
from corral.frontend.outgoing import SHORT_BYTES, NotTaken
from corral.frontend.rest import console, routes
from corral.frontend.rest.console import CONSOLE_ACTIONS, ConsolePages
from corral.frontend.rest.departures import Departures
from corral.frontend.rest.exchange import Reply, Request, answer, packed, refusal
from corral.frontend.rest.inference_reply import inference_reply, json_bytes
from corral.frontend.rest.leftovers import Leftovers
from corral.frontend.rest.pages import Pages
from corral.frontend.rest.routes import Route
from corral.frontend.rest.service import Body, Receive, Scope, Send, Service
from corral.frontend.rest.side_work import SideWork
from corral.images.header import is_no_picture
from corral.priority import Priority
from corral.protocol.head import Head
from corral.protocol.labels import labels_request
from corral.protocol.rest import compression, fields, request, response, statuses
from corral.protocol.rest.json_tensor import as_element
from corral.protocol.rest.multipart import is_no_form, only_file
from corral.protocol.rest.request import Form
from corral.protocol.rest.statuses import LengthMissing, MediaNotTaken
from corral.protocol.scattered import Scattered
from corral.system.procfs import open_connections
from corral.telemetry.timeline import timeline_of
from corral.tensors import Datatype

logger = logging.getLogger(__name__)

#: without credentials: probes have none, and it says nothing but whether the server serves
_OPEN = frozenset({"live", "ready"})
#: JSON headers up to this size are remembered: a client sends the same one again and again
_REMEMBERED_BYTES = 1024
#: a request for labels that names no number
_USUAL_LABELS = 5
_MULTIPART = "multipart/form-data"
#: pictures; "" and the form's are what curl --data-binary and many clients send of themselves
_PICTURE_TYPES = frozenset(
    {
        "",
        "image/jpeg",
        "image/jpg",
        "image/png",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
        _MULTIPART,
    }
)
#: what an inference is not sent as; anything else is taken, as Triton does
_NO_INFERENCE = ("multipart/", "image/", "audio/", "video/", "text/html", "application/xml")


class _ClientLeft(Exception):
    """Nobody is answered."""


class RestApp:
    """The REST form.

    Args:
        service: the frontend that it is a part of.
        console: the page for people; None: there is none.
    """

    def __init__(self, service: Service, console: ConsolePages | None = None) -> None:
        self._service = service
        self._console = console
        self._pages = Pages(service)
        self._side = SideWork()
        self._departures = Departures(open_connections)
        self._leftovers = Leftovers()
        self._remembered = functools.lru_cache(maxsize=256)(self._read_head)
        self._labels_head = functools.lru_cache(maxsize=64)(self._read_labels_head)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; see ASGI."""
        try:
            reply = await self._answer(scope, receive)
            is_refused = reply.status >= statuses.FIRST_REFUSAL
            if reply.follower is None and len(reply.body) <= SHORT_BYTES:
                await answer(send, reply)
            else:
                sending = self._send(scope, send, reply)
                # What does not go out is given up there.
                del reply
                await sending
            if is_refused:
                await self._leftovers.drop(scope, receive)
        except _ClientLeft:
            return
        except OSError:
            # A TimeoutError is one, too.
            logger.debug("the client left before its answer")

    async def _answer(self, scope: Scope, receive: Receive) -> Reply:
        try:
            asked = Request(scope)
            reply = await self._reply(asked, scope, receive)
            if reply.may_be_packed and (accept := asked.listed(b"accept-encoding")):
                pack = functools.partial(packed, reply, accept)
                reply = await self._side.write(pack, len(reply.body))
        except RequestError as error:
            reply = refusal(error)
        except asyncio.CancelledError:
            if self._departures.left():
                raise _ClientLeft from None
            raise
        # A defect is answered with a status and logged; the frontend goes on.
        except Exception:
            logger.exception("a request failed")
            reply = Reply(statuses.body_of("internal error"), statuses.INTERNAL)
        return reply

    async def _send(self, scope: Scope, send: Send, reply: Reply) -> None:
        """Sends an answer that is long, or goes on."""
        # It takes nobody's place among the requests that are worked for.
        with self._service.aside():
            if reply.follower is not None:
                await answer(send, reply)
                return
            try:
                with self._service.outgoing.answer(scope.get("client"), len(reply.body)):
                    await answer(send, reply)
            except NotTaken:
                logger.debug("the client did not take its answer")
                return
            except QueueFull as error:
                reply = refusal(error)
            else:
                return
            # Out of the block, where the error keeps nothing of the answer.
            await answer(send, reply)

    async def _reply(self, asked: Request, scope: Scope, receive: Receive) -> Reply:
        self._service.check_room()
        route = routes.find(asked.method, asked.path())
        if route.action in CONSOLE_ACTIONS:
            return console.answer(self._console, route.action, asked)
        at_most = Priority.INTERACTIVE
        if route.action not in _OPEN:
            at_most = self._service.authorize(scope)
        if route.action == "infer":
            with self._departures.watching(scope):
                return await self._infer(route, asked, receive, at_most)
        if route.action == "classify":
            with self._departures.watching(scope):
                return await self._classify(route, asked, receive, at_most)
        return await self._pages.answer(route, asked, receive)

    # --- inference ---

    async def _receive(
        self, asked: Request, receive: Receive, deadline_s: float | None
    ) -> Sequence[bytes]:
        self._service.turn_away(deadline_s)
        if asked.has_no_body:
            raise self._counted(LengthMissing("the request has no body, and no Content-Length"))
        try:
            pieces = await self._service.receive_body(
                asked.scope,
                receive,
                asked.length(b"content-length"),
                self._service.max_body_bytes,
            )
        except TooLarge as error:
            raise self._counted(error) from None
        if not pieces:
            raise self._counted(InvalidRequest("the request's body is empty"))
        return pieces

    async def _infer(
        self, route: Route, asked: Request, receive: Receive, at_most: Priority
    ) -> Reply:
        media = fields.media_type(asked.field(b"content-type"))
        if media.startswith(_NO_INFERENCE):
            raise MediaNotTaken(f"an inference is JSON, with binary data or without, not {media!r}")
        deadline_s = asked.deadline_s()
        # The body is left behind here: as JSON it is much longer than the tensor, which may wait.
        head, raws, binary = await self._read(route, asked, receive, deadline_s)
        timeline = timeline_of(asked.scope)
        got = await self._service.infer(head, raws, deadline_s, at_most, timeline)
        if (size_bytes := json_bytes(got, binary)) == 0:
            return inference_reply(got, binary)
        write = functools.partial(inference_reply, got, binary)
        return await self._side.write(write, size_bytes)

    async def _read(
        self, route: Route, asked: Request, receive: Receive, deadline_s: float | None
    ) -> tuple[Head, Sequence[Body | Scattered], tuple[bool, ...]]:
        """An inference: its head, its tensors, and whether each output is wanted in binary."""
        header_bytes = asked.length(b"inference-header-content-length")
        encoding = asked.field(b"content-encoding")
        pieces = await self._receive(asked, receive, deadline_s)
        try:
            if encoding is None and header_bytes is not None:
                found = self._in_pieces(route, pieces, header_bytes)
                if found is not None:
                    return found
            body: Body = _joined(pieces)
            del pieces
            if encoding is not None:
                body = await self._unpack(
                    body,
                    encoding,
                    functools.partial(compression.is_hopeless_request, header_bytes=header_bytes),
                )
            header, binary = request.cut(body, header_bytes)
            if binary is not None and len(header) <= _REMEMBERED_BYTES:
                form, head = self._remembered(bytes(header), route.name, route.version)
            else:
                read = functools.partial(self._read_form, header, route.name, route.version)
                form = await self._side.run(read, len(header))
                head = self._service.read_head(form.message)
            kinds = _datatypes(form, head)
            take = functools.partial(request.read_tensors, form, kinds, head.count, binary)
            raws = await self._side.run(take, form.data_bytes)
        except RequestError as error:
            raise self._counted(error) from None
        return head, raws, form.binary

    def _in_pieces(
        self, route: Route, pieces: Sequence[bytes], header_bytes: int
    ) -> tuple[Head, Sequence[Body | Scattered], tuple[bool, ...]] | None:
        """What ``_read`` gives, where one tensor follows a short header; None for all others."""
        first = pieces[0]
        if header_bytes > min(len(first), _REMEMBERED_BYTES):
            return None
        form, head = self._remembered(bytes(first[:header_bytes]), route.name, route.version)
        raw_bytes = sum(map(len, pieces)) - header_bytes
        if head.raw_bytes != raw_bytes or form.inputs[0].binary_bytes != raw_bytes:
            return None
        rest = memoryview(first)[header_bytes:]
        raw = rest if len(pieces) == 1 else Scattered([rest, *pieces[1:]])
        return head, [raw], form.binary

    async def _unpack(
        self,
        body: Body,
        encoding: str,
        is_hopeless: Callable[[bytes], bool],
    ) -> Body:
        most = self._service.max_body_bytes
        work = functools.partial(compression.unpack, body, encoding, most, is_hopeless)
        return await self._side.run(work, len(body), packed=True)

    def _read_head(self, header: bytes, name: str, version: str) -> tuple[Form, Head]:
        form = self._read_form(header, name, version)
        return form, self._service.read_head(form.message)

    def _read_form(self, header: bytes | memoryview, name: str, version: str) -> Form:
        several = self._service.several_inputs
        return request.read_form(header, name, version, several=several)

    async def _classify(
        self, route: Route, asked: Request, receive: Receive, at_most: Priority
    ) -> Reply:
        content_type = asked.field(b"content-type") or ""
        media = fields.media_type(content_type)
        if media not in _PICTURE_TYPES:
            raise MediaNotTaken(f"a picture is a JPEG or PNG, not {media[:40]!r}")
        query = asked.query()
        top = _whole(query, "k", _USUAL_LABELS)
        if top < 1:
            raise InvalidRequest("k in the query is a whole number, 1 or more")
        timeout_us, priority = _whole(query, "timeout", 0), _whole(query, "priority", 0)
        if query:
            unknown = next(iter(query))[:40]
            raise InvalidRequest(f"the query takes k, timeout and priority, not {unknown!r}")
        encoding, deadline_s = asked.field(b"content-encoding"), asked.deadline_s()
        body: Body = _joined(await self._receive(asked, receive, deadline_s))
        try:
            head = self._labels_head(route.name, route.version, top, timeout_us, priority)
            if encoding is not None:
                hopeless = is_no_form if media == _MULTIPART else is_no_picture
                body = await self._unpack(body, encoding, hopeless)
            picture: Body = body
            if media == _MULTIPART:
                look = functools.partial(only_file, body, content_type)
                picture = await self._side.run(look, len(body))
            element = as_element(picture)
        except RequestError as error:
            raise self._counted(error) from None
        del body, picture
        timeline = timeline_of(asked.scope)
        got = await self._service.infer(head, [element], deadline_s, at_most, timeline)
        return Reply(response.labels(head.model_name, got.content), may_be_packed=True)

    def _read_labels_head(
        self, name: str, version: str, top: int, timeout_us: int, priority: int
    ) -> Head:
        message = labels_request(name, version, top, timeout_us, priority)
        try:
            return self._service.read_head(message)
        except InvalidRequest as error:
            # The client wrote none of the tensors that it would be told of.
            if not (why := self._service.without_labels):
                raise
            told = InvalidRequest(f"{why} to /v2/models/{name}/infer")
            told.view = error.view
            raise told from None

    def _counted(self, error: RequestError) -> RequestError:
        self._service.refused(error)
        return error


def _joined(pieces: Sequence[bytes]) -> bytes:
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _datatypes(form: Form, head: Head) -> list[Datatype | None]:
    """What the values of each input become, in the request's order."""
    if not head.inputs:
        return [head.datatype]
    kinds = {given.spec.name: given.spec.datatype for given in head.inputs}
    return [kinds[given.name] for given in form.inputs]


def _whole(query: dict[str, str], name: str, usual: int) -> int:
    """Takes a field that is a whole number out of the query."""
    text = query.pop(name, None)
    if text is None:
        return usual
    if not (text.isascii() and text.isdigit() and len(text) <= 15):
        raise InvalidRequest(f"{name} in the query is a whole number of 1 to 15 digits")
    return int(text)
