"""A frontend for tests of the REST form: the real reader of requests, and a model in Python.

The model answers with each item's first elements, so that an answer tells whose request it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import struct
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from corral.errors import InvalidRequest, NotFound, RequestError, TooLarge
from corral.frontend.outgoing import Outgoing
from corral.frontend.rest.app import RestApp
from corral.frontend.rest.service import Body, Receive, Scope
from corral.priority import Priority
from corral.protocol.contents import Limits
from corral.protocol.head import Head
from corral.protocol.request import RequestReader
from corral.protocol.response import Answer, classification
from corral.protocol.scattered import Scattered
from corral.telemetry.timeline import Timeline
from corral.tensors import Datatype, Signature, View
from corral_protos import open_inference_pb2 as pb

CLASSES = 10
SIGNATURE = Signature({Datatype.FP32: (3, 4, 4), Datatype.UINT8: (4, 4, 3)}, (CLASSES,))
VIEWS = {"m": View.TENSOR, "m_uint8": View.UINT8, "m_image": View.IMAGE}
INPUTS = {"m": ("FP32", [-1, 3, 4, 4]), "m_uint8": ("UINT8", [-1, 4, 4, 3])}
LABELS = tuple(f"class {index}" for index in range(CLASSES))
MAX_BODY_BYTES = 200_000


def resolve(name: str, version: str) -> View:
    if name not in VIEWS or version not in {"", "1"}:
        raise NotFound(f"no model {name[:80]!r}")
    return VIEWS[name]


class Received(bytearray):
    """A piece of a body, whose end can be seen."""


class FakeService:
    """See corral.frontend.rest.service.Service."""

    max_body_bytes = MAX_BODY_BYTES

    def __init__(self, signature: Signature = SIGNATURE) -> None:
        self.ready = True
        self.standing_aside = 0
        self.outgoing = Outgoing(2**28)
        self.error: RequestError | Exception | None = None
        self.closed: RequestError | None = None
        self.full: RequestError | None = None
        self.counted: list[RequestError] = []
        #: what was received, and how many of them were there still when the model ran
        self.bodies: list[weakref.ref[Received]] = []
        #: bodies that are held while the model runs, and how often it is looked whether they are
        self.kept: list[int] = []
        self.patience = 1
        self.raws: list[bytes | None] = []
        self.heads: list[Head] = []
        self.deadlines_s: list[float | None] = []
        self.asked: list[tuple[str, dict[str, object]]] = []
        #: makes every page long
        self.padding = ""
        self._reader = RequestReader(
            signature, Limits(max_items=8, max_image_bytes=1_000, classes=CLASSES), resolve
        )

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        self.standing_aside += 1
        yield

    @property
    def several_inputs(self) -> bool:
        return self._reader.several_inputs

    @property
    def without_labels(self) -> str:
        return self._reader.without_labels

    def check_room(self) -> None:
        if self.full is not None:
            raise self.full

    def authorize(self, _scope: Scope) -> Priority:
        if self.closed is not None:
            raise self.closed
        return Priority.INTERACTIVE

    def turn_away(self, _deadline_s: float | None) -> None:
        if self.error is not None:
            raise self.error

    def refused(self, error: RequestError) -> None:
        self.counted.append(error)

    async def receive_body(
        self, _scope: Scope, receive: Receive, length: int | None, most_bytes: int
    ) -> list[bytes]:
        if length is not None and length > most_bytes:
            raise TooLarge("the body is above the limit")
        pieces: list[Any] = []
        while True:
            message = await receive()
            if piece := message.get("body"):
                pieces.append(Received(piece))
                self.bodies.append(weakref.ref(pieces[-1]))
            if sum(map(len, pieces)) > most_bytes:
                raise TooLarge("the body is above the limit")
            if not message.get("more_body"):
                return pieces

    def read_head(self, request: pb.ModelInferRequest) -> Head:
        return self._reader.read_head(request)

    async def infer(
        self,
        head: Head,
        raws: Sequence[Body | Scattered],
        deadline_s: float | None,
        at_most: Priority,
        timeline: Timeline | None = None,
    ) -> Answer:
        del at_most, timeline
        (raw,) = raws
        # A thread that unpacked a body lets go of it a moment after it told so.
        for _ in range(self.patience):
            if not (kept := sum(body() is not None for body in self.bodies)):
                break
            await asyncio.sleep(0.01)
        self.kept.append(kept)
        content = bytes(raw.joined() if isinstance(raw, Scattered) else raw)
        data = self._reader.data(head, [memoryview(content)])
        self.heads.append(head)
        self.deadlines_s.append(deadline_s)
        self.raws.append(content)
        await asyncio.sleep(0)
        scores = np.zeros((head.count, CLASSES), np.float32)
        if isinstance(data, list):
            for row, picture in zip(scores, data, strict=True):
                if bytes(picture[:2]) != b"ok":
                    raise InvalidRequest("the data is not a picture: send an encoded JPEG or PNG")
                row[picture[2] % CLASSES] = 1
        else:
            assert isinstance(data, memoryview)
            kind = np.uint8 if head.datatype is Datatype.UINT8 else np.float32
            items = np.frombuffer(content, kind).reshape(head.count, -1)
            scores[:] = items[:, :CLASSES]
        named = (head.model_name, head.request_id)
        if head.classification:
            best = classification(scores.tobytes(), CLASSES, head.classification, LABELS)
            return Answer(*named, "BYTES", (head.count, head.classification), best)
        return Answer(*named, "FP32", scores.shape, scores.tobytes())

    def page(self, method: str, **fields: object) -> dict[str, Any]:
        self.asked.append((method, fields))
        name = str(fields.get("name", ""))
        if method.startswith("Model") and (name or method != "ModelStatistics"):
            resolve(name, str(fields["version"]))
        pages: dict[str, dict[str, Any]] = {
            "ServerMetadata": {
                "name": "corral",
                "version": "9" + self.padding,
                "extensions": ["statistics"],
            },
            "ModelReady": {"ready": self.ready},
            "ModelConfig": {"config": {"name": name + self.padding, "max_batch_size": 8}},
            "ModelStatistics": {"model_stats": [{"name": name + self.padding}]},
            "RepositoryIndex": {
                "models": [
                    {"name": model, "version": "1", "state": "READY", "reason": self.padding}
                    for model in INPUTS
                ]
            },
            "SystemSharedMemoryStatus": {
                "regions": {"r": {"name": "r", "key": "/k" + self.padding}}
            },
            "CudaSharedMemoryStatus": {"regions": {}},
        }
        if method == "ModelMetadata":
            datatype, shape = INPUTS[name]
            tensor = {"name": "input", "datatype": datatype, "shape": shape}
            return {
                "name": name + self.padding,
                "versions": ["1"],
                "inputs": [tensor],
                "outputs": [],
            }
        return pages.get(method, {})


@dataclasses.dataclass
class Reply:
    status: int
    fields: dict[str, str]
    body: bytes


async def ask(
    app: RestApp,
    method: str,
    path: str,
    body: bytes = b"",
    fields: Iterable[tuple[str, str]] = (),
    *,
    pieces: int = 1,
    length: bool = True,
) -> Reply:
    """One request to the application, and its answer.

    Args:
        app: the application.
        method: HTTP's.
        path: with the query.
        body: sent in ``pieces``.
        fields: the header's.
        pieces: messages that bring the body.
        length: whether the head says how long it is.
    """
    raw_path, _, query = path.partition("?")
    headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields]
    if length and (body or method == "POST"):
        headers.append((b"content-length", b"%d" % len(body)))
    size = -(-len(body) // pieces) or 1
    parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
    messages = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]
    sent: list[Any] = []

    async def receive() -> Any:
        return messages.pop(0) if messages else await asyncio.Future()

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": raw_path,
        "raw_path": raw_path.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "headers": headers,
    }
    await app(scope, receive, send)
    start, *rest = sent
    assert start["type"] == "http.response.start"
    answer = b"".join(message["body"] for message in rest)
    found = {name.decode(): value.decode() for name, value in start["headers"]}
    assert len(found) == len(start["headers"]), "a field is sent twice"
    assert int(found["content-length"]) == len(answer)
    return Reply(start["status"], found, answer)


def bytes_tensor(*elements: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(element)) + element for element in elements)
