"""Both clients and the command against a small server of the protocol, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import json
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf.message import Message

from corral_client import (
    AsyncClient,
    Client,
    CorralClientError,
    DeadlineExceeded,
    InvalidArgument,
    Label,
    NotFound,
    Overloaded,
    Unavailable,
    channels,
    cli,
)
from corral_protos import open_inference_pb2 as pb

CLASSES = 10
FP32 = np.linspace(-1, 1, 3 * 224 * 224, dtype=np.float32).reshape(1, 3, 224, 224)
UINT8 = np.arange(2 * 8 * 8 * 3, dtype=np.uint8).reshape(2, 8, 8, 3)
COMMAND = str(Path(sys.executable).with_name("corral-client"))
WAIT_S = 20.0
PUSHBACK_MS = 250


class Refusal(Exception):
    """ModelInfer is answered with this status."""

    def __init__(self, code: grpc.StatusCode, text: str, pushback_ms: int | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.trailing = (
            () if pushback_ms is None else (("grpc-retry-pushback-ms", str(pushback_ms)),)
        )


class Peer:
    """A server of the protocol in a thread of its own, that does as it is told.

    Class i scores -i for every item, so that class 0 is the best. ``refusals`` are used up
    first, one a request; while ``hold`` is set, requests are never answered.
    """

    def __init__(self) -> None:
        self.refusals: deque[Refusal] = deque()
        self.hold = False
        self.ready = True
        self.synthetic = True
        self.port = 0
        self.calls: Counter[str] = Counter()
        self.requests: list[pb.ModelInferRequest] = []
        self.arrivals_s: list[float] = []
        self.remaining_s: list[float] = []
        self.peers: set[str] = set()
        self.cancelled = threading.Event()
        self.changed = threading.Condition()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, port: int = 0) -> None:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._start(port), self._loop).result(WAIT_S)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.stop(0), self._loop).result(WAIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_S)
        self._loop.close()

    def until(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, WAIT_S)

    async def _start(self, port: int) -> None:
        limit = ("grpc.max_receive_message_length", 2 * 2**20)
        self._server = grpc.aio.server(options=[limit])
        pages: dict[str, Callable[[bytes], Message]] = {
            "ServerLive": lambda _: pb.ServerLiveResponse(live=True),
            "ServerReady": lambda _: pb.ServerReadyResponse(ready=self.ready),
            "ModelMetadata": self._metadata,
            "ModelConfig": self._config,
            "ModelStatistics": lambda _: pb.ModelStatisticsResponse(
                model_stats=[pb.ModelStatistics(name="toy", inference_count=7)]
            ),
        }
        handlers = {name: self._page(name, page) for name, page in pages.items()}
        handlers["ModelInfer"] = grpc.unary_unary_rpc_method_handler(self._infer)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(channels.SERVICE, handlers),)
        )
        self.port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        await self._server.start()

    def _page(self, name: str, page: Callable[[bytes], Message]) -> Any:
        async def handle(message: bytes, _context: Any) -> bytes:
            self._count(name)
            return page(message).SerializeToString()

        return grpc.unary_unary_rpc_method_handler(handle)

    def _count(self, name: str) -> None:
        with self.changed:
            self.calls[name] += 1
            self.changed.notify_all()

    def _metadata(self, message: bytes) -> Message:
        make = pb.ModelMetadataResponse.TensorMetadata
        return pb.ModelMetadataResponse(
            name=pb.ModelMetadataRequest.FromString(message).name,
            versions=["1"],
            inputs=[make(name="input", datatype="FP32", shape=[-1, 3, 16, 16])],
            outputs=[make(name="output", datatype="FP32", shape=[-1, CLASSES])],
        )

    def _config(self, message: bytes) -> Message:
        config = pb.ModelConfig(name=pb.ModelConfigRequest.FromString(message).name)
        config.parameters["synthetic"].string_value = "true" if self.synthetic else "false"
        return pb.ModelConfigResponse(config=config)

    async def _infer(self, message: bytes, context: Any) -> bytes:
        self.arrivals_s.append(time.monotonic())
        self.peers.add(context.peer())
        self.remaining_s.append(context.time_remaining())
        request = pb.ModelInferRequest.FromString(message)
        self.requests.append(request)
        self._count("ModelInfer")
        if self.refusals:
            refusal = self.refusals.popleft()
            await context.abort(refusal.code, str(refusal), refusal.trailing)
        try:
            while self.hold:
                await asyncio.sleep(3600)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if request.raw_input_contents[0].endswith(b"broken"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not an image")
        return answer(request).SerializeToString()


def answer(request: pb.ModelInferRequest) -> pb.ModelInferResponse:
    items = request.inputs[0].shape[0]
    scores = np.tile(-np.arange(CLASSES, dtype=np.float32), (items, 1))
    top = request.outputs[0].parameters["classification"].int64_param if request.outputs else 0
    make = pb.ModelInferResponse.InferOutputTensor
    if not top:
        output = make(name="output", datatype="FP32", shape=scores.shape)
        raw = scores.tobytes()
    else:
        # More labels than there are classes cannot be had.
        top = min(top, CLASSES)
        texts = [f"{-i:f}:{i}:class {i}".encode() for _ in range(items) for i in range(top)]
        output = make(name="output", datatype="BYTES", shape=[items, top])
        raw = b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    return pb.ModelInferResponse(
        model_name=request.model_name, id=request.id, outputs=[output], raw_output_contents=[raw]
    )


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def client(peer: Peer) -> Iterator[Client]:
    with Client(peer.url) as made:
        yield made


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port on which nobody listens, and which a server that shares ports may yet take."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@pytest.fixture
def cat(tmp_path: Path) -> Path:
    path = tmp_path / "cat.jpg"
    path.write_bytes(b"jpeg")
    return path


def best(k: int) -> list[Label]:
    return [Label(float(-i), i, f"class {i}") for i in range(k)]


# --- requests and answers ---


def test_a_tensor_arrives_as_it_was_and_its_logits_come_back(peer: Peer, client: Client) -> None:
    logits = client.infer(FP32, request_id="r1", parameters={"priority": 2})
    assert logits.shape == (1, CLASSES)
    assert logits.argmax() == 0
    (request,) = peer.requests
    assert (request.model_name, request.id) == ("resnet50", "r1")
    assert request.parameters["priority"].int64_param == 2
    assert request.raw_input_contents[0] == FP32.tobytes()


def test_every_kind_of_picture_is_classified(peer: Peer, client: Client, cat: Path) -> None:
    for one in (cat, str(cat), b"jpeg"):
        assert client.classify(one, 2) == best(2)
    assert client.classify([cat, b"png"], 3, model="m") == [best(3)] * 2
    assert client.classify(UINT8[0], 1) == best(1)
    assert client.classify(UINT8, 1) == client.classify(list(UINT8), 1) == [best(1)] * 2
    assert client.infer(UINT8, classification=1) == [best(1)] * 2
    kinds = [(r.inputs[0].datatype, list(r.inputs[0].shape)) for r in peer.requests]
    assert kinds[:4] == [("BYTES", [1, 1])] * 3 + [("BYTES", [2, 1])]
    assert kinds[4:] == [("UINT8", [1, 8, 8, 3])] + [("UINT8", [2, 8, 8, 3])] * 3
    assert peer.requests[3].model_name == "m"


def test_more_labels_than_classes_are_all_of_them(client: Client) -> None:
    assert client.classify(b"jpeg", CLASSES + 5) == best(CLASSES)
    assert client.infer(UINT8, classification=1000) == [best(CLASSES)] * 2


def test_pages(peer: Peer, client: Client) -> None:
    assert client.live()
    assert client.ready()
    peer.ready = False
    assert not client.ready()
    assert client.metadata("any").synthetic
    assert client.metadata().name == "resnet50"
    assert [model.inference_count for model in client.statistics()] == [7]


async def test_the_async_client_does_the_same(peer: Peer, cat: Path) -> None:
    async with AsyncClient(peer.url) as client:
        await client.wait_until_ready(WAIT_S)
        assert (await client.infer(FP32)).shape == (1, CLASSES)
        assert await client.infer([b"a", b"b"], classification=1) == [best(1)] * 2
        assert await client.classify(cat, 2) == best(2)
        assert await client.classify([cat, b"png"], 2) == [best(2)] * 2
        assert await client.classify(UINT8, 1) == [best(1)] * 2
        assert (await client.metadata()).classes == CLASSES
        assert len(await client.statistics()) == 1
        assert await client.live()
        peer.ready = False
        assert not await client.ready()


def test_tritonclient_in_the_same_process_reads_the_same(peer: Peer, client: Client) -> None:
    tensor = triton.InferInput("input", list(FP32.shape), "FP32")
    tensor.set_data_from_numpy(FP32)
    with triton.InferenceServerClient(peer.url) as theirs:
        result = theirs.infer("resnet50", [tensor])
    assert np.array_equal(result.as_numpy("output"), client.infer(FP32))
    assert peer.requests[0] == peer.requests[1]


# --- retries, deadlines, refusals ---


def test_unavailable_is_retried_even_with_a_large_tensor(peer: Peer, client: Client) -> None:
    peer.refusals.extend([Refusal(grpc.StatusCode.UNAVAILABLE, "starting")] * 2)
    assert client.infer(FP32).shape == (1, CLASSES)
    assert [r.raw_input_contents[0] for r in peer.requests] == [FP32.tobytes()] * 3


async def test_the_async_client_retries_too(peer: Peer) -> None:
    peer.refusals.extend([Refusal(grpc.StatusCode.UNAVAILABLE, "starting")] * 2)
    async with AsyncClient(peer.url) as client:
        await client.infer(FP32)
    assert peer.calls["ModelInfer"] == 3


def test_retries_end_with_the_servers_words(peer: Peer, client: Client) -> None:
    peer.refusals.extend([Refusal(grpc.StatusCode.UNAVAILABLE, "stopping")] * 9)
    with pytest.raises(Unavailable, match=r"^stopping$"):
        client.infer(FP32)
    assert peer.calls["ModelInfer"] == 5


def test_overload_is_reported_at_once_with_its_hint(peer: Peer, client: Client) -> None:
    refusal = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full", PUSHBACK_MS)
    peer.refusals.append(refusal)
    with pytest.raises(Overloaded, match="the queue is full") as caught:
        client.infer(FP32)
    assert caught.value.retry_after_ms == PUSHBACK_MS
    assert peer.calls["ModelInfer"] == 1


def test_retries_of_overload_wait_as_long_as_the_server_says(peer: Peer) -> None:
    peer.refusals.append(Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", PUSHBACK_MS))
    with Client(peer.url, retry_overloaded=True) as client:
        client.infer(FP32)
    first_s, second_s = peer.arrivals_s
    assert second_s - first_s >= 0.9 * PUSHBACK_MS / 1000


async def test_the_async_client_waits_as_long(peer: Peer) -> None:
    peer.refusals.append(Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", PUSHBACK_MS))
    async with AsyncClient(peer.url, retry_overloaded=True) as client:
        await client.infer(FP32)
    first_s, second_s = peer.arrivals_s
    assert second_s - first_s >= 0.9 * PUSHBACK_MS / 1000


async def test_retries_of_overload_end(peer: Peer) -> None:
    peer.refusals.extend([Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", 1)] * 20)
    with (
        Client(peer.url, retry_overloaded=True) as client,
        pytest.raises(Overloaded, match=r"^full$"),
    ):
        client.infer(FP32)
    assert peer.calls["ModelInfer"] == 5
    async with AsyncClient(peer.url, retry_overloaded=True) as twin:
        with pytest.raises(Overloaded, match=r"^full$"):
            await twin.infer(FP32)
    assert peer.calls["ModelInfer"] == 10


async def test_a_retry_beyond_the_deadline_is_not_waited_for(peer: Peer) -> None:
    hint_ms = int(1000 * WAIT_S)
    peer.refusals.extend([Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", hint_ms)] * 2)
    began_s = time.monotonic()
    with Client(peer.url, retry_overloaded=True) as client, pytest.raises(Overloaded):
        client.infer(FP32, deadline_s=WAIT_S / 2)
    async with AsyncClient(peer.url, retry_overloaded=True) as twin:
        with pytest.raises(Overloaded):
            await twin.infer(FP32, deadline_s=WAIT_S / 2)
    assert time.monotonic() - began_s < WAIT_S / 2
    assert peer.calls["ModelInfer"] == 2


async def test_a_server_that_wants_no_retry_gets_none(peer: Peer) -> None:
    peer.refusals.extend([Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", -1)] * 2)
    with Client(peer.url, retry_overloaded=True) as client, pytest.raises(Overloaded):
        client.infer(FP32)
    async with AsyncClient(peer.url, retry_overloaded=True) as twin:
        with pytest.raises(Overloaded):
            await twin.infer(FP32)
    assert peer.calls["ModelInfer"] == 2


async def test_closing_ends_the_wait_for_a_retry(peer: Peer) -> None:
    hint_ms = int(1000 * WAIT_S)
    refusal = Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "full", hint_ms)
    peer.refusals.append(refusal)
    began_s = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        client = Client(peer.url, retry_overloaded=True, deadline_s=2 * WAIT_S)
        call = pool.submit(client.infer, FP32)
        await asyncio.to_thread(peer.until, lambda: peer.calls["ModelInfer"] == 1)
        client.close()
        with pytest.raises(CorralClientError):
            await asyncio.wrap_future(call)
    peer.refusals.append(refusal)
    twin = AsyncClient(peer.url, retry_overloaded=True, deadline_s=2 * WAIT_S)
    task = asyncio.create_task(twin.infer(FP32))
    await asyncio.to_thread(peer.until, lambda: peer.calls["ModelInfer"] == 2)
    await twin.close()
    with pytest.raises(CorralClientError):
        await task
    assert time.monotonic() - began_s < WAIT_S


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidArgument),
        (grpc.StatusCode.NOT_FOUND, NotFound),
    ],
)
async def test_what_no_retry_can_mend_is_sent_once(
    peer: Peer, client: Client, code: grpc.StatusCode, kind: type[CorralClientError]
) -> None:
    peer.refusals.extend([Refusal(code, "no such thing")] * 2)
    with pytest.raises(kind, match=r"^no such thing$"):
        client.infer(FP32)
    async with AsyncClient(peer.url) as twin:
        with pytest.raises(kind, match=r"^no such thing$"):
            await twin.infer(FP32)
    assert peer.calls["ModelInfer"] == 2


def test_a_request_above_the_servers_limit_is_an_invalid_argument(client: Client) -> None:
    with pytest.raises(InvalidArgument, match="too large"):
        client.infer(bytes(3 * 2**20))


class Counted:
    """Passes connections on to a server, and counts the bytes that go there."""

    def __init__(self, port: int) -> None:
        self.sent = 0
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=pair, daemon=True).start()

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        to_server = target.getpeername()[1] == self._port
        with contextlib.suppress(OSError):
            while chunk := source.recv(2**16):
                self.sent += len(chunk) if to_server else 0
                target.sendall(chunk)
            target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._listener.close()


async def test_a_request_above_the_servers_limit_is_sent_once(peer: Peer) -> None:
    size = 3 * 2**20
    counted = Counted(peer.port)
    with Client(counted.url, retry_overloaded=True) as client:
        with pytest.raises(InvalidArgument, match="too large"):
            client.infer(bytes(size))
        # A small one afterwards, over the same connections: all that was sent has arrived.
        for _ in range(4):
            client.infer(b"jpeg")
    assert counted.sent < 1.5 * size
    sent = counted.sent
    async with AsyncClient(counted.url, retry_overloaded=True) as twin:
        with pytest.raises(InvalidArgument, match="too large"):
            await twin.infer(bytes(size))
    assert counted.sent - sent < 1.5 * size
    counted.close()


def test_an_answer_after_the_deadline_is_not_waited_for(peer: Peer, client: Client) -> None:
    peer.hold = True
    with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.5 s"):
        client.infer(FP32, deadline_s=0.5)
    assert peer.cancelled.wait(WAIT_S)
    assert peer.remaining_s[0] < 1


def test_every_call_has_a_deadline(peer: Peer) -> None:
    with Client(peer.url) as usual, Client(peer.url, deadline_s=7) as short:
        usual.infer(FP32)
        short.infer(FP32)
    assert 20 < peer.remaining_s[0] < 31
    assert peer.remaining_s[1] < 8


async def test_cancelling_a_task_cancels_its_call_in_the_server(peer: Peer) -> None:
    peer.hold = True
    async with AsyncClient(peer.url) as client:
        task = asyncio.create_task(client.infer(FP32))
        await asyncio.to_thread(peer.until, lambda: peer.calls["ModelInfer"] == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(peer.cancelled.wait, WAIT_S)
        peer.hold = False
        assert (await client.infer(FP32)).shape == (1, CLASSES)


# --- connections ---


def test_calls_go_over_several_connections_in_turn(peer: Peer) -> None:
    with Client(peer.url) as client:
        for _ in range(8):
            client.infer(FP32)
        assert len(peer.peers) == 4
    peer.peers.clear()
    with Client(peer.url, connections=1) as client:
        for _ in range(3):
            client.infer(FP32)
        assert len(peer.peers) == 1


async def test_the_async_client_has_as_many(peer: Peer) -> None:
    async with AsyncClient(peer.url, connections=3) as client:
        await asyncio.gather(*(client.infer(FP32) for _ in range(9)))
    assert len(peer.peers) == 3


def test_threads_may_share_a_client(peer: Peer, client: Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.classify(b"jpeg", 1), range(40)))
    assert answers == [best(1)] * 40
    assert len(peer.peers) == 4


def test_nobody_there(free_port: int) -> None:
    with Client(f"127.0.0.1:{free_port}") as client:
        assert not client.ready()
        assert not client.live()
        with pytest.raises(Unavailable, match="Connection refused"):
            client.infer(FP32)


def test_waiting_for_a_server_that_comes_later(free_port: int) -> None:
    peer = Peer()
    peer.ready = False
    with Client(f"127.0.0.1:{free_port}") as client, ThreadPoolExecutor(1) as pool:
        assert not client.ready()
        waiting = pool.submit(client.wait_until_ready, WAIT_S)
        peer.start(free_port)
        try:
            peer.until(lambda: peer.calls["ServerReady"] >= 2)
            assert not waiting.done()
            peer.ready = True
            waiting.result(WAIT_S)
            assert peer.port == free_port
        finally:
            peer.stop()


async def test_waiting_ends(peer: Peer) -> None:
    peer.ready = False
    with Client(peer.url) as client, pytest.raises(DeadlineExceeded, match="still starting"):
        client.wait_until_ready(0.2)
    async with AsyncClient(peer.url) as twin:
        with pytest.raises(DeadlineExceeded, match="still starting"):
            await twin.wait_until_ready(0.2)


def test_a_closed_client_says_so(peer: Peer, client: Client) -> None:
    client.close()
    with pytest.raises(CorralClientError, match="the client is closed"):
        client.infer(FP32)
    assert peer.calls["ModelInfer"] == 0


def test_closing_ends_what_is_under_way(peer: Peer, client: Client) -> None:
    peer.hold = True
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.infer, FP32)
        peer.until(lambda: peer.calls["ModelInfer"] == 1)
        client.close()
        with pytest.raises(CorralClientError):
            call.result(WAIT_S)


async def test_closing_the_async_client_does_the_same(peer: Peer) -> None:
    peer.hold = True
    client = AsyncClient(peer.url)
    task = asyncio.create_task(client.infer(FP32))
    await asyncio.to_thread(peer.until, lambda: peer.calls["ModelInfer"] == 1)
    await client.close()
    with pytest.raises(CorralClientError, match="closed"):
        await task
    with pytest.raises(CorralClientError, match="closed"):
        await client.live()


# --- the command ---


@dataclasses.dataclass
class Done:
    code: Any
    out: str
    err: str


def spawn(*words: str | Path) -> Done:
    """The installed command in a process of its own."""
    done = subprocess.run(
        [COMMAND, *map(str, words)], capture_output=True, text=True, timeout=60, check=False
    )
    return Done(done.returncode, done.stdout, done.stderr)


def command(*words: str | Path) -> Done:
    """The same in this process, which saves the interpreter's start."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.run([str(word) for word in words])
    return Done(code, out.getvalue(), err.getvalue())


def test_the_command_classifies_and_warns_of_synthetic_weights(peer: Peer, cat: Path) -> None:
    done = spawn("classify", cat, "-k", "2", "--url", peer.url)
    assert done.code == 0
    assert done.out.splitlines() == [
        str(cat),
        "     63.2%     0  class 0",
        "     23.3%     1  class 1",
    ]
    # The server's own model, not our default.
    assert "toy runs on synthetic weights" in done.err
    assert done.err.count("\n") == 1


def test_the_command_shows_as_many_labels_as_there_are(peer: Peer, cat: Path) -> None:
    done = command("classify", cat, "-k", "50", "--json", "--url", peer.url)
    assert done.code == 0, done.err
    shown = json.loads(done.out)["labels"]
    assert [label["index"] for label in shown] == list(range(CLASSES))
    assert sum(label["probability"] for label in shown) == pytest.approx(1)


def test_a_bad_picture_does_not_cost_the_others_their_labels(peer: Peer, cat: Path) -> None:
    peer.synthetic = False
    broken = cat.with_name("broken.jpg")
    broken.write_bytes(b"broken")
    refused = command("classify", broken, cat, "--json", "--model", "m", "--url", peer.url)
    assert refused.code == 1
    assert refused.err == f"corral-client: {broken}: not an image\n"
    (line,) = refused.out.splitlines()
    shown = json.loads(line)
    assert shown["picture"] == str(cat)
    assert [label["index"] for label in shown["labels"]] == [0, 1, 2, 3, 4]
    unreadable = command("classify", cat.with_name("none.jpg"), cat, "--url", peer.url)
    assert unreadable.code == 2
    assert "none.jpg: No such file" in unreadable.err
    assert str(cat) in unreadable.out


def test_the_command_infers(peer: Peer, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", FP32[0])
    done = command("infer", tmp_path / "one.npy", "--url", peer.url)
    assert done.code == 0
    assert "input   float32 [1,3,224,224]" in done.out
    assert "top-1 is index 0" in done.out
    done = command("infer", "--random", "uint8", "--items", "2", "--url", peer.url)
    assert done.code == 0
    assert "input   uint8 [2,16,16,3]" in done.out
    np.save(tmp_path / "wide.npy", np.zeros(3))
    (tmp_path / "text.npy").write_text("no array")
    for name, says in (("wide", "float64"), ("text", "numpy.save"), ("none", "No such file")):
        done = command("infer", tmp_path / f"{name}.npy", "--url", peer.url)
        assert done.code == 2
        assert says in done.err
        assert done.err.count("\n") == 1


def test_the_other_commands(peer: Peer) -> None:
    done = command("metadata", "--json", "--url", peer.url)
    assert json.loads(done.out)["name"] == "toy"
    done = command("statistics", "--url", peer.url)
    assert done.out.splitlines()[1].split()[:2] == ["toy", "7"]
    done = command("wait", "--url", peer.url)
    assert (done.code, done.out) == (0, f"{peer.url} is ready\n")
    peer.ready = False
    done = command("wait", "--timeout-s", "0.2", "--url", peer.url)
    assert done.code == 1
    assert "still starting" in done.err


def test_the_command_without_a_server_is_one_line(free_port: int, cat: Path) -> None:
    done = command("classify", cat, "--url", f"127.0.0.1:{free_port}")
    assert done.code == 1
    assert done.out == ""
    assert f"no server at 127.0.0.1:{free_port}" in done.err
    assert done.err.count("\n") == 1


def test_the_command_without_words_is_one_line() -> None:
    done = spawn()
    assert done.code == 2
    assert "see corral-client --help" in done.err
    assert done.err.count("\n") == 1
    assert spawn("--version").out.startswith("corral-client ")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["metadata", "--url", "::1:8001"], "in brackets"),
        (["wait", "--url", ":8001"], "has no host"),
        (["wait", "--ca", "{junk}"], "{junk}: no certificates"),
        (["wait", "--http", "--ca", "{junk}"], "{junk}: no certificates"),
        (["wait", "--cert", "{junk}", "--key", "{junk}"], "{junk}: no certificate"),
        (["wait", "--token-file", "/dev/zero"], "/dev/zero: more than"),
        (["wait", "--http", "--url", "\udcff:1"], "no name of a host"),
    ],
)
def test_what_cannot_be_is_refused_before_anybody_is_asked(
    words: list[str], says: str, tmp_path: Path
) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    done = command(*(word.format(junk=junk) for word in words))
    assert done.code == 2
    assert says.format(junk=junk) in done.err
    assert done.err.count("\n") == 1


def test_more_than_a_message_holds_is_refused_with_what_it_does(peer: Peer) -> None:
    done = command("infer", "--random", "fp32", "--items", "100000000", "--url", peer.url)
    assert done.code == 2
    assert "--items 100000000: " in done.err
    assert "at most " in done.err


@pytest.mark.parametrize("deadline_s", [1e9, 1e12, 1e300])
def test_a_deadline_beyond_every_clock_is_as_none(peer: Peer, deadline_s: float) -> None:
    done = command("metadata", "--url", peer.url, "--deadline-s", f"{deadline_s}")
    assert done.code == 0, done.err


def test_urls_are_addresses(peer: Peer) -> None:
    for scheme in ("http://", "grpc://"):
        with Client(f"{scheme}{peer.url}") as client:
            assert client.ready()


def test_a_refusal_has_no_warning_of_labels_before_it(peer: Peer, tmp_path: Path) -> None:
    done = command("classify", tmp_path / "none.jpg", "--url", peer.url)
    assert done.code == 2
    assert done.err == f"corral-client: {tmp_path / 'none.jpg'}: No such file or directory\n"
