"""The baseline server: a grpc.aio server that finds a request's tensor, copies it once and answers.

It checks nothing, queues nothing and computes nothing: what a Python front can carry at most on
this machine, to measure every other server against.
``python -m corral_loadtest.servers.baseline PORT [FP32|UINT8]`` starts it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import grpc

from corral_protos import open_inference_pb2 as pb

_MAX_MESSAGE_BYTES = 64 * 2**20
_CLASSES = 1000


class Baseline:
    """Answers every ModelInfer with zeros; speaks just enough for perf_analyzer.

    Args:
        name: the model's.
        datatype: "FP32" or "UINT8".
        shape: of one item.
    """

    def __init__(self, name: str, datatype: str, shape: tuple[int, ...]) -> None:
        self._region = bytearray(_MAX_MESSAGE_BYTES)
        self._count = 0
        tensor = pb.ModelMetadataResponse.TensorMetadata
        self._metadata = pb.ModelMetadataResponse(
            name=name,
            versions=["1"],
            platform="baseline",
            inputs=[tensor(name="input", datatype=datatype, shape=(-1, *shape))],
            outputs=[tensor(name="output", datatype="FP32", shape=(-1, _CLASSES))],
        )
        kind = pb.TYPE_FP32 if datatype == "FP32" else pb.TYPE_UINT8
        self._config = pb.ModelConfigResponse(
            config=pb.ModelConfig(
                name=name,
                max_batch_size=32,
                input=[pb.ModelInput(name="input", data_type=kind, dims=shape)],
                output=[pb.ModelOutput(name="output", data_type=pb.TYPE_FP32, dims=(_CLASSES,))],
                dynamic_batching=pb.ModelDynamicBatching(),
            )
        )
        output = pb.ModelInferResponse.InferOutputTensor(
            name="output", datatype="FP32", shape=(1, _CLASSES)
        )
        self._answer = pb.ModelInferResponse(
            model_name=name, outputs=[output], raw_output_contents=[bytes(4 * _CLASSES)]
        ).SerializeToString()

    @classmethod
    def of(cls, datatype: str) -> Baseline:
        """That of ResNet50's shapes.

        Args:
            datatype: "FP32" or "UINT8".
        """
        if datatype == "FP32":
            return cls("resnet50", datatype, (3, 224, 224))
        return cls("resnet50_uint8", datatype, (224, 224, 3))

    async def infer(self, message: bytes, _context: Any) -> bytes:
        """Copies the tensor, which is the message's tail, once."""
        at = _raw_start(message)
        self._region[: len(message) - at] = memoryview(message)[at:]
        return self._answered()

    def _answered(self) -> bytes:
        self._count += 1
        return self._answer

    def answers(self) -> dict[str, Callable[[], bytes]]:
        """What each method answers, whatever it is asked, by name."""
        pages: dict[str, Callable[[], Any]] = {
            "ServerLive": lambda: pb.ServerLiveResponse(live=True),
            "ServerReady": lambda: pb.ServerReadyResponse(ready=True),
            "ModelReady": lambda: pb.ModelReadyResponse(ready=True),
            "ServerMetadata": lambda: pb.ServerMetadataResponse(
                name="baseline", version="1", extensions=["statistics"]
            ),
            "ModelMetadata": lambda: self._metadata,
            "ModelConfig": lambda: self._config,
            "ModelStatistics": self._statistics,
        }

        def encoded(page: Callable[[], Any]) -> Callable[[], bytes]:
            return lambda: page().SerializeToString()

        return {name: encoded(page) for name, page in pages.items()} | {
            "ModelInfer": self._answered
        }

    def handlers(self) -> dict[str, Any]:
        """The methods by name."""

        def handler(answer: Callable[[], bytes]) -> Any:
            async def handle(_message: bytes, _context: Any) -> bytes:
                return answer()

            return handle

        found = {name: handler(answer) for name, answer in self.answers().items()}
        found["ModelInfer"] = self.infer
        return {name: grpc.unary_unary_rpc_method_handler(h) for name, h in found.items()}

    def _statistics(self) -> pb.ModelStatisticsResponse:
        duration = pb.StatisticDuration(count=self._count)
        return pb.ModelStatisticsResponse(
            model_stats=[
                pb.ModelStatistics(
                    name=self._metadata.name,
                    version="1",
                    inference_count=self._count,
                    execution_count=self._count,
                    inference_stats=pb.InferStatistics(success=duration, queue=duration),
                )
            ]
        )


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _raw_start(message: bytes) -> int:
    """Where raw_input_contents (field 7) begins; every field before it is length-delimited."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        length, at = _varint(message, at)
        if key == (7 << 3 | 2):
            return at
        at += length
    return at


async def serve(port: int, datatype: str) -> None:
    """Serves until it is killed."""
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
            ("grpc.so_reuseport", 0),
        ]
    )
    server.add_generic_rpc_handlers(
        (
            grpc.method_handlers_generic_handler(
                "inference.GRPCInferenceService", Baseline.of(datatype).handlers()
            ),
        )
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "FP32"))
