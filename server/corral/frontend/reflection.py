"""Server reflection, v1 and v1alpha, which differ in their names only."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool

from corral.frontend.admission import Admission
from corral.frontend.grpc_asgi.application import Stream
from corral.frontend.grpc_asgi.call import Call, Pieces
from corral.frontend.grpc_asgi.status import Code
from corral.frontend.messages import SHORT_MESSAGE_BYTES
from corral.protocol.metadata import parse
from corral_protos import reflection_v1_pb2, reflection_v1alpha_pb2
from corral_protos.pool import POOL

_TOO_LONG = "the question is larger than reflection's may be"
_VERSIONS = (reflection_v1_pb2, reflection_v1alpha_pb2)


class _Messages(Protocol):
    """The generated module of one version."""

    ServerReflectionRequest: Any
    ServerReflectionResponse: Any


def _service_name(version: Any) -> str:
    name: str = version.DESCRIPTOR.services_by_name["ServerReflection"].full_name
    return name


SERVICES = tuple(_service_name(version) for version in _VERSIONS)


class Reflection:
    """Answers streams of questions about the services' descriptors.

    Args:
        services: full names of what is served besides reflection itself.
        ended: set when the server stops: then the streams end, which else last as long as their
            clients like.
        messages: the calls whose client is to speak.
        pool: knows the services.
    """

    def __init__(
        self,
        services: Iterable[str],
        ended: asyncio.Event,
        messages: Admission,
        pool: DescriptorPool = POOL,
    ) -> None:
        self._services = sorted([*services, *SERVICES])
        self._ended = ended
        self._messages = messages
        self._pool = pool

    def streams(self) -> dict[str, Stream]:
        """The methods by path."""

        def serve(version: Any) -> Stream:
            return lambda call: self._info(call, version)

        return {
            f"/{_service_name(version)}/ServerReflectionInfo": serve(version)
            for version in _VERSIONS
        }

    async def _info(self, call: Call, version: _Messages) -> None:
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            while (pieces := await self._next(call, ended)) is not None:
                question = parse(version.ServerReflectionRequest, b"".join(pieces))
                await call.send(self._answer(question, version).SerializeToString())
        finally:
            ended.cancel()

    async def _next(self, call: Call, ended: asyncio.Future[Any]) -> Pieces | None:
        """The next question; None at the end of the stream or of the server."""
        with self._messages.turn(call.scope):
            question = asyncio.ensure_future(call.message(SHORT_MESSAGE_BYTES, _TOO_LONG))
            try:
                await asyncio.wait((ended, question), return_when=asyncio.FIRST_COMPLETED)
                return question.result() if question.done() else None
            finally:
                question.cancel()

    def _answer(self, question: Any, version: _Messages) -> Any:
        answer = version.ServerReflectionResponse(
            valid_host=question.host, original_request=question
        )
        asked = question.WhichOneof("message_request")
        try:
            if asked == "list_services":
                for name in self._services:
                    answer.list_services_response.service.add(name=name)
            elif asked == "file_by_filename":
                _add_files(answer, self._pool.FindFileByName(question.file_by_filename))
            elif asked == "file_containing_symbol":
                _add_files(answer, _file_of(self._pool, question.file_containing_symbol))
            elif asked == "all_extension_numbers_of_type":
                # There are no extensions; an unknown type is an error.
                name = question.all_extension_numbers_of_type
                self._pool.FindMessageTypeByName(name)
                answer.all_extension_numbers_response.base_type_name = name
            else:
                _say_not_found(answer)
        except KeyError:
            _say_not_found(answer)
        return answer


def _say_not_found(answer: Any) -> None:
    answer.error_response.error_code = int(Code.NOT_FOUND)
    answer.error_response.error_message = "there is nothing of that name"


def _file_of(pool: DescriptorPool, symbol: str) -> FileDescriptor:
    """The file that defines a message, a service or a service's method; raises KeyError."""
    try:
        return pool.FindFileContainingSymbol(symbol)
    except KeyError:
        # The pool does not know methods by their names, and the protocol asks for them.
        name, _, method = symbol.rpartition(".")
        service = pool.FindServiceByName(name)
        if method not in service.methods_by_name:
            raise
        return service.file


def _add_files(answer: Any, file: FileDescriptor) -> None:
    """A file, and behind it every file that it needs."""
    wanted, found = [file], {file.name: file}
    while wanted:
        for needed in wanted.pop().dependencies:
            if needed.name not in found:
                found[needed.name] = needed
                wanted.append(needed)
    for one in found.values():
        answer.file_descriptor_response.file_descriptor_proto.append(one.serialized_pb)
