"""A call as HTTP has it, and its answer as the call reads it: the REST form. Pure.

A call is a protobuf message and a reader of another. Here the first becomes a path and a body, and
the second is made of what comes back, so that the REST form needs no second description of what a
call means.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from google.protobuf import json_format
from google.protobuf.message import Message

from corral_client import codec
from corral_client.errors import PUSHBACK_KEY, CorralClientError, InternalError, from_status
from corral_protos import open_inference_pb2 as pb

Field = Callable[[str], str | None]

HEADER_LENGTH = "Inference-Header-Content-Length"

#: the largest number of grpc-timeout
_MOST = 99_999_999
#: gRPC's statuses by HTTP's
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    411: "INVALID_ARGUMENT",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_ANSWERS: dict[str, type[Message]] = {
    "ModelConfig": pb.ModelConfigResponse,
    "ModelMetadata": pb.ModelMetadataResponse,
    "ModelStatistics": pb.ModelStatisticsResponse,
}


@dataclasses.dataclass(frozen=True, slots=True)
class HttpCall:
    """One request.

    Attributes:
        verb: "GET" or "POST".
        path: with a slash before it.
        body: empty for GET.
        fields: of the header, besides the body's length.
    """

    verb: str
    path: str
    body: bytes = b""
    fields: Mapping[str, str] = dataclasses.field(default_factory=dict)


def request(method: str, message: bytes, deadline_s: float) -> HttpCall:
    """The HTTP request of a call.

    Args:
        method: the call's, "ModelInfer".
        message: its serialised request.
        deadline_s: from now; told to the server with an inference.
    """
    if method == "ServerLive":
        return HttpCall("GET", "/v2/health/live")
    if method == "ServerReady":
        return HttpCall("GET", "/v2/health/ready")
    if method == "ModelMetadata":
        return HttpCall("GET", _model(pb.ModelMetadataRequest.FromString(message).name))
    if method == "ModelConfig":
        return HttpCall("GET", f"{_model(pb.ModelConfigRequest.FromString(message).name)}/config")
    if method == "ModelStatistics":
        name = pb.ModelStatisticsRequest.FromString(message).name
        return HttpCall("GET", f"{_model(name) if name else '/v2/models'}/stats")
    return _infer(pb.ModelInferRequest.FromString(message), deadline_s)


def _model(name: str) -> str:
    return f"/v2/models/{quote(name, safe='')}"


def _infer(message: pb.ModelInferRequest, deadline_s: float) -> HttpCall:
    raws = message.raw_input_contents
    parameters = {key: _value(value) for key, value in message.parameters.items()}
    header: dict[str, Any] = {
        "inputs": [
            {
                "name": tensor.name,
                "datatype": tensor.datatype,
                "shape": list(tensor.shape),
                "parameters": {"binary_data_size": len(raw)},
            }
            for tensor, raw in zip(message.inputs, raws, strict=True)
        ],
        "parameters": {**parameters, "binary_data_output": True},
    }
    if message.id:
        header["id"] = message.id
    if message.outputs:
        header["outputs"] = [
            {
                "name": output.name,
                "parameters": {key: _value(value) for key, value in output.parameters.items()},
            }
            for output in message.outputs
        ]
    text = json.dumps(header).encode()
    fields = {
        "Content-Type": "application/octet-stream",
        HEADER_LENGTH: str(len(text)),
        "Grpc-Timeout": _timeout(deadline_s),
    }
    return HttpCall("POST", f"{_model(message.model_name)}/infer", b"".join((text, *raws)), fields)


def _timeout(deadline_s: float) -> str:
    """gRPC's word for it: at most eight digits and a unit."""
    for unit, each in (("u", 1e6), ("m", 1e3)):
        if deadline_s * each < _MOST:
            return f"{max(1, round(deadline_s * each))}{unit}"
    return f"{round(min(deadline_s, _MOST))}S"


def _value(parameter: pb.InferParameter) -> Any:
    return getattr(parameter, parameter.WhichOneof("parameter_choice") or "string_param")


def answer(
    method: str,
    status: int,
    field: Field,
    body: bytes,
    deadline_s: float | None = None,
) -> bytes:
    """The serialised answer that gRPC would have brought.

    Args:
        method: the call's.
        status: HTTP's.
        field: looks a field of the header up, in any case of letters; None: there is none.
        body: all of it.
        deadline_s: of the call, for the text of an error.

    Raises:
        CorralClientError: the server refused, or its answer cannot be read.
    """
    if status != 200:
        raise error(status, field, body, deadline_s)
    if method == "ServerLive":
        return pb.ServerLiveResponse(live=True).SerializeToString()
    if method == "ServerReady":
        return pb.ServerReadyResponse(ready=True).SerializeToString()
    try:
        if method == "ModelInfer":
            length = field(HEADER_LENGTH)
            return _output(body, len(body) if length is None else int(length))
        message = _ANSWERS[method]()
        page = json.loads(body)
        if method == "ModelConfig":
            page = {"config": page}
        json_format.ParseDict(page, message, ignore_unknown_fields=True)
        return message.SerializeToString()
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, json_format.ParseError):
        raise InternalError(f"the server's answer to {method} cannot be read") from None


def error(
    status: int, field: Field, body: bytes, deadline_s: float | None = None
) -> CorralClientError:
    """The error that an answer is; see ``answer``."""
    try:
        text = str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        text = ""
    hint_ms = field("Retry-After-Ms")
    trailing = () if hint_ms is None else ((PUSHBACK_KEY, hint_ms),)
    return from_status(
        _STATUSES.get(status, "UNKNOWN"), text or f"HTTP status {status}", trailing, deadline_s
    )


def _output(body: bytes, header_bytes: int) -> bytes:
    page = json.loads(body[:header_bytes])
    message = pb.ModelInferResponse(model_name=page.get("model_name", ""), id=page.get("id", ""))
    if not page["outputs"]:
        raise KeyError("outputs")
    at = header_bytes
    for output in page["outputs"]:
        built = message.outputs.add(name=output["name"], datatype=output["datatype"])
        built.shape.extend(output["shape"])
        if "data" not in output:
            size = output["parameters"]["binary_data_size"]
            message.raw_output_contents.append(body[at : at + size])
            at += size
        elif built.datatype == "BYTES":
            elements = [str(text).encode() for text in output["data"]]
            message.raw_output_contents.append(codec.join_elements(elements))
        else:
            message.raw_output_contents.append(codec.values_as_raw(built.datatype, output["data"]))
    return message.SerializeToString()
