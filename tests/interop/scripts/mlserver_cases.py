"""MLServer's client side: its own gRPC stubs, its types and converters, and its REST types."""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import cases
import grpc
import numpy as np
from cases import CATS, Servers, raises
from mlserver import types
from mlserver.codecs import NumpyCodec
from mlserver.grpc import converters
from mlserver.grpc import dataplane_pb2 as pb
from mlserver.grpc.dataplane_pb2_grpc import GRPCInferenceServiceStub
from mlserver.grpc.model_repository_pb2_grpc import ModelRepositoryServiceStub

PIXELS = np.full((1, 3, 224, 224), 3.0, np.float32)


def stub(servers: Servers) -> Any:
    return GRPCInferenceServiceStub(grpc.insecure_channel(servers.grpc))


def request() -> Any:
    tensor = NumpyCodec.encode_input("input", PIXELS)
    return types.InferenceRequest(id="seven", inputs=[tensor])


def works_health_and_metadata(servers: Servers) -> None:
    client = stub(servers)
    assert client.ServerLive(pb.ServerLiveRequest()).live
    assert client.ServerReady(pb.ServerReadyRequest()).ready
    assert client.ModelReady(pb.ModelReadyRequest(name=servers.model)).ready
    found = converters.ServerMetadataResponseConverter.to_types(
        client.ServerMetadata(pb.ServerMetadataRequest())
    )
    assert found.name == "corral"
    answer = client.ModelMetadata(pb.ModelMetadataRequest(name=servers.model))
    metadata = converters.ModelMetadataResponseConverter.to_types(answer)
    assert metadata.inputs[0].name == "input"
    # Its message has a map at a number that others use for something else.
    assert metadata.parameters is None or not metadata.parameters.model_dump(exclude_none=True)


def works_inference_with_typed_and_with_raw_contents(servers: Servers) -> None:
    client = stub(servers)
    for raw in (False, True):
        asked = converters.ModelInferRequestConverter.from_types(
            request(), model_name=servers.model, model_version="1", use_raw=raw
        )
        answer = client.ModelInfer(asked, timeout=20)
        found = converters.ModelInferResponseConverter.to_types(answer)
        assert found.id == "seven"
        assert NumpyCodec.decode_output(found.outputs[0])[0, 0] == 3.0


def works_rest_with_its_types(servers: Servers) -> None:
    body = request().model_dump_json(exclude_none=True).encode()
    where = f"http://{servers.http}/v2/models/{servers.model}/infer"
    with urllib.request.urlopen(
        urllib.request.Request(where, body, {"Content-Type": "application/json"}), timeout=20
    ) as answer:
        found = types.InferenceResponse.model_validate_json(answer.read())
    assert NumpyCodec.decode_output(found.outputs[0])[0, 0] == 3.0
    with urllib.request.urlopen(f"http://{servers.http}/v2/models/{servers.model}") as answer:
        assert types.MetadataModelResponse.model_validate_json(answer.read()).name == servers.model


def works_a_picture(servers: Servers) -> None:
    asked = pb.ModelInferRequest(model_name=servers.cats_model)
    tensor = asked.inputs.add(name="input", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(servers.encoded())
    asked.parameters["classification"].int64_param = 1
    client = GRPCInferenceServiceStub(grpc.insecure_channel(servers.cats_grpc))
    answer = client.ModelInfer(asked, timeout=20)
    assert answer.raw_output_contents[0][4:].decode().split(":")[2] in CATS


def works_the_repository(servers: Servers) -> None:
    client = stub(servers)
    index = client.RepositoryIndex(pb.RepositoryIndexRequest())
    found = {model.name: model.state for model in index.models}
    assert found[servers.model] == "READY"
    client.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=servers.model))
    body = json.dumps({}).encode()
    where = f"http://{servers.http}/v2/repository/index"
    with urllib.request.urlopen(urllib.request.Request(where, body), timeout=20) as answer:
        assert types.RepositoryIndexResponse.model_validate_json(answer.read()).root


def works_errors(servers: Servers) -> None:
    with raises(grpc.RpcError, "NOT_FOUND", "no model 'nobody'"):
        stub(servers).ModelReady(pb.ModelReadyRequest(name="nobody"))


def differs_answers_of_a_stream_are_tritons(servers: Servers) -> None:
    """MLServer streams ModelInferResponses, Triton ModelStreamInferResponses that hold one."""
    asked = converters.ModelInferRequestConverter.from_types(
        request(), model_name=servers.model, model_version="", use_raw=True
    )
    answers = stub(servers).ModelStreamInfer(iter([asked]), timeout=20)
    try:
        (answer,) = answers
    except grpc.RpcError as error:
        assert "deserializing" in error.details()
    else:
        assert not answer.model_name
        assert not answer.outputs


def differs_the_repository_as_a_service_of_its_own(servers: Servers) -> None:
    """An older form of MLServer's; its newer form and Triton's is a part of the one service."""
    from mlserver.grpc import model_repository_pb2 as old

    client = ModelRepositoryServiceStub(grpc.insecure_channel(servers.grpc))
    with raises(grpc.RpcError, "UNIMPLEMENTED"):
        client.RepositoryIndex(old.RepositoryIndexRequest())


if __name__ == "__main__":
    cases.run(globals())
