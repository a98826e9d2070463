"""tritonclient's calls beside inference: memory, repository, statistics, and image_client's way."""

from __future__ import annotations

import json
from typing import Any

import cases
import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from cases import CATS, Servers, raises
from either_protocol import BOTH, SHAPE, client_of, tensor
from PIL import Image
from tritonclient.utils import InferenceServerException, shared_memory

ITEM_BYTES = 4 * 3 * 224 * 224


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
