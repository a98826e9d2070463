"""The routes that tell of the server and its models, and those of shared memory."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import msgspec

from corral.errors import InvalidRequest, TooLarge, Unavailable, Unsupported
from corral.frontend.rest.docs_page import HEAD_FIELDS, PAGE
from corral.frontend.rest.exchange import HTML, Reply, Request
from corral.frontend.rest.routes import Route
from corral.frontend.rest.service import Receive, Service
from corral.protocol.rest import compression
from corral.protocol.rest.openapi import document

#: what the bodies of these routes may have
_MAX_BODY_BYTES = 64 * 2**10
#: what only this form of the protocol has
_EXTENSIONS = ("binary_tensor_data",)
_NOT_READY = "the server is not serving: it is starting or stopping"

#: fields of a ModelRepositoryParameter, by what JSON has
_KINDS = {bool: "bool_param", int: "int64_param", str: "string_param"}
_ANY_FILE = b'{"parameters":{"file:":""}}'

_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Uint64 = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class _Index(msgspec.Struct):
    ready: bool = False


class _Load(msgspec.Struct):
    parameters: dict[str, bool | _Int64 | str] = {}


class _Register(msgspec.Struct):
    key: str
    byte_size: _Uint64
    offset: _Uint64 = 0


class Pages:
    """Answers them.

    Args:
        service: the frontend.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._actions: dict[str, Callable[[Route], Reply]] = {
            "live": lambda _: _json({"live": True}),
            "ready": lambda _: self._ready({"ready": True}),
            "server_metadata": self._server_metadata,
            "model_ready": self._model_ready,
            "model_metadata": self._of_a_model("ModelMetadata"),
            "model_config": self._model_config,
            "model_statistics": self._of_a_model("ModelStatistics"),
            "repository_unload": self._repository_unload,
            "system_memory_status": self._regions("SystemSharedMemoryStatus"),
            "system_memory_unregister": self._unregister("SystemSharedMemoryUnregister"),
            "cuda_memory_status": self._regions("CudaSharedMemoryStatus"),
            "cuda_memory_unregister": self._unregister("CudaSharedMemoryUnregister"),
            "cuda_memory_register": _no_cuda,
            "openapi": self._openapi,
            "docs": lambda _: Reply(PAGE, content_type=HTML, more=HEAD_FIELDS, may_be_packed=True),
        }
        self._with_body: dict[str, Callable[[Route, bytes | bytearray], Reply]] = {
            "repository_index": self._repository_index,
            "repository_load": self._repository_load,
            "system_memory_register": self._register,
        }

    def answer(self, route: Route, asked: Request, receive: Receive) -> Awaitable[Reply]:
        """The answer to a route that is no inference; raises RequestError."""
        return self._answer(route, asked, receive)

    async def _answer(self, route: Route, asked: Request, receive: Receive) -> Reply:
        takes_body = self._with_body.get(route.action)
        if takes_body is None:
            return self._actions[route.action](route)
        if asked.has_no_body:
            return takes_body(route, b"")
        try:
            pieces = await self._service.receive_body(
                asked.scope, receive, asked.length(b"content-length"), _MAX_BODY_BYTES
            )
            packed = b"".join(pieces)
            encoding = asked.field(b"content-encoding")
            body = bytes(compression.unpack(packed, encoding, _MAX_BODY_BYTES))
        except TooLarge:
            if route.action != "repository_load":
                raise
            # Only files are so long, and to load other files is refused.
            body = _ANY_FILE
        return takes_body(route, body)

    def _ready(self, page: dict[str, Any]) -> Reply:
        if not self._service.ready:
            raise Unavailable(_NOT_READY)
        return _json(page)

    def _server_metadata(self, _: Route) -> Reply:
        page = self._service.page("ServerMetadata")
        return _json({**page, "extensions": [*page["extensions"], *_EXTENSIONS]})

    def _model_ready(self, route: Route) -> Reply:
        page = self._service.page("ModelReady", name=route.name, version=route.version)
        if not page["ready"]:
            raise Unavailable(_NOT_READY)
        return _json({"name": route.name, "ready": True})

    def _of_a_model(self, method: str) -> Callable[[Route], Reply]:
        return lambda route: _json(
            self._service.page(method, name=route.name, version=route.version)
        )

    def _model_config(self, route: Route) -> Reply:
        page = self._service.page("ModelConfig", name=route.name, version=route.version)
        return _json(page["config"])

    # --- repository ---

    def _repository_index(self, _: Route, body: bytes | bytearray) -> Reply:
        wanted = _read(_Index, body or b"{}")
        return _json(self._service.page("RepositoryIndex", ready=wanted.ready)["models"])

    def _repository_load(self, route: Route, body: bytes | bytearray) -> Reply:
        parameters = {
            name: {_KINDS[type(value)]: value}
            for name, value in _read(_Load, body or b"{}").parameters.items()
        }
        return _json(
            self._service.page("RepositoryModelLoad", model_name=route.name, parameters=parameters)
        )

    def _repository_unload(self, route: Route) -> Reply:
        return _json(self._service.page("RepositoryModelUnload", model_name=route.name))

    # --- shared memory ---

    def _regions(self, method: str) -> Callable[[Route], Reply]:
        return lambda route: _json(
            list(self._service.page(method, name=route.name)["regions"].values())
        )

    def _unregister(self, method: str) -> Callable[[Route], Reply]:
        return lambda route: _json(self._service.page(method, name=route.name))

    def _register(self, route: Route, body: bytes | bytearray) -> Reply:
        asked = _read(_Register, body)
        return _json(
            self._service.page(
                "SystemSharedMemoryRegister",
                name=route.name,
                key=asked.key,
                offset=asked.offset,
                byte_size=asked.byte_size,
            )
        )

    # --- for people ---

    def _openapi(self, _: Route) -> Reply:
        models = self._service.page("RepositoryIndex")["models"]
        names = [model["name"] for model in models]
        pages = [self._service.page("ModelMetadata", name=name, version="") for name in names]
        version = self._service.page("ServerMetadata")["version"]
        return Reply(msgspec.json.encode(document(version, pages)), may_be_packed=True)


def _no_cuda(_: Route) -> Reply:
    raise Unsupported("this server runs on CPUs: there is no CUDA memory to register")


def _json(page: object) -> Reply:
    return Reply(msgspec.json.encode(page))


def _read(kind: type[Any], body: bytes | bytearray) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = str(error) if isinstance(error, msgspec.ValidationError) else "not valid JSON"
        raise InvalidRequest(f"the body is not as the protocol has it: {reason}") from None
