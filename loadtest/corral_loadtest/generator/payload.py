"""Requests made beforehand, as bytes: tensors or pictures of the shape that the metadata names."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from corral_loadtest.specification import InputKind, Payload, Target, WrongInput
from corral_protos import open_inference_pb2 as pb

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
        found = [Path(name).read_bytes() for name in payload.files]
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
        pictures = _pictures(payload, random)
        # A model may want [n] or [n,1]; its metadata says which.
        shape: tuple[int, ...] = (payload.batch, 1) if len(tensor.shape) == 2 else (payload.batch,)
        contents = []
        for first in range(len(pictures)):
            chosen = [pictures[(first + n) % len(pictures)] for n in range(payload.batch)]
            contents.append(b"".join(len(p).to_bytes(4, "little") + p for p in chosen))
    else:
        item = _item_shape(tensor, kind, payload)
        shape = (payload.batch, *item)
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
