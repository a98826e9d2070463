"""KServe's Python SDK: InferenceRESTClient and InferenceGRPCClient, version 2 of its protocol."""

from __future__ import annotations

from typing import Any

import cases
import grpc
import httpx
import numpy as np
from cases import CATS, Servers, raises
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferOutput, InferRequest
from kserve.inference_client import RESTConfig

PIXELS = np.full((1, 3, 224, 224), 3.0, np.float32)


def rest() -> Any:
    return InferenceRESTClient(RESTConfig(protocol="v2", timeout=20))


def request(servers: Servers, *, binary: bool) -> Any:
    tensor = InferInput(name="input", shape=list(PIXELS.shape), datatype="FP32")
    tensor.set_data_from_numpy(PIXELS, binary_data=binary)
    return InferRequest(model_name=servers.model, request_id="seven", infer_inputs=[tensor])


def check(answer: Any) -> None:
    assert answer.id == "seven"
    (output,) = answer.outputs
    assert isinstance(output, InferOutput)
    assert output.as_numpy().reshape(1, 1000)[0, 0] == 3.0


async def works_rest_health(servers: Servers) -> None:
    async with rest() as client:
        base = f"http://{servers.http}"
        assert await client.is_server_live(base)
        assert await client.is_server_ready(base)
        assert await client.is_model_ready(base, servers.model)
        assert not await client.is_model_ready(base, "nobody")


async def works_rest_inference(servers: Servers) -> None:
    async with rest() as client:
        for binary in (False, True):
            asked = request(servers, binary=binary)
            check(await client.infer(f"http://{servers.http}", asked, model_name=servers.model))


async def works_rest_with_a_dictionary(servers: Servers) -> None:
    tensor = {
        "name": "input",
        "shape": list(PIXELS.shape),
        "datatype": "FP32",
        "data": PIXELS.flatten().tolist(),
    }
    asked = {"id": "seven", "inputs": [tensor]}
    async with rest() as client:
        check(await client.infer(f"http://{servers.http}", asked, model_name=servers.model))


async def works_a_picture_in_binary(servers: Servers) -> None:
    picture = np.array([servers.encoded()], dtype=np.object_)
    tensor = InferInput(name="input", shape=[1], datatype="BYTES")
    tensor.set_data_from_numpy(picture, binary_data=True)
    asked = InferRequest(
        model_name=servers.cats_model,
        infer_inputs=[tensor],
        parameters={"classification": 1, "binary_data_output": False},
    )
    async with rest() as client:
        answer = await client.infer(
            f"http://{servers.cats_http}", asked, model_name=servers.cats_model
        )
    assert answer.outputs[0].data[0].split(":")[2] in CATS


async def works_rest_errors_carry_the_sentence(servers: Servers) -> None:
    async with rest() as client:
        with raises(httpx.HTTPStatusError, "no model 'nobody'", "404"):
            await client.infer(
                f"http://{servers.http}", request(servers, binary=True), model_name="nobody"
            )


async def works_grpc(servers: Servers) -> None:
    async with InferenceGRPCClient(servers.grpc, timeout=20) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(servers.model)
        for binary in (False, True):
            check(await client.infer(request(servers, binary=binary)))


async def works_grpc_errors_carry_the_sentence(servers: Servers) -> None:
    async with InferenceGRPCClient(servers.grpc, timeout=20) as client:
        asked = request(servers, binary=True)
        asked.model_name = "nobody"
        with raises(grpc.RpcError, "NOT_FOUND", "no model 'nobody'"):
            await client.infer(asked)
        with raises(grpc.RpcError, "NOT_FOUND"):
            await client.is_model_ready("nobody")


async def differs_version_1_of_kserves_protocol(servers: Servers) -> None:
    """The SDK's default: /v1/models/NAME:predict with "instances"."""
    async with InferenceRESTClient(RESTConfig(protocol="v1", timeout=20)) as client:
        with raises(httpx.HTTPStatusError, "there is nothing at", "404"):
            await client.infer(
                f"http://{servers.http}", {"instances": [[1.0]]}, model_name=servers.model
            )


if __name__ == "__main__":
    cases.run(globals())
