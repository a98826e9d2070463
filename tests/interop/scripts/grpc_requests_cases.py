"""grpc-requests: knows no .proto files, and learns everything by reflection."""

from __future__ import annotations

import base64
import struct

import cases
import grpc
from cases import CATS, Servers, raises
from grpc_requests import Client
from grpc_requests.aio import AsyncClient

SERVICE = "inference.GRPCInferenceService"
PIXELS = struct.pack("<f", 3.0) * 150528


def request(servers: Servers, **more: object) -> dict[str, object]:
    named = {"name": "input", "datatype": "FP32", "shape": [1, 3, 224, 224]}
    raw = base64.b64encode(PIXELS).decode()
    return {
        "model_name": servers.model,
        "inputs": [named],
        "raw_input_contents": [raw],
        **more,
    }


def first(answer: dict[str, list[str]]) -> float:
    content = base64.b64decode(answer["raw_output_contents"][0])
    return float(struct.unpack_from("<f", content)[0])


def works_reflection_lists_the_services(servers: Servers) -> None:
    client = Client(servers.grpc)
    assert {SERVICE, "grpc.health.v1.Health"} <= set(client.service_names)
    methods = client.service(SERVICE).method_names
    assert {"ModelInfer", "ModelStreamInfer", "RepositoryIndex"} <= set(methods)


def works_inference_by_what_reflection_tells(servers: Servers) -> None:
    client = Client(servers.grpc)
    assert client.request(SERVICE, "ServerLive", {}) == {"live": True}
    found = client.request(SERVICE, "ModelMetadata", {"name": servers.model})
    assert found["inputs"][0]["name"] == "input"
    answer = client.request(SERVICE, "ModelInfer", request(servers, id="seven"))
    assert (answer["id"], first(answer)) == ("seven", 3.0)


def works_a_service_as_an_object(servers: Servers) -> None:
    service = Client(servers.grpc).service(SERVICE)
    assert service.ServerReady({})["ready"]
    answers = service.ModelStreamInfer([request(servers, id=str(n)) for n in range(3)])
    found = {answer["infer_response"]["id"] for answer in answers}
    assert found == {"0", "1", "2"}


def works_health(servers: Servers) -> None:
    client = Client(servers.grpc)
    found = client.request("grpc.health.v1.Health", "Check", {"service": ""})
    assert found["status"] == "SERVING"


def works_a_picture(servers: Servers) -> None:
    client = Client(servers.cats_grpc)
    named = {
        "name": "input",
        "datatype": "BYTES",
        "shape": [1],
        "contents": {"bytes_contents": [base64.b64encode(servers.encoded()).decode()]},
    }
    wanted = {"name": "output", "parameters": {"classification": {"int64_param": 1}}}
    asked = {"model_name": servers.cats_model, "inputs": [named], "outputs": [wanted]}
    answer = client.request(SERVICE, "ModelInfer", asked)
    text = base64.b64decode(answer["raw_output_contents"][0])[4:].decode()
    assert text.split(":")[2] in CATS


def works_errors(servers: Servers) -> None:
    client = Client(servers.grpc)
    with raises(grpc.RpcError, "NOT_FOUND", "this server has"):
        client.request(SERVICE, "ModelReady", {"name": "nobody"})


async def works_asyncio(servers: Servers) -> None:
    client = AsyncClient(servers.grpc)
    service = await client.service(SERVICE)
    answer = await service.ModelInfer(request(servers))
    assert first(answer) == 3.0


if __name__ == "__main__":
    cases.run(globals())
