"""Requests made beforehand, as bytes: tensors or pictures of the shape that the metadata names."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from corral_loadtest.command_line import read_file
from corral_loadtest.specification import InputKind, Payload, Target, WrongInput
from corral_protos import open_inference_pb2 as pb

#: of a protobuf message, less than it has about its contents
_MOST_MESSAGE_BYTES = 2**31 - 1 - 65_536
#: of a generated picture: noise in double precision, several times
_BYTES_A_PIXEL = 3 * 40
#: of all generated pictures: some 15 minutes' work
_MOST_PIXELS = 10**10
_DATATYPES = {InputKind.FP32: "FP32", InputKind.UINT8: "UINT8", InputKind.JPEG: "BYTES"}
_KINDS = {datatype: kind for kind, datatype in _DATATYPES.items()}


def _choose(inputs: Any, payload: Payload, model: str) -> tuple[Any, InputKind]:
    named = [i for i in inputs if payload.input_name in (None, i.name)]
    if not named:
        names = ", ".join(i.name for i in inputs) or "none"
        raise WrongInput(f"model {model} has no such input; it has: {names}")
    if len(inputs) > 1:
        raise WrongInput(f"model {model} has {len(inputs)} inputs; only models of one are measured")
    kind = payload.kind or _KINDS.get(named[0].datatype)
    if kind is None:
        raise WrongInput(f"model {model} takes {named[0].datatype}, which is not generated here")
    return named[0], kind


def _item_shape(tensor: Any, kind: InputKind, payload: Payload) -> tuple[int, ...]:
    """Of one item. A server may take another datatype than its metadata shows, laid out anew."""
    if payload.shape is not None:
        return payload.shape
    shape = tuple(int(n) for n in tensor.shape)[1:]
    if kind is not InputKind.JPEG and any(n < 1 for n in shape):
        raise WrongInput(f"the model's shape {list(tensor.shape)} is open: name one item's shape")
    if tensor.datatype == "FP32" and kind is InputKind.UINT8 and len(shape) == 3:
        return (*shape[1:], shape[0])
    if tensor.datatype == "UINT8" and kind is InputKind.FP32 and len(shape) == 3:
        return (shape[2], *shape[:2])
    return shape


def _check_size(payload: Payload, kind: InputKind, shape: tuple[int, ...]) -> None:
    """Raises WrongInput for what no message, or not this machine's memory, holds."""
    if kind is InputKind.JPEG:
        if payload.files:
            return
        pixels = payload.picture_width * payload.picture_height
        each, made = pixels * _BYTES_A_PIXEL, pixels * payload.distinct
        size = f"--picture-size {payload.picture_width}x{payload.picture_height}"
        if made > _MOST_PIXELS:
            raise WrongInput(
                f"{size} --distinct {payload.distinct}: more pixels than are generated in good time"
            )
        check_memory(each, size)
        return
    each = math.prod(shape) * (1 if kind is InputKind.UINT8 else 4)
    if each > _MOST_MESSAGE_BYTES:
        raise WrongInput(
            f"--batch {payload.batch}: a request of {each} bytes is more than a message holds"
        )
    # They are serialised beside what they are made of, and go to every generator.
    check_memory(
        3 * each * payload.distinct, f"--batch {payload.batch} --distinct {payload.distinct}"
    )


def check_memory(needed: int, what: str) -> None:
    """Raises WrongInput where so many bytes are not free.

    Args:
        needed: bytes.
        what: takes them, for people.
    """
    there = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for line in Path("/proc/meminfo").read_text("utf-8").splitlines():
        if line.startswith("MemAvailable:"):
            there = int(line.split()[1]) * 1024
    if needed > there:
        raise WrongInput(
            f"{what}: {needed / 1e9:.3g} GB of memory are needed, and {there / 1e9:.3g} GB are free"
        )


def picture(payload: Payload, random: np.random.Generator) -> bytes:
    """A JPEG of smooth shapes and fine grain: about as hard to decode as a photograph."""
    coarse = random.integers(0, 256, (12, 16, 3), dtype=np.uint8)
    size = (payload.picture_width, payload.picture_height)
    smooth = np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    grain = random.normal(0, 8, smooth.shape)
    pixels = np.clip(smooth + grain, 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=payload.quality)
    return file.getvalue()


def _pictures(payload: Payload, random: np.random.Generator) -> list[bytes]:
    try:
        found = [read_file(name) for name in payload.files]
    except OSError as error:
        raise WrongInput(f"{error.filename} cannot be read: {error.strerror}") from error
    return found or [picture(payload, random) for _ in range(payload.distinct)]


def _raw(kind: InputKind, count: int, random: np.random.Generator) -> bytes:
    if kind is InputKind.UINT8:
        return random.integers(0, 256, count, dtype=np.uint8).tobytes()
    return random.standard_normal(count, dtype=np.float32).tobytes()


def messages(page: Any, payload: Payload, target: Target) -> list[bytes]:
    """Serialised ModelInferRequests, to be sent in turn.

    Args:
        page: ModelMetadata of the model.
        payload: what they hold.
        target: names the model.

    Raises:
        WrongInput: the model does not take such an input, or a file cannot be read.
    """
    tensor, kind = _choose(page.inputs, payload, target.model)
    random = np.random.default_rng(payload.seed)
    if kind is InputKind.JPEG:
        _check_size(payload, kind, ())
        pictures = _pictures(payload, random)
        # A model may want [n] or [n,1]; its metadata says which.
        shape: tuple[int, ...] = (payload.batch, 1) if len(tensor.shape) == 2 else (payload.batch,)
        contents: list[bytes] = []
        largest = max(map(len, pictures)) * payload.batch * len(pictures)
        check_memory(3 * largest, f"--batch {payload.batch} of {len(pictures)} pictures")
        for first in range(len(pictures)):
            chosen = [pictures[(first + n) % len(pictures)] for n in range(payload.batch)]
            if sum(map(len, chosen)) > _MOST_MESSAGE_BYTES:
                raise WrongInput(f"--batch {payload.batch}: more bytes than a message holds")
            contents.append(b"".join(len(p).to_bytes(4, "little") + p for p in chosen))
    else:
        item = _item_shape(tensor, kind, payload)
        shape = (payload.batch, *item)
        _check_size(payload, kind, shape)
        contents = [_raw(kind, math.prod(shape), random) for _ in range(payload.distinct)]
    described = pb.ModelInferRequest.InferInputTensor(
        name=tensor.name, datatype=_DATATYPES[kind], shape=shape
    )
    parameters = {}
    if payload.priority is not None:
        parameters["priority"] = pb.InferParameter(int64_param=payload.priority)
    return [
        pb.ModelInferRequest(
            model_name=target.model,
            model_version=target.version,
            inputs=[described],
            raw_input_contents=[content],
            parameters=parameters,
        ).SerializeToString()
        for content in contents
    ]
