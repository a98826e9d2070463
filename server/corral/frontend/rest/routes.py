"""Which path means what. A route is found by comparing segments; nothing is compiled or scanned."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Final

from corral.errors import NotFound
from corral.protocol.rest.statuses import MediaNotTaken, MethodNotAllowed

_QUOTED_CHARS = 80
#: longer paths are nothing to remember
_REMEMBERED_CHARS = 256
#: the service whose methods are paths, too
_GRPC = "inference.GRPCInferenceService"

#: what is asked of a model, by the last segment of the path, and the method that asks it
_OF_A_MODEL: Final = {
    "ready": ("GET", "model_ready"),
    "config": ("GET", "model_config"),
    "stats": ("GET", "model_statistics"),
    "infer": ("POST", "infer"),
    "classify": ("POST", "classify"),
}
_FIXED: Final[Mapping[tuple[str, ...], tuple[str, str]]] = {
    ("v2",): ("GET", "server_metadata"),
    ("v2", "health", "live"): ("GET", "live"),
    ("v2", "health", "ready"): ("GET", "ready"),
    ("v2", "models", "stats"): ("GET", "model_statistics"),
    ("v2", "repository", "index"): ("POST", "repository_index"),
    ("v2", "systemsharedmemory", "status"): ("GET", "system_memory_status"),
    ("v2", "systemsharedmemory", "unregister"): ("POST", "system_memory_unregister"),
    ("v2", "cudasharedmemory", "status"): ("GET", "cuda_memory_status"),
    ("v2", "cudasharedmemory", "unregister"): ("POST", "cuda_memory_unregister"),
    ("openapi.json",): ("GET", "openapi"),
    ("docs",): ("GET", "docs"),
    ("",): ("GET", "console"),
    ("console", "events"): ("GET", "console_events"),
}
#: (first segments, number of segments, last segment); the one before the last is a name
_NAMED: Final[Mapping[tuple[tuple[str, ...], str], tuple[str, str]]] = {
    (("v2", "repository", "models"), "load"): ("POST", "repository_load"),
    (("v2", "repository", "models"), "unload"): ("POST", "repository_unload"),
    (("v2", "systemsharedmemory", "region"), "status"): ("GET", "system_memory_status"),
    (("v2", "systemsharedmemory", "region"), "register"): ("POST", "system_memory_register"),
    (("v2", "systemsharedmemory", "region"), "unregister"): ("POST", "system_memory_unregister"),
    (("v2", "cudasharedmemory", "region"), "status"): ("GET", "cuda_memory_status"),
    (("v2", "cudasharedmemory", "region"), "register"): ("POST", "cuda_memory_register"),
    (("v2", "cudasharedmemory", "region"), "unregister"): ("POST", "cuda_memory_unregister"),
}


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """What a request asks for.

    Attributes:
        action: the name of what answers it.
        name: of a model or of a region; "" for all.
        version: of the model; "" for any.
    """

    action: str
    name: str = ""
    version: str = ""


def find(method: str, path: tuple[str, ...]) -> Route:
    """The route of a request.

    Args:
        method: HTTP's; HEAD is taken where GET is.
        path: its segments.

    Raises:
        NotFound: there is nothing at this path.
        MethodNotAllowed: there is, for another method.
    """
    is_short = sum(map(len, path)) <= _REMEMBERED_CHARS
    expected, route = _known(path) if is_short else _look_up(path)
    if method != expected and not (method == "HEAD" and expected == "GET"):
        raise MethodNotAllowed(method, "GET, HEAD" if expected == "GET" else expected)
    return route


def _look_up(path: tuple[str, ...]) -> tuple[str, Route]:
    found = _FIXED.get(path)
    if found is not None:
        return found[0], Route(found[1])
    if len(path) == 5 and (found := _NAMED.get((path[:3], path[4]))) is not None:
        return found[0], Route(found[1], path[3])
    if path[0] == _GRPC:
        raise MediaNotTaken("the content type of a gRPC call is application/grpc")
    if path[:2] == ("v2", "models") and len(path) >= 3:
        return _of_a_model(path[2], path[3:])
    raise NotFound(
        f"there is nothing at /{'/'.join(path)[:_QUOTED_CHARS]}; /docs shows what there is"
    )


# Clients ask for the same few again and again.
_known = functools.lru_cache(maxsize=256)(_look_up)


def _of_a_model(name: str, rest: tuple[str, ...]) -> tuple[str, Route]:
    version = ""
    if len(rest) >= 2 and rest[0] == "versions":
        version, rest = rest[1], rest[2:]
    if not rest:
        return "GET", Route("model_metadata", name, version)
    if len(rest) == 1 and rest[0] in _OF_A_MODEL:
        method, action = _OF_A_MODEL[rest[0]]
        return method, Route(action, name, version)
    raise NotFound(f"a model has {', '.join(_OF_A_MODEL)}; not {'/'.join(rest)[:_QUOTED_CHARS]!r}")
