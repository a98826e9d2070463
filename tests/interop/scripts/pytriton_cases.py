"""pytriton's clients: ModelClient, FuturesModelClient, AsyncioModelClient, DecoupledModelClient."""

from __future__ import annotations

from typing import Any

import cases
import numpy as np
from cases import CATS, Servers, raises
from pytriton.client import (
    AsyncioModelClient,
    DecoupledModelClient,
    FuturesModelClient,
    ModelClient,
)
from pytriton.client.exceptions import (
    PyTritonClientInferenceServerError,
    PyTritonClientTimeoutError,
)

ITEM = np.full((3, 224, 224), 3.0, np.float32)
OPTIONS: dict[str, Any] = {"init_timeout_s": 20, "inference_timeout_s": 20}


def urls(servers: Servers) -> tuple[str, str]:
    return f"grpc://{servers.grpc}", f"http://{servers.http}"


def works_a_sample_and_a_batch(servers: Servers) -> None:
    for url in urls(servers):
        with ModelClient(url, servers.model, **OPTIONS) as client:
            client.wait_for_model(timeout_s=20)
            assert client.model_config.max_batch_size > 1
            assert client.is_batching_supported
            assert client.infer_sample(ITEM)["output"][0] == 3.0
            found = client.infer_batch(input=np.stack([ITEM, ITEM * 2]))["output"]
            assert found[:, 0].tolist() == [3.0, 6.0]
            assert client.infer_sample(ITEM, parameters={"mine": 7})["output"][0] == 3.0


def works_what_it_reads_of_the_configuration(servers: Servers) -> None:
    for url in urls(servers):
        with ModelClient(url, servers.model, **OPTIONS) as client:
            (given,) = client.model_config.inputs
            (made,) = client.model_config.outputs
            assert (given.name, given.dtype, tuple(given.shape)) == (
                "input",
                np.float32,
                (3, 224, 224),
            )
            assert (made.name, tuple(made.shape)) == ("output", (1000,))
            assert not client.model_config.decoupled


def works_futures(servers: Servers) -> None:
    with FuturesModelClient(urls(servers)[0], servers.model, max_workers=4) as client:
        calls = [client.infer_sample(ITEM * n) for n in range(8)]
        assert [call.result(20)["output"][0] for call in calls] == [3.0 * n for n in range(8)]


async def works_asyncio(servers: Servers) -> None:
    for url in urls(servers):
        async with AsyncioModelClient(url, servers.model, **OPTIONS) as client:
            assert (await client.infer_sample(ITEM))["output"][0] == 3.0
            found = await client.infer_batch(np.stack([ITEM, ITEM]))
            assert found["output"].shape == (2, 1000)


def works_a_picture(servers: Servers) -> None:
    picture = np.array([[servers.encoded()]], dtype=np.object_)
    name = f"{servers.cats_model}_image"
    for url in (f"grpc://{servers.cats_grpc}", f"http://{servers.cats_http}"):
        with ModelClient(url, name, **OPTIONS) as client:
            best = int(client.infer_batch(picture)["output"][0].argmax())
            # tabby, tiger cat, Egyptian cat
            assert best in {281, 282, 285}, CATS


def works_loading_what_is_served(servers: Servers) -> None:
    with ModelClient(urls(servers)[0], servers.model, **OPTIONS) as client:
        client.load_model()
        assert client.infer_sample(ITEM)["output"][0] == 3.0


def works_a_timeout_is_told_from_other_errors(servers: Servers) -> None:
    options = {**OPTIONS, "inference_timeout_s": 0.000_01}
    with (
        ModelClient(urls(servers)[0], servers.model, **options) as client,
        raises(PyTritonClientTimeoutError, "Deadline Exceeded"),
    ):
        client.infer_sample(ITEM)


def works_other_errors(servers: Servers) -> None:
    with (
        ModelClient(urls(servers)[1], servers.model, **OPTIONS) as client,
        raises(PyTritonClientInferenceServerError, "shape"),
    ):
        client.infer_sample(ITEM[:2])


def differs_a_model_is_not_decoupled(servers: Servers) -> None:
    with (
        DecoupledModelClient(urls(servers)[0], servers.model, **OPTIONS) as client,
        raises(PyTritonClientInferenceServerError, "coupled"),
    ):
        list(client.infer_sample(ITEM))


def differs_unloading(servers: Servers) -> None:
    with (
        ModelClient(urls(servers)[0], servers.model, **OPTIONS) as client,
        raises(Exception, "never unloaded"),
    ):
        client.unload_model()


if __name__ == "__main__":
    cases.run(globals())
