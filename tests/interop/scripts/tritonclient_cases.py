"""tritonclient over gRPC and HTTP, threads and asyncio, the way its own examples use it."""

from __future__ import annotations

import contextlib
import queue
from collections.abc import Iterator
from typing import Any

import cases
import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.grpc.aio as grpc_aio
import tritonclient.http as over_http
import tritonclient.http.aio as http_aio
from cases import CATS, Servers, raises
from PIL import Image
from tritonclient.utils import InferenceServerException, shared_memory

SHAPE = (1, 3, 224, 224)
ITEM_BYTES = 4 * 3 * 224 * 224
BOTH = (over_grpc, over_http)


@contextlib.contextmanager
def client_of(servers: Servers, library: Any, *, cats: bool = False) -> Iterator[Any]:
    if library is over_grpc:
        where = servers.cats_grpc if cats else servers.grpc
    else:
        where = servers.cats_http if cats else servers.http
    with library.InferenceServerClient(where) as client:
        yield client


def tensor(library: Any, value: float, **options: Any) -> Any:
    array = np.full(SHAPE, value, np.float32)
    found = library.InferInput("input", list(SHAPE), "FP32")
    found.set_data_from_numpy(array, **options)
    return found


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
    with (
        client_of(servers, over_grpc) as client,
        raises(InferenceServerException, "Deadline Exceeded"),
    ):
        client.infer(servers.model, [tensor(over_grpc, 1.0)], client_timeout=0.000_01)


def works_system_shared_memory(servers: Servers) -> None:
    for library in BOTH:
        label = library.__name__.rpartition(".")[2]
        pixels = np.full(SHAPE, 9.0, np.float32)
        into = shared_memory.create_shared_memory_region(f"in_{label}", f"/in_{label}", ITEM_BYTES)
        out = shared_memory.create_shared_memory_region(f"out_{label}", f"/out_{label}", 4000)
        try:
            shared_memory.set_shared_memory_region(into, [pixels])
            with client_of(servers, library) as client:
                client.unregister_system_shared_memory()
                client.register_system_shared_memory(f"in_{label}", f"/in_{label}", ITEM_BYTES)
                client.register_system_shared_memory(f"out_{label}", f"/out_{label}", 4000)
                named = library.InferInput("input", list(SHAPE), "FP32")
                named.set_shared_memory(f"in_{label}", ITEM_BYTES)
                wanted = library.InferRequestedOutput("output")
                wanted.set_shared_memory(f"out_{label}", 4000)
                result = client.infer(servers.model, [named], outputs=[wanted])
                output = result.get_output("output")
                name = output.datatype if library is over_grpc else output["datatype"]
                assert name == "FP32"
                answer = shared_memory.get_contents_as_numpy(out, np.float32, [1, 1000])
                assert answer[0, 0] == 9.0
                status = client.get_system_shared_memory_status()
                assert len(status.regions if library is over_grpc else status) == 2
                client.unregister_system_shared_memory(f"in_{label}")
                client.unregister_system_shared_memory()
        finally:
            for region in (into, out):
                shared_memory.destroy_shared_memory_region(region)


def works_what_clears_up_cuda_memory(servers: Servers) -> None:
    for library in BOTH:
        with client_of(servers, library) as client:
            status = client.get_cuda_shared_memory_status()
            assert not (status.regions if library is over_grpc else status)
            client.unregister_cuda_shared_memory()


def works_the_repository(servers: Servers) -> None:
    for library in BOTH:
        with client_of(servers, library) as client:
            index = client.get_model_repository_index()
            if library is over_grpc:
                found = {model.name: model.state for model in index.models}
            else:
                found = {model["name"]: model["state"] for model in index}
            assert found[servers.model] == "READY"
            client.load_model(servers.model)
            assert client.is_model_ready(servers.model)


def works_loading_with_the_configuration_that_is_served(servers: Servers) -> None:
    import json

    with client_of(servers, over_http) as client:
        config = json.dumps(client.get_model_config(servers.model))
        client.load_model(servers.model, config=config)
    with client_of(servers, over_grpc) as client:
        client.load_model(servers.model, config=config)


def works_statistics(servers: Servers) -> None:
    for library in BOTH:
        with client_of(servers, library) as client:

            def count(client: Any = client, library: Any = library) -> int:
                found = client.get_inference_statistics(servers.model)
                if library is over_grpc:
                    return int(found.model_stats[0].inference_count)
                return int(found["model_stats"][0]["inference_count"])

            before = count()
            client.infer(servers.model, [tensor(library, 1.0)])
            assert count() == before + 1


def works_classification(servers: Servers) -> None:
    picture = np.array([servers.encoded()], dtype=np.object_)
    for library in BOTH:
        with client_of(servers, library, cats=True) as client:
            named = library.InferInput("input", [1], "BYTES")
            named.set_data_from_numpy(picture)
            wanted = library.InferRequestedOutput("output", class_count=3)
            result = client.infer(f"{servers.cats_model}_image", [named], outputs=[wanted])
            best = result.as_numpy("output")[0]
            assert len(best) == 3
            _, _, label = best[0].decode().split(":")
            assert label in CATS


def works_the_way_of_image_client(servers: Servers) -> None:
    """Reads what the picture must be from metadata and configuration, as the example does."""
    with client_of(servers, over_grpc, cats=True) as client:
        for suffix, scaling in (("_uint8", False), ("", True)):
            name = servers.cats_model + suffix
            metadata = client.get_model_metadata(name)
            config = client.get_model_config(name).config
            assert len(metadata.inputs) == len(metadata.outputs) == 1
            assert len(config.input) == 1
            (given,) = config.input
            kind = type(given)
            assert given.format in {kind.FORMAT_NHWC, kind.FORMAT_NCHW}, "no format is told"
            channels_last = given.format == kind.FORMAT_NHWC
            height, width = given.dims[:2] if channels_last else given.dims[1:]
            with Image.open(servers.picture) as opened:
                pixels = np.array(opened.convert("RGB").resize((width, height)))
            array = pixels if channels_last else pixels.transpose(2, 0, 1)
            if scaling:
                array = (array.astype(np.float32) - 127.0) / 128.0
            batch = np.ascontiguousarray(array)[np.newaxis]
            named = over_grpc.InferInput(
                metadata.inputs[0].name, list(batch.shape), metadata.inputs[0].datatype
            )
            named.set_data_from_numpy(batch)
            wanted = over_grpc.InferRequestedOutput(metadata.outputs[0].name, class_count=1)
            result = client.infer(name, [named], outputs=[wanted])
            _, index, label = result.as_numpy(metadata.outputs[0].name)[0][0].decode().split(":")
            assert label in CATS, (name, index, label)


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


def differs_a_model_is_not_unloaded_or_changed(servers: Servers) -> None:
    for library in BOTH:
        with client_of(servers, library) as client:
            with raises(InferenceServerException, "never unloaded"):
                client.unload_model(servers.model)
            with raises(InferenceServerException, "not changed by a call"):
                client.load_model(servers.model, config='{"max_batch_size": 3}')
            with raises(InferenceServerException, "no model"):
                client.load_model("nobody")
            assert client.is_model_ready(servers.model)


def differs_asking_grpc_for_a_model_that_is_not_there(servers: Servers) -> None:
    """Triton says "not ready"; over HTTP that is a 404, which the client takes for False."""
    with (
        client_of(servers, over_grpc) as client,
        raises(InferenceServerException, "no model 'nobody'; this server has"),
    ):
        client.is_model_ready("nobody")


def differs_there_is_no_cuda_memory(servers: Servers) -> None:
    for library in BOTH:
        with client_of(servers, library) as client, raises(InferenceServerException):
            client.register_cuda_shared_memory("gpu", b"aGFuZGxl", 0, 64)


def differs_tracing_and_logging_are_not_set_by_calls(servers: Servers) -> None:
    for library in BOTH:
        with client_of(servers, library) as client:
            for ask in (client.get_trace_settings, client.get_log_settings):
                with raises(InferenceServerException):
                    ask()


if __name__ == "__main__":
    cases.run(globals())
