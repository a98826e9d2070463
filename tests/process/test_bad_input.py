"""Bad input: the status that each kind must get, in one table."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from support import requests_by_hand as by_hand
from support.process_use import peak_growth_bytes
from support.requests_by_hand import INFER, SERVICE, infer, pictures, tensor, wanted, with_parameter
from support.running_server import Server, StartServer, running
from support.serving_null import null_server_command

from corral.models.pictures import draw_pictures
from corral_protos import open_inference_pb2 as pb

CAT = (Path(__file__).parents[1] / "data/pictures/cat.jpg").read_bytes()
DRAWN = Image.fromarray(draw_pictures(1, 7, 256)[0])
MAX_PIXELS = 1_000_000
MIB = 2**20

INVALID, MISSING = "INVALID_ARGUMENT", "NOT_FOUND"
EXHAUSTED, UNIMPLEMENTED = "RESOURCE_EXHAUSTED", "UNIMPLEMENTED"


@dataclasses.dataclass(frozen=True)
class Case:
    """One row: what is sent, and the status that it gets."""

    name: str
    status: str
    message: bytes | Callable[[], bytes]
    method: str = INFER
    metadata: Sequence[tuple[str, str]] = ()
    gzip: bool = False
    most_bytes: float = math.inf
    """how much more memory the frontend may hold meanwhile"""
    most_s: float = math.inf
    """how long it may take: the event loop stands still meanwhile"""


def typed(**contents: Any) -> bytes:
    """A request whose tensor is in ``contents``."""
    described = tensor()
    described.contents.MergeFrom(pb.InferTensorContents(**contents))
    return pb.ModelInferRequest(model_name="resnet50", inputs=[described]).SerializeToString()


def both() -> bytes:
    described = tensor()
    described.contents.uint_contents.extend(bytes(by_hand.UINT8_BYTES))
    return infer(bytes(by_hand.UINT8_BYTES), inputs=[described])


def shaped(*shape: int, raw: bytes = bytes(by_hand.UINT8_BYTES)) -> bytes:
    return infer(raw, inputs=[tensor(shape=shape)])


def picture_as(form: str) -> bytes:
    return pictures(by_hand.encode(DRAWN, form))


def bomb(width: int, height: int, depth: int = 8) -> Callable[[], bytes]:
    return lambda: pictures(by_hand.png_bomb(width, height, depth))


def rpc(name: str) -> str:
    return SERVICE + name


TABLE = [
    # no message
    Case("garbage", INVALID, b"\xff" * 100),
    Case("garbage after a good start", INVALID, infer() + b"\xff"),
    Case("cut off", INVALID, infer()[:-1]),
    Case("a length beyond the end", INVALID, b"\x3a\xff\xff\xff\xff\x0f" + bytes(10)),
    Case("a length beyond 64 bits", INVALID, b"\x3a" + b"\xff" * 11),
    Case("text that is no UTF-8", INVALID, b"\x0a\x02\xff\xfe"),
    Case("groups", INVALID, b"\x0b" * 1000),
    *(
        Case(f"garbage for {name}", INVALID, b"\xff" * 100, rpc(name))
        for name in ("ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics")
    ),
    Case("garbage for the health check", INVALID, b"\xff" * 9, "/grpc.health.v1.Health/Check"),
    # tensors
    Case("no input", INVALID, infer(inputs=[])),
    Case("two inputs", INVALID, infer(inputs=[tensor(), tensor()])),
    Case("no tensor", INVALID, pb.ModelInferRequest(
        model_name="resnet50", inputs=[tensor()]).SerializeToString()),
    Case("empty tensor", INVALID, infer(b"")),
    Case("two raw tensors", INVALID, infer(bytes(10), bytes(10))),
    Case("a byte too few", INVALID, infer(bytes(by_hand.UINT8_BYTES - 1))),
    Case("a byte too many", INVALID, infer(bytes(by_hand.UINT8_BYTES + 1))),
    Case("raw and typed contents", INVALID, both),
    Case("typed contents, too few", INVALID, typed(uint_contents=[1, 2, 3])),
    Case("typed contents of another type", INVALID, typed(fp32_contents=[1.0])),
    Case("typed contents, too large", INVALID, lambda: typed(
        uint_contents=[256] * by_hand.UINT8_BYTES)),
    # shapes
    Case("no shape", INVALID, shaped()),
    Case("one dimension", INVALID, shaped(by_hand.UINT8_BYTES)),
    Case("another size", INVALID, shaped(1, 100, 100, 3)),
    Case("the other layout", INVALID, shaped(1, 3, 224, 224)),
    Case("batch 0", INVALID, shaped(0, 224, 224, 3)),
    Case("batch 0 and no bytes", INVALID, shaped(0, 224, 224, 3, raw=b"")),
    Case("batch -1", INVALID, shaped(-1, 224, 224, 3)),
    Case("batch above the maximum", INVALID, shaped(33, 224, 224, 3)),
    Case("a product of 2^64", INVALID, shaped(2**62, 224, 224, 3)),
    Case("a product that overflows to 0", INVALID, shaped(2**32, 2**32, 224, 3)),
    Case("a very long shape", INVALID, shaped(*[1] * 100_000)),
    Case("pictures of batch 2^62", INVALID, infer(inputs=[tensor("input", "BYTES", (2**62,))])),
    # names and datatypes
    Case("datatype FP16", INVALID, infer(inputs=[tensor(datatype="FP16")])),
    Case("no datatype", INVALID, infer(inputs=[tensor(datatype="")])),
    Case("a datatype of 100 KB", INVALID, infer(inputs=[tensor(datatype="X" * 100_000)])),
    Case("FP32 for the view of pixels", INVALID, infer(
        inputs=[tensor(datatype="FP32", shape=(1, 3, 224, 224))], model_name="resnet50_uint8")),
    Case("input name", INVALID, infer(inputs=[tensor(name="data")])),
    Case("an input name that is a path", INVALID, infer(inputs=[tensor(name="../input")])),
    Case("unknown output", INVALID, infer(outputs=wanted("logits"))),
    Case("duplicate output", INVALID, infer(outputs=wanted("output", "output"))),
    Case("classification 0", INVALID, with_parameter(infer(), classification=0)),
    Case("classification -1", INVALID, with_parameter(infer(), classification=-1)),
    Case("classification that is text", INVALID, with_parameter(infer(), classification="five")),
    Case("timeout below 0", INVALID, with_parameter(infer(), timeout=-1)),
    # pictures
    Case("not an image", INVALID, pictures(b"not an image at all")),
    Case("an empty picture", INVALID, pictures(b"")),
    Case("a good picture and an empty one", INVALID, pictures(CAT, b"")),
    Case("a picture's length beyond the end", INVALID, infer(
        struct.pack("<I", 2**32 - 1) + CAT, inputs=[tensor(datatype="BYTES", shape=(1,))])),
    Case("half a picture's length", INVALID, infer(
        b"\1\0", inputs=[tensor(datatype="BYTES", shape=(1,))])),
    Case("TIFF", INVALID, picture_as("TIFF")),
    Case("GIF", INVALID, picture_as("GIF")),
    Case("BMP", INVALID, picture_as("BMP")),
    Case("WebP", INVALID, picture_as("WEBP")),
    Case("FITS", INVALID, pictures(by_hand.fits())),
    Case("SVG", INVALID, pictures(b"<svg xmlns='http://www.w3.org/2000/svg'/>")),
    Case("half a JPEG", INVALID, pictures(CAT[: len(CAT) // 2])),
    Case("a JPEG's first bytes", INVALID, pictures(CAT[:20])),
    Case("half a PNG", INVALID, lambda: pictures(by_hand.encode(DRAWN)[:30_000])),
    Case("a PNG without its end", INVALID, lambda: pictures(by_hand.encode(DRAWN)[:-12])),
    Case("a damaged PNG", INVALID, lambda: pictures(
        by_hand.png(64, 64, 8, 2, (b"IDAT", b"no deflate at all" * 64)))),
    Case("a picture of no pixels", INVALID, pictures(by_hand.png(0, 5, 8, 2))),
    Case("a picture above the limit of pixels", INVALID, bomb(1001, 1000)),
    Case("a PNG bomb of 400 megapixels", INVALID, bomb(20_000, 20_000, 1),
         most_bytes=20 * MIB),
    Case("a PNG bomb with its pixels", INVALID, bomb(10_000, 10_000), most_bytes=20 * MIB),
    Case("32 PNG bombs", INVALID, lambda: pictures(*[by_hand.png_bomb(7_000, 7_000, 1)] * 32),
         most_bytes=20 * MIB),
    Case("a PNG that claims 2^31 by 2^31", INVALID, pictures(
        by_hand.png(2**31 - 1, 2**31 - 1, 8, 2, (b"IDAT", b""))), most_bytes=20 * MIB),
    # names of models
    Case("no name", MISSING, b""),
    Case("unknown model", MISSING, infer(model_name="resnet51")),
    Case("unknown version", MISSING, infer(model_version="2")),
    Case("a path above", MISSING, infer(model_name="../resnet50")),
    Case("a path within", MISSING, infer(model_name="resnet50/../resnet50")),
    Case("an absolute path", MISSING, infer(model_name="/etc/passwd")),
    Case("a version that is a path", MISSING, infer(model_version="../1")),
    Case("a name of 60 KB", MISSING, infer(model_name="x" * 60_000)),
    *(
        Case(f"{name} of a path above", MISSING, kind(name="../resnet50").SerializeToString(),
             rpc(name))
        for name, kind in (
            ("ModelReady", pb.ModelReadyRequest), ("ModelMetadata", pb.ModelMetadataRequest),
            ("ModelConfig", pb.ModelConfigRequest),
            ("ModelStatistics", pb.ModelStatisticsRequest),
        )
    ),
    Case("health of an unknown service", MISSING, b"\x0a\x04nope", "/grpc.health.v1.Health/Check"),
    # too much
    Case("a message above the limit", EXHAUSTED, lambda: infer(bytes(21 * MIB)),
         most_bytes=45 * MIB),
    Case("a gzip bomb", EXHAUSTED, lambda: infer(bytes(100 * MIB)), gzip=True,
         most_bytes=45 * MIB),
    Case("64 KB of metadata", EXHAUSTED, infer(), metadata=[("x", "y" * 65_536)]),
    Case("64 KB of metadata in parts", EXHAUSTED, infer(),
         metadata=[(f"x{n}", "y" * 1024) for n in range(64)]),
    # small to send, packed at least, and large to hold
    Case("ten million empty raw tensors", INVALID, lambda: b"\x3a\x00" * 9_600_000,
         most_bytes=64 * MIB, most_s=5),
    Case("ten million empty inputs", INVALID, lambda: b"\x2a\x00" * 9_600_000,
         most_bytes=64 * MIB),
    Case("millions of empty pictures, typed", INVALID,
         lambda: by_hand.with_contents(b"\x42\x00" * 5_000_000, "BYTES"), most_bytes=64 * MIB),
    Case("millions of typed values", INVALID,
         lambda: by_hand.with_contents(b"\x22\x80\xb6\xdc\x05" + bytes(12_000_000)),
         most_bytes=64 * MIB),
    Case("typed values of eight bytes for one", INVALID,
         lambda: by_hand.with_contents(b"\x1a\x80\xb6\xdc\x05" + bytes(12_000_000)),
         most_bytes=64 * MIB),
    Case("300 empty parameters", INVALID, with_parameter(infer(), x=1) + b"\x22\x00" * 300),
    # what there is not
    *(
        Case(name, UNIMPLEMENTED, b"", rpc(name))
        for name in (
            "SystemSharedMemoryRegister", "SystemSharedMemoryUnregister",
            "CudaSharedMemoryRegister", "LogSettings", "TraceSetting", "Nonsense", "../ModelInfer",
        )
    ),
    Case("another service", UNIMPLEMENTED, b"", "/tensorflow.serving.PredictionService/Predict"),
    Case("an input in shared memory", UNIMPLEMENTED, with_parameter(
        infer(), shared_memory_region="mine", shared_memory_byte_size=by_hand.UINT8_BYTES)),
    Case("an output in shared memory", UNIMPLEMENTED, by_hand.output_in_shared_memory()),
    # a repository that never changes
    Case("a repository that there is not", MISSING, pb.RepositoryIndexRequest(
        repository_name="elsewhere").SerializeToString(), rpc("RepositoryIndex")),
    Case("load of another model", MISSING, pb.RepositoryModelLoadRequest(
        model_name="bert").SerializeToString(), rpc("RepositoryModelLoad")),
    Case("load of what is served, changed", UNIMPLEMENTED, pb.RepositoryModelLoadRequest(
        model_name="resnet50", parameters={"config": pb.ModelRepositoryParameter(
            string_param="{}")}).SerializeToString(), rpc("RepositoryModelLoad")),
    Case("unload of another model", MISSING, pb.RepositoryModelUnloadRequest(
        model_name="bert").SerializeToString(), rpc("RepositoryModelUnload")),
    Case("unload of what is served", UNIMPLEMENTED, pb.RepositoryModelUnloadRequest(
        model_name="resnet50").SerializeToString(), rpc("RepositoryModelUnload")),
]  # fmt: skip


@pytest.fixture(scope="module")
def null() -> Iterator[Server]:
    """One server for the whole table: that it lives through it is part of what is tested."""
    with running(
        # The rows are sent all at once, too.
        null_server_command("--max-image-pixels", str(MAX_PIXELS), "--max-queue", "1000")
    ) as server:
        workers, frontends = server.workers(), server.frontends()
        yield server
        assert server.workers() == workers
        assert server.frontends() == frontends
        assert "Traceback" not in server.stderr


@pytest.fixture(scope="module")
def channel(null: Server) -> Iterator[grpc.Channel]:
    options = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 2**20)]
    with grpc.insecure_channel(f"127.0.0.1:{null.port}", options=options) as found:
        yield found


def pids(server: Server) -> list[int]:
    return [server.pid, *server.workers(), *server.frontends()]


def output(channel: grpc.Channel, message: bytes) -> np.ndarray[Any, Any]:
    """FP32 [n,1000]: first element, last element, datatype, zeros."""
    answer = pb.ModelInferResponse.FromString(channel.unary_unary(INFER)(message, timeout=20))
    raw = answer.raw_output_contents[0]
    return np.frombuffer(raw, np.float32).reshape(tuple(answer.outputs[0].shape))


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_bad_input_gets_its_status(case: Case, null: Server, channel: grpc.Channel) -> None:
    message = case.message() if callable(case.message) else case.message
    began_s = time.monotonic()
    with (
        pytest.raises(grpc.RpcError) as refusal,
        peak_growth_bytes(null.frontends()[0]) as growth,
    ):
        channel.unary_unary(case.method)(
            message,
            timeout=20,
            metadata=case.metadata,
            compression=grpc.Compression.Gzip if case.gzip else None,
        )
    assert time.monotonic() - began_s <= case.most_s
    details = refusal.value.details()
    assert refusal.value.code().name == case.status, details
    assert len(details) > 10
    assert len(details) < 400
    assert not by_hand.leak(details, pids(null), message), details
    assert growth.bytes <= case.most_bytes, f"{growth.bytes / MIB:.1f} MiB"
    assert output(channel, infer(b"\7" * by_hand.UINT8_BYTES))[0, 0] == 7


def test_garbage_in_a_stream_of_reflection_and_of_health(
    null: Server, channel: grpc.Channel
) -> None:
    watch = channel.unary_stream("/grpc.health.v1.Health/Watch")
    reflect = channel.stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    )
    for call in (watch(b"\xff" * 9, timeout=10), reflect(iter([b"\xff" * 9]), timeout=10)):
        with pytest.raises(grpc.RpcError) as refusal:
            list(call)
        assert refusal.value.code().name == INVALID
        assert not by_hand.leak(refusal.value.details(), pids(null))


@pytest.mark.parametrize("count", [0, 2])
def test_a_call_of_no_message_or_two(count: int, null: Server, channel: grpc.Channel) -> None:
    """gRPC itself leaves the one without a message to its deadline, and takes the first of two."""
    call = channel.stream_unary(INFER)
    try:
        call(iter([infer()] * count), timeout=0.5)
    except grpc.RpcError as error:
        assert error.code().name in {INVALID, UNIMPLEMENTED, "DEADLINE_EXCEEDED"}
        assert not by_hand.leak(error.details(), pids(null))
    assert output(channel, infer())[0, 2] == 2


def test_a_full_queue_refuses_and_recovers() -> None:
    with (
        running(null_server_command("--max-queue", "2", "--null-batch-ms", "60")) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel,
    ):
        calls = [channel.unary_unary(INFER).future(infer(), timeout=10) for _ in range(8)]
        refused = [call for call in calls if call.code() is not grpc.StatusCode.OK]
        assert 4 <= len(refused) < 8
        for call in refused:
            assert call.code().name == EXHAUSTED
            assert not by_hand.leak(call.details(), pids(server))
        assert output(channel, infer())[0, 2] == 2


@contextlib.contextmanager
def used_once(channel: grpc.Channel) -> Iterator[None]:
    """What the first request of a process costs is nobody's bomb."""
    output(channel, infer())
    yield


def test_png_bombs_below_the_limit_of_pixels_take_no_memory(server: StartServer) -> None:
    """Of 50 million pixels, as the limit is by default; none was ever meant to be looked at."""
    with (
        server() as s,
        grpc.insecure_channel(f"127.0.0.1:{s.port}") as channel,
        used_once(channel),
        peak_growth_bytes(s.frontends()[0]) as growth,
    ):
        infer = channel.unary_unary(INFER)
        for width, height, depth in ((7_000, 7_000, 8), (7_000, 7_000, 1), (2_000, 2_000, 8)):
            one = by_hand.png_bomb(width, height, depth)
            for message in (pictures(one), pictures(*[one] * 32)):
                with pytest.raises(grpc.RpcError) as refusal:
                    infer(message, timeout=20)
                assert refusal.value.code().name == INVALID
                assert "which no photograph does" in refusal.value.details()
        # Those that are too small to be refused are too small to hurt.
        assert output(channel, pictures(*[by_hand.png_bomb(1_000, 1_000)] * 32)).shape[0] == 32
    assert growth.bytes <= 20 * MIB, f"{growth.bytes / MIB:.1f} MiB"


def test_the_table_in_parallel(null: Server, channel: grpc.Channel) -> None:
    """All rows at once among good requests: nobody gets anybody else's status."""
    rows = [case for case in TABLE if not case.gzip and not callable(case.message)]
    wrong: list[str] = []

    def send(case: Case) -> None:
        call = channel.unary_unary(case.method)
        try:
            call(case.message, timeout=20, metadata=case.metadata)
            wrong.append(f"{case.name}: OK")
        except grpc.RpcError as error:
            if error.code().name != case.status:
                wrong.append(f"{case.name}: {error.code().name}")
        if output(channel, infer(b"\5" * by_hand.UINT8_BYTES))[0, 1] != 5:
            wrong.append(f"{case.name}: a good request got a wrong answer")

    threads = [threading.Thread(target=send, args=(case,)) for case in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
