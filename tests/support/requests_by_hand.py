"""Requests and pictures made by hand, right and wrong, and what a status may not say."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from corral.protocol.envelope import varint
from corral_protos import open_inference_pb2 as pb

SERVICE = "/inference.GRPCInferenceService/"
INFER = SERVICE + "ModelInfer"
FP32_BYTES = 3 * 224 * 224 * 4
UINT8_BYTES = 224 * 224 * 3

#: what must not be in a message for a client: names of exceptions, source files, absolute paths
_LEAKS = re.compile(
    r"Traceback|\w(Error|Exception)\b|\.py\b|\bpid\b|errno|0x[0-9a-f]{6}"
    r"|(?<![\w.])/(tmp|usr|home|root|proc|sys|dev|var|etc|opt|work)\b|site-packages",
    re.IGNORECASE,
)

#: what a picture's refusal says of it
_SIZE = re.compile(r"(\d+) x (\d+) = [\d,]+ pixels")


def leak(details: str, pids: Sequence[int], said: bytes = b"") -> str:
    """What a status's message gives away: an exception, a path, a pid; nothing when nothing.

    What the client itself ``said`` may be quoted.
    """
    for quoted in re.findall(r"'[^']*'", details):
        if quoted[1:-1].encode() in said:
            details = details.replace(quoted, "")
    for size in _SIZE.finditer(details):
        if all(_is_said(int(side), said) for side in size.groups()):
            details = details.replace(size[0], "")
    if found := _LEAKS.search(details):
        return found[0]
    # 33,554,448 pixels name no process 448.
    numbers = {found.replace(",", "") for found in re.findall(r"\d+(?:,\d{3})*", details)}
    return next((f"pid {pid}" for pid in pids if str(pid) in numbers), "")


def _is_said(side: int, said: bytes) -> bool:
    """Whether a picture's head has that side: two bytes of a JPEG's, four of a PNG's."""
    return any(side < 256**count and side.to_bytes(count, "big") in said for count in (2, 4))


def tensor(
    name: str = "input", datatype: str = "UINT8", shape: Sequence[int] = (1, 224, 224, 3)
) -> pb.ModelInferRequest.InferInputTensor:
    """An input's description."""
    return pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)


def wanted(*names: str) -> list[pb.ModelInferRequest.InferRequestedOutputTensor]:
    """Requested outputs."""
    return [pb.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in names]


def infer(
    *raw: bytes,
    inputs: Sequence[pb.ModelInferRequest.InferInputTensor] | None = None,
    model_name: str = "resnet50",
    **fields: Any,
) -> bytes:
    """A ModelInferRequest; one UINT8 item where nothing else is said."""
    return pb.ModelInferRequest(
        model_name=model_name,
        inputs=[tensor()] if inputs is None else inputs,
        raw_input_contents=raw or (bytes(UINT8_BYTES),),
        **fields,
    ).SerializeToString()


def fp32(values: np.ndarray[Any, np.dtype[np.float32]]) -> bytes:
    """A request with an FP32 tensor [n,3,224,224]."""
    return infer(values.tobytes(), inputs=[tensor(datatype="FP32", shape=values.shape)])


def pictures(*encoded: bytes, model_name: str = "resnet50") -> bytes:
    """A request with encoded pictures."""
    raw = b"".join(struct.pack("<I", len(data)) + data for data in encoded)
    described = tensor(datatype="BYTES", shape=(len(encoded),))
    return infer(raw, inputs=[described], model_name=model_name)


def with_parameter(message: bytes, **parameters: int | bool | str) -> bytes:
    """The request with request parameters, or, as Triton's shared memory, those of its input."""
    request = pb.ModelInferRequest.FromString(message)
    for name, value in parameters.items():
        place = request.inputs[0] if name.startswith("shared_memory") else request
        if isinstance(value, str):
            place.parameters[name].string_param = value
        else:
            place.parameters[name].int64_param = value
    if any(name.startswith("shared_memory") for name in parameters):
        del request.raw_input_contents[:]
    return request.SerializeToString()


def output_in_shared_memory() -> bytes:
    """A request whose answer is to be written to a region of the client's."""
    output = wanted("output")[0]
    output.parameters["shared_memory_region"].string_param = "mine"
    return infer(outputs=[output])


def with_contents(content: bytes, datatype: str = "UINT8") -> bytes:
    """A request whose typed contents are these bytes, whatever they mean."""
    shape = (1,) if datatype == "BYTES" else (1, 224, 224, 3)
    described = tensor(datatype=datatype, shape=shape).SerializeToString()
    described += b"\x2a" + varint(len(content)) + content
    head = pb.ModelInferRequest(model_name="resnet50").SerializeToString()
    return head + b"\x2a" + varint(len(described)) + described


# --- pictures ---


def encode(picture: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    """A picture as Pillow writes it."""
    stream = io.BytesIO()
    picture.save(stream, form, **options)
    return stream.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    """A PNG's chunk."""
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png(width: int, height: int, depth: int, colour: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG by hand, for what Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = [chunk(b"IHDR", header), *(chunk(*each) for each in chunks), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def png_bomb(width: int, height: int, depth: int = 8) -> bytes:
    """A sound PNG, all black, a thousandth as long as its pixels."""
    rows = (b"\0" + bytes((width * depth + 7) // 8)) * height
    return png(width, height, depth, 0, (b"IDAT", zlib.compress(rows, 9)))


def fits() -> bytes:
    """A FITS file: headers in cards of 80 characters, in blocks of 2,880 bytes."""
    cards = ("SIMPLE  =                    T", "BITPIX  =                    8")
    axes = ("NAXIS   =                    2", "NAXIS1  =                   10")
    rest = ("NAXIS2  =                   10", "END")
    header = "".join(card.ljust(80) for card in (*cards, *axes, *rest)).ljust(2880)
    return header.encode() + bytes(2880)
