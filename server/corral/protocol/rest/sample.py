"""A request of the REST form with made-up tensors, as bytes: for measurements."""

from __future__ import annotations

import json

import numpy as np

from corral.ipc.messages import ServedModel
from corral.tensors import Datatype


def sample_request(served: ServedModel, host: str) -> bytes:
    """One item's request over HTTP/1.1, tensors in binary both ways.

    Args:
        served: the model; its native inputs get small numbers that are finite whatever they are,
            and ones where they may be indexes.
        host: for the field of that name.
    """
    described, body = [], b""
    for spec in served.signature.input_specs(served.signature.native):
        tensor = _tensor((1, *spec.shape), spec.datatype)
        body += tensor
        described.append(
            {
                "name": spec.name,
                "shape": [1, *spec.shape],
                "datatype": spec.datatype.name,
                "parameters": {"binary_data_size": len(tensor)},
            }
        )
    head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
    fields = {
        "Host": host,
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
        "Content-Length": str(len(head) + len(body)),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST /v2/models/{served.name}/infer HTTP/1.1\r\n{lines}\r\n".encode() + head + body


def _tensor(shape: tuple[int, ...], datatype: Datatype) -> bytes:
    kind = datatype.numpy
    if datatype is Datatype.UINT8 or kind.kind == "f":
        values = np.resize(np.arange(61), shape).astype(kind)
        return (values / 61 if kind.kind == "f" else values).astype(kind).tobytes()
    return np.ones(shape, kind).tobytes()
