"""tritonclient over gRPC and HTTP, threads and asyncio, the way its own examples use it."""

from __future__ import annotations

import queue
from typing import Any

import cases
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as over_http
import tritonclient.http.aio as http_aio
from cases import Servers, raises
from either_protocol import BOTH, client_of, tensor
from tritonclient.utils import InferenceServerException


def works_health_and_metadata(servers: Servers) -> None:
    for library in BOTH:
        with client_of(servers, library) as client:
            assert client.is_server_live()
            assert client.is_server_ready()
            assert client.is_model_ready(servers.model, "1")
    with client_of(servers, over_http) as client:
        assert not client.is_model_ready("nobody")
        assert client.get_server_metadata()["name"] == "corral"
        assert client.get_model_metadata(servers.model)["inputs"][0]["shape"] == [-1, 3, 224, 224]


def works_inference(servers: Servers) -> None:
    for library in BOTH:
        with client_of(servers, library) as client:
            result = client.infer(
                servers.model,
                [tensor(library, 5.0)],
                model_version="1",
                outputs=[library.InferRequestedOutput("output")],
                request_id="seven",
                priority=1,
                sequence_id=3,
                sequence_start=True,
                parameters={"customer": "me"},
            )
            assert result.as_numpy("output")[0, 0] == 5.0
            assert result.as_numpy("output").shape == (1, 1000)
            response = result.get_response()
            found = response.id if library is over_grpc else response["id"]
            assert found == "seven"


def works_json_instead_of_binary(servers: Servers) -> None:
    with client_of(servers, over_http) as client:
        outputs = [over_http.InferRequestedOutput("output", binary_data=False)]
        result = client.infer(
            servers.model, [tensor(over_http, 2.0, binary_data=False)], outputs=outputs
        )
        assert result.as_numpy("output")[0, 0] == 2.0


def works_compression(servers: Servers) -> None:
    with client_of(servers, over_grpc) as client:
        for name in ("gzip", "deflate"):
            found = client.infer(
                servers.model, [tensor(over_grpc, 4.0)], compression_algorithm=name
            )
            assert found.as_numpy("output")[0, 0] == 4.0
    with client_of(servers, over_http) as client:
        for name in ("gzip", "deflate"):
            found = client.infer(
                servers.model,
                [tensor(over_http, 4.0)],
                request_compression_algorithm=name,
                response_compression_algorithm=name,
            )
            assert found.as_numpy("output")[0, 0] == 4.0


def works_asynchronous_calls(servers: Servers) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with client_of(servers, over_grpc) as client:
        for number in range(8):
            client.async_infer(
                servers.model,
                [tensor(over_grpc, float(number))],
                callback=lambda result, error: answers.put((result, error)),
            )
        found = [answers.get(timeout=20) for _ in range(8)]
    assert all(error is None for _, error in found)
    assert sorted(result.as_numpy("output")[0, 0] for result, _ in found) == list(range(8))
    with over_http.InferenceServerClient(servers.http, concurrency=4) as client:
        calls = [client.async_infer(servers.model, [tensor(over_http, n)]) for n in range(8)]
        values = [call.get_result().as_numpy("output")[0, 0] for call in calls]
    assert values == list(range(8))


def works_a_stream(servers: Servers) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with client_of(servers, over_grpc) as client:
        client.start_stream(callback=lambda result, error: answers.put((result, error)))
        for number in range(20):
            client.async_stream_infer(
                servers.model,
                [tensor(over_grpc, float(number))],
                request_id=str(number),
                enable_empty_final_response=True,
            )
        client.async_stream_infer("nobody", [tensor(over_grpc, 1.0)])
        found = [answers.get(timeout=20) for _ in range(21)]
        client.stop_stream()
    (refused,) = [str(error) for _, error in found if error is not None]
    assert "no model 'nobody'" in refused
    good = [result for result, error in found if error is None]
    for result in good:
        response = result.get_response()
        assert result.as_numpy("output")[0, 0] == float(response.id)
        # By this the examples with decoupled models know that a request is done.
        assert response.parameters["triton_final_response"].bool_param
    assert len(good) == 20


def works_cancelling(servers: Servers) -> None:
    answers: queue.Queue[Any] = queue.Queue()
    with client_of(servers, over_grpc) as client:
        call = client.async_infer(
            servers.model,
            [tensor(over_grpc, 1.0)],
            callback=lambda result, error: answers.put(error),
        )
        call.cancel()
        error = answers.get(timeout=20)
        assert error is None or "cancel" in str(error).lower()


def works_a_deadline(servers: Servers) -> None:
    # gRPC counts in milliseconds, and the null server may answer within the first.
    with (
        over_grpc.InferenceServerClient(servers.cats_grpc) as client,
        raises(InferenceServerException, "Deadline Exceeded"),
    ):
        client.infer(servers.cats_model, [tensor(over_grpc, 1.0)], client_timeout=0.000_01)


def works_a_body_made_and_read_offline(servers: Servers) -> None:
    import http.client

    body, length = over_http.InferenceServerClient.generate_request_body([tensor(over_http, 3.0)])
    connection = http.client.HTTPConnection(servers.http, timeout=20)
    fields = {"Inference-Header-Content-Length": str(length)} if length else {}
    connection.request("POST", f"/v2/models/{servers.model}/infer", body, fields)
    answer = connection.getresponse()
    content = answer.read()
    split = answer.getheader("Inference-Header-Content-Length")
    result = over_http.InferenceServerClient.parse_response_body(
        content, header_length=int(split) if split else None
    )
    connection.close()
    assert result.as_numpy("output")[0, 0] == 3.0


def works_errors_have_a_status_and_a_sentence(servers: Servers) -> None:
    for library in BOTH:
        with client_of(servers, library) as client:
            try:
                client.infer("nobody", [tensor(library, 1.0)])
            except InferenceServerException as error:
                assert "no model 'nobody'" in error.message()
                assert error.status() in {"StatusCode.NOT_FOUND", "404"}
            else:
                raise AssertionError("a model that is not there answered")


async def works_asyncio_over_grpc(servers: Servers) -> None:
    async with grpc_aio.InferenceServerClient(servers.grpc) as client:
        assert await client.is_server_ready()
        assert await client.is_model_ready(servers.model)
        result = await client.infer(servers.model, [tensor(over_grpc, 6.0)])
        assert result.as_numpy("output")[0, 0] == 6.0

        async def requests() -> Any:
            for number in range(5):
                yield {
                    "model_name": servers.model,
                    "inputs": [tensor(over_grpc, float(number))],
                    "request_id": str(number),
                }

        found = {}
        async for answer, error in client.stream_infer(requests()):
            assert error is None
            found[answer.get_response().id] = answer.as_numpy("output")[0, 0]
        assert found == {str(number): float(number) for number in range(5)}


async def works_asyncio_over_http(servers: Servers) -> None:
    async with http_aio.InferenceServerClient(servers.http) as client:
        assert await client.is_server_live()
        assert await client.is_model_ready(servers.model)
        assert (await client.get_model_config(servers.model))["name"] == servers.model
        result = await client.infer(servers.model, [tensor(over_http, 6.0)])
        assert result.as_numpy("output")[0, 0] == 6.0
        assert len(await client.get_model_repository_index()) == 3


if __name__ == "__main__":
    cases.run(globals())
