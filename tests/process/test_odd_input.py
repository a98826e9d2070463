"""Odd input that is right: answered, and seen as it looks."""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from support import requests_by_hand as by_hand
from support.process_use import peak_growth_bytes
from support.requests_by_hand import INFER, fp32, pictures, with_parameter
from support.running_server import Server, running
from support.serving_null import null_server_command

from corral_protos import open_inference_pb2 as pb

MIB = 2**20


@pytest.fixture(scope="module")
def null() -> Iterator[Server]:
    with running(null_server_command()) as server:
        yield server


@pytest.fixture(scope="module")
def channel(null: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{null.port}") as found:
        yield found


def output(channel: grpc.Channel, message: bytes) -> np.ndarray[Any, Any]:
    """FP32 [n,1000]: first element, last element, datatype, zeros."""
    answer = pb.ModelInferResponse.FromString(channel.unary_unary(INFER)(message, timeout=20))
    raw = answer.raw_output_contents[0]
    return np.frombuffer(raw, np.float32).reshape(tuple(answer.outputs[0].shape))


def test_nan_and_inf_are_answered_and_touch_nobody_else(channel: grpc.Channel) -> None:
    values = np.zeros((5, 3, 224, 224), np.float32)
    for item, value in zip(values, (1.5, math.nan, math.inf, -math.inf, 2.5), strict=True):
        item[:] = value
    found = output(channel, fp32(values))
    alone = [output(channel, fp32(values[n : n + 1])) for n in range(5)]
    assert found.tobytes() == b"".join(each.tobytes() for each in alone)
    assert np.isnan(found[1, 0])
    assert found[2, 0] == math.inf
    top = with_parameter(fp32(values), classification=3)
    answer = pb.ModelInferResponse.FromString(channel.unary_unary(INFER)(top, timeout=10))
    assert tuple(answer.outputs[0].shape) == (5, 3)


def corners(channel: grpc.Channel, encoded: bytes) -> tuple[float, float]:
    """What the engine saw: red at the top left, blue at the bottom right."""
    found = output(channel, pictures(encoded))
    assert found[0, 2] == 2
    return float(found[0, 0]), float(found[0, 1])


def quarters() -> Image.Image:
    """A picture whose four quarters differ, so that every way of turning it shows."""
    pixels = np.zeros((300, 300, 3), np.uint8)
    pixels[:150, :150] = (200, 60, 40)
    pixels[:150, 150:] = (20, 120, 230)
    pixels[150:, :150] = (90, 10, 160)
    pixels[150:, 150:] = (130, 210, 80)
    return Image.fromarray(pixels)


def palette(transparent: bytes) -> bytes:
    """A PNG with a palette of red and grey, each with its alpha, in stripes."""
    row = b"\0" + b"\0" * 32 + b"\1" * 32
    return by_hand.png(
        64, 64, 8, 3,
        (b"PLTE", bytes([200, 0, 0, 90, 90, 90])), (b"tRNS", transparent),
        (b"IDAT", zlib.compress(row * 64)),
    )  # fmt: skip


def turned(orientation: int, form: str) -> bytes:
    """The quarters as a camera stores them that was held like that."""
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}[orientation]
    stored = quarters() if undo is None else quarters().transpose(Image.Transpose(undo))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return by_hand.encode(stored, form, exif=exif.tobytes())


def deep(colour: int) -> bytes:
    """A 16-bit PNG of one colour: 0xC8xx in every sample."""
    samples = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    pixel = b"\xc8\x37" * samples if colour < 4 else b"\xc8\x37" * (samples - 1) + b"\xff\xff"
    rows = (b"\0" + pixel * 32) * 32
    return by_hand.png(32, 32, 16, colour, (b"IDAT", zlib.compress(rows)))


def one_pixel(form: str) -> bytes:
    return by_hand.encode(Image.new("RGB", (1, 1), (9, 8, 7)), form)


#: what is sent, what the engine must see in the corners, give or take
PICTURES: dict[str, tuple[bytes, tuple[int, int], int]] = {
    "1 x 1 PNG": (one_pixel("PNG"), (9, 7), 0),
    "1 x 1 JPEG": (one_pixel("JPEG"), (9, 7), 4),
    "1 x 3000": (by_hand.encode(Image.new("RGB", (1, 3000), (9, 8, 7))), (9, 7), 0),
    "CMYK": (by_hand.encode(quarters().convert("CMYK"), "JPEG", quality=95), (200, 80), 8),
    "grey": (by_hand.encode(Image.new("L", (64, 64), 77), "JPEG"), (77, 77), 2),
    **{f"16 bits, colour type {kind}": (deep(kind), (200, 200), 0) for kind in (0, 2, 4, 6)},
    "palette": (palette(b"\xff\xff"), (200, 90), 0),
    "palette, left transparent": (palette(b"\0\xff"), (255, 90), 0),
    "palette, right transparent": (palette(b"\xff\0"), (200, 255), 0),
    **{
        f"EXIF orientation {orientation}, {form}": (turned(orientation, form), (200, 80), 6)
        for orientation in range(1, 9)
        for form in ("JPEG", "PNG")
    },
}


@pytest.mark.parametrize("name", PICTURES)
def test_odd_pictures_are_seen_as_they_look(name: str, channel: grpc.Channel) -> None:
    encoded, expected, tolerance = PICTURES[name]
    assert corners(channel, encoded) == pytest.approx(expected, abs=tolerance)


def test_metadata_bombs_in_a_picture_are_not_unpacked(null: Server, channel: grpc.Channel) -> None:
    text = b"Comment\0\0" + zlib.compress(bytes(50 * MIB))
    rows = (b"IDAT", zlib.compress((b"\0" + b"\x80" * 8) * 8))
    encoded = by_hand.png(8, 8, 8, 0, (b"zTXt", text), (b"iCCP", text), (b"iTXt", text), rows)
    with peak_growth_bytes(null.frontends()[0]) as growth:
        assert corners(channel, encoded) == (128, 128)
    assert growth.bytes < 20 * MIB


def test_a_picture_is_the_same_in_every_plain_form(channel: grpc.Channel) -> None:
    plain = corners(channel, by_hand.encode(quarters()))
    assert plain == (200, 80)
    for form in (quarters().convert("RGBA"), quarters().quantize(16)):
        stream = io.BytesIO()
        form.save(stream, "PNG")
        assert corners(channel, stream.getvalue()) == pytest.approx(plain, abs=3)
