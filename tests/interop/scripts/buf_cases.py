"""buf curl, which learns a server by reflection, as grpcurl does, in both of its versions."""

from __future__ import annotations

import base64
import json
import struct
import subprocess
from pathlib import Path
from typing import Any

import cases
from cases import Servers

SERVICE = "inference.GRPCInferenceService"


def buf(servers: Servers, *arguments: str, data: Any = None) -> tuple[int, str, str]:
    """A call of ``buf curl``: its exit code, standard output and standard error."""
    program = Path(servers.home) / "node" / "node_modules" / ".bin" / "buf"
    command = [str(program), "curl", "--http2-prior-knowledge", *arguments]
    if data is not None:
        command[-1:-1] = ["--data", "@-"]
    done = subprocess.run(
        command,
        input=None if data is None else json.dumps(data),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def grpc(servers: Servers, method: str, data: Any, *, reflection: str = "grpc-v1") -> Any:
    code, out, err = buf(
        servers,
        "--protocol",
        "grpc",
        "--reflect-protocol",
        reflection,
        f"http://{servers.grpc}/{method}",
        data=data,
    )
    assert code == 0, err
    return [json.loads(text) for text in out.replace("}\n{", "}\0{").split("\0")]


def inference(servers: Servers, value: float, name: str = "seven") -> Any:
    return {
        "modelName": servers.model,
        "id": name,
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 3, 224, 224]}],
        "rawInputContents": [base64.b64encode(struct.pack("<f", value) * 150528).decode()],
    }


def first(answer: Any) -> float:
    content = base64.b64decode(answer["rawOutputContents"][0])
    return float(struct.unpack_from("<f", content)[0])


def works_both_reflections(servers: Servers) -> None:
    for version in ("grpc-v1", "grpc-v1alpha"):
        (found,) = grpc(servers, f"{SERVICE}/ServerLive", {}, reflection=version)
        assert found == {"live": True}


def works_listing_methods(servers: Servers) -> None:
    code, out, err = buf(servers, "--protocol", "grpc", "--list-methods", f"http://{servers.grpc}")
    assert code == 0, err
    assert f"{SERVICE}/ModelInfer" in out
    assert "grpc.health.v1.Health/Check" in out


def works_inference(servers: Servers) -> None:
    (found,) = grpc(servers, f"{SERVICE}/ModelInfer", inference(servers, 7.0))
    assert (found["id"], first(found)) == ("seven", 7.0)


def works_a_stream(servers: Servers) -> None:
    (found,) = grpc(servers, f"{SERVICE}/ModelStreamInfer", inference(servers, 8.0))
    assert first(found["inferResponse"]) == 8.0


def works_errors(servers: Servers) -> None:
    code, _, err = buf(
        servers,
        "--protocol",
        "grpc",
        f"http://{servers.grpc}/{SERVICE}/ModelReady",
        data={"name": "nobody"},
    )
    assert code != 0
    assert json.loads(err)["code"] == "not_found"
    assert "no model 'nobody'" in json.loads(err)["message"]


def differs_connect_and_grpc_web_are_not_spoken(servers: Servers) -> None:
    for protocol in ("connect", "grpcweb"):
        code, _, err = buf(
            servers,
            "--protocol",
            protocol,
            "--reflect-protocol",
            "grpc-v1",
            f"http://{servers.grpc}/{SERVICE}/ServerLive",
            data={},
        )
        assert code != 0, protocol
        assert err


if __name__ == "__main__":
    cases.run(globals())
