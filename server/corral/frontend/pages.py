"""What clients may ask about the server itself: one function a method, from message to message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message

from corral.errors import InvalidRequest, NotFound, Unsupported
from corral.ipc.messages import ModelBoot, ModelFindings, ServedModel
from corral.metrics.counters import Counts
from corral.protocol import metadata
from corral.protocol.metadata import ModelDescription
from corral.protocol.repository import changes_nothing
from corral.protocol.shared_memory import ClientMemory
from corral.settings import Settings
from corral.tensors import View
from corral_protos import open_inference_pb2 as pb

Page = Callable[[Any], Message]

_QUOTED_CHARS = 80
_NO_REPOSITORY = "this server has one repository, which has no name"


def describe(
    served: ServedModel,
    model: ModelBoot,
    settings: Settings,
    workers: int,
    findings: ModelFindings,
) -> ModelDescription:
    """What is said of the model.

    Args:
        served: as frontends serve it.
        model: as it was prepared.
        settings: those that hold now.
        workers: in all cells.
        findings: of the latest worker.
    """
    return ModelDescription(
        name=served.name,
        signature=served.signature,
        max_items=settings.queue.max_items,
        workers=workers,
        backend=settings.engine.backend,
        precision=model.precision,
        weights=model.weights,
        synthetic=model.synthetic,
        guard=model.guard,
        findings=findings,
        mode=settings.model.mode,
        max_queue_delay_ms=settings.queue.max_queue_delay_ms,
        queue_timeout_ms=settings.queue.queue_timeout_ms,
    )


class Pages:
    """The server's and the model's state, as messages.

    Args:
        model: what is served now.
        views: the signatures that the model has.
        ready: whether the server answers requests now.
        counts: makes a copy of the counters.
        memory: the regions that clients registered; None: they cannot.
    """

    def __init__(
        self,
        model: ModelDescription,
        views: tuple[View, ...],
        *,
        ready: Callable[[], bool],
        counts: Callable[[], Counts],
        memory: ClientMemory | None,
    ) -> None:
        self.model = model
        #: the batch sizes that workers have compiled
        self.batch_sizes: list[int] = [1]
        self._base = model.name
        self._views = views
        self._ready = ready
        self._counts = counts
        self._memory = memory

    def resolve(self, name: str, version: str) -> View:
        """The view that a model's name and version mean.

        Raises:
            NotFound: there is no such model or version, or it does not take pictures.
        """
        view = metadata.resolve_view(name, version, self._base, self._views)
        if view not in self._views:
            raise NotFound(f"model {name[:_QUOTED_CHARS]!r}: this model takes no pictures")
        return view

    def methods(self) -> dict[str, tuple[type[Message], Page]]:
        """What may be called, by name: the request's type, and what answers it.

        The functions raise RequestError.
        """
        return {
            "ServerLive": (pb.ServerLiveRequest, lambda _: pb.ServerLiveResponse(live=True)),
            "ServerReady": (
                pb.ServerReadyRequest,
                lambda _: pb.ServerReadyResponse(ready=self._ready()),
            ),
            "ServerMetadata": (
                pb.ServerMetadataRequest,
                lambda _: metadata.server_metadata(shared_memory=self._memory is not None),
            ),
            "ModelReady": (pb.ModelReadyRequest, self._model_ready),
            "ModelMetadata": (pb.ModelMetadataRequest, self._model_metadata),
            "ModelConfig": (pb.ModelConfigRequest, self._model_config),
            "ModelStatistics": (pb.ModelStatisticsRequest, self._model_statistics),
            "RepositoryIndex": (pb.RepositoryIndexRequest, self._index),
            "RepositoryModelLoad": (pb.RepositoryModelLoadRequest, self._load),
            "RepositoryModelUnload": (pb.RepositoryModelUnloadRequest, self._unload),
            "SystemSharedMemoryStatus": (pb.SystemSharedMemoryStatusRequest, self._status),
            "SystemSharedMemoryRegister": (pb.SystemSharedMemoryRegisterRequest, self._register),
            "SystemSharedMemoryUnregister": (
                pb.SystemSharedMemoryUnregisterRequest,
                self._unregister,
            ),
            # Of CUDA's memory there is never any: the two calls with which clients clear up say so.
            "CudaSharedMemoryStatus": (
                pb.CudaSharedMemoryStatusRequest,
                lambda _: pb.CudaSharedMemoryStatusResponse(),
            ),
            "CudaSharedMemoryUnregister": (
                pb.CudaSharedMemoryUnregisterRequest,
                lambda _: pb.CudaSharedMemoryUnregisterResponse(),
            ),
        }

    # --- the model ---

    def _model_ready(self, request: pb.ModelReadyRequest) -> Message:
        self.resolve(request.name, request.version)
        return pb.ModelReadyResponse(ready=self._ready())

    def _model_metadata(self, request: pb.ModelMetadataRequest) -> Message:
        return metadata.model_metadata(self.model, self.resolve(request.name, request.version))

    def _model_config(self, request: pb.ModelConfigRequest) -> Message:
        view = self.resolve(request.name, request.version)
        return metadata.model_config(self.model, view, self.batch_sizes)

    def _model_statistics(self, request: pb.ModelStatisticsRequest) -> Message:
        # Without a name there is still a version to check.
        asked = self.resolve(request.name or self._base, request.version)
        views = [asked] if request.name else self._views
        return metadata.model_statistics(self._counts(), self._base, views)

    # --- the repository, which never changes ---

    def names(self) -> list[str]:
        """What the model is called: once for each of its signatures."""
        names = metadata.view_names(self._base)
        return [names[view] for view in self._views]

    def _index(self, request: pb.RepositoryIndexRequest) -> Message:
        if request.repository_name:
            raise NotFound(_NO_REPOSITORY)
        answer = pb.RepositoryIndexResponse()
        ready = self._ready()
        if ready or not request.ready:
            state, reason = ("READY", "") if ready else ("UNAVAILABLE", "no worker is ready")
            for name in self.names():
                answer.models.add(name=name, version=metadata.VERSION, state=state, reason=reason)
        return answer

    def _load(self, request: pb.RepositoryModelLoadRequest) -> Message:
        """What is served is loaded: a load that asks for nothing else changes nothing."""
        view = self._known(request.repository_name, request.model_name)
        served = metadata.model_config(self.model, view, self.batch_sizes).config
        if not changes_nothing(request.parameters, served):
            raise Unsupported(
                "a model is not changed by a call; its operator does that (corral reload)"
            )
        return pb.RepositoryModelLoadResponse()

    def _unload(self, request: pb.RepositoryModelUnloadRequest) -> Message:
        self._known(request.repository_name, request.model_name)
        raise Unsupported("the model that a server was started with is never unloaded")

    def _known(self, repository: str, name: str) -> View:
        if repository:
            raise NotFound(_NO_REPOSITORY)
        return self.resolve(name, "")

    # --- clients' shared memory ---

    def _status(self, request: pb.SystemSharedMemoryStatusRequest) -> Message:
        answer = pb.SystemSharedMemoryStatusResponse()
        if self._memory is None:
            return answer
        for region in self._memory.status(request.name):
            found = answer.regions[region.name]
            found.name, found.key = region.name, region.key
            found.offset, found.byte_size = region.offset, region.byte_size
        return answer

    def _register(self, request: pb.SystemSharedMemoryRegisterRequest) -> Message:
        self._allowed().register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    def _unregister(self, request: pb.SystemSharedMemoryUnregisterRequest) -> Message:
        self._allowed().unregister(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    def _allowed(self) -> ClientMemory:
        if self._memory is None:
            raise Unsupported(
                "clients' shared memory is not taken; --client-shared-memory allows it"
            )
        return self._memory


def as_dict(message: Message) -> dict[str, Any]:
    """A message as plain values: every field by its name, enumerations by theirs, ints as ints."""
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        entry = field.message_type
        if entry is not None and entry.GetOptions().map_entry:
            found[field.name] = {key: _plain(item, entry.fields[1]) for key, item in value.items()}
        elif field.is_repeated:
            found[field.name] = [_plain(item, field) for item in value]
        elif field.message_type is None or message.HasField(field.name):
            found[field.name] = _plain(value, field)
    return found


def _plain(value: Any, field: Any) -> Any:
    if field.message_type is not None:
        return as_dict(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value


def filled(kind: type[Message], fields: dict[str, Any]) -> Message:
    """A request message with these fields; raises InvalidRequest for values of another type."""
    try:
        return json_format.ParseDict(fields, kind())
    except json_format.ParseError:
        raise InvalidRequest(f"the fields are none of a {kind.DESCRIPTOR.full_name}") from None
