"""What the frontend does with memory under load: buffers of messages stay mapped."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc
import numpy as np
from support.running_server import StartServer

from corral_protos import open_inference_pb2 as pb

INFER = "/inference.GRPCInferenceService/ModelInfer"
STRETCHES = 5
ROUNDS = 10
CLIENTS = 17


def minor_faults(pid: int) -> int:
    """Pages that the process has faulted in without reading them from a disk."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[7])


async def send_rounds(port: int, rounds: int) -> None:
    """``rounds`` times as many FP32 requests at once as there are clients."""
    tensor = pb.ModelInferRequest.InferInputTensor(
        name="input", datatype="FP32", shape=(1, 3, 224, 224)
    )
    pixels = np.zeros((1, 3, 224, 224), np.float32).tobytes()
    message = pb.ModelInferRequest(
        model_name="resnet50", inputs=[tensor], raw_input_contents=[pixels]
    ).SerializeToString()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        infer = channel.unary_unary(INFER)
        for _ in range(rounds):
            await asyncio.gather(*(infer(message) for _ in range(CLIENTS)))


def test_messages_fault_no_new_pages_in(server: StartServer) -> None:
    with server("--workers", "1") as s:
        [frontend] = s.frontends()
        faults_per_request = []
        for _ in range(STRETCHES):
            before = minor_faults(frontend)
            asyncio.run(send_rounds(s.port, ROUNDS))
            faults_per_request.append((minor_faults(frontend) - before) / (ROUNDS * CLIENTS))
        # A message has 147 pages of tensor; the first stretches map what the later ones use.
        assert min(faults_per_request) < 10
