"""grpcurl of 2022, which asks for reflection v1alpha; buf curl asks for both."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import cases
from cases import CATS, Servers

SERVICE = "inference.GRPCInferenceService"


def grpcurl(*arguments: str, data: Any = None) -> tuple[int, str, str]:
    """Its exit code, standard output and standard error."""
    command = [str(Path(sys.executable).with_name("grpcurl")), "-plaintext", "-max-time", "20"]
    if data is not None:
        command += ["-d", "@"]
    done = subprocess.run(
        [*command, *arguments],
        input=None if data is None else json.dumps(data),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def answered(*arguments: str, data: Any = None) -> Any:
    code, out, err = grpcurl(*arguments, data=data)
    assert code == 0, err
    return json.loads(out)


def content(answer: Any) -> bytes:
    """The output's bytes; descriptors by reflection do not name their fields in JSON."""
    (encoded,) = answer.get("rawOutputContents") or answer["raw_output_contents"]
    return base64.b64decode(encoded)


def works_listing_and_describing(servers: Servers) -> None:
    code, out, err = grpcurl(servers.grpc, "list")
    assert code == 0, err
    assert {SERVICE, "grpc.health.v1.Health"} <= set(out.split())
    code, out, err = grpcurl(servers.grpc, "describe", f"{SERVICE}.ModelInfer")
    assert code == 0, err
    assert "inference.ModelInferRequest" in out


def works_calls(servers: Servers) -> None:
    assert answered(servers.grpc, f"{SERVICE}/ServerLive", data={}) == {"live": True}
    found = answered(servers.grpc, "grpc.health.v1.Health/Check", data={})
    assert found == {"status": "SERVING"}
    asked = {
        "modelName": servers.model,
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3, 224, 224]}],
        "rawInputContents": [base64.b64encode(struct.pack("<f", 4.0) * 150528).decode()],
    }
    answer = answered(servers.grpc, f"{SERVICE}/ModelInfer", data=asked)
    assert struct.unpack_from("<f", content(answer))[0] == 4.0


def works_a_picture(servers: Servers) -> None:
    picture = base64.b64encode(servers.encoded()).decode()
    tensor = {"name": "input", "datatype": "BYTES", "shape": [1]}
    asked = {
        "modelName": servers.cats_model,
        "inputs": [{**tensor, "contents": {"bytesContents": [picture]}}],
        "parameters": {"classification": {"int64Param": 1}},
    }
    answer = answered(servers.cats_grpc, f"{SERVICE}/ModelInfer", data=asked)
    text = content(answer)[4:].decode()
    assert text.split(":")[2] in CATS


def works_errors(servers: Servers) -> None:
    code, _, err = grpcurl(servers.grpc, f"{SERVICE}/ModelReady", data={"name": "nobody"})
    assert code != 0
    assert "NotFound" in err
    assert "no model 'nobody'" in err


if __name__ == "__main__":
    cases.run(globals())
