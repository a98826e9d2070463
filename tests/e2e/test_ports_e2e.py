"""Models of several inputs and outputs of every datatype, on real engines, over every wire."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from numpy.typing import NDArray
from support.ports_model import EVERY, write_every_datatype, write_pair
from support.running_server import Server, StartServer
from tritonclient.utils import InferenceServerException
from tritonclient.utils import shared_memory as shm

from corral_client import Client, HttpClient, InvalidArgument

_IDS = np.array([[1, 2, 3, 4], [0, 0, 9, 9], [5, 6, 7, 8]], np.int64)
_SCALE = np.array([[1], [-2], [0.5]], np.float32)


def _engine(backend: str, model: Path, *more: str) -> list[str]:
    sizes = ["--workers", "2", "--max-batch", "4"]
    return ["--model", str(model), "--backend", backend, *sizes, *more]


@pytest.fixture(scope="module", params=["openvino", "onnxruntime"])
def pair(
    request: pytest.FixtureRequest,
    real_server: StartServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Server, NDArray[np.float32]]]:
    """A server of ``write_pair``'s model, and its matrix."""
    path = tmp_path_factory.mktemp("pair") / "pair.onnx"
    matrix = write_pair(path)
    options = _engine(request.param, path, "--client-shared-memory")
    with real_server(*options, ready=False) as server:
        server.wait_until_ready(timeout_s=120)
        yield server, matrix


def _scores(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(matrix[_IDS].sum(axis=1) * _SCALE, np.float32)


def test_metadata_and_configuration_tell_them_all(
    pair: tuple[Server, NDArray[np.float32]],
) -> None:
    server, _ = pair
    with Client(f"127.0.0.1:{server.port}", model="pair") as client:
        found = client.metadata()
    assert [(t.name, t.datatype, tuple(t.shape)) for t in found.inputs] == [
        ("ids", "INT64", (-1, 4)),
        ("scale", "FP32", (-1, 1)),
    ]
    assert [(t.name, t.datatype, tuple(t.shape)) for t in found.outputs] == [
        ("best", "INT64", (-1, 1)),
        ("scores", "FP32", (-1, 5)),
    ]
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        config = client.get_model_config("pair").config
    assert [(t.name, t.data_type, list(t.dims)) for t in config.output] == [
        ("best", 9, [1]),
        ("scores", 11, [5]),
    ]


@pytest.mark.parametrize("make", [Client, HttpClient])
def test_all_outputs_or_those_that_are_named(
    pair: tuple[Server, NDArray[np.float32]], make: Any
) -> None:
    server, matrix = pair
    wanted = _scores(matrix)
    port = server.port
    with make(f"127.0.0.1:{port}", model="pair") as client:
        found = client.infer_all({"scale": _SCALE, "ids": _IDS})
        assert list(found) == ["best", "scores"]
        np.testing.assert_allclose(found["scores"], wanted, rtol=1e-5)
        np.testing.assert_array_equal(found["best"][:, 0], wanted.argmax(axis=1))
        assert found["best"].dtype == np.int64
        one = client.infer_all({"ids": _IDS, "scale": _SCALE}, outputs=["best"])
        assert list(one) == ["best"]
        np.testing.assert_array_equal(one["best"][:, 0], wanted.argmax(axis=1))


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"ids": _IDS}, "the model has 2 inputs, 'ids', 'scale'; missing: 'scale'"),
        ({"ids": _IDS, "scale": _SCALE, "more": _SCALE}, "unknown: 'more'"),
        ({"ids": _IDS, "skale": _SCALE}, "missing: 'scale'; unknown: 'skale'"),
        ({"ids": _IDS.astype(np.int32), "scale": _SCALE}, "'ids' is INT64, not 'INT32'"),
        ({"ids": _IDS[:, :3], "scale": _SCALE}, r"'ids' has the shape [n,4], not [3, 3]"),
        ({"ids": _IDS[:2], "scale": _SCALE}, "'scale' has 3, the first one 2"),
        ({"ids": _IDS[:0], "scale": _SCALE}, "a request takes 1 to 32 items, not 0"),
    ],
)
@pytest.mark.parametrize("make", [Client, HttpClient])
def test_a_missing_or_surplus_input_is_told_with_the_names(
    pair: tuple[Server, NDArray[np.float32]], make: Any, inputs: dict[str, Any], text: str
) -> None:
    server, _ = pair
    with (
        make(f"127.0.0.1:{server.port}", model="pair") as client,
        pytest.raises(InvalidArgument) as caught,
    ):
        client.infer_all(inputs)
    assert text in str(caught.value)


def test_an_unknown_output_is_told_with_the_names(pair: tuple[Server, Any]) -> None:
    server, _ = pair
    with (
        Client(f"127.0.0.1:{server.port}", model="pair") as client,
        pytest.raises(InvalidArgument, match="2 outputs, 'best', 'scores'; unknown: 'worst'"),
    ):
        client.infer_all({"ids": _IDS, "scale": _SCALE}, outputs=["worst"])


def test_many_at_once_get_their_own_answers(pair: tuple[Server, NDArray[np.float32]]) -> None:
    server, matrix = pair
    wrong: list[str] = []

    def ask(seed: int) -> None:
        random = np.random.default_rng(seed)
        with Client(f"127.0.0.1:{server.port}", model="pair") as client:
            for _ in range(20):
                count = int(random.integers(1, 7))
                ids = random.integers(0, 10, (count, 4))
                scale = random.normal(size=(count, 1)).astype(np.float32)
                found = client.infer_all({"ids": ids, "scale": scale})
                wanted = matrix[ids].sum(axis=1) * scale
                if not np.allclose(found["scores"], wanted, rtol=1e-4, atol=1e-5):
                    wrong.append(f"{seed}: {found['scores']} {wanted}")

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _triton_inputs(module: Any, **more: Any) -> list[Any]:
    inputs = []
    for name, array, kind in (("scale", _SCALE, "FP32"), ("ids", _IDS, "INT64")):
        inputs.append(module.InferInput(name, list(array.shape), kind))
        inputs[-1].set_data_from_numpy(array, **more)
    return inputs


def test_triton_clients_are_answered(pair: tuple[Server, NDArray[np.float32]]) -> None:
    server, matrix = pair
    wanted = _scores(matrix)
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        got = client.infer("pair", _triton_inputs(triton))
        np.testing.assert_allclose(got.as_numpy("scores"), wanted, rtol=1e-5)
        np.testing.assert_array_equal(got.as_numpy("best")[:, 0], wanted.argmax(axis=1))
        top = triton.InferRequestedOutput("scores", class_count=2)
        got = client.infer("pair", _triton_inputs(triton), outputs=[top])
        assert got.as_numpy("scores").shape == (3, 2)
        with pytest.raises(InferenceServerException, match="'best' is INT64: classification"):
            top = triton.InferRequestedOutput("best", class_count=2)
            client.infer("pair", _triton_inputs(triton), outputs=[top])
    with triton_http.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        for binary in (True, False):
            outputs = [
                triton_http.InferRequestedOutput("best", binary_data=binary),
                triton_http.InferRequestedOutput("scores", binary_data=True),
            ]
            inputs = _triton_inputs(triton_http, binary_data=binary)
            got = client.infer("pair", inputs, outputs=outputs)
            np.testing.assert_allclose(got.as_numpy("scores"), wanted, rtol=1e-5)
            np.testing.assert_array_equal(got.as_numpy("best")[:, 0], wanted.argmax(axis=1))


def test_shared_memory_carries_each_of_them(pair: tuple[Server, NDArray[np.float32]]) -> None:
    server, matrix = pair
    wanted = _scores(matrix)
    handle = shm.create_shared_memory_region("mine", "/corral_ports", 4096)
    try:
        shm.set_shared_memory_region(handle, [_IDS], 0)
        shm.set_shared_memory_region(handle, [_SCALE], 1024)
        with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
            client.register_system_shared_memory("mine", "/corral_ports", 4096)
            ids = triton.InferInput("ids", [3, 4], "INT64")
            ids.set_shared_memory("mine", _IDS.nbytes, 0)
            scale = triton.InferInput("scale", [3, 1], "FP32")
            scale.set_shared_memory("mine", _SCALE.nbytes, 1024)
            scores = triton.InferRequestedOutput("scores")
            scores.set_shared_memory("mine", wanted.nbytes, 2048)
            best = triton.InferRequestedOutput("best")
            got = client.infer("pair", [scale, ids], outputs=[best, scores])
            np.testing.assert_array_equal(got.as_numpy("best")[:, 0], wanted.argmax(axis=1))
            found = shm.get_contents_as_numpy(handle, np.float32, (3, 5), 2048)
            np.testing.assert_allclose(found, wanted, rtol=1e-5)
            # One in shared memory, one in the message.
            plain = _triton_inputs(triton)[0]
            got = client.infer("pair", [plain, ids])
            np.testing.assert_allclose(got.as_numpy("scores"), wanted, rtol=1e-5)
            client.unregister_system_shared_memory("mine")
    finally:
        shm.destroy_shared_memory_region(handle)


def _every(kind: type[Any]) -> NDArray[Any]:
    """Two items of extreme values; 64 bits are computed in 32 by some engines."""
    dtype = np.dtype(kind)
    values: list[list[Any]]
    if dtype.kind == "b":
        values = [[True, False, True], [False, False, True]]
    elif dtype.kind in "iu":
        limits = np.iinfo(np.int32 if dtype.itemsize == 8 else dtype)
        values = [[limits.min, 1, 2], [3, limits.max, 5]]
        if dtype.kind == "u":
            values[0][0] = 0
    else:
        values = [[0.5, -2.0, 3.25], [1024.0, 0.0, -0.125]]
    return np.array(values, dtype)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_every_datatype_goes_there_and_back(
    real_server: StartServer, tmp_path: Path, backend: str
) -> None:
    path = tmp_path / "every.onnx"
    write_every_datatype(path, bf16=True)
    arrays = {f"in_{name}": _every(kind) for name, kind in EVERY.items()}
    bf16 = np.array([[0x3F80, 0x4000, 0xC0A0], [0, 0x3F00, 0x7F80]], np.uint16)
    with real_server(*_engine(backend, path), ready=False) as server:
        server.wait_until_ready(timeout_s=120)
        url = f"127.0.0.1:{server.port}"
        with triton.InferenceServerClient(url) as client:
            inputs = []
            for name, array in arrays.items():
                inputs.append(triton.InferInput(name, list(array.shape), name[3:]))
                inputs[-1].set_data_from_numpy(array)
            inputs.append(triton.InferInput("in_BF16", [2, 3], "BF16"))
            inputs[-1]._raw_content = bf16.tobytes()
            got = client.infer("every", inputs)
        for name, array in arrays.items():
            twice = np.concatenate([array, array], axis=1)
            found = got.as_numpy(f"out_{name[3:]}")
            assert found.dtype == array.dtype
            np.testing.assert_array_equal(found, twice)
        as_float = (bf16.astype(np.uint32) << 16).view(np.float32)
        expected = np.concatenate([as_float, as_float], axis=1)
        np.testing.assert_array_equal(got.as_numpy("out_BF16"), expected)
        # As JSON, with BF16 as the numbers that it is.
        body = {
            "inputs": [
                {
                    "name": name,
                    "datatype": name[3:],
                    "shape": [1, 3],
                    "data": array[:1].tolist(),
                }
                for name, array in {**arrays, "in_BF16": as_float}.items()
            ]
        }
        request = urllib.request.Request(
            f"http://{url}/v2/models/every/infer", json.dumps(body).encode()
        )
        with urllib.request.urlopen(request) as answer:
            page = json.load(answer)
    for output in page["outputs"]:
        array = {**arrays, "in_BF16": as_float}[f"in_{output['name'][4:]}"]
        assert output["data"] == array[0].tolist() * 2
        assert output["datatype"] == output["name"][4:]


def test_torch_says_who_runs_such_a_model(tmp_path: Path) -> None:
    write_pair(tmp_path / "pair.onnx")
    command = [sys.executable, "-m", "corral", "serve", "--port", "0", "--backend", "torch"]
    done = subprocess.run(
        [*command, "--precision", "fp32", "--model", str(tmp_path / "pair.onnx")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "use openvino or onnxruntime" in done.stderr.splitlines()[-1]
