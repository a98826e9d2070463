"""The OpenAPI 3.1 document of the REST form, made of what the server says of its models."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from corral.tensors import INPUT_NAME, OUTPUT_NAME, Datatype

Page = dict[str, Any]


_DESCRIPTION = """\
Inference over the Open Inference Protocol's HTTP form. Tensors come as JSON, or behind the JSON as
binary data: then the header field `Inference-Header-Content-Length` says where the JSON ends, and
the input's parameter `binary_data_size` how long the tensor is.

    curl --data-binary @cat.jpg http://HOST:PORT/v2/models/MODEL/classify?k=5
"""

_ERRORS = {
    "400": "The request can never be answered as it is.",
    "401": "Credentials are missing or not valid.",
    "403": "The client is known, and not allowed.",
    "404": "There is no such model, version or path.",
    "405": "The path takes another method; see Allow.",
    "411": "The request has no body, and no Content-Length.",
    "413": "The body is above the server's limit.",
    "415": "The body is of a kind, or in an encoding, that is not read here.",
    "429": "The queue is full; see Retry-After.",
    "500": "The engine failed on this request.",
    "501": "The protocol has it, this server does not.",
    "503": "The server is starting or stopping; see Retry-After.",
    "504": "The deadline passed, or could not be met.",
}


def document(version: str, models: Sequence[Page]) -> Page:
    """The document.

    Args:
        version: the server's.
        models: what ModelMetadata says of each model that is served.
    """
    names = [model["name"] for model in models]
    return {
        "openapi": "3.1.0",
        "info": {"title": "corral", "version": version, "description": _DESCRIPTION},
        "paths": {**_server_paths(), **_model_paths(), **_repository_paths()},
        "components": {
            "parameters": _parameters(names),
            "schemas": _schemas(models),
            "responses": {
                f"E{code}": {
                    "description": text,
                    "content": {"application/json": {"schema": _ref("Error")}},
                }
                for code, text in _ERRORS.items()
            },
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        # Without credentials, or with a token where the server was started with tokens.
        "security": [{}, {"bearer": []}],
    }


def _ref(schema: str) -> Page:
    return {"$ref": f"#/components/schemas/{schema}"}


def _operation(
    name: str,
    summary: str,
    answer: Page,
    errors: Sequence[str] = (),
    *,
    parameters: Sequence[str] = (),
    body: Page | None = None,
) -> Page:
    operation: Page = {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": answer,
            **{code: {"$ref": f"#/components/responses/E{code}"} for code in errors},
        },
    }
    if parameters:
        operation["parameters"] = [
            {"$ref": f"#/components/parameters/{parameter}"} for parameter in parameters
        ]
    if body is not None:
        operation["requestBody"] = body
    return operation


def _json(description: str, schema: Page) -> Page:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _server_paths() -> Page:
    flag = {"type": "object", "properties": {"live": {"type": "boolean"}}}
    ready = {"type": "object", "properties": {"ready": {"type": "boolean"}}}
    get = _operation
    metadata = _json("Name, version and extensions.", _ref("ServerMetadata"))
    closed = ("401", "403")
    return {
        "/v2": {"get": get("serverMetadata", "What the server is", metadata, closed)},
        "/v2/health/live": {"get": get("live", "Is it there?", _json("It is.", flag))},
        "/v2/health/ready": {
            "get": get("ready", "Does it serve?", _json("It does.", ready), ("503",))
        },
    }


def _model_paths() -> Page:
    of_model = ("401", "403", "404")
    paths: Page = {}
    for start, parameters, suffix in (
        ("/v2/models/{model}", ("model",), ""),
        ("/v2/models/{model}/versions/{version}", ("model", "version"), "OfVersion"),
    ):
        for path, name, summary, answer in (
            ("", "metadata", "What a model takes and gives", _ref("ModelMetadata")),
            ("/config", "config", "Triton's model configuration", {"type": "object"}),
            ("/stats", "statistics", "What a model has done", _ref("Statistics")),
            ("/ready", "modelReady", "Is the model served?", {"type": "object"}),
        ):
            errors = (*of_model, "503") if path == "/ready" else of_model
            operation = _operation(
                name + suffix, summary, _json(summary, answer), errors, parameters=parameters
            )
            paths[start + path] = {"get": operation}
        paths[f"{start}/infer"] = {"post": _infer(f"infer{suffix}", parameters)}
        paths[f"{start}/classify"] = {"post": _classify(f"classify{suffix}", parameters)}
    everything = _json("All models.", _ref("Statistics"))
    paths["/v2/models/stats"] = {
        "get": _operation("allStatistics", "What the models have done", everything, of_model)
    }
    return paths


def _infer(name: str, parameters: Sequence[str]) -> Page:
    octets = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    body = {
        "required": True,
        "content": {"application/json": {"schema": _ref("InferenceRequest")}, **octets},
    }
    answer = _json("The output.", _ref("InferenceResponse"))
    answer["content"].update(octets)
    answer["headers"] = {
        "Inference-Header-Content-Length": {
            "description": "Bytes of JSON, where binary data follows.",
            "schema": {"type": "integer"},
        }
    }
    asked = (*parameters, "headerLength", "deadline")
    return _operation(name, "Runs the model", answer, tuple(_ERRORS), parameters=asked, body=body)


def _classify(name: str, parameters: Sequence[str]) -> Page:
    picture = {"schema": {"type": "string", "format": "binary"}}
    form = {
        "schema": {
            "type": "object",
            "properties": {"picture": {"type": "string", "format": "binary"}},
        }
    }
    body = {
        "required": True,
        "content": {"image/jpeg": picture, "image/png": picture, "multipart/form-data": form},
    }
    answer = _json("The best classes, best first.", _ref("Labels"))
    asked = (*parameters, "k", "timeout", "priority", "deadline")
    return _operation(
        name, "Says what is in a picture", answer, tuple(_ERRORS), parameters=asked, body=body
    )


def _repository_paths() -> Page:
    body = {
        "required": False,
        "content": {
            "application/json": {
                "schema": {"type": "object", "properties": {"ready": {"type": "boolean"}}}
            }
        },
    }
    entry = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "state": {"type": "string"},
            "reason": {"type": "string"},
        },
    }
    answer = _json("The models.", {"type": "array", "items": entry})
    errors = ("400", "401", "403", "413", "415")
    index = _operation("repositoryIndex", "Which models there are", answer, errors, body=body)
    nothing = _json("It is as it was asked for.", {"type": "object"})
    load, unload = (
        _operation(f"{name}Model", summary, nothing, codes, parameters=("model",))
        for name, summary, codes in (
            ("load", "What is served stays served", (*errors, "404", "501")),
            ("unload", "Models are changed by the server's operator", ("401", "403", "404", "501")),
        )
    )
    # A model that is loaded already is; nothing is ever unloaded.
    del unload["responses"]["200"]
    return {
        "/v2/repository/index": {"post": index},
        "/v2/repository/models/{model}/load": {"post": load},
        "/v2/repository/models/{model}/unload": {"post": unload},
    }


def _parameters(names: Sequence[str]) -> Page:
    return {
        "model": {
            "name": "model",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "enum": list(names)},
        },
        "version": {
            "name": "version",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "enum": ["1"]},
        },
        "k": {
            "name": "k",
            "in": "query",
            "description": "How many classes.",
            "schema": {"type": "integer", "minimum": 1, "default": 5},
        },
        "timeout": {
            "name": "timeout",
            "in": "query",
            "description": "Microseconds that it will wait in the queue, where the server "
            "bounds that (--queue-timeout-ms).",
            "schema": {"type": "integer", "minimum": 0, "default": 0},
        },
        "priority": {
            "name": "priority",
            "in": "query",
            "description": "1 is interactive, 2 and more bulk, which fills what others leave.",
            "schema": {"type": "integer", "minimum": 0, "default": 1},
        },
        "deadline": {
            "name": "Grpc-Timeout",
            "in": "header",
            "description": "When the answer becomes useless: 500m is half a second from now.",
            "schema": {"type": "string", "pattern": "^[0-9]{1,8}[HMSmun]$"},
        },
        "headerLength": {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "description": "Bytes of JSON, where binary data follows.",
            "schema": {"type": "integer", "minimum": 0},
        },
    }


def _object(required: Sequence[str], **properties: Page) -> Page:
    return {"type": "object", "required": list(required), "properties": properties}


@dataclasses.dataclass(frozen=True)
class _Ports:
    """The inputs or the outputs of all models: names, the most that one has, and each model's."""

    names: list[str]
    most: int
    told: dict[str, str]


def _ports(models: Sequence[Page], kind: str, usual: str) -> _Ports:
    """``usual`` is what the only one may be called, whatever a file calls it."""
    found = {model["name"]: model.get(kind, []) for model in models}
    told = {
        model: ", ".join(f"{t['name']} {t['datatype']} {list(t['shape'])}" for t in tensors)
        for model, tensors in found.items()
    }
    names = {usual, *(tensor["name"] for tensors in found.values() for tensor in tensors)}
    return _Ports(sorted(names), max([1, *map(len, found.values())]), told)


def _schemas(models: Sequence[Page]) -> Page:
    text = {"type": "string"}
    whole = {"type": "integer"}
    shape = {"type": "array", "items": whole}
    texts = {"type": "array", "items": text}
    values = {"type": "object", "additionalProperties": {"type": ["boolean", "number", "string"]}}
    inputs, outputs = _ports(models, "inputs", INPUT_NAME), _ports(models, "outputs", OUTPUT_NAME)
    data = {"type": "array", "description": "Row after row: flat, or nested as the shape says."}
    tensor = _object(
        ("name", "datatype", "shape"),
        name={"type": "string", "enum": inputs.names},
        datatype={"type": "string", "enum": ["BYTES", *(kind.name for kind in Datatype)]},
        shape={**shape, "description": f"By model: {inputs.told}; -1 is the number of items."},
        parameters=values,
        data=data,
    )
    output = _object(
        ("name", "datatype", "shape"),
        name=text,
        datatype=text,
        shape=shape,
        parameters=values,
        data=data,
    )
    wanted = _object(("name",), name={"type": "string", "enum": outputs.names}, parameters=values)
    described = {"type": "array", "items": _object((), name=text, datatype=text, shape=shape)}
    label = _object(("label", "index", "score"), label=text, index=whole, score={"type": "number"})
    return {
        "Error": _object(("error",), error=text),
        "ServerMetadata": _object(("name",), name=text, version=text, extensions=texts),
        "ModelMetadata": _object(
            ("name",), name=text, versions=texts, platform=text, inputs=described, outputs=described
        ),
        "Statistics": _object((), model_stats={"type": "array", "items": {"type": "object"}}),
        "InferenceRequest": _object(
            ("inputs",),
            id=text,
            parameters=values,
            inputs={"type": "array", "items": tensor, "minItems": 1, "maxItems": inputs.most},
            outputs={"type": "array", "items": wanted, "maxItems": outputs.most},
        ),
        "InferenceResponse": _object(
            ("model_name", "outputs"),
            model_name=text,
            model_version=text,
            id=text,
            outputs={"type": "array", "items": output},
        ),
        "Labels": _object(
            ("model_name", "labels"),
            model_name=text,
            model_version=text,
            labels={"type": "array", "items": label},
        ),
    }
