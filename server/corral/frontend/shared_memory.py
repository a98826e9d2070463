"""Triton's protocol extension for shared memory, as messages in and messages out.

Of CUDA's memory there is never any: the two calls with which clients clear up say so.
"""

from __future__ import annotations

from collections.abc import Callable

from google.protobuf.message import Message

from corral.protocol.metadata import parse
from corral.protocol.shared_memory import ClientMemory
from corral_protos import open_inference_pb2 as pb


def make(memory: ClientMemory) -> dict[str, Callable[[bytes], Message]]:
    """The extension's calls by name; they raise RequestError."""

    def status(message: bytes) -> Message:
        request = parse(pb.SystemSharedMemoryStatusRequest, message)
        answer = pb.SystemSharedMemoryStatusResponse()
        for region in memory.status(request.name):
            found = answer.regions[region.name]
            found.name, found.key = region.name, region.key
            found.offset, found.byte_size = region.offset, region.byte_size
        return answer

    def register(message: bytes) -> Message:
        request = parse(pb.SystemSharedMemoryRegisterRequest, message)
        memory.register(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    def unregister(message: bytes) -> Message:
        memory.unregister(parse(pb.SystemSharedMemoryUnregisterRequest, message).name)
        return pb.SystemSharedMemoryUnregisterResponse()

    return {
        "SystemSharedMemoryStatus": status,
        "SystemSharedMemoryRegister": register,
        "SystemSharedMemoryUnregister": unregister,
        "CudaSharedMemoryStatus": lambda _: pb.CudaSharedMemoryStatusResponse(),
        "CudaSharedMemoryUnregister": lambda _: pb.CudaSharedMemoryUnregisterResponse(),
    }
