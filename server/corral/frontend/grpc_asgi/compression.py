"""Messages packed by gzip or deflate, bounded while they are unpacked."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from corral.frontend.grpc_asgi.status import Code, GrpcError, MessageTooLarge
from corral.inflate import Damaged, TooMuch, inflate, is_never_hopeless

IDENTITY = b"identity"
#: what zlib calls the formats, by gRPC's names for them
_WINDOW_BITS = {b"gzip": 31, b"deflate": 15}
#: the answer to who uses another one
ACCEPTED = b"identity,deflate,gzip"
#: One message at a time: a few bytes may take as long to unpack as the largest message.
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="unpack")
#: the same for answers, which wait for no request's packing
_PACKER = ThreadPoolExecutor(1, thread_name_prefix="pack")
#: what is shorter is packed at once
_QUICK_BYTES = 64 * 2**10
#: answers are packed fast rather than small
_LEVEL = 1


def is_known(algorithm: bytes) -> bool:
    """Whether messages packed this way can be read."""
    return algorithm == IDENTITY or algorithm in _WINDOW_BITS


async def unpack(
    algorithm: bytes,
    pieces: Iterable[bytes | memoryview],
    most_bytes: int,
    too_large: str,
    is_hopeless: Callable[[bytes], bool] = is_never_hopeless,
) -> bytes:
    """A message as it was before it was packed; unpacked in a thread, while other calls go on.

    Args:
        algorithm: gRPC's name.
        pieces: the packed message.
        most_bytes: what it may hold once it is unpacked.
        too_large: says so to the client.
        is_hopeless: see ``inflate``.

    Raises:
        MessageTooLarge: it holds more, of which no more is unpacked.
        GrpcError: it is not packed that way.
    """
    bits = _WINDOW_BITS.get(algorithm)
    if bits is None:
        raise GrpcError(Code.INTERNAL, "the message is marked as packed, and no way is named")
    loop = asyncio.get_running_loop()
    try:
        return await loop.run_in_executor(_THREAD, inflate, pieces, bits, most_bytes, is_hopeless)
    except TooMuch:
        raise MessageTooLarge(too_large) from None
    except Damaged:
        name = algorithm.decode()
        raise GrpcError(Code.INTERNAL, f"the message is no whole {name} stream") from None


async def pack(algorithm: bytes, message: bytes) -> bytes:
    """A message, packed; in a thread where it is long, while other calls go on."""
    if len(message) <= _QUICK_BYTES:
        return _pack(algorithm, message)
    return await asyncio.get_running_loop().run_in_executor(_PACKER, _pack, algorithm, message)


def _pack(algorithm: bytes, message: bytes) -> bytes:
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _WINDOW_BITS[algorithm])
    return packer.compress(message) + packer.flush()


def answer_algorithm(wanted: bytes, accepted: bytes) -> bytes:
    """How the answers of a call are packed: as its requests are, where the client takes that."""
    if wanted not in _WINDOW_BITS:
        return IDENTITY
    taken = {name.strip() for name in accepted.split(b",")}
    return wanted if wanted in taken else IDENTITY
