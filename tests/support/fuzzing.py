"""Mutated messages and pictures, by the thousand, for a server and for its readers: R16.

Everything follows from a seed, so that what was found can be found again. ``make soak`` and the
tests run the same code; tests/fuzz/ lets atheris look where it finds new paths.
"""

from __future__ import annotations

import asyncio
import dataclasses
import io
import random
import struct
from collections import Counter
from collections.abc import Iterator

import grpc
from PIL import Image

from corral.models.pictures import draw_pictures
from corral_protos import open_inference_pb2 as pb
from support import requests_by_hand as by_hand
from support.requests_by_hand import SERVICE, infer, pictures, tensor, wanted, with_parameter

#: what a message may be answered with, however broken; UNKNOWN and INTERNAL are not among them
EXPECTED = frozenset(
    {"OK", "INVALID_ARGUMENT", "NOT_FOUND", "RESOURCE_EXHAUSTED", "DEADLINE_EXCEEDED"}
    | {"UNIMPLEMENTED"}
)
#: values at which arithmetic goes wrong
_EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_METHODS = ("ModelInfer",) * 12 + ("ModelMetadata", "ModelConfig", "ModelReady", "ModelStatistics")
_MAX_SPLICE_BYTES = 64
#: fields that are short to send and long to hold
_TINY_FIELDS = (b"\x3a\x00", b"\x2a\x00", b"\x22\x00", b"\x1a\x00", b"\x08\x01", b"\x42\x00")
_MOST_REPEATS = 500_000


def seeds() -> list[bytes]:
    """Messages that are right, of every kind, kept small."""
    drawn = picture_seeds()
    return [
        infer(),
        infer(b"", inputs=[tensor(shape=(0, 224, 224, 3))]),
        infer(outputs=wanted("output"), id="x" * 20, model_version="1"),
        with_parameter(infer(b"\1\2\3"), classification=5, timeout=10**6),
        pb.ModelMetadataRequest(name="resnet50", version="1").SerializeToString(),
        *(pictures(picture) for picture in drawn),
        pictures(*drawn[:2], model_name="resnet50_image"),
    ]


def picture_seeds() -> list[bytes]:
    """Small pictures of every kind that is taken."""
    drawing = Image.fromarray(draw_pictures(1, 7, 256)[0]).resize((40, 30))
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    drawing.save(stream, "JPEG", progressive=True, exif=exif.tobytes())
    return [
        by_hand.encode(drawing, "JPEG"),
        stream.getvalue(),
        by_hand.encode(drawing.convert("CMYK"), "JPEG"),
        by_hand.encode(drawing),
        by_hand.encode(drawing.convert("P"), "PNG", transparency=3),
        by_hand.encode(drawing.convert("LA"), "PNG"),
        by_hand.png(4, 4, 16, 0, (b"tRNS", b"\0\0"), (b"IDAT", b"")),
    ]


def mutate(random_: random.Random, data: bytes) -> bytes:
    """The data with one to five wounds: bytes, edge values, cuts, insertions, repeats, swaps."""
    found = bytearray(data)
    for _ in range(random_.randint(1, 5)):
        # The head and the tail matter more than a tensor's middle.
        at = min(int(random_.expovariate(1 / 60)), len(found))
        if random_.random() < 0.3:
            at = random_.randint(0, len(found))
        kind = random_.randrange(7)
        if kind == 0 and at < len(found):
            found[at] = random_.randrange(256)
        elif kind == 1 and at < len(found):
            found[at] ^= 1 << random_.randrange(8)
        elif kind == 2:
            order = random_.choice("<>")
            size, code = random_.choice(((1, "B"), (2, "H"), (4, "I"), (8, "Q")))
            value = random_.choice(_EDGES) & (256**size - 1)
            found[at : at + size] = struct.pack(order + code, value)
        elif kind == 3:
            del found[at : at + random_.randint(1, _MAX_SPLICE_BYTES)]
        elif kind == 4:
            found[at:at] = random_.randbytes(random_.randint(1, 12))
        elif kind == 5:
            start = random_.randint(0, len(found))
            found[at:at] = found[start : start + random_.randint(1, _MAX_SPLICE_BYTES)]
        else:
            del found[random_.randint(0, len(found)) :]
    return bytes(found)


def repeated(random_: random.Random) -> bytes:
    """A tiny field over and over: of the request, or of its input's typed contents."""
    fields = random_.choice(_TINY_FIELDS) * random_.randint(1, _MOST_REPEATS)
    if random_.random() < 0.5:
        return infer() + fields
    return by_hand.with_contents(fields, random_.choice(("UINT8", "BYTES")))


def fuzzed(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """(method, message) pairs: wounded messages, wounded pictures, repetition, mere noise."""
    random_ = random.Random(seed)
    good, drawn = seeds(), picture_seeds()
    for _ in range(count):
        method, chance = random_.choice(_METHODS), random_.random()
        if chance < 0.02:
            yield method, random_.randbytes(random_.randint(0, 300))
        elif chance < 0.025:
            yield "ModelInfer", repeated(random_)
        elif chance < 0.4:
            yield "ModelInfer", pictures(mutate(random_, random_.choice(drawn)))
        else:
            yield method, mutate(random_, random_.choice(good))


@dataclasses.dataclass
class Fuzzed:
    """What the server made of it.

    Attributes:
        statuses: how many messages got which.
        strange: messages that got a status they should not, or one that says too much.
    """

    statuses: Counter[str] = dataclasses.field(default_factory=Counter)
    strange: list[str] = dataclasses.field(default_factory=list)


def fuzz_server(port: int, pids: list[int], *, seed: int, count: int, clients: int = 8) -> Fuzzed:
    """Sends so many fuzzed messages to a server, and looks at every status.

    Args:
        port: of the server.
        pids: that no message may name.
        seed: see ``fuzzed``.
        count: of messages.
        clients: that send at a time.
    """
    found = Fuzzed()

    async def send_all() -> None:
        messages = fuzzed(seed, count)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            calls = {name: channel.unary_unary(SERVICE + name) for name in set(_METHODS)}

            async def client() -> None:
                for method, message in messages:
                    status, details = "OK", ""
                    try:
                        await calls[method](message, timeout=30)
                    except grpc.aio.AioRpcError as error:
                        status, details = error.code().name, error.details() or ""
                    found.statuses[status] += 1
                    leak = by_hand.leak(details, pids, message)
                    if (status not in EXPECTED or leak) and len(found.strange) < 20:
                        start = message[:300].hex()
                        found.strange.append(f"{method} {status} {details!r} {leak} {start}")

            await asyncio.gather(*(client() for _ in range(clients)))

    asyncio.run(send_all())
    return found
