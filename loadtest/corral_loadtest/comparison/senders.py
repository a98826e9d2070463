"""One request to a server, over whichever protocol it speaks; bodies are made beforehand.

Both senders are as thin as they can be, because they share the cores with what is measured.
"""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any, Protocol

import grpc
import numpy as np
from numpy.typing import NDArray

from corral_client.addresses import proxy_options
from corral_loadtest.comparison.peers import Peer
from corral_protos import open_inference_pb2 as pb

_METHOD = "/inference.GRPCInferenceService/ModelInfer"
OK = "OK"


class Sender(Protocol):
    """Sends the one request that it was made with."""

    async def send(self) -> tuple[str, bytes]:
        """One request: "OK" or what went wrong, and the answer's body."""
        ...

    def logits(self, answer: bytes) -> NDArray[np.float32]:
        """FP32 [1000] from an answer's body."""
        ...

    async def close(self) -> None:
        """Ends its connections."""
        ...


class GrpcSender:
    """ModelInfer over one connection, on bytes.

    Args:
        port: of 127.0.0.1.
        item: FP32 [3,224,224].
    """

    def __init__(self, port: int, item: NDArray[np.float32]) -> None:
        tensor = pb.ModelInferRequest.InferInputTensor(
            name="input", datatype="FP32", shape=(1, *item.shape)
        )
        self._message = pb.ModelInferRequest(
            model_name="resnet50", inputs=[tensor], raw_input_contents=[item.tobytes()]
        ).SerializeToString()
        address = f"127.0.0.1:{port}"
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_send_message_length", -1),
            *proxy_options(address),
        ]
        self._channel = grpc.aio.insecure_channel(address, options=options)
        self._call = self._channel.unary_unary(_METHOD)

    async def send(self) -> tuple[str, bytes]:
        """One request: "OK" or gRPC's status, and the message."""
        try:
            return OK, await self._call(self._message)
        except grpc.RpcError as error:
            return error.code().name, b""

    def logits(self, answer: bytes) -> NDArray[np.float32]:
        """FP32 [1000] from a ModelInferResponse, raw or typed."""
        message = pb.ModelInferResponse.FromString(answer)
        if message.raw_output_contents:
            return np.frombuffer(message.raw_output_contents[0], "<f4")
        return np.array(message.outputs[0].contents.fp32_contents, np.float32)

    async def close(self) -> None:
        """Ends the connection."""
        await self._channel.close()


class HttpSender:
    """POST over HTTP/1.1; as many kept connections as there are requests in flight.

    Args:
        port: of 127.0.0.1.
        peer: its path and body.
        item: FP32 [3,224,224].
    """

    def __init__(self, port: int, peer: Peer, item: NDArray[np.float32]) -> None:
        self._port = port
        self._is_raw = peer.body == "raw"
        body, kind = item.tobytes(), "application/octet-stream"
        if not self._is_raw:
            text = base64.b64encode(body).decode()
            body, kind = json.dumps({"tensor": text}).encode(), "application/json"
        head = (
            f"POST {peer.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self._request = head.encode() + body
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def send(self) -> tuple[str, bytes]:
        """One request: "OK" or "HTTP status", and the body."""
        try:
            pair = self._free.pop() if self._free else await self._connect()
            reader, writer = pair
            try:
                writer.write(self._request)
                await writer.drain()
                status, body = await _answer(reader)
            # A cancelled request, too, leaves half an answer on the connection.
            except BaseException:
                writer.close()
                raise
        except (OSError, EOFError, ValueError) as error:
            return type(error).__name__, b""
        self._free.append(pair)
        return (OK if status == 200 else f"HTTP {status}"), body

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self._port, limit=2**20)

    def logits(self, answer: bytes) -> NDArray[np.float32]:
        """FP32 [1000] from a body."""
        if not self._is_raw:
            answer = base64.b64decode(json.loads(answer)["logits"])
        return np.frombuffer(answer, "<f4")

    async def close(self) -> None:
        """Ends the connections."""
        for _, writer in self._free:
            writer.close()


async def _answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Status and body of one answer.

    Raises:
        ValueError: it has no length.
    """
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.split("\r\n")
    headers = {name.strip().lower(): value for name, _, value in (x.partition(":") for x in lines)}
    if "content-length" not in headers:
        raise ValueError("an answer without Content-Length")
    return int(first.split()[1]), await reader.readexactly(int(headers["content-length"]))


def make(port: int, peer: Peer | None, item: NDArray[np.float32]) -> Any:
    """The sender for a peer; None is a server of the Open Inference Protocol."""
    if peer is None or peer.path is None:
        return GrpcSender(port, item)
    return HttpSender(port, peer, item)
