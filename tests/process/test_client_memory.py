"""Tensors in a client's shared memory, as tritonclient hands them over, and against abuse."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
from support.running_server import Server, StartServer, null_server
from tritonclient.utils import InferenceServerException

ITEM_BYTES = 3 * 224 * 224 * 4
PIXEL_BYTES = 3 * 224 * 224
OUTPUT_BYTES = 4000


class Shared:
    """A client with one shared memory object: input first, output behind it."""

    def __init__(self, server: Server, size: int = 4 * ITEM_BYTES + 4 * OUTPUT_BYTES) -> None:
        self.key = f"/corral-test-{uuid.uuid4().hex}"
        self.size = size
        self.object = shm.create_shared_memory_region("mine", self.key, size)
        self.client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")

    def close(self) -> None:
        self.client.close()
        shm.destroy_shared_memory_region(self.object)

    def register(self) -> None:
        self.client.register_system_shared_memory("mine", self.key, self.size)

    def put(self, array: np.ndarray[Any, Any], offset: int = 0) -> None:
        shm.set_shared_memory_region(self.object, [array], offset)

    def input(self, shape: list[int], datatype: str, size: int, offset: int = 0) -> Any:
        found = triton.InferInput("input", shape, datatype)
        found.set_shared_memory("mine", size, offset)
        return found

    def fp32(self, count: int = 1, offset: int = 0) -> Any:
        return self.input([count, 3, 224, 224], "FP32", count * ITEM_BYTES, offset)

    def infer(self, tensor: Any, output: Any = None) -> Any:
        return self.client.infer("resnet50", [tensor], outputs=output and [output])


@pytest.fixture(name="shared", scope="module")
def shared_memory_with_a_server() -> Iterator[tuple[Server, Shared]]:
    with null_server("--client-shared-memory", "--null-item-ms", "1") as server:
        shared = Shared(server)
        try:
            shared.register()
            yield server, shared
        finally:
            shared.close()


def refused(call: Any, *args: Any, **kwargs: Any) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as caught:
        call(*args, **kwargs)
    return str(caught.value.status()), str(caught.value.message())


def marked(value: float, count: int = 1) -> np.ndarray[Any, Any]:
    array = np.zeros((count, 3, 224, 224), np.float32)
    array[:, 0, 0, 0] = value + np.arange(count)
    return array


def test_tensors_are_read_and_answers_written(shared: tuple[Server, Shared]) -> None:
    _, mine = shared
    mine.put(marked(7.0, 3), ITEM_BYTES)
    assert mine.infer(mine.fp32(3, ITEM_BYTES)).as_numpy("output")[:, 0].tolist() == [7.0, 8.0, 9.0]
    output = triton.InferRequestedOutput("output")
    output.set_shared_memory("mine", 3 * OUTPUT_BYTES, 4 * ITEM_BYTES)
    answer = mine.infer(mine.fp32(3, ITEM_BYTES), output)
    assert list(answer.get_response().raw_output_contents) == [b""]
    assert answer.get_output("output").parameters["shared_memory_region"].string_param == "mine"
    found = shm.get_contents_as_numpy(mine.object, np.float32, (3, 1000), 4 * ITEM_BYTES)
    assert found[:, 0].tolist() == [7.0, 8.0, 9.0]


def test_pixels_pictures_and_classes(shared: tuple[Server, Shared]) -> None:
    _, mine = shared
    mine.put(np.full((1, 224, 224, 3), 9, np.uint8))
    pixels = mine.input([1, 224, 224, 3], "UINT8", PIXEL_BYTES)
    assert mine.infer(pixels).as_numpy("output")[0, :3].tolist() == [9.0, 9.0, 2.0]
    top = triton.InferRequestedOutput("output", class_count=2)
    assert mine.infer(pixels, top).as_numpy("output")[0, 0] == b"9.000000:0:tench"


def test_status_lists_regions(shared: tuple[Server, Shared]) -> None:
    _, mine = shared
    regions = mine.client.get_system_shared_memory_status().regions
    assert regions["mine"].key == mine.key
    assert regions["mine"].byte_size == mine.size
    assert "system_shared_memory" in mine.client.get_server_metadata().extensions
    mine.client.unregister_cuda_shared_memory()
    assert not mine.client.get_cuda_shared_memory_status().regions


@pytest.mark.parametrize(
    ("part", "status"),
    [
        (("mine", ITEM_BYTES, 2**40), "INVALID_ARGUMENT"),
        (("mine", ITEM_BYTES, 2**63 - 1), "INVALID_ARGUMENT"),
        (("mine", ITEM_BYTES - 4, 0), "INVALID_ARGUMENT"),
        (("mine", 2**62, 0), "INVALID_ARGUMENT"),
        (("mine", 0, 0), "INVALID_ARGUMENT"),
        (("mine", -5, 0), "INVALID_ARGUMENT"),
        (("mine", ITEM_BYTES, -4), "INVALID_ARGUMENT"),
        (("other", ITEM_BYTES, 0), "NOT_FOUND"),
        (("", ITEM_BYTES, 0), "NOT_FOUND"),
        (("../mine", ITEM_BYTES, 0), "NOT_FOUND"),
    ],
)
def test_a_wrong_slice_is_refused(
    shared: tuple[Server, Shared], part: tuple[str, int, int], status: str
) -> None:
    _, mine = shared
    region, size, offset = part
    tensor = triton.InferInput("input", [1, 3, 224, 224], "FP32")
    tensor.set_shared_memory(region, size, offset)
    code, _ = refused(mine.infer, tensor)
    assert code == f"StatusCode.{status}"
    output = triton.InferRequestedOutput("output")
    output.set_shared_memory(region, min(size, 100), offset)
    code, _ = refused(mine.infer, mine.fp32(), output)
    assert code == f"StatusCode.{status}"
    mine.put(marked(1.0))
    assert mine.infer(mine.fp32()).as_numpy("output")[0, 0] == 1.0


@pytest.mark.parametrize("key", ["/nothing-there", "../../etc/passwd", "", "/a/b", "x" * 300])
def test_a_wrong_key_is_refused_without_a_path_in_the_answer(
    shared: tuple[Server, Shared], key: str
) -> None:
    _, mine = shared
    code, message = refused(mine.client.register_system_shared_memory, "new", key, 10)
    assert code == "StatusCode.INVALID_ARGUMENT"
    assert "/dev/shm" not in message


def test_an_object_that_shrinks_under_load_harms_nobody_else(
    shared: tuple[Server, Shared],
) -> None:
    server, mine = shared
    other = Shared(server, ITEM_BYTES)
    try:
        other.client.register_system_shared_memory("other", other.key, other.size)
        part = triton.InferInput("input", [1, 3, 224, 224], "FP32")
        part.set_shared_memory("other", ITEM_BYTES)
        assert other.infer(part).as_numpy("output").shape == (1, 1000)
        os.truncate(f"/dev/shm{other.key}", 100)
        mine.put(marked(4.0))
        for _ in range(5):
            code, message = refused(other.infer, part)
            assert code == "StatusCode.INVALID_ARGUMENT"
            assert "too short" in message
            assert mine.infer(mine.fp32()).as_numpy("output")[0, 0] == 4.0
    finally:
        other.close()


def test_off_by_default_and_only_on_this_machine(server: StartServer) -> None:
    with server() as s:
        mine = Shared(s)
        try:
            for call in (mine.register, mine.client.unregister_system_shared_memory):
                code, said = refused(call)
                assert code == str(grpc.StatusCode.UNIMPLEMENTED)
                assert "--client-shared-memory" in said
            assert not mine.client.get_system_shared_memory_status().regions
        finally:
            mine.close()
    for wrong in (("--host", "0.0.0.0"), ("--cells", "2", "--workers", "2", "--oversubscribe")):
        with server("--client-shared-memory", *wrong, ready=False) as s:
            assert s.wait() == 2
            assert len(s.lines) == 1
            assert "--client-shared-memory" in s.lines[0]
